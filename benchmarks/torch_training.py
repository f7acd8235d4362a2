"""A training step in PyTorch, RMSProp included; imports no JAX."""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.sizes import Size, batch_of
from benchmarks.torch_model import SiameseAttention


def training_step(
    model: SiameseAttention, batch: dict[str, np.ndarray], rate: float, clip: float
) -> Callable[[], float]:
    """Takes one more step at every call, as section V.B has it, and returns the loss."""
    rms = torch.optim.RMSprop(model.parameters(), rate, alpha=0.9, eps=1e-8)
    mask, same = torch.from_numpy(batch["mask"]), torch.from_numpy(batch["same"])

    def step() -> float:
        rms.zero_grad(set_to_none=True)
        loss = model.loss(torch.from_numpy(batch["features"]).float(), mask, same)
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), clip)
        rms.step()
        return loss.item()

    return step


def first_step(size: Size) -> None:
    """One step of a model with parameters drawn here."""
    rng, (height, width, inputs) = np.random.default_rng(0), size.cube
    kernels, channels = [], inputs
    for hidden, side in zip(size.channels, size.kernels, strict=True):
        shapes = (side, side, channels, 3 * hidden), (side, side, hidden, 3 * hidden)
        kernels.append([rng.uniform(-0.01, 0.01, shape) for shape in shapes])
        channels = hidden
    states = height * width * channels
    head = {
        "recurrent": kernels,
        "initial_state": {
            "first": rng.normal(0, 0.03, (inputs, 128)),
            "second": rng.normal(0, 0.1, (128, sum(size.channels))),
            "bias": np.zeros(sum(size.channels)),
        },
        "location": rng.normal(0, 0.001, (states, height * width)),
        "selection": np.zeros(states),
        "similarity": {"v": np.full(states, 16.0), "c": np.array(-8.0)},
    }
    training_step(SiameseAttention(head, size.channels, False, torch.channels_last), batch_of(size), 1e-3, 5.0)()
