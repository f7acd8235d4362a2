"""The encoder of clips (Eq. 1-7), and the similarity of a pair (Eq. 8).

Axes: `N` clips, `T` frames, `H W` frame, `Kh Kw` grid, `D` features, `C` hidden channels, `E` embedding. A pure
function of one clip is mapped over clips by `jax.vmap`; by hand are batched only the backbone, which sees all frames at
once, and the scan.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped, UInt8

from reid_jax import attention, backbones, recurrent
from reid_jax.backbones.rematerialise import by_stages
from reid_jax.config import AttentionConfig, Config, RecurrentConfig
from reid_jax.precision import BFLOAT16

Parameters = dict[str, Any]


class Encoding(NamedTuple):
    """What the network makes of its clips."""

    embedding: Float[Array, "*N E"]
    """h-bar, flattened (Eq. 6), or what `represent` puts in its place."""
    locations: Float[Array, "*N T Kh Kw"]
    """m_t: where it looked; each frame's map sums to one."""
    selection: Float[Array, "*N T"]
    """alpha_t: when it looked; sums to one over the valid frames."""
    states: Float[Array, "*N T Ks1 Ks2 C"]
    """h_t of the top layer, before dropout."""


def initialise_head(key: PRNGKeyArray, cube: tuple[int, int, int], config: Config) -> Parameters:
    """Parameters of everything behind the backbone, for feature cubes [Kh, Kw, D]."""
    keys = jax.random.split(key, 4)
    grid, hidden = recurrent_grids(cube[:2], config.attention, config.recurrent), sum(config.recurrent.channels)
    size = grid[-1][0] * grid[-1][1] * config.recurrent.channels[-1]
    first = jax.random.normal(keys[1], (cube[2], config.attention.state_hidden)) * cube[2] ** -0.5
    second = jax.random.normal(keys[2], (config.attention.state_hidden, hidden)) * config.attention.state_hidden**-0.5
    width = config.attention.location_hidden
    # Nothing at first, so that all regions and frames are looked at alike until one is worth more.
    own = {"location": jnp.zeros(cube[2]), "selection": jnp.zeros(cube[2])}
    return ({"appearance": own} if config.attention.sees == "frame" else {}) | {
        "recurrent": recurrent.initialise(keys[0], cube[2], config.recurrent),
        "initial_state": {"first": first, "second": second, "bias": jnp.zeros(hidden)},
        "location": attention.initialise_location(keys[3], size, cube[0] * cube[1], width),
        "selection": jnp.zeros(size),
        "similarity": initial_similarity(embedding_size(size, cube[2], config.attention), config.attention.embedding),
    }


def embedding_size(states: int, features: int, config: AttentionConfig) -> int:
    """E, for so many values of a state and of a region's features."""
    return {"states": states, "features": features, "both": states + features}[config.represent]


def initial_similarity(size: int, embedding: str) -> Parameters:
    """v and c of Eq. 8, chosen so that the first logits of equal and of unlike clips lie a few units apart."""
    if embedding == "unit":
        return {"v": jnp.full(size, 16.0, jnp.float32), "c": jnp.full((), -8.0, jnp.float32)}
    return {"v": jnp.full(size, size**-0.5, jnp.float32), "c": jnp.zeros(())}


def recurrent_grids(
    grid: tuple[int, int], attention_config: AttentionConfig, config: RecurrentConfig
) -> list[tuple[int, int]]:
    """The grid of each recurrent layer's state, for features on `grid`."""
    start = (1, 1) if attention_config.region == "slice" else grid
    return recurrent.layer_grids(start, len(config.channels), config.between)


def initial_states(
    parameters: Parameters, features: Float[Array, "T Kh Kw D"], mask: Bool[Array, "T"], config: Config
) -> recurrent.States:
    """h_0 = f_init of the features' mean over valid frames and locations (Eq. 7), a state a layer."""
    weights = attention.uniform_weights(mask)
    mean = jnp.einsum("t,tijd->d", weights, features) / (features.shape[1] * features.shape[2])
    hidden = jnp.tanh(mean @ parameters["first"]) @ parameters["second"] + parameters["bias"]
    channels = config.recurrent.channels
    parts = jnp.split(jnp.tanh(hidden), [sum(channels[: i + 1]) for i in range(len(channels) - 1)])
    grids = recurrent_grids(features.shape[1:3], config.attention, config.recurrent)
    return tuple(jnp.broadcast_to(part, (*grid, part.size)) for part, grid in zip(parts, grids, strict=True))


def unroll(
    parameters: Parameters,
    features: Float[Array, "N T Kh Kw D"],
    mask: Bool[Array, "N T"],
    config: Config,
    key: PRNGKeyArray | None,
) -> tuple[Float[Array, "N T Kh Kw"], Float[Array, "N T Ks1 Ks2 C"]]:
    """Locations and top states of all frames: m_t from h_{t-1}, x_t = m_t X_t, stacked ConvGRU (Eq. 2-5).

    A masked frame changes no state, so padding never changes what follows or the result. Inside the scan the clips lie
    behind the grid (see `recurrent`): this is the one function that is batched by hand.
    """
    grid = features.shape[2:4]
    grids = recurrent_grids(grid, config.attention, config.recurrent)

    def step(layers, shared, states, inputs):
        (location, key_data), (cubes, valid, number, appearance) = shared, inputs
        locations = look(location, states[-1], grid, config.attention.location, appearance)
        x = attention.attend(locations, cubes, config.attention.location_scale, config.attention.region)
        frame_key = None if key is None else jax.random.fold_in(jax.random.wrap_key_data(key_data), number)
        new_states = recurrent.step(layers, x, states, config.recurrent, frame_key)
        states = tuple(jnp.where(valid[:, None], new, old) for new, old in zip(new_states, states, strict=True))
        return states, (locations, states[-1])

    initial = partial(initial_states, parameters["initial_state"], config=config)
    start = jax.vmap(initial, out_axes=2)(features, mask)
    shared = parameters["location"], None if key is None else jax.random.key_data(key)
    cubes = features.transpose(1, 2, 3, 0, 4)
    appearance = cubes @ parameters["appearance"]["location"] if "appearance" in parameters else None
    inputs = cubes, mask.T, jnp.arange(mask.shape[1]), appearance
    _, (locations, states) = recurrent.scan_frames(
        step,
        parameters["recurrent"],
        grids,
        config.recurrent.formulation,
        config.backbone.precision,
        shared,
        start,
        inputs,
    )
    return locations.transpose(3, 0, 1, 2), states.transpose(3, 0, 1, 2, 4)


def standardise(features: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Each region's vector with mean 0 and variance 1: backbones differ tenfold in scale, and gates saturate."""
    centred = features - features.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)


def look(
    parameters: attention.LocationParameters,
    states: Float[Array, "Ks1 Ks2 N C"],
    grid: tuple[int, int],
    location: str,
    appearance: Float[Array, "Kh Kw N"] | None,
) -> Float[Array, "Kh Kw N"]:
    """m_t of every clip, learned (Eq. 3, and what the frame's features add to it) or muted."""
    if location == "muted":
        return jnp.broadcast_to(attention.muted_locations(grid)[..., None], (*grid, states.shape[2]))

    def softmax(state: Array, own: Array | None) -> Array:
        return attention.location_softmax(parameters, state, grid, own)

    return jax.vmap(softmax, in_axes=2, out_axes=2)(states, appearance)


def select(
    parameters: Parameters,
    states: Float[Array, "T Ks1 Ks2 C"],
    attended: Float[Array, "T D"],
    mask: Bool[Array, "T"],
    config: AttentionConfig,
) -> tuple[Float[Array, "T"], Float[Array, "E"]]:
    """Temporal weights and the embedding of one clip: h-bar, flattened (Eq. 6), the attended features, or both."""
    if config.pooling == "attention":
        own = attended @ parameters["appearance"]["selection"] if "appearance" in parameters else None
        selection = attention.temporal_weights(parameters["selection"], states, mask, own)
    else:
        selection = attention.uniform_weights(mask)
    scale = unit if config.embedding == "unit" else lambda part: part
    sequences = {"states": (states,), "features": (attended,), "both": (states, attended)}[config.represent]
    parts = [pool(sequence, selection, mask, config.pooling) for sequence in sequences]
    return selection, scale(jnp.concatenate([scale(part) for part in parts]))


def pool(
    sequence: Float[Array, "T *S"], selection: Float[Array, "T"], mask: Bool[Array, "T"], pooling: str
) -> Float[Array, "E"]:
    """One clip's sequence under its temporal weights, or its maximum, flattened."""
    if pooling == "max":
        return attention.pool_maximum(sequence, mask).reshape(-1)
    return jnp.tensordot(selection, sequence, 1).reshape(-1)


def unit(vectors: Float[Array, "*N E"]) -> Float[Array, "*N E"]:
    """Scaled to length one; nothing stays nothing."""
    return vectors * jax.lax.rsqrt(jnp.sum(jnp.square(vectors), -1, keepdims=True) + 1e-12)


def encode(
    parameters: Parameters,
    features: Float[Array, "N T Kh Kw D"],
    mask: Bool[Array, "N T"],
    config: Config,
    key: PRNGKeyArray | None = None,
) -> Encoding:
    """Embeddings and attention of N clips (Eq. 1-7), each independent of the others. With a key, dropout is on."""
    features = features.astype(jnp.float32)
    cubes = standardise(features) if config.recurrent.features == "standardised" else features
    locations, states = unroll(parameters, cubes, mask, config, key)
    attended = jnp.einsum("ntij,ntijd->ntd", locations, cubes)
    top_key = None if key is None else jax.random.fold_in(key, mask.shape[1])
    dropped = recurrent.dropout(states, config.recurrent.dropout_top, top_key)
    selection, embedding = jax.vmap(partial(select, parameters, config=config.attention))(dropped, attended, mask)
    return Encoding(embedding, locations, selection, states)


def similarity_logit(parameters: Parameters, first: Float[Array, "E"], second: Float[Array, "E"]) -> Float[Array, ""]:
    """v^T diag(h_a h_b^T) + c, the argument of Eq. 8's sigmoid; symmetric in the two clips."""
    return jnp.sum(parameters["v"] * (first * second)) + parameters["c"]


def similarity(parameters: Parameters, first: Float[Array, "E"], second: Float[Array, "E"]) -> Float[Array, ""]:
    """s of Eq. 8, in (0, 1)."""
    return jax.nn.sigmoid(similarity_logit(parameters, first, second))


def repeat_valid(frames: Shaped[Array, "N T *S"], mask: Bool[Array, "N T"]) -> Shaped[Array, "N T *S"]:
    """Padding replaced by the clip's own frames from its start, so that batch statistics see real frames only."""
    length = jnp.maximum(mask.sum(1, keepdims=True), 1)
    return jax.vmap(lambda clip, index: clip[index])(frames, jnp.arange(mask.shape[1]) % length)


def extract(
    backbone: nn.Module,
    variables: Parameters,
    frames: UInt8[Array, "N T H W 3"],
    mask: Bool[Array, "N T"],
    train: bool,
    precision: str = "float32",
    remat: bool = False,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "N T Kh Kw D"], Parameters]:
    """X_t of every frame (Eq. 1), all clips as one batch, and the batch statistics after it.

    With `precision` bfloat16 the backbone computes in that, on parameters that are rounded on their way in; what comes
    out is float32. With `remat` its backward pass computes again what lies within its stages. `key` draws what it
    leaves out in training.
    """
    rngs = {} if key is None else {backbones.DEPTH: key}
    pixels = repeat_valid(frames, mask) if train else frames
    kind = BFLOAT16 if precision == BFLOAT16 else "float32"
    pixels = pixels.reshape(-1, *frames.shape[2:]).astype(kind)
    variables = {**variables, "params": jax.tree.map(lambda leaf: leaf.astype(kind), variables["params"])}

    def apply(variables: Parameters, pixels: Array) -> tuple[Array, Parameters]:
        if not train:
            return backbone.apply(variables, pixels, train=False), variables.get("batch_stats", {})
        features, changed = backbone.apply(variables, pixels, train=True, mutable=["batch_stats"], rngs=rngs)
        return features, changed.get("batch_stats", {})

    features, statistics = (by_stages(apply) if remat else apply)(variables, pixels)
    features = features.astype(jnp.float32)
    return features.reshape(*frames.shape[:2], *features.shape[1:]), statistics
