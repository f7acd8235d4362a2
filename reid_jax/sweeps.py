"""Sweeps: from a base configuration and what varies to a list of runs, and the runs one after the other or together.

An axis is a setting of `config` by its name, or one of two words for several settings at once:

`layers`    the number of recurrent layers: channels and kernels are cut after so many, or their last entry is repeated
`kernels`   the side of every layer's input and state kernels
"""

import itertools
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from reid_jax import devices, origin, results, runs, scoring, trials
from reid_jax import workdir as workdirs
from reid_jax.config import Config, DataConfig
from reid_jax.settings import change, in_words, parse_value
from reid_jax.tracklets import Splits
from reid_jax.train import Diverged

KERNELS, LAYERS, SPLIT, SEED = "kernels", "layers", "split", "seed"
OF_LAYERS = ("channels", "input_kernels", "state_kernels")
ELSEWHERE = {"preset": "it only names the defaults", "dataset": "it chooses other defaults and another protocol"}
"""Settings that cannot vary within a sweep, and why."""


class SweepError(ValueError):
    """A sweep that cannot be made of these values, or whose runs failed."""


@dataclass(frozen=True)
class Axis:
    """One thing that varies, and its values in order."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    name: str
    """Of its work directory below the sweep's: what varies, as `kernels=3,layers=2,seed=0`."""
    point: tuple[str, ...]
    """Its value on every axis but split and seed, in words."""
    config: Config


def parse_axis(text: str) -> Axis:
    """The axis of `NAME=V1,V2,...`, for any setting but those that choose the others' defaults.

    Raises:
        ValueError: there is no such setting, or a value is not one of its type; both are named.
    """
    name, _, values = text.partition("=")
    if not values:
        raise SweepError(f"{text!r}: give NAME=VALUE,VALUE,...")
    if name in ELSEWHERE:
        raise SweepError(f"{name} cannot vary in a sweep: {ELSEWHERE[name]}; run one sweep for each")
    return Axis(name, tuple(parse_value(name, value) for value in values.split(",")))


def configure(base: Config, values: Mapping[str, Any]) -> Config:
    """The configuration of one value on each axis: single settings first, then `layers`, then `kernels`.

    Raises:
        ValueError: the values contradict each other or the base.
    """
    settings = {name: value for name, value in values.items() if name not in (KERNELS, LAYERS)}
    stacked = {name: settings.get(name, getattr(base.recurrent, name)) for name in OF_LAYERS}
    layers = values.get(LAYERS, len(stacked["channels"]))
    if layers < 1:
        raise SweepError(f"{LAYERS} is {layers}: at least one")
    if LAYERS in values:
        stacked = {name: (entries + entries[-1:] * layers)[:layers] for name, entries in stacked.items()}
    if KERNELS in values:
        stacked |= {name: (values[KERNELS],) * layers for name in ("input_kernels", "state_kernels")}
    return change(base, settings | stacked)


def generate(base: Config, axes: Sequence[Axis]) -> list[SweepRun]:
    """The runs of every combination of the axes' values, the last axis fastest.

    Raises:
        SweepError: an axis or a value comes twice, or a combination contradicts itself, which is named.
    """
    names = [axis.name for axis in axes]
    if KERNELS in names:
        names += ["input_kernels", "state_kernels"]
    for name in names:
        if names.count(name) > 1:
            raise SweepError(f"{name} varies twice: give its values once")
    found = []
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = {axis.name: value for axis, value in zip(axes, values, strict=True)}
        name = ",".join(f"{axis}={quote(in_words(value), safe='+')}" for axis, value in chosen.items())
        try:
            config = configure(base, chosen)
        except ValueError as error:
            raise SweepError(f"{name}: {error}") from error
        point = tuple(in_words(value) for axis, value in chosen.items() if axis not in (SPLIT, SEED))
        found.append(SweepRun(name, point, config))
    if len({run.name for run in found}) < len(found):
        raise SweepError("a value is given twice on one axis: give each once")
    return found


def shard(found: Sequence[SweepRun], text: str) -> list[SweepRun]:
    """Every n-th run, beginning with the i-th, of `i/n`; the n shards are disjoint and make up the whole.

    Raises:
        SweepError: it is not `i/n` with 1 <= i <= n.
    """
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise SweepError(f"shard {text!r}: give i/n, where i counts from 1 to n")
    return list(found[int(first) - 1 :: int(count)])


def state(run: SweepRun, root: Path) -> Literal["new", "begun", "finished"]:
    """How far a run has come.

    Raises:
        reid_jax.workdir.WorkDirError: its work directory holds something else, or a run of other settings.
    """
    workdir = root / run.name
    if not (workdir / workdirs.CONFIG).exists():
        workdirs.check_usable(workdir, run.config, resume=True, overwrite=False)
        return "new"
    old, new = (results.comparable(config) for config in (workdirs.read_config(workdir), run.config))
    differences = [f"{name}: {old[name]!r} there, {new[name]!r} now" for name in new if old[name] != new[name]]
    if differences:
        raise workdirs.WorkDirError(
            f"{workdir} holds a run of other settings ({'; '.join(differences)}): give the sweep another --workdir, or "
            "delete that folder"
        )
    return "finished" if results.read(workdir, run.config) else "begun"


@dataclass(frozen=True)
class Outcome:
    """What came of the runs that were not finished before."""

    failed: Mapping[str, Exception]
    """The error of each run that failed, by the run's name."""
    stopped: str | None
    """The runs during which the sweep was asked to stop; they are saved."""


def run_sweep(
    found: Sequence[SweepRun], root: Path, load: Callable[[DataConfig], Splits], together: int = 1
) -> Outcome:
    """Trains and evaluates every run that is not finished, each in its own work directory, resuming where one began.

    All data is loaded first, by `load`, so that a data set that is not there is an error and not one a run. Up to
    `together` runs are trained by one compiled step, where they allow it (see `trials`).

    Raises:
        reid_jax.workdir.WorkDirError: see `state`, or a finished run was trained on other data; none has begun then.
    """
    open_runs = [run for run in found if state(run, root) != "finished"]
    for run in found:
        if run not in open_runs and _is_elsewhere(run, root):
            origin.check(root / run.name, load(run.config.data))
    tracklets = {run.name: load(run.config.data) for run in open_runs}
    failed, number = {}, 0
    print(f"{len(found) - len(open_runs)} of {len(found)} runs are finished already")
    for group in batches(open_runs, together):
        for run in group:
            number += 1
            print(f"run {number} of {len(open_runs)}: {root / run.name}")
        reached = _train(group, root, tracklets)
        if stopped := [run.name for run, result in zip(group, reached, strict=True) if result is False]:
            return Outcome(failed, ", ".join(stopped))
        for run, result in zip(group, reached, strict=True):
            # Whatever it is, from a loss that is not finite to too little memory: the other runs may well pass.
            try:
                if isinstance(result, Exception):
                    raise result
                scoring.evaluate_run(run.config, root / run.name, tracklets[run.name])
            except Exception as error:
                failed[run.name] = error
                if not isinstance(error, ValueError | OSError | Diverged):
                    traceback.print_exception(error)
                print(f"{run.name} failed: {error or type(error).__name__}")
        devices.free_programs()
    return Outcome(failed, None)


def _is_elsewhere(run: SweepRun, root: Path) -> bool:
    """Whether the data of a finished run is named by another folder now, where other data may lie."""
    before = workdirs.read_config(root / run.name).data
    return (before.data_dir, before.manual_dir) != (run.config.data.data_dir, run.config.data.manual_dir)


def batches(found: Sequence[SweepRun], together: int) -> list[list[SweepRun]]:
    """The runs in groups of at most so many that one step can train, in the order of each group's first run."""
    if together < 2:
        return [[run] for run in found]
    alike: dict[Config, list[SweepRun]] = {}
    for run in found:
        alike.setdefault(trials.common(run.config), []).append(run)
    return [group[first : first + together] for group in alike.values() for first in range(0, len(group), together)]


def _train(group: Sequence[SweepRun], root: Path, tracklets: Mapping[str, Splits]) -> list[bool | Exception]:
    """Whether each run reached its last step, or why it failed."""
    try:
        for run in group:
            workdirs.open_workdir(root / run.name, run.config, resume=True, overwrite=False)
        found = [(run.config, root / run.name, tracklets[run.name]) for run in group]
        return [runs.fit_run(*found[0])] if len(found) == 1 else trials.fit_runs(found)
    except Exception as error:
        return [error] * len(group)


@dataclass(frozen=True)
class Summary:
    """The finished runs of one point of a sweep: all its seeds and splits."""

    point: tuple[str, ...]
    planned: int
    records: list[dict[str, float]]
    """`results.figures` of those that are finished."""


def summarise(found: Sequence[SweepRun], root: Path) -> list[Summary]:
    """What is finished of a sweep, whichever shard ran it, a summary for each point in the order of the runs."""
    points: dict[tuple[str, ...], list[SweepRun]] = {}
    for run in found:
        points.setdefault(run.point, []).append(run)
    summaries = []
    for point, of_point in points.items():
        read = [results.read(root / run.name, run.config) for run in of_point]
        summaries.append(Summary(point, len(of_point), [results.figures(values) for values in read if values]))
    return summaries
