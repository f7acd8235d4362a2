"""From the start of a process to the end of its first training step, and how often a whole run compiles."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from benchmarks import training
from benchmarks.measuring import Row, in_own_process, row_of, single
from benchmarks.sizes import Size
from reid_jax import evaluate, presets, train
from reid_jax import network as networks
from reid_jax.config import Config
from reid_jax.data import training_batches
from reid_jax.sampling import index_pairs
from reid_jax.tracklets import Tracklets

_COMPILED = "/jax/core/compile/backend_compile_duration"


def first_step(size: Size, cache: str) -> None:
    """Our first training step, with this folder of compiled programs."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.block_until_ready(training.our_step(size)())


def seconds_of(function: Callable[..., None], *arguments: Any) -> float:
    """Wall-clock seconds of a process of its own, from its start to the function's end."""
    start = time.perf_counter()
    in_own_process(function, *arguments)
    return time.perf_counter() - start


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Grows by an entry for every program that XLA compiles within."""
    found: list[str] = []

    def note(event: str, duration: float, **_: object) -> None:
        if event == _COMPILED:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def programs_of_a_run(config: Config, tracklets: Tracklets, test: Tracklets, steps: int) -> dict[str, int]:
    """How many training steps and embeddings a run of `steps` compiles, and how many programs altogether."""

    def cached() -> tuple[int, int]:
        return train.train_step._cache_size(), networks.embed_clips._cache_size()

    before = cached()
    with compilations() as found:
        network = networks.build(config, len(index_pairs(tracklets.table).person))
        program, state, key = networks.program(network), train.initial_state(network), jax.random.key(config.seed)
        with closing(training_batches(tracklets, config.data, config.train.batch_pairs, config.seed)) as batches:
            for _, batch in zip(range(steps), batches, strict=False):
                state, _ = train.train_step(program, state, {name: batch[name] for name in train.inputs(batch)}, key)
        evaluate.evaluate_network(network, state.variables, test)
    steps_compiled, embeddings = (now - then for now, then in zip(cached(), before, strict=True))
    return {"training steps": steps_compiled, "embeddings": embeddings, "programs": len(found)}


def _whole_run() -> dict[str, int]:
    from benchmarks.input import jpeg_tracklets  # slow to import: it would count in the others' time

    tracklets = jpeg_tracklets(4, 9)
    config = presets.preset("small", "walkers")
    config = replace(config, train=replace(config.train, batch_pairs=2))
    return programs_of_a_run(config, tracklets, tracklets, 4)


def measure(quick: bool) -> Iterator[Row]:
    """Seconds cold and from the cache, and counts of compiled programs."""
    size = Size((3, 3), 4, 3, (6, 8), (4, 3, 5)) if quick else Size((5, 5, 5), 4, 4)
    runs, cold, warm = 1 if quick else 3, [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds_of(first_step, size, str(Path(cache))))
            warm.append(seconds_of(first_step, size, str(Path(cache))))
    try:
        from benchmarks import torch_training

        theirs = [seconds_of(torch_training.first_step, size) for _ in range(runs)]
    except ImportError:
        print("PyTorch is not installed: no ratio to it")
        theirs = None
    yield row_of("from the start of a process to its first training step, nothing compiled before", cold, theirs)
    yield row_of("the same, compiled before", warm, theirs)
    counts = in_own_process(_whole_run)
    names = {
        "training steps": "training steps compiled in a run that trains and evaluates",
        "embeddings": "embedding functions compiled in it, one a bucket of lengths",
        "programs": "programs compiled in it altogether",
    }
    yield from (single(names[name], count, "") for name, count in counts.items())
