"""The stacked ConvGRU (Eq. 2, 5): a pure cell, and all layers at one frame.

Axes: `Kh Kw` grid, `*N` nothing (one clip) or clips, `D` input channels, `C` hidden channels. Clips lie between grid
and channels because there they cost the frequency products no copies.

The cell's convolutions have two forms, chosen layer by layer: `reid_jax.spatial` is the readable definition;
`reid_jax.frequency` computes the same as dense products over spatial frequencies, which without matrix units is faster
for large kernels and many images.
"""

import math
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reid_jax import deferred
from reid_jax.config import RecurrentConfig
from reid_jax.deferred import Step
from reid_jax.frequency import Frequency
from reid_jax.layers import Convolution, Kernels, Prepared, Products
from reid_jax.layers import prepare as prepare_layer
from reid_jax.settings import Number, is_on
from reid_jax.spatial import Spatial

State = Float[Array, "Kh Kw *N C"]
States = tuple[Float[Array, "_Kh _Kw ... _C"], ...]
ENOUGH = 400
"""Taps of a kernel times images of a call from which on a CPU is faster by `frequency`.

Training decides, the pass that takes longest, and no machine alone: both forms took equally long at 165 to 190 on an
AMD EPYC with 3 frames, beyond 360 with 20, and at 720 on an Intel Xeon (docs/performance.md).
"""
ENOUGH_ON_GPU = 400
"""Images from which on a GPU is faster by `frequency` in float32, with kernels of 5x5 or larger.

20 clips of 20 frames, in training, is what was measured on an H200 (docs/performance.md): no fewer were.
"""


def initialise(key: PRNGKeyArray, channels: int, config: RecurrentConfig) -> tuple[Kernels, ...]:
    """Kernels of every layer over an input of `channels`.

    `paper` draws from U[-1, 1] (section V.B); `scaled` from U[-a, a], a = sqrt(3 / fan-in), which keeps the variance of
    the pre-activations.
    """
    layers = []
    for hidden, k_input, k_state in zip(config.channels, config.input_kernels, config.state_kernels, strict=True):
        key, key_input, key_state = jax.random.split(key, 3)
        layers.append(
            Kernels(
                _draw(key_input, (k_input, k_input, channels, 3 * hidden), config.initial),
                _draw(key_state, (k_state, k_state, hidden, 3 * hidden), config.initial),
            )
        )
        channels = hidden
    return tuple(layers)


def _draw(key: PRNGKeyArray, shape: tuple[int, ...], initial: str) -> Float[Array, "k k D F"]:
    bound = 1.0 if initial == "paper" else (3.0 / (shape[0] * shape[1] * shape[2])) ** 0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def choose_formulation(
    backend: str, precision: str, grid: tuple[int, int], sides: tuple[int, int], images: int | float
) -> str:
    """How a layer's convolutions are best computed: `spatial` or `frequency`.

    The work of `spatial` grows with the taps and the images. That of `frequency` hardly grows with the taps, but every
    call transforms the kernels, however few the images. So on a CPU it is `frequency` from a product of taps and images
    on, `ENOUGH`, and never for a single tap; on a GPU where no matrix unit multiplies, with kernels and images as large
    as were measured.

    Args:
        backend: JAX's name of what computes.
        precision: of the products.
        grid: the layer's grid.
        sides: of its input and its state kernel.
        images: clips times frames; infinity for kernels that are transformed once for many calls.
    """
    side = max(_reach(grid, side) for side in sides)
    on_cpu = side > 1 and images * side**2 >= ENOUGH
    on_gpu = precision == "float32" and side >= 5 and images >= ENOUGH_ON_GPU
    return "frequency" if {"cpu": on_cpu, "gpu": on_gpu}.get(backend, False) else "spatial"


def _reach(grid: tuple[int, int], side: int) -> int:
    """The side of a kernel's part that the grid has a use for: the rest meets padding only."""
    return min(side, 2 * max(grid) - 1)


def _within_reach(kernels: Kernels, grid: tuple[int, int]) -> Kernels:
    cuts = [(kernel.shape[0] - _reach(grid, kernel.shape[0])) // 2 for kernel in kernels]
    inner = [slice(cut, kernel.shape[0] - cut) for cut, kernel in zip(cuts, kernels, strict=True)]
    return Kernels(*(kernel[part, part] for kernel, part in zip(kernels, inner, strict=True)))


def _convolution(
    kernels: Kernels, grid: tuple[int, int], formulation: str, precision: str, images: int | float
) -> Convolution:
    """The form of a layer's convolutions; with `auto` the one that `choose_formulation` names."""
    sides = kernels.input.shape[0], kernels.state.shape[0]
    if formulation == "auto":
        formulation = choose_formulation(jax.default_backend(), precision, grid, sides, images)
    return Frequency(grid, max(sides), precision) if formulation == "frequency" else Spatial(precision)


def prepare(
    kernels: Sequence[Kernels], grids: Sequence[tuple[int, int]], formulation: str, precision: str
) -> tuple[Prepared, ...]:
    """The kernels in the form that `scan_frames` multiplies with: worth keeping for many calls without training.

    They serve any number of clips. With `auto` the form is that for many: what makes `frequency` slow for few images is
    mostly the transform of the kernels, which is done here.
    """
    kernels = list(map(_within_reach, kernels, grids))
    form = partial(_convolution, formulation=formulation, precision=precision, images=math.inf)
    forms = map(form, kernels, grids)
    return tuple(map(prepare_layer, forms, kernels))


def scan_frames(
    step: Step,
    kernels: Sequence[Kernels] | Sequence[Prepared],
    grids: Sequence[tuple[int, int]],
    formulation: str,
    precision: str,
    shared: Any,
    start: States,
    inputs: Any,
) -> tuple[Any, Any]:
    """`jax.lax.scan` of `step(layers, shared, states, frame's inputs)`; `layers` are the products of every layer.

    `formulation` and `precision` are how they are computed; kernels that are prepared already have theirs.
    """
    if isinstance(kernels[0], Prepared):
        return deferred.scan_prepared(step, kernels, shared, start, inputs)
    kernels = tuple(map(_within_reach, kernels, grids))
    images = len(jax.tree.leaves(inputs)[0]) * math.prod(start[0].shape[2:-1])
    form = partial(_convolution, formulation=formulation, precision=precision, images=images)
    forms = tuple(map(form, kernels, grids))
    return deferred.scan(step, forms, kernels, shared, start, inputs)


def cell(products: Products, x: Float[Array, "Kh Kw *N D"], h: State) -> State:
    """One layer, one frame (Eq. 5): input x_t (or the layer below) and state h_{t-1} -> h_t."""
    for_gates, for_candidate = products.input(x)
    z, r = jnp.split(jax.nn.sigmoid(products.gates(for_gates, h)), 2, axis=-1)
    candidate = jnp.tanh(products.candidate(for_candidate, r * h))
    return (1 - z) * h + z * candidate


def pool_between(h: State, between: str) -> Float[Array, "Kh2 Kw2 *N C"]:
    """Max-pooling on the way from a layer to the next: 3x3 stride 1 (`keep`) or 2x2 stride 2 (`halve`)."""
    for axis in (0, 1):
        h = _maximum_along(h, axis, *((3, 1) if between == "keep" else (2, 2)))
    return h


def _maximum_along(h: State, axis: int, window: int, stride: int) -> Float[Array, "_Kh _Kw *N C"]:
    """Max-pooling along one axis as a maximum of slices, whose gradient is fast on every backend. States are >= -1."""
    size = -(-h.shape[axis] // stride)
    pad = (size - 1) * stride + window - h.shape[axis]
    padded = jnp.pad(
        h, [(pad // 2, pad - pad // 2) if i == axis else (0, 0) for i in range(h.ndim)], constant_values=-1
    )
    stop = (size - 1) * stride + 1
    slices = [jax.lax.slice_in_dim(padded, i, i + stop, stride, axis) for i in range(window)]
    return reduce(jnp.maximum, slices)


def layer_grids(grid: tuple[int, int], layers: int, between: str) -> list[tuple[int, int]]:
    """The grid of each layer's state."""
    grids = [grid]
    for _ in range(layers - 1):
        height, width = grids[-1]
        grids.append((height, width) if between == "keep" else (-(-height // 2), -(-width // 2)))
    return grids


def step(
    layers: Sequence[Products],
    x: Float[Array, "Kh Kw *N D"],
    states: States,
    config: RecurrentConfig,
    key: PRNGKeyArray | None,
) -> States:
    """All layers at one frame. Dropout (with a key) falls on the way up only, never on the recurrent path."""
    new_states = []
    for layer, (products, h) in enumerate(zip(layers, states, strict=True)):
        if layer > 0:
            x = pool_between(x, config.between)
            x = dropout(x, config.dropout_between, None if key is None else jax.random.fold_in(key, layer))
        x = cell(products, x, h)
        new_states.append(x)
    return tuple(new_states)


def dropout(x: Float[Array, "*S"], rate: Number, key: PRNGKeyArray | None) -> Float[Array, "*S"]:
    """Inverted dropout; without a key, or at rate 0, the identity."""
    if key is None or not is_on(rate):
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)
