"""The head on made-up feature cubes: this library's functions beside PyTorch's, on the same parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax

from benchmarks.measuring import LAYOUTS, assert_agree, interleaved
from benchmarks.sizes import Size, batch_of
from reid_jax import backbones, objective
from reid_jax import network as networks
from reid_jax.config import BackboneConfig, Config, DataConfig, LossConfig, RecurrentConfig
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.precision import in_its_precision

NAMES = {"training": "forward and backward", "forward": "forward", "prepared": "forward, kernels prepared before"}
"""The passes."""
TOLERANCE_OUTPUTS, TOLERANCE_GRADIENTS = 1e-4, 1e-2
"""Between the implementations, as shares of each array's length.

Twenty frames of recurrence amplify float32's rounding, most of all in the gradients of what precedes them: that of the
first layer's kernels is 3e-3 off in PyTorch's float32 and 3e-4 here, where PyTorch's float64 is the truth (5x5 kernels,
20 clips). Over a few frames they agree to 1e-5 (tests/test_frequency.py).
"""


def network_of(size: Size, formulation: str = "auto", precision: str = "float32") -> Network:
    """The paper's head with Eq. 9 of the drawn pairs, on cached features of a frozen backbone."""
    recurrent = RecurrentConfig(size.channels, size.kernels, size.kernels, features="raw", formulation=formulation)
    config = Config(
        data=DataConfig(frames=size.frames),
        backbone=BackboneConfig(fine_tune="frozen", cache_features=True, precision=precision),
        recurrent=recurrent,
        loss=LossConfig(pairs="drawn"),
    )
    return Network(config, backbones.build(config.backbone), size.cube)


def first_variables(size: Size) -> Parameters:
    """A head's: alike for any number of clips and frames, so drawing them is compiled once for the kernels."""
    return networks.initialise(network_of(replace(size, clips=2, frames=2)), jax.random.key(0))


@dataclass(frozen=True)
class Passes:
    """Functions without arguments, compiled where that is to be done."""

    forward: Callable[[], Any]
    """Embeddings."""
    training: Callable[[], Any]
    """Eq. 9's gradients, by name where the benchmark asks for them."""
    prepared: Callable[[], Any] | None = None
    """Embeddings with kernels that were prepared before."""


@partial(jax.jit, static_argnames="network")
@in_its_precision
def gradients(network: Network, variables: Parameters, batch: Batch) -> Parameters:
    """Those of Eq. 9 by the head's parameters."""

    def loss(head: Parameters) -> jax.Array:
        return objective.batch_loss(network, {**variables, "head": head}, batch, jax.random.key(0))[0]

    return jax.grad(loss)(variables["head"])


def our_passes(network: Network, variables: Parameters, batch: Batch) -> Passes:
    """This library's."""
    batch = jax.device_put(batch)
    clips = {name: batch[name].reshape(-1, *batch[name].shape[2:]) for name in ("features", "mask")}
    prepared = cache(partial(networks.prepared, network, variables))
    return Passes(
        forward=lambda: networks.embed_clips(network, variables, clips),
        training=lambda: gradients(network, variables, batch),
        prepared=lambda: networks.embed_clips(network, prepared(), clips),
    )


def torch_model(network: Network, variables: Parameters, layout: str) -> Any:
    """PyTorch's model with these parameters, in one of its memory layouts; ImportError where it is absent."""
    import torch

    from benchmarks.torch_model import SiameseAttention

    head, settings = jax.device_get(variables["head"]), network.config.recurrent
    head = {**head, "location": head["location"].weights}
    return SiameseAttention(head, settings.channels, settings.features == "standardised", getattr(torch, layout))


def torch_passes(network: Network, variables: Parameters, batch: Batch, layout: str) -> tuple[Passes, Any]:
    """PyTorch's in one of its memory layouts, and its model."""
    import torch

    model = torch_model(network, variables, layout)
    features, mask, same = (torch.from_numpy(batch[name]) for name in ("features", "mask", "same"))

    def forward() -> Any:
        with torch.no_grad():
            return model(features.flatten(0, 1), mask.flatten(0, 1))[0]

    def training() -> None:
        model.zero_grad(set_to_none=True)
        model.loss(features, mask, same).backward()

    return Passes(forward, training), model


def better_layout(size: Size) -> str:
    """In which of PyTorch's memory layouts training takes less time with these kernels; ImportError where it is absent.

    Asked once of two frames of a few clips: on a CPU it was the same one for 2 clips as for 20.
    """
    return _layout_of(replace(size, clips=min(size.clips, 4), frames=2))


@cache
def _layout_of(size: Size) -> str:
    network, variables, batch = network_of(size), first_variables(size), batch_of(size)
    work = {layout: torch_passes(network, variables, batch, layout)[0].training for layout in LAYOUTS}
    seconds = interleaved(work, 1)
    return min(LAYOUTS, key=lambda layout: min(seconds[layout]))


def assert_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], model: Any) -> None:
    """Raises AssertionError unless embeddings and all gradients agree: what passes returned, by their names.

    PyTorch's gradients lie in its model; its forward pass is compared with that of prepared kernels too.
    """
    from benchmarks.torch_model import named_gradients

    for name, found in ours.items():
        if name == "training":
            assert_agree(named_gradients(found), model.gradients(), TOLERANCE_GRADIENTS)
        else:
            assert_agree({"embedding": found}, {"embedding": theirs["forward"].numpy()}, TOLERANCE_OUTPUTS)
