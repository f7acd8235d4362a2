"""Train every combination of settings, one run after the other, and compare them.

As in:

    python -m experiments.sweep --dataset walkers --kernels 1 3 5 7 9 --layers 2 3 --seeds 0 1 2
    python -m experiments.sweep --dataset mars --vary penalty=0,0.1,1,10 channels=64+64,128+128 --steps 500
    python -m experiments.sweep --dataset prid2011 --vary channels=64+128,128+128 --splits 0 1 2 3 4 5 6 7 8 9
    python -m experiments.sweep --dataset prid2011 --splits 0 1 2 3 4 5 6 7 8 9 --together 10

The same command goes on where it was stopped: finished runs are skipped, one that was interrupted is resumed. Below
the flags of a sweep are those of a single run; they set what all runs share.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import data_builders
from experiments import command_line, many_runs
from reid_jax import figures, results, sweeps, trials
from reid_jax.config import Config, DataConfig
from reid_jax.sweeps import KERNELS, LAYERS, SEED, SPLIT, Axis, Summary

QUANTITIES = {"rank1": "rank-1 (%)", "map": "mAP (%)"}
TWO_CAMERAS = ("ilids_vid", "prid2011")


def flags() -> argparse.ArgumentParser:
    """The flags of a sweep beside those of a run."""
    parser = argparse.ArgumentParser(
        "sweep", description=__doc__, add_help=False, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--kernels", type=int, nargs="+", help="sides of all layers' input and state kernels")
    parser.add_argument(
        "--layers", type=int, nargs="+",
        help="numbers of recurrent layers: channels and kernels are cut, or their last entry is repeated",
    )  # fmt: skip
    parser.add_argument(
        "--vary", nargs="+", default=[], action="extend", metavar="NAME=V1,V2",
        help="values of any setting by its name; a tuple is written 64+128",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds, over which means are taken")
    parser.add_argument("--splits", type=int, nargs="+", help="splits of iLIDS-VID and PRID 2011, likewise")
    parser.add_argument("--workdir", type=Path, help="folder of the sweep (default: runs/sweep-DATASET)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="run every N-th run alone, from the I-th on")
    parser.add_argument(
        "--together", type=int, default=1, metavar="N",
        help="train up to N runs by one compiled step, spread over the devices: runs that differ in seed, split, "
        f"augmentation, {', '.join(trials.NUMBERS)}",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the runs and how far they are; run nothing")
    return parser


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Config]:
    """The flags of the sweep, and the configuration that its runs share.

    Raises:
        ValueError: a flag does not go with a sweep.
    """
    return many_runs.parse(flags(), arguments, _varied)


def _varied(chosen: argparse.Namespace) -> list[str]:
    """The settings that the flags of the sweep vary, each by its own name."""
    given = [name for name, values in ((SEED, chosen.seeds), (SPLIT, chosen.splits)) if values]
    return given + [text.partition("=")[0] for text in chosen.vary]


def axes(chosen: argparse.Namespace, base: Config) -> list[Axis]:
    """What varies, seeds last; seed and, with two cameras, split always do, so that more of them can follow later."""
    found = [Axis(KERNELS, tuple(chosen.kernels))] if chosen.kernels else []
    found += [Axis(LAYERS, tuple(chosen.layers))] if chosen.layers else []
    found += [sweeps.parse_axis(text) for text in chosen.vary]
    given = {axis.name for axis in found}
    if chosen.splits or (base.data.dataset in TWO_CAMERAS and SPLIT not in given):
        found.append(Axis(SPLIT, tuple(chosen.splits or (base.data.split,))))
    if chosen.seeds or SEED not in given:
        found.append(Axis(SEED, tuple(chosen.seeds or (base.seed,))))
    return found


def source(data: DataConfig) -> DataConfig:
    """The part of the settings that says which tracklets to load."""
    names = ("dataset", "data_dir", "manual_dir", "split", "split_order", "prid_persons")
    return DataConfig(**{name: getattr(data, name) for name in names})


def show_table(points: Sequence[Axis], summaries: Sequence[Summary], title: str) -> None:
    """Mean and deviation of rank-1 and mAP over seeds and splits, a line for each point."""
    table = Table(title=title)
    for axis in points:
        table.add_column(axis.name)
    for heading in (*QUANTITIES.values(), "runs"):
        table.add_column(heading, justify="right")
    for summary in summaries:
        finished = len(summary.records)
        runs = str(finished) if finished == summary.planned else f"{finished} of {summary.planned}"
        table.add_row(*summary.point, *(results.in_words(summary.records, name) for name in QUANTITIES), runs)
    Console(width=120).print(table)


def draw(points: Sequence[Axis], summaries: Sequence[Summary], root: Path, title: str) -> Path | None:
    """A heat map where exactly two things vary, a line plot where one does; the place of the picture, if any."""
    varied = [axis for axis in points if len(axis.values) > 1]
    if len(varied) not in (1, 2) or not any(summary.records for summary in summaries):
        return None
    shape = [len(axis.values) for axis in varied]
    named = [(axis.name, [sweeps.in_words(value) for value in axis.values]) for axis in varied]
    pairs = {name: [_mean_and_spread(summary, name) for summary in summaries] for name in QUANTITIES}
    means, spreads = (
        {QUANTITIES[name]: np.array([pair[part] for pair in found]).reshape(shape) for name, found in pairs.items()}
        for part in (0, 1)
    )
    path = root / f"sweep-{'-'.join(axis.name for axis in varied)}"
    if len(varied) == 2:
        figures.save_heat_maps(path, *named, means, spreads, title)
    else:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in varied[0].values)
        figures.save_lines(path, named[0], means, spreads, numbers, title)
    return path


def _mean_and_spread(summary: Summary, name: str) -> tuple[float, float]:
    if not summary.records:
        return np.nan, np.nan
    means = results.mean_and_std(summary.records)
    return means[name], means[f"{name}_std"] if len(summary.records) > 1 else np.nan


def main() -> None:
    """The program."""
    chosen, base = parse(sys.argv[1:])
    varied = axes(chosen, base)
    runs = sweeps.generate(base, varied)
    root = chosen.workdir or Path("runs") / f"sweep-{base.data.dataset}"
    own, states = sweeps.shard(runs, chosen.shard), {run.name: sweeps.state(run, root) for run in runs}
    if chosen.list:
        for run in own:
            print(f"{states[run.name]:<9}{root / run.name}")
        return
    load = cache(data_builders.load)
    outcome = sweeps.run_sweep(own, root, lambda data: load(source(data)), chosen.together)
    points = [axis for axis in varied if axis.name not in (SPLIT, SEED)]
    summaries = sweeps.summarise(runs, root)
    title = f"{base.data.dataset}, {base.evaluate.protocol}, {base.evaluate.distance}"
    show_table(points, summaries, f"{title}: mean ± deviation over seeds and splits")
    if path := draw(points, summaries, root, title):
        print(f"{path}.png and .pdf")
    many_runs.end(outcome, len(own))


if __name__ == "__main__":
    command_line.run(main)
