"""PRID 2011, multi-shot: `prid_2011/multi_shot`, or its zip, and the ten published splits of 178 persons."""

import json
import re
from pathlib import Path
from typing import ClassVar

from data_builders.counts import check_published
from data_builders.records import Contents, Halves, TrackletBuilder
from data_builders.two_cameras import (
    SPLIT,
    Sequences,
    download_key,
    find_download,
    find_sequences,
    find_split_file,
    in_both_cameras,
    seeded_halves,
)

FRAME = re.compile(r"(?:^|/)multi_shot/(?P<camera>cam_[ab])/(?P<person>person_\d+)/(?P<number>\d+)\.png$")
FOLDER = re.compile(r"(?:^|/)multi_shot/cam_[ab]/person_\d+$")
CAMERAS = ("cam_a", "cam_b")
# Only the first 200 numbers mean the same person in both cameras.
SHARED_PERSONS = 200
CAMERA_B_OFFSET = 1000
# Of the 200, the persons that the published splits leave out.
LEFT_OUT = (6, 19, 31, 52, 57, 62, 71, 94, 106, 120, 136, 138, 139, 142, 145, 158, 159, 166, 183, 190, 199, 200)
PUBLISHED = {SPLIT: {"persons": 934, "tracklets": 1134, "cameras": 2, "persons in one camera": 734}}
PUBLISHED_SEQUENCES = {1: 385, 2: 749}
FOLDERS = ("prid_2011", "prid2011", ".")
ARCHIVES = ("prid_2011.zip", "prid2011.zip")
SPLIT_FILE = "splits_prid2011.json"
SPLIT_FOLDERS = (".", "prid_2011", "prid2011", "splits")
HOW_TO_GET = """PRID 2011 comes from its authors (Hirzer, Beleznai, Roth and Bischof, SCIA 2011: the page "Person Re-ID
(PRID) Dataset 2011" of the Institute of Computer Graphics and Vision, Graz University of Technology). Put
`prid_2011.zip`, or the folder `prid_2011` it is extracted to, into one folder with the published splits
(`splits_prid2011.json`), and give it as manual_dir (--manual-dir)."""


class Prid2011(TrackletBuilder):
    """PRID 2011, multi-shot: 385 and 749 persons of two cameras, the first 200 of them in both.

    From number 201 on, a number means two different persons: those of camera b are numbered 1000 higher here.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET
    HOMEPAGE: ClassVar[str] = "https://www.tugraz.at/index.php?id=17766"

    @classmethod
    def key(cls, manual_dir: Path | None) -> str:
        """From the names of the frames and the split file."""
        return download_key(*find(manual_dir))

    @classmethod
    def contents(cls, manual_dir: Path | None) -> Contents:
        """Every sequence, and the trials of 178 and of 200 persons."""
        sequences, split_file = find(manual_dir)
        tables = {SPLIT: sequences.table}
        full = any((sequences.table.camera == camera).sum() == n for camera, n in PUBLISHED_SEQUENCES.items())
        if full:
            check_published("PRID 2011", tables, PUBLISHED)
        shared = in_both_cameras(sequences.table)
        trials = {
            "178": published_trials(*split_file, shared)
            if split_file
            else seeded_halves([person for person in shared if person not in LEFT_OUT]),
            "200": seeded_halves(shared),
        }
        origin = {"178": "published" if split_file else "seeded", "200": "seeded"}
        description = f"PRID 2011, {'the full data set' if full else 'a subset'}: {len(sequences.table)} sequences"
        return Contents(tables, sequences.read, description, full, PUBLISHED, trials, origin)


def find(manual_dir: Path) -> tuple[Sequences, tuple[Path, bytes] | None]:
    """The sequences, and the split file where there is one."""
    source = find_download(manual_dir, FOLDERS, ARCHIVES, "multi_shot", HOW_TO_GET)
    split_file = find_split_file(manual_dir, source, SPLIT_FILE, SPLIT_FOLDERS)
    return find_sequences(source, FRAME, FOLDER, person_number, CAMERAS), split_file


def person_number(camera: str, folder: str) -> int:
    """The identity of a person's folder (`person_0001`) in a camera."""
    number = int(folder[7:])
    return number + CAMERA_B_OFFSET if camera == "cam_b" and number > SHARED_PERSONS else number


def published_trials(path: Path, data: bytes, shared: list[int]) -> list[Halves]:
    """The trials of the split file: a list of `{"train": ["person_0001", ...], "test": [...]}`.

    Raises `ValueError` when the file is of another form, or names a person that is not in both cameras.
    """
    try:
        trials = [
            {half: sorted(int(name.removeprefix("person_")) for name in entry[half]) for half in ("train", "test")}
            for entry in json.loads(data)
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no list of train and test persons ({error!r}); get the published split file again"
        ) from error
    for number, halves in enumerate(trials):
        persons = halves["train"] + halves["test"]
        if len(set(persons)) != len(persons):
            raise ValueError(f"{path}: split {number} names a person twice; get the published split file again")
        if absent := sorted(set(persons) - set(shared)):
            raise ValueError(
                f"{path}: split {number} names person_{absent[0]:04d}, who is not in both cameras of this download "
                f"({len(absent)} such persons); complete the download, or take the split file away for seeded halves"
            )
    if not trials:
        raise ValueError(f"{path} has no splits; get the published split file again")
    return trials
