"""Properties of the walkers: bytes from the seed alone, MARS's protocol, true boxes, and colour alone not enough."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_builders.pedestrians import gait, identity
from data_builders.pedestrians.body import parts_of
from data_builders.pedestrians.camera import CAMERAS
from data_builders.pedestrians.figure import View, rasterise
from data_builders.pedestrians.tracklet import PERSONS, Shot, person_box, render
from data_builders.walkers import Walkers, WalkersSpec, render_all
from reid_jax.histogram import histogram_embedding
from reid_jax.tracklets import DISTRACTOR, JUNK

ROOT = Path(__file__).parents[1]
TINY = WalkersSpec(train_persons=2, test_persons=3, cameras=3, distractors=2, junk=3)
SHOT = Shot(seed=7, serial=0, camera=1, length=4, stream=PERSONS, number=1, kind="person")


class TinyWalkers(Walkers):
    """A few walkers, drawn in a moment."""

    SPEC = TINY
    PROCESSES = 1


def decode(frames: list[bytes]) -> np.ndarray:
    return np.stack([cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) for data in frames])


def fingerprint(shots: list[Shot], processes: int) -> str:
    total = hashlib.sha256()
    for record in render_all(shots, processes):
        total.update(b"".join(record["frames"]) + record["box"].tobytes() + record["visible"].tobytes())
    return total.hexdigest()


def short(shots: list[Shot], count: int) -> list[Shot]:
    return [dataclasses.replace(shot, length=2) for shot in shots[:count]]


def test_the_same_seed_gives_the_same_bytes_in_any_process():
    _, shots = TINY.plan()
    here = fingerprint(short(shots["train"], 4), 1)
    code = (
        "from tests.test_walkers import TINY, fingerprint, short\n"
        "if __name__ == '__main__': print(fingerprint(short(TINY.plan()[1]['train'], 4), 1))"
    )
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


@pytest.mark.slow
def test_the_number_of_processes_does_not_change_the_bytes():
    _, shots = TINY.plan()
    assert fingerprint(short(shots["train"], 6), 2) == fingerprint(short(shots["train"], 6), 1)


def test_another_seed_gives_other_people():
    assert render(SHOT)["frames"][0] != render(dataclasses.replace(SHOT, seed=8))["frames"][0]


def test_a_key_belongs_to_one_spec():
    assert Walkers.key(None) == Walkers.key(None) != TinyWalkers.key(None)


def test_too_many_cameras_are_refused():
    with pytest.raises(ValueError, match="cameras"):
        WalkersSpec(cameras=len(CAMERAS) + 1)


def test_plan_has_the_sizes_of_its_spec():
    spec = WalkersSpec()
    tables, shots = spec.plan()
    train, test = tables["train"], tables["test"]
    assert len(np.unique(train.person)) == spec.train_persons
    assert len(np.unique(test.person[test.person > 0])) == spec.test_persons
    assert (test.person == JUNK).sum() == spec.junk
    assert (test.person == DISTRACTOR).sum() == spec.distractors
    assert not set(train.person) & set(test.person)
    for split, table in tables.items():
        assert table.length.min() >= 5 and table.length.max() <= 80
        assert set(table.camera) == set(range(1, spec.cameras + 1))
        assert len(set(table.name)) == len(table)
        assert [shot.length for shot in shots[split]] == list(table.length)
    serials = [shot.serial for split in shots.values() for shot in split]
    assert len(set(serials)) == len(serials)


def test_every_test_person_has_one_query_in_each_of_their_cameras():
    tables, _ = WalkersSpec().plan()
    test = tables["test"]
    real = test.person > 0
    places = set(zip(test.person[real], test.camera[real], strict=True))
    queries = list(zip(test.person[test.query], test.camera[test.query], strict=True))
    assert set(queries) == places and len(queries) == len(places)
    assert not tables["train"].query.any()


def test_some_persons_are_in_one_camera_and_most_in_several():
    train = WalkersSpec().plan()[0]["train"]
    cameras = np.array([len(np.unique(train.camera[train.person == person])) for person in np.unique(train.person)])
    assert 0 < (cameras == 1).mean() < 0.15
    assert cameras.mean() > 3


def test_box_and_visible_are_those_of_the_person():
    records = [render(dataclasses.replace(SHOT, serial=serial, camera=1 + serial % 6)) for serial in range(12)]
    boxes, visible = (np.concatenate([record[name] for record in records]) for name in ("box", "visible"))
    assert boxes.dtype == visible.dtype == np.float32
    assert ((boxes >= 0) & (boxes <= 1)).all() and ((visible >= 0) & (visible <= 1)).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides[:, 1] > 0.65).all(), "the person fills most of the height"
    assert (np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - 0.5) < 0.3).all()
    assert 0.5 < visible.mean() < 1, "some are hidden in part, most are in sight"


def test_a_frame_differs_most_inside_the_box_when_only_the_person_changes():
    first, second = (decode(render(dataclasses.replace(SHOT, number=number))["frames"]) for number in (1, 2))
    x0, y0, x1, y1 = render(SHOT)["box"][0] * np.array([64, 128, 64, 128])
    change = np.abs(first[0].astype(int) - second[0]).mean(axis=-1)
    inside = change[int(y0) : int(y1), int(x0) : int(x1)].mean()
    assert inside > 2 * change[:8].mean()


def test_nobody_is_in_a_background_box():
    record = render(dataclasses.replace(SHOT, kind="background"))
    assert not record["box"].any() and not record["visible"].any()


def test_a_person_box_bounds_the_mask():
    mask = np.zeros((10, 20), bool)
    mask[2:5, 4:14] = True
    np.testing.assert_allclose(person_box(mask), [0.2, 0.2, 0.7, 0.5])


def test_feet_stand_on_the_ground_and_legs_alternate():
    who = identity.draw_identity(np.random.default_rng(3))
    phase = np.linspace(0, 1, 40, endpoint=False)
    joints = gait.walk(who, phase)
    soles = joints[:, [gait.JOINT[name] for name in ("heel_l", "heel_r", "toe_l", "toe_r")], 1]
    np.testing.assert_allclose(soles.min(axis=1), 0.018 * who.build.height, atol=1e-5)
    left, right = (joints[:, gait.JOINT[f"ankle_{side}"], 2] for side in "lr")
    np.testing.assert_allclose(left, np.roll(right, 20), atol=0.02 * who.build.height)
    assert np.corrcoef(left, right)[0, 1] < -0.8
    arm = joints[:, gait.JOINT["wrist_l"], 2]
    if who.bag not in ("hand", "suitcase"):
        assert np.corrcoef(left, arm)[0, 1] < 0, "the arm swings against the leg of its side"


def test_a_person_is_wider_from_the_front_than_from_the_side():
    who = identity.draw_identity(np.random.default_rng(3))
    joints = gait.walk(who, np.array([0.25]))[0]
    trunk = [part for part in parts_of(who) if part.start == gait.JOINT["neck"]]
    widths = []
    for yaw in (0.0, np.pi / 2):
        mask = rasterise(trunk, joints, View(yaw, 0.1, 8.0, 120.0, 64.0, 240.0), (256, 128)).mask
        widths.append(mask.any(axis=0).sum())
    assert widths[0] > 1.3 * widths[1]


def test_the_builder_writes_what_was_planned(tmp_path):
    builder = TinyWalkers(
        data_dir=tmp_path, config=tfds.core.BuilderConfig(name=TinyWalkers.key(None), version="1.0.0")
    )
    builder.download_and_prepare(file_format="array_record")
    tables, shots = TINY.plan()
    for split, table in tables.items():
        records = builder.as_data_source(split)
        assert len(records) == len(table)
        for row in (0, len(table) - 1):
            record, drawn = records[row], render(shots[split][row])
            assert list(record["frames"]) == drawn["frames"]
            assert (record["person"], record["camera"]) == (table.person[row], table.camera[row])
            np.testing.assert_array_equal(record["box"], drawn["box"])
            np.testing.assert_array_equal(record["visible"], drawn["visible"])
            assert decode(record["frames"]).shape == (table.length[row], 128, 64, 3)


def test_histogram_embedding_is_the_root_of_shares():
    frames = np.random.default_rng(0).integers(0, 256, (3, 12, 9, 3), np.uint8)
    embedding = histogram_embedding(frames, 4, (4, 3, 2))
    assert embedding.shape == (5 * 24,) and embedding.dtype == np.float32
    np.testing.assert_allclose((embedding.reshape(5, 24) ** 2).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(histogram_embedding(frames[::-1], 4, (4, 3, 2)), embedding, rtol=1e-6)


def test_histogram_embedding_counts_colours_where_they_are():
    frame = np.zeros((1, 8, 6, 3), np.uint8)
    frame[:, :4] = (255, 0, 0)
    frame[:, 4:] = (0, 0, 255)
    whole, top, bottom = histogram_embedding(frame, 2, (6, 2, 2)).reshape(3, 6, 2, 2)
    assert top[0, 1, 1] == bottom[4, 1, 1] == 1
    np.testing.assert_allclose([whole[0, 1, 1], whole[4, 1, 1]], np.sqrt(0.5))


def test_histogram_embedding_refuses_what_it_cannot_count():
    with pytest.raises(ValueError, match="empty"):
        histogram_embedding(np.zeros((0, 8, 4, 3), np.uint8), 2, (4, 4, 4))
    with pytest.raises(ValueError, match="strips"):
        histogram_embedding(np.zeros((1, 8, 4, 3), np.uint8), 9, (4, 4, 4))


@pytest.mark.slow
def test_colour_alone_is_not_enough():
    tables, shots = WalkersSpec().plan()
    test = tables["test"]
    drawn = [render(dataclasses.replace(shot, length=3)) for shot in shots["test"]]
    embedding = np.stack([histogram_embedding(decode(record["frames"]), 6, (8, 8, 8)) for record in drawn])
    firsts = []
    for query in np.flatnonzero(test.query):
        same = test.person == test.person[query]
        shown = (test.person != JUNK) & ~(same & (test.camera == test.camera[query]))
        if (same & shown).any():
            distance = np.linalg.norm(embedding - embedding[query], axis=1)
            firsts.append(same[np.flatnonzero(shown)[np.argmin(distance[shown])]])
    assert 0.1 < np.mean(firsts) < 0.35
