"""What a ConvGRU layer costs beside a fully connected one (section III.E): the paper's formulas, and what XLA counts.

`Kh Kw` is the paper's H_1 x H_2 grid, `Cx` and `Ch` are the input's and the state's channels. Operations are
multiply-adds at one frame; for a clip of T frames they are T times as many.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from reid_jax import recurrent
from reid_jax.config import RecurrentConfig


@dataclass(frozen=True)
class Layer:
    """The shape of one recurrent layer."""

    grid: tuple[int, int]
    input: int
    """Cx."""
    hidden: int
    """Ch."""
    input_kernel: int
    state_kernel: int


@dataclass(frozen=True)
class Cost:
    """Of one layer."""

    parameters: int
    operations: float


def layers(cube: tuple[int, int, int], grids: list[tuple[int, int]], config: RecurrentConfig) -> list[Layer]:
    """The layers of a stack over feature cubes of that shape, their states on `grids`."""
    inputs = (cube[2], *config.channels)
    stack = zip(grids, inputs, config.channels, config.input_kernels, config.state_kernels, strict=False)
    return [Layer(*shape) for shape in stack]


def formula(layer: Layer) -> Cost:
    """3 k1 k2 (Cx Ch + Ch^2) parameters, and Kh Kw times as many operations; the two kernels may differ in size."""
    parameters = 3 * (layer.input_kernel**2 * layer.input * layer.hidden + layer.state_kernel**2 * layer.hidden**2)
    return Cost(parameters, float(prod(layer.grid) * parameters))


def connected(layer: Layer) -> Layer:
    """The fully connected layer of the same input and state: everything on a 1x1 grid, as the paper puts it."""
    places = prod(layer.grid)
    return Layer((1, 1), places * layer.input, places * layer.hidden, 1, 1)


def counted(layer: Layer, config: RecurrentConfig) -> Cost:
    """The parameters that `recurrent.initialise` makes, and the operations XLA counts in one compiled `cell`.

    XLA counts a multiply-add as two, each step of a gate as one or more, and leaves out products with zero padding.
    Nothing is computed and no parameter exists.
    """
    alone = replace(
        config,
        channels=(layer.hidden,),
        input_kernels=(layer.input_kernel,),
        state_kernels=(layer.state_kernel,),
    )
    initialise = partial(recurrent.initialise, channels=layer.input, config=alone)
    kernels = jax.eval_shape(initialise, jax.random.key(0))
    # One frame of one clip: XLA counts a loop's body once.
    frame = jax.ShapeDtypeStruct((1, *layer.grid, 1, layer.input), jnp.float32)
    state = jax.ShapeDtypeStruct((*layer.grid, 1, layer.hidden), jnp.float32)

    def run(kernels: Any, state: jax.Array, frame: jax.Array) -> tuple[jax.Array]:
        def step(products: Any, shared: Any, states: tuple[jax.Array], x: jax.Array) -> tuple[tuple[jax.Array], None]:
            return (recurrent.cell(products[0], x, states[0]),), None

        return recurrent.scan_frames(step, kernels, [layer.grid], "spatial", "float32", (), (state,), frame)[0]

    analysis = jax.jit(run).lower(kernels, state, frame).compile().cost_analysis()
    return Cost(sum(leaf.size for leaf in jax.tree.leaves(kernels)), analysis["flops"] / 2)
