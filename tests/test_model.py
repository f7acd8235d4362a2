"""The encoder of one clip against NumPy written from Eq. 1-7, what padding and dropout may change, and Eq. 8."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_recurrent import equation_5, pool_by_hand, sigmoid

from reid_jax import attention, model, recurrent
from reid_jax.config import AttentionConfig, Config, RecurrentConfig
from reid_jax.layers import products_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

CUBE = (3, 2, 4)

encode_clips = jax.jit(model.encode, static_argnames="config")


def encode(parameters, clip, mask, config, key=None):
    """The encoding of one clip."""
    return jax.tree.map(lambda part: part[0], encode_clips(parameters, clip[None], mask[None], config=config, key=key))


def make_config(attention_settings=None, **settings):
    recurrent_config = RecurrentConfig(
        (3, 2), (3, 3), (3, 5), **{"formulation": "spatial", "features": "raw", **settings}
    )
    return Config(recurrent=recurrent_config, attention=AttentionConfig(state_hidden=5, **(attention_settings or {})))


def random_parameters(seed, config, cube=CUBE, dtype=jnp.float32):
    """A head's parameters, none of them zero, with pre-activations of about unit size."""
    shapes = jax.eval_shape(partial(model.initialise_head, cube=cube, config=config), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return jnp.asarray(rng.standard_normal(leaf.shape) * np.prod(leaf.shape[:-1], initial=1.0) ** -0.5, dtype)

    return jax.tree.map(draw, shapes)


def random_clip(seed, frames, cube=CUBE):
    return np.random.default_rng(seed).standard_normal((frames, *cube)).astype(np.float32)


def padded(clip, length, seed=99):
    """The clip with random frames behind it, and its mask."""
    rest = 10 * random_clip(seed, length - len(clip), clip.shape[1:])
    return jnp.asarray(np.concatenate([clip, rest])), jnp.arange(length) < len(clip)


def softmax(a):
    return np.exp(a) / np.exp(a).sum()


def by_hand(parameters, clip, config):
    """Eq. 7, then Eq. 3, 4 and 5 frame by frame, then Eq. 6."""
    parameters, clip = jax.tree.map(partial(np.asarray, dtype=np.float64), (parameters, clip))
    settings, grid = config.attention, clip.shape[1:3]
    first = parameters["initial_state"]
    h_0 = np.tanh(np.tanh(clip.mean((0, 1, 2)) @ first["first"]) @ first["second"] + first["bias"])
    grids = model.recurrent_grids(grid, settings, config.recurrent)
    h = [np.tile(part, (*size, 1)) for part, size in zip(np.split(h_0, [3]), grids, strict=True)]
    locations, states = [], []
    for cube in clip:
        logits = h[-1].ravel() @ parameters["location"].weights
        if settings.sees == "frame":
            logits = logits / h[-1].size ** 0.5 + (cube @ parameters["appearance"]["location"]).ravel()
        m = softmax(logits).reshape(grid)
        x = m[:, :, None] * cube
        if settings.region == "slice":
            x = x.sum((0, 1), keepdims=True)
        elif settings.location_scale == "mean":
            x = x * m.size
        h[0] = equation_5(parameters["recurrent"][0], x, h[0])
        x = pool_by_hand(h[0], *((3, 1) if config.recurrent.between == "keep" else (2, 2)))
        h[1] = equation_5(parameters["recurrent"][1], x, h[1])
        locations.append(m)
        states.append(h[1])
    states = np.stack(states)
    selection = np.full(len(clip), 1 / len(clip))
    if settings.pooling == "attention":
        scores = states.reshape(len(clip), -1) @ parameters["selection"]
        if settings.sees == "frame":
            attended = np.einsum("tij,tijd->td", np.stack(locations), clip)
            scores = scores / states[0].size ** 0.5 + attended @ parameters["appearance"]["selection"]
        selection = softmax(scores)
    embedding = states.max(0) if settings.pooling == "max" else np.tensordot(selection, states, 1)
    if settings.embedding == "unit":
        embedding = embedding / np.linalg.norm(embedding)
    return embedding.ravel(), np.stack(locations), selection, states


@pytest.mark.parametrize(
    ("settings", "between"),
    [
        ({"location_scale": "sum", "embedding": "raw"}, "keep"),
        ({"location_scale": "mean", "pooling": "max"}, "halve"),
        ({"region": "slice", "pooling": "average"}, "keep"),
        ({"sees": "frame"}, "keep"),
    ],
)
def test_encoding_is_the_papers_equations(settings, between):
    config = make_config(settings, between=between)
    parameters, clip = random_parameters(0, config), random_clip(1, 5)
    encoding = encode(parameters, *padded(clip, 7), config=config)
    embedding, locations, selection, states = by_hand(parameters, clip, config)
    np.testing.assert_allclose(encoding.embedding, embedding, atol=1e-5)
    np.testing.assert_allclose(encoding.locations[:5], locations, atol=1e-5)
    np.testing.assert_allclose(encoding.selection, np.append(selection, [0, 0]), atol=1e-5)
    np.testing.assert_allclose(encoding.states[:5], states, atol=1e-5)


@pytest.mark.parametrize("pooling", ["attention", "average", "max"])
def test_padding_changes_nothing(pooling):
    config = make_config({"pooling": pooling})
    parameters, clip = random_parameters(2, config), random_clip(3, 5)
    plain = encode(parameters, *padded(clip, 5), config=config)
    for length in (8, 20) if pooling == "attention" else (8,):
        longer = encode(parameters, *padded(clip, length), config=config)
        np.testing.assert_allclose(longer.embedding, plain.embedding, atol=1e-6)
        np.testing.assert_allclose(longer.locations[:5], plain.locations, atol=1e-6)
        np.testing.assert_allclose(longer.states[:5], plain.states, atol=1e-6)
        np.testing.assert_allclose(longer.selection[:5], plain.selection, atol=1e-6)
        assert (longer.selection[5:] == 0).all()
        penalties = (
            attention.location_penalty(e.locations, jnp.arange(n) < 5) for e, n in ((plain, 5), (longer, length))
        )
        np.testing.assert_allclose(*penalties, atol=1e-6)


def test_masked_frames_in_the_middle_are_as_if_they_were_not_there():
    config, valid = make_config({"pooling": "attention"}), np.array([0, 2, 3, 6, 7])
    parameters, clip = random_parameters(2, config), random_clip(3, 8)
    plain = encode(parameters, *padded(clip[valid], 5), config=config)
    holed = encode(parameters, jnp.asarray(clip), jnp.zeros(8, bool).at[valid].set(True), config=config)
    np.testing.assert_allclose(holed.embedding, plain.embedding, atol=1e-6)
    np.testing.assert_allclose(holed.states[valid], plain.states, atol=1e-6)
    np.testing.assert_allclose(holed.locations[valid], plain.locations, atol=1e-6)


def test_what_the_padding_holds_changes_not_a_bit():
    config = make_config({"pooling": "attention"})
    parameters, clip = random_parameters(2, config), random_clip(3, 5)
    first, second = (encode(parameters, *padded(clip, 8, seed), config=config) for seed in (4, 5))
    np.testing.assert_array_equal(first.embedding, second.embedding)
    np.testing.assert_array_equal(first.states, second.states)


def test_gradients_reach_the_valid_frames_alone():
    config = make_config()
    parameters, (clip, mask) = random_parameters(2, config), padded(random_clip(3, 5), 8)
    weights = jnp.asarray(random_clip(6, 1).ravel()[:12])

    def loss(clip):
        encoding = model.encode(parameters, clip[None], mask[None], config)
        return encoding.embedding[0] @ weights + attention.location_penalty(encoding.locations[0], mask)

    gradient = np.asarray(jax.jit(jax.grad(loss))(clip))
    assert (gradient[5:] == 0).all()
    assert (np.abs(gradient[:5]).max((1, 2, 3)) > 1e-4).all()


def test_clips_of_a_batch_are_independent():
    """Each is what it is alone, with padding of its own: the two branches of a pair are one function."""
    config = make_config(dropout_between=0.5)
    parameters = random_parameters(2, config)
    clips, masks = zip(*(padded(random_clip(seed, length), 6) for seed, length in enumerate((6, 2, 4))), strict=True)
    together = encode_clips(parameters, jnp.stack(clips), jnp.stack(masks), config=config)
    for n, (clip, mask) in enumerate(zip(clips, masks, strict=True)):
        alone = encode(parameters, clip, mask, config=config)
        jax.tree.map(lambda one, all_clips: np.testing.assert_allclose(one, all_clips[n], atol=1e-6), alone, together)  # noqa: B023


def test_equal_clips_of_a_batch_drop_different_elements():
    config = make_config({"embedding": "raw"}, dropout_between=0.5)
    parameters, (clip, mask) = random_parameters(2, config), padded(random_clip(3, 6), 6)
    clips, masks, key = jnp.stack([clip] * 3), jnp.stack([mask] * 3), jax.random.key(4)
    first, second, third = encode_clips(parameters, clips, masks, config=config, key=key).embedding
    assert min(np.abs(a - b).max() for a, b in ((first, second), (first, third), (second, third))) > 1e-3


def test_clip_of_one_frame():
    config = make_config({"embedding": "raw"})
    encoding = encode(random_parameters(7, config), *padded(random_clip(8, 1), 1), config=config)
    np.testing.assert_array_equal(encoding.selection, [1])
    np.testing.assert_allclose(encoding.embedding, encoding.states[0].ravel(), rtol=1e-6)
    assert np.abs(encoding.embedding).max() > 0


def test_clip_without_frames_is_finite():
    """Batches are filled up with such rows."""
    config = make_config()
    encoding = encode(random_parameters(2, config), jnp.asarray(random_clip(3, 8)), jnp.zeros(8, bool), config=config)
    np.testing.assert_array_equal(encoding.embedding, np.zeros(12))
    assert all(np.isfinite(part).all() for part in encoding)


def test_muted_attention_looks_everywhere_alike():
    config = make_config({"location": "muted"})
    encoding = encode(random_parameters(9, config), *padded(random_clip(10, 4), 4), config=config)
    np.testing.assert_allclose(encoding.locations, np.full((4, 3, 2), 1 / 6), rtol=1e-6)


def test_first_states_are_spread_and_of_the_valid_mean_alone():
    config = make_config(between="halve")
    parameters, clip = random_parameters(11, config)["initial_state"], random_clip(12, 5)
    initial = jax.jit(partial(model.initial_states, config=config))
    states = initial(parameters, *padded(clip, 7))
    assert [h.shape for h in states] == [(3, 2, 3), (2, 1, 2)]
    for h in states:
        np.testing.assert_array_equal(h, np.broadcast_to(h[0, 0], h.shape))
    mean = clip.mean((0, 1, 2))
    expected = np.tanh(np.tanh(mean @ parameters["first"]) @ parameters["second"] + parameters["bias"])
    np.testing.assert_allclose(np.concatenate([h[0, 0] for h in states]), expected, atol=1e-5)
    shuffled = initial(parameters, *padded(np.ascontiguousarray(clip[::-1, ::-1, ::-1]), 7, seed=13))
    other = initial(parameters, *padded(clip + 1, 7))
    for h, same, moved in zip(states, shuffled, other, strict=True):
        np.testing.assert_allclose(same, h, atol=1e-6)
        assert np.abs(moved - h).max() > 1e-3


def test_a_frame_sees_the_later_ones_through_the_first_state_alone():
    """With the mean of Eq. 7 kept (a change sums to zero over the grid), all up to m_{t+1} and h_t stays as it is."""
    config = make_config()
    parameters, clip = random_parameters(14, config), random_clip(15, 5)
    change = random_clip(16, 5)
    change -= change.mean((1, 2), keepdims=True)
    change[:2] = 0
    before = encode(parameters, *padded(clip, 5), config=config)
    after = encode(parameters, *padded(clip + change, 5), config=config)
    np.testing.assert_allclose(after.states[:2], before.states[:2], atol=1e-6)
    np.testing.assert_allclose(after.locations[:3], before.locations[:3], atol=1e-6)
    assert (np.abs(after.states[2:] - before.states[2:]).max((1, 2, 3)) > 1e-3).all()
    assert (np.abs(after.locations[3:] - before.locations[3:]).max((1, 2)) > 1e-3).all()


def test_gradients_with_the_first_state_held_run_backwards_in_time_only():
    config = make_config()
    parameters, (clip, mask) = random_parameters(14, config), padded(random_clip(15, 4), 4)
    parameters["initial_state"]["second"] *= 0

    def sizes(clip):
        locations, states = model.unroll(parameters, clip[None], mask[None], config, None)
        return jnp.stack([jnp.square(part.reshape(4, -1)).sum(1) for part in (locations, states)])

    jacobian = jax.jit(jax.jacrev(sizes))(clip)
    of_locations, of_states = np.abs(jacobian).max((3, 4, 5))
    np.testing.assert_array_equal(of_locations > 0, np.tri(4, k=-1, dtype=bool))
    np.testing.assert_array_equal(of_states > 0, np.tri(4, dtype=bool))


def test_dropout_between_never_falls_on_the_recurrent_path():
    """Layer 1 lives on its own states, which are those without dropout; what goes up is not."""
    config = make_config(dropout_between=0.5)
    parameters, clip = random_parameters(17, config), jnp.asarray(random_clip(18, 3))
    mask = jnp.ones(3, bool)

    @partial(jax.jit)
    def states_of_both_layers(key):
        grids = model.recurrent_grids(clip.shape[1:3], config.attention, config.recurrent)
        layers = list(map(products_of, recurrent.prepare(parameters["recurrent"], grids, "spatial", "float32")))
        dropped = plain = model.initial_states(parameters["initial_state"], clip, mask, config)
        for t in range(3):
            dropped = recurrent.step(layers, clip[t], dropped, config.recurrent, jax.random.fold_in(key, t))
            plain = recurrent.step(layers, clip[t], plain, config.recurrent, None)
        return dropped, plain

    dropped, plain = states_of_both_layers(jax.random.key(0))
    np.testing.assert_array_equal(dropped[0], plain[0])
    assert np.abs(dropped[1] - plain[1]).max() > 1e-3


def test_dropout_at_the_top_leaves_every_state():
    config = make_config({"embedding": "raw", "pooling": "average"}, dropout_top=0.5)
    parameters, (clip, mask) = random_parameters(19, config), padded(random_clip(20, 5), 5)
    plain = encode(parameters, clip, mask, config=config)
    first, again, other = (
        encode(parameters, clip, mask, config=config, key=jax.random.key(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_allclose(first.states, plain.states, atol=1e-6)
    np.testing.assert_array_equal(first.embedding, again.embedding)
    assert np.abs(first.embedding - plain.embedding).max() > 1e-3
    assert np.abs(first.embedding - other.embedding).max() > 1e-3


def test_dropout_between_is_drawn_anew_for_each_frame():
    """A network without memory (z = 1, no state kernels) gives equal frames equal states, but for its dropout."""
    settings = RecurrentConfig((64, 3), (1, 1), (1, 1), "raw", dropout_between=0.5, formulation="spatial")
    config = Config(recurrent=settings, attention=AttentionConfig(location="muted", state_hidden=2))
    parameters = random_parameters(21, config, (1, 1, 4))
    first, second = (k.input.at[..., : k.input.shape[-1] // 3].set(100.0) for k in parameters["recurrent"])
    states = (0 * k.state for k in parameters["recurrent"])
    parameters["recurrent"] = tuple(map(recurrent.Kernels, (jnp.abs(first), second), states))
    clip, mask = jnp.ones((4, 1, 1, 4)), jnp.ones(4, bool)
    plain = encode(parameters, clip, mask, config=config).states
    np.testing.assert_array_equal(plain, np.broadcast_to(plain[0], plain.shape))
    dropped = np.asarray(encode(parameters, clip, mask, config=config, key=jax.random.key(3)).states)
    assert all(np.abs(dropped[a] - dropped[b]).max() > 1e-2 for a in range(4) for b in range(a))


def test_without_dropout_the_key_changes_nothing():
    config = make_config()
    parameters, (clip, mask) = random_parameters(2, config), padded(random_clip(3, 5), 5)
    keyed = encode(parameters, clip, mask, config=config, key=jax.random.key(0))
    np.testing.assert_allclose(keyed.embedding, encode(parameters, clip, mask, config=config).embedding, atol=1e-6)


def test_similarity_is_equation_8_and_symmetric():
    rng = np.random.default_rng(22)
    first, second, v = (rng.standard_normal(12) for _ in range(3))
    parameters = {"v": jnp.asarray(v, jnp.float32), "c": jnp.float32(0.3)}
    a, b = jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32)
    expected = sigmoid(v @ np.diag(np.outer(first, second)) + 0.3)
    np.testing.assert_allclose(model.similarity(parameters, a, b), expected, rtol=1e-5)
    assert model.similarity(parameters, a, b) == model.similarity(parameters, b, a)
    assert 0 < model.similarity(parameters, a, b) < 1


def test_first_similarity_tells_equal_from_unlike_unit_clips():
    parameters = model.initial_similarity(4, "unit")
    a, b = jnp.array([0.6, 0.8, 0, 0]), jnp.array([0, 0, 1.0, 0])
    np.testing.assert_allclose(model.similarity_logit(parameters, a, a), 8, rtol=1e-5)
    np.testing.assert_allclose(model.similarity_logit(parameters, a, b), -8, rtol=1e-5)
    raw = model.initial_similarity(4, "raw")
    np.testing.assert_allclose(model.similarity_logit(raw, a, a), 0.5, rtol=1e-5)


def test_head_has_the_shapes_that_its_settings_ask_for():
    config = make_config({"location_hidden": 7}, between="halve")
    head = jax.jit(model.initialise_head, static_argnums=(1, 2))(jax.random.key(0), (5, 3, 4), config)
    assert model.recurrent_grids((5, 3), config.attention, config.recurrent) == [(5, 3), (3, 2)]
    assert head["location"].hidden.shape == (12, 7) and head["location"].weights.shape == (7, 15)
    assert head["selection"].shape == head["similarity"]["v"].shape == (12,)
    assert head["initial_state"]["second"].shape == (5, 5)
    assert not head["selection"].any() and not head["initial_state"]["bias"].any()
    slices = replace(config.attention, region="slice")
    assert model.recurrent_grids((5, 3), slices, config.recurrent) == [(1, 1), (1, 1)]


def test_repeat_valid_shows_a_clip_again_from_its_start():
    frames = jnp.arange(10).reshape(2, 5)
    mask = jnp.array([[True, True, False, False, False], [True] * 5])
    np.testing.assert_array_equal(model.repeat_valid(frames, mask), [[0, 1, 0, 1, 0], [5, 6, 7, 8, 9]])


def test_standardised_features_have_mean_0_and_variance_1_whatever_their_scale():
    features = np.random.default_rng(30).standard_normal((2, 3, 4, 4, 16)).astype(np.float32)
    scaled = model.standardise(jnp.asarray(7 * features + 3))
    np.testing.assert_allclose(scaled.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.var(-1), 1, atol=1e-3)
    np.testing.assert_allclose(scaled, model.standardise(jnp.asarray(features)), atol=1e-3)


def test_features_are_used_raw_where_the_paper_is_followed():
    config = make_config(features="raw")
    parameters, (clip, mask) = random_parameters(31, config), padded(random_clip(32, 3), 3)
    raw, doubled = (encode(parameters, factor * clip, mask, config=config).embedding for factor in (1, 2))
    assert np.abs(raw - doubled).max() > 1e-3
    ours = make_config(features="standardised")
    first, second = (encode(parameters, factor * clip, mask, config=ours).embedding for factor in (1, 2))
    np.testing.assert_allclose(first, second, atol=1e-4)
