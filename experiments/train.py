"""Prepare a data set, train the Siamese attention network, evaluate it on unseen persons.

As in:

    python -m experiments.train --dataset walkers --workdir runs/walkers
    python -m experiments.train --dataset mars --manual-dir PATH --preset small --workdir runs/mars

On a machine with several devices all share each mini-batch; `--coordinator` joins several machines (docs/scaling.md).
"""

import sys
from functools import partial

import data_builders
from experiments import command_line
from reid_jax import devices, runs, workdir


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, kind=command_line.TrainArguments)
    command_line.join(arguments)
    place = arguments.workdir, arguments.config, arguments.resume, arguments.overwrite
    devices.first_alone(lambda: workdir.check_usable(*place))
    splits = devices.first_then_all(lambda: data_builders.load(arguments.config.data))
    begin = partial(devices.first_alone, lambda: workdir.open_workdir(*place))
    if not runs.fit_run(arguments.config, arguments.workdir, splits, begin):
        if devices.is_first():
            print(f"stopped and saved; go on with --resume --workdir {arguments.workdir}")
        sys.exit(command_line.STOPPED)
    runs.evaluate_run(arguments.config, arguments.workdir, splits)


if __name__ == "__main__":
    command_line.run(main)
