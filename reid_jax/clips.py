"""Clips of test tracklets with what a network made of them, to be drawn.

Axes: `T` frames, `H W` frame, `Kh Kw` grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from reid_jax import backbones
from reid_jax import network as networks
from reid_jax.data import FrameReader, pad_clip, stack_clips
from reid_jax.model import Encoding, Parameters
from reid_jax.network import Batch, Network
from reid_jax.precision import in_its_precision
from reid_jax.sampling import WHOLE, ClipDraw
from reid_jax.studies import Study
from reid_jax.tracklets import DISTRACTOR


@dataclass(frozen=True)
class Clip:
    """What was seen of one tracklet, without padding."""

    label: str
    frames: UInt8[np.ndarray, "T H W 3"]
    locations: Float[np.ndarray, "T Kh Kw"]
    """m_t."""
    selection: Float[np.ndarray, "T"]
    """alpha_t."""
    response: Float[np.ndarray, "T Kh Kw"]
    """The channel of X_t (Eq. 1) with the strongest response to this clip."""
    shift: float
    """Of what a cell sees, in pixels (see `backbones.shift`)."""

    @property
    def shares(self) -> Float[np.ndarray, "T Kh Kw"]:
        """m_t times the number of regions: 1 is an even share."""
        return self.locations * self.locations[0].size


def watch(study: Study, rows: Sequence[int], longest: int, at_once: int = 8) -> list[Clip]:
    """The first frames, `longest` at most, of test tracklets, `at_once` of them through the network together."""
    test, data = study.splits.test, study.config.data
    reader, found = FrameReader(test, data.height, data.width), []
    for start in range(0, len(rows), at_once):
        some = list(rows[start : start + at_once])
        counts = [min(longest, int(test.table.length[row])) for row in some]
        clips = [reader(ClipDraw(row, 0, count, WHOLE)) for row, count in zip(some, counts, strict=True)]
        # Repeated to one number, so that the network is compiled once.
        padded = [pad_clip(clip, longest) for clip in (clips + [clips[-1]] * at_once)[:at_once]]
        batch = stack_clips(padded)
        encoding, features = jax.device_get(_look(study.program, study.variables, batch))
        for place, (row, count) in enumerate(zip(some, counts, strict=True)):
            person = int(test.table.person[row])
            named = f"person {person}" if person > DISTRACTOR else "distractor" if person == DISTRACTOR else "junk"
            cube = np.asarray(features[place][:count], np.float32)
            channel = int(np.argmax(cube.max((0, 1, 2))))
            found.append(
                Clip(
                    f"{named}, camera {test.table.camera[row]}",
                    batch["frames"][place][:count],
                    encoding.locations[place][:count],
                    encoding.selection[place][:count],
                    cube[..., channel],
                    backbones.shift(study.config.backbone),
                )
            )
    return found


@partial(jax.jit, static_argnames="network")
@in_its_precision
def _look(network: Network, variables: Parameters, batch: Batch) -> tuple[Encoding, Float[Array, "N T Kh Kw D"]]:
    features = networks.clip_features(network, variables, batch)
    return networks.encode(network, variables, features, batch["mask"]), features
