"""What a run was trained on and for how long, kept in its work directory: no other data is ever taken for its own.

A data set's settings name a folder, in which another download, a subset or another split file may lie the next time.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reid_jax.config import TrainConfig
from reid_jax.tracklets import Splits
from reid_jax.workdir import ORIGIN, WorkDirError, write_json


@dataclass(frozen=True)
class Origin:
    """Of the run in a work directory."""

    data: str
    """What was loaded, in words."""
    tracklets: str
    """Digest of the table of the tracklets to train on, held-out persons among them."""
    steps: tuple[int, ...]
    """The number of steps that was asked for, and before it those of which some had been taken."""


def digest(splits: Splits) -> str:
    """Tells the tracklets to train on, in this order, from others."""
    table = splits.train.table
    columns = [column.tolist() for column in (table.person, table.camera, table.length)]
    return hashlib.sha256(json.dumps([*columns, list(map(str, table.name))]).encode()).hexdigest()[:16]


def check(workdir: Path, splits: Splits) -> Origin | None:
    """What was written down, or None of a run of an earlier version.

    Raises:
        WorkDirError: the run was trained on others than this data's tracklets to train on; both are named.
    """
    found = read(workdir)
    if found is not None and found.tracklets != digest(splits):
        raise WorkDirError(
            f"{workdir} was trained on {found.data}; what is loaded now is {splits.description}, of other tracklets: "
            "name the folder of its own download with --manual-dir, or use another work directory"
        )
    return found


def note(workdir: Path, splits: Splits, train: TrainConfig, step: int) -> None:
    """Writes down what a run is trained on, and for how many steps, when it is begun or goes on from `step`.

    Raises:
        WorkDirError: see `check`.
    """
    before = check(workdir, splits)
    earlier = before.steps if before and step else ()
    steps = earlier if earlier[-1:] == (train.steps,) else (*earlier, train.steps)
    write_json(workdir / ORIGIN, asdict(Origin(splits.description, digest(splits), steps)))


def extended(workdir: Path, train: TrainConfig) -> list[int]:
    """For how many steps a run was meant before it was trained on; none where its learning rate followed no plan."""
    found = read(workdir)
    return list(found.steps[:-1]) if found is not None and train.decay != "none" else []


def read(workdir: Path) -> Origin | None:
    """What was written down, or None of a run of an earlier version.

    Raises:
        WorkDirError: the file cannot be read.
    """
    path = workdir / ORIGIN
    try:
        values = json.loads(path.read_text())
        return Origin(values["data"], values["tracklets"], tuple(values["steps"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise WorkDirError(f"{path} cannot be read ({error!r}); delete it if the data is the run's own") from error
