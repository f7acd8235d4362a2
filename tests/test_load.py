"""From settings to tracklets: which prepared data belongs to which download, worker processes, no TensorFlow."""

import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import official_trees as trees
import pytest
import tensorflow_datasets as tfds

from data_builders import load, prepare
from data_builders.load import find
from reid_jax.config import DataConfig
from reid_jax.tracklets import Tracklets

ROOT = Path(__file__).parents[1]


def mars(root: Path, manual: str | None = "download", **settings) -> DataConfig:
    manual_dir = None if manual is None else str(root / manual)
    return DataConfig(dataset="mars", data_dir=str(root / "data"), manual_dir=manual_dir, **settings)


def test_another_download_never_gets_the_older_data(tmp_path):
    trees.mars_tree(tmp_path / "download")
    other = trees.mars_tree(tmp_path / "other")
    trees.mars_info(other, "train", trees.MARS_TRAIN[:-1])
    assert len(load(mars(tmp_path)).train) == len(trees.MARS_TRAIN)
    assert len(load(mars(tmp_path, "other")).train) == len(trees.MARS_TRAIN) - 1
    assert len(load(mars(tmp_path)).train) == len(trees.MARS_TRAIN)
    with pytest.raises(ValueError, match="prepared more than once"):
        load(mars(tmp_path, None))


def test_prepared_data_is_read_without_the_download(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    trees.mars_tree(tmp_path / "download")
    with pytest.raises(FileNotFoundError, match=r"looked in .*downloads/manual/mars(.|\n)*bbox_train.zip"):
        load(mars(tmp_path, None))
    first = load(mars(tmp_path))
    (tmp_path / "download").rename(tmp_path / "gone")
    again = load(mars(tmp_path, None))
    assert again.description == first.description
    assert list(again.test.encoded(4)) == list(first.test.encoded(4))
    with pytest.raises(
        FileNotFoundError, match=r"is no folder(.|\n)*Without manual_dir, what is already prepared is read"
    ):
        load(mars(tmp_path, "downlaod"))


def test_of_a_download_that_is_gone_what_was_prepared_from_it_is_read(tmp_path, capsys):
    trees.mars_tree(tmp_path / "download")
    other = trees.mars_tree(tmp_path / "other")
    trees.mars_info(other, "train", trees.MARS_TRAIN[:-1])
    whole, less = load(mars(tmp_path)), load(mars(tmp_path, "other"))
    for folder in ("download", "other"):
        shutil.rmtree(tmp_path / folder)
    capsys.readouterr()
    assert len(load(mars(tmp_path)).train) == len(whole.train) != len(less.train)
    assert "download is gone; what was prepared from it is read" in capsys.readouterr().out
    assert len(load(mars(tmp_path, "other")).train) == len(less.train)
    with pytest.raises(FileNotFoundError, match="cannot be prepared again without its download"):
        prepare(mars(tmp_path), again=True)
    assert len(load(mars(tmp_path)).train) == len(whole.train)


def test_a_file_that_was_replaced_is_read_when_it_is_prepared_again(tmp_path):
    trees.mars_tree(tmp_path / "download", zipped=False)
    before = load(mars(tmp_path)).test
    name = next(iter(trees.mars_frames("test", trees.MARS_TEST)))
    path = next(path for path in (tmp_path / "download").rglob("*.jpg") if path.as_posix().endswith(name))
    path.write_bytes(trees.image(999, "JPEG"))
    assert list(load(mars(tmp_path)).test.encoded(0)) == list(before.encoded(0))
    prepare(mars(tmp_path), again=True)
    assert load(mars(tmp_path)).test.encoded(0)[0] == path.read_bytes() != before.encoded(0)[0]


def test_prepared_data_that_is_no_longer_whole_is_named_with_the_remedy(tmp_path):
    trees.mars_tree(tmp_path / "download")
    tracklets = load(mars(tmp_path)).train
    folder = next(tmp_path.glob("data/mars/*/1.0.0"))
    shard = next(folder.glob("*train*array_record*"))
    kept = shard.read_bytes()
    place = kept.index(tracklets.encoded(0)[0])
    shard.write_bytes(kept[:place] + bytes(64) + kept[place + 64 :])
    with pytest.raises(ValueError, match=r"tracklet \S+ cannot be read (.|\n)*experiments.prepare --again"):
        tracklets.encoded(0)
    shard.unlink()
    with pytest.raises(ValueError, match=r"is missing.*experiments.prepare --again"):
        load(mars(tmp_path))
    shard.write_bytes(kept)
    metadata = json.loads((folder / "metadata.json").read_text())
    for damage, message in (("{", "is damaged"), (json.dumps({"tables": metadata["tables"]}), "has no")):
        (folder / "metadata.json").write_text(damage)
        with pytest.raises(ValueError, match=rf"metadata.json {message}.*--again"):
            load(mars(tmp_path))
    prepare(mars(tmp_path), again=True)
    assert len(load(mars(tmp_path)).train) == len(tracklets)


def test_the_download_is_found_in_the_manual_folder_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    trees.mars_tree(tmp_path / "data" / "downloads" / "manual" / "mars")
    assert len(load(mars(tmp_path, None)).train) == len(trees.MARS_TRAIN)


def test_prepare_prints_where_and_the_counts_and_prepares_once(tmp_path, capsys):
    trees.mars_tree(tmp_path / "download")
    prepare(mars(tmp_path))
    printed = capsys.readouterr().out
    assert str(tmp_path / "data" / "mars") in printed and "a subset" in printed
    for words in ("distractors", "3,248", "12,180", "queries"):
        assert words in printed
    written = next(tmp_path.glob("data/mars/*/*/dataset_info.json")).stat().st_mtime_ns
    prepare(mars(tmp_path))
    assert "is prepared already" in capsys.readouterr().out
    assert next(tmp_path.glob("data/mars/*/*/dataset_info.json")).stat().st_mtime_ns == written


def test_preparing_twice_at_once_keeps_the_first(tmp_path, monkeypatch):
    trees.mars_tree(tmp_path / "download")
    done = []

    def meanwhile(data, where):
        if not done:
            done.append(True)
            load(mars(tmp_path))

    monkeypatch.setattr("data_builders.mars.check_image", meanwhile)
    assert len(load(mars(tmp_path)).test) == len(trees.MARS_TEST)
    assert not list(tmp_path.glob("data/mars/*/incomplete.*"))


def test_places_and_flags_that_do_not_fit_the_data_set_are_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="data_dir .*file is a file"):
        load(DataConfig(data_dir=str(tmp_path / "file")))
    with pytest.raises(ValueError, match="walkers has no download.*choose its --dataset"):
        load(DataConfig(data_dir=str(tmp_path), manual_dir="mars"))


def test_a_split_that_is_not_there_is_an_error(tmp_path):
    trees.mars_tree(tmp_path / "download")
    with pytest.raises(ValueError, match=r"split = 1: mars has 1 split"):
        load(mars(tmp_path, split=1))


def encoded_rows(tracklets: Tracklets) -> list[list[bytes]]:
    return [list(tracklets.encoded(row)) for row in range(len(tracklets))]


def test_tracklets_travel_to_spawned_processes(tmp_path):
    trees.prid_tree(tmp_path / "download")
    settings = DataConfig(dataset="prid2011", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "download"))
    test = load(settings).test.take(np.array([2, 0]))
    assert encoded_rows(pickle.loads(pickle.dumps(test))) == encoded_rows(test)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(encoded_rows, (test,)) == encoded_rows(test)


def test_records_are_those_of_tfds_decoded_as_they_are_asked_for(tmp_path):
    trees.mars_tree(tmp_path / "download")
    records = load(mars(tmp_path)).train.records
    theirs = find(mars(tmp_path))[0].as_data_source("train")
    assert len(records) == len(theirs) > 1
    for record, known in zip(records, theirs, strict=True):
        assert record.keys() == known.keys()
        assert all(np.array_equal(record[name], known[name]) for name in known)
    with pytest.raises(KeyError, match="box"):
        records[0]["box"]
    for number in (-1, len(records)):
        with pytest.raises(IndexError, match=f"record {number} of {len(records)}"):
            records[number]


NO_TENSORFLOW = """
import sys
from data_builders import load
from reid_jax.config import DataConfig
splits = load(DataConfig(dataset=sys.argv[1], data_dir=sys.argv[2], manual_dir=sys.argv[3]))
assert splits.train.encoded(0)
print("heavy:", sorted({"tensorflow", "torch"} & set(sys.modules)))
"""
PROGRAMS = """
import sys
from experiments import embed, evaluate, paper, search, sweep, train
print("heavy:", sorted({"tensorflow", "torch"} & set(sys.modules)))
"""


@pytest.mark.parametrize("dataset", ["mars", "ilids_vid"])
def test_neither_tensorflow_nor_torch_is_imported(tmp_path, dataset):
    {"mars": trees.mars_tree, "ilids_vid": trees.ilids_tree}[dataset](tmp_path / "download")
    command = [sys.executable, "-c", NO_TENSORFLOW, dataset, str(tmp_path / "data"), str(tmp_path / "download")]
    assert_nothing_heavy(command)


def test_no_program_imports_them_when_it_starts():
    assert_nothing_heavy([sys.executable, "-c", PROGRAMS])


def assert_nothing_heavy(command):
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    found = [line for line in output.stdout.splitlines() if line.startswith("heavy:")]
    assert found, output.stderr
    assert found[0] == "heavy: []"
