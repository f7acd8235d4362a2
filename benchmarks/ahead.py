"""What XLA makes of the head and of a training step for a GPU, on a machine without one: seconds and kernels.

As in (with JAX's plugin for CUDA installed, `pip install "jax[cuda13]"`, and XLA's flags as they are to be tried):

    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_gpu_enable_triton_gemm=false python -m benchmarks.ahead

Nothing is run, so nothing is timed but the compiler, and products and convolutions are not tuned. Every convolution
that is left for cuDNN is counted: one that XLA wrote out as loops of its own would be missing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import jax
import numpy as np
import tyro
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.heads import gradients, network_of
from benchmarks.sizes import Size, batch_of
from reid_jax import network as networks
from reid_jax import presets, train
from reid_jax.network import Batch, Network

TARGET = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000 device_memory_size: 84978434048 l2_cache_size: 52428800
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""XLA's description of an H100."""
COUNTED = {
    "cuDNN convolutions": "__cudnn$conv",
    "cuBLAS products": "__cublas$",
    "fusions": " fusion(",
    "loops": " while(",
    "other convolutions": " convolution(",
}
"""What is counted in the compiled program, by how it is written there; other convolutions are left to XLA itself."""


def counts(program: str) -> dict[str, int]:
    """How many of each there are in a compiled program's text."""
    return {name: program.count(written) for name, written in COUNTED.items()}


def gpu() -> SingleDeviceSharding:
    """Placement on the described GPU.

    Raises:
        RuntimeError: JAX's plugin for CUDA is not installed, or a GPU is here that JAX was not told to leave alone.
    """
    try:
        described = topologies.get_topology_desc("", "cuda", target_config=TARGET, topology="1x1x1")
    except (NotImplementedError, RuntimeError) as error:
        remedy = 'pip install "jax[cuda13]", and set JAX_PLATFORMS=cpu before Python starts'
        raise RuntimeError(f"JAX cannot compile for CUDA here: {remedy}") from error
    return SingleDeviceSharding(described.devices[0])


def compiled(function: Callable[..., Any], place: SingleDeviceSharding, *arguments: Any) -> tuple[float, str]:
    """Seconds that compiling a jitted function takes, and the program's text; static arguments come as they are."""

    def shape(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    shapes = [argument if isinstance(argument, Network) else jax.tree.map(shape, argument) for argument in arguments]
    # Some functions choose by the backend how they are written.
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):
        lowered = function.trace(*shapes).lower(lowering_platforms=("cuda",))
    start = time.perf_counter()
    program = lowered.compile()
    return time.perf_counter() - start, program.as_text()


def head(formulation: str, precision: str, size: Size, place: SingleDeviceSharding) -> tuple[float, str]:
    """The head's gradients."""
    network = network_of(size, formulation, precision)
    variables = jax.eval_shape(lambda key: networks.draw(network, key), jax.random.key(0))
    return compiled(gradients, place, network, variables, batch_of(size))


def step(preset: str, place: SingleDeviceSharding) -> tuple[float, str]:
    """A preset's whole training step on real pedestrians, 300 of them, without published weights."""
    config = presets.preset(preset, "mars")
    config = replace(config, backbone=replace(config.backbone, pretrained=False))
    network, key = networks.program(networks.build(config, 300)), jax.random.key(0)
    state = jax.eval_shape(lambda key: train.state_of(network, networks.draw(network, key)), key)
    return compiled(train.train_step, place, network, state, clips_of(config.data, config.train.batch_pairs), key)


def clips_of(data: Any, pairs: int) -> Batch:
    """An empty mini-batch of frames."""
    shape = (pairs, 2, data.frames)
    return {
        "frames": np.zeros((*shape, data.height, data.width, 3), np.uint8),
        "mask": np.ones(shape, bool),
        "same": np.zeros(pairs, bool),
        "person": np.zeros((pairs, 2), np.int32),
    }


def programs(preset: str, place: SingleDeviceSharding) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and text of each program."""
    size = Size((5, 5, 5), 20, 20)
    for precision in ("tfloat32", "bfloat16"):
        for formulation in ("spatial", "frequency"):
            yield f"head in training, {formulation}, {precision}", *head(formulation, precision, size, place)
    yield f"a training step of {preset}", *step(preset, place)


def main(preset: presets.PresetName = "strong") -> None:
    """Prints a line a program."""
    for name, seconds, text in programs(preset, gpu()):
        counted = ", ".join(f"{count} {what}" for what, count in counts(text).items())
        print(f"{name}: {seconds:.1f} s; {counted}", flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
