"""The network behind the backbone (Eq. 3-9) as one would write it in PyTorch: what the benchmark compares with.

`nn.Conv2d` cells, a loop over the frames, gradients by autograd. It holds this library's parameters, loaded from and
read back in this library's layout. Axes: `N` clips, `B` pairs, `T` frames, `D` features; images are NCHW.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def _tensor(array: Any) -> torch.Tensor:
    return torch.tensor(np.array(array, np.float32))


def _convolution(kernel: np.ndarray) -> nn.Conv2d:
    """A layer that holds a kernel [k k D F]."""
    side, _, inputs, outputs = kernel.shape
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)
    layer.weight.data = _tensor(kernel.transpose(3, 2, 0, 1))
    return layer


def _kernel(layers: list[nn.Conv2d]) -> np.ndarray:
    """The gradient of layers that share their inputs, as one kernel [k k D F]."""
    return np.concatenate([layer.weight.grad.permute(2, 3, 1, 0).contiguous().cpu().numpy() for layer in layers], -1)


class ConvGRUCell(nn.Module):
    """Eq. 5."""

    def __init__(self, of_input: np.ndarray, of_state: np.ndarray):
        super().__init__()
        split = 2 * of_state.shape[-1] // 3
        self.input = _convolution(of_input)
        self.gates, self.candidate = _convolution(of_state[..., :split]), _convolution(of_state[..., split:])

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        channels = h.shape[1]
        gates, candidate = self.input(x).split([2 * channels, channels], 1)
        z, r = torch.sigmoid(gates + self.gates(h)).chunk(2, 1)
        return (1 - z) * h + z * torch.tanh(candidate + self.candidate(r * h))


class SiameseAttention(nn.Module):
    """Clips of feature cubes -> embeddings and location maps; two embeddings -> Eq. 8's logit.

    It has the settings that are benchmarked: attention over the cube, mean scale, unit embeddings, max-pooling 3x3.
    """

    def __init__(
        self, head: dict[str, Any], channels: tuple[int, ...], standardised: bool, layout: torch.memory_format
    ):
        super().__init__()
        self.layout = layout
        self.cells = nn.ModuleList(ConvGRUCell(*map(np.asarray, kernels)) for kernels in head["recurrent"])
        self.channels, self.standardised = channels, standardised
        initial, similarity = head["initial_state"], head["similarity"]
        self.first, self.second, self.bias = (
            nn.Parameter(_tensor(initial[name])) for name in ("first", "second", "bias")
        )
        self.location = nn.Parameter(_tensor(head["location"]))
        self.selection, self.v, self.c = map(
            nn.Parameter, map(_tensor, (head["selection"], similarity["v"], similarity["c"]))
        )
        self.to(memory_format=layout)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [N E] and location maps [N T K] of features [N T Kh Kw D] with a mask [N T]."""
        if self.standardised:
            features = functional.layer_norm(features, features.shape[-1:])
        clips, frames, height, width, _ = features.shape
        share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        mean = torch.einsum("nt,ntd->nd", share, features.mean((2, 3)))
        initial = torch.tanh(torch.tanh(mean @ self.first) @ self.second + self.bias).split(self.channels, 1)
        states = [part[:, :, None, None].expand(-1, -1, height, width) for part in initial]
        cubes, top, locations = features.permute(1, 0, 4, 2, 3), [], []
        for t in range(frames):
            flat = states[-1].permute(0, 2, 3, 1).reshape(clips, -1)
            maps = torch.softmax(flat @ self.location, 1)
            x = cubes[t] * maps.reshape(clips, 1, height, width) * (height * width)
            x = x.contiguous(memory_format=self.layout)
            valid = mask[:, t, None, None, None]
            for layer, cell in enumerate(self.cells):
                x = cell(functional.max_pool2d(x, 3, 1, 1) if layer else x, states[layer])
                states[layer] = torch.where(valid, x, states[layer])
            locations.append(maps)
            top.append(states[-1].permute(0, 2, 3, 1).reshape(clips, -1))
        states = torch.stack(top, 1)
        weights = torch.softmax((states @ self.selection).masked_fill(~mask, -torch.inf), 1)
        return functional.normalize(torch.einsum("nt,nte->ne", weights, states)), torch.stack(locations, 1)

    def loss(self, features: torch.Tensor, mask: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        """Eq. 9 of pairs [B 2 T Kh Kw D], with lambda 1."""
        embeddings, locations = self(features.flatten(0, 1), mask.flatten(0, 1))
        first, second = embeddings.unflatten(0, (-1, 2)).unbind(1)
        logits = (self.v * first * second).sum(1) + self.c
        looked = (locations * mask.flatten(0, 1)[..., None]).sum(1)
        penalty = (1 - looked).square().sum(1).mean()
        return functional.binary_cross_entropy_with_logits(logits, same.float()) + 2 * penalty

    def gradients(self) -> dict[str, Any]:
        """The parameters' gradients as a dictionary of arrays in this library's layout, by this library's names."""
        names = ("first", "second", "bias", "v", "c", "selection", "location")
        found = {name: getattr(self, name).grad.cpu().numpy() for name in names}
        for number, cell in enumerate(self.cells):
            found[f"input{number}"] = _kernel([cell.input])
            found[f"state{number}"] = _kernel([cell.gates, cell.candidate])
        return found


def named_gradients(head: dict[str, Any]) -> dict[str, np.ndarray]:
    """This library's gradients of a head under the same names."""
    found = {**head["initial_state"], **head["similarity"]}
    found |= {"location": head["location"].weights, "selection": head["selection"]}
    for number, kernels in enumerate(head["recurrent"]):
        found[f"input{number}"], found[f"state{number}"] = kernels
    return {name: np.asarray(gradient) for name, gradient in found.items()}
