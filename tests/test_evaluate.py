"""Evaluation: embeddings whatever the batches, conditions, views of a protocol, baselines, compilations."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import tiny_config, tiny_tracklets

from reid_jax import evaluate
from reid_jax import network as networks
from reid_jax.data import FrameReader, plan_buckets
from reid_jax.features import cached_features
from reid_jax.frames import evaluation_conditions
from reid_jax.retrieval import score
from reid_jax.sampling import WHOLE, ClipDraw
from reid_jax.tracklets import TrackletTable

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = tiny_config()


@pytest.fixture(scope="module")
def network():
    return networks.build(CONFIG)


@pytest.fixture(scope="module")
def variables(network):
    return networks.initialise(network, jax.random.key(0))


@pytest.fixture(scope="module")
def tracklets():
    return tiny_tracklets(4, longest=8, seed=3, extras=True)


def left_half(batch):
    """Mean colours of the left half over the valid frames: mirroring changes them."""
    mask = batch["mask"][:, :, None]
    colours = batch["frames"][:, :, :, :4].astype(np.float64).mean((2, 3))
    return (colours * mask).sum(1) / np.maximum(mask.sum(1), 1)


def clip_of(tracklets, row, start=0, count=None, condition=WHOLE):
    """One clip as a batch without padding."""
    count = int(tracklets.table.length[row]) if count is None else count
    frames = FrameReader(tracklets, 16, 8)(ClipDraw(row, start, count, condition))["frames"]
    return {"frames": frames[None], "mask": np.ones((1, count), bool)}


def test_embeddings_do_not_depend_on_batches_buckets_or_padding(network, variables, tracklets):
    function = partial(networks.embed_clips, network, variables)
    compiled = networks.embed_clips._cache_size()
    whole = evaluate.embed(function, tracklets, CONFIG)
    plan = plan_buckets(tracklets, 0, CONFIG.evaluate.embed_batch, WHOLE, "whole")
    buckets = {(bucket.clips, bucket.frames) for bucket in plan}
    assert networks.embed_clips._cache_size() - compiled <= len({frames for _, frames in buckets}) == 2
    assert whole.shape == (len(tracklets), 12) and whole.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    smaller = evaluate.embed(function, tracklets, tiny_config(embed_batch=8))
    np.testing.assert_allclose(smaller, whole, atol=1e-6)
    row = int(np.flatnonzero(tracklets.table.length == 5)[0])
    np.testing.assert_allclose(function(clip_of(tracklets, row))[0], whole[row], atol=1e-6)


def test_a_longer_tracklet_gives_its_first_frames(tracklets):
    config = tiny_config(embed_frames=3)
    found = evaluate.embed(left_half, tracklets, config)
    for row, length in enumerate(tracklets.table.length.tolist()):
        expected = left_half(clip_of(tracklets, row, 0, min(3, length)))[0]
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)


def test_the_mean_over_clips_of_a_tracklet_counts_each_by_its_frames(network, variables, tracklets):
    config = tiny_config(clip_frames=3, embed_batch=8)
    cut = replace(network, config=config)
    found = evaluate.embed(partial(networks.embed_clips, cut, variables), tracklets, config)
    for row, length in enumerate(tracklets.table.length.tolist()):
        starts = range(0, length, 3)
        parts = [clip_of(tracklets, row, start, min(3, length - start)) for start in starts]
        embeddings = [networks.embed_clips(network, variables, part)[0] for part in parts]
        expected = np.average(embeddings, axis=0, weights=[part["mask"].size for part in parts])
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_only_short_tracklets_are_averaged_over_the_conditions(tracklets):
    config = tiny_config(conditions=2, conditions_below=5)
    found = evaluate.embed_conditions(left_half, tracklets, config, "whole", None)
    plain, mirrored = evaluation_conditions(2, CONFIG.data.crop)
    assert (tracklets.table.length < 5).any() and (tracklets.table.length >= 5).any()
    for row, length in enumerate(tracklets.table.length.tolist()):
        one, other = (left_half(clip_of(tracklets, row, condition=c))[0] for c in (plain, mirrored))
        assert not np.allclose(one, other, rtol=1e-5)
        np.testing.assert_allclose(found[row], (one + other) / 2 if length < 5 else one, rtol=1e-6)


def test_tracklets_too_long_for_the_ten_conditions_are_embedded_from_the_whole_frame(tracklets):
    config = tiny_config(conditions=10, conditions_below=5, crop=0.5)
    found = evaluate.embed_conditions(left_half, tracklets, config, "whole", None)
    for row, length in enumerate(tracklets.table.length.tolist()):
        own = evaluation_conditions(10, 0.5) if length < 5 else (WHOLE,)
        expected = np.mean([left_half(clip_of(tracklets, row, condition=c))[0] for c in own], axis=0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-6)


def test_rcn_first_last_compares_first_frames_with_last_ones(tracklets):
    tracklets = tracklets.take(np.flatnonzero(tracklets.table.person > 0))
    config = tiny_config(protocol="rcn_first_last", first_last_frames=2)
    found = evaluate.evaluate(left_half, tracklets, config, None)
    table = tracklets.table
    task = evaluate.PROTOCOLS["rcn_first_last"](table)
    probes = [left_half(clip_of(tracklets, row, 0, 2))[0] for row in np.flatnonzero(table.camera == 1).tolist()]
    gallery = [
        left_half(clip_of(tracklets, row, int(table.length[row]) - 2, 2))[0]
        for row in np.flatnonzero(table.camera == 2).tolist()
    ]
    arrays = (np.array(rows, np.float32) for rows in (probes, gallery))
    expected = score(*arrays, task, "euclidean", "trapezoid", 256, None, None)
    np.testing.assert_array_equal(found.cmc, expected.cmc)
    assert found.mean_ap == expected.mean_ap


def test_the_learned_distance_needs_the_learned_similarity(network, variables, tracklets):
    config = tiny_config(distance="similarity")
    plain = evaluate.evaluate(left_half, tracklets, CONFIG, None)
    assert evaluate.evaluate(left_half, tracklets, config, None).mean_ap == plain.mean_ap
    learned = replace(network, config=config)
    similarity = variables["head"]["similarity"]
    weighted = {**variables, "head": {**variables["head"], "similarity": {**similarity, "v": similarity["v"] * 0}}}
    # Without weights every distance is the same: the gallery stays in its order.
    flat = evaluate.evaluate_network(learned, weighted, tracklets).mean_ap
    assert flat != evaluate.evaluate_network(learned, variables, tracklets).mean_ap


def test_baselines_see_colours_and_give_the_shapes_of_a_result(network, variables, tracklets):
    """Every person has colours of their own: both baselines must find them."""
    clean = tiny_tracklets(4, longest=8, noise=2, extras=True)
    for result in (
        evaluate.evaluate_average(network, variables, clean),
        evaluate.evaluate_histogram(clean, CONFIG),
    ):
        assert result.cmc.shape == (len(clean),) and np.all(np.diff(result.cmc) >= 0)
        assert result.mean_ap > 0.5
    frames = clip_of(tracklets, 3)
    expected = networks.backbone_variables(variables)
    cubes = network.backbone.apply(expected, jnp.asarray(frames["frames"][0], jnp.float32), train=False)
    found = networks.average_features(network, variables, frames)
    np.testing.assert_allclose(found[0], np.asarray(cubes).mean((0, 1, 2)), atol=1e-5)


def test_cached_features_give_the_embeddings_of_the_frames(variables, tracklets, tmp_path):
    network = networks.build(tiny_config(fine_tune="frozen"))
    readers = cached_features(network, variables, tracklets, tmp_path)
    function = partial(networks.embed_clips, network, variables)
    decoded = evaluate.embed(function, tracklets, network.config)
    cached = evaluate.embed(function, tracklets, network.config, readers=readers)
    np.testing.assert_allclose(cached, decoded, atol=2e-3)
    subset = evaluate.embed(function, tracklets.take(np.array([6, 1])), network.config, readers=readers)
    np.testing.assert_allclose(subset, cached[[6, 1]], atol=1e-6)


def test_nothing_to_embed_is_an_error(tracklets):
    nothing = tracklets.take(np.zeros(0, int))
    assert isinstance(nothing.table, TrackletTable)
    with pytest.raises(ValueError, match="no tracklets"):
        evaluate.embed(left_half, nothing, CONFIG)
