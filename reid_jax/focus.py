"""How unevenly a network looks at regions and at frames, over all test tracklets (Fig. 6, Fig. 8).

Axes: `N` tracklets, `T` frames, `Kh Kw` grid, `W` weights.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from reid_jax import network as networks
from reid_jax.data import clips_of, evaluation_batches
from reid_jax.sampling import WHOLE
from reid_jax.studies import Study


class Focus(NamedTuple):
    """What is known of each test tracklet, in the order of the table."""

    when: Float[np.ndarray, "N"]
    """`spread` of its temporal weights."""
    heaviest: Float[np.ndarray, "N"]
    """Its heaviest frame's weight, times its number of frames: 1 is an even share."""
    where: Float[np.ndarray, "N"]
    """`spread` of its location maps, the mean over its frames."""


def spread(
    weights: Float[np.ndarray, "*N W"], valid: Bool[np.ndarray, "*N W"] | None = None
) -> Float[np.ndarray, "*N"]:
    """How many of the valid entries weights that sum to one amount to, as a share of them: exp(entropy) / number.

    1 where all weigh the same, 1 / number where one has all the weight.
    """
    logs = np.log(np.where(weights > 0, weights, 1.0))
    number = weights.shape[-1] if valid is None else valid.sum(-1)
    return np.exp(-(weights * logs).sum(-1)) / number


def measure(study: Study) -> Focus:
    """Of every test tracklet's plain frames."""
    test, settings, data = study.splits.test, study.config.evaluate, study.config.data
    found = {name: np.zeros(len(test)) for name in Focus._fields}
    readers = study.readers(test)
    place = data.height, data.width, settings.embed_frames, settings.embed_batch, WHOLE, "whole"
    with tqdm(total=len(test), desc="attention", unit="tracklet", leave=False) as bar:
        for batch in evaluation_batches(test, *place, readers(test) if readers else None):
            clips = clips_of(batch)
            encoding = networks.encode_clips(study.program, study.variables, clips)
            kept = batch["row"] >= 0
            rows, mask, weights = batch["row"][kept], batch["mask"][kept], np.asarray(encoding.selection)[kept]
            maps = np.asarray(encoding.locations)[kept].reshape(*mask.shape, -1)
            found["when"][rows] = spread(weights, mask)
            found["heaviest"][rows] = weights.max(1) * mask.sum(1)
            found["where"][rows] = (spread(maps) * mask).sum(1) / mask.sum(1)
            bar.update(len(rows))
    return Focus(**found)
