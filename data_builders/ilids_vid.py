"""iLIDS-VID: `i-LIDS-VID/sequences`, or its archive, and the authors' ten splits."""

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_builders.counts import check_published
from data_builders.records import Contents, Halves, TrackletBuilder
from data_builders.tables import read_matrix
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

FRAME = re.compile(
    r"(?:^|/)sequences/(?P<camera>cam[12])/(?P<person>person\d+)/(?P=camera)_(?P=person)_(?P<number>\d+)\.png$"
)
FOLDER = re.compile(r"(?:^|/)sequences/cam[12]/person\d+$")
CAMERAS = ("cam1", "cam2")
PUBLISHED = {SPLIT: {"persons": 300, "tracklets": 600, "cameras": 2, "persons in one camera": 0}}
FOLDERS = ("i-LIDS-VID", "iLIDS-VID", ".")
ARCHIVES = ("iLIDS-VID.tar", "i-LIDS-VID.tar", "iLIDS-VID.zip", "i-LIDS-VID.zip")
SPLIT_FILE = "train_test_splits_ilidsvid.mat"
SPLIT_FOLDERS = (
    ".",
    "train-test people splits",
    "i-LIDS-VID/train-test people splits",
    "iLIDS-VID/train-test people splits",
    "i-LIDS-VID",
    "splits",
)
HOW_TO_GET = """iLIDS-VID comes from its authors (Wang, Gong, Zhu and Wang, ECCV 2014: the page "iLIDS Video
re-IDentification (iLIDS-VID) Dataset" of Taiqing Wang / Queen Mary University of London). Put its archive
`iLIDS-VID.tar`, or the folder `i-LIDS-VID` it holds, and `train-test people splits/train_test_splits_ilidsvid.mat` into
one folder, and give it as manual_dir (--manual-dir)."""


class IlidsVid(TrackletBuilder):
    """iLIDS-VID: 300 persons, one sequence in each of two cameras of an airport hall."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET
    HOMEPAGE: ClassVar[str] = "http://www.eecs.qmul.ac.uk/~xiatian/downloads_qmul_iLIDS-VID_ReID_dataset.html"

    @classmethod
    def key(cls, manual_dir: Path | None) -> str:
        """From the names of the frames and the split file."""
        return download_key(*find(manual_dir))

    @classmethod
    def contents(cls, manual_dir: Path | None) -> Contents:
        """Every sequence, and the trials in both readings of the split file."""
        sequences, split_file = find(manual_dir)
        tables = {SPLIT: sequences.table}
        full = PUBLISHED[SPLIT]["tracklets"] == len(sequences.table) or len(set(sequences.table.person)) == 300
        if full:
            check_published("iLIDS-VID", tables, PUBLISHED)
        if split_file:
            first_persons = sorted({int(person) for person in sequences.table.person[sequences.table.camera == 1]})
            trials = published_trials(*split_file, first_persons)
        else:
            halves = seeded_halves(in_both_cameras(sequences.table))
            trials = {"test_first": halves, "train_first": swapped(halves)}
        origin = dict.fromkeys(trials, "published" if split_file else "seeded")
        description = f"iLIDS-VID, {'the full data set' if full else 'a subset'}: {len(sequences.table)} sequences"
        return Contents(tables, sequences.read, description, full, PUBLISHED, trials, origin)


def find(manual_dir: Path) -> tuple[Sequences, tuple[Path, bytes] | None]:
    """The sequences, and the split file where there is one."""
    source = find_download(manual_dir, FOLDERS, ARCHIVES, "sequences", HOW_TO_GET)
    split_file = find_split_file(manual_dir, source, SPLIT_FILE, SPLIT_FOLDERS)
    return find_sequences(source, FRAME, FOLDER, lambda _, person: int(person[6:]), CAMERAS), split_file


def published_trials(path: Path, data: bytes, persons: list[int]) -> dict[str, list[Halves]]:
    """The trials of `ls_set` (trials, persons): 1-based into the sorted folders of camera 1, in two halves a row.

    Raises `ValueError` when a row is not an order of exactly these persons.
    """
    order = read_matrix(data, path, "ls_set")
    if order.shape[1] != len(persons) or (np.sort(order, axis=1) != np.arange(1, len(persons) + 1)).any():
        raise ValueError(
            f"{path}: ls_set has shape {order.shape} and must order the {len(persons)} persons of cam1 in each row; "
            "complete the download, or take the split file away to get seeded random halves"
        )
    middle = len(persons) // 2
    halves = [[sorted(persons[i - 1] for i in half) for half in (row[:middle], row[middle:])] for row in order.tolist()]
    trials: list[Halves] = [{"test": first, "train": last} for first, last in halves]
    return {"test_first": trials, "train_first": swapped(trials)}


def swapped(trials: list[Halves]) -> list[Halves]:
    """The same trials with train and test exchanged."""
    return [{"train": halves["test"], "test": halves["train"]} for halves in trials]
