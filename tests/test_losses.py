"""Eq. 9 against NumPy and a brute-force double loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import losses

pytestmark = pytest.mark.usefixtures("quick_compilation")


def cross_entropy(logit, same):
    s = 1 / (1 + np.exp(-logit))
    return -np.log(s) if same else -np.log(1 - s)


def test_pair_loss_is_the_mean_cross_entropy():
    logits = np.random.default_rng(0).standard_normal(8) * 3
    same = np.arange(8) % 3 == 0
    expected = np.mean([cross_entropy(logit, label) for logit, label in zip(logits, same, strict=True)])
    np.testing.assert_allclose(
        losses.pair_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(same)), expected, rtol=1e-5
    )


@pytest.mark.parametrize("hardness", [0.0, 0.7])
def test_cross_pair_loss_is_the_double_loop_with_both_classes_alike(hardness):
    logits = np.random.default_rng(1).standard_normal((7, 7)) * 3
    person = np.array([4, 4, 1, 2, 4, 2, 9])
    means = {True: [], False: []}
    for a in range(7):
        for same in (True, False):
            others = [b for b in range(7) if b != a and (person[a] == person[b]) == same]
            wrong = np.array([np.exp(hardness * (-logits[a, b] if same else logits[a, b])) for b in others])
            if others:
                terms = [cross_entropy(logits[a, b], same) for b in others]
                means[same].append(np.sum(wrong * terms) / wrong.sum())
    assert (len(means[True]), len(means[False])) == (5, 7)
    loss = losses.cross_pair_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(person), hardness)
    np.testing.assert_allclose(loss, (np.mean(means[True]) + np.mean(means[False])) / 2, rtol=1e-5)


def test_pairs_told_right_count_both_classes_alike():
    logits = np.random.default_rng(2).standard_normal((7, 7))
    person = np.array([4, 4, 1, 2, 4, 2, 9])
    right = {True: [], False: []}
    for a in range(7):
        for b in range(7):
            if a != b:
                same = bool(person[a] == person[b])
                right[same].append((logits[a, b] > 0) == same)
    expected = (np.mean(right[True]) + np.mean(right[False])) / 2
    found = losses.pair_accuracy(jnp.asarray(logits, jnp.float32), jnp.asarray(person))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(losses.pair_accuracy(jnp.ones((7, 7)), jnp.asarray(person)), 0.5)


def test_no_gradient_flows_through_the_weights_of_hard_pairs():
    """Each pair's gradient has the sign of its own error: harder weights never push a logit the wrong way."""
    logits = jnp.asarray(np.random.default_rng(6).standard_normal((4, 4)) * 4, jnp.float32)
    person = jnp.array([0, 0, 1, 1])
    gradient = np.asarray(jax.grad(losses.cross_pair_loss)(logits, person, 2.0))
    same = np.asarray(person)[:, None] == np.asarray(person)[None, :]
    off = ~np.eye(4, dtype=bool)
    assert (gradient[same & off] < 0).all() and (gradient[~same] > 0).all()


def test_a_clip_is_never_paired_with_itself():
    logits = jnp.asarray(np.random.default_rng(2).standard_normal((4, 4)), jnp.float32)
    gradient = jax.grad(losses.cross_pair_loss)(logits, jnp.array([0, 0, 1, 1]), 0.0)
    np.testing.assert_array_equal(np.diag(gradient), np.zeros(4))
    assert (np.abs(gradient)[~np.eye(4, dtype=bool)] > 0).all()


@pytest.mark.parametrize("person", [[5, 5, 5], [1, 2, 3]])
def test_cross_pair_loss_of_a_batch_of_one_class_is_half_that_class(person):
    logits = np.random.default_rng(3).standard_normal((3, 3))
    same = person[0] == person[1]
    mean = np.mean([cross_entropy(logits[a, b], same) for a in range(3) for b in range(3) if a != b])
    loss = losses.cross_pair_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(person), 0.0)
    np.testing.assert_allclose(loss, mean / 2, rtol=1e-5)


def test_gradients_are_finite_at_extreme_logits():
    extreme = jnp.array([1e4, -1e4, 1e4, -1e4])
    same = jnp.array([True, True, False, False])
    value, gradient = jax.value_and_grad(losses.pair_loss)(extreme, same)
    np.testing.assert_allclose(value, 5000)
    np.testing.assert_allclose(gradient, [0, -0.25, 0.25, 0])
    gradient = jax.grad(losses.cross_pair_loss)(jnp.outer(extreme, jnp.ones(4)), jnp.array([0, 0, 1, 1]), 1.0)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_siamese_loss_adds_the_penalty_of_both_clips():
    """lambda times the mean over the pairs of the sum over a pair's two clips."""
    penalties = np.random.default_rng(4).uniform(0, 2, (3, 2))
    for coefficient in (0.0, 0.5, 1.0):
        loss = losses.siamese_loss(jnp.float32(0.7), jnp.asarray(penalties.ravel(), jnp.float32), coefficient)
        np.testing.assert_allclose(loss, 0.7 + coefficient * penalties.sum(1).mean(), rtol=1e-6)


def test_swapping_the_clips_of_each_pair_changes_nothing():
    rng = np.random.default_rng(5)
    embeddings, person = rng.standard_normal((3, 2, 4)), np.array([[1, 1], [2, 3], [4, 4]])

    def loss(embeddings, person):
        flat = embeddings.reshape(6, 4)
        return losses.cross_pair_loss(jnp.asarray(flat @ flat.T, jnp.float32), jnp.asarray(person.ravel()), 0.5)

    np.testing.assert_allclose(loss(embeddings, person), loss(embeddings[:, ::-1], person[:, ::-1]), rtol=1e-6)


def test_identity_loss_is_the_smoothed_cross_entropy():
    logits = np.random.default_rng(3).standard_normal((5, 7)) * 2
    person = np.array([0, 6, 3, 3, 1])
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = np.full((5, 7), 0.1 / 7)
    labels[np.arange(5), person] += 0.9
    loss = losses.identity_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(person), 0.1)
    np.testing.assert_allclose(loss, -(labels * log_shares).sum(1).mean(), rtol=1e-5)


def test_triplet_loss_is_the_loop_over_the_hardest():
    rng = np.random.default_rng(4)
    embeddings, person = rng.standard_normal((8, 5)), np.array([0, 0, 0, 1, 1, 2, 2, 3])
    total = 0.0
    for a in range(7):  # clip 7 is its person's only one: it has no positive
        distances = np.linalg.norm(embeddings - embeddings[a], axis=1)
        positive = max(distances[b] for b in range(8) if person[b] == person[a] and b != a)
        negative = min(distances[b] for b in range(8) if person[b] != person[a])
        total += max(positive - negative + 0.7, 0.0)
    loss = losses.triplet_loss(jnp.asarray(embeddings, jnp.float32), jnp.asarray(person), 0.7)
    np.testing.assert_allclose(loss, total / 8, rtol=1e-5)


def test_equal_clips_leave_the_triplet_gradient_finite():
    gradient = jax.grad(losses.triplet_loss)(jnp.ones((4, 3)), jnp.array([0, 0, 1, 1]), 0.3)
    assert np.isfinite(np.asarray(gradient)).all()
