"""Convolution as Caffe and PyTorch pad it, with a gradient that is fast on a CPU too."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reid_jax.backbones.batch_norm import BatchNorm

_LARGE_MAP = 1000


def convolution(x: Float[Array, "N H W I"], kernel: Float[Array, "k k I O"], stride: int) -> Float[Array, "N h w O"]:
    """Cross-correlate with k // 2 zeros on each side (k odd), so that a frame's sides are divided by `stride`.

    XLA's own gradient of the kernel takes twice as long on a CPU where the maps are large; small ones keep it.
    """
    side = kernel.shape[0]
    if side == 1 and stride == 1:
        # Flat, because XLA's gradient of the kernel over three axes takes three times as long on a CPU.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
    large = (x.shape[1] // stride) * (x.shape[2] // stride) > _LARGE_MAP
    if large and jax.default_backend() == "cpu":
        return shifted_gradient(x, kernel, stride)
    return plain(x, kernel, stride)


def plain(x: Float[Array, "N H W I"], kernel: Float[Array, "k k I O"], stride: int) -> Float[Array, "N h w O"]:
    """`convolution` as XLA's, gradients included."""
    margin = (kernel.shape[0] // 2,) * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (margin, margin), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_gradient(
    x: Float[Array, "N H W I"], kernel: Float[Array, "k k I O"], stride: int
) -> Float[Array, "N h w O"]:
    """`convolution` whose kernel's gradient is a sum over frames of one matrix product for each entry."""
    return plain(x, kernel, stride)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return plain(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    side, margin = kernel.shape[0], (kernel.shape[0] // 2,) * 2
    height, width = ((size - 1) * stride + 1 for size in gradient.shape[1:3])
    _, pull_back = jax.vjp(lambda x: plain(x, kernel, stride), x)

    def add_frame(total: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
        padded, slope = frame
        products = [
            jnp.tensordot(
                padded[row : row + height : stride, column : column + width : stride], slope, ((0, 1), (0, 1))
            )
            for row in range(side)
            for column in range(side)
        ]
        return total + jnp.stack(products), None

    # Frame by frame, because the batch does not stay in the processor's cache over k * k products.
    start = jnp.zeros((side**2, *kernel.shape[2:]), x.dtype)
    total, _ = jax.lax.scan(add_frame, start, (jnp.pad(x, ((0, 0), margin, margin, (0, 0))), gradient))
    return pull_back(gradient)[0], total.reshape(kernel.shape)


shifted_gradient.defvjp(_forward, _backward)


class Convolution(nn.Module):
    """`convolution`, then batch norm with its ReLU, or a bias and ReLU."""

    features: int
    kernel: int
    stride: int = 1
    norm: Callable[..., BatchNorm] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"], train: bool) -> Float[Array, "N h w O"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        x = convolution(x, self.param("kernel", nn.initializers.he_normal(), shape), self.stride)
        if self.norm is None:
            return nn.relu(x + self.param("bias", nn.initializers.zeros, (self.features,)))
        return self.norm(name="norm")(x, train)
