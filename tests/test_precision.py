"""Precision: what products are asked for on an accelerator, and the recurrence in bfloat16."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_model import random_parameters
from tiny_runs import tiny_config

from reid_jax import model
from reid_jax import network as networks
from reid_jax.config import BackboneConfig, Config, RecurrentConfig
from reid_jax.precision import in_its_precision

pytestmark = pytest.mark.usefixtures("quick_compilation")


def products(jaxpr, names=("dot_general", "conv_general_dilated")):
    """The precisions of all matrix products and convolutions, those of inner functions too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in names:
            found.append(equation.params["precision"])
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


@pytest.mark.parametrize(
    ("backend", "precision", "exact"),
    [("gpu", "float32", True), ("gpu", "tfloat32", False), ("gpu", "bfloat16", False), ("cpu", "float32", False)],
)
def test_float32_asks_an_accelerator_for_exact_products_forward_and_backward(monkeypatch, backend, precision, exact):
    config = tiny_config(precision=precision, formulation="spatial")
    network = networks.build(config)
    variables = networks.initialise(network, jax.random.key(0))
    clips = {
        "frames": jnp.zeros((2, 2, config.data.height, config.data.width, 3), jnp.uint8),
        "mask": jnp.ones((2, 2), bool),
    }
    monkeypatch.setattr("jax.default_backend", lambda: backend)

    @in_its_precision
    def slope(network, variables):
        def total(head):
            features = networks.clip_features(network, variables, clips)
            return networks.encode(network, {**variables, "head": head}, features, clips["mask"]).embedding.sum()

        return jax.grad(total)(variables["head"])

    found = products(jax.make_jaxpr(partial(slope, network))(variables).jaxpr)
    assert len(found) > 10
    highest = [precision is not None and jax.lax.Precision.HIGHEST in precision for precision in found]
    assert all(highest) if exact else not any(highest)


@pytest.mark.parametrize("formulation", ["spatial", "frequency"])
def test_bfloat16_rounds_the_recurrences_products_and_keeps_states_and_gradients_float32(formulation):
    recurrent = RecurrentConfig((16, 16), (3, 3), (3, 3), formulation=formulation)
    config = Config(recurrent=recurrent)
    parameters = random_parameters(0, config, (4, 2, 8), jnp.float32)
    features = jnp.asarray(np.random.default_rng(1).standard_normal((3, 4, 4, 2, 8)), jnp.float32)
    mask = jnp.ones((3, 4), bool)

    def states_and_slope(precision):
        chosen = replace(config, backbone=BackboneConfig(precision=precision))

        def total(parameters):
            states = model.unroll(parameters, features, mask, chosen, None)[1]
            return jnp.square(states).sum(), states

        return jax.jit(jax.grad(total, has_aux=True))(parameters)

    (exact, rounded) = (states_and_slope(precision) for precision in ("float32", "bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    for one, other in zip(jax.tree.leaves(exact), jax.tree.leaves(rounded), strict=True):
        if (length := np.linalg.norm(one)) > 0:
            assert np.linalg.norm(one - other) < 0.05 * length
    assert np.linalg.norm(exact[1] - rounded[1]) > 1e-4 * np.linalg.norm(exact[1])
