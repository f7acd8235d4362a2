"""Tiny runs in processes of their own: how many devices and processes there are is fixed when JAX starts.

    python shared_runs.py DEVICES HOST:PORT/PROCESSES/PROCESS FOLDER=STEPS...

trains in each folder up to so many steps, going on with what is there, and evaluates; a single process is `alone`.
With `together` for its place, three seeds are trained by one step, each in a folder within.
"""

import sys
from dataclasses import replace
from pathlib import Path

import jax
from tiny_runs import tiny_config, tiny_splits

from reid_jax import devices, runs, scoring, train, trials, workdir

# Everything that mixes the clips of a mini-batch: cross pairs, triplets, both kinds of batch statistics. The steps are
# short because RMSProp divides by the gradient's size: where it is near 0, rounding alone decides the sign of a step.
SETTINGS = dict(
    backbone="small_cnn",
    channels=(6,),
    input_kernels=(3,),
    state_kernels=(3,),
    frames=3,
    batch_pairs=8,
    positives="all",
    identity=0.5,
    classifier="linear",
    neck=True,
    triplet=0.5,
    dropout_top=0.2,
    warmup_steps=0,
    learning_rate=1e-5,
    log_every=1,
    validation_persons=2,
    embed_frames=4,
    whitening=0.5,
    baselines=False,
)


def shared_config(steps: int, count: int):
    """The settings of a run that shares `count` devices."""
    return tiny_config(**SETTINGS, steps=steps, devices=count, checkpoint_every=2, validate_every=2)


def train_and_evaluate(folder: Path, steps: int, count: int) -> None:
    """A run as the programs do it."""
    config, splits, resume = shared_config(steps, count), tiny_splits(), folder.exists()
    devices.first_alone(lambda: workdir.open_workdir(folder, config, resume=resume, overwrite=False))
    assert runs.fit_run(config, folder, splits)
    scoring.evaluate_run(config, folder, splits)


def train_together(folder: Path, steps: int, count: int) -> None:
    """Three seeds as a sweep does it."""
    configs = [replace(shared_config(steps, count), seed=seed) for seed in range(3)]
    found = [(config, folder / str(config.seed), tiny_splits()) for config in configs]
    for config, place, _ in found:
        workdir.open_workdir(place, config, resume=False, overwrite=False)
    assert trials.fit_runs(found) == [True] * 3
    for run in found:
        scoring.evaluate_run(*run)


def main(count: str, place: str, *jobs: str) -> None:
    """The program."""
    jax.config.update("jax_disable_most_optimizations", True)
    if "/" in place:
        coordinator, processes, process = place.split("/")
        jax.distributed.initialize(coordinator, int(processes), int(process))
    asked, step = [job.split("=") for job in jobs], trials.trials_step if place == "together" else train.train_step
    for folder, steps in asked:
        (train_together if place == "together" else train_and_evaluate)(Path(folder), int(steps), int(count))
    assert step._cache_size() == len({steps for _, steps in asked}), "one compilation for all steps"
    sizes = [devices.size(devices.mesh(0, pairs)) for pairs in (8, 10, 6)]
    print(f"{jax.device_count()} devices, {jax.process_count()} processes, meshes of {sizes}")


if __name__ == "__main__":
    main(*sys.argv[1:])
