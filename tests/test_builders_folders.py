"""A user's own data set: what is read of its folders, what is refused, and a whole run on it."""

from pathlib import Path

import numpy as np
import official_trees as trees
import pytest

from data_builders import load, prepare
from data_builders.folders import Folders
from data_builders.load import prepared_folders
from experiments import command_line
from reid_jax import runs, scoring, workdir
from reid_jax.config import DataConfig
from reid_jax.presets import preset
from reid_jax.protocols import PROTOCOLS

TRAIN = ("0001_1", "0001_2_morning", "0001_2_noon", "2_1", "2_c3", "30_1", "30_2")
TEST = ("7_1", "7_2_b", "7_2_a", "8_1", "8_2", "0_1_crowd")


def make(root: Path, train=TRAIN, test=TEST, frames=3) -> Path:
    for half, names in (("train", train), ("test", test)):
        for row, name in enumerate(names):
            files = {
                f"{half}/{name}/{number:02}.jpg": trees.image(20 * row + number, "JPEG") for number in range(frames)
            }
            trees.write_files(root, files)
    return root


def config(root: Path) -> DataConfig:
    return DataConfig(dataset="folders", data_dir=str(root / "data"), manual_dir=str(root / "own"))


def test_persons_cameras_and_queries_are_those_of_the_names(tmp_path):
    root = make(tmp_path / "own")
    trees.write_files(root, {"test/.DS_Store": b"x", "test/7_1/._00.jpg": b"x", "test/7_1/notes.txt": b"x"})
    (root / "train" / "__MACOSX").mkdir()
    splits = load(config(tmp_path))
    found = {half: list(zip(t.person, t.camera, t.length, t.query, t.name, strict=True)) for half, t in (
        ("train", splits.train.table), ("test", splits.test.table))}  # fmt: skip
    assert found["train"] == [
        (person, camera, 3, False, name)
        for person, camera, name in zip((1, 1, 1, 2, 2, 30, 30), (1, 2, 2, 1, 3, 1, 2), TRAIN, strict=True)
    ]
    assert found["test"] == [
        (0, 1, 3, False, "0_1_crowd"), (7, 1, 3, True, "7_1"), (7, 2, 3, True, "7_2_a"), (7, 2, 3, False, "7_2_b"),
        (8, 1, 3, True, "8_1"), (8, 2, 3, True, "8_2"),
    ]  # fmt: skip
    assert splits.description == "own: 7 train and 6 test tracklets"
    paths = sorted((root / "test" / "7_2_a").iterdir())
    assert list(splits.test.encoded(2)) == [path.read_bytes() for path in paths]
    assert PROTOCOLS[preset("default", "folders").evaluate.protocol](splits.test.table).probe_rows.tolist() == [
        1,
        2,
        4,
        5,
    ]


def test_what_was_changed_is_prepared_anew(tmp_path):
    make(tmp_path / "own")
    prepare(config(tmp_path))
    prepare(config(tmp_path))
    assert len(prepared_folders(Folders, config(tmp_path))) == 1
    path = tmp_path / "own" / "train" / "2_1" / "00.jpg"
    path.write_bytes(trees.image(999, "JPEG"))
    row = load(config(tmp_path)).train.table.name.index("2_1")
    assert load(config(tmp_path)).train.encoded(row)[0] == path.read_bytes()


@pytest.mark.parametrize(
    ("change_tree", "error", "message"),
    [
        ({"train/anna_1/0.jpg": b""}, ValueError, r"train/anna_1 is not named PERSON_CAMERA"),
        ({"train/5_0/0.jpg": b""}, ValueError, r"train/5_0: camera 0"),
        ({"test/1_3/0.jpg": b""}, ValueError, r"person 1 is in train/ and in test/"),
        ({"test/9_1/notes.txt": b""}, ValueError, r"test/9_1 holds no .jpg or .png image"),
        ({"test/9_1/0.jpg": b"\xff\xd8 cut"}, ValueError, r"test/9_1/0.jpg is a truncated image"),
    ],
)
def test_damage_is_named(tmp_path, change_tree, error, message):
    make(tmp_path / "own")
    trees.write_files(tmp_path / "own", change_tree)
    with pytest.raises(error, match=message):
        load(config(tmp_path))
    assert prepared_folders(Folders, config(tmp_path)) == []


def test_a_missing_half_says_how_the_data_has_to_lie(tmp_path):
    make(tmp_path / "own", test=())
    with pytest.raises(FileNotFoundError, match=r"own/test is no folder(.|\n)*PERSON_CAMERA_ANYTHING"):
        load(config(tmp_path))


@pytest.mark.usefixtures("quick_compilation")
def test_the_program_trains_and_evaluates_on_it(tmp_path):
    make(tmp_path / "own")
    small = (
        "--dataset folders --backbone rcn --no-pretrained --height 16 --width 8 --frames 2 --channels 4 "
        "--input-kernels 3 --state-kernels 3 --state-hidden 8 --batch-pairs 4 --steps 2 --checkpoint-every 2 "
        "--validate-every 2 --validation-persons 0 --embed-batch 64"
    ).split()
    places = ["--manual-dir", str(tmp_path / "own"), "--data-dir", str(tmp_path / "data")]
    arguments = command_line.parse("", [*small, *places, "--workdir", str(tmp_path / "run")])
    splits = load(arguments.config.data)
    workdir.open_workdir(arguments.workdir, arguments.config, resume=False, overwrite=False)
    assert runs.fit_run(arguments.config, arguments.workdir, splits)
    results = scoring.evaluate_run(arguments.config, arguments.workdir, splits)
    assert (results["dataset"], results["probes"], results["gallery"]) == ("folders", 4, 6)
    assert 0 < results["map"] <= 100 and np.isfinite(results["baselines"]["HSV histogram"]["map"])
