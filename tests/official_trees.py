"""Small made-up data sets in the layouts of the official downloads, for the tests of the builders."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

# (person, camera, tracklet number, frames) a tracklet; -1 is junk, 0 a distractor.
MARS_TRAIN = [(1, 1, 1, 3), (1, 2, 1, 1), (3, 1, 1, 4), (3, 6, 2, 2), (5, 4, 1, 2)]
MARS_TEST = [(-1, 1, 1, 2), (0, 2, 1, 3), (2, 1, 1, 2), (2, 1, 2, 2), (2, 3, 1, 5), (4, 2, 1, 2), (4, 5, 1, 2)]
MARS_QUERIES = [3, 5, 6, 7]
ILIDS_PERSONS = [1, 2, 10, 319]
ILIDS_SPLITS = np.array([[1, 2, 3, 4], [4, 2, 1, 3]])
PRID_A = [1, 2, 3, 4, 201]
PRID_B = [1, 2, 3, 4, 201, 202]
PRID_SPLITS = [
    {"train": ["person_0001", "person_0003"], "test": ["person_0002", "person_0004"]},
    {"train": ["person_0002", "person_0003"], "test": ["person_0001", "person_0004"]},
]


def image(seed: int, kind: str) -> bytes:
    """An encoded 8x16 image of noise, `JPEG` or `PNG`."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 8, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def write_files(root: Path, files: Mapping[str, bytes]) -> None:
    """Files in folders, in the reverse of their order so that no listing is sorted by chance."""
    for name in reversed(list(files)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """A zip of the files, last first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in reversed(list(files)):
            archive.writestr(name, files[name])


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    """A tar of the files, last first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in reversed(list(files)):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))


def mars_frames(split: str, tracklets: Sequence[tuple[int, int, int, int]]) -> dict[str, bytes]:
    """The frames of one split by their path under the download's folder."""
    frames = {}
    for person, camera, number, length in tracklets:
        label = "00-1" if person == -1 else f"{person:04d}"
        for frame in range(1, length + 1):
            path = f"bbox_{split}/{label}/{label}C{camera}T{number:04d}F{frame:03d}.jpg"
            frames[path] = image(len(frames), "JPEG")
    return frames


def mars_info(root: Path, split: str, tracklets: Sequence[tuple[int, int, int, int]]) -> None:
    """The name list and the tracklet table of one split."""
    info = root / "info"
    info.mkdir(parents=True, exist_ok=True)
    names = [path.rpartition("/")[2] for path in mars_frames(split, tracklets)]
    (info / f"{split}_name.txt").write_bytes("".join(f"{name}\r\n" for name in names).encode())
    last = np.cumsum([length for *_, length in tracklets])
    rows = [
        (end - length + 1, end, person, camera)
        for end, (person, camera, _, length) in zip(last, tracklets, strict=True)
    ]
    write_matrix(info / f"tracks_{split}_info.mat", f"track_{split}_info", np.array(rows, np.int32))


def write_matrix(path: Path, key: str, matrix: np.ndarray) -> None:
    """A MATLAB file of one matrix; its first 116 bytes, a text, would say when it was made."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {key: matrix})
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:])


def mars_tree(root: Path, zipped: bool = True) -> Path:
    """MARS: two zips or two folders of frames, and `info/`."""
    for split, tracklets in (("train", MARS_TRAIN), ("test", MARS_TEST)):
        mars_info(root, split, tracklets)
        frames = mars_frames(split, tracklets)
        if zipped:
            write_zip(root / f"bbox_{split}.zip", frames)
        else:
            write_files(root, frames)
    write_matrix(root / "info" / "query_IDX.mat", "query_IDX", np.array([MARS_QUERIES], np.uint16))
    return root


def ilids_frames(persons: Sequence[int] = ILIDS_PERSONS) -> dict[str, bytes]:
    """iLIDS-VID's sequences, 2 to 5 frames each, whose numbers do not start at 1."""
    frames = {}
    for camera in (1, 2):
        for row, person in enumerate(persons):
            for number in range(7, 9 + (row + camera) % 4):
                name = f"cam{camera}_person{person:03d}_{number:05d}.png"
                path = f"i-LIDS-VID/sequences/cam{camera}/person{person:03d}/{name}"
                frames[path] = image(len(frames), "PNG")
    return frames


def ilids_tree(root: Path, archive: bool = False, splits: bool = True) -> Path:
    """iLIDS-VID: its folder or its tar archive, with or without the split file."""
    if archive:
        write_tar(root / "iLIDS-VID.tar", ilids_frames())
    else:
        write_files(root, ilids_frames())
    if splits:
        folder = root / "train-test people splits"
        folder.mkdir(parents=True)
        write_matrix(folder / "train_test_splits_ilidsvid.mat", "ls_set", ILIDS_SPLITS)
    return root


def prid_frames() -> dict[str, bytes]:
    """PRID 2011's multi-shot sequences."""
    frames = {}
    for camera, persons in (("a", PRID_A), ("b", PRID_B)):
        for row, person in enumerate(persons):
            for number in range(1, 2 + row):
                path = f"prid_2011/multi_shot/cam_{camera}/person_{person:04d}/{number:04d}.png"
                frames[path] = image(len(frames), "PNG")
    return frames


def prid_tree(root: Path, archive: bool = False, splits: bool = True) -> Path:
    """PRID 2011: its folder or its zip, with or without the split file."""
    extra = {"prid_2011/readme.txt": b"read me", "prid_2011/single_shot/cam_a/person_0001.png": image(99, "PNG")}
    if archive:
        write_zip(root / "prid_2011.zip", {**prid_frames(), **extra})
    else:
        write_files(root, {**prid_frames(), **extra})
    if splits:
        root.mkdir(parents=True, exist_ok=True)
        (root / "splits_prid2011.json").write_text(json.dumps(PRID_SPLITS))
    return root
