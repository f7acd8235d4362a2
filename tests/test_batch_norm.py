"""Batch norm with its ReLU against flax's and PyTorch's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax.backbones.batch_norm import LINEAR, RELU, RELU6, BatchNorm

AFTER = {"linear": (LINEAR, lambda x: x), "relu": (RELU, nn.relu), "relu6": (RELU6, nn.relu6)}


def _problem(seed=0):
    """Maps whose channels differ in mean and spread, and variables that are at none of their first values."""
    draw = np.random.default_rng(seed)
    x = (draw.normal(size=(3, 5, 4, 7)) * draw.uniform(0.1, 5, 7) + draw.normal(0, 3, 7)).astype(np.float32)
    parameters = {"scale": draw.uniform(0.5, 3, 7), "bias": draw.normal(0, 2, 7)}
    statistics = {"mean": draw.normal(0, 3, 7), "var": draw.uniform(0.1, 20, 7)}
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (parameters, statistics))
    return jnp.asarray(x), *cast, jnp.asarray(draw.normal(size=x.shape), jnp.float32)


def _results(apply, parameters, statistics, x, direction):
    """Outputs, new statistics, and the gradients of the parameters and of `x`."""

    def loss(parameters, x):
        variables = {"params": parameters, "batch_stats": statistics}
        features, moved = apply(variables, x)
        return (features * direction).sum(), (features, moved["batch_stats"])

    (_, told), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(parameters, x)
    return told, gradients


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("limits", "after"), AFTER.values(), ids=AFTER)
def test_equals_flax_in_outputs_statistics_and_gradients(limits, after, train):
    x, parameters, statistics, direction = _problem()
    ours = BatchNorm(limits, 0.9, 1e-3)
    flax = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3)
    mine = _results(lambda v, x: ours.apply(v, x, train, mutable=["batch_stats"]), parameters, statistics, x, direction)

    def reference(variables, x):
        features, moved = flax.apply(variables, x, mutable=["batch_stats"])
        return after(features), moved

    expected = _results(reference, parameters, statistics, x, direction)
    assert jax.tree.structure(mine) == jax.tree.structure(expected)
    for value, theirs in zip(jax.tree.leaves(mine), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(value, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


def test_begins_as_flaxs_and_leaves_the_statistics_while_it_does():
    x = _problem()[0]
    ours = BatchNorm(RELU, 0.9, 1e-3).init(jax.random.key(0), x, True)
    theirs = nn.BatchNorm(use_running_average=False).init(jax.random.key(0), x)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_gradients_of_a_batch_equal_pytorchs():
    torch = pytest.importorskip("torch", reason="the independent implementation")
    x, parameters, statistics, direction = _problem()
    ours = BatchNorm(RELU6, 0.9, 1e-3)
    (features, _), (of_parameters, of_x) = _results(
        lambda v, x: ours.apply(v, x, True, mutable=["batch_stats"]), parameters, statistics, x, direction
    )
    leaves = [torch.tensor(np.array(leaf), requires_grad=True) for leaf in (x, parameters["scale"], parameters["bias"])]
    theirs = torch.nn.functional.batch_norm(leaves[0].permute(0, 3, 1, 2), None, None, *leaves[1:], True, 0.1, 1e-3)
    theirs = torch.nn.functional.relu6(theirs).permute(0, 2, 3, 1)
    (theirs * torch.tensor(np.array(direction))).sum().backward()
    expected = [theirs.detach(), *(leaf.grad for leaf in leaves)]
    for value, reference in zip((features, of_x, of_parameters["scale"], of_parameters["bias"]), expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-5 * float(reference.abs().max()))


def test_half_precision_comes_out_as_it_goes_in_with_statistics_in_full():
    x, parameters, statistics, direction = (
        jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), part) for part in _problem()
    )
    statistics = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), statistics)
    ours = BatchNorm(RELU, 0.9, 1e-3)
    (features, moved), gradients = _results(
        lambda v, x: ours.apply(v, x, True, mutable=["batch_stats"]), parameters, statistics, x, direction
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((features, gradients))} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype(jnp.float32)}
