"""The stacked ConvGRU (Eq. 2, 5) of one clip: a pure cell, and its scan over frames.

Axes: `T` frames, `Kh Kw` grid, `D` input channels, `C` hidden channels. Clips are mapped by `jax.vmap`.

`spatial_products` is the readable definition of the cell's convolutions; `reid_jax.frequency` computes the same
products as dense products over spatial frequencies, which XLA's CPU backend runs many times faster.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reid_jax import frequency
from reid_jax.config import RecurrentConfig

State = Float[Array, "Kh Kw C"]


class Kernels(NamedTuple):
    """One layer's convolution kernels, gates side by side in the order z, r, candidate."""

    input: Float[Array, "k k D 3*C"]
    """W_z, W_r, W of Eq. 5."""
    state: Float[Array, "k k C 3*C"]
    """U_z, U_r, U of Eq. 5."""


class Products(NamedTuple):
    """The three products a cell needs, for one layer, its kernels already in the form they are used in."""

    gates: Callable[[Array, Array], Float[Array, "Kh Kw 2*C"]]
    """(x, h) -> W_z * x + U_z * h and W_r * x + U_r * h."""
    candidate: Callable[[Array, Array], Float[Array, "Kh Kw C"]]
    """(x, r h) -> W * x + U * (r h)."""


def initialise(
    key: PRNGKeyArray, channels: int, config: RecurrentConfig, scale: float = 1.0
) -> tuple[Kernels, ...]:
    """Kernels of every layer over an input of `channels`.

    `paper` draws from U[-1, 1] (section V.B); `scaled` from U[-a, a], a = sqrt(3 / fan-in), which keeps the variance of
    the pre-activations. `scale` multiplies layer 1's input kernel in the scaled form.
    """
    layers = []
    sizes = zip(config.channels, config.input_kernels, config.state_kernels, strict=True)
    for layer, (hidden, k_input, k_state) in enumerate(sizes):
        key, key_input, key_state = jax.random.split(key, 3)
        layers.append(
            Kernels(
                _draw(key_input, (k_input, k_input, channels, 3 * hidden), config.initial, scale if layer == 0 else 1.0),
                _draw(key_state, (k_state, k_state, hidden, 3 * hidden), config.initial, 1.0),
            )
        )
        channels = hidden
    return tuple(layers)


def _draw(key: PRNGKeyArray, shape: tuple[int, ...], initial: str, scale: float) -> Float[Array, "k k D F"]:
    bound = 1.0 if initial == "paper" else scale * (3.0 / (shape[0] * shape[1] * shape[2])) ** 0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def convolve(x: Float[Array, "Kh Kw D"], kernel: Float[Array, "k1 k2 D F"]) -> Float[Array, "Kh Kw F"]:
    """Zero-padded convolution that keeps the grid (Eq. 5's `*`)."""
    return jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


def spatial_products(kernels: Kernels, grid: tuple[int, int]) -> Products:
    """Eq. 5's convolutions as they are written."""
    del grid
    split = 2 * kernels.state.shape[-1] // 3
    return Products(
        gates=lambda x, h: convolve(x, kernels.input[..., :split]) + convolve(h, kernels.state[..., :split]),
        candidate=lambda x, rh: convolve(x, kernels.input[..., split:]) + convolve(rh, kernels.state[..., split:]),
    )


def frequency_products(kernels: Kernels, grid: tuple[int, int]) -> Products:
    """The same, computed in the frequency domain; the kernels are transformed here, once, outside the scan."""
    side = max(kernels.input.shape[0], kernels.state.shape[0])
    basis = frequency.basis(grid, side)

    def product(part: slice) -> Callable[[Array, Array], Array]:
        over_input = frequency.transform_kernel(kernels.input[..., part], basis)
        over_state = frequency.transform_kernel(kernels.state[..., part], basis)

        def apply(x: Array, h: Array) -> Array:
            spectrum = frequency.multiply(frequency.transform(x, basis), over_input)
            spectrum += frequency.multiply(frequency.transform(h, basis), over_state)
            return frequency.invert(spectrum, basis)

        return apply

    split = 2 * kernels.state.shape[-1] // 3
    return Products(gates=product(slice(None, split)), candidate=product(slice(split, None)))


def choose_products(formulation: str) -> Callable[[Kernels, tuple[int, int]], Products]:
    """The way to compute the products; `auto` is `frequency` on a CPU and `spatial` elsewhere."""
    if formulation == "auto":
        formulation = "frequency" if jax.default_backend() == "cpu" else "spatial"
    return {"spatial": spatial_products, "frequency": frequency_products}[formulation]


def cell(products: Products, x: Float[Array, "Kh Kw D"], h: State) -> State:
    """One layer, one frame (Eq. 5): input x_t (or the layer below) and state h_{t-1} -> h_t."""
    z, r = jnp.split(jax.nn.sigmoid(products.gates(x, h)), 2, axis=-1)
    candidate = jnp.tanh(products.candidate(x, r * h))
    return (1 - z) * h + z * candidate


def pool_between(h: State, between: str) -> Float[Array, "Kh2 Kw2 C"]:
    """Max-pooling on the way from a layer to the next: 3x3 stride 1 (`keep`) or 2x2 stride 2 (`halve`)."""
    window, stride = (3, 1) if between == "keep" else (2, 2)
    return jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (window, window, 1), (stride, stride, 1), "SAME")


def layer_grids(grid: tuple[int, int], layers: int, between: str) -> list[tuple[int, int]]:
    """The grid of each layer's state."""
    grids = [grid]
    for _ in range(layers - 1):
        height, width = grids[-1]
        grids.append((height, width) if between == "keep" else (-(-height // 2), -(-width // 2)))
    return grids


def step(
    layers: Sequence[Products],
    x: Float[Array, "Kh Kw D"],
    states: tuple[State, ...],
    config: RecurrentConfig,
    key: PRNGKeyArray | None,
) -> tuple[State, ...]:
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
