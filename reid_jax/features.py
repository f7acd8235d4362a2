"""A frozen backbone's feature cubes, computed once and kept on disk: training then reads them instead of frames.

The file of a set of tracklets holds float16 [F, 2, Kh, Kw, D]: all frames, plain and mirrored, tracklet by tracklet.
"""

import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from reid_jax import network as networks
from reid_jax.data import ClipReader, evaluation_batches
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.precision import in_its_precision
from reid_jax.sampling import WHOLE, ClipDraw
from reid_jax.tracklets import Tracklets

CONDITIONS = (WHOLE, replace(WHOLE, mirror=True))
FRAMES_A_BATCH = 256
"""Frames that go through the backbone together."""

SAMPLED = 500
"""Tracklets, at most, whose frames tell images of the same names and lengths apart: reading all takes too long."""

ReaderOf = Callable[[Tracklets], ClipReader]
"""Tracklets (any rows of those the features were computed for) -> the reader of their clips."""


@dataclass(frozen=True)
class FeatureReader:
    """A clip reader: `features`, float16 [T, Kh, Kw, D]; of an augmentation only the mirror is kept on disk."""

    path: str
    offsets: Int[np.ndarray, "N"]

    def __call__(self, draw: ClipDraw) -> dict[str, np.ndarray]:
        frames = _open(self.path)[int(self.offsets[draw.row]) :][draw.frames]
        return {"features": np.array(frames[:, int(draw.augmentation.mirror)])}


@lru_cache(maxsize=8)
def _open(path: str) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def cached_features(network: Network, variables: Parameters, tracklets: Tracklets, folder: Path) -> ReaderOf:
    """The readers of the tracklets' features, computed now unless `folder` has them.

    The file's name follows from the backbone, its weights, the frame size and the tracklets, so another setting never
    reads it. It appears whole or not at all.

    Raises:
        OSError: the disk has no room for it.
    """
    length = tracklets.table.length
    offsets = np.zeros(int(tracklets.index.max()) + 1, np.int64)
    offsets[tracklets.index] = np.cumsum(length) - length
    path = folder / f"{fingerprint(network, variables, tracklets)}.npy"
    if not path.exists():
        compute(network, variables, tracklets, path)
    return lambda chosen: FeatureReader(str(path), offsets[chosen.index])


def fingerprint(network: Network, variables: Parameters, tracklets: Tracklets) -> str:
    """A name for exactly these features."""
    data, table = network.config.data, tracklets.table
    backbone = network.config.backbone
    settings = [backbone.backbone, backbone.endpoint, backbone.precision, data.dataset, data.height, data.width]
    digest = hashlib.sha256(json.dumps([settings, list(table.name), table.length.tolist()]).encode())
    for leaf in jax.tree.leaves(networks.backbone_variables(variables)):
        digest.update(np.asarray(leaf).tobytes())
    for row in np.unique(np.linspace(0, len(tracklets) - 1, SAMPLED).astype(int)).tolist():
        for frame in tracklets.encoded(row):
            digest.update(bytes(frame))
    return f"{data.dataset}-{digest.hexdigest()[:16]}"


def compute(network: Network, variables: Parameters, tracklets: Tracklets, path: Path) -> None:
    """Runs the backbone over every frame, plain and mirrored, into a file that is renamed to `path` when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    starts = np.cumsum(tracklets.table.length) - tracklets.table.length
    partial_path = path.with_suffix(f".{secrets.token_hex(4)}.{_host()}.partial{os.getpid()}")
    shape = (int(tracklets.table.length.sum()), len(CONDITIONS), *network.cube)
    try:
        _reserve(partial_path, shape)
        output = np.lib.format.open_memmap(partial_path, mode="r+")
        data = network.config.data
        with tqdm(total=shape[0] * len(CONDITIONS), desc="backbone features", unit="frame", unit_scale=True) as bar:
            for number, condition in enumerate(CONDITIONS):
                for batch in evaluation_batches(
                    tracklets, data.height, data.width, 0, FRAMES_A_BATCH, condition, "whole"
                ):
                    clips = {"frames": batch["frames"], "mask": batch["mask"]}
                    cubes = np.asarray(_features(network, variables, clips))
                    for row, valid, clip in zip(batch["row"], batch["mask"], cubes, strict=True):
                        if row >= 0:
                            output[starts[row] : starts[row] + valid.sum(), number] = clip[valid]
                            bar.update(int(valid.sum()))
        output.flush()
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Deletes the unfinished files of this machine's processes that were killed: they can be many gigabytes."""
    for file in folder.glob(f"*.{_host()}.partial*"):
        try:
            os.kill(int(file.suffix.removeprefix(".partial")), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:  # There is such a process, somebody else's.
            pass


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Makes the file with all its blocks: writing through memory to a full disk would kill the process."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape).flush()
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            size = path.stat().st_size / 2**30
            raise OSError(
                f"{path.parent}: no room for {size:.2f} GiB of cached features ({error}); make room, choose another "
                "data_dir, or set cache_features to false"
            ) from error


@partial(jax.jit, static_argnames="network")
@in_its_precision
def _features(network: Network, variables: Parameters, clips: Batch) -> Float[Array, "N T Kh Kw D"]:
    return networks.clip_features(network, variables, clips).astype(np.float16)
