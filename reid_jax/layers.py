"""One recurrent layer's convolutions at a frame: its kernels, the form they are multiplied in, and its products.

Axes: `Kh Kw` grid, `*N` nothing or clips, `D` inputs, `C` hidden channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reid_jax.frequency import Frequency
from reid_jax.spatial import Spatial, transposed

Convolution = Frequency | Spatial


class Kernels(NamedTuple):
    """One layer's convolution kernels, gates side by side in the order z, r, candidate."""

    input: Float[Array, "k k D 3*C"]
    """W_z, W_r, W of Eq. 5."""
    state: Float[Array, "k k C 3*C"]
    """U_z, U_r, U of Eq. 5."""


@partial(jax.tree_util.register_dataclass, data_fields=("input", "gates", "candidate"), meta_fields=("convolution",))
@dataclass(frozen=True)
class Prepared:
    """One layer's kernels in the form they are multiplied in: arrays as `convolution.prepare` makes them.

    The fields are not checked: JAX fills pytrees with other things than arrays on their way.
    """

    convolution: Any
    input: Any
    gates: Any
    candidate: Any


class Products(NamedTuple):
    """The three products that a layer needs at one frame. Each is called once, with the layer's state for h."""

    input: Callable[[Float[Array, "Kh Kw *N D"]], Sequence[Array]]
    """x -> W_z * x and W_r * x, and W * x, as the other two take them."""
    gates: Callable[[Array, Float[Array, "Kh Kw *N C"]], Float[Array, "Kh Kw *N 2*C"]]
    """(the input's for the gates, h) -> W_z * x + U_z * h and W_r * x + U_r * h."""
    candidate: Callable[[Array, Float[Array, "Kh Kw *N C"]], Float[Array, "Kh Kw *N C"]]
    """(the input's for the candidate, r h) -> W * x + U * (r h)."""


def prepare(convolution: Convolution, kernels: Kernels) -> Prepared:
    """A layer's kernels in the form they are multiplied in."""
    return Prepared(convolution, *map(convolution.prepare, _parts(kernels)))


def _parts(kernels: Kernels) -> tuple[Array, Array, Array]:
    split = 2 * kernels.state.shape[-1] // 3
    return kernels.input, kernels.state[..., :split], kernels.state[..., split:]


def products_of(layer: Prepared) -> Products:
    """What a layer computes at a frame."""
    convolution, split = layer.convolution, 2 * jax.tree.leaves(layer.candidate)[0].shape[-1]

    def multiply(x: Array, weight: Any) -> Array:
        return convolution.multiply(convolution.analyse(x), weight)

    return Products(
        input=lambda x: jnp.split(multiply(x, layer.input), [split], -1),
        gates=lambda px, h: convolution.synthesise(px + multiply(h, layer.gates)),
        candidate=lambda px, rh: convolution.synthesise(px + multiply(rh, layer.candidate)),
    )


def turn(convolution: Convolution, kernels: Kernels) -> Prepared:
    """The prepared kernels that take the gradient of a product to that of what was multiplied."""
    # Transposed in memory first, or XLA transposes what is prepared, which is many times larger.
    parts = jax.lax.optimization_barrier(tuple(map(transposed, _parts(kernels))))
    return Prepared(convolution, *map(convolution.prepare, parts))
