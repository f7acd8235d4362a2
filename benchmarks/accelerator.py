"""What the parts that need an accelerator share: precisions, compiling side by side, timing calls in a row."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring import Row, Seconds, interleaved, single
from reid_jax import complexity, model
from reid_jax.config import Config
from reid_jax.precision import products_in

PRECISIONS = ("float32", "tfloat32", "bfloat16")
REPEATED = 5
"""Calls that are timed together."""

Work = dict[tuple[str, ...], Callable[..., Any]]


def check_there(quick: bool) -> None:
    """Raises RuntimeError where there is no accelerator, unless it is only to see that everything runs."""
    if jax.default_backend() == "cpu" and not quick:
        raise RuntimeError("JAX finds no accelerator here: install its plugin, as jax[cuda13], or leave this part out")


def repeated(function: Callable[[], Any]) -> Callable[..., Any]:
    """The function so often in a row; its last result."""

    def several(times: int = 1) -> Any:
        for _ in range(times):
            result = function()
        return result

    return several


def compiling(name: str, functions: Iterable[Callable[[], Any]]) -> Row:
    """Calls functions for the first time, in threads of their own: seconds until all are compiled and have run."""
    start, functions = time.perf_counter(), list(functions)
    with ThreadPoolExecutor(len(functions)) as pool:
        jax.block_until_ready(list(pool.map(lambda function: function(), functions)))
    return single(f"{name}: compiled and called once", time.perf_counter() - start, "s")


def seconds_of(work: Work, runs: int, times: int) -> Seconds:
    """Seconds of a call of each."""
    found = interleaved({name: partial(function, times) for name, function in work.items()}, runs)
    return {name: [second / times for second in seconds] for name, seconds in found.items()}


def peaks(quick: bool, runs: int) -> dict[str, float]:
    """Floating-point operations a second of a large matrix product by precision."""
    size, work = 64 if quick else 8192, {}
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32))
    for precision in PRECISIONS:
        factor = matrix.astype("bfloat16") if precision == "bfloat16" else matrix
        with products_in(precision):
            product = jax.jit(jnp.matmul).lower(factor, factor).compile()
        work[(precision,)] = repeated(partial(product, factor, factor))
    seconds = seconds_of(work, runs, REPEATED)
    return {name: 2.0 * size**3 / float(np.median(seconds[(name,)])) for name in PRECISIONS}


def recurrence_operations(cube: tuple[int, int, int], config: Config) -> float:
    """Floating-point operations of Eq. 5's convolutions for one frame, forward."""
    grids = model.recurrent_grids(cube[:2], config.attention, config.recurrent)
    layers = complexity.layers(cube, grids, config.recurrent)
    return 2 * sum(complexity.formula(layer).operations for layer in layers)


def better_of(seconds: Seconds, precision: str) -> tuple[list[float] | None, str]:
    """The better of PyTorch's ways, if there are any, and its name."""
    theirs = {name: times for name, times in seconds.items() if name[0] == "PyTorch" and name[-1] == precision}
    if not theirs:
        return None, "PyTorch"
    name = min(theirs, key=lambda name: np.median(theirs[name]))
    return theirs[name], f"PyTorch, {name[1]}"
