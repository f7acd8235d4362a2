"""An accelerator: the head and a backbone in training in three precisions, beside PyTorch's; steps; input.

As in:

    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m benchmarks --only accelerator
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import input as inputs
from benchmarks.heads import network_of, our_passes
from benchmarks.measuring import Row, Seconds, interleaved, row_of, single
from benchmarks.sizes import Size, batch_of
from reid_jax import backbones, model
from reid_jax import network as networks
from reid_jax.backbones import depthwise
from reid_jax.backbones.efficientnet_lite import blocks
from reid_jax.config import BackboneConfig, Config
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.precision import products_in

PRECISIONS = ("float32", "tfloat32", "bfloat16")
AGREEMENT = {"float32": 1e-2, "tfloat32": 0.1, "bfloat16": 0.5}
"""How far gradients may be from those in float32, spatial: shares of all their length."""
REPEATED = 5
"""Calls that are timed together."""

Work = dict[tuple[str, ...], Callable[..., Any]]


def repeated(function: Callable[[], Any]) -> Callable[..., Any]:
    """The function so often in a row; its last result."""

    def several(times: int = 1) -> Any:
        for _ in range(times):
            result = function()
        return result

    return several


def all_at_once(functions: Sequence[Callable[[], Any]]) -> None:
    """Calls functions in threads of their own, so that what they need is compiled in the time of one."""
    with ThreadPoolExecutor(len(functions)) as pool:
        jax.block_until_ready(list(pool.map(lambda function: function(), functions)))


def seconds_of(work: Work, runs: int, times: int) -> Seconds:
    """Seconds of a call of each."""
    found = interleaved({name: partial(function, times) for name, function in work.items()}, runs)
    return {name: [second / times for second in seconds] for name, seconds in found.items()}


def peaks(size: int, runs: int) -> dict[str, float]:
    """Floating-point operations a second of a large matrix product by precision."""
    matrix, work = jnp.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32)), {}
    for precision in PRECISIONS:
        factor = matrix.astype("bfloat16") if precision == "bfloat16" else matrix
        with products_in(precision):
            product = jax.jit(jnp.matmul).lower(factor, factor).compile()
        work[(precision,)] = repeated(partial(product, factor, factor))
    seconds = seconds_of(work, runs, REPEATED)
    return {name: 2.0 * size**3 / float(np.median(seconds[(name,)])) for name in PRECISIONS}


def operations(size: Size) -> float:
    """Floating-point operations of the head's convolutions as Eq. 5 writes them, forward and backward."""
    total, channels = 0, size.cube[2]
    for hidden, side in zip(size.channels, size.kernels, strict=True):
        total += side * side * (channels * 3 * hidden + hidden * 3 * hidden)
        channels = hidden
    return 3 * 2.0 * total * size.cube[0] * size.cube[1] * size.clips * size.frames


def head(size: Size, runs: int, times: int, rates: dict[str, float]) -> list[Row]:
    """The head in training, both formulations, and how near it comes to a large matrix product."""
    batch, work = batch_of(size), {}
    variables = networks.initialise(network_of(size), jax.random.key(0))
    for precision in PRECISIONS:
        for formulation in ("spatial", "frequency"):
            network = network_of(size, formulation, precision)
            work[formulation, precision] = repeated(our_passes(network, variables, batch).training)
    all_at_once(list(work.values()))
    gradients = work["spatial", "float32"]()
    exact = _flat(gradients)
    rows = [_rounding(" ".join(name), exact, _flat(function()), AGREEMENT[name[1]]) for name, function in work.items()]
    work |= _torch_head(network_of(size), variables, batch, gradients)
    seconds = seconds_of(work, runs, times)
    for name in [name for name in work if name[0] != "PyTorch"]:
        reference, against = _better(seconds, name[-1])
        rows.append(
            row_of(f"{', '.join(name)}: head in training, {size.title}", seconds[name], reference, against=against)
        )
        rate = operations(size) / float(np.median(seconds[name])) / 1e12
        peak = rates[name[-1]] / 1e12
        rows.append(single(f"{', '.join(name)}: Eq. 5's operations", rate, "TFLOP/s", peak, against="a matrix product"))
    return rows


def _flat(gradients: Any) -> np.ndarray:
    """Every array divided by its length in one vector, so that each counts alike."""
    leaves = [np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(gradients)]
    return np.concatenate([leaf / max(np.linalg.norm(leaf), 1e-30) for leaf in leaves])


def _rounding(name: str, exact: np.ndarray, other: np.ndarray, tolerance: float) -> Row:
    difference = float(np.linalg.norm(other - exact) / np.linalg.norm(exact))
    assert difference <= tolerance, f"gradients of {name} differ by {difference:.1e}, more than {tolerance}"
    return single(f"{name}: gradients beside spatial float32's", difference, "of their length")


def _better(seconds: Seconds, precision: str) -> tuple[list[float] | None, str]:
    """The better of PyTorch's ways, if there are any, and its name."""
    theirs = {name: times for name, times in seconds.items() if name[0] == "PyTorch" and name[-1] == precision}
    if not theirs:
        return None, "PyTorch"
    name = min(theirs, key=lambda name: np.median(theirs[name]))
    return theirs[name], f"PyTorch, {name[1]}"


def _torch_head(network: Network, variables: Parameters, batch: Batch, gradients: Parameters) -> Work:
    """PyTorch's, after their gradients were asserted to agree with these."""
    try:
        from benchmarks import torch_accelerator
        from benchmarks.torch_model import named_gradients
    except ImportError:
        print("PyTorch is not installed: no ratio to it")
        return {}
    ours, work = _flat(named_gradients(gradients)), {}
    for precision in PRECISIONS:
        for way in torch_accelerator.ways(precision):
            training, module = torch_accelerator.head_training(network, variables, batch, precision, way)
            training()
            name = f"PyTorch, {way}, {precision}"
            _rounding(name, ours, _flat(module.gradients()), AGREEMENT[precision])
            work["PyTorch", way, precision] = training
    return work


def backbone(name: str, shape: tuple[int, int, int], runs: int, times: int) -> list[Row]:
    """A backbone in training."""
    module, work = backbones.build(BackboneConfig(backbone=name)), {}
    frames = np.random.default_rng(0).integers(0, 256, (shape[0], 1, *shape[1:], 3)).astype(np.uint8)
    variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 64, 64, 3)), train=False))(jax.random.key(0))
    pixels, mask = jnp.asarray(frames), jnp.ones((shape[0], 1), bool)

    def slope(variables: Any, precision: str) -> Any:
        def total(params: Any) -> Any:
            cubes, moved = model.extract(module, {**variables, "params": params}, pixels, mask, True, precision)
            return jnp.square(cubes).mean(), moved

        with products_in(precision):
            return jax.grad(total, has_aux=True)(variables["params"])

    for precision in PRECISIONS:
        work["ours", precision] = repeated(partial(jax.jit(partial(slope, precision=precision)), variables))
    all_at_once(list(work.values()))
    try:
        from benchmarks import torch_accelerator

        theirs = partial(torch_accelerator.backbone_training, name, variables, frames[:, 0].astype(np.float32))
        for precision in PRECISIONS:
            for way in torch_accelerator.ways(precision):
                work["PyTorch", way, precision] = theirs(precision, way)
    except ImportError:
        print("PyTorch or torchvision is not installed: no ratio to it")
    seconds, title = seconds_of(work, runs, times), f"{name} in training, {shape[0]} frames of {shape[1]}x{shape[2]}"
    found = {precision: _better(seconds, precision) for precision in PRECISIONS}
    return [row_of(f"{p}: {title}", seconds["ours", p], ref, against=name) for p, (ref, name) in found.items()]


def depthwise_layers(shape: tuple[int, int, int], runs: int, times: int) -> list[Row]:
    """All depthwise convolutions of EfficientNet-Lite0 in training, in both forms."""
    arrays, work, size = [], {}, [-(-side // 2) for side in shape[1:]]
    for block in blocks("efficientnet_lite0", 7):
        channels, rng = block.inputs * block.expansion, np.random.default_rng(len(arrays))
        images = rng.standard_normal((shape[0], *size, channels), np.float32)
        arrays.append(
            (images, rng.standard_normal((block.kernel, block.kernel, 1, channels), np.float32), block.stride)
        )
        size = [-(-side // block.stride) for side in size]

    def total(pairs: Any, function: Callable[..., Any]) -> Any:
        return sum(jnp.square(function(*pair, stride)).sum() for pair, (*_, stride) in zip(pairs, arrays, strict=True))

    for kind in ("float32", "bfloat16"):
        pairs = [[jnp.asarray(array, kind) for array in pair] for *pair, _ in arrays]
        for name in ("grouped", "shifted"):
            slope = jax.jit(jax.grad(partial(total, function=getattr(depthwise, name))))
            work[name, kind] = repeated(partial(slope, pairs))
    all_at_once(list(work.values()))
    seconds = seconds_of(work, runs, times)
    title = f"depthwise convolutions as shifted sums, {shape[0]} frames of {shape[1]}x{shape[2]}"
    against = "grouped convolutions"
    return [
        row_of(f"{kind}: {title}", seconds["shifted", kind], seconds["grouped", kind], against=against)
        for kind in ("float32", "bfloat16")
    ]


def steps(name: str, config: Config, runs: int) -> list[Row]:
    """A preset's whole training step by precision, on data in memory and from JPEG."""
    tracklets, chosen = inputs.jpeg_tracklets(*inputs.PERSONS), {}
    for precision in PRECISIONS[1:]:
        chosen[f"{name}, {precision}"] = replace(config, backbone=replace(config.backbone, precision=precision))
    all_at_once([partial(inputs.first_step, config, tracklets) for config in chosen.values()])
    return [row for name, config in chosen.items() for row in inputs.fed(name, config, tracklets, runs)]


def measure(quick: bool) -> list[Row]:
    """All rows of an accelerator.

    Raises:
        RuntimeError: there is none, and not only to see that everything runs.
    """
    if jax.default_backend() == "cpu" and not quick:
        raise RuntimeError("JAX finds no accelerator here: install its plugin, as jax[cuda13], or leave this part out")
    runs, times = (2, 1) if quick else (5, REPEATED)
    size = Size((3, 3), 4, 3, (6, 8), (4, 3, 5)) if quick else Size((5, 5, 5), 20, 20)
    frames = (2, 32, 32) if quick else (64, 192, 96)
    rates, rows = peaks(64 if quick else 8192, runs), []
    parts = (
        lambda: [single(f"{name}: matrix product", rate / 1e12, "TFLOP/s") for name, rate in rates.items()],
        lambda: head(size, runs, times, rates),
        lambda: steps(*list(inputs.configurations(quick).items())[-1], 4 if quick else 40),
        lambda: depthwise_layers(frames, runs, times),
        lambda: backbone("efficientnet_lite0", frames, runs, times),
    )
    for part in parts:
        start = time.perf_counter()
        found = part()
        # It takes minutes: what is known is told.
        print("\n".join(f"  {row.name}: {row.value:.4g} {row.unit}" for row in found), flush=True)
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)
        rows += found
    return rows
