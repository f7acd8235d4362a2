"""MARS: `bbox_train`, `bbox_test` (folders or zips) and the `info` tables, as its authors publish them."""

import lzma
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from data_builders.counts import check_published
from data_builders.records import Contents, TrackletBuilder
from data_builders.sources import Source, check_image, open_source
from data_builders.tables import digest, first_existing, read_matrix
from reid_jax.tracklets import JUNK, TrackletTable

FRAME_NAME = re.compile(rb"(\d{4}|00-1)C([1-6])T(\d{4})F(\d+)\.jpg")
PUBLISHED = {
    "train": {"persons": 625, "tracklets": 8298, "frames": 509_914, "cameras": 6, "junk": 0, "distractors": 0},
    "test": {
        "persons": 634,
        "tracklets": 12_180,
        "frames": 681_089,
        "cameras": 6,
        "junk": 870,
        "distractors": 3248,
        "queries": 1980,
        "query persons": 626,
    },
}
# Any one of these is taken as a claim to be the whole data set.
CLAIMS = ("tracklets", "frames")
INFO_FOLDERS = ("info", "MARS-evaluation-master/info", "MARS-evaluation/info", ".")
MATRICES = ("tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat")
HOW_TO_GET = """MARS comes from its authors (Zheng et al., ECCV 2016: the project page "MARS: A Video Benchmark for
Large-Scale Person Re-identification" of Liang Zheng): bbox_train.zip and bbox_test.zip. The tables are the folder
`info` of the GitHub repository liangzheng06/MARS-evaluation. Put `bbox_train.zip`, `bbox_test.zip` (or the folders they
hold) and `info/` side by side into one folder, and give it as manual_dir (--manual-dir)."""


@dataclass(frozen=True)
class Tables:
    """One split's table, and the name of every frame: row i has `names[first[i]:first[i] + length[i]]`."""

    table: TrackletTable
    first: Int[np.ndarray, "N"]
    names: list[str]


class Mars(TrackletBuilder):
    """MARS, the Motion Analysis and Re-identification Set: six cameras, tracklets found by a detector and a tracker."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET
    HOMEPAGE: ClassVar[str] = "https://github.com/liangzheng06/MARS-evaluation"

    @classmethod
    def key(cls, manual_dir: Path | None) -> str:
        """From the five tables, which name every frame."""
        info = find_info(manual_dir)
        lists = [read_list(info, split) for split in ("train", "test")]
        return digest([*((info / name).read_bytes() for name in MATRICES), *lists])

    @classmethod
    def contents(cls, manual_dir: Path | None) -> Contents:
        """The official train and test split."""
        tables = read_tables(find_info(manual_dir))
        sources = {split: open_frames(manual_dir, split, tables[split]) for split in tables}
        by_split = {split: tables[split].table for split in tables}
        full = claims_whole(by_split)
        if full:
            check_published("MARS", by_split, PUBLISHED)
        kind = "the full data set" if full else "a subset"

        def read(split: str, row: int) -> dict[str, Any]:
            source, prefix = sources[split]
            return {"frames": read_frames(source, prefix, tables[split], row)}

        description = f"MARS, {kind}: {len(by_split['train'])} train and {len(by_split['test'])} test tracklets"
        return Contents(by_split, read, f"{description}, the official split", full, PUBLISHED)


def find_info(manual_dir: Path) -> Path:
    """The folder of the tables. Raises `FileNotFoundError` with what is missing and where to get it."""
    for name in INFO_FOLDERS:
        info = manual_dir / name
        if (info / MATRICES[0]).exists():
            break
    else:
        raise FileNotFoundError(f"no MARS tables (info/{MATRICES[0]}) in {manual_dir}.\n{HOW_TO_GET}")
    for name in MATRICES:
        if not (info / name).exists():
            raise FileNotFoundError(f"{info / name} is missing.\n{HOW_TO_GET}")
    return info


def read_list(info: Path, split: str) -> bytes:
    """The list of frame names, plain or packed with xz."""
    path = first_existing([info], [f"{split}_name.txt", f"{split}_name.txt.xz"])
    if path is None:
        raise FileNotFoundError(f"{info / f'{split}_name.txt'} is missing.\n{HOW_TO_GET}")
    try:
        return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    except lzma.LZMAError as error:
        raise ValueError(f"{path} is damaged ({error}); download it again") from error


def read_tables(info: Path) -> dict[str, Tables]:
    """Both splits' tables, checked; needs no images.

    Raises `ValueError` naming the file and row when a table contradicts the names it points to.
    """
    tables = {split: read_split(info, split) for split in ("train", "test")}
    persons = [set(tables[split].table.person[tables[split].table.person > 0].tolist()) for split in tables]
    if both := sorted(persons[0] & persons[1]):
        raise ValueError(f"{info}: person {both[0]} is in the train and in the test table; download the tables again")
    return tables


def read_split(info: Path, split: str) -> Tables:
    """The table of one split."""
    names = read_list(info, split).split()
    parsed = parse_names(info / f"{split}_name.txt", names)
    path = info / f"tracks_{split}_info.mat"
    rows = read_matrix(path.read_bytes(), path, f"track_{split}_info", columns=4)
    first, length = rows[:, 0] - 1, rows[:, 1] - rows[:, 0] + 1
    check_rows(path, rows, parsed)
    query = read_queries(info / "query_IDX.mat", rows[:, 2]) if split == "test" else np.zeros(len(rows), bool)
    tracklets = [names[start][:11].decode() for start in first]
    table = TrackletTable(person=rows[:, 2], camera=rows[:, 3], length=length, query=query, name=tracklets)
    return Tables(table, first, [name.decode() for name in names])


def parse_names(path: Path, names: list[bytes]) -> Int[np.ndarray, "names 4"]:
    """Person, camera, tracklet number and frame number of every name."""
    matches = [FRAME_NAME.fullmatch(name) for name in names]
    if not all(matches):
        line = matches.index(None)
        raise ValueError(f"{path}, line {line + 1}: {names[line]!r} is no frame name of MARS (PPPPCcTttttFfff.jpg)")
    if len(set(names)) != len(names):
        seen: set[bytes] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"{path}: {twice.decode()} is listed twice; download the list again")
    junk = b"00-1"
    return np.array([[JUNK if m[1] == junk else int(m[1]), int(m[2]), int(m[3]), int(m[4])] for m in matches])


def check_rows(path: Path, rows: Int[np.ndarray, "N 4"], parsed: Int[np.ndarray, "names 4"]) -> None:
    """Raise `ValueError` at the first row whose frames are not those of one tracklet of its person and camera."""
    first, last = rows[:, 0], rows[:, 1]
    outside = (first < 1) | (last < first) | (last > len(parsed))
    refuse(path, rows, outside, f"its frames are outside of the list of {len(parsed)} names")
    owner = np.repeat(np.arange(len(rows)), last - first + 1)
    ends = np.cumsum(last - first + 1)
    frame = np.arange(len(owner)) - np.repeat(ends - (last - first + 1), last - first + 1) + first[owner] - 1
    for column, expected, what in (
        (0, rows[:, 2], "its frames are of another person"),
        (1, rows[:, 3], "its frames are of another camera"),
        (2, parsed[first - 1, 2], "its frames are of two tracklets"),
    ):
        wrong = parsed[frame, column] != expected[owner]
        refuse(path, rows, np.bincount(owner, wrong, len(rows)) > 0, what)
    backwards = (np.diff(parsed[frame, 3]) <= 0) & (owner[1:] == owner[:-1])
    refuse(path, rows, np.bincount(owner[1:], backwards, len(rows)) > 0, "its frames are not in time order")
    shared = np.bincount(frame, minlength=len(parsed))[frame] > 1
    refuse(path, rows, np.bincount(owner, shared, len(rows)) > 0, "it shares frames with another row (a duplicate)")
    _, inverse, times = np.unique(parsed[first - 1, :3], axis=0, return_inverse=True, return_counts=True)
    refuse(path, rows, times[inverse.reshape(-1)] > 1, "its tracklet is in the table twice (a duplicate)")


def refuse(path: Path, rows: Int[np.ndarray, "N 4"], wrong: Bool[np.ndarray, "N"], why: str) -> None:
    """Raise for the first wrong row, if there is one."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path}, row {row + 1} (first frame, last frame, person, camera = {rows[row].tolist()}): {why}; "
            f"{int(wrong.sum())} such rows. The tables and lists must be of one download"
        )


def read_queries(path: Path, person: Int[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
    """Which test tracklets are queries."""
    matrix = read_matrix(path.read_bytes(), path, "query_IDX")
    if 1 not in matrix.shape:
        raise ValueError(f"{path}: query_IDX has shape {matrix.shape}, expected (1, queries); download it again")
    index = matrix.reshape(-1) - 1
    if index.min() < 0 or index.max() >= len(person):
        raise ValueError(f"{path}: query_IDX points outside of the {len(person)} rows of the test table")
    if len(np.unique(index)) != len(index):
        raise ValueError(f"{path}: query_IDX names a row twice")
    if (person[index] <= 0).any():
        raise ValueError(f"{path}: query_IDX names a junk or distractor tracklet; is it of the same download?")
    query = np.zeros(len(person), bool)
    query[index] = True
    return query


def claims_whole(tables: dict[str, TrackletTable]) -> bool:
    """Whether any table has as many tracklets or frames as the published one."""
    sizes = {split: {"tracklets": len(table), "frames": int(table.length.sum())} for split, table in tables.items()}
    return any(sizes[split][claim] == PUBLISHED[split][claim] for split in tables for claim in CLAIMS)


def open_frames(manual_dir: Path, split: str, tables: Tables) -> tuple[Source, str]:
    """Where the frames of a split are, and the path in front of `person/frame`."""
    path = first_existing([manual_dir], [f"bbox_{split}", f"bbox_{split}.zip"])
    if path is None:
        raise FileNotFoundError(f"neither bbox_{split}/ nor bbox_{split}.zip is in {manual_dir}.\n{HOW_TO_GET}")
    source, example = open_source(path), frame_path(tables.names[tables.first[0]])
    if source.names is None:
        nested = not (path / example).exists() and (path / path.name / example).exists()
        return source, f"{path.name}/" if nested else ""
    prefix = next((name.removesuffix(example) for name in source.names if name.endswith(example)), f"bbox_{split}/")
    missing = [name for name in tables.names if prefix + frame_path(name) not in source.names]
    if missing:
        raise FileNotFoundError(
            f"{path}: {len(missing)} of the {len(tables.names)} frames named in the tables are not in it, "
            f"the first {prefix}{frame_path(missing[0])}; download it again, or the tables that belong to it"
        )
    return source, prefix


def frame_path(name: str) -> str:
    """A frame's path under its split's folder."""
    return f"{name[:4]}/{name}"


def read_frames(source: Source, prefix: str, tables: Tables, row: int) -> list[bytes]:
    """The encoded frames of one tracklet, each checked to be whole."""
    start = int(tables.first[row])
    frames = []
    for name in tables.names[start : start + int(tables.table.length[row])]:
        path = prefix + frame_path(name)
        data = source.read(path)
        check_image(data, f"{source.path}: {path}")
        frames.append(data)
    return frames
