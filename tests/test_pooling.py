"""Pools against XLA's and PyTorch's, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax.backbones import pooling


@pytest.mark.parametrize(
    ("sides", "window"),
    [((8, 6), (3, 2, 0)), ((7, 5), (3, 2, 0)), ((4, 1), (2, 2, 0)), ((5, 3), (2, 2, 0)), ((5, 1), (3, 1, 1))],
)
def test_pools_equal_xla_and_pytorch(sides, window):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 5)), jnp.float32)
    ours, pull = jax.vjp(lambda x: pooling.line_max(pooling.line_max(x, *window, 2), *window, 1), x)
    expected, pull_expected = jax.vjp(lambda x: pooling.windowed(x, *window), x)
    np.testing.assert_array_equal(ours, expected)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=ours.shape), jnp.float32)
    np.testing.assert_allclose(pull(direction)[0], pull_expected(direction)[0], atol=1e-6)
    torch = pytest.importorskip("torch", reason="the independent implementation")
    if min(sides) > 1:
        theirs = torch.nn.functional.max_pool2d(torch.tensor(np.array(x)).permute(0, 3, 1, 2), *window, ceil_mode=True)
        np.testing.assert_array_equal(ours, theirs.permute(0, 2, 3, 1))


def test_of_equal_values_the_first_takes_the_gradient():
    gradient = jax.grad(lambda x: pooling.line_max(x, 3, 2, 0, 1).sum())(jnp.ones((1, 5, 1, 1)))
    np.testing.assert_array_equal(gradient[0, :, 0, 0], [1, 0, 1, 0, 0])


@pytest.mark.parametrize("sides", [(8, 4), (3, 10), (7, 7), (14, 14), (1, 2)])
def test_adaptive_average_equals_pytorch(sides):
    torch = pytest.importorskip("torch", reason="the independent implementation")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 3)), jnp.float32)
    theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(np.array(x)).permute(0, 3, 1, 2), 7)
    np.testing.assert_allclose(pooling.adaptive_average_pool(x, 7), theirs.permute(0, 2, 3, 1), atol=1e-6)
