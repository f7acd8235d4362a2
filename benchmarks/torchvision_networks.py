"""torchvision's networks with this library's variables: what the benchmark and the tests compare with."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from reid_jax.backbones import efficientnet_lite, googlenet, vgg

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""With which torchvision normalises frames in 0..1."""


def published_form(backbone: str, variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """The variables as published tensors: by their published names, kernels [O I k k], matrices [O I]."""
    modules = {"googlenet": googlenet, "vgg16": vgg, "efficientnet": efficientnet_lite}
    name = modules[backbone.partition("_")[0]].tensor_name
    tensors = {}
    for path, leaf in flatten_dict(variables).items():
        value = np.asarray(leaf)
        tensors[name(backbone, path)] = np.ascontiguousarray(
            value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        )
    return tensors


def torchvision_network(backbone: str, variables: dict[str, Any]) -> Any:
    """torchvision's `googlenet` or `vgg16` with these variables, its dropout off; ImportError where it is absent."""
    import torch

    models = torchvision_models()
    if backbone == "googlenet":
        network = models.GoogLeNet(aux_logits=False, transform_input=True, init_weights=False, dropout=0.0)
    else:
        network = models.VGG(models.vgg.make_layers(models.vgg.cfgs["D"]), init_weights=False, dropout=0.0)
    tensors = {name: torch.tensor(tensor) for name, tensor in published_form(backbone, variables).items()}
    counters = {name for name in network.state_dict() if name.endswith(".num_batches_tracked")}
    missing, surplus = network.load_state_dict(tensors, strict=False)
    assert set(missing) <= counters and not surplus, (missing, surplus)
    return network


def torchvision_models() -> Any:
    """torchvision's models, from a build of it for another PyTorch (with CUDA, or without) too.

    Such a build cannot register its detection operators, which no network here uses, and stops; so they are declared.
    """
    import torch

    try:
        import torchvision.models
    except RuntimeError:
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.models
    return torchvision.models
