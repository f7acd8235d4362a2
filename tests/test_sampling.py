"""Pairs: balance, persons and cameras, clips within their tracklets, reproducible draws."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from reid_jax import sampling
from reid_jax.config import DataConfig
from reid_jax.sampling import draw_pair, index_pairs
from reid_jax.tracklets import DISTRACTOR, JUNK, TrackletTable

# (person, camera, length): 9 and 5 are seen in one camera only, 7 has many tracklets in camera 1.
ROWS = [
    (7, 1, 30),
    (7, 1, 5),
    (7, 1, 8),
    (7, 1, 9),
    (7, 2, 21),
    (3, 2, 1),
    (3, 4, 40),
    (8, 1, 20),
    (8, 2, 19),
    (8, 3, 50),
    (9, 2, 12),
    (5, 2, 7),
    (JUNK, 1, 9),
    (DISTRACTOR, 2, 9),
]
FRAMES = 20


def table_of(rows):
    person, camera, length = (np.array(column) for column in zip(*rows, strict=True))
    return TrackletTable(person, camera, length, np.zeros(len(rows), bool), [f"t{row}" for row in range(len(rows))])


def draws(count, seed=0, rows=ROWS, **settings):
    index, data = index_pairs(table_of(rows)), DataConfig(**{"frames": FRAMES, **settings})
    return [draw_pair(index, seed, i, data) for i in range(count)]


def test_every_even_run_of_pairs_is_half_positive():
    same = [pair.same for pair in draws(40)]
    for start in range(30):
        assert sum(same[start : start + 10]) == 5


def test_every_pair_is_positive_where_all_are_asked_for():
    assert all(pair.same for pair in draws(40, positives="all"))


def test_pairs_in_a_row_show_the_same_person_in_clips_of_their_own():
    pairs = draws(120, positives="all", pairs_per_person=3)
    persons = [pair.persons[0] for pair in pairs]
    assert all(len(set(persons[at : at + 3])) == 1 for at in range(0, 120, 3))
    assert set(persons) == {pair.persons[0] for pair in draws(120, positives="all")}
    assert len({repr(pair.clips) for pair in pairs}) == 120


def test_erased_boxes_have_the_asked_share_and_area_and_change_no_other_draw():
    plain, erased = draws(300), draws(300, erase=0.5)
    boxes = [clip.augmentation.erased for pair in erased for clip in pair.clips]
    drawn = np.array([box for box in boxes if box is not None])
    assert abs(len(drawn) / len(boxes) - 0.5) < 0.07
    assert (drawn >= 0).all() and (drawn <= 1).all()
    areas = np.prod(drawn[:, 2:] - drawn[:, :2], axis=1)
    assert areas.max() <= 0.33 + 1e-9 and areas.min() < 0.05 and np.median(areas) > 0.1

    def whole(clip):
        return replace(clip, augmentation=replace(clip.augmentation, erased=None))

    assert plain == [replace(pair, clips=tuple(map(whole, pair.clips))) for pair in erased]


def test_colours_vary_within_their_factors_and_change_no_other_draw():
    plain, coloured = draws(200, erase=0.5), draws(200, erase=0.5, colour=0.3)
    apart = draws(200, erase=0.5, colour=0.3, augment="frame")
    assert [clip.augmentation for pair in apart for clip in pair.clips] == [
        clip.augmentation for pair in coloured for clip in pair.clips
    ]
    factors = np.array([clip.augmentation.colour for pair in coloured for clip in pair.clips])
    assert factors.shape == (400, 3) and 0.7 <= factors.min() < 0.72 and 1.28 < factors.max() <= 1.3
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.2

    def colourless(clip):
        return replace(clip, augmentation=replace(clip.augmentation, colour=None))

    assert plain == [replace(pair, clips=tuple(map(colourless, pair.clips))) for pair in coloured]


def test_positive_pairs_show_one_person_in_two_cameras():
    for pair in draws(400):
        (first, second) = (ROWS[clip.row] for clip in pair.clips)
        assert pair.same == (first[0] == second[0])
        if pair.same:
            assert first[1] != second[1]


def test_negative_pairs_cross_cameras_where_they_can():
    alone = {9, 5}
    seen_alone = False
    for pair in draws(2000):
        first, second = (ROWS[clip.row] for clip in pair.clips)
        if pair.same:
            continue
        if {first[0], second[0]} == alone:
            seen_alone = True
            assert first[1] == second[1] == 2
        else:
            assert first[1] != second[1]
    assert seen_alone


def test_junk_and_distractors_are_never_drawn_and_persons_count_from_zero():
    persons = [3, 5, 7, 8, 9]
    for pair in draws(500):
        for clip, person in zip(pair.clips, pair.persons, strict=True):
            assert ROWS[clip.row][0] == persons[person]


def test_persons_are_drawn_uniformly_whatever_their_number_of_tracklets():
    pairs = draws(6000)
    positive = Counter(pair.persons[0] for pair in pairs if pair.same)
    negative = Counter(person for pair in pairs if not pair.same for person in pair.persons)
    assert set(positive) == {0, 2, 3}
    for counts, expected in ((positive, 3000 / 3), (negative, 6000 / 5)):
        np.testing.assert_allclose(list(counts.values()), expected, rtol=0.1)


def test_both_orders_of_cameras_occur():
    cameras = {tuple(ROWS[clip.row][1] for clip in pair.clips) for pair in draws(200) if pair.persons == (0, 0)}
    assert cameras == {(2, 4), (4, 2)}


def test_clips_lie_within_their_tracklets_and_start_anywhere():
    starts = set()
    for pair in draws(1000):
        for clip in pair.clips:
            length = ROWS[clip.row][2]
            assert clip.count == min(length, FRAMES)
            assert 0 <= clip.start <= length - clip.count
            if length == 30:
                starts.add(clip.start)
    assert starts == set(range(11))


def test_frames_that_are_spread_lie_equally_far_apart_over_the_whole_tracklet():
    chosen = {}
    for pair in draws(1000, sampling="spread"):
        for clip in pair.clips:
            frames = range(100)[clip.frames]
            assert len(frames) == clip.count == min(ROWS[clip.row][2], FRAMES)
            chosen.setdefault(ROWS[clip.row][2], set()).update([frames])
    assert {frames.step for frames in chosen[30]} == {1} and len(chosen[30]) == 11
    drawn = [pair.clips[0] for pair in draws(1000, sampling="spread", frames=4)]
    few = {range(30)[clip.frames] for clip in drawn if ROWS[clip.row][2] == 30}
    assert few == {range(start, start + 22, 7) for start in range(9)}


def test_augmentations_fill_their_ranges():
    records = [clip.augmentation for pair in draws(1000, crop=0.8) for clip in pair.clips]
    assert 0.45 < np.mean([record.mirror for record in records]) < 0.55
    for name, low, high in (("side", 0.8, 1), ("top", 0, 1), ("left", 0, 1), ("down", -0.05, 0.05)):
        values = np.array([getattr(record, name) for record in records])
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high


def test_settings_switch_augmentations_off_and_leave_the_other_draws_alone():
    for plain, full in zip(draws(50, mirror=False, crop=1.0, translation=0.0), draws(50), strict=True):
        for clip, other in zip(plain.clips, full.clips, strict=True):
            assert (clip.row, clip.start) == (other.row, other.start)
            assert not clip.augmentation.mirror and clip.augmentation.side == 1
            assert clip.augmentation.down == clip.augmentation.right == 0
            assert clip.augmentation.top == other.augmentation.top


def test_the_two_clips_of_a_pair_are_augmented_apart():
    assert all(pair.clips[0].augmentation != pair.clips[1].augmentation for pair in draws(50))


def test_frames_are_augmented_alike_or_each_for_itself_which_changes_no_other_draw():
    alike, apart = draws(300, erase=0.5), draws(300, erase=0.5, augment="frame")
    for one, other in zip(alike, apart, strict=True):
        for clip, same in zip(one.clips, other.clips, strict=True):
            assert clip.augmentations == (clip.augmentation,) * clip.count
            assert same.augmentation == clip.augmentation and len(same.augmentations) == clip.count
            assert (same.row, same.frames) == (clip.row, clip.frames)
            assert len(set(same.augmentations)) == same.count
    later = [augmentation for pair in apart for clip in pair.clips for augmentation in clip.further]
    assert 0.45 < np.mean([augmentation.mirror for augmentation in later]) < 0.55
    assert 0.45 < np.mean([augmentation.erased is not None for augmentation in later]) < 0.55


def test_a_pair_follows_from_seed_and_number_alone():
    index = index_pairs(table_of(ROWS))
    forward = draws(30)
    backward = [draw_pair(index, 0, i, DataConfig(frames=FRAMES)) for i in reversed(range(30))]
    assert forward == backward[::-1]
    assert forward != draws(30, seed=1)
    assert len({repr(pair) for pair in forward}) == 30


def test_draws_are_those_of_numpys_own_choice_and_spawn(monkeypatch):
    def child(generator, number):
        own = generator.bit_generator.seed_seq
        again = np.random.default_rng(np.random.SeedSequence(own.entropy, spawn_key=own.spawn_key))
        return again.spawn(number + 1)[number]

    settings = [dict(erase=0.5, colour=0.2, augment=augment, pairs_per_person=2) for augment in ("clip", "frame")]
    ours = [draws(50, **own) for own in settings]
    monkeypatch.setattr(sampling, "_child", child)
    monkeypatch.setattr(sampling, "_one_of", lambda values, generator: int(generator.choice(values)))
    assert [draws(50, **own) for own in settings] == ours


@pytest.mark.parametrize(
    "rows", [[(1, 1, 5), (2, 2, 5), (3, 1, 5)], [(1, 1, 5), (1, 2, 5)], [(0, 1, 5), (0, 2, 5), (-1, 3, 5)]]
)
def test_no_possible_pair_is_an_error_that_says_why(rows):
    with pytest.raises(ValueError, match="a positive pair needs one person in two cameras"):
        index_pairs(table_of(rows))


def test_a_tracklet_without_frames_is_named():
    with pytest.raises(ValueError, match="tracklet t1 has no frames"):
        index_pairs(table_of([(1, 1, 5), (1, 2, 0), (2, 1, 3)]))
