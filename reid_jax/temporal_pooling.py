"""The same hidden states of a network, and nothing else, pooled over time in several ways (Table IV).

Axes: `N` clips, `T` frames, `E` embedding; `S` descriptors of `D` values and `F` of a Fisher vector as in `fisher`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from reid_jax import fisher
from reid_jax import network as networks
from reid_jax.data import clips_of, evaluation_batches
from reid_jax.evaluate import Sides, embed_sides
from reid_jax.features import ReaderOf
from reid_jax.fisher import Mixture, Reading
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.precision import in_its_precision
from reid_jax.sampling import WHOLE
from reid_jax.settings import change
from reid_jax.studies import Study
from reid_jax.tracklets import DISTRACTOR, Tracklets

COMPONENTS = 16
"""The paper's C, which it does not give."""
MOST_DESCRIPTORS, VARIANCE_FLOOR = 100_000, 1e-3
"""For the mixture: how many descriptors it is fitted on, and what is added to its variances."""
POOLINGS = ("max", "average", "attention")
READINGS: tuple[Reading, ...] = ("frame", "region")
SETTINGS = {
    "components": COMPONENTS,
    "descriptors_at_most": MOST_DESCRIPTORS,
    "variance_floor": VARIANCE_FLOOR,
}


def pooled_sides(study: Study) -> dict[str, Sides]:
    """Embeddings of a run's test task by every pooling and both readings of Fisher vectors, by their names.

    Raises:
        ValueError: see `fisher.fit_mixture`.
    """
    config, train, test = study.config, study.splits.train, study.splits.test
    known = train.take(np.flatnonzero(train.table.person > DISTRACTOR))
    place = study.network, study.variables
    sample = sample_descriptors(*place, known, READINGS, MOST_DESCRIPTORS, config.seed, study.readers(train))
    mixtures = {
        reading: fisher.fit_mixture(found, COMPONENTS, VARIANCE_FLOOR, config.seed) for reading, found in sample.items()
    }
    ends: dict[str, int] = {}

    def function(batch: Batch) -> Float[np.ndarray, "N E"]:
        """All rows side by side, so that the network sees every tracklet once; `ends` says where each one ends."""
        pooled = pool(*place, mixtures, batch, POOLINGS, improved=True)
        ends.update(zip(pooled, np.cumsum([row.shape[1] for row in pooled.values()]).tolist(), strict=True))
        return np.concatenate([np.asarray(row) for row in pooled.values()], axis=1)

    probes, gallery = embed_sides(function, test, study.task, config, study.readers(test))
    starts = dict(zip(ends, [0, *ends.values()], strict=False))
    return {name: (probes[:, starts[name] : end], gallery[:, starts[name] : end]) for name, end in ends.items()}


def pool(
    network: Network,
    variables: Parameters,
    mixtures: Mapping[Reading, Mixture],
    batch: Batch,
    poolings: tuple[str, ...],
    improved: bool,
) -> dict[str, Float[Array, "N _"]]:
    """What each of `poolings` makes of clips, and their states' Fisher vectors by each reading's mixture.

    Tracklets are pooled whole, whatever `clip_frames` says: the network's own pooling then gives the states' part of
    its own embedding, before any neck. `attention` weighs frames by the learned score, which is untrained (all frames
    alike) in a network trained with another pooling. Fisher vectors (Eq. 10) are `improved` or as the equation gives
    them, and named `Fisher vectors, READING`.
    """
    pooled = _pool(networks.program(network), variables, dict(mixtures), batch, poolings, improved)
    # A compiled function gives dictionaries back in the order of their keys.
    return {name: pooled[name] for name in (*poolings, *map(fisher_name, mixtures))}


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
            clips = clips_of(batch)
            states = networks.encode_clips(networks.program(network), variables, clips).states
            for reading in readings:
                found, mask = (np.asarray(part) for part in fisher.descriptors(states, clips["mask"], reading))
                a_frame = found.shape[1] // states.shape[1]
                drawn = generator.random(mask.shape) < most / (frames * a_frame)
                kept[reading].append(found[mask & drawn])
            bar.update(int((batch["row"] >= 0).sum()))
    return {reading: np.concatenate(parts) for reading, parts in kept.items()}


def fisher_name(reading: Reading) -> str:
    """Of the row of Fisher vectors."""
    return f"Fisher vectors, {reading}"


@partial(jax.jit, static_argnames=("network", "poolings", "improved"))
@in_its_precision
def _pool(
    network: Network,
    variables: Parameters,
    mixtures: dict[Reading, Mixture],
    batch: Batch,
    poolings: tuple[str, ...],
    improved: bool,
) -> dict[str, Array]:
    features, mask, pooled = networks.clip_features(network, variables, batch), jnp.asarray(batch["mask"]), {}
    for pooling in poolings:
        other = replace(network, config=change(network.config, {"pooling": pooling, "represent": "states"}))
        encoding = networks.encode(other, variables, features, mask)
        pooled[pooling] = encoding.embedding
    for reading, mixture in mixtures.items():
        # The states are the same for every pooling.
        vectors = fisher.fisher_vectors(mixture, *fisher.descriptors(encoding.states, mask, reading), improved)
        pooled[fisher_name(reading)] = vectors
    return pooled
