"""Folders of images that are tracklets: a user's own, in the order of their names."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from reid_jax.tracklets import DISTRACTOR, Tracklets, TrackletTable

IMAGES = {".jpg", ".jpeg", ".png"}
LEFTOVERS = ("__MACOSX",)


@dataclass(frozen=True)
class Images(Sequence[bytes]):
    """Encoded images that are read from their files as they are asked for, so that a large gallery needs no memory."""

    paths: Sequence[Path]

    def __getitem__(self, number: int) -> bytes:
        return self.paths[number].read_bytes()

    def __len__(self) -> int:
        return len(self.paths)


def read_folders(folder: Path) -> Tracklets:
    """Every subfolder's images as one tracklet, sorted; persons and cameras are unknown. Hidden names are left out.

    Every image is looked at once, and read again where the tracklet is used.

    Raises:
        ValueError: there is no subfolder, or one without images, or one with a file that is no image.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one that holds a folder of images for each tracklet")
    places = [path for path in seen(folder) if path.is_dir()]
    if not places:
        raise ValueError(f"{folder} holds no folders; each tracklet's images go into a folder of their own")
    records, count = [], len(places)
    for place in tqdm(places, desc=f"looking through {folder.name}", unit="tracklet", leave=False):
        paths = images_of(place)
        for path in paths:
            _check_image(path)
        records.append({"frames": Images(paths)})
    length = np.array([len(record["frames"]) for record in records])
    unknown, names = np.full(count, DISTRACTOR), [place.name for place in places]
    table = TrackletTable(unknown, np.ones(count, np.int64), length, np.zeros(count, bool), names)
    return Tracklets(table, records, np.arange(count))


def images_of(place: Path) -> list[Path]:
    """The images in a tracklet's folder in time order, 2.jpg before 10.jpg; `ValueError` where there is none."""
    images = [path for path in seen(place) if path.suffix.lower() in IMAGES]
    if not images:
        raise ValueError(f"{place} holds no .jpg or .png image; remove the folder or fill it")
    return sorted(images, key=_time)


def _time(path: Path) -> list[str | int]:
    """What a file's name says about when: text and numbers by turns, which compare as such."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]+)", path.name))]


def joined(first: Tracklets, second: Tracklets) -> Tracklets:
    """The tracklets of two folders, the first one's before the second one's."""
    tables, records = (first.table, second.table), [*first.records, *second.records]
    columns = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("person", "camera", "length", "query")
    }
    table = TrackletTable(**columns, name=[*first.table.name, *second.table.name])
    return Tracklets(table, records, np.arange(len(records)))


def _check_image(path: Path) -> None:
    """Raises ValueError for a file that cannot be decoded."""
    data = path.read_bytes()
    if not data or cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is None:
        raise ValueError(f"{path} is no whole JPEG or PNG image ({len(data)} bytes); replace it or take it away")


def seen(folder: Path) -> Iterator[Path]:
    """What lies in a folder, sorted, without what systems leave there."""
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.name not in LEFTOVERS)
