"""The head forward and in training, in both formulations, beside a natural PyTorch ConvGRU where it is installed.

As in:

    python -m benchmarks.recurrence --clips 20 --frames 4

Medians of interleaved runs in one process; the two formulations are asserted to agree.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from reid_jax import model
from reid_jax.config import Config, RecurrentConfig


def passes(config: Config, features: jax.Array, mask: jax.Array) -> tuple[Callable, Callable]:
    """Compiled functions of the parameters: the embeddings, and the gradient of their mean square."""

    def embed(parameters):
        return model.encode(parameters, features, mask, config).embedding

    return jax.jit(embed), jax.jit(jax.grad(lambda parameters: jnp.square(embed(parameters)).sum()))


def torch_passes(features: np.ndarray, config: Config) -> tuple[Callable, Callable]:
    """The recurrence alone in PyTorch: a Conv2d a gate group, a loop over frames, no attention."""
    import torch

    clips = torch.from_numpy(features).permute(1, 0, 4, 2, 3).contiguous()
    channels, layers = features.shape[-1], []
    settings = config.recurrent
    for hidden, k in zip(settings.channels, settings.input_kernels, strict=True):
        sizes = ((channels, 3 * hidden), (hidden, 2 * hidden), (hidden, hidden))
        layers.append([torch.nn.Conv2d(i, o, k, padding=k // 2, bias=False) for i, o in sizes])
        channels = hidden

    def forward():
        states = [torch.zeros(clips.shape[1], c, *clips.shape[3:]) for c in settings.channels]
        total = 0.0
        for x in clips:
            for layer, (of_input, of_state, of_reset) in enumerate(layers):
                if layer:
                    x = torch.nn.functional.max_pool2d(x, 3, 1, 1)
                h = states[layer]
                z_input, r_input, candidate = of_input(x).chunk(3, 1)
                z_state, r_state = of_state(h).chunk(2, 1)
                z, r = torch.sigmoid(z_input + z_state), torch.sigmoid(r_input + r_state)
                x = states[layer] = (1 - z) * h + z * torch.tanh(candidate + of_reset(r * h))
            total = total + x
        return total

    def infer(_):
        with torch.no_grad():
            return forward()

    return infer, lambda _: forward().square().sum().backward()


def main(
    clips: int = 20, frames: int = 4, grid: tuple[int, int] = (7, 7), depth: int = 1024, kernel: int = 5, runs: int = 5
) -> None:
    """Prints seconds and ratios. The spatial formulation's gradient is left out: on a CPU it takes minutes."""
    side = (kernel,) * 3
    config = Config(recurrent=RecurrentConfig((128, 256, 256), side, side))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((clips, frames, *grid, depth), np.float32)
    parameters = jax.jit(lambda key: model.initialise_head(key, (*grid, depth), config))(jax.random.key(0))
    inputs = jnp.asarray(features), jnp.ones((clips, frames), bool)
    variants = {}
    for formulation in ("frequency", "spatial"):
        chosen = replace(config, recurrent=replace(config.recurrent, formulation=formulation))
        variants[formulation] = passes(chosen, *inputs)
    np.testing.assert_allclose(*(embed(parameters) for embed, _ in variants.values()), atol=1e-5)
    work = {"frequency forward": variants["frequency"][0], "spatial forward": variants["spatial"][0]}
    work["frequency training"] = variants["frequency"][1]
    try:
        work["PyTorch forward"], work["PyTorch training"] = torch_passes(features, config)
    except ImportError:
        print("PyTorch is not installed: no ratio to it")
    seconds = {name: [] for name in work}
    for _ in range(runs + 1):
        for name, function in work.items():
            start = time.perf_counter()
            jax.block_until_ready(function(parameters))
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        reference = seconds.get("PyTorch " + name.split()[1])
        median = statistics.median(times[1:])
        ratio = f"{median / statistics.median(reference[1:]):6.2f} x PyTorch" if reference else ""
        print(f"{name:20} {median:8.3f} s (of {runs}: {min(times[1:]):.3f} to {max(times[1:]):.3f}) {ratio}")


if __name__ == "__main__":
    tyro.cli(main)
