"""A whole training step on an accelerator by precision, and whether decoding keeps it fed.

As in:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks --only accelerator_step
"""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks import input as inputs
from benchmarks.accelerator import PRECISIONS, check_there
from benchmarks.measuring import Row
from reid_jax.config import Config


def steps(name: str, config: Config, runs: int) -> Iterator[Row]:
    """A preset's whole training step by precision, on data in memory and from JPEG."""
    tracklets = inputs.jpeg_tracklets(*inputs.PERSONS)
    for precision in PRECISIONS[1:]:
        chosen = replace(config, backbone=replace(config.backbone, precision=precision))
        yield from inputs.fed(f"{name}, {precision}", chosen, tracklets, runs)


def measure(quick: bool) -> Iterator[Row]:
    """The rows of the last of the shipped presets, each as it is found.

    Raises:
        RuntimeError: there is no accelerator, and not only to see that everything runs.
    """
    check_there(quick)
    yield from steps(*list(inputs.configurations(quick).items())[-1], 4 if quick else 40)
