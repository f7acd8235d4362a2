"""Pools against Caffe's formula, PyTorch's and XLA's, gradients included."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax.backbones import pooling


def caffe_windows(size, side, stride, margin):
    """First and last location (exclusive) of each window along an axis, by the formula of Caffe's pooling layer."""
    count = math.ceil((size + 2 * margin - side) / stride) + 1
    if (count - 1) * stride >= size + margin:
        count -= 1
    starts = [window * stride - margin for window in range(count)]
    return [(max(start, 0), min(start + side, size)) for start in starts]


# The backbones' windows (side, stride, margin), and one whose last would otherwise hold nothing but its margin.
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("window", [(3, 2, 0), (3, 1, 1), (2, 2, 0), (2, 2, 1)])
def test_pools_are_caffes_and_pytorchs_for_every_size(window):
    """1 to 16 rows by 16 to 1 columns, as far as a window fits in: Caffe and PyTorch refuse smaller frames."""
    torch = pytest.importorskip("torch", reason="the independent implementation")
    side, stride, margin = window
    draw, least = np.random.default_rng(0), side - 2 * margin

    @jax.jit
    def pooled(x, direction):
        ours, pull = jax.vjp(lambda x: pooling.line_max(pooling.line_max(x, *window, 2), *window, 1), x)
        return ours, pooling.windowed(x, *window), pull(direction)[0]

    for height in range(1, 17):
        width = 17 - height
        if min(height, width) < least:
            continue
        x = draw.normal(size=(1, height, width, 2)).astype(np.float32)
        rows, columns = (caffe_windows(size, *window) for size in (height, width))
        expected = [[x[0, top:end, left:right].max((0, 1)) for left, right in columns] for top, end in rows]
        frame = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
        theirs = torch.nn.MaxPool2d(side, stride, margin, ceil_mode=True)(frame)
        np.testing.assert_array_equal(theirs[0].detach().permute(1, 2, 0), expected)
        direction = draw.normal(size=(1, len(rows), len(columns), 2)).astype(np.float32)
        theirs.backward(torch.tensor(direction).permute(0, 3, 1, 2))
        ours, by_xla, gradient = pooled(x, direction)
        np.testing.assert_array_equal(ours[0], expected)
        np.testing.assert_array_equal(by_xla[0], expected)
        np.testing.assert_allclose(gradient, frame.grad.permute(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("sides", "window"),
    [((8, 6), (3, 2, 0)), ((7, 5), (3, 2, 0)), ((4, 1), (2, 2, 0)), ((5, 3), (2, 2, 0)), ((5, 1), (3, 1, 1))],
)
def test_pools_equal_xla(sides, window):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 5)), jnp.float32)
    ours, pull = jax.vjp(lambda x: pooling.line_max(pooling.line_max(x, *window, 2), *window, 1), x)
    expected, pull_expected = jax.vjp(lambda x: pooling.windowed(x, *window), x)
    np.testing.assert_array_equal(ours, expected)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=ours.shape), jnp.float32)
    np.testing.assert_allclose(pull(direction)[0], pull_expected(direction)[0], atol=1e-6)


@pytest.mark.parametrize("sides", [(8, 6), (7, 5), (2, 3)])
def test_halved_leaves_out_an_odd_last_row_or_column_as_flax(sides):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 5)), jnp.float32)
    ours, pull = jax.vjp(pooling.halved, x)
    expected, pull_expected = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    np.testing.assert_array_equal(ours, expected)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=ours.shape), jnp.float32)
    np.testing.assert_array_equal(pull(direction)[0], pull_expected(direction)[0])


def test_a_map_of_one_location_cannot_be_halved():
    with pytest.raises(ValueError, match="frames are too small: a map of 1x4 cannot be halved"):
        pooling.halved(jnp.zeros((1, 1, 4, 1)))


def test_of_equal_values_the_first_takes_the_gradient():
    gradient = jax.grad(lambda x: pooling.line_max(x, 3, 2, 0, 1).sum())(jnp.ones((1, 5, 1, 1)))
    np.testing.assert_array_equal(gradient[0, :, 0, 0], [1, 0, 1, 0, 0])


@pytest.mark.parametrize("sides", [(8, 4), (3, 10), (7, 7), (14, 14), (1, 2)])
def test_adaptive_average_equals_pytorch(sides):
    torch = pytest.importorskip("torch", reason="the independent implementation")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 3)), jnp.float32)
    theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(np.array(x)).permute(0, 3, 1, 2), 7)
    np.testing.assert_allclose(pooling.adaptive_average_pool(x, 7), theirs.permute(0, 2, 3, 1), atol=1e-6)
