"""VGG-16 (Simonyan and Zisserman 2015, configuration D) in its two published forms.

`vgg16` is torchvision's: RGB frames normalised by ImageNet's mean and deviation, pools that leave out an odd last row.
`vgg16_bvlc` is the authors' own, for Caffe: BGR frames less a mean colour, pools that take it in ("ceil mode").
"""

from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from reid_jax.backbones import pretrained
from reid_jax.backbones.convolution import Convolution
from reid_jax.backbones.pooling import adaptive_average_pool, halved, max_pool

UNUSED = ()
"""Beginnings of the names of published tensors that have no place here: none."""

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_LAYERS = tuple(f"conv{block}_{layer}" for block, sizes in enumerate(_BLOCKS, 1) for layer in range(1, len(sizes) + 1))
_STAGES_UP_TO = {"last": 5, "conv5": 5, "fc7": 7, "logits": 8}
# torchvision numbers the layers of each of two sequences, ReLUs, pools and dropouts included.
_PLACES = dict(zip(_LAYERS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))
_TORCHVISION = {layer: f"features.{place}" for layer, place in _PLACES.items()}
_TORCHVISION |= {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MEAN_BGR = (103.939, 116.779, 123.68)


class VGG16(nn.Module):
    """The network up to the endpoint, without its dropout."""

    caffe: bool
    endpoint: str

    @nn.compact
    def __call__(self, pixels: Num[Array, "N H W 3"], train: bool) -> Float[Array, "N Kh Kw D"]:
        """Features of RGB frames in 0..255; `train` changes nothing (no batch norm, no dropout)."""
        if self.caffe:
            x = 1.0 * pixels[..., ::-1]
            x = x - jnp.asarray(_MEAN_BGR, x.dtype)
        else:
            x = pixels / 255.0
            x = (x - jnp.asarray(_MEAN, x.dtype)) / jnp.asarray(_DEVIATION, x.dtype)
        for block, sizes in enumerate(_BLOCKS, start=1):
            for layer, features in enumerate(sizes, start=1):
                x = Convolution(features, 3, name=f"conv{block}_{layer}")(x, train)
            if (block, self.endpoint) == (len(_BLOCKS), "conv5"):
                return x
            x = max_pool(x, 2, 2, 0) if self.caffe else halved(x)
        if self.endpoint == "last":
            return x
        # The published weights of fc6 are in the order of channels, rows, columns.
        x = adaptive_average_pool(x, 7).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        for layer in ("fc6", "fc7"):
            x = nn.relu(nn.Dense(4096, name=layer)(x))
        x = x if self.endpoint == "fc7" else nn.Dense(1000, name="fc8")(x)
        return x[:, None, None]


def build(backbone: str, endpoint: str) -> VGG16:
    """The module. Endpoints: `last` (pool5: 512 channels, stride 32), `conv5` (the same before pooling, stride 16),
    `fc7` (1 x 1 x 4096, after its ReLU: section V.C's features for FC-GRU) and `logits` (1 x 1 x 1000).

    Before fc6 the cube of frames other than 224 x 224 is averaged to 7 x 7, as torchvision does; the smallest frame
    is 32 x 32.
    """
    if endpoint not in _STAGES_UP_TO:
        raise ValueError(f"endpoint {endpoint!r} of {backbone}: choose one of {', '.join(_STAGES_UP_TO)}")
    return VGG16(backbone == "vgg16_bvlc", endpoint)


def shift(backbone: str, endpoint: str) -> float:
    """Nothing: its 2x2 pools cover what their outputs lie over."""
    build(backbone, endpoint)
    return 0.0


def last_stages(backbone: str, endpoint: str) -> tuple[str, ...]:
    """Parameter names of the last two stages up to the endpoint: blocks of convolutions, or fully connected layers."""
    last = _STAGES_UP_TO[build(backbone, endpoint).endpoint]
    starts = tuple(f"conv{stage}_" if stage <= len(_BLOCKS) else f"fc{stage}" for stage in (last - 1, last))
    return tuple(layer for layer in _TORCHVISION if layer.startswith(starts))


def whole(backbone: str) -> dict[str, Any]:
    """Shapes of the whole network's variables."""
    return pretrained.shapes(build(backbone, "logits"), 32)


def filled(backbone: str, variables: dict[str, Any], tensors: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """`variables` with the published `tensors` that were read at `path`; errors as in `pretrained.fill`."""
    return pretrained.fill(variables, whole(backbone), tensors, path, partial(tensor_name, backbone), UNUSED)


def tensor_name(backbone: str, path: tuple[str, ...]) -> str:
    """The published name of one leaf, e.g. params/conv1_2/kernel -> features.2.weight, or conv1_2.0 in Caffe's."""
    _, layer, leaf = path
    if backbone == "vgg16_bvlc":
        return f"{layer}.{('kernel', 'bias').index(leaf)}"
    return f"{_TORCHVISION[layer]}.{'weight' if leaf == 'kernel' else 'bias'}"
