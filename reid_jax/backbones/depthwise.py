"""Depthwise convolution: each channel filtered with its own small kernel, fast on a CPU too."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def depthwise(x: Float[Array, "N H W C"], kernel: Float[Array, "k k 1 C"], stride: int) -> Float[Array, "N h w C"]:
    """Cross-correlate each channel of `x` with its own k x k kernel, padded as in TensorFlow ("SAME").

    XLA's grouped convolution, right on an accelerator, is many times slower on a CPU than a sum of shifted products.
    """
    return shifted(x, kernel, stride) if jax.default_backend() == "cpu" else grouped(x, kernel, stride)


def grouped(x: Float[Array, "N H W C"], kernel: Float[Array, "k k 1 C"], stride: int) -> Float[Array, "N h w C"]:
    """`depthwise` as XLA's convolution with one group a channel."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted(x: Float[Array, "N H W C"], kernel: Float[Array, "k k 1 C"], stride: int) -> Float[Array, "N h w C"]:
    """`depthwise` as a sum of k * k products of the kernel's entries with the shifted input."""
    return _sum_of_products(x, kernel, stride)


def _sum_of_products(x: Array, kernel: Array, stride: int) -> Array:
    windows = _windows(_padded(x, kernel.shape[0], stride), kernel.shape[0], stride)
    entries = kernel.reshape(-1, kernel.shape[-1])
    return sum(entry * window for entry, window in zip(entries, windows, strict=True))


def _padded(x: Array, side: int, stride: int) -> Array:
    spare = [max(0, ((size - 1) // stride) * stride + side - size) for size in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *((total // 2, total - total // 2) for total in spare), (0, 0)))


def _windows(padded: Array, side: int, stride: int) -> list[Array]:
    """For each entry of the kernel, in rows, the part of the padded input [.. H W C] that it is multiplied with."""
    height, width = (size - side + 1 for size in padded.shape[-3:-1])
    return [
        padded[..., row : row + height : stride, column : column + width : stride, :]
        for row in range(side)
        for column in range(side)
    ]


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return shifted(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    _, pull_back = jax.vjp(lambda x: _sum_of_products(x, kernel, stride), x)

    def add_frame(total: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
        padded, slope = frame
        products = [(window * slope).sum((0, 1)) for window in _windows(padded, kernel.shape[0], stride)]
        return total + jnp.stack(products), None

    # Frame by frame, because k * k reductions over the whole batch read it from memory k * k times.
    start = jnp.zeros((kernel.shape[0] ** 2, kernel.shape[-1]), x.dtype)
    total, _ = jax.lax.scan(add_frame, start, (_padded(x, kernel.shape[0], stride), gradient))
    return pull_back(gradient)[0], total.reshape(kernel.shape)


shifted.defvjp(_forward, _backward)
