"""The convolution against SciPy's correlation, and its gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.ndimage import correlate

from reid_jax.backbones.convolution import convolution


@pytest.mark.parametrize(
    ("side", "stride", "sides"), [(3, 1, (6, 5)), (7, 2, (9, 8)), (5, 1, (4, 3)), (1, 2, (5, 4)), (1, 1, (5, 4))]
)
def test_convolution_is_zero_padded_correlation(side, stride, sides):
    draw = np.random.default_rng(0)
    images, kernel = draw.normal(size=(2, *sides, 3)), draw.normal(size=(side, side, 3, 4))
    expected = np.stack(
        [
            [sum(correlate(image[..., i], kernel[..., i, o], mode="constant") for i in range(3)) for o in range(4)]
            for image in images
        ]
    )[:, :, ::stride, ::stride].transpose(0, 2, 3, 1)
    with jax.enable_x64(True):
        arrays = jnp.asarray(images), jnp.asarray(kernel)
        np.testing.assert_allclose(convolution(*arrays, stride), expected, atol=1e-12)
        check_grads(lambda x, k: convolution(*map(jnp.asarray, (x, k)), stride), arrays, order=1, modes=["rev"])
