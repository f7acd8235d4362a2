"""A whole training step on an accelerator by precision, beside a large matrix product, and whether decoding keeps up.

As in:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks --only accelerator_step
"""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp

from benchmarks import input as inputs
from benchmarks.accelerator import PRECISIONS, check_there, peaks, recurrence_operations
from benchmarks.measuring import Row, row_of, single
from reid_jax import backbones, model
from reid_jax.config import Config

WORKERS = 8
"""Processes that decode, in the place of the main one's threads."""


def operations(config: Config) -> float:
    """Floating-point operations of a training step: three times those of the backbone's and the recurrence's products
    as they are written, once a frame. Attention, losses and the optimiser are left out.
    """
    module, frame = backbones.build(config.backbone), jnp.zeros((1, config.data.height, config.data.width, 3))
    variables = jax.eval_shape(lambda key: module.init(key, frame, train=False), jax.random.key(0))

    def forward(variables: model.Parameters, frame: jax.Array) -> jax.Array:
        return module.apply(variables, frame, train=False)

    # An accelerator's plugin need not count.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        once = jax.jit(forward).lower(variables, frame).cost_analysis()["flops"]
    cube = jax.eval_shape(forward, variables, frame).shape[1:]
    return 3 * (once + recurrence_operations(cube, config)) * 2 * config.train.batch_pairs * config.data.frames


def steps(name: str, config: Config, runs: int, rates: dict[str, float]) -> Iterator[Row]:
    """A preset's whole training step by precision, on data in memory and from JPEG."""
    tracklets, total = inputs.jpeg_tracklets(*inputs.PERSONS), operations(config)
    for precision in PRECISIONS[1:]:
        chosen = replace(config, backbone=replace(config.backbone, precision=precision))
        rows = inputs.fed(f"{name}, {precision}", chosen, tracklets, runs)
        yield from rows
        title, rate = f"{name}, {precision}: the step's products, data in memory", total / rows[0].reference
        yield single(title, rate / 1e12, "TFLOP/s", rates[precision] / 1e12, against="a matrix product")
        ahead = replace(chosen, data=replace(chosen.data, workers=WORKERS))
        seconds, title = inputs.step_seconds(ahead, tracklets, runs, ("read",)), f"{rows[0].name}, --workers {WORKERS}"
        yield row_of(title, seconds["read"], [rows[0].reference], **inputs.KEEPS_UP)


def measure(quick: bool) -> Iterator[Row]:
    """The rows of the last of the shipped presets, each as it is found.

    Raises:
        RuntimeError: there is no accelerator, and not only to see that everything runs.
    """
    check_there(quick)
    name, config = list(inputs.configurations(quick).items())[-1]
    yield from steps(name, config, 4 if quick else 40, peaks(quick, 2 if quick else 5))
