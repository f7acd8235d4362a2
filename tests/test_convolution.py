"""The convolution for large maps against XLA's, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax.backbones import convolution


@pytest.mark.parametrize(("side", "stride", "sides"), [(3, 1, (6, 5)), (7, 2, (9, 8)), (5, 1, (4, 3)), (1, 2, (5, 4))])
def test_convolution_equals_xla_in_gradients(side, stride, sides):
    draw = np.random.default_rng(0)
    x, kernel = (jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((3, *sides, 4), (side, side, 4, 6)))
    expected, pull_expected = jax.vjp(lambda x, kernel: convolution.plain(x, kernel, stride), x, kernel)
    direction = jnp.asarray(draw.normal(size=expected.shape), jnp.float32)
    for function in (convolution.shifted_gradient, convolution.convolution):
        ours, pull = jax.vjp(lambda x, kernel, f=function: f(x, kernel, stride), x, kernel)
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        for gradient, of_xla in zip(pull(direction), pull_expected(direction), strict=True):
            np.testing.assert_allclose(gradient, of_xla, atol=1e-4)
