"""A whole training step on cached features, Eq. 9 and RMSProp included, and the memory of a process that takes it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks.heads import better_layout, first_variables, network_of, torch_model
from benchmarks.measuring import Row, in_own_processes, interleaved, row_of, single, with_peak
from benchmarks.sizes import Size, batch_of
from reid_jax import train


def our_step(size: Size) -> Callable[[], jax.Array]:
    """Takes one more step at every call and returns its loss; features come in half precision, as from the cache."""
    network, batch = network_of(size), _cached(size)
    state, key = train.initial_state(network), jax.random.key(0)

    def step() -> jax.Array:
        nonlocal state
        state, metrics = train.train_step(network, state, batch, key)
        return metrics["loss"]

    return step


def torch_step(size: Size, layout: str) -> Callable[[], float]:
    """The same in PyTorch, in one of its memory layouts; ImportError where it is absent."""
    from benchmarks.torch_training import training_step

    network = network_of(size)
    model, settings = torch_model(network, first_variables(size), layout), network.config.train
    return training_step(model, _cached(size), settings.learning_rate, settings.clip)


def _cached(size: Size) -> dict[str, np.ndarray]:
    batch = batch_of(size)
    return {**batch, "features": batch["features"].astype(np.float16)}


def _two_steps(make: Callable[..., Callable[[], Any]], *arguments: Any) -> None:
    step = make(*arguments)
    for _ in range(2):
        jax.block_until_ready(step())


def measure(quick: bool) -> Iterator[Row]:
    """Seconds of a step of half the paper's frames, and peak memory of a process that does nothing but two of all."""
    size = Size((3, 3), 4, 3, (6, 8), (4, 3, 5)) if quick else Size((5, 5, 5), 20, 10)
    whole = replace(size, frames=2 * size.frames)
    work = {"ours": our_step(size)}
    try:
        layout = better_layout(size)
        work["PyTorch"] = torch_step(size, layout)
    except ImportError:
        print("PyTorch is not installed: no ratio to it")

    def check(found: Mapping[str, Any]) -> None:
        for loss in found.values():
            np.testing.assert_allclose(found["ours"], loss, rtol=1e-3)

    seconds = interleaved(work, 2 if quick else 5, check)
    yield row_of(f"training step: {size.title}", seconds["ours"], seconds.get("PyTorch"), goal=0.45)
    steps = [(our_step, whole), *([(torch_step, whole, layout)] if "PyTorch" in work else [])]
    ours, *theirs = in_own_processes(*((with_peak, _two_steps, *step) for step in steps))
    yield single(f"peak memory of two steps: {whole.title}", ours, "MB", *theirs, goal=1.3 if theirs else None)
