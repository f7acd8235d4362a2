"""Zero-padded convolutions as Eq. 5 writes them, with gradients that stay fast inside a scan.

Inside a `while` loop XLA's CPU backend keeps only canonical convolutions fast (jax-ml/jax#12868): the gradients that
autodiff writes there fall to a few GFLOP/s, as do kernels larger than the usual grids anywhere. So on a CPU every pass
here is a canonical convolution or a matrix product: the gradient of the input is the convolution with the turned and
transposed kernel, that of the kernel is a convolution with the channels as the batch.

Axes: `Kh Kw` grid, `*N` any axes between, clips say, `D F` channels.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reid_jax.precision import factors

LARGEST_CANONICAL = 7
"""Kernel side up to which XLA's CPU backend is fast."""


@jax.custom_vjp
def convolve(x: Float[Array, "Kh Kw *N D"], kernel: Float[Array, "k k D F"]) -> Float[Array, "Kh Kw *N F"]:
    """Zero-padded convolution that keeps the grid (Eq. 5's `*`); kernels of odd sides."""
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    if _slow(kernel.shape[0]):
        return jnp.tensordot(_patches(x, kernel.shape[0]), kernel, 3)
    images = jnp.moveaxis(x.reshape(*x.shape[:2], -1, x.shape[-1]), 2, 0)
    output = _canonical(images, kernel, "SAME")
    return jnp.moveaxis(output, 0, 2).reshape(*x.shape[:-1], kernel.shape[-1])


def transposed(kernel: Float[Array, "k k D F"]) -> Float[Array, "k k F D"]:
    """The kernel whose convolution is the gradient of the input."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def kernel_gradient(
    x: Float[Array, "Kh Kw *N D"], gradient: Float[Array, "Kh Kw *N F"], side: int
) -> Float[Array, "k k D F"]:
    """The gradient of a kernel of `side` from a convolution's images and its outputs' gradient."""
    x, gradient = (array.reshape(*array.shape[:2], -1, array.shape[-1]) for array in (x, gradient))
    if side == 1:
        return jnp.tensordot(x, gradient, ((0, 1, 2), (0, 1, 2)))[None, None]
    if _slow(max(side, *x.shape[:2])):
        return jnp.tensordot(_patches(x, side), gradient, ((0, 1, 2), (0, 1, 2)))
    if jax.default_backend() != "cpu":  # whose libraries have kernels of their own for it
        images, of_outputs = (jnp.moveaxis(array, 2, 0) for array in (x, gradient))
        shape = jax.ShapeDtypeStruct((side, side, x.shape[-1], gradient.shape[-1]), x.dtype)
        return jax.linear_transpose(lambda kernel: _canonical(images, kernel, "SAME"), shape)(of_outputs)[0]
    reach = (side // 2, side // 2)
    return jnp.moveaxis(_canonical(jnp.moveaxis(x, 3, 0), gradient, (reach, reach)), 0, 2)


def _slow(side: int) -> bool:
    return side > LARGEST_CANONICAL and jax.default_backend() == "cpu"


def _canonical(
    images: Float[Array, "N H W D"], kernel: Float[Array, "k1 k2 D F"], padding: str | tuple[tuple[int, int], ...]
) -> Float[Array, "N H2 W2 F"]:
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _patches(x: Float[Array, "Kh Kw *N D"], side: int) -> Float[Array, "Kh Kw *N k k D"]:
    """What a kernel of `side` sees from each point (im2col)."""
    height, width = x.shape[:2]
    reach = side // 2
    padded = jnp.pad(x, [(reach, reach)] * 2 + [(0, 0)] * (x.ndim - 2))
    rows = [jnp.stack([padded[i : i + height, j : j + width] for j in range(side)], -2) for i in range(side)]
    return jnp.stack(rows, -3)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    return convolve(gradient, transposed(kernel)), kernel_gradient(x, gradient, kernel.shape[0])


convolve.defvjp(_forward, _backward)


@dataclass(frozen=True)
class Spatial:
    """Convolutions in this form, and in what precision; see `frequency.Frequency`, which has the same methods."""

    precision: str

    def prepare(self, kernel: Float[Array, "k k D F"]) -> Float[Array, "k k D F"]:
        """A kernel is used as it is, rounded once."""
        return factors(self.precision, kernel)[0]

    def analyse(self, x: Float[Array, "Kh Kw *N D"]) -> Float[Array, "Kh Kw *N D"]:
        """Images are used as they are."""
        return x

    def multiply(self, x: Float[Array, "Kh Kw *N D"], weights: Float[Array, "k k D F"]) -> Float[Array, "Kh Kw *N F"]:
        """The convolution."""
        return convolve(*factors(self.precision, x, weights)).astype(x.dtype)

    def synthesise(self, y: Float[Array, "Kh Kw *N F"]) -> Float[Array, "Kh Kw *N F"]:
        """Convolutions are on the grid."""
        return y

    def kernel_gradient(
        self, x: Float[Array, "Kh Kw *N D"], gradient: Float[Array, "Kh Kw *N F"], side: int
    ) -> Float[Array, "k k D F"]:
        """The gradient of a kernel of `side` from a convolution's images and its outputs' gradient."""
        return kernel_gradient(*factors(self.precision, x, gradient), side).astype(x.dtype)
