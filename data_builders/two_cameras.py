"""What iLIDS-VID and PRID 2011 share: a folder of frames a person and camera, and trials of train and test persons."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.records import Halves
from data_builders.sources import Source, check_image, open_source, walk
from data_builders.tables import digest, first_existing
from reid_jax.tracklets import TrackletTable

SPLIT = "sequences"
SEEDED_TRIALS = 10
LEFTOVERS = ("__MACOSX/", "/.", "Thumbs.db")


@dataclass(frozen=True)
class Sequences:
    """The sequences found in a download, sorted by person, then camera."""

    source: Source
    table: TrackletTable
    frames: list[list[str]]
    """Paths of each sequence's frames inside the source, in time order."""
    listing: list[str]
    """`camera/person/frame` of every frame, the same for a folder and an archive."""

    def read(self, split: str, row: int) -> dict[str, Any]:
        """The record's encoded frames, each checked to be whole."""
        frames = []
        for path in self.frames[row]:
            data = self.source.read(path)
            check_image(data, f"{self.source.path}: {path}")
            frames.append(data)
        return {"frames": frames}


def find_download(
    manual_dir: Path, folders: Sequence[str], archives: Sequence[str], inner: str, how_to_get: str
) -> Source:
    """The extracted folder that holds `inner`, or else the archive. Raises `FileNotFoundError` with what to get."""
    for name in folders:
        if (manual_dir / name / inner).is_dir():
            return open_source(manual_dir / name)
    if path := first_existing([manual_dir], archives):
        return open_source(path)
    looked = ", ".join([*(f"{name}/{inner}" for name in folders), *archives])
    raise FileNotFoundError(f"none of {looked} is in {manual_dir}.\n{how_to_get}")


def find_sequences(
    source: Source, frame: re.Pattern, folder: re.Pattern, person_of: Callable[[str, str], int], cameras: Sequence[str]
) -> Sequences:
    """Group the frames of a download by person and camera.

    `frame` finds the camera, the person and the frame number in a path, `folder` recognises a person's folder. Raises
    `ValueError` for a camera without sequences, a person's folder without frames, a frame number held twice, and an
    image inside a sequence folder that is not named as a frame.
    """
    files, folders = walk(source)
    found: dict[tuple[int, int], dict[int, str]] = {}
    labels: dict[tuple[int, int], str] = {}
    for path in files:
        if any(mark in f"/{path}" for mark in LEFTOVERS):
            continue
        match = frame.search(path)
        if match is None:
            if folder.search(path.rpartition("/")[0]):
                raise ValueError(f"{source.path}: {path} is not named as a frame of this data set; remove it")
            continue
        camera, person, number = match["camera"], match["person"], int(match["number"])
        key = (person_of(camera, person), cameras.index(camera) + 1)
        labels[key] = f"{camera}/{person}"
        if number in found.setdefault(key, {}):
            raise ValueError(f"{source.path}: {path} and {found[key][number]} are the same frame; remove one of them")
        found[key][number] = path
    filled = {path.rpartition("/")[0] for path in files}
    if empty := [name for name in folders if folder.search(name) and name not in filled]:
        raise ValueError(
            f"{source.path}: {empty[0]} has no frames ({len(empty)} such folders); extract the download again"
        )
    for number, camera in enumerate(cameras, 1):
        if not any(key[1] == number for key in found):
            raise ValueError(f"{source.path}: no sequences of camera {camera}; extract or download it again")
    keys = sorted(found)
    frames = [[found[key][number] for number in sorted(found[key])] for key in keys]
    listing = [f"{labels[key]}/{number}" for key in keys for number in sorted(found[key])]
    return Sequences(source, sequence_table(keys, labels, frames), frames, listing)


def sequence_table(
    keys: Sequence[tuple[int, int]], labels: Mapping[tuple[int, int], str], frames: Sequence[Sequence[str]]
) -> TrackletTable:
    """The table of sequences; two-camera sets name no queries."""
    return TrackletTable(
        person=np.array([person for person, _ in keys]),
        camera=np.array([camera for _, camera in keys]),
        length=np.array([len(paths) for paths in frames]),
        query=np.zeros(len(keys), bool),
        name=[labels[key] for key in keys],
    )


def find_split_file(manual_dir: Path, source: Source, name: str, folders: Sequence[str]) -> tuple[Path, bytes] | None:
    """The published split file beside, or inside, the download; None where there is none.

    `manual_dir` may be the extracted folder itself: then the file may lie beside it.
    """
    roots = [manual_dir] if source.path != manual_dir else [manual_dir, manual_dir.resolve().parent]
    if path := first_existing([root / folder for root in roots for folder in folders], [name]):
        return path, path.read_bytes()
    inside = next((path for path in sorted(source.names or ()) if path.rpartition("/")[2] == name), None)
    return None if inside is None else (source.path / inside, source.read(inside))


def download_key(sequences: Sequences, split_file: tuple[Path, bytes] | None) -> str:
    """A short name of exactly this download, from the names of its frames and its split file."""
    return digest(["\n".join(sequences.listing).encode(), split_file[1] if split_file else b""])


def in_both_cameras(table: TrackletTable) -> list[int]:
    """The persons with sequences of both cameras, sorted."""
    cameras = [set(table.person[table.camera == camera].tolist()) for camera in (1, 2)]
    return sorted(cameras[0] & cameras[1])


def seeded_halves(persons: Sequence[int]) -> list[Halves]:
    """Ten random halves of the persons, drawn with seeds 0 to 9; the test half is the larger of an odd number."""
    trials = []
    for seed in range(SEEDED_TRIALS):
        order = np.random.default_rng(seed).permutation(sorted(persons)).tolist()
        middle = len(order) // 2
        trials.append({"train": sorted(order[:middle]), "test": sorted(order[middle:])})
    return trials
