"""Whether decoding keeps the training step fed: the step on batches as they are read beside the step on one in memory.

The frames are walkers, drawn by this project's renderer and encoded as JPEG at 256x128, the size of MARS's frames.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import jax
import numpy as np

from benchmarks.measuring import Row, interleaved, row_of, single
from data_builders.pedestrians.tracklet import render
from data_builders.walkers import WalkersSpec
from reid_jax import network as networks
from reid_jax import presets, train
from reid_jax.config import Config
from reid_jax.data import FrameReader, training_batches
from reid_jax.sampling import WHOLE, ClipDraw, index_pairs
from reid_jax.tracklets import Tracklets

JPEG_SIZE = (128, 256)
"""Width and height."""
PERSONS = (12, 16)
"""How many, and their tracklets' longest."""
KEEPS_UP = dict(against="data in memory", goal=1.1)
"""What a step's time from JPEG is compared with."""


@lru_cache(maxsize=1)
def jpeg_tracklets(persons: int, longest: int) -> Tracklets:
    """Walkers in two cameras, each tracklet cut to `longest` frames; those of one camera are the queries."""
    spec = replace(WalkersSpec(), cameras=2, train_persons=persons, test_persons=2, distractors=1, junk=1)
    tables, shots = spec.plan()
    cut = [replace(shot, length=min(longest, shot.length)) for shot in shots["train"]]
    records = [{"frames": [_enlarged(frame) for frame in render(shot)["frames"]]} for shot in cut]
    length, camera = np.array([shot.length for shot in cut]), tables["train"].camera
    table = replace(tables["train"], length=length, query=camera == camera.min())
    return Tracklets(table, records, np.arange(len(table)))


def _enlarged(frame: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", cv2.resize(image, JPEG_SIZE, interpolation=cv2.INTER_CUBIC))[1].tobytes()


def configurations(quick: bool) -> dict[str, Config]:
    """The shipped presets whose frames are decoded while they train, without published weights."""
    walkers, mars = (presets.preset("default", name) for name in ("walkers", "mars"))
    mars = replace(mars, backbone=replace(mars.backbone, pretrained=False))
    if quick:
        few = replace(walkers, data=replace(walkers.data, frames=2), train=replace(walkers.train, batch_pairs=2))
        return {"walkers": few}
    return {"walkers": walkers, "mars": mars}


def steps(config: Config, tracklets: Tracklets, batches: Any) -> dict[str, Callable[[], Any]]:
    """Takes a training step on a new batch, and on one that is in memory."""
    network = networks.program(networks.build(config, len(index_pairs(tracklets.table).person)))
    state, key = train.initial_state(network), jax.random.key(0)

    def step(batch: dict[str, np.ndarray]) -> Any:
        nonlocal state
        state, metrics = train.train_step(network, state, {name: batch[name] for name in train.inputs(batch)}, key)
        return metrics

    kept = next(batches)
    return {"read": lambda: step(next(batches)), "kept": lambda: step(kept)}


def decoded_per_second(tracklets: Tracklets, config: Config) -> float:
    """Frames a second that one thread decodes and brings to the size of the configuration."""
    reader, frames, start = FrameReader(tracklets, config.data.height, config.data.width), 0, time.perf_counter()
    for row, length in enumerate(tracklets.table.length.tolist()):
        reader(ClipDraw(row, 0, length, WHOLE))
        frames += length
    return frames / (time.perf_counter() - start)


def step_seconds(
    config: Config, tracklets: Tracklets, runs: int, kinds: tuple[str, ...] = ("kept", "read")
) -> dict[str, list[float]]:
    """Seconds of a training step on data in memory (kept) and as it is read.

    In blocks, not in turns: what is read ahead while the other kind of step runs would come for free.
    """
    with closing(training_batches(tracklets, config.data, config.train.batch_pairs, 0)) as batches:
        work = steps(config, tracklets, batches)
        return {kind: interleaved({kind: work[kind]}, runs)[kind] for kind in kinds}


def fed(name: str, config: Config, tracklets: Tracklets, runs: int) -> list[Row]:
    """The step's time on JPEG and in memory; frames a second that one core decodes, and that the step needs."""
    seconds = step_seconds(config, tracklets, runs)
    frames = 2 * config.train.batch_pairs * config.data.frames
    size = f"{name}, {frames} frames of {config.data.height}x{config.data.width}"
    return [
        row_of(f"training step from JPEG: {size}", seconds["read"], seconds["kept"], **KEEPS_UP),
        single(f"decoded by one core: {size}", decoded_per_second(tracklets, config), "frames/s"),
        single(f"needed by the step: {size}", frames / float(np.median(seconds["kept"])), "frames/s"),
    ]


def measure(quick: bool) -> Iterator[Row]:
    """The rows of each preset."""
    tracklets = jpeg_tracklets(*((4, 3) if quick else PERSONS))
    for name, config in configurations(quick).items():
        yield from fed(name, config, tracklets, 4 if quick else 12)
