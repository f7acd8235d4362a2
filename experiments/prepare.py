"""Prepare a data set: read the official download (walkers: draw it), check it, and print its counts.

As in:

    python -m experiments.prepare --dataset mars --manual-dir PATH
    python -m experiments.prepare --dataset mars --manual-dir PATH --again
"""

from dataclasses import dataclass

import data_builders
from experiments import command_line


@dataclass(frozen=True)
class PrepareArguments(command_line.Arguments):
    """What the program is asked to do."""

    again: bool = False
    """Delete what is prepared of this download first: a file of it was replaced."""


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, kind=PrepareArguments)
    data_builders.prepare(arguments.config.data, arguments.again)


if __name__ == "__main__":
    command_line.run(main)
