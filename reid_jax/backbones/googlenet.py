"""GoogLeNet (Szegedy et al. 2015, Inception v1) in its two published forms, without the auxiliary classifiers.

`googlenet` is torchvision's: batch norm, frames scaled to -1..1, 3x3 kernels in place of 5x5, a 2x2 last pool.
`googlenet_bvlc` is Caffe's: biases, local response normalisation, BGR frames less a mean colour.
"""

from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from reid_jax.backbones import pretrained
from reid_jax.backbones.batch_norm import RELU, BatchNorm
from reid_jax.backbones.convolution import Convolution
from reid_jax.backbones.pooling import max_pool

UNUSED = ("aux1.", "aux2.", "loss1/", "loss2/")
"""Beginnings of the names of published tensors that have no place here: the auxiliary classifiers."""

# Channels of the 1x1 branch, of the 3x3 branch (reduced, then given), of the 5x5 branch, and after the pool.
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_LAST_INCEPTION = {"last": "5b", "fc": "5b", "logits": "5b", "stride16": "4e", "stride8": "3b"}
_TORCHVISION = {
    "branch1": "branch1",
    "reduce2": "branch2.0",
    "branch2": "branch2.1",
    "reduce3": "branch3.0",
    "branch3": "branch3.1",
    "branch4": "branch4.1",
}
_BVLC = {
    "branch1": "1x1",
    "reduce2": "3x3_reduce",
    "branch2": "3x3",
    "reduce3": "5x5_reduce",
    "branch3": "5x5",
    "branch4": "pool_proj",
    "conv1": "conv1/7x7_s2",
    "conv2": "conv2/3x3_reduce",
    "conv3": "conv2/3x3",
    "fc": "loss3/classifier",
}
_LEAVES = {
    "kernel": "conv.weight",
    "scale": "bn.weight",
    "bias": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}
_MEAN_BGR = (104.0, 117.0, 123.0)
_norm = partial(BatchNorm, limits=RELU, momentum=0.9, epsilon=1e-3)


def local_response_norm(x: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
    """Each value divided by (1 + 1e-4 m) ** 0.75, m the mean square of the 5 channels around it (0 beyond the ends)."""
    squares = jnp.pad(jnp.square(x), ((0, 0),) * 3 + ((2, 2),))
    total = sum(squares[..., shift : shift + x.shape[-1]] for shift in range(5))
    return x * (1 + (1e-4 / 5) * total) ** -0.75


class Inception(nn.Module):
    """Four branches on one input, their channels put together: 1x1, 3x3, 5x5 and a pool."""

    channels: tuple[int, ...]
    bvlc: bool

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"], train: bool) -> Float[Array, "N H W O"]:
        one, reduce2, two, reduce3, three, four = self.channels
        layer = partial(Convolution, norm=None if self.bvlc else _norm)
        branches = (
            layer(one, 1, name="branch1")(x, train),
            layer(two, 3, name="branch2")(layer(reduce2, 1, name="reduce2")(x, train), train),
            layer(three, 5 if self.bvlc else 3, name="branch3")(layer(reduce3, 1, name="reduce3")(x, train), train),
            layer(four, 1, name="branch4")(max_pool(x, 3, 1, 1), train),
        )
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(nn.Module):
    """The network up to the endpoint, without its dropout."""

    bvlc: bool
    endpoint: str

    @nn.compact
    def __call__(self, pixels: Num[Array, "N H W 3"], train: bool) -> Float[Array, "N Kh Kw D"]:
        """Features of RGB frames in 0..255; `train` uses and updates the batch statistics of torchvision's form."""
        x = 1.0 * pixels[..., ::-1] if self.bvlc else pixels / 127.5 - 1
        x = x - jnp.asarray(_MEAN_BGR, x.dtype) if self.bvlc else x
        layer = partial(Convolution, norm=None if self.bvlc else _norm)
        x = max_pool(layer(64, 7, 2, name="conv1")(x, train), 3, 2, 0)
        x = local_response_norm(x) if self.bvlc else x
        x = layer(192, 3, name="conv3")(layer(64, 1, name="conv2")(x, train), train)
        x = max_pool(local_response_norm(x) if self.bvlc else x, 3, 2, 0)
        for name, channels in _INCEPTIONS.items():
            if name == "4a":
                x = max_pool(x, 3, 2, 0)
            if name == "5a":
                x = max_pool(x, 3 if self.bvlc else 2, 2, 0)
            x = Inception(channels, self.bvlc, name=f"inception{name}")(x, train)
            if name == _LAST_INCEPTION[self.endpoint]:
                break
        if self.endpoint not in ("fc", "logits"):
            return x
        x = x.mean((1, 2), keepdims=True)
        return x if self.endpoint == "fc" else nn.Dense(1000, name="fc")(x)


def build(backbone: str, endpoint: str) -> GoogLeNet:
    """The module. Endpoints: `last` (1024 channels, stride 32), `fc`, `logits`, `stride16` (832), `stride8` (480).

    `fc` (1 x 1 x 1024) is what enters the one fully connected layer, the average over locations, as VGG's fc7 enters
    its classifier; `logits` (1 x 1 x 1000) is what leaves it. Section V.C's "features from the last fully connected
    layers" for FC-GRU may mean either. Frames of any size; the last average is always over all locations.
    """
    if endpoint not in _LAST_INCEPTION:
        raise ValueError(f"endpoint {endpoint!r} of {backbone}: choose one of {', '.join(_LAST_INCEPTION)}")
    return GoogLeNet(backbone == "googlenet_bvlc", endpoint)


def shift(backbone: str, endpoint: str) -> float:
    """Pixels: the 7x7 convolution lies half of one above and left, each 3x3 pool half of its inputs' size below."""
    pools = {"last": 4 if build(backbone, endpoint).bvlc else 3, "stride16": 3, "stride8": 2}.get(endpoint, 0)
    return sum(0.5 * 2**level for level in range(1, pools + 1)) - 0.5 if pools else 0.0


def last_stages(backbone: str, endpoint: str) -> tuple[str, ...]:
    """Parameter names of the last two stages up to the endpoint: two Inceptions, or one and the classifier."""
    last = list(_INCEPTIONS).index(_LAST_INCEPTION[build(backbone, endpoint).endpoint])
    stages = [f"inception{name}" for name in list(_INCEPTIONS)[: last + 1]]
    return tuple([*stages, "fc"][-2:] if endpoint == "logits" else stages[-2:])


def whole(backbone: str) -> dict[str, Any]:
    """Shapes of the whole network's variables."""
    return pretrained.shapes(build(backbone, "logits"), 32)


def filled(backbone: str, variables: dict[str, Any], tensors: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """`variables` with the published `tensors` that were read at `path`; errors as in `pretrained.fill`."""
    return pretrained.fill(variables, whole(backbone), tensors, path, partial(tensor_name, backbone), UNUSED)


def tensor_name(backbone: str, path: tuple[str, ...]) -> str:
    """The published name of one leaf, e.g. params/inception3a/reduce2/kernel -> inception3a.branch2.0.conv.weight,
    or inception_3a/3x3_reduce.0 in Caffe's form."""
    _, *layers, leaf = path
    layers = [layer for layer in layers if layer != "norm"]
    if backbone == "googlenet_bvlc":
        folder = layers[0].replace("inception", "inception_") + "/" if len(layers) == 2 else ""
        return f"{folder}{_BVLC[layers[-1]]}.{('kernel', 'bias').index(leaf)}"
    if layers == ["fc"]:
        return f"fc.{'weight' if leaf == 'kernel' else 'bias'}"
    inner = [_TORCHVISION[layer] for layer in layers[1:]]
    return ".".join([layers[0], *inner, _LEAVES[leaf]])
