"""Where and when to look: location softmax (Eq. 3, 4), its penalty (Eq. 9), temporal selection (Eq. 6).

Functions are of one clip (`attend` also of clips behind the grid). Axes: `T` frames, `Kh Kw` grid, `D` features, `C`
hidden channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray


class LocationParameters(NamedTuple):
    """Eq. 3's W_i, behind an optional hidden layer."""

    hidden: Float[Array, "S F"] | None
    weights: Float[Array, "F K2"]


def initialise_location(key: PRNGKeyArray, state_size: int, locations: int, hidden: int) -> LocationParameters:
    """Small weights, so that the first maps are nearly uniform. `hidden` 0 is Eq. 3 as written."""
    key_hidden, key_weights = jax.random.split(key)
    first = jax.random.normal(key_hidden, (state_size, hidden)) * state_size**-0.5 if hidden else None
    width = hidden or state_size
    return LocationParameters(first, 0.1 * jax.random.normal(key_weights, (width, locations)) * width**-0.5)


def location_softmax(
    parameters: LocationParameters,
    state: Float[Array, "Ks1 Ks2 C"],
    grid: tuple[int, int],
    appearance: Float[Array, "Kh Kw"] | None = None,
) -> Float[Array, "Kh Kw"]:
    """m_t from the top layer's h_{t-1} (Eq. 3, an ordinary softmax): positive, summing to one over the grid.

    `appearance` is what the frame's own features add to the logits, where it does (`sees` frame).
    """
    hidden = state.reshape(-1)
    if parameters.hidden is not None:
        hidden = jnp.tanh(hidden @ parameters.hidden)
    logits = _beside(hidden @ parameters.weights, hidden.size, None if appearance is None else appearance.reshape(-1))
    return jax.nn.softmax(logits).reshape(grid)


def _beside(logits: Float[Array, "L"], size: int, appearance: Float[Array, "L"] | None) -> Float[Array, "L"]:
    """What a state of so many values gives, with what features give, if they give anything.

    A state has thousands of values where a feature has a hundred. An optimiser that moves every weight alike, as
    RMSProp does, would let the state decide before a feature's weights had grown: its part is divided by their root.
    """
    return logits if appearance is None else logits * size**-0.5 + appearance


def muted_locations(grid: tuple[int, int]) -> Float[Array, "Kh Kw"]:
    """1/K^2 everywhere (baseline 9 of section V.C)."""
    return jnp.full(grid, 1.0 / (grid[0] * grid[1]))


def attend(
    locations: Float[Array, "Kh Kw *N"], features: Float[Array, "Kh Kw *N D"], scale: str, region: str
) -> Float[Array, "Kr1 Kr2 *N D"]:
    """x_t = m_t X_t (Eq. 4) on the grid, or its expected slice on a 1x1 grid (`region="slice"`).

    `scale="mean"` multiplies the cube by K^2, so that uniform attention leaves the features as they are.
    """
    weighted = locations[..., None] * features
    if region == "slice":
        return weighted.sum((0, 1), keepdims=True)
    return weighted * (locations.shape[0] * locations.shape[1] if scale == "mean" else 1.0)


def location_penalty(locations: Float[Array, "T Kh Kw"], mask: Bool[Array, "T"]) -> Float[Array, ""]:
    """Sum over locations of (1 - sum_t m_{t,i})^2 (Eq. 9), over the valid frames."""
    looked = jnp.where(mask[:, None, None], locations, 0.0).sum(0)
    return jnp.square(1.0 - looked).sum()


def temporal_weights(
    weights: Float[Array, "S"],
    states: Float[Array, "T Ks1 Ks2 C"],
    mask: Bool[Array, "T"],
    appearance: Float[Array, "T"] | None = None,
) -> Float[Array, "T"]:
    """alpha of Eq. 6: a softmax over the valid frames of a learned score of h_t; zero on padding.

    `appearance` is what the frames' own features add to the scores, where they do (`sees` frame).
    """
    scores = _beside(states.reshape(states.shape[0], -1) @ weights, weights.size, appearance)
    return jax.nn.softmax(scores, where=mask, axis=0)


def uniform_weights(mask: Bool[Array, "T"]) -> Float[Array, "T"]:
    """Equal weights on the valid frames."""
    return mask / jnp.maximum(mask.sum(), 1)


def pool_maximum(states: Float[Array, "T *S"], mask: Bool[Array, "T"]) -> Float[Array, "*S"]:
    """The largest activation over the valid frames (Table IV's max pooling); zero where no frame is valid."""
    valid = mask.reshape(-1, *(1,) * (states.ndim - 1))
    largest = jnp.max(states, axis=0, where=valid, initial=-jnp.inf)
    return jnp.where(mask.any(), largest, 0.0)
