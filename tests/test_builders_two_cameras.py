"""The builders of iLIDS-VID and PRID 2011: folders and archives alike, published and seeded splits, damage named."""

import json
from pathlib import Path

import numpy as np
import official_trees as trees
import pytest

from data_builders import load
from data_builders.counts import count
from data_builders.prid2011 import LEFT_OUT, published_trials
from data_builders.two_cameras import seeded_halves
from reid_jax.config import DataConfig
from reid_jax.tracklets import Splits

PUBLISHED_PRID = Path(__file__).parents[1].parent / "shared" / "prid2011" / "splits_prid2011.json"
TREES = {"ilids_vid": trees.ilids_tree, "prid2011": trees.prid_tree}


def load_tree(root: Path, dataset: str, **settings) -> Splits:
    return load(DataConfig(dataset=dataset, data_dir=str(root / "data"), manual_dir=str(root / "download"), **settings))


def persons(splits: Splits) -> tuple[list[int], list[int]]:
    return tuple(sorted(set(half.table.person.tolist())) for half in (splits.train, splits.test))


@pytest.mark.parametrize("dataset", TREES)
def test_folders_and_archives_give_identical_records(tmp_path, dataset):
    for kind in ("folder", "archive"):
        TREES[dataset](tmp_path / kind / "download", archive=kind == "archive")
    found = [load_tree(tmp_path / kind, dataset) for kind in ("folder", "archive")]
    for half in ("train", "test"):
        one, two = (getattr(splits, half) for splits in found)
        assert one.table.name == two.table.name
        assert [list(one.encoded(row)) for row in range(len(one))] == [
            list(two.encoded(row)) for row in range(len(two))
        ]
    keys = [path.name for path in sorted(tmp_path.glob(f"*/data/{dataset}/*"))]
    assert len(keys) == 2 and len(set(keys)) == 1


@pytest.mark.parametrize(("dataset", "frames"), [("ilids_vid", trees.ilids_frames), ("prid2011", trees.prid_frames)])
def test_records_are_the_files_in_time_order(tmp_path, dataset, frames):
    TREES[dataset](tmp_path / "download")
    splits = load_tree(tmp_path, dataset)
    files = frames()
    for half in (splits.train, splits.test):
        for row, name in enumerate(half.table.name):
            expected = [files[path] for path in sorted(files) if f"/{name}/" in path]
            assert list(half.encoded(row)) == expected
            assert half.table.length[row] == len(expected)
            record = half.records[int(half.index[row])]
            assert (record["person"], record["camera"]) == (half.table.person[row], half.table.camera[row])
        assert not half.table.query.any()
        assert set(half.table.camera.tolist()) == {1, 2}


def test_ilids_reads_the_split_file_both_ways(tmp_path):
    trees.ilids_tree(tmp_path / "download")
    for split, row in enumerate(trees.ILIDS_SPLITS):
        in_order = [trees.ILIDS_PERSONS[index - 1] for index in row]
        first, last = sorted(in_order[:2]), sorted(in_order[2:])
        assert persons(load_tree(tmp_path, "ilids_vid", split=split)) == (last, first)
        assert persons(load_tree(tmp_path, "ilids_vid", split=split, split_order="train_first")) == (first, last)
    assert "published split 0 of 2 (test first)" in load_tree(tmp_path, "ilids_vid").description


def test_ilids_finds_the_split_file_beside_its_extracted_folder(tmp_path, capsys):
    root = trees.ilids_tree(tmp_path / "download")
    deeper = DataConfig(dataset="ilids_vid", data_dir=str(tmp_path / "data"), manual_dir=str(root / "i-LIDS-VID"))
    assert "published split 0 of 2" in load(deeper).description
    assert "2 splits (test first), from the published file" in capsys.readouterr().out


def test_prid_has_the_published_and_the_200_person_splits(tmp_path):
    trees.prid_tree(tmp_path / "download")
    assert persons(load_tree(tmp_path, "prid2011", split=1)) == ([2, 3], [1, 4])
    seen = {tuple(map(tuple, persons(load_tree(tmp_path, "prid2011", split=i, prid_persons=200)))) for i in range(10)}
    assert len(seen) > 1
    assert all(sorted(train + test) == [1, 2, 3, 4] for train, test in seen)
    assert "seeded split 0 of 10 (200)" in load_tree(tmp_path, "prid2011", prid_persons=200).description


def test_prid_numbers_above_200_are_other_persons_in_each_camera(tmp_path):
    trees.prid_tree(tmp_path / "download")
    load_tree(tmp_path, "prid2011")
    metadata = json.loads(next(tmp_path.glob("data/prid2011/*/*/metadata.json")).read_text())
    table = metadata["tables"]["sequences"]
    cameras = {
        person: {c for p, c in zip(table["person"], table["camera"], strict=True) if p == person}
        for person in table["person"]
    }
    assert cameras == {1: {1, 2}, 2: {1, 2}, 3: {1, 2}, 4: {1, 2}, 201: {1}, 1201: {2}, 1202: {2}}


@pytest.mark.parametrize("dataset", TREES)
def test_without_a_split_file_there_are_ten_seeded_halves(tmp_path, dataset):
    TREES[dataset](tmp_path / "download", splits=False)
    found = [load_tree(tmp_path, dataset, split=split) for split in range(10)]
    assert found[3].description.count("seeded split 3 of 10") == 1
    halves = [persons(splits) for splits in found]
    assert len({str(half) for half in halves}) > 1
    assert all(len(train) == len(test) == 2 and not set(train) & set(test) for train, test in halves)
    with pytest.raises(ValueError, match=r"split = 10: .* has 10 split"):
        load_tree(tmp_path, dataset, split=10)


def test_seeded_halves_are_halves_and_do_not_depend_on_order():
    trials = seeded_halves(range(1, 201))
    assert trials == seeded_halves(list(range(200, 0, -1)))
    assert len(trials) == 10
    assert all(len(t["train"]) == len(t["test"]) == 100 and not set(t["train"]) & set(t["test"]) for t in trials)
    assert len({tuple(t["train"]) for t in trials}) == 10


def test_the_published_prid_splits_leave_out_the_22_persons():
    if not PUBLISHED_PRID.exists():
        pytest.skip("the published PRID splits (../shared/prid2011) are not here")
    trials = published_trials(PUBLISHED_PRID, PUBLISHED_PRID.read_bytes(), list(range(1, 201)))
    assert [(len(t["train"]), len(t["test"])) for t in trials] == [(89, 89)] * 10
    everyone = set(range(1, 201)) - set(LEFT_OUT)
    assert all(set(t["train"]) | set(t["test"]) == everyone for t in trials)


def test_a_person_of_one_camera_is_kept_and_counted(tmp_path):
    root = trees.ilids_tree(tmp_path / "download", splits=False)
    for path in (root / "i-LIDS-VID/sequences/cam2/person010").iterdir():
        path.unlink()
    (root / "i-LIDS-VID/sequences/cam2/person010").rmdir()
    splits = load_tree(tmp_path, "ilids_vid")
    assert all(10 not in half for half in persons(splits))
    metadata = json.loads(next(tmp_path.glob("data/ilids_vid/*/*/metadata.json")).read_text())
    assert metadata["tables"]["sequences"]["person"].count(10) == 1
    assert count(load_tree(tmp_path, "ilids_vid").train.table)["persons in one camera"] == 0


def empty_person(root):
    (root / "i-LIDS-VID/sequences/cam2/person003").mkdir()


def empty_camera(root):
    (root / "i-LIDS-VID/sequences/cam2").rename(root / "cam2")


def cut_frame(root):
    path = root / "i-LIDS-VID/sequences/cam1/person319/cam1_person319_00008.png"
    path.write_bytes(path.read_bytes()[:-6])


def stray_image(root):
    (root / "i-LIDS-VID/sequences/cam1/person319/cam2_person319_00009.png").write_bytes(b"")


def same_frame(root):
    folder = root / "i-LIDS-VID/sequences/cam1/person001"
    (folder / "cam1_person001_7.png").write_bytes((folder / "cam1_person001_00007.png").read_bytes())


def split_matrix(matrix, key: str = "ls_set"):
    file = "train-test people splits/train_test_splits_ilidsvid.mat"
    return lambda root: trees.write_matrix(root / file, key, np.asarray(matrix))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_person, r"sequences/cam2/person003 has no frames \(1 such folders\)"),
        (empty_camera, r"no sequences of camera cam2"),
        (cut_frame, r"cam1_person319_00008.png is a truncated image"),
        (stray_image, r"cam2_person319_00009.png is not named as a frame"),
        (same_frame, r"cam1_person001_7.png and .*cam1_person001_00007.png are the same frame"),
        (split_matrix([[1, 2, 3]]), r"ls_set has shape \(1, 3\) and must order the 4 persons"),
        (split_matrix([[1, 2, 3, 3]]), r"ls_set has shape \(1, 4\) and must order the 4 persons"),
        (split_matrix([[1, 2, 3, 4]], "other"), r"lacks the key 'ls_set'"),
    ],
)
def test_damage_to_ilids_is_named(tmp_path, damage, message):
    damage(trees.ilids_tree(tmp_path / "download"))
    with pytest.raises(ValueError, match=message):
        load_tree(tmp_path, "ilids_vid")
    assert not list(tmp_path.glob("data/**/dataset_info.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"splits_prid2011.json is no list of train and test persons"),
        ('[{"train": ["person_0001"]}]', r"is no list of train and test persons"),
        ("[]", r"has no splits"),
        ('[{"train": ["person_0001"], "test": ["person_0001"]}]', r"split 0 names a person twice"),
        ('[{"train": ["person_0001"], "test": ["person_0201"]}]', r"names person_0201, who is not in both cameras"),
    ],
)
def test_damage_to_the_prid_splits_is_named(tmp_path, text, message):
    (trees.prid_tree(tmp_path / "download") / "splits_prid2011.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_tree(tmp_path, "prid2011")


@pytest.mark.parametrize(("dataset", "words"), [("ilids_vid", "Wang, Gong, Zhu"), ("prid2011", "Hirzer")])
def test_a_missing_download_says_what_to_get(tmp_path, dataset, words):
    (tmp_path / "download").mkdir()
    with pytest.raises(FileNotFoundError, match=words):
        load_tree(tmp_path, dataset)


@pytest.mark.parametrize("name", ["../climbs.png", "/absolute.png"])
def test_a_tar_that_leads_outside_is_refused(tmp_path, name):
    trees.write_tar(tmp_path / "download" / "iLIDS-VID.tar", {**trees.ilids_frames(), name: b""})
    with pytest.raises(ValueError, match="leads outside of the archive"):
        load_tree(tmp_path, "ilids_vid")


def test_frames_without_leading_zeros_are_in_the_order_of_their_numbers(tmp_path):
    folder = trees.prid_tree(tmp_path / "download", splits=False) / "prid_2011/multi_shot/cam_a/person_0001"
    (folder / "0001.png").unlink()
    frames = {number: trees.image(number, "PNG") for number in (2, 10, 9)}
    for number, data in frames.items():
        (folder / f"{number}.png").write_bytes(data)
    splits = load_tree(tmp_path, "prid2011", prid_persons=200)
    half = splits.train if 1 in splits.train.table.person else splits.test
    row = half.table.name.index("cam_a/person_0001")
    assert list(half.encoded(row)) == [frames[number] for number in (2, 9, 10)]
