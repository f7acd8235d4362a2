"""PyTorch's passes on an accelerator, eager and with `torch.compile`, in the precisions that are compared."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from benchmarks.heads import torch_model
from benchmarks.torch_networks import torch_network
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network

torch._dynamo.config.recompile_limit = 64
"""Cells are compiled anew for each shape and precision."""


def ways(precision: str) -> tuple[str, ...]:
    """How PyTorch is run. Compiling takes minutes, which is left out where it is nobody's choice, and on a CPU."""
    return ("eager", "compiled") if torch.cuda.is_available() and precision != "float32" else ("eager",)


def device() -> str:
    """Where PyTorch computes: on the accelerator, where it sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(precision: str) -> AbstractContextManager[Any]:
    """TF32 allowed or not, in matrix products and convolutions alike; bfloat16 by autocast."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    return torch.autocast(device(), torch.bfloat16, enabled=precision == "bfloat16")


def _finished() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def head_training(
    network: Network, variables: Parameters, batch: Batch, precision: str, way: str
) -> tuple[Callable[[], None], Any]:
    """Takes Eq. 9's gradients at every call, some times in a row, and the model that holds them.

    Compiled are its cells: the loop over the frames around them would be unrolled, which takes minutes to compile.
    """
    model = torch_model(network, variables, "channels_last").to(device())
    if way == "compiled":
        for cell in model.cells:
            cell.compile()
    features, mask, same = (torch.from_numpy(batch[name]).to(device()) for name in ("features", "mask", "same"))

    def training(times: int = 1) -> None:
        for _ in range(times):
            model.zero_grad(set_to_none=True)
            with _precision(precision):
                loss = model.loss(features, mask, same)
            loss.backward()
        _finished()

    return training, model


def backbone_training(backbone: str, variables: Any, frames: Any, precision: str, way: str) -> Callable[[int], None]:
    """Takes the gradients of the cube's mean square at every call, some times in a row."""
    layout = torch.channels_last
    network = torch_network(backbone, variables).to(device()).to(memory_format=layout).train()
    images = torch.from_numpy(frames).to(device()).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    if way == "compiled":
        network.compile()

    def training(times: int = 1) -> None:
        for _ in range(times):
            network.zero_grad(set_to_none=True)
            with _precision(precision):
                loss = network(images).float().square().mean()
            loss.backward()
        _finished()

    return training
