"""Embedding a split, and scoring it under a named protocol. Axes: `N` tracklets, `E` embedding, `A` conditions."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from tqdm import tqdm

from reid_jax import devices
from reid_jax import network as networks
from reid_jax.config import Config
from reid_jax.data import clips_of, evaluation_batches
from reid_jax.features import ReaderOf
from reid_jax.frames import evaluation_conditions
from reid_jax.histogram import histogram_embedding
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.protocols import PROTOCOLS, RetrievalTask, View
from reid_jax.retrieval import RetrievalResult, score
from reid_jax.sampling import WHOLE, Augmentation
from reid_jax.tracklets import Tracklets

Embed = Callable[[Batch], Float[Array, "N E"]]
Sides = tuple[Float[np.ndarray, "Q E"], Float[np.ndarray, "G E"]]
"""Embeddings of a task's probes and of its gallery."""

HISTOGRAM_BINS, HISTOGRAM_STRIPS = (8, 8, 8), 6


def embed(
    function: Embed,
    tracklets: Tracklets,
    config: Config,
    view: View = "whole",
    condition: Augmentation = WHOLE,
    readers: ReaderOf | None = None,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "N E"]:
    """What `function` makes of every tracklet, in the order of the table.

    Clips come bucketed by length and padded, so `function` is compiled once a bucket. On a mesh they are split over its
    devices, and the function's own arrays have to be replicated.
    """
    frames = config.evaluate.first_last_frames if view != "whole" else config.evaluate.embed_frames
    place = config.data.height, config.data.width, frames, config.evaluate.embed_batch, condition, view
    shares = {} if mesh is None else {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = evaluation_batches(
        tracklets, *place, readers(tracklets) if readers else None, multiple=devices.size(mesh), **shares
    )
    result, hidden = None, not devices.is_first()
    with tqdm(total=len(tracklets), desc="embedding", unit="tracklet", leave=False, disable=hidden) as bar:
        for batch in batches:
            rows = batch["row"]
            clips = devices.share(clips_of(batch), mesh)
            embeddings = devices.whole(function(clips))
            if result is None:
                result = np.zeros((len(tracklets), embeddings.shape[1]), np.float32)
            result[rows[rows >= 0]] = embeddings[rows >= 0]
            bar.update(int((rows >= 0).sum()))
    if result is None:
        raise ValueError("there are no tracklets to embed")
    return result


def embed_conditions(
    function: Embed,
    tracklets: Tracklets,
    config: Config,
    view: View,
    readers: ReaderOf | None,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "N E"]:
    """Embeddings averaged over the test-time conditions, for the tracklets short enough for them (section V.B).

    Others are those of the whole frames.
    """
    conditions = evaluation_conditions(config.evaluate.conditions, config.data.crop)
    if len(conditions) == 1 or len(tracklets) == 0:
        return embed(function, tracklets, config, view, WHOLE, readers, mesh)
    length = tracklets.table.length
    seen = length if view == "whole" else np.minimum(length, config.evaluate.first_last_frames)
    short, found = seen < config.evaluate.conditions_below, []
    for chosen, own in ((short, conditions), (~short, (WHOLE,))):
        if chosen.any():
            rows = np.flatnonzero(chosen)
            part = tracklets if len(rows) == len(tracklets) else tracklets.take(rows)
            total = sum(embed(function, part, config, view, condition, readers, mesh) for condition in own)
            found.append((rows, total / len(own)))
    embeddings = np.empty((len(tracklets), found[0][1].shape[1]), np.float32)
    for rows, mean in found:
        embeddings[rows] = mean
    return embeddings


def embed_sides(
    function: Embed,
    tracklets: Tracklets,
    task: RetrievalTask,
    config: Config,
    readers: ReaderOf | None,
    mesh: Mesh | None = None,
) -> Sides:
    """What `function` makes of a task's probes and gallery, averaged over the test-time conditions."""
    if task.probe_view == task.gallery_view:
        embeddings = embed_conditions(function, tracklets, config, task.probe_view, readers, mesh)
        return embeddings[task.probe_rows], embeddings[task.gallery_rows]
    probes, gallery = (
        embed_conditions(function, tracklets.take(rows), config, view, readers, mesh)
        for rows, view in ((task.probe_rows, task.probe_view), (task.gallery_rows, task.gallery_view))
    )
    return probes, gallery


def map_sides(
    sides: tuple[Float[np.ndarray, "Q I"], Float[np.ndarray, "G I"]], learnt: Float[np.ndarray, "I E"]
) -> Sides:
    """Probes and gallery after a learnt map."""
    probes, gallery = sides
    return (probes @ learnt).astype(np.float32), (gallery @ learnt).astype(np.float32)


def evaluate(
    function: Embed,
    tracklets: Tracklets,
    config: Config,
    similarity: Parameters | None,
    readers: ReaderOf | None = None,
    mesh: Mesh | None = None,
    learnt: Float[np.ndarray, "E R"] | None = None,
) -> RetrievalResult:
    """Scores the embeddings of `function` under the configured protocol, distance and average precision.

    `similarity` holds v and c of Eq. 8; without them, the learned distance is replaced by `euclidean`. With a `learnt`
    map what is compared are the embeddings behind it.
    """
    settings = config.evaluate
    task = PROTOCOLS[settings.protocol](tracklets.table)
    sides = embed_sides(function, tracklets, task, config, readers, mesh)
    probes, gallery = sides if learnt is None else map_sides(sides, learnt)
    distance = "euclidean" if similarity is None and settings.distance == "similarity" else settings.distance
    weights = devices.own(similarity) or {"v": None, "c": None}
    return score(
        probes, gallery, task, distance, settings.average_precision, settings.probe_block, weights["v"], weights["c"]
    )


def embedding_of(network: Network, variables: Parameters) -> Embed:
    """The network's own embeddings, for many clips: its kernels are prepared once."""
    return partial(networks.embed_clips, networks.program(network), networks.prepared(network, variables))


def evaluate_network(
    network: Network,
    variables: Parameters,
    tracklets: Tracklets,
    readers: ReaderOf | None = None,
    mesh: Mesh | None = None,
    learnt: Float[np.ndarray, "E R"] | None = None,
) -> RetrievalResult:
    """The network's own result, behind a `learnt` map of its embeddings; on a mesh the variables are replicated."""
    similarity = variables["head"]["similarity"]
    function = embedding_of(network, variables)
    return evaluate(function, tracklets, network.config, similarity, readers, mesh, learnt)


def evaluate_average(
    network: Network,
    variables: Parameters,
    tracklets: Tracklets,
    readers: ReaderOf | None = None,
    mesh: Mesh | None = None,
) -> RetrievalResult:
    """The result of the backbone's features averaged over grid and frames: no recurrence, no attention."""
    function = partial(networks.average_features, networks.program(network), variables)
    return evaluate(function, tracklets, network.config, None, readers, mesh)


def evaluate_histogram(tracklets: Tracklets, config: Config) -> RetrievalResult:
    """The result of HSV histograms in horizontal strips: what colour alone can do."""

    def histograms(batch: Batch) -> Float[np.ndarray, "N E"]:
        clips = zip(batch["frames"], batch["mask"], strict=True)
        valid = [clip[mask] if mask.any() else clip[:1] for clip, mask in clips]
        return np.stack([histogram_embedding(clip, HISTOGRAM_STRIPS, HISTOGRAM_BINS) for clip in valid])

    return evaluate(histograms, tracklets, config, None)
