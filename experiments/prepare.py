"""Prepare a data set: read the official download (walkers: draw it), check it, and print its counts.

As in:

    python -m experiments.prepare --dataset mars --manual-dir PATH
"""

import data_builders
from experiments import command_line


def main() -> None:
    """The program."""
    data_builders.prepare(command_line.parse(__doc__).config.data)


if __name__ == "__main__":
    command_line.run(main)
