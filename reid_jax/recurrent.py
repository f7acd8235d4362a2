"""The stacked ConvGRU (Eq. 2, 5): a pure cell, and all layers at one frame.

Axes: `Kh Kw` grid, `*N` nothing (one clip) or clips, `D` input channels, `C` hidden channels. Clips lie between grid
and channels because there they cost the frequency products no copies.

`spatial_products` is the readable definition of the cell's convolutions; `reid_jax.frequency` computes the same
products as dense products over spatial frequencies, which XLA's CPU backend runs many times faster.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reid_jax import deferred, frequency
from reid_jax.config import RecurrentConfig

State = Float[Array, "Kh Kw *N C"]
States = tuple[Float[Array, "_Kh _Kw ... _C"], ...]


class Kernels(NamedTuple):
    """One layer's convolution kernels, gates side by side in the order z, r, candidate."""

    input: Float[Array, "k k D 3*C"]
    """W_z, W_r, W of Eq. 5."""
    state: Float[Array, "k k C 3*C"]
    """U_z, U_r, U of Eq. 5."""


class Products(NamedTuple):
    """The three products a cell needs, for one layer, its kernels already in the form they are used in."""

    gates: Callable[[Array, Array], Float[Array, "Kh Kw *N 2*C"]]
    """(x, h) -> W_z * x + U_z * h and W_r * x + U_r * h."""
    candidate: Callable[[Array, Array], Float[Array, "Kh Kw *N C"]]
    """(x, r h) -> W * x + U * (r h)."""


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


def convolve(x: Float[Array, "Kh Kw *N D"], kernel: Float[Array, "k1 k2 D F"]) -> Float[Array, "Kh Kw *N F"]:
    """Zero-padded convolution that keeps the grid (Eq. 5's `*`)."""
    images = jnp.moveaxis(x.reshape(*x.shape[:2], -1, x.shape[-1]), 2, 0)
    output = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.moveaxis(output, 0, 2).reshape(*x.shape[:-1], kernel.shape[-1])


def spatial_products(kernels: Kernels) -> Products:
    """Eq. 5's convolutions as they are written."""
    split = 2 * kernels.state.shape[-1] // 3
    return Products(
        gates=lambda x, h: convolve(x, kernels.input[..., :split]) + convolve(h, kernels.state[..., :split]),
        candidate=lambda x, rh: convolve(x, kernels.input[..., split:]) + convolve(rh, kernels.state[..., split:]),
    )


def frequency_weights(kernels: Kernels, basis: frequency.Basis) -> list[Float[Array, "_M _I _F"]]:
    """One layer's kernels as products over frequencies: for both gates, and for the candidate; input above state."""
    split = 2 * kernels.state.shape[-1] // 3
    parts = (slice(None, split), slice(split, None))
    return [
        jnp.concatenate([frequency.transform_kernel(kernel[..., part], basis) for kernel in kernels], axis=1)
        for part in parts
    ]


def frequency_products(multiplies: Sequence[deferred.Multiply], basis: frequency.Basis) -> Products:
    """The same as `spatial_products`, computed in the frequency domain with the products of `frequency_weights`."""

    def product(multiply: deferred.Multiply, x: Array, h: Array) -> Array:
        spectra = [frequency.transform(image, basis) for image in (x, h)]
        return frequency.invert(multiply(jnp.concatenate(spectra, axis=-1)), basis)

    return Products(*(partial(product, multiply) for multiply in multiplies))


def scan_frames(
    step: Callable[[Sequence[Products], Any, Any, Any], tuple[Any, Any]],
    kernels: Sequence[Kernels],
    grids: Sequence[tuple[int, int]],
    formulation: str,
    shared: Any,
    start: Any,
    inputs: Any,
) -> tuple[Any, Any]:
    """`jax.lax.scan` of `step(layers, shared, states, frame's inputs)`; `layers` are the products of every layer.

    `formulation` is how they are computed: `auto` is `frequency` on a CPU and `spatial` elsewhere.
    """
    if formulation == "auto":
        formulation = "frequency" if jax.default_backend() == "cpu" else "spatial"
    if formulation == "spatial":
        layers = [spatial_products(layer) for layer in kernels]
        return jax.lax.scan(lambda states, frame: step(layers, shared, states, frame), start, inputs)
    sides = [max(layer.input.shape[0], layer.state.shape[0]) for layer in kernels]
    bases = [frequency.basis(grid, side) for grid, side in zip(grids, sides, strict=True)]
    weights = [w for layer, basis in zip(kernels, bases, strict=True) for w in frequency_weights(layer, basis)]

    def frequency_step(multiplies: Sequence[deferred.Multiply], *rest: Any) -> tuple[Any, Any]:
        layers = [frequency_products(multiplies[2 * i : 2 * i + 2], basis) for i, basis in enumerate(bases)]
        return step(layers, *rest)

    return deferred.scan(frequency_step, weights, shared, start, inputs)


def cell(products: Products, x: Float[Array, "Kh Kw *N D"], h: State) -> State:
    """One layer, one frame (Eq. 5): input x_t (or the layer below) and state h_{t-1} -> h_t."""
    z, r = jnp.split(jax.nn.sigmoid(products.gates(x, h)), 2, axis=-1)
    candidate = jnp.tanh(products.candidate(x, r * h))
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


def dropout(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Inverted dropout; without a key, or at rate 0, the identity."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)
