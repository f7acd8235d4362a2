"""Score the checkpoint of a run under a named protocol.

As in:

    python -m experiments.evaluate --workdir runs/mars --protocol query_removed
"""

import data_builders
from experiments import command_line
from reid_jax import devices, scoring, workdir


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, existing=True, kind=command_line.SharedArguments)
    command_line.join(arguments)
    workdir.check_scorable(arguments.workdir, arguments.config)
    splits = devices.first_then_all(lambda: data_builders.load(arguments.config.data))
    scoring.evaluate_run(arguments.config, arguments.workdir, splits)


if __name__ == "__main__":
    command_line.run(main)
