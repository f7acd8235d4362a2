"""Training: the schedule, RMSProp against NumPy, which leaves a step changes, one compilation, divergence."""

import threading
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import last_state, metrics_without_time, take_batches, tiny_config, tiny_splits

from reid_jax import network as networks
from reid_jax import optimizer, runs, train, workdir
from reid_jax.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compilation")
# One small layer: the tests below compile it once for each variant.
ONE_LAYER = dict(channels=(4,), input_kernels=(3,), state_kernels=(3,), frames=2)


def host(tree):
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def one_step(config):
    """The variables before and after one step whose learning rate is not zero, on the host."""
    network = networks.build(config)
    state = train.initial_state(network)
    before = host(state.variables)
    state, metrics = train.train_step(network, state, take_batches(config, 1)[0], jax.random.key(0))
    assert np.isfinite(metrics["loss"])
    return before, host(state.variables)


def changed(before, after):
    """Names of the backbone's stages (and `head`) of which a leaf changed, and of which every leaf did."""
    stages = {**{("backbone", name): name for name in before["backbone"]}, ("head",): "head"}
    some, every = set(), set()
    for path, name in stages.items():
        one, other = before, after
        for key in path:
            one, other = one[key], other[key]
        differs = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)]
        some |= {name} if any(differs) else set()
        every |= {name} if all(differs) else set()
    return some, every


def test_no_step_has_a_key_that_draws_the_first_variables():
    def data(key):
        return tuple(jax.random.key_data(key).tolist())

    first = {data(key) for count in range(1, 20) for key in jax.random.split(jax.random.key(5), count)}
    steps = {data(jax.random.fold_in(train.training_key(5), step)) for step in range(100)}
    assert len(steps) == 100 and not first & steps


def test_warm_up_rises_linearly_then_the_rate_stays_or_falls_in_steps_or_as_a_cosine():
    config = tiny_config(learning_rate=0.1, warmup_steps=4, steps=12, decay="cosine")
    schedule = optimizer.learning_rate(config)
    np.testing.assert_allclose([schedule(step) for step in range(5)], [0, 0.025, 0.05, 0.075, 0.1], rtol=1e-6)
    expected = [0.05 * (1 + np.cos(np.pi * (step - 4) / 8)) for step in range(4, 13)]
    np.testing.assert_allclose([schedule(step) for step in range(4, 13)], expected, atol=1e-8)
    constant = optimizer.learning_rate(tiny_config(learning_rate=0.1, warmup_steps=0, decay="none"))
    np.testing.assert_allclose([constant(step) for step in (0, 1, 500)], 0.1, rtol=1e-6)
    steps = optimizer.learning_rate(tiny_config(learning_rate=0.1, warmup_steps=4, steps=120, decay="steps"))
    found = [steps(step) for step in (2, 4, 39, 41, 69, 71, 119)]
    np.testing.assert_allclose(found, [0.05, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
    rising = optimizer.learning_rate(tiny_config(learning_rate=0.1, warmup_steps=60, steps=120, decay="steps"))
    np.testing.assert_allclose([rising(step) for step in (30, 45, 65, 71)], [0.05, 0.0075, 0.01, 0.001], rtol=1e-5)


@pytest.mark.parametrize(("backbone_rate", "l2"), [(0.0, 0.0), (0.3, 0.2), (1.0, 0.0)])
def test_updates_are_those_of_rmsprop_on_gradients_clipped_element_by_element(backbone_rate, l2):
    rates = dict(learning_rate=0.1, warmup_steps=2, backbone_rate=backbone_rate, decay="none")
    config = tiny_config(clip=0.5, weight_decay=0.01, l2=l2, **rates)
    generator = np.random.default_rng(0)
    values = {"backbone": {"conv0": generator.normal(size=(3, 4))}, "head": {"v": generator.normal(size=5)}}
    parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), values)
    made = optimizer.make_optimizer(config)
    state, mean_square = made.init(parameters), jax.tree.map(np.zeros_like, values)
    for step in range(5):
        gradients = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), values)
        updates, state = made.update(
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradients), state, parameters
        )
        parameters = jax.tree.map(jnp.add, parameters, updates)
        rate = 0.1 * min(step / 2, 1.0)
        for part, name, factor in (("backbone", "conv0", backbone_rate), ("head", "v", 1.0)):
            clipped = np.clip(gradients[part][name], -0.5, 0.5) + l2 * values[part][name]
            mean_square[part][name] = 0.9 * mean_square[part][name] + 0.1 * clipped**2
            unbiased = mean_square[part][name] / (1 - 0.9 ** (step + 1))
            direction = clipped / np.sqrt(unbiased + 1e-8) + 0.01 * values[part][name]
            values[part][name] = values[part][name] - factor * rate * direction
    np.testing.assert_allclose(parameters["backbone"]["conv0"], values["backbone"]["conv0"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parameters["head"]["v"], values["head"]["v"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fine_tune", "expected"),
    [("frozen", {"head"}), ("last", {"head", "conv1", "conv2"}), ("whole", {"head", "conv0", "conv1", "conv2"})],
)
def test_a_step_changes_the_fine_tuned_stages_and_no_other_leaf(fine_tune, expected):
    config = tiny_config(fine_tune=fine_tune, warmup_steps=0, **ONE_LAYER)
    some, every = changed(*one_step(config))
    assert some == expected
    assert every | {"head"} == expected


@pytest.mark.parametrize("batch_norm", ["trained", "frozen"])
def test_batch_statistics_follow_the_clips_only_where_batch_norm_is_trained(batch_norm):
    config = tiny_config(backbone="small_cnn", batch_norm=batch_norm, warmup_steps=0, **ONE_LAYER)
    before, after = one_step(config)
    assert changed(before, after)[1] == set(before["backbone"]) | ({"head"} & changed(before, after)[1])
    pairs = zip(jax.tree.leaves(before["batch_stats"]), jax.tree.leaves(after["batch_stats"]), strict=True)
    differs = [not np.array_equal(one, other) for one, other in pairs]
    assert len(differs) > 0 and (all(differs) if batch_norm == "trained" else not any(differs))


def test_a_few_pairs_are_learnt_with_one_compilation_and_the_old_state_given_away():
    config = tiny_config()
    network = networks.build(config)
    state = train.initial_state(network)
    batches = take_batches(config, 2)
    compiled = train.train_step._cache_size()
    losses, norms = [], []
    for step in range(80):
        old = state
        state, metrics = train.train_step(network, state, batches[step % 2], jax.random.key(0))
        losses.append(float(metrics["pair_loss"]))
        norms.append(float(metrics["gradient_norm"]))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old.variables, old.optimizer)))
    assert train.train_step._cache_size() - compiled <= 1
    assert int(state.step) == 80 and int(state.broken_at) == -1
    assert np.mean(losses[-2:]) < 0.25 * np.mean(losses[:2]), losses


def test_the_randomness_of_a_step_follows_from_the_step_alone():
    config = tiny_config(dropout_top=0.5, **ONE_LAYER)
    network = networks.build(config)
    batch = take_batches(config, 1)[0]

    def loss(step):
        state = replace(train.initial_state(network), step=jnp.asarray(step, jnp.int32))
        return float(train.train_step(network, state, batch, jax.random.key(0))[1]["loss"])

    assert loss(0) == loss(0) != loss(1)


def test_divergence_names_the_step_and_the_last_good_checkpoint_which_loads(tmp_path):
    # The first step of the warm-up has rate 0; the second is hurled away.
    config = tiny_config(learning_rate=1e38, warmup_steps=2, log_every=1, checkpoint_every=1)
    workdir.open_workdir(tmp_path / "run", config, resume=False, overwrite=False)
    with pytest.raises(train.Diverged, match="step 2 gave") as caught:
        runs.fit_run(config, tmp_path / "run", tiny_splits())
    assert str(tmp_path / "run" / "checkpoints" / "1") in str(caught.value)
    assert "learning_rate" in str(caught.value)
    assert [line["step"] for line in metrics_without_time(tmp_path / "run")] == [1]
    checkpoints = Checkpoints(tmp_path / "run" / workdir.CHECKPOINTS, read_only=True)
    assert checkpoints.latest() == 1
    checkpoints.close()
    good = last_state(config, tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in good.values())
    with pytest.raises(train.Diverged, match="step 2 gave"):
        runs.fit_run(config, tmp_path / "run", tiny_splits())


def test_outside_the_main_thread_training_asks_no_signals():
    asked = []

    def enter():
        with train.stop_requests() as stop:
            asked.append(stop())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert asked == [False]
