"""The backbones up to their last cube in natural PyTorch: what the benchmark and the tests compare with.

GoogLeNet and VGG-16 are torchvision's; those that it lacks are written here after the published descriptions. Each is
built from its published tensors, whose shapes give the channels and the kernels.
"""

from typing import Any

import torch
from torch import nn

from benchmarks.torchvision_networks import DEVIATION, MEAN, published_form, torchvision_models

Tensors = dict[str, nn.Parameter]


class OnFrames(nn.Module):
    """A network on RGB frames [N 3 H W] in 0..255, scaled as its publisher did."""

    def __init__(self, network: nn.Module, mean: list[float], deviation: list[float], blue_first: bool = False):
        super().__init__()
        self.network, self.blue_first = network, blue_first
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.network(((frames.flip(1) if self.blue_first else frames) - self.mean) / self.deviation)


class SameConvolution(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does ("SAME")."""

    def __init__(self, kernel: torch.Tensor, stride: int):
        outputs, inputs, side, _ = kernel.shape
        groups = outputs if inputs == 1 else 1
        super().__init__(inputs * groups, outputs, side, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max(0, (-(-size // stride) - 1) * stride + side - size) for size in x.shape[2:])
        margin = (rows // 2, columns // 2)
        if rows % 2 or columns % 2:
            x, margin = nn.functional.pad(x, (margin[1], columns - margin[1], margin[0], rows - margin[0])), 0
        return nn.functional.conv2d(x, self.weight, None, self.stride, margin, 1, self.groups)


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; its layers have their published names."""

    def __init__(self, tensors: Tensors, stride: int):
        super().__init__()
        norms, self.steps = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}, []
        for part, norm in norms.items():
            if (kernel := tensors.get(f"_{part}_conv.weight")) is not None:
                setattr(self, f"_{part}_conv", SameConvolution(kernel, stride if part == "depthwise" else 1))
                setattr(self, norm, nn.BatchNorm2d(len(kernel), eps=1e-3, momentum=0.01))
                self.steps.append((f"_{part}_conv", norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x
        for convolution, norm in self.steps:
            inner = getattr(self, norm)(getattr(self, convolution)(inner))
            inner = inner if norm == "_bn2" else nn.functional.relu6(inner)
        return inner + x if inner.shape == x.shape else inner


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite of any scale, up to the block or the head that the tensors end with."""

    def __init__(self, tensors: Tensors):
        super().__init__()
        self._conv_stem = SameConvolution(tensors["_conv_stem.weight"], 2)
        self._bn0 = nn.BatchNorm2d(len(tensors["_conv_stem.weight"]), eps=1e-3, momentum=0.01)
        channels, strides, layers = len(tensors["_conv_stem.weight"]), iter((1, 2, 2, 2, 1, 2, 1)), []
        while own := _within(tensors, f"_blocks.{len(layers)}."):
            outputs = len(own["_project_conv.weight"])
            # A stage begins where the channels change.
            layers.append(InvertedBottleneck(own, 1 if outputs == channels else next(strides)))
            channels = outputs
        self._blocks = nn.Sequential(*layers)
        if "_conv_head.weight" in tensors:
            self._conv_head = SameConvolution(tensors["_conv_head.weight"], 1)
            self._bn1 = nn.BatchNorm2d(len(tensors["_conv_head.weight"]), eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._blocks(nn.functional.relu6(self._bn0(self._conv_stem(x))))
        return nn.functional.relu6(self._bn1(self._conv_head(x))) if hasattr(self, "_conv_head") else x


def _within(tensors: Tensors, start: str) -> Tensors:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _layer(tensors: Tensors, name: str, stride: int = 1) -> nn.Sequential:
    """One of Caffe's convolutions, with its ReLU; the tensors themselves, not copies, become its parameters."""
    outputs, inputs, side, _ = tensors[f"{name}.0"].shape
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2)
    convolution.weight, convolution.bias = tensors[f"{name}.0"], tensors[f"{name}.1"]
    return nn.Sequential(convolution, nn.ReLU(inplace=True))


class CaffeInception(nn.Module):
    """The four branches of Caffe's GoogLeNet."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        one, reduce3, three, reduce5, five, after_pool = (
            _layer(tensors, f"{name}/{part}") for part in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
        )
        pool = nn.MaxPool2d(3, 1, 1, ceil_mode=True)
        pairs = ((reduce3, three), (reduce5, five), (pool, after_pool))
        self.branches = nn.ModuleList([one, *(nn.Sequential(*pair) for pair in pairs)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def caffe_googlenet(tensors: Tensors) -> nn.Module:
    """Caffe's GoogLeNet, on BGR frames less a mean colour."""
    pool, norm = nn.MaxPool2d(3, 2, ceil_mode=True), nn.LocalResponseNorm(5, 1e-4, 0.75)
    layers = [_layer(tensors, "conv1/7x7_s2", 2), pool, norm]
    layers += [_layer(tensors, "conv2/3x3_reduce"), _layer(tensors, "conv2/3x3"), norm, pool]
    for name in ("3a", "3b", "pool", "4a", "4b", "4c", "4d", "4e", "pool", "5a", "5b"):
        layers.append(pool if name == "pool" else CaffeInception(tensors, f"inception_{name}"))
    return nn.Sequential(*layers)


def caffe_vgg16(tensors: Tensors) -> nn.Module:
    """The convolutional part of VGG-16 as its authors published it for Caffe, on BGR frames less a mean colour."""
    layers = []
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        layers += [_layer(tensors, f"conv{block}_{layer}") for layer in range(1, count + 1)]
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
    return nn.Sequential(*layers)


def torch_network(backbone: str, variables: dict[str, Any]) -> OnFrames:
    """The backbone up to its last cube [N D Kh Kw] with these variables of ours, on RGB frames [N 3 H W] in 0..255.

    ImportError where torchvision, from which two of them are taken, is absent.
    """
    tensors = {name: nn.Parameter(torch.tensor(value)) for name, value in published_form(backbone, variables).items()}
    if backbone == "googlenet":
        network = torchvision_models().GoogLeNet(aux_logits=False, init_weights=False)
        layers = list(network.children())
        layers = layers[: layers.index(network.avgpool)]
        network.fc = nn.Identity()
        network.load_state_dict(tensors)
        return OnFrames(nn.Sequential(*layers), 3 * [127.5], 3 * [127.5])
    if backbone == "vgg16":
        models = torchvision_models()
        network = models.vgg.make_layers(models.vgg.cfgs["D"])
        network.load_state_dict(_within(tensors, "features."))
        return OnFrames(network, [255 * part for part in MEAN], [255 * part for part in DEVIATION])
    if backbone == "googlenet_bvlc":
        return OnFrames(caffe_googlenet(tensors), [104, 117, 123], 3 * [1], blue_first=True)
    if backbone == "vgg16_bvlc":
        return OnFrames(caffe_vgg16(tensors), [103.939, 116.779, 123.68], 3 * [1], blue_first=True)
    network = EfficientNetLite(tensors)
    network.load_state_dict(tensors)
    return OnFrames(network, 3 * [127.0], 3 * [128.0])
