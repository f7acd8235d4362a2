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
from reid_jax import devices, runs, scoring, workdir


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, kind=command_line.TrainArguments)
    command_line.join(arguments)
    settings = arguments.config.train
    if settings.warmup_steps >= settings.steps and devices.is_first():
        print(f"the learning rate rises for {settings.warmup_steps} steps and is not reached within {settings.steps}")
    place = arguments.workdir, arguments.config, arguments.resume, arguments.overwrite
    devices.first_alone(lambda: workdir.check_usable(*place))
    if arguments.resume and not (arguments.workdir / workdir.CONFIG).exists():
        raise workdir.WorkDirError(f"{arguments.workdir} holds no run to go on with; leave out --resume to begin one")
    splits = devices.first_then_all(lambda: data_builders.load(arguments.config.data))
    begin = partial(devices.first_alone, lambda: workdir.open_workdir(*place))
    if not runs.fit_run(arguments.config, arguments.workdir, splits, begin):
        if devices.is_first():
            print(f"stopped and saved; go on with --resume --workdir {arguments.workdir}")
        sys.exit(command_line.STOPPED)
    scoring.evaluate_run(arguments.config, arguments.workdir, splits)


if __name__ == "__main__":
    command_line.run(main)
