"""The head in training on an accelerator, in three precisions, beside PyTorch's and a large matrix product.

As in:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks --only accelerator_head
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator import (
    PRECISIONS,
    REPEATED,
    Work,
    better_of,
    check_there,
    compiling,
    peaks,
    recurrence_operations,
    repeated,
    seconds_of,
)
from benchmarks.heads import first_variables, network_of, our_passes
from benchmarks.measuring import Row, row_of, single
from benchmarks.sizes import Size, batch_of
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network

AGREEMENT = {"float32": 1e-2, "tfloat32": 0.1, "bfloat16": 0.5}
"""How far gradients may be from those in float32, spatial: shares of all their length."""


def operations(size: Size) -> float:
    """Floating-point operations of the head's convolutions as Eq. 5 writes them, forward and backward."""
    return 3 * recurrence_operations(size.cube, network_of(size).config) * size.clips * size.frames


def head(size: Size, runs: int, times: int, rates: dict[str, float]) -> Iterator[Row]:
    """The head in training, both formulations, and how near it comes to a large matrix product; by precision."""
    batch, exact, gradients = batch_of(size), None, None
    variables = first_variables(size)
    for precision in PRECISIONS:
        work: Work = {}
        for formulation in ("spatial", "frequency"):
            passes = our_passes(network_of(size, formulation, precision), variables, batch)
            work[formulation, precision] = repeated(passes.training)
        yield compiling(f"{precision}: both formulations", work.values())
        if exact is None:
            gradients = work["spatial", precision]()
            exact = _flat(gradients)
        for name, function in work.items():
            yield _rounding(" ".join(name), exact, _flat(function()), AGREEMENT[precision])
        work |= _torch_head(network_of(size), variables, batch, gradients, precision)
        yield from _timed(work, size, runs, times, rates[precision])


def _timed(work: Work, size: Size, runs: int, times: int, peak: float) -> Iterator[Row]:
    """Rows of one precision."""
    seconds = seconds_of(work, runs, times)
    for name in [name for name in work if name[0] != "PyTorch"]:
        reference, against = better_of(seconds, name[-1])
        title = f"{', '.join(name)}: head in training, {size.title}"
        yield row_of(title, seconds[name], reference, against=against)
        rate = operations(size) / float(np.median(seconds[name]))
        title = f"{', '.join(name)}: Eq. 5's operations"
        yield single(title, rate / 1e12, "TFLOP/s", peak / 1e12, against="a matrix product")


def _flat(gradients: Any) -> np.ndarray:
    """Every array divided by its length in one vector, so that each counts alike."""
    leaves = [np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(gradients)]
    return np.concatenate([leaf / max(np.linalg.norm(leaf), 1e-30) for leaf in leaves])


def _rounding(name: str, exact: np.ndarray, other: np.ndarray, tolerance: float) -> Row:
    difference = float(np.linalg.norm(other - exact) / np.linalg.norm(exact))
    assert difference <= tolerance, f"gradients of {name} differ by {difference:.1e}, more than {tolerance}"
    return single(f"{name}: gradients beside spatial float32's", difference, "of their length")


def _torch_head(network: Network, variables: Parameters, batch: Batch, gradients: Parameters, precision: str) -> Work:
    """PyTorch's, after their gradients were asserted to agree with these."""
    try:
        from benchmarks import torch_accelerator
        from benchmarks.torch_model import named_gradients
    except ImportError:
        print("PyTorch is not installed: no ratio to it")
        return {}
    ours, work = _flat(named_gradients(gradients)), {}
    for way in torch_accelerator.ways(precision):
        training, module = torch_accelerator.head_training(network, variables, batch, precision, way)
        training()
        _rounding(f"PyTorch, {way}, {precision}", ours, _flat(module.gradients()), AGREEMENT[precision])
        work["PyTorch", way, precision] = training
    return work


def measure(quick: bool) -> Iterator[Row]:
    """A large matrix product's rate by precision, and the head's rows, each as it is found.

    Raises:
        RuntimeError: there is no accelerator, and not only to see that everything runs.
    """
    check_there(quick)
    runs, times = (2, 1) if quick else (5, REPEATED)
    size = Size((3, 3), 4, 3, (6, 8), (4, 3, 5)) if quick else Size((5, 5, 5), 20, 20)
    rates = peaks(quick, runs)
    yield from (single(f"{name}: matrix product", rate / 1e12, "TFLOP/s") for name, rate in rates.items())
    yield from head(size, runs, times, rates)
