"""The command lines of the programs: every setting of `reid_jax.config` as a flag, defaults from a preset or a run."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import jax
import tyro

from reid_jax import tuning
from reid_jax import workdir as workdirs
from reid_jax.config import Config, DatasetName, PresetName
from reid_jax.presets import preset
from reid_jax.train import Diverged

STOPPED = 75
"""Exit status of a training that was asked to stop and is saved (EX_TEMPFAIL of sysexits.h): it is not finished."""


@dataclass(frozen=True)
class Arguments:
    """What a program is asked to do."""

    config: Config
    workdir: Path
    """Folder of the run: settings, checkpoints, metrics, results, pictures."""


@dataclass(frozen=True)
class SharedArguments(Arguments):
    """The same, of a program that several processes run together, each started with the same flags but its number."""

    coordinator: str | None = None
    """HOST:PORT of process 0 where several processes share one run; `auto` asks Slurm, Open MPI or the TPU for all."""
    processes: int | None = None
    """How many processes there are (not with `auto`)."""
    process: int | None = None
    """Which one this is, counted from 0 (not with `auto`)."""


@dataclass(frozen=True)
class TrainArguments(SharedArguments):
    """The same, of the program that trains."""

    resume: bool = False
    """Go on with the run in the work directory, from its latest checkpoint, with its own settings."""
    overwrite: bool = False
    """Delete the run in the work directory and begin anew."""


Kind = TypeVar("Kind", bound=Arguments)


def parse(
    description: str,
    arguments: list[str] | None = None,
    existing: bool = False,
    kind: type[Kind] = Arguments,
    workdir: Path | None = None,
) -> Kind:
    """The command line: `--preset` and `--dataset` choose the defaults, every other flag changes one setting.

    With `--resume`, or for a program that needs an `existing` run, the defaults are that run's own settings. `workdir`
    is the folder where none is given (default: the data set's below runs/).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=get_args(PresetName), default="default")
    first.add_argument("--dataset", choices=get_args(DatasetName), default="walkers")
    first.add_argument("--workdir", type=Path)
    first.add_argument("--resume", action="store_true")
    chosen, _ = first.parse_known_args(arguments)
    workdir = chosen.workdir or workdir or Path("runs") / chosen.dataset
    asks_help = "--help" in arguments or "-h" in arguments
    continues = existing or (chosen.resume and (workdir / workdirs.CONFIG).exists())
    config = workdirs.read_config(workdir) if continues and not asks_help else preset(chosen.preset, chosen.dataset)
    flat = Annotated[kind, tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes]
    return tyro.cli(flat, args=arguments, default=kind(config, workdir), description=description)


def refuse(arguments: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Raises ValueError where a flag is among the arguments that would do nothing, with the reason why."""
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag in reasons:
            raise ValueError(f"{flag}: {reasons[flag]}")


def check_place(output: Path, kind: Literal["file", "folder"]) -> None:
    """Raises ValueError where a file or folder cannot be written, before all is computed."""
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent} is no folder, in which {output.name} would lie; make it first")
    if output.exists() and output.is_dir() != (kind == "folder"):
        raise ValueError(f"{output} is there and is no {kind}; name another --output")
    if not os.access(output if output.is_dir() else output.parent, os.W_OK):
        raise ValueError(f"{output} cannot be written: see to its folder's permissions or name another --output")


def join(arguments: SharedArguments) -> None:
    """Joins the processes that share the run, where the flags name a coordinator; before JAX computes anything.

    Raises:
        ValueError: the flags name only a part of what is needed.
    """
    place, count, own = arguments.coordinator, arguments.processes, arguments.process
    if place is None and (count, own) != (None, None):
        raise ValueError("--processes and --process need --coordinator HOST:PORT, or --coordinator auto alone")
    if place == "auto":
        jax.distributed.initialize()
    elif place is not None:
        if count is None or own is None or not 0 <= own < count:
            raise ValueError(
                f"--coordinator {place} needs --processes N and --process I, counted from 0; they are {count} and {own}"
            )
        jax.distributed.initialize(place, count, own)


def run(program) -> None:
    """Runs a program with a compilation cache; an error that a user can mend is printed without a traceback."""
    tuning.keep_compiled()
    try:
        program()
    except (ValueError, OSError, Diverged) as error:
        if jax.distributed.is_initialized():
            # An orderly end would wait for the other processes, which wait for this one.
            print(f"error: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        sys.exit(f"error: {error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
            raise
        sys.exit(
            f"error: the device has too little memory ({str(error).splitlines()[0]}): lower batch_pairs, frames, "
            "height and width, or set remat=backbone; where it was embedding, lower embed_batch"
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
