"""From a `DataConfig` to tracklets: find the download, prepare it once, choose the trial's train and test halves."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_builders.counts import print_counts
from data_builders.folders import Folders
from data_builders.ilids_vid import IlidsVid
from data_builders.mars import Mars
from data_builders.prid2011 import Prid2011
from data_builders.records import TrackletBuilder, table_of
from data_builders.stored import StoredRecords
from data_builders.two_cameras import SPLIT
from data_builders.walkers import Walkers
from reid_jax.config import DataConfig
from reid_jax.tracklets import Splits, Tracklets

BUILDERS: dict[str, type[TrackletBuilder]] = {
    "walkers": Walkers, "mars": Mars, "ilids_vid": IlidsVid, "prid2011": Prid2011, "folders": Folders,
}  # fmt: skip


def prepare(data: DataConfig, again: bool = False) -> None:
    """Prepare the data set unless it is already, and print where it is and its counts beside the published ones.

    With `again` what is prepared of this download is deleted first. Raises `FileNotFoundError` for a missing download
    or frame, `ValueError` for one that is damaged or contradicts itself, `OSError` when the disk is full. Nothing
    half-prepared is ever taken for whole.
    """
    builder, manual_dir = find(data)
    if again and builder.NEEDS_DOWNLOAD and manual_dir is None:
        raise FileNotFoundError(
            f"{data.dataset} cannot be prepared again without its download; name its folder with manual_dir.\n"
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    if again and builder.data_path.exists():
        shutil.rmtree(builder.data_path)
        builder = type(builder)(data_dir=builder.data_dir_root, config=builder.builder_config)
    if is_prepared(builder):
        print(f"{data.dataset} is prepared already, in {builder.data_path}")
        print_prepared(builder)
    else:
        build(builder, manual_dir)


def load(data: DataConfig) -> Splits:
    """The train and test tracklets of one trial, prepared first where needed.

    Once prepared, a data set is read without its download when `data.manual_dir` is None. The records are TFDS data
    sources: random access, and they can be pickled for worker processes. Raises as `prepare`, and `ValueError` for a
    `data.split` that the data set does not have.
    """
    builder, manual_dir = find(data)
    if not is_prepared(builder):
        builder = build(builder, manual_dir)
    metadata = metadata_of(builder)
    if not metadata["trials"]:
        check_split(data, 1)
        train, test = (whole_split(builder, split) for split in ("train", "test"))
        return Splits(train, test, metadata["description"])
    variant = {"ilids_vid": data.split_order, "prid2011": str(data.prid_persons)}[data.dataset]
    trials, origin = metadata["trials"][variant], metadata["origin"][variant]
    check_split(data, len(trials))
    sequences = whole_split(builder, SPLIT)
    train, test = (of_persons(sequences, trials[data.split][half]) for half in ("train", "test"))
    chosen = f"{origin} split {data.split} of {len(trials)} ({variant.replace('_', ' ')})"
    return Splits(train, test, f"{metadata['description']}, {chosen}")


def find(data: DataConfig) -> tuple[TrackletBuilder, Path | None]:
    """The builder of the prepared folder that belongs to this download, and the download's folder.

    The folder is named by a digest of the download's tables, so another download never gets the older one's data.
    Without a download, the only prepared set is taken; `ValueError` where there are several.
    """
    builder, place = BUILDERS[data.dataset], Path(data.data_dir).expanduser()
    if place.exists() and not place.is_dir():
        raise ValueError(f"data_dir {place} is a file; name a folder for what is prepared")
    if data.manual_dir is not None and not builder.NEEDS_DOWNLOAD:
        raise ValueError(f"{data.dataset} has no download, but manual_dir is {data.manual_dir}: choose its --dataset")
    manual_dir = find_manual(data) if builder.NEEDS_DOWNLOAD else None
    known = manual_dir is not None or not builder.NEEDS_DOWNLOAD
    key = builder.key(manual_dir) if known else only_prepared(builder, data)
    config = tfds.core.BuilderConfig(name=key, version=builder.VERSION)
    return builder(data_dir=place, config=config), manual_dir


def find_manual(data: DataConfig) -> Path | None:
    """The folder of the download: the given one, or the first of TFDS's manual folders that is there."""
    if data.manual_dir is not None:
        given = Path(data.manual_dir).expanduser()
        if given.is_dir():
            return given
        prepared = [str(path) for path in prepared_folders(BUILDERS[data.dataset], data)]
        if prepared_from_given(BUILDERS[data.dataset], data):
            print(f"{given} is gone; what was prepared from it is read")
            return None
        hint = f"\nWithout manual_dir, what is already prepared is read: {', '.join(prepared)}" if prepared else ""
        how_to_get = BUILDERS[data.dataset].MANUAL_DOWNLOAD_INSTRUCTIONS
        raise FileNotFoundError(f"manual_dir {given} is no folder.\n{how_to_get}{hint}")
    return next((folder for folder in default_folders(data) if folder.is_dir()), None)


def default_folders(data: DataConfig) -> list[Path]:
    """Where TFDS keeps manual downloads: under this data_dir, then under its own."""
    roots = [Path(data.data_dir).expanduser(), Path(tfds.core.constants.DATA_DIR).expanduser()]
    return [root / "downloads" / "manual" / data.dataset for root in roots]


def prepared_folders(builder: type[TrackletBuilder], data: DataConfig) -> list[Path]:
    """Every whole prepared set of this version, sorted."""
    pattern = f"*/{builder.VERSION}/dataset_info.json"
    return sorted(path.parent for path in (Path(data.data_dir).expanduser() / builder.name).glob(pattern))


def prepared_from_given(builder: type[TrackletBuilder], data: DataConfig) -> list[Path]:
    """Those of them that say they were made of the download in `data.manual_dir`."""
    given = os.fspath(Path(data.manual_dir).expanduser().resolve())

    def source(folder: Path) -> str | None:
        try:
            return json.loads((folder / "metadata.json").read_text()).get("manual_dir")
        except (OSError, ValueError):
            return None

    return [folder for folder in prepared_folders(builder, data) if source(folder) == given]


def only_prepared(builder: type[TrackletBuilder], data: DataConfig) -> str:
    """The key of the one prepared set."""
    folders = prepared_folders(builder, data) if data.manual_dir is None else prepared_from_given(builder, data)
    if not folders:
        looked = ", ".join(str(folder) for folder in default_folders(data))
        raise FileNotFoundError(
            f"{data.dataset} is not prepared in {data.data_dir}, and its download is not there (looked in {looked}).\n"
            f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    if len(folders) > 1:
        raise ValueError(
            f"{data.dataset} is prepared more than once ({', '.join(str(folder) for folder in folders)}): give the "
            "manual_dir of the one that is meant, or delete the others"
        )
    return folders[0].parent.name


def is_prepared(builder: TrackletBuilder) -> bool:
    """Whether the builder's folder is whole: TFDS renames it into place when everything in it is written."""
    return (builder.data_path / "dataset_info.json").exists()


def build(builder: TrackletBuilder, manual_dir: Path | None) -> TrackletBuilder:
    """Prepare, print where and what, and open what was prepared."""
    print(f"preparing {builder.name} from {manual_dir or 'its generator'} into {builder.data_path}")
    if leftovers := sorted(builder.data_path.parent.glob("incomplete.*")):
        print(f"unfinished preparations, safe to delete unless one is running: {', '.join(map(str, leftovers))}")
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except OSError:
        # Another process that prepared the same data meanwhile has put it in place first.
        if not is_prepared(builder):
            raise
    prepared = type(builder)(data_dir=builder.data_dir_root, config=builder.builder_config)
    print_prepared(prepared)
    return prepared


def print_prepared(builder: TrackletBuilder) -> None:
    """The counts of a prepared set beside the published ones."""
    metadata = metadata_of(builder)
    tables = {split: table_of(columns) for split, columns in metadata["tables"].items()}
    print_counts(metadata["description"], tables, metadata["published"])
    for variant, origin in metadata["origin"].items():
        count, named = len(metadata["trials"][variant]), variant.replace("_", " ")
        words = "from the published file" if origin == "published" else "drawn by seeds, for want of a published file"
        print(f"{count} splits ({named}), {words}")


def metadata_of(builder: TrackletBuilder) -> dict[str, Any]:
    """What a prepared set says of itself beside its records; `ValueError` where that is not whole."""
    try:
        found = builder.info.metadata
        if missing := {"description", "published", "trials", "origin", "tables"} - set(found):
            raise damaged(builder, f"its metadata.json has no {sorted(missing)[0]}")
        return found
    except json.JSONDecodeError as error:
        raise damaged(builder, f"its metadata.json is damaged: {error}") from error


def damaged(builder: TrackletBuilder, how: str) -> ValueError:
    """The error of a prepared set that has been changed since."""
    return ValueError(
        f"{builder.data_path} is not whole ({how}): prepare it again with experiments.prepare --again, or delete it"
    )


def check_split(data: DataConfig, count: int) -> None:
    """Raise `ValueError` unless `data.split` is one of `count` splits."""
    if not 0 <= data.split < count:
        raise ValueError(f"split = {data.split}: {data.dataset} has {count} split(s), numbered from 0")


def whole_split(builder: TrackletBuilder, split: str) -> Tracklets:
    """All tracklets of a TFDS split; row i is record i."""
    table = table_of(metadata_of(builder)["tables"][split])
    if missing := [path for path in builder.info.splits[split].filepaths if not Path(path).exists()]:
        raise damaged(builder, f"{Path(missing[0]).name} is missing")
    return Tracklets(table, StoredRecords(builder.as_data_source(split)), np.arange(len(table)))


def of_persons(tracklets: Tracklets, persons: list[int]) -> Tracklets:
    """The tracklets of these persons, in their order."""
    return tracklets.take(np.flatnonzero(np.isin(tracklets.table.person, persons)))
