"""What the programs have in common that train several runs for one table or figure of the paper."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import data_builders
from experiments import command_line
from reid_jax import sweeps
from reid_jax.config import Config
from reid_jax.products import Provenance
from reid_jax.results import differences
from reid_jax.sweeps import Outcome, SweepError, SweepRun

load = cache(data_builders.load)


def parser(name: str, description: str, seeds: Sequence[int]) -> argparse.ArgumentParser:
    """The flags that all these programs have beside those of a run."""
    made = argparse.ArgumentParser(
        name, description=description, add_help=False, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--seeds", type=int, nargs="+", default=seeds, help="seeds, over which means are taken")
    made.add_argument("--workdir", type=Path, help=f"folder of the runs (default: runs/{name}-DATASET)")
    made.add_argument("--together", type=int, default=1, metavar="N", help="see experiments.sweep")
    return made


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str], varied: Callable[[argparse.Namespace], Sequence[str]]
) -> tuple[argparse.Namespace, Config]:
    """A program's own flags, and the settings that its runs share from all others, which are those of a single run.

    `varied` names the settings in which the runs differ, as the program's own flags have it.

    Raises:
        ValueError: a flag does not go with several runs, or sets what varies over them.
    """
    chosen, shared = parser.parse_known_args(arguments)
    if chosen.together < 1:
        raise ValueError(f"--together is {chosen.together}: at least one")
    if {"--help", "-h"} & set(shared):
        print(parser.format_help())
    single = (
        "of a single run; finished runs are skipped here and others resumed, and to begin one anew, delete its folder"
    )
    reasons = {"--resume": single, "--overwrite": single}
    reasons |= {f"--{name.replace('_', '-')}": "varies over these runs" for name in varied(chosen)}
    command_line.refuse(shared, reasons)
    return chosen, command_line.parse("The flags that all runs share:", shared).config


def train(found: Sequence[SweepRun], root: Path, together: int = 1) -> None:
    """Trains and evaluates the runs that are not finished, each in its own folder below `root`.

    Raises:
        SweepError: some failed.
        SystemExit: it was asked to stop.
    """
    end(sweeps.run_sweep(found, root, load, together), len(found))


def end(outcome: Outcome, count: int) -> None:
    """What is left to say of `count` runs: nothing where all are finished.

    Raises:
        SweepError: some failed.
        SystemExit: they were asked to stop; the whole program is to end, with `command_line.STOPPED`.
    """
    if outcome.stopped:
        print(f"stopped in {outcome.stopped}, which is saved; the same command goes on")
        sys.exit(command_line.STOPPED)
    if outcome.failed:
        failures = "; ".join(f"{name}: {error or type(error).__name__}" for name, error in outcome.failed.items())
        raise SweepError(f"{len(outcome.failed)} of {count} runs failed: {failures}")


def provenance(base: Config, root: Path, description: str, scored: str) -> Provenance:
    """Of a product of several runs that share `base`."""
    return Provenance(base.data.dataset, description, f"runs below `{root.name}`, {differences(base)}", scored)
