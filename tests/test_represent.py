"""What stands for a clip: states, attended features, or both; and stages of a backbone that stay as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import ONE_LAYER, changed, one_step
from tiny_runs import tiny_config

from reid_jax import model, peers

pytestmark = pytest.mark.usefixtures("quick_compilation")
CUBE = (3, 2, 5)


def clips():
    """Two clips of 4 and 2 frames, with other values behind them, and their mask."""
    features = np.random.default_rng(0).standard_normal((2, 4, *CUBE)).astype(np.float32)
    return jnp.asarray(features), jnp.arange(4) < jnp.array([4, 2])[:, None]


def encode(seed=0, **settings):
    config = tiny_config(**ONE_LAYER, **{"features": "raw", **settings})
    parameters = model.initialise_head(jax.random.key(seed), CUBE, config)
    parameters["selection"] = jnp.linspace(-1, 1, parameters["selection"].size)
    encoding = jax.jit(model.encode, static_argnames="config")(parameters, *clips(), config=config)
    assert encoding.embedding.shape[1] == parameters["similarity"]["v"].size
    return encoding


def test_features_are_pooled_under_both_attentions():
    encoding, (features, _) = encode(represent="features", embedding="raw"), clips()
    for n, length in enumerate((4, 2)):
        expected = sum(
            float(encoding.selection[n, t]) * float(encoding.locations[n, t, i, j]) * features[n, t, i, j]
            for t in range(length)
            for i in range(3)
            for j in range(2)
        )
        np.testing.assert_allclose(encoding.embedding[n], expected, rtol=1e-4, atol=1e-5)


def test_attended_features_are_those_that_enter_the_recurrence():
    encoding = encode(
        represent="features", embedding="raw", features="standardised", location="muted", pooling="average"
    )
    features, mask = clips()
    peer = peers.encode_pooling({}, model.standardise(features), mask, tiny_config())
    np.testing.assert_allclose(encoding.embedding, peer.embedding, rtol=1e-4, atol=1e-6)


def test_without_attention_features_are_those_of_the_pooling_peer():
    encoding = encode(represent="features", embedding="raw", location="muted", pooling="average")
    peer = peers.encode_pooling({}, *clips(), tiny_config())
    np.testing.assert_allclose(encoding.embedding, peer.embedding, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sees", ["state", "frame"])
def test_a_region_is_looked_at_for_what_it_shows_only_where_attention_sees_the_frame(sees):
    config = tiny_config(**ONE_LAYER, features="raw", represent="both", sees=sees)
    parameters = model.initialise_head(jax.random.key(1), CUBE, config)
    features, mask = np.zeros((2, 4, *CUBE), np.float32), clips()[1]
    places = [(0, 1), (2, 0), (1, 1), (0, 0)]
    for t, (i, j) in enumerate(places):
        features[:, t, i, j, 3] = 9.0

    def looked_at(parameters):
        locations = model.encode(parameters, jnp.asarray(features), mask, config).locations
        return jnp.stack([locations[:, t, i, j] for t, (i, j) in enumerate(places)], 1)

    if sees == "frame":
        gradient = jax.grad(lambda own: looked_at({**parameters, "appearance": own}).sum())(parameters["appearance"])
        assert gradient["location"][3] > 0 and (gradient["location"][:3] == 0).all()
        parameters["appearance"]["location"] = jnp.eye(CUBE[2])[3]
    found = np.asarray(looked_at(parameters))[np.asarray(mask)]
    assert (found > 0.99).all() if sees == "frame" else (found < 0.5).all()


def test_a_frame_is_chosen_for_what_it_shows():
    config = tiny_config(**ONE_LAYER, features="raw", sees="frame", location="muted")
    parameters = model.initialise_head(jax.random.key(2), CUBE, config)
    parameters["appearance"]["selection"] = 20 * jnp.eye(CUBE[2])[1]
    features, mask = clips()
    expected = np.where(mask, features.mean((2, 3))[..., 1], -np.inf).argmax(1)
    np.testing.assert_array_equal(model.encode(parameters, features, mask, config).selection.argmax(1), expected)


def test_the_maximum_is_over_the_valid_frames_attended_features():
    encoding, (features, _) = encode(represent="features", embedding="raw", pooling="max"), clips()
    attended = np.einsum("ntij,ntijd->ntd", encoding.locations, features)
    for n, length in enumerate((4, 2)):
        np.testing.assert_allclose(encoding.embedding[n], attended[n, :length].max(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("embedding", ["raw", "unit"])
def test_both_are_one_behind_the_other(embedding):
    both, states, features = (encode(represent=name, embedding=embedding) for name in ("both", "states", "features"))
    joined = jnp.concatenate([states.embedding, features.embedding], axis=1)
    factor = 2**-0.5 if embedding == "unit" else 1.0
    np.testing.assert_allclose(both.embedding, factor * joined, rtol=1e-4, atol=1e-6)
    if embedding == "unit":
        np.testing.assert_allclose(jnp.linalg.norm(both.embedding, axis=1), 1.0, rtol=1e-5)


def test_frozen_stages_stay_and_the_others_are_trained():
    config = tiny_config(**ONE_LAYER, warmup_steps=0, represent="both", frozen_stages=("conv0",))
    some, every = changed(*one_step(config))
    assert "conv0" not in some and {"conv1", "conv2", "head"} <= some and {"conv1", "conv2"} <= every


def test_an_unknown_stage_is_named_beside_those_there_are():
    with pytest.raises(ValueError, match="frozen_stages has .'block7'.; rcn has conv0, conv1, conv2"):
        one_step(tiny_config(**ONE_LAYER, frozen_stages=("block7",)))


def test_adams_first_step_has_the_learning_rate_for_its_size():
    config = tiny_config(**ONE_LAYER, warmup_steps=0, optimizer="adam", learning_rate=1e-3)
    before, after = one_step(config)
    moved = np.abs(before["backbone"]["conv1"]["kernel"] - after["backbone"]["conv1"]["kernel"])
    np.testing.assert_allclose(np.median(moved), 1e-3, rtol=0.02)
