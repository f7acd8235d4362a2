"""The rows of `benchmarks.backbones`: frames a second by backbone and pass, compile time and memory."""

import statistics
import tempfile

from benchmarks.backbones import jax_alone, random_frames, side_by_side, torch_alone
from benchmarks.measuring import Row, in_own_process, row_of, single

SHAPES = {
    "googlenet": (8, 224, 224),
    "googlenet_bvlc": (8, 224, 224),
    "vgg16": (2, 224, 224),
    "vgg16_bvlc": (2, 224, 224),
    "efficientnet_lite0": (32, 192, 96),
}
ALONE = ("googlenet", "efficientnet_lite0")
"""Those whose compile time and memory are measured too."""


def passes(backbone: str, shape: tuple[int, int, int], runs: int) -> list[Row]:
    """Seconds forward and in training, beside the better of PyTorch's layouts."""
    seconds, rows = side_by_side(backbone, random_frames(*shape), runs), []
    for which in ("forward", "training"):
        others = [times for (name, kind), times in seconds.items() if kind == which and name != "JAX"]
        reference = min(others, key=statistics.median) if others else None
        title = f"{backbone}, {shape[0]} frames of {shape[1]}x{shape[2]}: {which}"
        rows.append(row_of(title, seconds["JAX", which], reference, goal=1.0 if others else None))
    return rows


def alone(backbone: str, shape: tuple[int, int, int]) -> list[Row]:
    """The training pass in processes of its own: compilation, cold and from the cache, and peak memory."""
    with tempfile.TemporaryDirectory() as cache:
        cold, _ = in_own_process(jax_alone, backbone, shape, cache)
        warm, peak = in_own_process(jax_alone, backbone, shape, cache)
    try:
        theirs = min(in_own_process(torch_alone, backbone, shape, f) for f in ("contiguous_format", "channels_last"))
    except ImportError:
        theirs = None
    return [
        single(f"{backbone}: compiling the training pass", cold, "s"),
        single(f"{backbone}: the same from the cache", warm, "s"),
        single(f"{backbone}: peak memory in training", peak, "MB", theirs),
    ]


def measure(quick: bool) -> list[Row]:
    """All rows of the backbones."""
    shapes = {"googlenet": (1, 64, 64)} if quick else SHAPES
    rows = [row for name, shape in shapes.items() for row in passes(name, shape, 2 if quick else 5)]
    return rows + ([] if quick else [row for name in ALONE for row in alone(name, SHAPES[name])])
