"""Where and when to look, against NumPy and the sums that the equations promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import attention

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRID = (3, 2)


def states(seed, frames=4):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((frames, *GRID, 5)), jnp.float32)


@pytest.mark.parametrize("hidden", [0, 7])
def test_locations_are_the_softmax_of_equation_3(hidden):
    grid, state = (4, 3), states(0)[0]
    parameters = attention.initialise_location(jax.random.key(0), state.size, 12, hidden)
    parameters = parameters._replace(weights=20 * parameters.weights)
    locations = np.asarray(attention.location_softmax(parameters, state, grid))
    h = np.asarray(state).ravel()
    if hidden:
        h = np.tanh(h @ np.asarray(parameters.hidden))
    scores = [np.exp(h @ w) for w in np.asarray(parameters.weights).T]
    np.testing.assert_allclose(locations, np.reshape(scores, grid) / np.sum(scores), rtol=1e-4)
    np.testing.assert_allclose(locations.sum(), 1, rtol=1e-6)
    assert locations.min() > 0 and locations.max() > 2 * locations.min()


def test_first_locations_are_nearly_uniform():
    parameters = attention.initialise_location(jax.random.key(1), 3000, 49, 0)
    state = jnp.tanh(jax.random.normal(jax.random.key(2), (1, 1, 3000)))
    locations = attention.location_softmax(parameters, state, (7, 7))
    np.testing.assert_allclose(locations, 1 / 49, rtol=0.35)


def test_locations_survive_extreme_scores():
    parameters = attention.LocationParameters(None, jnp.full((1, 6), 1.0).at[0, 0].set(3.0))
    locations = attention.location_softmax(parameters, jnp.full((1, 1, 1), 1e4), GRID)
    np.testing.assert_allclose(locations, np.array([[1, 0], [0, 0], [0, 0]]))


def test_muted_locations_are_equal_and_sum_to_one():
    np.testing.assert_allclose(attention.muted_locations((7, 7)), np.full((7, 7), 1 / 49), rtol=1e-6)


def test_attended_cube_is_equation_4():
    rng = np.random.default_rng(3)
    locations, features = rng.dirichlet(np.ones(6)).reshape(GRID), rng.standard_normal((*GRID, 5))
    arguments = jnp.asarray(locations, jnp.float32), jnp.asarray(features, jnp.float32)
    x = np.asarray(attention.attend(*arguments, "sum", "cube"))
    for i in range(GRID[0]):
        for j in range(GRID[1]):
            np.testing.assert_allclose(x[i, j], locations[i, j] * features[i, j], rtol=1e-5)
    np.testing.assert_allclose(attention.attend(*arguments, "mean", "cube"), 6 * x, rtol=1e-5)


def test_uniform_mean_attention_leaves_the_features_as_they_are():
    features = states(4)[0]
    x = attention.attend(attention.muted_locations(GRID), features, "mean", "cube")
    np.testing.assert_allclose(x, features, rtol=1e-6)


@pytest.mark.parametrize("scale", ["sum", "mean"])
def test_slice_is_the_expectation_over_locations(scale):
    rng = np.random.default_rng(5)
    locations, features = rng.dirichlet(np.ones(6)).reshape(GRID), rng.standard_normal((*GRID, 5))
    x = attention.attend(jnp.asarray(locations, jnp.float32), jnp.asarray(features, jnp.float32), scale, "slice")
    assert x.shape == (1, 1, 5)
    expected = np.average(features.reshape(6, 5), axis=0, weights=locations.ravel())
    np.testing.assert_allclose(x[0, 0], expected, rtol=1e-4, atol=1e-6)


def test_penalty_is_equation_9s_over_the_valid_frames():
    maps = np.random.default_rng(6).dirichlet(np.ones(6), 5).reshape(5, *GRID)
    mask = np.array([True, False, True, True, False])
    expected = sum((1 - sum(maps[t, i, j] for t in (0, 2, 3))) ** 2 for i in range(3) for j in range(2))
    penalty = attention.location_penalty(jnp.asarray(maps, jnp.float32), jnp.asarray(mask))
    np.testing.assert_allclose(penalty, expected, rtol=1e-5)


def test_penalty_is_zero_where_every_location_was_looked_at_once():
    maps = jnp.eye(6).reshape(6, *GRID)
    assert attention.location_penalty(maps, jnp.ones(6, bool)) == 0
    assert attention.location_penalty(maps, jnp.arange(6) < 5) == 1


def test_temporal_weights_are_a_softmax_over_the_valid_frames():
    h, mask = states(7, 6), np.array([True, True, False, True, False, False])
    weights = np.random.default_rng(7).standard_normal(30)
    alpha = np.asarray(attention.temporal_weights(jnp.asarray(weights, jnp.float32), h, jnp.asarray(mask)))
    scores = np.exp(np.asarray(h, np.float64).reshape(6, -1) @ weights)
    np.testing.assert_allclose(alpha[mask], scores[mask] / scores[mask].sum(), rtol=1e-4)
    assert (alpha[~mask] == 0).all()
    np.testing.assert_allclose(alpha.sum(), 1, rtol=1e-6)


def test_temporal_weights_are_uniform_at_first():
    mask = jnp.array([True, True, True, False])
    alpha = attention.temporal_weights(jnp.zeros(30), states(8), mask)
    np.testing.assert_allclose(alpha, attention.uniform_weights(mask), rtol=1e-6)


def test_uniform_weights():
    np.testing.assert_allclose(attention.uniform_weights(jnp.array([True, False, True])), [0.5, 0, 0.5])
    np.testing.assert_array_equal(attention.uniform_weights(jnp.zeros(3, bool)), np.zeros(3))


def test_maximum_ignores_padding():
    h, mask = states(9, 5) - 10, jnp.array([True, False, True, True, False])
    largest = attention.pool_maximum(h, mask)
    np.testing.assert_array_equal(largest, np.asarray(h)[[0, 2, 3]].max(0))
    np.testing.assert_array_equal(attention.pool_maximum(h, jnp.zeros(5, bool)), np.zeros((*GRID, 5)))
