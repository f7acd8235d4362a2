"""Whether attention means something: how much of it falls on the person and on the frames in which they are seen.

Only for data whose ground truth is known, as that of walkers: `box` [T, 4], the person's box x0 y0 x1 y1 as shares of
the frame, and `visible` [T], the share of the person that nothing hides. Axes: `T` frames, `Kh Kw` grid.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from reid_jax import network as networks
from reid_jax.data import clips_of, evaluation_batches
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.sampling import WHOLE
from reid_jax.tracklets import DISTRACTOR, Tracklets


@dataclass(frozen=True)
class Share:
    """A share of attention, beside what uniform attention gives."""

    attended: float
    uniform: float
    count: int
    """Frames, or tracklets, that were counted."""


def box_coverage(box: Float[np.ndarray, "4"], grid: tuple[int, int]) -> Float[np.ndarray, "Kh Kw"]:
    """Which share of each location's cell lies in the box."""

    def overlap(low: float, high: float, cells: int) -> Float[np.ndarray, "cells"]:
        edges = np.arange(cells + 1) / cells
        inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        return np.clip(inside, 0.0, None) * cells

    x0, y0, x1, y1 = box.astype(np.float64)
    return np.outer(overlap(y0, y1, grid[0]), overlap(x0, x1, grid[1]))


def location_share(
    locations: Float[np.ndarray, "T Kh Kw"], boxes: Float[np.ndarray, "T 4"]
) -> tuple[Float[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """Of each frame, the weight that lies on the person's box, and what uniform weights have there."""
    coverage = np.stack([box_coverage(box, locations.shape[1:]) for box in boxes])
    return (locations * coverage).sum((1, 2)), coverage.mean((1, 2))


def selection_share(
    selection: Float[np.ndarray, "T"], visible: Float[np.ndarray, "T"], threshold: float
) -> tuple[float, float] | None:
    """The temporal weight on frames in which at least `threshold` of the person is seen, and uniform weights' share.

    None where all frames are alike, so that there is nothing to select.
    """
    seen = visible >= threshold
    if seen.all() or not seen.any():
        return None
    return float(selection[seen].sum()), float(seen.mean())


def measure(
    network: Network, variables: Parameters, tracklets: Tracklets, threshold: float = 0.6
) -> tuple[Share, Share]:
    """Location weight on the person, over all frames that show them; temporal weight on frames that show `threshold`
    of them, over the tracklets that have both kinds. Junk and distractors are left out.

    Raises:
        ValueError: the data set does not say where the person is.
    """
    known = tracklets.take(np.flatnonzero(tracklets.table.person > DISTRACTOR))
    if not {"box", "visible"} <= set(known.records[int(known.index[0])]):
        raise ValueError("the data set's records have no box and visible: only walkers say where the person is")
    records = [known.records[int(index)] for index in known.index]
    data, settings = network.config.data, network.config.evaluate
    encode = partial(networks.encode_clips, networks.program(network), variables)
    where, when = [], []
    batches = evaluation_batches(
        known, data.height, data.width, settings.embed_frames, settings.embed_batch, WHOLE, "whole"
    )
    with tqdm(total=len(known), desc="attention", unit="tracklet", leave=False) as bar:
        for batch in batches:
            encoding = encode(clips_of(batch))
            clips = zip(batch["row"], batch["mask"], encoding.locations, encoding.selection, strict=True)
            for row, mask, locations, selection in clips:
                if row < 0:
                    continue
                length = int(mask.sum())
                boxes, visible = (np.asarray(records[row][name])[:length] for name in ("box", "visible"))
                shares = np.stack(location_share(np.asarray(locations)[mask], boxes))
                where.append(shares[:, (boxes[:, 2] > boxes[:, 0]) & (visible > 0)])
                chosen = selection_share(np.asarray(selection)[mask], visible, threshold)
                when += [] if chosen is None else [chosen]
                bar.update()
    return _share(np.concatenate(where, axis=1).T), _share(np.array(when).reshape(-1, 2))


def _share(pairs: Float[np.ndarray, "N 2"]) -> Share:
    means = pairs.mean(0) if len(pairs) else np.full(2, np.nan)
    return Share(float(means[0]), float(means[1]), len(pairs))
