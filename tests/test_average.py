"""The running average of the variables: against NumPy, in a checkpoint, and what is scored and loaded."""

import jax
import numpy as np
import pytest
from tiny_runs import assert_same_state, fit, last_state, take_batches, tiny_config

from reid_jax import network as networks
from reid_jax import runs, train

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = tiny_config(
    average=0.4, backbone="small_cnn", channels=(4,), input_kernels=(3,), state_kernels=(3,), frames=2, steps=4
)


def host(tree):
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def test_it_follows_all_variables_with_less_weight_on_those_before_training():
    network = networks.build(CONFIG)
    state = train.initial_state(network)
    expected = host(state.variables)
    for step, batch in enumerate(take_batches(CONFIG, 4)):
        state, _ = train.train_step(network, state, batch, jax.random.key(0))
        kept = min(0.4, (1 + step) / (10 + step))
        expected = jax.tree.map(
            lambda old, new, kept=kept: kept * old + (1 - kept) * new, expected, host(state.variables)
        )
    assert jax.tree.structure(state.served) == jax.tree.structure(state.variables)
    for one, other in zip(jax.tree.leaves(state.served), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    statistics = zip(*map(jax.tree.leaves, (state.served["batch_stats"], state.variables["batch_stats"])), strict=True)
    assert not all(np.array_equal(one, other) for one, other in statistics)


def test_without_it_the_variables_themselves_are_served():
    state = train.initial_state(networks.build(tiny_config()))
    assert state.averaged == {} and state.served is state.variables


def test_it_is_what_a_run_loads_and_goes_on_with(tmp_path):
    fit(tiny_config(average=0.4, steps=8), tmp_path / "whole")
    fit(tiny_config(average=0.4, steps=4), tmp_path / "halves")
    fit(tiny_config(average=0.4, steps=8), tmp_path / "halves", resume=True)
    stored = last_state(tiny_config(average=0.4), tmp_path / "whole")
    assert_same_state(last_state(tiny_config(average=0.4), tmp_path / "halves"), stored)
    loaded = runs.load_run(tmp_path / "whole")[1]["head"]["selection"]
    np.testing.assert_array_equal(loaded, stored[".averaged['head']['selection']"])
    assert not np.array_equal(loaded, stored[".variables['head']['selection']"])
