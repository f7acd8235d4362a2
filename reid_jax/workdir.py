"""What a run leaves on disk beside its checkpoints: settings, metrics, results, each file whole or not there.

config.json      every setting          metrics.jsonl   a line a log step        results.json   the final figures
tensorboard/     the same curves        checkpoints/    see `checkpoints`        *.png          pictures
whitening.npz    see `whitening`       origin.json      see `origin`
"""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import typing
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from reid_jax.config import Config

CONFIG = "config.json"
METRICS = "metrics.jsonl"
RESULTS = "results.json"
WHITENING = "whitening.npz"
ORIGIN = "origin.json"
CHECKPOINTS = "checkpoints"

OWN = (
    METRICS, RESULTS, WHITENING, "results", "paper", "cmc.png", "attention.png", "tensorboard", CHECKPOINTS, ORIGIN,
    CONFIG,
)  # fmt: skip
"""What a run leaves in its work directory, in the order of deletion: what shows that it is one comes last."""

PLACES = {"data_dir", "manual_dir", "workers", "devices", "remat"}
"""Settings that change the order of sums at most."""
CHANGEABLE = PLACES | {"steps", "log_every", "checkpoint_every", "validate_every"}
"""Settings that a resumed run may change beside those of `evaluate`: none alters a step that was already taken."""


ELSEWHERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)
"""Errors of a place that will never be written to, however much room there is."""


class WorkDirError(ValueError):
    """A work directory that cannot be used as asked."""


def flatten(config: Config) -> dict[str, Any]:
    """Every setting by its name, which is unique across the groups."""
    settings = {}
    for name, value in dataclasses.asdict(config).items():
        settings.update(value if isinstance(value, dict) else {name: value})
    return settings


def to_json(config: Config) -> dict[str, Any]:
    """The settings in their groups, as JSON values."""
    return dataclasses.asdict(config)


def from_json(values: Mapping[str, Any], kind: type = Config, source: str = CONFIG) -> Any:
    """The configuration of `to_json`'s values; one that is missing keeps its default.

    Raises:
        WorkDirError: `source` holds a setting that is not known.
    """
    types = typing.get_type_hints(kind)
    found = {}
    for name, value in values.items():
        if name not in types:
            raise WorkDirError(
                f"{source}: {name!r} is not a setting of {kind.__name__}; was it written by another version?"
            )
        if dataclasses.is_dataclass(types[name]):
            value = from_json(value, types[name], source)
        found[name] = tuple(value) if isinstance(value, list) else value
    return kind(**found)


def read_config(workdir: Path) -> Config:
    """The settings of an existing run.

    Raises:
        WorkDirError: there is no run in `workdir`, or its config.json cannot be read.
    """
    path = workdir / CONFIG
    try:
        return from_json(json.loads(path.read_text()), source=str(path))
    except FileNotFoundError as error:
        raise WorkDirError(f"{workdir} holds no run ({CONFIG} is missing); train one there first") from error
    except WorkDirError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise WorkDirError(f"{path} cannot be read ({error}); train with --overwrite to begin anew") from error


def code_version() -> str:
    """The commit of the working copy, `-dirty` behind it where code differs; outside one the package's version.

    Pages and pictures may differ: `make tables` writes them.
    """
    root = Path(__file__).parents[1]
    # Only our own: an installed package may lie in the environment of somebody else's working copy.
    if (root / ".git").exists():
        try:
            changed = _git(root, "status", "--porcelain", "--", "*.py", "pyproject.toml")
            return _git(root, "describe", "--always") + ("-dirty" if changed else "")
        except (OSError, subprocess.CalledProcessError):
            pass
    try:
        return metadata.version("reid_jax")
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def check_usable(workdir: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Raises WorkDirError where `open_workdir` would refuse: a run is there without a flag, or it differs."""
    if resume and overwrite:
        raise WorkDirError("--resume and --overwrite exclude each other")
    if "[" in str(workdir.absolute()):
        # Orbax reads them as a pattern where it joins a checkpoint's files, finds none, and calls it saved.
        raise WorkDirError(f"{workdir.absolute()}: checkpoints cannot be kept where a folder's name has a [; rename it")
    if workdir.exists() and not workdir.is_dir():
        raise WorkDirError(f"{workdir} is a file; name a folder for the run")
    # A run killed while it wrote its first file leaves that file's temporary one alone behind.
    if not workdir.exists() or all(path.name.startswith(f".{CONFIG}.") for path in workdir.iterdir()):
        return
    if not _holds_run(workdir):
        raise WorkDirError(f"{workdir} exists and is no run of this program; name another work directory")
    if resume:
        check_resumable(workdir, config)
    elif not overwrite:
        raise WorkDirError(f"{workdir} already holds a run: give --resume to go on with it or --overwrite to lose it")


def _holds_run(workdir: Path) -> bool:
    """Whether there is a config.json that could be ours, be it damaged: other programs give that name to theirs."""
    try:
        values = json.loads((workdir / CONFIG).read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return isinstance(values, dict) and "preset" in values


def is_part(folder: Path) -> bool:
    """Whether it is one that a run makes in its own, and no run that has that name, as `paper`."""
    return folder.name in OWN and not (folder / CONFIG).exists()


def folders_below(folder: Path) -> Iterator[Path]:
    """A folder and all below it but those that a run makes in its own, which hold thousands of files and no run.

    Each is there once, however many links lead to it.
    """
    seen = set()

    def walk(place: Path) -> Iterator[Path]:
        if (real := place.resolve()) not in seen:
            seen.add(real)
            yield place
            inside = [path for path in place.iterdir() if path.is_dir() and not is_part(path)]
            for path in sorted(inside, key=lambda path: (path.is_symlink(), path)):
                yield from walk(path)

    return walk(folder)


def open_workdir(workdir: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Makes `workdir` ready for a run of `config`: new, emptied with `overwrite`, or as it is with `resume`.

    Raises:
        WorkDirError: see `check_usable`.
    """
    check_usable(workdir, config, resume, overwrite)
    for path in (workdir / name for name in OWN if overwrite):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / CONFIG, to_json(config))


def check_resumable(workdir: Path, config: Config) -> None:
    """Raises WorkDirError where a setting that shaped the steps already taken differs, naming it and both values, or
    where more steps have been taken than are asked for."""
    _check_same(workdir, config, CHANGEABLE)
    taken = max((int(path.name) for path in (workdir / CHECKPOINTS).glob("*") if path.name.isdecimal()), default=0)
    if taken > config.train.steps:
        raise WorkDirError(
            f"{workdir} has been trained for {taken} steps, steps is {config.train.steps}: give as many or more, or "
            "begin anew in another work directory"
        )


def check_scorable(workdir: Path, config: Config) -> None:
    """The same for a program that trains nothing: a setting of the training that differs would do nothing there."""
    _check_same(workdir, config, PLACES)


def _check_same(workdir: Path, config: Config, free: set[str]) -> None:
    before = read_config(workdir)
    free = free | set(dataclasses.asdict(config.evaluate))
    old, new = flatten(before), flatten(config)
    changed = [
        f"{name}: {old[name]!r} before, {new[name]!r} now"
        for name in new
        if name not in free and old[name] != new[name]
    ]
    if changed:
        raise WorkDirError(
            f"{workdir} was trained with other settings ({'; '.join(changed)}): resume or score it with its own, or "
            "use another work directory or --overwrite"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either whole or absent, and leaves an older one as it was if that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        remedy = "name another place or see to its permissions" if error.errno in ELSEWHERE else "make room on the disk"
        raise OSError(f"{path} could not be written ({error}); {remedy} and run the command again") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """A JSON file, written atomically."""
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
