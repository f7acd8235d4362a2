"""Two networks that the paper's is compared with, behind the same backbones: RCN, and pooling as today's users run it.

Both take many clips, each independent of the others, and give an `Encoding` whose location maps and temporal weights
are uniform: neither looks anywhere in particular. Axes: `N` clips, `T` frames, `Kh Kw` grid, `D` features, `C` hidden.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from reid_jax import attention, recurrent
from reid_jax.config import Config
from reid_jax.model import Encoding, Parameters, initial_similarity


def initialise_rcn(key: PRNGKeyArray, cube: tuple[int, int, int], config: Config) -> Parameters:
    """W_i, W_s and the bias of RCN's recurrence, whose width is the first of `channels`."""
    width, size = config.recurrent.channels[0], cube[0] * cube[1] * cube[2]
    key_input, key_state = jax.random.split(key)
    return {
        "input": jax.random.normal(key_input, (size, width)) * size**-0.5,
        "state": jax.random.normal(key_state, (width, width)) * width**-0.5,
        "bias": jnp.zeros(width),
        "similarity": initial_similarity(width, "raw"),
    }


def encode_rcn(
    parameters: Parameters,
    features: Float[Array, "N T Kh Kw D"],
    mask: Bool[Array, "N T"],
    config: Config,
    key: PRNGKeyArray | None = None,
) -> Encoding:
    """RCN (McLaughlin et al. 2016): o_t = W_i f_t + W_s r_{t-1}, r_t = tanh(o_t), the mean of o_t over the frames.

    f_t is the whole cube as one vector; `dropout_between` is dropped from it in training.
    """
    flat = features.astype(jnp.float32).reshape(*mask.shape, -1)
    flat = recurrent.dropout(flat, config.recurrent.dropout_between, key)
    projected = flat @ parameters["input"] + parameters["bias"]

    def step(state: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        frame, valid = inputs
        output = frame + state @ parameters["state"]
        return jnp.where(valid[:, None], jnp.tanh(output), state), output

    start = jnp.zeros((mask.shape[0], projected.shape[-1]))
    _, outputs = jax.lax.scan(step, start, (projected.swapaxes(0, 1), mask.T))
    return _pooled(outputs.swapaxes(0, 1)[:, :, None, None, :], mask, features.shape[2:4])


def initialise_pooling(key: PRNGKeyArray, cube: tuple[int, int, int], config: Config) -> Parameters:
    """Pooling has no parameters of its own."""
    del key, config
    return {"similarity": initial_similarity(cube[2], "raw")}


def encode_pooling(
    parameters: Parameters,
    features: Float[Array, "N T Kh Kw D"],
    mask: Bool[Array, "N T"],
    config: Config,
    key: PRNGKeyArray | None = None,
) -> Encoding:
    """The backbone's features averaged over the grid and the frames; there is nothing else to learn."""
    del parameters, config, key
    means = features.astype(jnp.float32).mean((2, 3), keepdims=True)
    return _pooled(means, mask, features.shape[2:4])


def _pooled(states: Float[Array, "N T 1 1 C"], mask: Bool[Array, "N T"], grid: tuple[int, int]) -> Encoding:
    selection = jax.vmap(attention.uniform_weights)(mask)
    embedding = jnp.einsum("nt,ntijc->nc", selection, jnp.where(mask[:, :, None, None, None], states, 0.0))
    locations = jnp.broadcast_to(attention.muted_locations(grid), (*mask.shape, *grid))
    return Encoding(embedding, locations, selection, states)
