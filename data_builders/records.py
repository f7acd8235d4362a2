"""What every data set shares: the features of a record, the tables beside the records, and the streaming builder.

A builder has one TFDS record a tracklet, in the order of its table. The tables (person, camera, length, query, name of
every record, by TFDS split) and the trials (persons of the train and test halves) lie in the TFDS metadata, so loading
reads no record and needs no raw download.
"""

import abc
import dataclasses
import inspect
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm import tqdm

from reid_jax.tracklets import TrackletTable

FRAMES_PER_SHARD = 32768
# One tracklet a group keeps random access cheap; encoded images do not compress further.
WRITER_OPTIONS = "group_size:1,uncompressed"

Halves = Mapping[str, list[int]]
"""`{"train": persons, "test": persons}`."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a download holds, known from its tables and folder listing before any frame is read."""

    tables: Mapping[str, TrackletTable]
    """By TFDS split name (`train` and `test`, or `sequences` where the trials say who is trained on)."""
    read: Callable[[str, int], Mapping[str, Any]]
    """`read(split, row)`: `{"frames": encoded images in time order}`, and the builder's `EXTRA_FEATURES`, if any."""
    description: str
    """In words: full or a subset, and where its splits are from."""
    full: bool
    """Whether this is the whole published data set."""
    published: Mapping[str, Mapping[str, int]]
    """By split, the published figure of each count (see `counts.count`); a full data set must equal them."""
    trials: Mapping[str, Sequence[Halves]] = dataclasses.field(default_factory=dict)
    """By variant (`test_first`, `178`, ...), the train and test persons of each trial; empty: splits train and test."""
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By variant, `published` or `seeded`: where its trials are from."""


class TrackletBuilder(tfds.core.GeneratorBasedBuilder):
    """A TFDS builder of tracklets. A data set writes `key` and `contents`, and its class attributes.

    TFDS's own writer keeps a split in memory and, past a gigabyte, needs TensorFlow; this one streams record by record
    into array_record files, in order. TFDS still writes into an incomplete folder and renames it at the end.
    """

    VERSION = tfds.core.Version("1.0.0")
    EXTRA_FEATURES: ClassVar[Mapping[str, Any]] = {}
    NEEDS_DOWNLOAD: ClassVar[bool] = True
    # TFDS downloads nothing here; its search for checksums needs a package that it forgets to require.
    url_infos: ClassVar[None] = None
    HOMEPAGE: ClassVar[str] = ""
    """The page and paper of the data set."""

    @classmethod
    @abc.abstractmethod
    def key(cls, manual_dir: Path | None) -> str:
        """A short name of exactly this download, from its tables or file names: the prepared folder is named by it.

        Raises `FileNotFoundError` saying what to get, from whose page and where to put it. `manual_dir` is None only
        for a data set that needs no download.
        """

    @classmethod
    @abc.abstractmethod
    def contents(cls, manual_dir: Path | None) -> Contents:
        """The checked tables of the download, and the way to its frames. Raises as `key`, or `ValueError`."""

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        # Every download is a configuration of its own; TFDS would warn about each as a "custom" one.
        return builder_config

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "frames": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.bytes_)),
            "person": np.int32,
            "camera": np.int32,
            "query": np.bool_,
            "name": tfds.features.Text(),
            **self.EXTRA_FEATURES,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=inspect.cleandoc(self.__doc__ or ""),
            homepage=self.HOMEPAGE,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        manual_dir = Path(dl_manager.manual_dir) if self.NEEDS_DOWNLOAD else None
        contents = self.contents(manual_dir)
        self.info.metadata.update(to_metadata(contents), manual_dir=manual_dir and os.fspath(manual_dir.resolve()))
        return {split: self._generate_examples(contents, split) for split in contents.tables}

    def _generate_examples(self, contents: Contents, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        table = contents.tables[split]
        for row in range(len(table)):
            yield (
                row,
                {
                    **contents.read(split, row),
                    "person": int(table.person[row]),
                    "camera": int(table.camera[row]),
                    "query": bool(table.query[row]),
                    "name": table.name[row],
                },
            )

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> list[tfds.core.SplitInfo]:
        generators = self._split_generators(dl_manager)
        lengths = {split: table["length"] for split, table in self.info.metadata["tables"].items()}
        return [self._write_split(split, examples, lengths[split]) for split, examples in generators.items()]

    def _write_split(self, split: str, examples: Iterator, lengths: Sequence[int]) -> tfds.core.SplitInfo:
        template = self._get_filename_template(split_name=split)
        sizes = shard_sizes(lengths)
        progress = iter(tqdm(examples, desc=f"{self.name} {split}", total=len(lengths), unit=" tracklets"))
        records = (self.info.features.serialize_example(example) for _, example in progress)
        total = 0
        for number, size in enumerate(sizes):
            path = os.fspath(template.sharded_filepath(shard_index=number, num_shards=len(sizes)))
            total += write_shard(path, records, size)
        next(records, None)  # ends the progress bar
        return tfds.core.SplitInfo(name=split, shard_lengths=sizes, num_bytes=total, filename_template=template)


def shard_sizes(lengths: Sequence[int]) -> list[int]:
    """Records in each shard: consecutive, `FRAMES_PER_SHARD` frames or one record at least."""
    shard = (np.cumsum(lengths) - np.asarray(lengths)) // FRAMES_PER_SHARD
    return np.unique(shard, return_counts=True)[1].tolist()


def write_shard(path: str, records: Iterable[bytes], size: int) -> int:
    """Write the next `size` records to an array_record file; their bytes. Raises `OSError` when the disk is full."""
    total = 0
    try:
        writer = ArrayRecordWriter(path, WRITER_OPTIONS)
    except RuntimeError as error:
        raise unwritable(path, error) from error
    try:
        for record in itertools.islice(records, size):
            total += len(record)
            writer.write(record)
    finally:
        try:
            writer.close()
        except RuntimeError as error:
            raise unwritable(path, error) from error
    return total


def unwritable(path: str, error: Exception) -> OSError:
    """The error of a shard that cannot be written, with the room that is left."""
    free = shutil.disk_usage(Path(path).parent).free
    return OSError(
        f"{path}: cannot be written, {free / 2**20:.0f} MiB are free on this disk. Nothing is left half-prepared; "
        f"make room (the prepared data is about as large as the download) or give another data_dir. ({error})"
    )


def to_metadata(contents: Contents) -> dict[str, Any]:
    """The part of `Contents` that is kept beside the records, as JSON values."""
    return {
        "description": contents.description,
        "full": contents.full,
        "published": {split: dict(counts) for split, counts in contents.published.items()},
        "trials": {name: [dict(halves) for halves in trials] for name, trials in contents.trials.items()},
        "origin": dict(contents.origin),
        "tables": {
            split: {
                "person": [int(person) for person in table.person],
                "camera": [int(camera) for camera in table.camera],
                "length": [int(length) for length in table.length],
                "query": [bool(query) for query in table.query],
                "name": list(table.name),
            }
            for split, table in contents.tables.items()
        },
    }


def table_of(columns: Mapping[str, Sequence[Any]]) -> TrackletTable:
    """The table kept by `to_metadata`."""
    return TrackletTable(
        person=np.asarray(columns["person"], np.int64),
        camera=np.asarray(columns["camera"], np.int64),
        length=np.asarray(columns["length"], np.int64),
        query=np.asarray(columns["query"], bool),
        name=list(columns["name"]),
    )
