"""Several runs trained together by one compiled step, each in a work directory of its own.

Runs that differ in seed, split, augmentation and in some numbers alone have arrays of the same shapes. Their states and
mini-batches are stacked and the step is mapped over them; the devices there are share the runs, each taking some whole.

Axes: `R` runs, those that fill up the devices among them.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, UInt32
from tqdm import tqdm

from reid_jax import devices, runs, train
from reid_jax import network as networks
from reid_jax.config import Config, DataConfig, EvaluateConfig
from reid_jax.network import Batch, Network
from reid_jax.objective import Metrics
from reid_jax.runs import OpenRun
from reid_jax.settings import change
from reid_jax.tracklets import Splits
from reid_jax.train import TrainState
from reid_jax.workdir import flatten

SWITCHES = ("identity", "triplet", "dropout_between", "dropout_top", "average")
"""Numbers that leave something out of the step where they are 0."""
NUMBERS = ("learning_rate", "weight_decay", "l2", "clip", "backbone_rate", "penalty", "hardness", "smoothing", "margin")
NUMBERS += ("identity_margin", *SWITCHES)
"""Settings that may differ within one compiled step."""

Trial = tuple[Config, Path, Splits]
"""A run's settings, its opened work directory and its data."""


def common(config: Config) -> Config:
    """The settings with all alike that runs of one compiled step may differ in: equal ones can be trained together."""
    data = DataConfig(frames=config.data.frames, height=config.data.height, width=config.data.width)
    same = replace(config, preset="default", seed=0, data=data, evaluate=EvaluateConfig())
    own, usual = flatten(config), flatten(Config())
    alike = {name: usual[name] for name in NUMBERS if name not in SWITCHES}
    return change(same, alike | {name: 0.5 if own[name] else 0.0 for name in SWITCHES})


def fit_runs(trials: Sequence[Trial]) -> list[bool | Exception]:
    """Trains runs from their latest checkpoints: for each whether it reached its last step, or why it failed.

    Every run leaves what it would have left alone. Runs that were interrupted at other steps than the rest go on in
    groups of their own.

    Raises:
        ValueError: the runs differ in more than seed, split, augmentation and `NUMBERS`.
    """
    if len({common(config) for config, _, _ in trials}) > 1:
        raise ValueError("these runs cannot be trained together: they differ in settings that shape the compiled step")
    results: dict[int, bool | Exception] = {}
    with ExitStack() as stack:
        opened = [stack.enter_context(runs.opened(*trial, None)) for trial in trials]
        groups: dict[Any, list[int]] = {}
        for number, run in enumerate(opened):
            groups.setdefault((int(run.state.step), run.network.persons), []).append(number)
        for numbers in groups.values():
            found = _fit([opened[number] for number in numbers])
            results |= dict(zip(numbers, found, strict=True))
            if False in found:
                break
    return [results.get(number, False) for number in range(len(trials))]


@partial(jax.jit, static_argnames=("network", "mesh"), donate_argnames="states")
def trials_step(
    network: Network,
    numbers: dict[str, Float[Array, "R"]],
    states: TrainState,
    batches: Batch,
    keys: UInt32[Array, "R *_"],
    mesh: Mesh | None,
) -> tuple[TrainState, Metrics]:
    """One step of every run: `train.one_step` mapped over their states, batches, keys' data and `NUMBERS`."""

    def one(own: dict[str, Array], state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        config = _filled(network.config, own)
        return train.one_step(replace(network, config=config), state, batch, jax.random.wrap_key_data(key))

    every = jax.vmap(one)
    if mesh is not None:
        of_device = PartitionSpec(devices.AXIS)
        every = jax.shard_map(every, mesh=mesh, in_specs=of_device, out_specs=of_device, check_vma=False)
    return every(numbers, states, batches, keys)


def _filled(group: Any, numbers: dict[str, Array]) -> Any:
    """Settings with arrays in place of numbers, which the rules for settings cannot be asked about."""
    found = copy.copy(group)
    for entry in fields(group):
        value = getattr(group, entry.name)
        value = _filled(value, numbers) if is_dataclass(value) else numbers.get(entry.name, value)
        object.__setattr__(found, entry.name, value)
    return found


def _layout(wanted: int, count: int) -> tuple[Mesh | None, int]:
    """The devices for so many runs, `wanted` at most unless that is 0, and how many places they have together."""
    most = min(wanted or jax.local_device_count(), count)
    each = -(-count // most)
    used = -(-count // each)
    return devices.mesh(used), used * each


def _stacked(trees: Sequence[Any], places: int, mesh: Mesh | None) -> Any:
    """Pytrees as one with a leading axis of `places`, split over the mesh; the last one fills it up."""
    trees = [*trees, *[trees[-1]] * (places - len(trees))]
    if isinstance(jax.tree.leaves(trees[0])[0], np.ndarray):
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    else:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return stacked if mesh is None else jax.device_put(stacked, devices.rows(mesh))


def _fit(group: Sequence[OpenRun]) -> list[bool | Exception]:
    """Trains runs that are at the same step, as `train.fit` does one."""
    settings, start = group[0].network.config.train, int(group[0].state.step)
    mesh, places = _layout(settings.devices, len(group))
    network = replace(networks.program(group[0].network), config=common(group[0].network.config))
    numbers, keys = _numbers_and_keys([run.network.config for run in group])
    numbers, keys = _stacked(numbers, places, mesh), _stacked(keys, places, mesh)
    states, failed = _stacked([run.state for run in group], places, mesh), {}
    metrics, since = [], time.perf_counter()
    bar = tqdm(total=settings.steps, initial=start, desc=f"training {len(group)} runs", unit="step", smoothing=0)
    with train.stop_requests() as stop, bar:
        for step in range(start + 1, settings.steps + 1):
            read = [next(run.batches) for run in group]
            batches = [{name: batch[name] for name in train.inputs(batch)} for batch in read]
            states, step_metrics = trials_step(network, numbers, states, _stacked(batches, places, mesh), keys, mesh)
            metrics.append(step_metrics)
            bar.update()
            last = step == settings.steps or stop()
            saves = last or step % settings.checkpoint_every == 0
            if saves or step % settings.log_every == 0:
                done = jax.device_get(metrics)
                _record(group, states, step, done, time.perf_counter() - since, saves, failed)
                metrics, since = [], time.perf_counter()
            if last:
                return [failed.get(place, step == settings.steps) for place in range(len(group))]
    return [True] * len(group)


def _record(
    group: Sequence[OpenRun],
    states: TrainState,
    step: int,
    metrics: Sequence[Mapping[str, Any]],
    seconds: float,
    saves: bool,
    failed: dict[int, Exception],
) -> None:
    """Logs the metrics of every run that has not failed, and saves it where that is due; notes those that fail now."""
    broken = jax.device_get(states.broken_at)
    for place, run in enumerate(group):
        if place in failed:
            continue
        try:
            train.check_finite(int(broken[place]), run.checkpoints)
            own = [{name: values[place] for name, values in found.items()} for found in metrics]
            run.log(step, train.means(own, seconds))
            if saves:
                state = jax.tree.map(lambda leaf, place=place: jax.device_put(leaf[place], jax.devices()[0]), states)
                train.save(run.network.config.train, state, step, run.checkpoints, run.log, run.validate)
        except train.Diverged as error:
            failed[place] = error


def _numbers_and_keys(configs: Sequence[Config]) -> tuple[list[dict[str, np.ndarray]], list[np.ndarray]]:
    """What the compiled step is given of each run's settings: its numbers, without switches that are off, and key."""
    settings = [flatten(config) for config in configs]
    traced = [name for name in NUMBERS if name not in SWITCHES or settings[0][name]]
    numbers = [{name: np.array(own[name], np.float32) for name in traced} for own in settings]
    return numbers, [np.asarray(jax.random.key_data(train.training_key(config.seed))) for config in configs]
