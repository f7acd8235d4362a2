"""The backbones forward and in training, beside PyTorch's with the same weights where it is installed.

As in:

    python -m benchmarks.backbones --backbones googlenet vgg16 --batch 8 --height 256 --width 128

Medians of interleaved runs in one process, whose first outputs are asserted to agree; then compile time and peak memory
of the training pass, each in a process of its own. Of PyTorch's two layouts the better one counts. Linux only.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.measuring import LAYOUTS, Seconds, in_own_process, in_own_processes, interleaved, peak_memory
from reid_jax import backbones
from reid_jax.config import BackboneConfig, BackboneName

_WITHOUT_REFERENCE = ("rcn", "small_cnn", "patch_cnn")


def random_frames(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (batch, height, width, 3)).astype(np.float32)


def jax_passes(backbone: str) -> tuple[Callable, Callable, Any]:
    """Compiled functions of variables and frames (the cube, and the gradient of its mean square), and variables."""
    module = backbones.build(BackboneConfig(backbone=backbone))
    variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 64, 64, 3)), train=False))(jax.random.key(0))

    def loss(params, variables, frames):
        cube, moved = module.apply({**variables, "params": params}, frames, train=True, mutable=["batch_stats"])
        return jnp.square(cube).mean(), moved

    def training(variables, frames):
        return jax.grad(loss, has_aux=True)(variables["params"], variables, frames)

    return jax.jit(lambda variables, frames: module.apply(variables, frames, train=False)), jax.jit(training), variables


def torch_passes(backbone: str, variables: Any, frames: np.ndarray, layout: str) -> tuple[Callable, Callable]:
    """The same in PyTorch, in one of its memory layouts; ImportError where it or torchvision is absent."""
    import torch

    from benchmarks.torch_networks import torch_network

    memory_format = getattr(torch, layout)
    network = torch_network(backbone, variables).to(memory_format=memory_format)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

    def forward():
        network.eval()
        with torch.no_grad():
            return network(images)

    def training():
        network.train().zero_grad(set_to_none=True)
        network(images).square().mean().backward()

    return forward, training


def side_by_side(backbone: str, frames: np.ndarray, runs: int) -> Seconds:
    """Seconds of each run by (implementation, pass); the cubes are asserted to agree."""
    forward, training, variables = jax_passes(backbone)
    work = {("JAX", "forward"): lambda: forward(variables, frames)}
    work["JAX", "training"] = lambda: training(variables, frames)
    for layout in LAYOUTS if backbone not in _WITHOUT_REFERENCE else ():
        try:
            work[layout, "forward"], work[layout, "training"] = torch_passes(backbone, variables, frames, layout)
        except ImportError:
            print("torch or torchvision is not installed: no ratio to PyTorch")
            break

    def check(found: Mapping[tuple[str, str], Any]) -> None:
        cube = np.asarray(found["JAX", "forward"])
        for (name, which), returned in found.items():
            if name != "JAX" and which == "forward":
                theirs = returned.permute(0, 2, 3, 1).numpy()
                np.testing.assert_allclose(cube, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())

    return interleaved(work, runs, check)


def better_layout(seconds: Seconds, which: str) -> tuple[str, list[float]] | None:
    """PyTorch's layout whose median is the smaller one in this pass, and its seconds; None without PyTorch."""
    others = {layout: times for (layout, name), times in seconds.items() if name == which and layout != "JAX"}
    return min(others.items(), key=lambda item: statistics.median(item[1]), default=None)


def jax_alone(backbone: str, shape: tuple[int, int, int], cache: str) -> tuple[float, float]:
    """Seconds to compile the training pass with this folder of compiled programs, and peak memory in MB."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    _, training, variables = jax_passes(backbone)
    frames = random_frames(*shape)
    start = time.perf_counter()
    compiled = training.lower(variables, frames).compile()
    seconds = time.perf_counter() - start
    for _ in range(2):
        jax.block_until_ready(compiled(variables, frames))
    return seconds, peak_memory()


def compilation(backbone: str, shape: tuple[int, int, int]) -> tuple[float, float, float]:
    """Seconds to compile the training pass, cold and from the cache, and its peak memory in MB."""
    with tempfile.TemporaryDirectory() as cache:
        cold, _ = in_own_process(jax_alone, backbone, shape, cache)
        return cold, *in_own_process(jax_alone, backbone, shape, cache)


def torch_alone(backbone: str, shape: tuple[int, int, int], layout: str) -> float:
    """Peak memory in MB of PyTorch's training pass."""
    shapes = jax.eval_shape(lambda: jax_passes(backbone)[2])
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    _, training = torch_passes(backbone, variables, random_frames(*shape), layout)
    for _ in range(2):
        training()
    return peak_memory()


def torch_peak(backbone: str, shape: tuple[int, int, int]) -> float:
    """The same of the layout that needs less, each in a process of its own."""
    return min(in_own_processes(*((torch_alone, backbone, shape, layout) for layout in LAYOUTS)))


def report(backbone: str, shape: tuple[int, int, int], runs: int) -> None:
    """Prints one backbone's figures."""
    seconds = side_by_side(backbone, random_frames(*shape), runs)
    for name in ("forward", "training"):
        times = seconds["JAX", name]
        ours = statistics.median(times)
        line = f"{backbone:18} {name:9} {shape[0] / ours:7.1f} frames/s ({min(times):.3f} to {max(times):.3f} s)"
        if better := better_layout(seconds, name):
            layout, theirs = better[0], statistics.median(better[1])
            line += f", PyTorch {shape[0] / theirs:7.1f} ({layout}): {ours / theirs:.2f} x its time"
        print(line, flush=True)
    cold, cached, peak = compilation(backbone, shape)
    line = f"{backbone:18} training  compiled in {cold:.1f} s, from the cache {cached:.1f} s; peak {peak:.0f} MB"
    if len(seconds) > 2:
        line += f", PyTorch {torch_peak(backbone, shape):.0f} MB"
    print(line, flush=True)


def main(
    backbones: tuple[BackboneName, ...] = ("googlenet", "googlenet_bvlc", "vgg16", "vgg16_bvlc", "efficientnet_lite0"),
    batch: int = 8,
    height: int = 224,
    width: int = 224,
    runs: int = 5,
) -> None:
    """Prints frames per second, ratios to PyTorch, compile time and peak memory, up to each backbone's last cube."""
    for backbone in backbones:
        report(backbone, (batch, height, width), runs)


if __name__ == "__main__":
    tyro.cli(main)
