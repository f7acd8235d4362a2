"""Convolutions over spatial frequencies: the discrete Fourier transform, SciPy's correlation, the spatial network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate
from test_model import random_parameters

from reid_jax import frequency, model
from reid_jax.config import AttentionConfig, Config, RecurrentConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

GRIDS = [(1, 1), (3, 2), (4, 4), (7, 4)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("side", [1, 3, 9])
def test_transform_is_the_discrete_fourier_transform(grid, side):
    basis = frequency.basis(grid, side)
    size = tuple(n + side // 2 for n in grid)
    x = np.random.default_rng(0).standard_normal((*grid, 2))
    expected = np.fft.fft2(x, size, axes=(0, 1))
    index = np.rint(basis.angles * size / (2 * np.pi)).astype(int)
    with jax.enable_x64(True):
        real, imaginary = np.asarray(frequency.transform(jnp.asarray(x), basis)).swapaxes(0, 1)
    np.testing.assert_allclose(real + 1j * imaginary, expected[index[:, 0], index[:, 1]], atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("side", [1, 3, 9])
def test_one_of_each_mirrored_pair_of_frequencies_is_kept(grid, side):
    height, width = (n + side // 2 for n in grid)
    own_mirrors = (2 - height % 2) * (2 - width % 2)
    assert len(frequency.basis(grid, side).angles) == (height * width + own_mirrors) // 2


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("side", [1, 5])
def test_invert_undoes_transform(grid, side):
    basis = frequency.basis(grid, side)
    x = np.random.default_rng(1).standard_normal((*grid, 3))
    with jax.enable_x64(True):
        np.testing.assert_allclose(frequency.invert(frequency.transform(jnp.asarray(x), basis), basis), x, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("side", "k", "inputs"),
    [(1, 1, 2), (3, 3, 2), (5, 3, 2), (9, 9, 2), (9, 1, 2), (3, 3, frequency.WIDE + 1)],
)
def test_product_of_spectra_is_zero_padded_correlation(grid, side, k, inputs):
    """Also where the kernel is larger than the grid, or smaller than the basis allows, or has many inputs."""
    rng = np.random.default_rng(2)
    x, kernel = rng.standard_normal((*grid, inputs)), rng.standard_normal((k, k, inputs, 3))
    expected = sum(
        np.stack([correlate(x[..., d], kernel[..., d, f], mode="constant") for f in range(3)], -1)
        for d in range(inputs)
    )
    basis = frequency.basis(grid, side)
    with jax.enable_x64(True):
        spectrum = frequency.transform(jnp.asarray(x), basis)
        product = frequency.multiply(spectrum, frequency.transform_kernel(jnp.asarray(kernel), basis))
        np.testing.assert_allclose(frequency.invert(product, basis), expected, atol=1e-12)


# Input kernels, state kernels, grid, pooling, attention: Table II's layers, 1x1 throughout, kernels that differ in a
# layer, kernels that reach beyond the grid.
STACKS = {
    "3x3,9x9,1x1": ((3, 9, 1), (3, 9, 1), (4, 4), "keep", "learned"),
    "3x3,1x1,9x9": ((3, 1, 9), (3, 1, 9), (3, 2), "keep", "learned"),
    "3x3,5x5,5x5": ((3, 5, 5), (3, 5, 5), (5, 3), "halve", "muted"),
    "1x1,1x1": ((1, 1), (1, 1), (3, 2), "keep", "learned"),
    "3x3 and 9x9,5x5 and 1x1": ((3, 5), (9, 1), (4, 3), "halve", "learned"),
    "5x5 on 1x1": ((5, 5), (5, 5), (1, 1), "keep", "learned"),
}


@partial(jax.jit, static_argnames="config")
def outputs_and_gradients(parameters, features, mask, weights, config):
    """Locations, states, and the gradients of a weighted sum of both."""

    def total(parameters, features):
        outputs = model.unroll(parameters, features, mask, config, None)
        return sum(jnp.sum(w * part) for w, part in zip(weights, outputs, strict=True)), outputs

    (_, outputs), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(parameters, features)
    return outputs, gradients


def all_formulations(stack, dtype):
    input_kernels, state_kernels, grid, between, location = STACKS[stack]
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.standard_normal((2, 4, *grid, 3)), dtype)
    mask = jnp.array([[True, True, True, True], [True, True, False, True]])
    results = []
    for formulation in ("spatial", "frequency", "auto"):
        channels = (3, 2, 3)[: len(input_kernels)]
        recurrent = RecurrentConfig(channels, input_kernels, state_kernels, between=between, formulation=formulation)
        config = Config(recurrent=recurrent, attention=AttentionConfig(location=location, state_hidden=4))
        parameters = random_parameters(4, config, (*grid, 3), dtype)
        top = model.recurrent_grids(grid, config.attention, recurrent)[-1]
        shapes = (2, 4, *grid), (2, 4, *top, channels[-1])
        weights = [jnp.asarray(np.random.default_rng(5).standard_normal(shape), dtype) for shape in shapes]
        results.append(jax.tree.map(np.asarray, outputs_and_gradients(parameters, features, mask, weights, config)))
    return results


def assert_close(results, tolerance):
    """The largest difference relative to each array's largest element."""
    for spatial, *others in zip(*map(jax.tree.leaves, results), strict=True):
        for other in others:
            assert np.abs(spatial - other).max() <= tolerance * max(np.abs(spatial).max(), 1e-30)


@pytest.mark.parametrize("stack", STACKS)
def test_recurrence_and_every_gradient_are_the_same_in_every_formulation(stack):
    results = all_formulations(stack, jnp.float32)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(results[0][1]))
    assert_close(results, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_recurrence_and_every_gradient_are_the_same_in_double_precision(stack):
    with jax.enable_x64(True):
        results = all_formulations(stack, jnp.float64)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(results))
    assert_close(results, 1e-10)


@pytest.mark.parametrize(("frequencies", "groups", "few"), [(41, 6, 7), (8, 1, 8), (3, 1, 3), (61, 8, 8)])
def test_groups_of_frequencies_hold_each_once_and_zeros(frequencies, groups, few):
    constants = np.random.default_rng(6).standard_normal((frequencies, 2, 3))
    grouped = frequency._in_groups(constants)
    assert grouped.shape == (groups, few, 2, 3)
    flat = grouped.reshape(-1, 2, 3)
    np.testing.assert_array_equal(flat[:frequencies], constants)
    assert not flat[frequencies:].any()
