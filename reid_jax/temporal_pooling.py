"""The same hidden states of a network pooled over time in several ways (Table IV).

Axes: `N` clips, `T` frames, `E` embedding; `S` descriptors of `D` values and `F` of a Fisher vector as in `fisher`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from tqdm import tqdm

from reid_jax import fisher, model
from reid_jax import network as networks
from reid_jax.config import Config
from reid_jax.data import evaluation_batches
from reid_jax.features import ReaderOf
from reid_jax.fisher import Mixture, Reading
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.sampling import WHOLE
from reid_jax.tracklets import Tracklets


def pool(
    network: Network,
    variables: Parameters,
    mixtures: Mapping[Reading, Mixture],
    batch: Batch,
    poolings: tuple[str, ...],
    improved: bool,
) -> dict[str, Float[Array, "N _"]]:
    """What each of `poolings` makes of the states of clips, and their Fisher vectors by each reading's mixture.

    The network's own pooling gives its own embedding. `attention` weighs frames by the learned score, which is
    untrained (all frames alike) in a network trained with another pooling. Fisher vectors (Eq. 10) are `improved` or
    as the equation gives them, and named `Fisher vectors, READING`.
    """
    states, mask = networks.encode_clips(network, variables, batch).states, jnp.asarray(batch["mask"])
    pooled = _pool(network.config, variables["head"], dict(mixtures), states, mask, poolings, improved)
    # A compiled function gives dictionaries back in the order of their keys.
    return {name: pooled[name] for name in (*poolings, *map(_fisher_name, mixtures))}


def sample_descriptors(
    network: Network,
    variables: Parameters,
    tracklets: Tracklets,
    readings: tuple[Reading, ...],
    most: int,
    seed: int,
    readers: ReaderOf | None,
) -> dict[Reading, Float[np.ndarray, "_ D"]]:
    """Each reading's descriptors of the tracklets' plain frames, to fit a mixture on: all, or about `most` drawn."""
    config, generator = network.config, np.random.default_rng(seed)
    longest = config.evaluate.embed_frames or int(tracklets.table.length.max())
    frames = int(np.minimum(tracklets.table.length, longest).sum())
    place = config.data.height, config.data.width, config.evaluate.embed_frames, config.evaluate.embed_batch
    kept: dict[Reading, list[np.ndarray]] = {reading: [] for reading in readings}
    with tqdm(total=len(tracklets), desc="descriptors", unit="tracklet", leave=False) as bar:
        for batch in evaluation_batches(tracklets, *place, WHOLE, "whole", readers(tracklets) if readers else None):
            clips = {name: value for name, value in batch.items() if name != "row"}
            states = networks.encode_clips(network, variables, clips).states
            for reading in readings:
                found, mask = (np.asarray(part) for part in fisher.descriptors(states, clips["mask"], reading))
                a_frame = found.shape[1] // states.shape[1]
                drawn = generator.random(mask.shape) < most / (frames * a_frame)
                kept[reading].append(found[mask & drawn])
            bar.update(int((batch["row"] >= 0).sum()))
    return {reading: np.concatenate(parts) for reading, parts in kept.items()}


def _fisher_name(reading: Reading) -> str:
    return f"Fisher vectors, {reading}"


@partial(jax.jit, static_argnames=("config", "poolings", "improved"))
def _pool(
    config: Config,
    head: Parameters,
    mixtures: dict[Reading, Mixture],
    states: Float[Array, "N T Ks1 Ks2 C"],
    mask: Bool[Array, "N T"],
    poolings: tuple[str, ...],
    improved: bool,
) -> dict[str, Array]:
    pooled = {}
    for pooling in poolings:
        select = partial(model.select, head, config=replace(config.attention, pooling=pooling))
        pooled[pooling] = jax.vmap(select)(states, mask)[1]
    for reading, mixture in mixtures.items():
        vectors = fisher.fisher_vectors(mixture, *fisher.descriptors(states, mask, reading), improved)
        pooled[_fisher_name(reading)] = vectors
    return pooled
