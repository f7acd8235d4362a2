"""GoogLeNet against torchvision's; its endpoints and published tensors in both forms."""

import importlib.util
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.torchvision_networks import DEVIATION, MEAN, published_form, torchvision_network
from reid_jax import backbones
from reid_jax.backbones import googlenet, pretrained
from reid_jax.config import BackboneConfig

FORMS = ("googlenet", "googlenet_bvlc")


def random_variables(shapes, seed=0):
    """Every leaf random, norms and running statistics included, at scales that keep the values near 1."""
    draw = np.random.default_rng(seed)
    leaves = {}
    for path, leaf in flatten_dict(shapes).items():
        scale = np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        if path[-1] == "kernel":
            value = scale * draw.standard_normal(leaf.shape, np.float32)
        else:
            value = (
                draw.uniform(0.5, 1.5, leaf.shape) if path[-1] in ("scale", "var") else draw.normal(0, 0.1, leaf.shape)
            )
        leaves[path] = value.astype(leaf.dtype)
    return unflatten_dict(leaves)


def random_pixels(*shape):
    return np.random.default_rng(1).uniform(0, 255, (*shape, 3)).astype(np.float32)


def close(ours, theirs, relative):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= relative * np.abs(theirs).max()


def torch_with_networks():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision, the independent implementation, is not installed")
    return pytest.importorskip("torch", reason="the independent implementation")


@pytest.fixture(scope="module")
def variables():
    return {form: random_variables(googlenet.whole(form)) for form in FORMS}


def outputs_and_gradients(config, variables, pixels, direction, train):
    """Features, and gradients of their product with `direction`: of the pixels, and of parameters by published name."""
    module = backbones.build(config)

    def loss(params, pixels):
        features, _ = module.apply({**variables, "params": params}, pixels, train=train, mutable=["batch_stats"])
        return (features * direction).sum(), features

    function = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, features), (of_params, of_pixels) = function(variables["params"], pixels)
    return features, published_form(config.backbone, {"params": of_params}), of_pixels


def part_up_to(config, variables):
    """Those of the whole network's variables that the endpoint has."""
    shapes = pretrained.shapes(backbones.build(config), 32)
    whole = flatten_dict(variables)
    return unflatten_dict({path: whole[path] for path in flatten_dict(shapes)})


@pytest.mark.parametrize(("form", "published"), [("googlenet", 6_624_904), ("googlenet_bvlc", 6_998_552)])
def test_as_many_parameters_as_published(form, published):
    shapes = googlenet.whole(form)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == published


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("endpoint", "frame", "cube", "trained"),
    [
        ("last", (224, 224), (7, 7, 1024), ("inception5a", "inception5b")),
        ("last", (256, 128), (8, 4, 1024), ("inception5a", "inception5b")),
        ("last", (15, 15), (1, 1, 1024), ("inception5a", "inception5b")),
        ("stride16", (256, 128), (16, 8, 832), ("inception4d", "inception4e")),
        ("stride8", (224, 224), (28, 28, 480), ("inception3a", "inception3b")),
        ("fc", (256, 128), (1, 1, 1024), ("inception5a", "inception5b")),
        ("logits", (256, 128), (1, 1, 1000), ("inception5b", "fc")),
    ],
)
def test_endpoints(form, endpoint, frame, cube, trained):
    config = BackboneConfig(backbone=form, endpoint=endpoint)
    module = backbones.build(config)
    frames = jnp.zeros((2, *frame, 3), jnp.uint8)
    features, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), frames, train=False))
    assert features.shape == (2, *cube) and features.dtype == jnp.float32
    assert backbones.last_stages(config) == trained and set(trained) < set(variables["params"])


def normalised(torch, frames):
    """Frames [N 3 H W] in 0..255 as torchvision's networks take them."""
    mean, deviation = (torch.tensor(values, dtype=frames.dtype)[:, None, None] for values in (MEAN, DEVIATION))
    return (frames / 255 - mean) / deviation


def compare_with_torchvision(torch, variables, endpoint, layer, shape, train, dtype, relative):
    """Outputs and gradients of our endpoint and of torchvision's layer, in the same arithmetic."""
    pixels = random_pixels(*shape).astype(dtype)
    network = torchvision_network("googlenet", variables).train(train).to(getattr(torch, dtype))
    outputs = []
    getattr(network, layer).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    frames = torch.tensor(pixels).permute(0, 3, 1, 2).requires_grad_()
    network(normalised(torch, frames))
    theirs = outputs[0] if outputs[0].ndim == 4 else outputs[0][:, :, None, None]
    direction = torch.tensor(np.random.default_rng(2).normal(size=theirs.shape).astype(dtype))
    (theirs * direction).sum().backward()
    theirs, of_their_pixels, direction = (
        tensor.detach().permute(0, 2, 3, 1).numpy() for tensor in (theirs, frames.grad, direction)
    )
    config = BackboneConfig(backbone="googlenet", endpoint=endpoint)
    part = jax.tree.map(lambda leaf: leaf.astype(dtype), part_up_to(config, variables))
    features, gradients, of_pixels = outputs_and_gradients(config, part, pixels, direction, train)
    assert features.dtype == dtype
    close(features, theirs, relative)
    close(of_pixels, of_their_pixels, relative)
    expected = {name: value.grad.numpy() for name, value in network.named_parameters() if value.grad is not None}
    assert set(expected) == set(gradients)
    for name, gradient in gradients.items():
        close(gradient, expected[name], relative)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(("endpoint", "layer", "train"), [("logits", "fc", False), ("stride8", "inception3b", True)])
def test_equals_torchvision_in_outputs_and_gradients(variables, endpoint, layer, train):
    torch = torch_with_networks()
    shape = (2, 64, 32)
    compare_with_torchvision(torch, variables["googlenet"], endpoint, layer, shape, train, "float32", 1e-4)


@pytest.mark.slow
def test_equals_torchvision_in_training_in_float64(variables):
    """In float32 PyTorch's own gradients through 57 batch norms of small batches are off by percents."""
    torch = torch_with_networks()
    with jax.enable_x64(True):
        compare_with_torchvision(torch, variables["googlenet"], "logits", "fc", (4, 64, 48), True, "float64", 1e-7)


@pytest.mark.usefixtures("quick_compilation")
def test_equals_torchvision_at_full_size(variables):
    torch = torch_with_networks()
    pixels = random_pixels(1, 224, 224)
    network = torchvision_network("googlenet", variables["googlenet"]).eval()
    network.avgpool = network.fc = torch.nn.Identity()
    with torch.no_grad():
        theirs = network(normalised(torch, torch.tensor(pixels).permute(0, 3, 1, 2)))
    config = BackboneConfig(backbone="googlenet")
    module, part = backbones.build(config), part_up_to(config, variables["googlenet"])
    ours = jax.jit(partial(module.apply, train=False))(part, pixels)
    close(ours, theirs.numpy().reshape(1, 1024, 7, 7).transpose(0, 2, 3, 1), 1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_published_tensors_fill_every_endpoint(variables, form):
    config = BackboneConfig(backbone=form, endpoint="stride8")
    tensors = published_form(form, variables[form])
    auxiliary = "aux1.conv.conv.weight" if form == "googlenet" else "loss1/conv.0"
    tensors[auxiliary] = np.zeros((128, 512, 1, 1), np.float32)
    shapes = pretrained.shapes(backbones.build(config), 32)
    filled = flatten_dict(googlenet.filled(form, shapes, tensors, Path("some.file")))
    assert set(filled) == set(flatten_dict(shapes))
    for path, leaf in filled.items():
        np.testing.assert_array_equal(leaf, flatten_dict(variables[form])[path])
    jax.tree.map(np.testing.assert_array_equal, backbones.check(form, tensors, Path("some.file")), variables[form])


@pytest.mark.parametrize(
    ("form", "name", "change", "problem"),
    [
        ("googlenet", "inception5b.branch3.1.bn.running_var", None, "running_var' is missing"),
        ("googlenet", "fc.weight", np.zeros((10, 1024), np.float32), r"'fc.weight' has the shape \(1024, 10\)"),
        ("googlenet_bvlc", "inception_3a/5x5.1", None, "'inception_3a/5x5.1' is missing"),
        ("googlenet_bvlc", "loss4/fc.0", np.zeros(3, np.float32), "'loss4/fc.0' has no place"),
    ],
)
def test_unfit_tensors_are_named(variables, form, name, change, problem):
    tensors = published_form(form, variables[form])
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change
    with pytest.raises(ValueError, match=f"some.file: tensor.*{problem}"):
        backbones.check(form, tensors, Path("some.file"))


def test_absent_weights_tell_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_JAX_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="python -m reid_jax.backbones.weights googlenet"):
        backbones.pretrained_variables(BackboneConfig(backbone="googlenet"), {})
