"""Convolution as Caffe and PyTorch pad it, and the layer that the backbones have in common."""

from collections.abc import Callable

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from reid_jax.backbones.batch_norm import BatchNorm


def convolution(x: Float[Array, "N H W I"], kernel: Float[Array, "k k I O"], stride: int) -> Float[Array, "N h w O"]:
    """Cross-correlate with k // 2 zeros on each side (k odd), so that a frame's sides are divided by `stride`."""
    side = kernel.shape[0]
    if side == 1 and stride == 1:
        # Flat, because XLA's gradient of the kernel over three axes takes three times as long on a CPU.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
    margin = (side // 2,) * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), (margin, margin), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


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
