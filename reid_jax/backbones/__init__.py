"""Frame -> feature cube: the convolutional networks under the recurrence, by the name in `BackboneConfig`.

Each is a Linen module called as `module.apply(variables, pixels, train=False)` with RGB `pixels[N H W 3]` in 0..255
(uint8 or float32), which it normalises itself; it gives a float32 cube `[N Kh Kw D]`. With `train=True` batch norm uses
the batch's statistics and needs `mutable=["batch_stats"]`; stochastic depth needs a key, `rngs={DEPTH: key}`.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from reid_jax.backbones import efficientnet_lite, googlenet, rcn, vgg
from reid_jax.backbones.efficientnet_lite import DEPTH as DEPTH
from reid_jax.backbones.weights_files import cached_file, read_tensors
from reid_jax.config import BackboneConfig

_MODULES = {"rcn": rcn, "small_cnn": rcn, "patch_cnn": rcn}
_FROM_FILES = {"googlenet": googlenet, "googlenet_bvlc": googlenet, "vgg16": vgg, "vgg16_bvlc": vgg}
_MODULES |= _FROM_FILES
_MODULES |= {f"efficientnet_lite{scale}": efficientnet_lite for scale in range(3)}


def build(config: BackboneConfig) -> nn.Module:
    """The module of `config.backbone` up to `config.endpoint`; an unknown endpoint is a ValueError that lists them."""
    options = {"stochastic_depth": config.stochastic_depth} if config.stochastic_depth else {}
    return _MODULES[config.backbone].build(config.backbone, config.endpoint, **options)


def pretrained_variables(config: BackboneConfig, variables: dict[str, Any]) -> dict[str, Any]:
    """`variables` (of `build(config).init`) with the published weights.

    Raises ValueError when there are none for this backbone, when their package or file is not there (naming it), and
    for a tensor that is missing, of another shape or left over (naming file and tensor).
    """
    backbone = config.backbone
    if backbone in _FROM_FILES:
        path = cached_file(backbone)
        return _FROM_FILES[backbone].filled(backbone, variables, read_tensors(path), path)
    return _MODULES[backbone].pretrained_variables(backbone, variables)


def check(backbone: str, tensors: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """The whole network's variables with the published `tensors`, which were read at `path`.

    For the backbones whose weights come in files. Raises ValueError naming the file and the tensor when one is missing,
    of another shape, not finite, or left over.
    """
    module = _FROM_FILES[backbone]
    return module.filled(backbone, module.whole(backbone), tensors, path)


def shift(config: BackboneConfig) -> float:
    """By how many pixels what a cell of the cube sees is centred below and right of that cell.

    A convolution or pool of stride 2 is centred beside its output where its padding is not alike on both sides.
    """
    return _MODULES[config.backbone].shift(config.backbone, config.endpoint)


def last_stages(config: BackboneConfig) -> tuple[str, ...]:
    """Names in the module's `params` of the stages that are trained with `fine_tune="last"`: the last two."""
    return _MODULES[config.backbone].last_stages(config.backbone, config.endpoint)
