"""Batches: contents against their own draws, resumption, workers, sharding, evaluation buckets."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from reid_jax.config import DataConfig
from reid_jax.data import evaluation_batches, plan_buckets, training_batches
from reid_jax.frames import decode_clip
from reid_jax.sampling import WHOLE, draw_pair, index_pairs
from reid_jax.tracklets import Tracklets, TrackletTable

DATA = DataConfig(frames=5, height=32, width=16, workers=0)
# (person, camera, length); a tracklet of a single frame and junk among them.
ROWS = [(4, 1, 9), (4, 2, 1), (6, 1, 5), (6, 3, 3), (9, 2, 7), (-1, 1, 4), (2, 1, 17), (2, 2, 33), (2, 3, 4)]


@pytest.fixture(scope="module")
def tracklets():
    generator = np.random.default_rng(0)
    records = []
    for _, _, length in ROWS:
        noise = generator.integers(0, 256, (length, 64, 32, 3)).astype(np.uint8)
        records.append({"frames": [cv2.imencode(".png", image)[1].tobytes() for image in noise]})
    person, camera, length = (np.array(column) for column in zip(*ROWS, strict=True))
    names = [f"t{row}" for row in range(len(ROWS))]
    return Tracklets(
        TrackletTable(person, camera, length, np.zeros(len(ROWS), bool), names), records, np.arange(len(ROWS))
    )


def damaged(tracklets, row):
    records = list(tracklets.records)
    records[row] = {"frames": [frame[:-30] for frame in records[row]["frames"]]}
    return replace(tracklets, records=records)


def take(count, *arguments, **options):
    with closing(training_batches(*arguments, **options)) as batches:
        return [next(batches) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def test_batches_hold_what_was_drawn(tracklets):
    index = index_pairs(tracklets.table)
    for k, batch in enumerate(take(3, tracklets, DATA, 4, 7)):
        assert batch["frames"].shape == (4, 2, 5, 32, 16, 3) and batch["frames"].dtype == np.uint8
        assert batch["mask"].shape == (4, 2, 5) and batch["mask"].dtype == bool
        assert batch["same"].shape == (4,) and batch["same"].dtype == bool and batch["same"].sum() == 2
        assert batch["person"].dtype == batch["row"].dtype == np.int32
        for b in range(4):
            pair = draw_pair(index, 7, 4 * k + b, DATA)
            for side, draw in enumerate(pair.clips):
                encoded = tracklets.encoded(draw.row)
                clip = decode_clip(encoded, draw.frames, 32, 16, draw.augmentation, "t")
                np.testing.assert_array_equal(batch["frames"][b, side, : draw.count], clip)
                assert (batch["frames"][b, side, draw.count :] == 0).all()


def test_masks_equal_lengths_and_persons_fit_rows(tracklets):
    persons = np.array([2, 4, 6, 9])
    lengths = set()
    for batch in take(5, tracklets, DATA, 6, 0):
        expected = np.minimum(tracklets.table.length[batch["row"]], DATA.frames)
        np.testing.assert_array_equal(batch["mask"].sum(-1), expected)
        np.testing.assert_array_equal(batch["mask"], np.arange(DATA.frames) < expected[..., None])
        np.testing.assert_array_equal(persons[batch["person"]], tracklets.table.person[batch["row"]])
        np.testing.assert_array_equal(batch["same"], batch["person"][:, 0] == batch["person"][:, 1])
        lengths |= set(expected.ravel())
    assert 1 in lengths and DATA.frames in lengths


def test_seeds_reproduce_and_differ(tracklets):
    assert_same(take(3, tracklets, DATA, 4, 1), take(3, tracklets, DATA, 4, 1))
    rows, others = (np.stack([batch["row"] for batch in take(3, tracklets, DATA, 4, seed)]) for seed in (1, 2))
    assert not np.array_equal(rows, others)


def test_workers_change_nothing_and_both_resume_exactly(tracklets):
    whole = take(7, tracklets, DATA, 4, 3)
    for workers in (0, 2):
        data = replace(DATA, workers=workers)
        with closing(training_batches(tracklets, data, 4, 3)) as batches:
            assert_same([next(batches) for _ in range(3)], whole[:3])
            state = json.loads(json.dumps(batches.get_state()))
            assert_same([next(batches) for _ in range(2)], whole[3:5])
        with closing(training_batches(tracklets, data, 4, 3)) as resumed:
            resumed.set_state(state)
            assert_same([next(resumed) for _ in range(4)], whole[3:])


def test_an_iterator_goes_back_to_an_earlier_state(tracklets):
    with closing(training_batches(tracklets, DATA, 4, 3)) as batches:
        next(batches)
        state = batches.get_state()
        ahead = [next(batches) for _ in range(3)]
        batches.set_state(state)
        assert_same([next(batches) for _ in range(3)], ahead)


def test_first_batch_enters_the_same_order_anywhere(tracklets):
    whole = take(5, tracklets, DATA, 4, 3)
    assert_same(take(2, tracklets, DATA, 4, 3, first_batch=3), whole[3:])
    assert take(1, tracklets, DATA, 4, 3, first_batch=10**12)[0]["same"].sum() == 2


def test_processes_share_each_batch_between_them(tracklets):
    whole = take(3, tracklets, DATA, 6, 3, first_batch=1)
    shares = [take(3, tracklets, DATA, 6, 3, first_batch=1, process_index=p, process_count=3) for p in range(3)]
    for k, batch in enumerate(whole):
        joined = {key: np.concatenate([share[k][key] for share in shares]) for key in batch}
        assert_same([joined], [batch])


@pytest.mark.parametrize(("pairs", "processes"), [(5, 1), (0, 1), (4, 3)])
def test_a_batch_that_cannot_be_halved_or_shared_is_an_error(tracklets, pairs, processes):
    with pytest.raises(ValueError, match=f"batch_pairs is {pairs}"):
        training_batches(tracklets, DATA, pairs, 0, process_count=processes)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_frame_stops_training_with_its_tracklet_named(tracklets, workers):
    with pytest.raises(ValueError, match="of tracklet t1 "):
        take(20, damaged(tracklets, 1), replace(DATA, workers=workers), 4, 0)


@dataclass(frozen=True)
class FeatureReader:
    """Cached features, as far as these tests need them: row and frame number of every frame."""

    def __call__(self, draw):
        frames = np.arange(10**6)[draw.frames]
        return {"features": np.stack([np.full_like(frames, draw.row), frames], -1).astype(np.float16)}


def test_another_reader_fills_the_batches(tracklets):
    for batch in take(3, tracklets, DATA, 4, 0, FeatureReader()):
        assert batch.keys() == {"features", "mask", "same", "person", "row"}
        features, mask = batch["features"], batch["mask"]
        assert features.shape == (4, 2, 5, 2) and features.dtype == np.float16
        np.testing.assert_array_equal(features[..., 0], np.where(mask, batch["row"][..., None], 0))
        steps = np.diff(features[..., 1], axis=-1)
        assert (steps[mask[..., 1:]] == 1).all()
        assert (features[~mask] == 0).all()


def evaluated(tracklets, embed_frames, embed_batch, view="whole", condition=WHOLE, read_clip=None):
    batches = evaluation_batches(tracklets, 32, 16, embed_frames, embed_batch, condition, view, read_clip)
    with closing(batches):
        return list(batches)


def test_processes_share_each_evaluation_batch_between_them(tracklets):
    def shares(process, count):
        options = dict(multiple=4, process_index=process, process_count=count)
        with closing(evaluation_batches(tracklets, 32, 16, 0, 16, WHOLE, "whole", **options)) as batches:
            return list(batches)

    whole, halves = shares(0, 1), [shares(process, 2) for process in range(2)]
    assert {len(batch["row"]) % 4 for batch in whole} == {0}
    assert sorted(row for batch in whole for row in batch["row"] if row >= 0) == list(range(len(ROWS)))
    for k, batch in enumerate(whole):
        np.testing.assert_array_equal(halves[0][k]["row"], batch["row"])
        np.testing.assert_array_equal(halves[1][k]["row"], batch["row"])
        for key in ("frames", "mask"):
            joined = np.concatenate([half[k][key] for half in halves])
            np.testing.assert_array_equal(joined, batch[key], err_msg=key)


def test_every_tracklet_is_evaluated_once_and_whole(tracklets):
    rows = []
    for batch in evaluated(tracklets, 0, 16):
        for clip, mask, row in zip(batch["frames"], batch["mask"], batch["row"], strict=True):
            if row < 0:
                assert not mask.any() and not clip.any()
                continue
            rows.append(row)
            length = ROWS[row][2]
            np.testing.assert_array_equal(mask, np.arange(len(mask)) < length)
            expected = decode_clip(tracklets.encoded(int(row)), slice(0, length), 32, 16, WHOLE, "t")
            np.testing.assert_array_equal(clip[:length], expected)
    assert sorted(rows) == list(range(len(ROWS)))


@pytest.mark.parametrize("embed_batch", [1, 8, 16, 4096])
def test_buckets_are_powers_of_two_with_one_batch_size_each(tracklets, embed_batch):
    shapes = Counter()
    for batch in evaluated(tracklets, 0, embed_batch):
        clips, frames = batch["mask"].shape
        assert frames in (4, 8, 16, 32, 64)
        assert clips * frames <= embed_batch or clips == 1
        lengths = batch["mask"].sum(-1)[batch["row"] >= 0]
        assert ((lengths > frames // 2) | (frames == 4)).all()
        shapes[frames, clips] += 1
    assert len(shapes) == len({frames for frames, _ in shapes})


def test_long_tracklets_keep_to_powers_of_two(tracklets):
    length = tracklets.table.length.copy()
    length[0] = 1500
    long = replace(tracklets, table=replace(tracklets.table, length=length))
    assert plan_buckets(long, 0, 2048, WHOLE, "whole")[-1].frames == 2048


@pytest.mark.parametrize("view", ["whole", "first", "last"])
def test_views_take_the_first_or_the_last_frames(tracklets, view):
    for batch in evaluated(tracklets, 6, 24, view, read_clip=FeatureReader()):
        assert batch["mask"].shape[1] in (4, 6)
        for features, mask, row in zip(batch["features"], batch["mask"], batch["row"], strict=True):
            if row >= 0:
                length = ROWS[row][2]
                expected = np.arange(length)[-6:] if view == "last" else np.arange(length)[:6]
                np.testing.assert_array_equal(features[mask, 1], expected)
                assert (features[mask, 0] == row).all()


def test_a_view_without_a_length_is_an_error(tracklets):
    with pytest.raises(ValueError, match="'last' needs embed_frames"):
        evaluated(tracklets, 0, 16, "last")


def test_conditions_reach_the_frames(tracklets):
    plain, mirrored = (
        evaluated(tracklets, 0, 16, condition=condition) for condition in (WHOLE, replace(WHOLE, mirror=True))
    )
    for batch, other in zip(plain, mirrored, strict=True):
        np.testing.assert_array_equal(batch["frames"][..., ::-1, :], other["frames"])


def test_a_truncated_frame_stops_evaluation_with_its_tracklet_named(tracklets):
    with pytest.raises(ValueError, match="frame 0 of tracklet t3 "):
        evaluated(damaged(tracklets, 3), 0, 16)
