"""RCN, pooling and the batch-norm neck against NumPy, and as whole runs."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import fit, take_batches, tiny_config, tiny_splits

from reid_jax import identity, losses, objective, peers, runs, scoring
from reid_jax import network as networks

pytestmark = pytest.mark.usefixtures("quick_compilation")
CUBE = (3, 2, 4)
CONFIG = tiny_config(channels=(5,), input_kernels=(1,), state_kernels=(1,), head="rcn")
LENGTHS = (6, 2, 1)


def clips(seed=0, frames=6):
    """Three clips of 6, 2 and 1 frames, with other values behind them, and their mask."""
    features = np.random.default_rng(seed).standard_normal((3, frames, *CUBE)).astype(np.float32)
    return jnp.asarray(features), jnp.arange(frames) < jnp.array(LENGTHS)[:, None]


def test_rcn_is_its_recurrence_written_out():
    features, mask = clips()
    parameters = peers.initialise_rcn(jax.random.key(0), CUBE, CONFIG)
    parameters["bias"] = jnp.arange(5.0)
    encoding = peers.encode_rcn(parameters, features, mask, CONFIG)
    weights = {name: np.asarray(parameters[name], np.float64) for name in ("input", "state", "bias")}
    for n, length in enumerate(LENGTHS):
        state, outputs = np.zeros(5), []
        for frame in np.asarray(features[n, :length], np.float64).reshape(length, -1):
            outputs.append(frame @ weights["input"] + weights["bias"] + state @ weights["state"])
            state = np.tanh(outputs[-1])
        np.testing.assert_allclose(encoding.embedding[n], np.mean(outputs, 0), rtol=1e-4, atol=1e-5)


def test_pooling_is_the_mean_over_valid_frames_and_locations():
    features, mask = clips(1)
    encoding = peers.encode_pooling({}, features, mask, CONFIG)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_allclose(encoding.embedding[n], features[n, :length].mean((0, 1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encode", [peers.encode_rcn, peers.encode_pooling])
def test_peers_look_everywhere_alike_and_padding_changes_nothing(encode):
    features, mask = clips(2)
    parameters = peers.initialise_rcn(jax.random.key(1), CUBE, CONFIG)
    plain = encode(parameters, features, mask, CONFIG)
    other = encode(parameters, jnp.where(mask[:, :, None, None, None], features, 7.0), mask, CONFIG)
    np.testing.assert_array_equal(plain.embedding, other.embedding)
    np.testing.assert_allclose(plain.locations, 1 / 6, rtol=1e-6)
    np.testing.assert_allclose(plain.selection, mask / mask.sum(1, keepdims=True), rtol=1e-6)


def test_dropout_falls_on_the_features_in_training_only():
    features, mask = clips(3)
    config = replace(CONFIG, recurrent=replace(CONFIG.recurrent, dropout_between=0.6))
    parameters = peers.initialise_rcn(jax.random.key(1), CUBE, config)
    plain = peers.encode_rcn(parameters, features, mask, CONFIG).embedding
    np.testing.assert_array_equal(plain, peers.encode_rcn(parameters, features, mask, config).embedding)
    assert not np.allclose(plain, peers.encode_rcn(parameters, features, mask, config, jax.random.key(0)).embedding)


def test_hinge_loss_is_the_loop():
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((2, 6, 3))
    same, total = np.arange(6) % 2 == 0, 0.0
    for a, b, alike in zip(first, second, same, strict=True):
        distance = np.linalg.norm(a - b)
        total += 0.5 * (distance**2 if alike else max(2.5 - distance, 0) ** 2)
    arrays = (jnp.asarray(a, jnp.float32) for a in (first, second))
    np.testing.assert_allclose(losses.hinge_loss(*arrays, jnp.asarray(same), 2.5), total / 6, rtol=1e-5)


def test_the_neck_standardises_a_batch_and_follows_it():
    embeddings = np.random.default_rng(6).normal(3.0, 2.0, (64, 5)).astype(np.float32)
    statistics = identity.first_statistics(5)
    behind, after = identity.neck_of_batch(jnp.full(5, 2.0), statistics, jnp.asarray(embeddings))
    np.testing.assert_allclose(behind.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(behind.std(0), 2, rtol=1e-4)
    np.testing.assert_allclose(after["mean"], 0.1 * embeddings.mean(0), rtol=1e-4)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * embeddings.var(0), rtol=1e-4)
    expected = 2 * (embeddings - after["mean"]) / np.sqrt(after["var"] + 1e-5)
    np.testing.assert_allclose(identity.neck(jnp.full(5, 2.0), after, jnp.asarray(embeddings)), expected, rtol=1e-4)


def test_logits_are_products_or_scaled_cosines():
    rng = np.random.default_rng(7)
    parameters = {"directions": jnp.asarray(rng.standard_normal((3, 4)), jnp.float32), "scale": jnp.asarray(5.0)}
    embeddings = rng.standard_normal((2, 4))
    directions = np.asarray(parameters["directions"])
    linear = identity.logits(parameters, jnp.asarray(embeddings, jnp.float32), "linear")
    np.testing.assert_allclose(linear, embeddings @ directions.T, rtol=1e-4, atol=1e-5)
    lengths = np.linalg.norm(embeddings, axis=1)[:, None] * np.linalg.norm(directions, axis=1)
    cosine = identity.logits(parameters, jnp.asarray(embeddings, jnp.float32), "cosine")
    np.testing.assert_allclose(cosine, 5 * embeddings @ directions.T / lengths, rtol=1e-4, atol=1e-5)


def test_a_margin_lowers_the_own_persons_cosine_alone():
    cosines = np.random.default_rng(4).uniform(-1, 1, (5, 3))
    person = np.array([2, 0, 1, 1, 2])
    ours = identity.with_margin(jnp.asarray(8 * cosines, jnp.float32), jnp.asarray(person), jnp.float32(8.0), 0.25)
    for row, own in enumerate(person):
        expected = [8 * (cosines[row, p] - (0.25 if p == own else 0.0)) for p in range(3)]
        np.testing.assert_allclose(ours[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        dict(head="rcn", channels=(5,), input_kernels=(1,), state_kernels=(1,), pairs="hinge", identity=1.0),
        dict(head="pooling", pairs="none", identity=1.0, triplet=1.0, neck=True, classifier="linear"),
    ],
)
def test_peers_run_whole(settings, tmp_path):
    config = tiny_config(steps=2, penalty=0.0, baselines=False, **settings)
    fit(config, tmp_path / "run")
    network, variables = runs.load_run(tmp_path / "run")
    assert ("neck" in variables) == config.loss.neck
    if config.loss.neck:
        assert np.abs(variables["neck"]["mean"]).max() > 0
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in logged if "loss" in line]
    assert told and all("identified" in line and "accuracy" not in line for line in told)
    results = scoring.evaluate_run(network.config, tmp_path / "run", tiny_splits())
    assert results["probes"] == 4


def test_a_neck_that_serves_all_gives_unit_lengths_to_every_loss_and_to_the_comparison():
    settings = dict(head="pooling", pairs="cross", identity=1.0, triplet=1.0, neck=True, classifier="linear")
    config = tiny_config(**settings, neck_serves="all", distance="similarity")
    network = networks.build(config, 4)
    variables = networks.initialise(network, jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, take_batches(config, 1)[0] | {"person": np.array([[0, 1], [2, 2]])})
    _, (metrics, after) = objective.batch_loss(network, variables, batch, jax.random.key(1))
    encoding, _ = networks.encode_pairs(network, variables, batch, jax.random.key(1))
    clips = np.asarray(encoding.embedding, np.float64).reshape(4, -1)
    behind = (clips - clips.mean(0)) / np.sqrt(clips.var(0) + 1e-5)
    unit = behind / np.linalg.norm(behind, axis=1, keepdims=True)
    triplets = losses.triplet_loss(jnp.asarray(unit, jnp.float32), jnp.array([0, 1, 2, 2]), config.loss.margin)
    np.testing.assert_allclose(metrics["triplet_loss"], triplets, rtol=1e-3)
    scores = behind @ np.asarray(variables["head"]["identity"]["directions"], np.float64).T
    assert metrics["identified"] == np.mean(scores.argmax(1) == [0, 1, 2, 2])
    assert 0 <= metrics["accuracy"] <= 1
    embedded = networks.embed_clips(
        network, variables | after, {name: batch[name][:, 0] for name in ("frames", "mask")}
    )
    np.testing.assert_allclose(jnp.linalg.norm(embedded, axis=1), 1.0, rtol=1e-5)
