"""Convolutions as Eq. 5 writes them: their gradients beside those of automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import spatial

pytestmark = pytest.mark.usefixtures("quick_compilation")


def plain_convolve(x, kernel):
    images = jnp.moveaxis(x, 2, 0)
    output = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.moveaxis(output, 0, 2)


@pytest.mark.parametrize(("grid", "k"), [((4, 3), 1), ((4, 3), 3), ((2, 2), 5), ((4, 5), 9), ((9, 4), 3)])
def test_spatial_convolution_and_its_gradients_are_autodiffs(grid, k):
    rng = np.random.default_rng(14)
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(rng.standard_normal(shape)) for shape in ((*grid, 2, 3), (k, k, 3, 4)))
        weights = jnp.asarray(rng.standard_normal((*grid, 2, 4)))

        def total(convolve, x, kernel):
            return jnp.sum(weights * jnp.sin(convolve(x, kernel)))

        ours, plain = (
            jax.jit(jax.value_and_grad(lambda *a, f=f: total(f, *a), argnums=(0, 1)))(x, kernel)
            for f in (spatial.convolve, plain_convolve)
        )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-11)


def test_spatial_convolution_can_be_mapped_and_differentiated_twice():
    rng = np.random.default_rng(15)
    with jax.enable_x64(True):
        x, kernels = (jnp.asarray(rng.standard_normal(shape)) for shape in ((3, 4, 2, 2), (2, 3, 3, 2, 2)))

        def bent(convolve, kernel):
            return jnp.sum(jnp.tanh(convolve(x, kernel)))

        def curvature(convolve, kernel):
            slope = jax.grad(lambda kernel: jnp.sum(jnp.square(jax.grad(lambda k: bent(convolve, k))(kernel))))
            return slope(kernel)

        ours, plain = (
            jax.jit(jax.vmap(lambda kernel, f=f: curvature(f, kernel)))(kernels)
            for f in (spatial.convolve, plain_convolve)
        )
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(ours, plain, atol=1e-10)
