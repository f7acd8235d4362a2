"""MARS's builder: zips and folders alike, the tables whole and damaged, and preparations that are cut short."""

import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import official_trees as trees
import pytest
import scipy.io

from data_builders import load, prepare, records, sources
from data_builders.counts import check_published, count, differences
from data_builders.mars import PUBLISHED, claims_whole, find_info, read_tables
from reid_jax.config import DataConfig
from reid_jax.tracklets import Tracklets

ROOT = Path(__file__).parents[1]
MARS_INFO = ROOT.parent / "shared" / "mars_info"


def config(root: Path, manual: str = "download") -> DataConfig:
    return DataConfig(dataset="mars", data_dir=str(root / "data"), manual_dir=str(root / manual))


def contents(tracklets: Tracklets) -> list[tuple]:
    """Everything of every record, in order."""
    return [
        (record["person"], record["camera"], record["query"], record["name"], list(record["frames"]))
        for record in tracklets.records
    ]


def prepared(root: Path) -> list[Path]:
    return list(root.glob("data/**/dataset_info.json"))


@pytest.fixture(scope="module")
def official():
    if not MARS_INFO.is_dir():
        pytest.skip("the official MARS tables (../shared/mars_info) are not here")
    return read_tables(find_info(MARS_INFO))


def test_official_tables_have_the_published_counts(official):
    tables = {split: official[split].table for split in official}
    assert claims_whole(tables)
    check_published("MARS", tables, PUBLISHED)
    train, test = count(tables["train"]), count(tables["test"])
    assert (train["persons"], train["tracklets"], train["frames"]) == (625, 8298, 509_914)
    assert (test["tracklets"], test["frames"], test["junk"], test["distractors"]) == (12_180, 681_089, 870, 3248)
    assert (test["queries"], test["query persons"], test["longest"]) == (1980, 626, 920)
    assert [len(official[split].names) for split in ("train", "test")] == [509_914, 681_089]


def test_a_full_set_that_differs_says_where(official):
    tables = {"train": official["train"].table.take(np.arange(8297)), "test": official["test"].table}
    assert claims_whole(tables)
    with pytest.raises(ValueError, match=r"train tracklets: 8,297 here, 8,298 published"):
        check_published("MARS", tables, PUBLISHED)
    assert {(split, name) for split, name, *_ in differences(tables, PUBLISHED)} >= {("train", "frames")}


def test_zips_and_folders_give_identical_records(tmp_path):
    trees.mars_tree(tmp_path / "zips")
    trees.mars_tree(tmp_path / "folders", zipped=False)
    first = load(DataConfig(dataset="mars", data_dir=str(tmp_path / "a"), manual_dir=str(tmp_path / "zips")))
    second = load(DataConfig(dataset="mars", data_dir=str(tmp_path / "b"), manual_dir=str(tmp_path / "folders")))
    for half, tracklets in (("train", trees.MARS_TRAIN), ("test", trees.MARS_TEST)):
        one, two = contents(getattr(first, half)), contents(getattr(second, half))
        assert one == two
        raw = list(trees.mars_frames(half, tracklets).values())
        assert [frame for record in one for frame in record[-1]] == raw
        table = getattr(first, half).table
        assert [record[:2] for record in one] == list(zip(table.person, table.camera, strict=True))
        assert [record[3].decode() for record in one] == table.name
        assert [len(record[-1]) for record in one] == table.length.tolist() == [length for *_, length in tracklets]


def test_a_folder_within_the_folder_of_its_name_is_found(tmp_path):
    root = trees.mars_tree(tmp_path / "download", zipped=False)
    first = load(DataConfig(dataset="mars", data_dir=str(tmp_path / "a"), manual_dir=str(root)))
    for name in ("bbox_train", "bbox_test"):
        (root / name).rename(root / "inner")
        (root / name).mkdir()
        (root / "inner").rename(root / name / name)
    second = load(DataConfig(dataset="mars", data_dir=str(tmp_path / "b"), manual_dir=str(root)))
    assert contents(first.train) == contents(second.train) and contents(first.test) == contents(second.test)


def test_junk_distractors_queries_and_short_tracklets_are_kept(tmp_path):
    trees.mars_tree(tmp_path / "download")
    splits = load(config(tmp_path))
    assert splits.test.table.person.tolist() == [-1, 0, 2, 2, 2, 4, 4]
    assert np.flatnonzero(splits.test.table.query).tolist() == [row - 1 for row in trees.MARS_QUERIES]
    assert not splits.train.table.query.any()
    counts = count(splits.train.table)
    assert (counts["one-frame tracklets"], counts["persons in one camera"], counts["persons"]) == (1, 1, 3)
    assert (count(splits.test.table)["junk"], count(splits.test.table)["distractors"]) == (1, 1)
    assert "a subset" in splits.description


def test_order_is_kept_across_shards(tmp_path, monkeypatch):
    trees.mars_tree(tmp_path / "download")
    monkeypatch.setattr(records, "FRAMES_PER_SHARD", 5)
    splits = load(config(tmp_path))
    assert len(list(tmp_path.glob("data/mars/*/*/mars-test.array_record-*"))) > 2
    raw = list(trees.mars_frames("test", trees.MARS_TEST).values())
    assert [frame for row in range(len(splits.test)) for frame in splits.test.encoded(row)] == raw


def rewrite_zip(path: Path, change) -> None:
    """Replace a zip by one whose files `change` has altered."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    trees.write_zip(path, files)


def cut_in_zip(root):
    name = "bbox_train/0003/0003C1T0001F002.jpg"
    rewrite_zip(root / "bbox_train.zip", lambda files: files.update({name: files[name][:-20]}))


def drop_in_zip(root):
    rewrite_zip(root / "bbox_test.zip", lambda files: files.pop("bbox_test/0002/0002C3T0001F004.jpg"))


def climb_in_zip(root):
    rewrite_zip(root / "bbox_train.zip", lambda files: files.update({"../outside.jpg": b""}))


def absolute_in_zip(root):
    rewrite_zip(root / "bbox_train.zip", lambda files: files.update({"/etc/outside.jpg": b""}))


def not_a_zip(root):
    path = root / "bbox_test.zip"
    path.write_bytes(path.read_bytes()[:200])


def text_in_zip(root):
    name = "bbox_test/0000/0000C2T0001F001.jpg"
    rewrite_zip(root / "bbox_test.zip", lambda files: files.update({name: b"<html>"}))


def change_rows(column: int, row: int, value: int):
    def change(root):
        path = root / "info" / "tracks_train_info.mat"
        rows = scipy.io.loadmat(path)["track_train_info"]
        rows[row, column] = value
        trees.write_matrix(path, "track_train_info", rows)

    return change


def wrong_key(root):
    trees.write_matrix(root / "info" / "tracks_test_info.mat", "tracks", np.ones((3, 4)))


def wrong_shape(root):
    trees.write_matrix(root / "info" / "tracks_test_info.mat", "track_test_info", np.ones((3, 5)))


def no_matrix(root):
    (root / "info" / "query_IDX.mat").write_bytes(b"<html>not found</html>")


def queries(*rows: int):
    return lambda root: trees.write_matrix(root / "info" / "query_IDX.mat", "query_IDX", np.array([rows], np.uint16))


def change_names(old: bytes, new: bytes):
    def change(root):
        path = root / "info" / "train_name.txt"
        path.write_bytes(path.read_bytes().replace(old, new))

    return change


def shared_person(root):
    trees.mars_info(root, "train", [(2, 1, 1, 2), *trees.MARS_TRAIN])


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (cut_in_zip, ValueError, r"bbox_train.zip: bbox_train/0003/0003C1T0001F002.jpg is a truncated image"),
        (text_in_zip, ValueError, r"bbox_test.zip: .*0000C2T0001F001.jpg is neither a JPEG nor a PNG"),
        (drop_in_zip, FileNotFoundError, r"bbox_test.zip: 1 of the 18 frames .*0002C3T0001F004.jpg"),
        (climb_in_zip, ValueError, r"'../outside.jpg' leads outside"),
        (absolute_in_zip, ValueError, r"'/etc/outside.jpg' leads outside"),
        (not_a_zip, ValueError, r"bbox_test.zip is no whole zip or tar"),
        (wrong_key, ValueError, r"tracks_test_info.mat lacks the key 'track_test_info' \(it has \['tracks'\]\)"),
        (wrong_shape, ValueError, r"tracks_test_info.mat: track_test_info has shape \(3, 5\)"),
        (no_matrix, ValueError, r"query_IDX.mat is no readable MATLAB file"),
        (queries(3, 8), ValueError, r"query_IDX points outside of the 7 rows"),
        (queries(0, 3), ValueError, r"query_IDX points outside of the 7 rows"),
        (queries(3, 3), ValueError, r"query_IDX names a row twice"),
        (queries(1, 3), ValueError, r"query_IDX names a junk or distractor"),
        (change_rows(1, 4, 13), ValueError, r"tracks_train_info.mat, row 5 .* outside of the list of 12 names"),
        (change_rows(0, 0, 0), ValueError, r"tracks_train_info.mat, row 1 .* outside of the list"),
        (change_rows(2, 0, 3), ValueError, r"row 1 .* its frames are of another person"),
        (change_rows(3, 3, 1), ValueError, r"row 4 .* its frames are of another camera"),
        (change_rows(1, 0, 4), ValueError, r"row 1 .* its frames are of another camera"),
        (change_rows(0, 2, 6), None, None),
        (change_names(b"0001C1T0001F003", b"0001C1T0002F003"), ValueError, r"row 1 .* of two tracklets"),
        (change_names(b"0001C1T0001F001", b"0001C1T0001F009"), ValueError, r"row 1 .* not in time order"),
        (change_names(b"0001C1T0001F003", b"0001C1T0001F002"), ValueError, r"0001C1T0001F002.jpg is listed twice"),
        (change_names(b"0001C1T0001F003", b"0001_c1_f3"), ValueError, r"train_name.txt, line 3: .* no frame name"),
        (shared_person, ValueError, r"person 2 is in the train and in the test table"),
    ],
)
def test_damage_is_named_and_leaves_nothing(tmp_path, damage, kind, message):
    root = trees.mars_tree(tmp_path / "download")
    damage(root)
    if kind is None:  # rows may leave frames of the list unused
        assert load(config(tmp_path)).train.table.length.tolist() == [3, 1, 3, 2, 2]
        return
    with pytest.raises(kind, match=message):
        load(config(tmp_path))
    assert not prepared(tmp_path)


def test_rows_that_repeat_each_other_are_refused(tmp_path):
    root = trees.mars_tree(tmp_path / "download")
    path = root / "info" / "tracks_train_info.mat"
    rows = scipy.io.loadmat(path)["track_train_info"]
    trees.write_matrix(path, "track_train_info", np.concatenate([rows, rows[:1]]))
    with pytest.raises(ValueError, match=r"row 1 .* shares frames with another row"):
        load(config(tmp_path))
    halves = np.array([[5, 6, 3, 1], [7, 8, 3, 1]], rows.dtype)
    trees.write_matrix(path, "track_train_info", np.concatenate([rows[:2], halves]))
    with pytest.raises(ValueError, match=r"row 3 .* its tracklet is in the table twice"):
        load(config(tmp_path))


def test_damage_in_folders_is_named(tmp_path):
    root = trees.mars_tree(tmp_path / "download", zipped=False)
    frame = root / "bbox_test" / "0004" / "0004C5T0001F002.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"bbox_test: 0004/0004C5T0001F002.jpg is a truncated image"):
        load(config(tmp_path))
    frame.unlink()
    with pytest.raises(FileNotFoundError, match=r"0004/0004C5T0001F002.jpg is named in the tables but is not there"):
        load(config(tmp_path))
    assert not prepared(tmp_path)
    frame.write_bytes(whole)
    assert len(load(config(tmp_path)).test) == len(trees.MARS_TEST)


def test_a_missing_part_of_the_download_says_what_to_get(tmp_path):
    root = trees.mars_tree(tmp_path / "download")
    (root / "bbox_test.zip").rename(tmp_path / "elsewhere.zip")
    with pytest.raises(FileNotFoundError, match=r"bbox_test.zip is in .*\n(.|\n)*liangzheng06/MARS-evaluation"):
        prepare(config(tmp_path))
    (root / "info" / "query_IDX.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"query_IDX.mat is missing"):
        prepare(config(tmp_path))
    (root / "info" / "tracks_train_info.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"no MARS tables"):
        prepare(config(tmp_path))


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    trees.mars_tree(tmp_path / "download")

    def interrupted(data, where):
        if "0002C3" in where:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_builders.mars.check_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(config(tmp_path))
    assert not [path for path in tmp_path.glob("data/mars/**/*") if path.is_file()]
    assert len(load(config(tmp_path)).test) == len(trees.MARS_TEST)


KILLED = """
import sys, time
import data_builders.mars as mars
from data_builders import prepare
from reid_jax.config import DataConfig
def stop(data, where):
    if "0002C3" in where:
        print("reading", flush=True)
        time.sleep(60)
mars.check_image = stop
prepare(DataConfig(dataset="mars", data_dir=sys.argv[1], manual_dir=sys.argv[2]))
"""


def test_a_killed_preparation_is_not_taken_for_whole(tmp_path):
    trees.mars_tree(tmp_path / "download")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data"), str(tmp_path / "download")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert any(line.strip() == "reading" for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("data/mars/*/incomplete.*/*"))
    assert not prepared(tmp_path)
    raw = list(trees.mars_frames("test", trees.MARS_TEST).values())
    splits = load(config(tmp_path))
    assert [frame for row in range(len(splits.test)) for frame in splits.test.encoded(row)] == raw


FULL_DISK = """
import resource, signal, sys
from data_builders import prepare
from reid_jax.config import DataConfig
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    prepare(DataConfig(dataset="mars", data_dir=sys.argv[1], manual_dir=sys.argv[2]))
except OSError as error:
    print("OSError:", error)
"""


def test_a_full_disk_is_a_clear_error(tmp_path):
    trees.mars_tree(tmp_path / "download")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "data"), str(tmp_path / "download")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert "OSError:" in output and "cannot be written" in output and "are free on this disk" in output
    assert not prepared(tmp_path)


def test_a_deflated_member_with_other_bytes_is_named(tmp_path):
    place, content = tmp_path / "frames.zip", np.random.default_rng(0).integers(0, 9, 5000).astype(np.uint8).tobytes()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", content)
    whole = bytearray(place.read_bytes())
    whole[60:72] = bytes(12)
    place.write_bytes(whole)
    with pytest.raises(ValueError, match=f"{place}: a/1.jpg is damaged.*download this file again"):
        sources.open_source(place).read("a/1.jpg")
