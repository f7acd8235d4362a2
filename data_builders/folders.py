"""A data set of your own: two folders of tracklets, each a folder of images that names its person and camera."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.records import Contents, TrackletBuilder
from data_builders.sources import check_image
from data_builders.tables import digest
from reid_jax.folders import images_of, seen
from reid_jax.tracklets import DISTRACTOR, TrackletTable, with_first_queries

NAME = re.compile(r"(?P<person>\d{1,9})_c?(?P<camera>\d{1,4})(?:_.*)?")
HOW_TO_GET = """A data set of your own is a folder with `train/` and `test/`, and in each a folder of JPEG or PNG images
for each tracklet, in time order by their names. A tracklet's folder is named PERSON_CAMERA, or PERSON_CAMERA_ANYTHING
where a person has several in a camera: numbers, as `0007_2_morning`. Cameras count from 1, and person 0 is nobody in
particular, who is in the gallery alone. Give the folder as manual_dir (--manual-dir)."""


class Folders(TrackletBuilder):
    """A user's own tracklets, ranked as MARS is: each test person's first tracklet in each camera is a query."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

    @classmethod
    def key(cls, manual_dir: Path | None) -> str:
        """From the names, sizes and times of all images."""
        parts = []
        for places in find(manual_dir).values():
            for path in (path for _, paths in places for path in paths):
                state = path.stat()
                parts.append(f"{path.relative_to(manual_dir)} {state.st_size} {state.st_mtime_ns}".encode())
        return digest(parts)

    @classmethod
    def contents(cls, manual_dir: Path | None) -> Contents:
        """Both halves, which share no person."""
        found = find(manual_dir)
        tables = {split: table_of_folders(places) for split, places in found.items()}
        persons = [set(table.person[table.person > DISTRACTOR].tolist()) for table in tables.values()]
        if both := sorted(persons[0] & persons[1]):
            raise ValueError(
                f"{manual_dir}: person {both[0]} is in train/ and in test/ ({len(both)} such persons): networks are "
                "tested on persons that they have not seen; put all tracklets of a person on one side"
            )
        tables["test"] = with_first_queries(tables["test"])

        def read(split: str, row: int) -> dict[str, Any]:
            frames = []
            for path in found[split][row][1]:
                frames.append(path.read_bytes())
                check_image(frames[-1], str(path))
            return {"frames": frames}

        sizes = " and ".join(f"{len(table)} {split}" for split, table in tables.items())
        return Contents(tables, read, f"{manual_dir.resolve().name}: {sizes} tracklets", True, {})


def find(manual_dir: Path | None) -> dict[str, list[tuple[Path, list[Path]]]]:
    """By split, the folder of every tracklet and its images, sorted.

    Raises `FileNotFoundError` where there is no `train` or `test` folder, `ValueError` where one of theirs is empty.
    """
    if manual_dir is None:
        raise FileNotFoundError(HOW_TO_GET)
    found: dict[str, list[tuple[Path, list[Path]]]] = {}
    for split in ("train", "test"):
        if not (manual_dir / split).is_dir():
            raise FileNotFoundError(f"{manual_dir / split} is no folder.\n{HOW_TO_GET}")
        found[split] = [(place, images_of(place)) for place in seen(manual_dir / split) if place.is_dir()]
        if not found[split]:
            raise ValueError(f"{manual_dir / split} holds no folders.\n{HOW_TO_GET}")
    return found


def table_of_folders(places: Sequence[tuple[Path, list[Path]]]) -> TrackletTable:
    """The table of one half, without queries. Raises `ValueError` for a folder that is not named as it has to be."""
    names = [NAME.fullmatch(place.name) for place, _ in places]
    if not all(names):
        raise ValueError(
            f"{places[names.index(None)][0]} is not named PERSON_CAMERA or PERSON_CAMERA_ANYTHING, in numbers, as "
            "0007_2_morning; rename it"
        )
    camera = np.array([int(name["camera"]) for name in names])
    if camera.min() < 1:
        raise ValueError(f"{places[int(camera.argmin())][0]}: camera 0; cameras count from 1, rename it")
    return TrackletTable(
        person=np.array([int(name["person"]) for name in names]),
        camera=camera,
        length=np.array([len(paths) for _, paths in places]),
        query=np.zeros(len(places), bool),
        name=[place.name for place, _ in places],
    )
