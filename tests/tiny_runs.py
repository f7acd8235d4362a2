"""Runs of seconds: tracklets of persons in unlike colours, a network of two small layers, and processes to kill."""

import multiprocessing
import os
import resource
import time
from contextlib import closing
from functools import cache
from pathlib import Path

import cv2
import jax
import numpy as np

from experiments import command_line
from reid_jax import network, runs, train
from reid_jax import workdir as workdirs
from reid_jax.checkpoints import Checkpoints
from reid_jax.config import (
    AttentionConfig,
    BackboneConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    RecurrentConfig,
    TrainConfig,
)
from reid_jax.data import training_batches
from reid_jax.metrics_log import MetricsLog
from reid_jax.settings import change
from reid_jax.tracklets import DISTRACTOR, JUNK, Splits, Tracklets, TrackletTable

# Compiling is most of what these tests do: once for all processes.
COMPILED = Path(__file__).parents[1] / ".cache" / "compiled"
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

BASE = Config(
    data=DataConfig(height=16, width=8, frames=4, validation_persons=0),
    backbone=BackboneConfig(backbone="rcn"),
    recurrent=RecurrentConfig(channels=(4, 6), input_kernels=(3, 3), state_kernels=(3, 3)),
    attention=AttentionConfig(state_hidden=8),
    train=TrainConfig(
        batch_pairs=2,
        steps=8,
        warmup_steps=2,
        decay="none",
        log_every=2,
        checkpoint_every=2,
        validate_every=2,
        learning_rate=3e-3,
    ),
    evaluate=EvaluateConfig(embed_batch=64),
)


def tiny_config(**settings) -> Config:
    """The tiny configuration with some settings changed, each by its own name."""
    return change(BASE, settings)


def tiny_tracklets(persons=6, first_person=1, longest=9, seed=0, extras=False, noise=20) -> Tracklets:
    """Two cameras, the second with two tracklets a person; every person has colours of their own, top and bottom.

    With `extras`, a distractor and a junk tracklet come last. The first camera's tracklets are the queries.
    """
    generator = np.random.default_rng(seed)
    rows = [(person, camera) for person in range(first_person, first_person + persons) for camera in (1, 2, 2)]
    rows += [(DISTRACTOR, 2), (JUNK, 1)] if extras else []
    records, lengths = [], []
    for person, camera in rows:
        colours = np.random.default_rng(max(person, 0)).integers(40, 216, (2, 1, 1, 3))
        lengths.append(int(generator.integers(2, longest + 1)))
        frames = []
        for _ in range(lengths[-1]):
            clean = np.repeat(colours, 8, axis=0).reshape(16, 1, 3) + 8 * camera
            frame = np.clip(clean + generator.normal(0, noise, (16, 8, 3)), 0, 255).astype(np.uint8)
            frames.append(cv2.imencode(".png", frame)[1].tobytes())
        records.append({"frames": frames})
    person, camera = np.array(rows).T
    names = [f"p{row[0]}c{row[1]}n{number}" for number, row in enumerate(rows)]
    query = (camera == 1) & (person > DISTRACTOR)
    return Tracklets(TrackletTable(person, camera, np.array(lengths), query, names), records, np.arange(len(rows)))


@cache
def tiny_splits() -> Splits:
    """Eight persons to train on, four others to test on."""
    return Splits(tiny_tracklets(8), tiny_tracklets(4, first_person=20, seed=1, extras=True), "tiny, drawn")


def fit(config: Config, workdir: Path, resume: bool = False) -> bool:
    """Opens the work directory and trains there."""
    workdirs.open_workdir(workdir, config, resume=resume, overwrite=False)
    return runs.fit_run(config, workdir, tiny_splits())


def last_state(config: Config, workdir: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its path in the pytree."""
    checkpoints = Checkpoints(workdir / workdirs.CHECKPOINTS, read_only=True)
    step = checkpoints.latest() if step is None else step
    persons = (checkpoints.shape(step, "variables", "head", "identity", "directions") or (0,))[0]
    state = train.initial_state(network.build(config, persons))
    restored, next_batch = checkpoints.restore(step, state)
    checkpoints.close()
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves} | {
        "next_batch": np.array(next_batch)
    }


def assert_same_state(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def take_batches(config: Config, count: int) -> list[dict[str, np.ndarray]]:
    """The first batches of the tiny train tracklets."""
    with closing(training_batches(tiny_splits().train, config.data, config.train.batch_pairs, config.seed)) as batches:
        return [
            {name: batch[name] for name in train.inputs(batch)} for batch, _ in zip(batches, range(count), strict=False)
        ]


def metrics_without_time(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl, less the only values that depend on the clock."""
    lines = MetricsLog.read(workdir)
    return [{name: value for name, value in line.items() if name != "steps_per_second"} for line in lines]


def small_files_only() -> None:
    """From now on no file of this process grows beyond 50 kB: what a full disk does to a checkpoint."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)  # which would be cut short as well
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))


def _child(log: Path, config: Config, workdir: Path, resume: bool, prepare) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.setpgrp()
    jax.config.update("jax_disable_most_optimizations", True)

    def program() -> None:
        if prepare:
            prepare()
        if not fit(config, workdir, resume=resume):
            print("stopped and saved")

    command_line.run(program)


class Trainings:
    """Tiny trainings in processes of their own, forked from one that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        here = Path(__file__).parent
        os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tiny_runs"])

    def start(self, config: Config, workdir: Path, resume: bool = False, prepare=None):
        """A process that trains, the leader of a group of its own; its output goes to `log(workdir)`."""
        process = self._context.Process(target=_child, args=(self.log(workdir), config, workdir, resume, prepare))
        process.start()
        return process

    def log(self, workdir: Path) -> Path:
        """Where the output of a work directory's latest process is."""
        return self._folder / f"{workdir.name}.log"

    def finish(self, config: Config, workdir: Path, resume: bool = False, prepare=None, code: int = 0) -> str:
        """Trains to the end, checks the exit code, and returns the output."""
        process = self.start(config, workdir, resume, prepare)
        process.join(240)
        text = self.log(workdir).read_text()
        assert process.exitcode == code, text
        return text


def wait_for(condition, seconds: float = 120.0) -> None:
    """Until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)
