"""Caffe's form of GoogLeNet against the graph of it that the package `onnx` brings along, and in PyTorch's layers."""

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from test_googlenet import close, outputs_and_gradients, part_up_to, random_pixels, random_variables

from benchmarks.torchvision_networks import published_form
from reid_jax.backbones import googlenet
from reid_jax.config import BackboneConfig


@pytest.fixture(scope="module")
def variables():
    return random_variables(googlenet.whole("googlenet_bvlc"))


def caffe_graph(tensors):
    """The graph in `onnx` of Caffe's GoogLeNet with these tensors, its pools rounded up as Caffe's are.

    The graph's own pools of stride 2 round down, and its last average makes up for it (6 x 6 in place of 7 x 7).
    """
    onnx = pytest.importorskip("onnx", reason="its data holds the graph of Caffe's GoogLeNet")
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_inception_v1.onnx"
    model = onnx.load(path)
    values = {}
    for name, tensor in tensors.items():
        layer, blob = name.rsplit(".", 1)
        values[f"{layer}_{'wb'[int(blob)]}_0"] = tensor
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and node.op_type == "MaxPool" and list(attribute.ints) == [0, 0, 0, 0]:
                attribute.ints[:] = [0, 0, 1, 1]
            elif attribute.name == "pads" and node.op_type == "AveragePool":
                attribute.ints[:] = [0, 0, 0, 0]
    shapes = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "ConstantOfShape"}
    given = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    for name in set(shapes) | {name for name in given if name.endswith(("_w_0", "_b_0"))}:
        shape = tuple(given[shapes[name]]) if name in shapes else given[name].shape
        assert tuple(side for side in shape if side > 1) == tuple(side for side in values[name].shape if side > 1), name
        values[name] = values[name].reshape(shape)
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    frames = next(item for item in model.graph.input if item.name == "data_0")
    del model.graph.node[:], model.graph.initializer[:], model.graph.input[:]
    model.graph.node.extend(kept)
    model.graph.input.append(frames)
    values |= {name: value for name, value in given.items() if name.startswith("OC2_DUMMY")}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    return onnx, model


def caffe_pixels(pixels):
    return np.ascontiguousarray((pixels[..., ::-1] - np.float32([104, 117, 123])).transpose(0, 3, 1, 2))


@pytest.mark.usefixtures("quick_compilation")
def test_bvlc_equals_the_onnx_graph(variables):
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs the graph")
    onnx, model = caffe_graph(published_form("googlenet_bvlc", variables))
    cube = [node.output[0] for node in model.graph.node if node.op_type == "Concat"][-1]
    logits = next(node.output[0] for node in model.graph.node if node.op_type == "Gemm")
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in (cube, logits))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = random_pixels(1, 224, 224)
    cube, logits = session.run([cube, logits], {"data_0": caffe_pixels(pixels)})
    module = googlenet.build("googlenet_bvlc", "logits")
    apply = jax.jit(partial(module.apply, train=False, capture_intermediates=lambda m, _: m.name == "inception5b"))
    ours, seen = apply(variables, pixels)
    close(ours[:, 0, 0], logits, 1e-4)
    close(seen["intermediates"]["inception5b"]["__call__"][0], cube.transpose(0, 2, 3, 1), 1e-4)


def compare_caffe_form(torch, config, part, pixels, build, mean, cube):
    """Outputs and gradients of a backbone in Caffe's form and of the network that `build` gives for its tensors."""
    tensors = {
        name: torch.nn.Parameter(torch.tensor(value)) for name, value in published_form(config.backbone, part).items()
    }
    frames = torch.tensor(pixels).permute(0, 3, 1, 2).requires_grad_()
    theirs = build(tensors)(frames.flip(1) - torch.tensor(mean)[:, None, None])
    direction = torch.tensor(np.random.default_rng(2).normal(size=theirs.shape), dtype=torch.float32)
    (theirs * direction).sum().backward()
    weights = direction.numpy().transpose(0, 2, 3, 1)
    features, gradients, of_pixels = outputs_and_gradients(config, part, pixels, weights, False)
    assert features.shape == cube
    close(features, theirs.detach().permute(0, 2, 3, 1).numpy(), 1e-4)
    close(of_pixels, frames.grad.permute(0, 2, 3, 1).numpy(), 1e-4)
    assert gradients.keys() == tensors.keys()
    for name, gradient in gradients.items():
        close(gradient, tensors[name].grad.numpy(), 1e-4)


@pytest.mark.usefixtures("quick_compilation")
def test_bvlc_equals_pytorch_in_gradients_and_any_size(variables):
    torch = pytest.importorskip("torch", reason="the independent implementation")
    from benchmarks.torch_networks import caffe_googlenet

    config = BackboneConfig(backbone="googlenet_bvlc")
    part, pixels = part_up_to(config, variables), random_pixels(2, 64, 32)
    compare_caffe_form(torch, config, part, pixels, caffe_googlenet, [104, 117, 123], (2, 2, 1, 1024))
