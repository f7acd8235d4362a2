"""A backbone and its depthwise convolutions in training on an accelerator, in three precisions, beside PyTorch's.

As in:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks --only accelerator_backbone
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator import PRECISIONS, REPEATED, Work, better_of, check_there, compiling, repeated, seconds_of
from benchmarks.measuring import Row, row_of
from reid_jax import backbones, model
from reid_jax.backbones import depthwise
from reid_jax.backbones.efficientnet_lite import blocks
from reid_jax.config import BackboneConfig
from reid_jax.precision import products_in


def backbone(name: str, shape: tuple[int, int, int], runs: int, times: int) -> Iterator[Row]:
    """A backbone in training by precision."""
    module = backbones.build(BackboneConfig(backbone=name))
    frames = np.random.default_rng(0).integers(0, 256, (shape[0], 1, *shape[1:], 3)).astype(np.uint8)
    variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 64, 64, 3)), train=False))(jax.random.key(0))
    pixels, mask = jnp.asarray(frames), jnp.ones((shape[0], 1), bool)

    def slope(variables: Any, precision: str) -> Any:
        def total(params: Any) -> Any:
            cubes, moved = model.extract(module, {**variables, "params": params}, pixels, mask, True, precision)
            return jnp.square(cubes).mean(), moved

        with products_in(precision):
            return jax.grad(total, has_aux=True)(variables["params"])

    title = f"{name} in training, {shape[0]} frames of {shape[1]}x{shape[2]}"
    for precision in PRECISIONS:
        work = {("ours", precision): repeated(partial(jax.jit(partial(slope, precision=precision)), variables))}
        yield compiling(f"{precision}: {name}", work.values())
        work |= _torch_backbone(name, variables, frames[:, 0].astype(np.float32), precision)
        seconds = seconds_of(work, runs, times)
        reference, against = better_of(seconds, precision)
        yield row_of(f"{precision}: {title}", seconds["ours", precision], reference, against=against)


def _torch_backbone(name: str, variables: Any, frames: np.ndarray, precision: str) -> Work:
    try:
        from benchmarks import torch_accelerator
    except ImportError:
        print("PyTorch or torchvision is not installed: no ratio to it")
        return {}
    make = partial(torch_accelerator.backbone_training, name, variables, frames, precision)
    return {("PyTorch", way, precision): make(way) for way in torch_accelerator.ways(precision)}


def depthwise_layers(shape: tuple[int, int, int], runs: int, times: int) -> Iterator[Row]:
    """All depthwise convolutions of EfficientNet-Lite0 in training, in both forms."""
    arrays, work, size = [], {}, [-(-side // 2) for side in shape[1:]]
    for block in blocks("efficientnet_lite0", 7):
        channels, rng = block.inputs * block.expansion, np.random.default_rng(len(arrays))
        images = rng.standard_normal((shape[0], *size, channels), np.float32)
        arrays.append(
            (images, rng.standard_normal((block.kernel, block.kernel, 1, channels), np.float32), block.stride)
        )
        size = [-(-side // block.stride) for side in size]

    def total(pairs: Any, function: Callable[..., Any]) -> Any:
        return sum(jnp.square(function(*pair, stride)).sum() for pair, (*_, stride) in zip(pairs, arrays, strict=True))

    for kind in ("float32", "bfloat16"):
        pairs = [[jnp.asarray(array, kind) for array in pair] for *pair, _ in arrays]
        for name in ("grouped", "shifted"):
            slope = jax.jit(jax.grad(partial(total, function=getattr(depthwise, name))))
            work[name, kind] = repeated(partial(slope, pairs))
    yield compiling("depthwise convolutions in both forms", work.values())
    seconds = seconds_of(work, runs, times)
    title = f"depthwise convolutions as shifted sums, {shape[0]} frames of {shape[1]}x{shape[2]}"
    against = "grouped convolutions"
    for kind in ("float32", "bfloat16"):
        yield row_of(f"{kind}: {title}", seconds["shifted", kind], seconds["grouped", kind], against=against)


def measure(quick: bool) -> Iterator[Row]:
    """The rows of EfficientNet-Lite0, each as it is found.

    Raises:
        RuntimeError: there is no accelerator, and not only to see that everything runs.
    """
    check_there(quick)
    runs, times = (2, 1) if quick else (5, REPEATED)
    frames = (2, 32, 32) if quick else (64, 192, 96)
    yield from backbone("efficientnet_lite0", frames, runs, times)
    yield from depthwise_layers(frames, runs, times)
