"""Prepare a data set, train the Siamese attention network, evaluate it on unseen persons.

As in:

    python -m experiments.train --dataset walkers --workdir runs/walkers
    python -m experiments.train --dataset mars --manual-dir PATH --preset small --workdir runs/mars
"""

import data_builders
from experiments import command_line
from reid_jax import runs, workdir


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__)
    place = arguments.workdir, arguments.config, arguments.resume, arguments.overwrite
    workdir.check_usable(*place)
    splits = data_builders.load(arguments.config.data)
    workdir.open_workdir(*place)
    finished = runs.fit_run(arguments.config, arguments.workdir, splits)
    if finished:
        runs.evaluate_run(arguments.config, arguments.workdir, splits)
    else:
        print(f"stopped and saved; go on with --resume --workdir {arguments.workdir}")


if __name__ == "__main__":
    command_line.run(main)
