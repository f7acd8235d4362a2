"""Convolutions over spatial frequencies: the discrete Fourier transform, SciPy's correlation, the spatial network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate

from reid_jax import frequency, model
from reid_jax.config import AttentionConfig, Config, RecurrentConfig
from tests.test_model import random_parameters

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
        real, imaginary = np.split(np.asarray(frequency.transform(jnp.asarray(x), basis)), 2, axis=-1)
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
@pytest.mark.parametrize(("side", "k"), [(1, 1), (3, 3), (5, 3), (9, 9), (9, 1)])
def test_product_of_spectra_is_zero_padded_correlation(grid, side, k):
    """Also where the kernel is larger than the grid, or smaller than the basis allows."""
    rng = np.random.default_rng(2)
    x, kernel = rng.standard_normal((*grid, 2)), rng.standard_normal((k, k, 2, 3))
    expected = sum(
        np.stack([correlate(x[..., d], kernel[..., d, f], mode="constant") for f in range(3)], -1) for d in range(2)
    )
    basis = frequency.basis(grid, side)
    with jax.enable_x64(True):
        spectrum = frequency.transform(jnp.asarray(x), basis)
        product = frequency.multiply(spectrum, frequency.transform_kernel(jnp.asarray(kernel), basis))
        np.testing.assert_allclose(frequency.invert(product, basis), expected, atol=1e-12)


# Table II's pairs of state kernels, the shipped three layers, and 1x1 throughout.
STACKS = {
    "9x9,1x1": ((3, 3), (9, 1), (4, 4), "keep", "learned"),
    "1x1,9x9": ((3, 3), (1, 9), (3, 2), "halve", "learned"),
    "5x5,5x5": ((3, 5), (5, 5), (4, 3), "halve", "muted"),
    "3x3,5x5,5x5": ((3, 5, 5), (3, 5, 5), (7, 7), "keep", "learned"),
    "1x1,1x1": ((1, 1), (1, 1), (3, 2), "keep", "muted"),
}


@partial(jax.jit, static_argnames="config")
def outputs_and_gradients(parameters, features, mask, weights, config):
    """Locations, states, and the gradients of a weighted sum of both."""

    def total(parameters, features):
        outputs = model.unroll(parameters, features, mask, config, None)
        return sum(jnp.sum(w * part) for w, part in zip(weights, outputs, strict=True)), outputs

    (_, outputs), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(parameters, features)
    return outputs, gradients


def both_formulations(stack, dtype):
    input_kernels, state_kernels, grid, between, location = STACKS[stack]
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.standard_normal((2, 4, *grid, 3)), dtype)
    mask = jnp.array([[True, True, True, True], [True, True, False, True]])
    results = []
    for formulation in ("spatial", "frequency"):
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
    for spatial, over_frequencies in zip(*map(jax.tree.leaves, results), strict=True):
        assert np.abs(spatial - over_frequencies).max() <= tolerance * max(np.abs(spatial).max(), 1e-30)


@pytest.mark.parametrize(
    "stack",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("3x3,5x5,5x5", "1x1,1x1") else name for name in STACKS],
)
def test_recurrence_and_every_gradient_equal_the_spatial_form(stack):
    with jax.enable_x64(True):
        results = both_formulations(stack, jnp.float64)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(results))
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(results[0][1]))
    assert_close(results, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_recurrence_and_every_gradient_equal_the_spatial_form_in_single_precision(stack):
    assert_close(both_formulations(stack, jnp.float32), 1e-5)
