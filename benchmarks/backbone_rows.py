"""The rows of `benchmarks.backbones`: frames a second by backbone and pass, compile time and memory."""

from collections.abc import Iterator

from benchmarks.backbones import better_layout, compilation, random_frames, side_by_side, torch_peak
from benchmarks.measuring import Row, row_of, single

# At this size `vgg16_bvlc` computes what `vgg16` does.
SHAPES = {
    "googlenet": (8, 224, 224),
    "googlenet_bvlc": (8, 224, 224),
    "vgg16": (2, 224, 224),
    "efficientnet_lite0": (32, 192, 96),
}
ALONE = ("googlenet", "efficientnet_lite0")
"""Those whose compile time and memory are measured too."""


def passes(backbone: str, shape: tuple[int, int, int], runs: int) -> Iterator[Row]:
    """Seconds forward and in training, beside the better of PyTorch's layouts."""
    seconds = side_by_side(backbone, random_frames(*shape), runs)
    for which in ("forward", "training"):
        better = better_layout(seconds, which)
        reference = better[1] if better else None
        title = f"{backbone}, {shape[0]} frames of {shape[1]}x{shape[2]}: {which}"
        yield row_of(title, seconds["JAX", which], reference, goal=1.0 if better else None)


def alone(backbone: str, shape: tuple[int, int, int]) -> list[Row]:
    """The training pass in processes of its own: compilation, cold and from the cache, and peak memory."""
    cold, warm, peak = compilation(backbone, shape)
    try:
        theirs = torch_peak(backbone, shape)
    except ImportError:
        theirs = None
    return [
        single(f"{backbone}: compiling the training pass", cold, "s"),
        single(f"{backbone}: the same from the cache", warm, "s"),
        single(f"{backbone}: peak memory in training", peak, "MB", theirs),
    ]


def measure(quick: bool) -> Iterator[Row]:
    """All rows of the backbones."""
    shapes = {"googlenet": (1, 64, 64)} if quick else SHAPES
    for name, shape in shapes.items():
        yield from passes(name, shape, 2 if quick else 5)
    for name in () if quick else ALONE:
        yield from alone(name, SHAPES[name])
