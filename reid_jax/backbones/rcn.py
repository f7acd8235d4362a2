"""Small backbones that are trained from scratch: the CNN of McLaughlin et al. (2016), and two with batch norm."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float, Num

from reid_jax.backbones.pooling import halved


def _scaled(pixels: Num[Array, "N H W 3"]) -> Float[Array, "N H W 3"]:
    return (pixels - 127.5) / 127.5


class RCN(nn.Module):
    """Three 5x5 convolutions of 16, 32 and 32 channels, each with 2x2 max-pooling and tanh; ours takes RGB alone."""

    @nn.compact
    def __call__(self, pixels: Num[Array, "N H W 3"], train: bool) -> Float[Array, "N Kh Kw 32"]:
        """Features of RGB frames in 0..255, the sides divided by 8; `train` changes nothing (no batch norm)."""
        x = _scaled(pixels)
        for index, features in enumerate((16, 32, 32)):
            x = nn.Conv(features, (5, 5), name=f"conv{index}")(x)
            x = nn.tanh(halved(x))
        return x


class ConvNorm(nn.Module):
    """Convolution without bias, 3x3 by default, then batch norm."""

    features: int
    stride: int
    early: bool = False
    """With a stride of 2 and even sides: padded above and left, not below and right."""
    kernel: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"], train: bool) -> Float[Array, "N h w O"]:
        padding = [(1, side % 2) for side in x.shape[1:3]] if self.early else "SAME"
        x = nn.Conv(self.features, (self.kernel,) * 2, self.stride, padding, use_bias=False, name="conv")(x)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)


class Residual(nn.Module):
    """Two convolutions, 3x3 by default, beside a shortcut."""

    kernel: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "N H W C"], train: bool) -> Float[Array, "N H W C"]:
        inner = nn.relu(ConvNorm(x.shape[-1], 1, kernel=self.kernel, name="first")(x, train))
        return nn.relu(x + ConvNorm(x.shape[-1], 1, kernel=self.kernel, name="second")(inner, train))


class SmallCNN(nn.Module):
    """3x3 convolutions of stride 2 to 32, 64 and 128 channels, the last two with a residual block: 24 MMAC at 64x32.

    A 3x3 convolution of stride 2 sees half of its pixels' size further below and right than its output lies: here by
    0.5 and 1 pixels of the frame. The last one is padded so that it sees 2 pixels above and left: what a feature sees
    is centred within half a pixel of its cell, and a map shows what was looked at.
    """

    @nn.compact
    def __call__(self, pixels: Num[Array, "N H W 3"], train: bool) -> Float[Array, "N Kh Kw 128"]:
        """Features of RGB frames in 0..255, the sides divided by 8; `train` uses and updates the batch statistics."""
        x = nn.relu(ConvNorm(32, 2, name="conv0")(_scaled(pixels), train))
        for index, features in enumerate((64, 128), start=1):
            x = nn.relu(ConvNorm(features, 2, early=index == 2, name=f"conv{index}")(x, train))
            x = Residual(name=f"residual{index}")(x, train)
        return x


class PatchCNN(nn.Module):
    """`small_cnn` of which a feature sees little more than its cell, after Brendel and Bethge's bags of local features.

    The residual blocks are 1x1, the last step down 2x2: a feature sees 11x11 pixels where `small_cnn`'s sees 63x63. A
    cell beside the person does not show them, so where the network looks makes a difference.
    """

    @nn.compact
    def __call__(self, pixels: Num[Array, "N H W 3"], train: bool) -> Float[Array, "N Kh Kw 128"]:
        """Features of RGB frames in 0..255, the sides divided by 8; `train` uses and updates the batch statistics."""
        x = nn.relu(ConvNorm(32, 2, name="conv0")(_scaled(pixels), train))
        x = nn.relu(ConvNorm(64, 2, early=True, name="conv1")(x, train))
        x = Residual(kernel=1, name="residual1")(x, train)
        x = nn.relu(ConvNorm(128, 2, kernel=2, name="conv2")(x, train))
        return Residual(kernel=1, name="residual2")(x, train)


_MODULES = {"rcn": RCN, "small_cnn": SmallCNN, "patch_cnn": PatchCNN}
_WITH_NORMS = ("conv1", "residual1", "conv2", "residual2")
_LAST_STAGES = {"rcn": ("conv1", "conv2"), "small_cnn": _WITH_NORMS, "patch_cnn": _WITH_NORMS}


def build(backbone: str, endpoint: str) -> nn.Module:
    """The module; its only endpoint is `last`."""
    if endpoint != "last":
        raise ValueError(f"endpoint {endpoint!r} of {backbone}: the only one is last")
    return _MODULES[backbone]()


def shift(backbone: str, endpoint: str) -> float:
    """Pixels, of frames with even sides."""
    build(backbone, endpoint)
    return {"rcn": 0.0, "small_cnn": -0.5, "patch_cnn": -0.5}[backbone]


def last_stages(backbone: str, endpoint: str) -> tuple[str, ...]:
    """Parameter names of the last two stages."""
    build(backbone, endpoint)
    return _LAST_STAGES[backbone]


def pretrained_variables(backbone: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Always a ValueError: nobody published weights of these networks."""
    raise ValueError(f"there are no published weights of {backbone}: set pretrained=False, or another backbone")
