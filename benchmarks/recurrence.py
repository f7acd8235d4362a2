"""The head forward and in training beside PyTorch's: kernels, frames, clips; its share of the matrix-product peak.

As in:

    python -m benchmarks --only recurrence
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.heads import (
    NAMES,
    TOLERANCE_GRADIENTS,
    assert_same,
    better_layout,
    first_variables,
    network_of,
    our_passes,
    torch_passes,
)
from benchmarks.measuring import Row, Seconds, assert_agree, interleaved, row_of
from benchmarks.sizes import Size, batch_of
from reid_jax import frequency
from reid_jax.spatial import convolve

GOALS = {"training": 0.40, "forward": 0.33, "prepared": 0.27}
"""At 20 clips of 20 frames and 5x5 kernels."""
TABLE_II = {(3, 5, 5): 0.55, (3, 9, 1): 0.45, (3, 1, 9): 0.45}
"""The variants' kernels by layer, and the goal in training."""


def side_by_side(size: Size, passes: Sequence[str], runs: int, beside: dict[str, Callable] | None = None) -> Seconds:
    """Seconds by `ours NAME` and `PyTorch NAME` for each pass, and of what is measured in the same turns.

    PyTorch's, where it is installed, are asserted to agree.
    """
    print(f"  {size.title}", flush=True)
    network, batch = network_of(size), batch_of(size)
    variables = first_variables(size)
    ours = our_passes(network, variables, batch)
    work = {f"ours {name}": getattr(ours, name) for name in passes} | (beside or {})
    try:
        theirs, model = torch_passes(network, variables, batch, better_layout(size))
    except ImportError:
        print("PyTorch is not installed: no ratio to it")
        return interleaved(work, runs)
    work |= {f"PyTorch {name}": getattr(theirs, name) for name in passes if name != "prepared"}

    def check(found: Mapping[str, Any]) -> None:
        of = {whose: {name: found.get(f"{whose} {name}") for name in passes} for whose in ("ours", "PyTorch")}
        assert_same(of["ours"], of["PyTorch"], model)

    return interleaved(work, runs, check)


def rows_of(size: Size, seconds: Seconds, goals: dict[str, float], **others: Any) -> list[Row]:
    """A row for each of our passes; prepared kernels are compared with PyTorch's forward pass."""
    rows = []
    for name in NAMES:
        if times := seconds.get(f"ours {name}"):
            reference = seconds.get(f"PyTorch {'forward' if name == 'prepared' else name}")
            goal = goals.get(name) if reference else None
            rows.append(row_of(f"{NAMES[name]}: {size.title}", times, reference, goal=goal, **others))
    return rows


def real_operations(size: Size, prepared: bool) -> float:
    """Floating-point operations of the frequency path, forward: its products and its transforms, counted as real ones.

    Without `prepared` the transform of the kernels is counted too.
    """
    points, per_frame, once, inputs = size.cube[0] * size.cube[1], 0, 0, size.cube[2]
    for hidden, side in zip(size.channels, size.kernels, strict=True):
        rows = 2 * len(frequency.basis(size.cube[:2], side).angles)
        pairs = inputs * 3 * hidden + hidden * 3 * hidden
        per_frame += 2 * rows * pairs + rows * points * (inputs + 2 * hidden + 3 * hidden)
        once += rows * side * side * pairs
        inputs = hidden
    return 2.0 * (per_frame * size.clips * size.frames + (0 if prepared else once))


def products_alone(size: Size) -> tuple[int, int, int, int]:
    """Frequencies, rows, inputs and outputs of the largest products of a frame: the first layer's of what it sees."""
    frequencies = len(frequency.basis(size.cube[:2], size.kernels[0]).angles)
    return frequencies, 2 * size.clips, size.cube[2], 6 * size.channels[0]


def share_of_peak(size: Size, seconds: Seconds, peak_size: int) -> list[Row]:
    """Operations a second of a large matrix product and, beside it, of the frequency path and its products alone."""

    def rates_of(operations: float, times: list[float]) -> list[float]:
        return sorted(operations / 1e9 / time for time in times)

    def beside(name: str, rates: list[float], goal: float | None) -> Row:
        median = float(np.median(rates))
        others = dict(against="the matrix product", ratio=median / reference, goal=goal, at_least=True)
        return Row(name, median, "GFLOP/s", rates[0], rates[-1], reference, **others)

    peak = rates_of(2.0 * peak_size**3, seconds["peak"])
    reference = float(np.median(peak))
    rows = [Row(f"matrix product {peak_size} x {peak_size}", reference, "GFLOP/s", peak[0], peak[-1])]
    alone = products_alone(size)
    name = "{0} products of {1} x {2} and {2} x {3}, as in a frame, alone".format(*alone)
    rows.append(beside(name, rates_of(2.0 * math.prod(alone), seconds["alone"]), None))
    for name, passes in (("forward", 1), ("prepared", 1), ("training", 3)):
        operations = passes * real_operations(size, name == "prepared")
        rows.append(beside(f"real operations, {NAMES[name]}", rates_of(operations, seconds[f"ours {name}"]), 0.6))
    return rows


def inside_a_scan(side: int, clips: int, channels: int, frames: int, runs: int) -> Row:
    """The gradient of a spatial convolution in a scan, against as many calls outside one."""
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.standard_normal((side, side, channels, channels), np.float32))
    images = jnp.asarray(rng.standard_normal((frames, 7, 7, clips, channels), np.float32))

    def scanned(kernel: jax.Array, images: jax.Array) -> jax.Array:
        body = lambda total, x: (total + jnp.square(convolve(x, kernel)).sum(), None)  # noqa: E731
        return jax.lax.scan(body, 0.0, images)[0]

    inside = jax.jit(jax.grad(scanned, argnums=(0, 1)))
    outside = jax.jit(jax.grad(lambda kernel, x: jnp.square(convolve(x, kernel)).sum(), argnums=(0, 1)))
    work = {
        "inside": lambda: inside(kernel, images),
        "outside": lambda: [outside(kernel, x) for x in images],
    }
    seconds = interleaved(work, runs)
    name = f"gradient of {frames} spatial {side}x{side} convolutions inside a scan"
    return row_of(name, seconds["inside"], seconds["outside"], against="outside", goal=3.0)


def formulations(size: Size, runs: int) -> Row:
    """The frequency formulation in training beside the spatial one: what `recurrent.ENOUGH` rests on."""
    batch, work = batch_of(size), {}
    variables = first_variables(size)
    for formulation in ("frequency", "spatial"):
        work[formulation] = our_passes(network_of(size, formulation), variables, batch).training

    def check(found: Mapping[str, Any]) -> None:
        assert_agree(*(named_leaves(found[name]) for name in ("frequency", "spatial")), TOLERANCE_GRADIENTS)

    seconds = interleaved(work, runs, check)
    name = f"frequency formulation: {NAMES['training']}, {size.title}"
    return row_of(name, seconds["frequency"], seconds["spatial"], against="spatial")


def named_leaves(tree: Any) -> dict[str, Any]:
    """Arrays by their path."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def sweeps(quick: bool) -> list[tuple[str, float, Size]]:
    """(curve, position, size) of the plot's points."""
    small = dict(channels=(8, 8, 8), cube=(4, 4, 8)) if quick else {}
    sides, frames, clips = ((1, 3), (2, 4), (2, 4)) if quick else ((1, 3, 5, 9), (2, 4, 8), (2, 4, 20))
    return [
        *(("kernel side", k, Size((k,) * 3, 4, 4, **small)) for k in sides),
        *(("frames", t, Size((5,) * 3, 4, t, **small)) for t in frames),
        *(("clips", n, Size((5,) * 3, n, 4, **small)) for n in clips),
    ]


def measure(quick: bool) -> Iterator[Row]:
    """All rows of the recurrence."""
    small = dict(channels=(8, 8, 8), cube=(4, 4, 8)) if quick else {}
    clips, frames, runs, peak_size = (4, 3, 2, 64) if quick else (20, 20, 5, 2048)
    whole = Size((5, 5, 5), clips, frames, **small)
    product, rng = jax.jit(jnp.matmul), np.random.default_rng(0)
    count, rows, inputs, outputs = products_alone(whole)
    shapes = (peak_size, peak_size), (count, rows, inputs), (count, inputs, outputs)
    matrix, left, right = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)
    beside = {"peak": lambda: product(matrix, matrix), "alone": lambda: product(left, right)}
    seconds = side_by_side(whole, tuple(NAMES), runs, beside)
    yield from rows_of(whole, seconds, GOALS)
    yield from share_of_peak(whole, seconds, peak_size)
    for kernels, goal in TABLE_II.items():
        variant = Size(kernels, clips, max(frames // 4, 2), **small)
        goals = {"training": goal, "forward": GOALS["forward"]}
        yield from rows_of(variant, side_by_side(variant, ("training", "forward"), runs), goals)
    few = Size((5, 5, 5), 2, frames, **small)
    goals = {"training": 1.0, "forward": 1.0, "prepared": 0.40}
    yield from rows_of(few, side_by_side(few, tuple(NAMES), runs), goals)
    for side in (3, 9) if quick else (1, 5, 9):
        yield inside_a_scan(side, clips, 8 if quick else 128, 4, runs)
    yield formulations(Size((3, 3, 3), 12, 4, **small), runs)  # where `auto` turns from the one to the other
    measured: dict[Size, Seconds] = {}
    for curve, at, size in sweeps(quick):
        # The curves meet in one size.
        seconds = measured.get(size) or side_by_side(size, ("training",), 2)
        measured[size] = seconds
        yield from rows_of(size, seconds, {}, curve=curve, at=float(at))
