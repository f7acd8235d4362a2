"""Score the best checkpoint of a run under a named protocol.

As in:

    python -m experiments.evaluate --workdir runs/mars --protocol query_removed
"""

import data_builders
from experiments import command_line
from reid_jax import runs, workdir


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, existing=True)
    workdir.check_resumable(arguments.workdir, arguments.config)
    runs.evaluate_run(arguments.config, arguments.workdir, data_builders.load(arguments.config.data))


if __name__ == "__main__":
    command_line.run(main)
