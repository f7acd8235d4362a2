"""Walkers: pedestrians drawn by this project's own renderer, so that everything runs without a download."""

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_builders.pedestrians.camera import CAMERAS
from data_builders.pedestrians.population import plan
from data_builders.pedestrians.tracklet import Shot, render
from data_builders.records import Contents, TrackletBuilder
from data_builders.tables import digest
from reid_jax import workers
from reid_jax.tracklets import TrackletTable


@dataclass(frozen=True)
class WalkersSpec:
    """Size and seed of a set of walkers; the same spec gives the same bytes."""

    seed: int = 7
    version: int = 3
    """Of the renderer: raised with every change of what it draws, so that older frames are not taken for newer."""
    cameras: int = 6
    train_persons: int = 270
    test_persons: int = 40
    distractors: int = 40
    junk: int = 30

    def __post_init__(self) -> None:
        if not 2 <= self.cameras <= len(CAMERAS):
            raise ValueError(f"cameras = {self.cameras}: walkers have 2 to {len(CAMERAS)} cameras")

    def plan(self) -> tuple[dict[str, TrackletTable], dict[str, list[Shot]]]:
        """Tables and shots by split."""
        return plan(self.seed, self.cameras, self.train_persons, self.test_persons, self.distractors, self.junk)


def render_all(shots: list[Shot], processes: int) -> Iterator[dict[str, Any]]:
    """The records of the shots in their order, drawn here or in `processes` others; the bytes do not differ."""
    if processes <= 1:
        yield from map(render, shots)
        return
    # Forking a process that runs JAX's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin) as pool:
        try:
            yield from pool.map(render, shots, chunksize=8)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process that draws walkers ended early. It starts by importing the main script: keep that script's "
                'work under `if __name__ == "__main__":` (and the script in a file)'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """What a process that draws begins with: one thread, and no life beyond the main process's."""
    cv2.setNumThreads(1)
    workers.end_with_parent()


class Walkers(TrackletBuilder):
    """Walkers: procedural pedestrians in six cameras, in the protocol of MARS, with the person's box in every frame.

    Clothing colours are few and shared, cameras differ in colour cast, light and viewpoint: identity is in which
    garment wears which colour and pattern, in hair, bag, build and gait.
    """

    SPEC: ClassVar[WalkersSpec] = WalkersSpec()
    PROCESSES: ClassVar[int] = os.cpu_count() or 1
    NEEDS_DOWNLOAD: ClassVar[bool] = False
    EXTRA_FEATURES: ClassVar[dict[str, Any]] = {
        "box": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
        "visible": tfds.features.Tensor(shape=(None,), dtype=np.float32),
    }

    @classmethod
    def key(cls, manual_dir: Path | None) -> str:
        """From the spec."""
        return digest([json.dumps(dataclasses.asdict(cls.SPEC), sort_keys=True).encode()])

    @classmethod
    def contents(cls, manual_dir: Path | None) -> Contents:
        """The planned tracklets; each is drawn when it is read."""
        tables, shots = cls.SPEC.plan()

        def read(split: str, row: int) -> dict[str, Any]:
            return render(shots[split][row])

        sizes = f"{len(tables['train'])} train and {len(tables['test'])} test tracklets"
        return Contents(tables, read, f"walkers, drawn with seed {cls.SPEC.seed}: {sizes}", True, {})

    def _generate_examples(self, contents: Contents, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        _, shots = self.SPEC.plan()
        drawn = render_all(shots[split], self.PROCESSES)
        ahead = dataclasses.replace(contents, read=lambda _split, _row: next(drawn))
        yield from super()._generate_examples(ahead, split)
