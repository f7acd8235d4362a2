"""The whole network: frames against their features, Siamese branches, batch statistics, the cube's shape."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import losses, model, recurrent
from reid_jax import network as networks
from reid_jax.config import AttentionConfig, BackboneConfig, Config, DataConfig, RecurrentConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

encode_pairs = jax.jit(networks.encode_pairs, static_argnums=0)
extract = jax.jit(model.extract, static_argnums=(0, 4, 5, 6))


def make_config(backbone, height, width, **settings):
    return Config(
        data=DataConfig(height=height, width=width),
        backbone=BackboneConfig(backbone=backbone, **settings),
        recurrent=RecurrentConfig((3, 4), (3, 3), (3, 3)),
        attention=AttentionConfig(state_hidden=4),
    )


def random_variables(network, seed):
    """Variables of the network's shapes, none of them zero, with unit pre-activations and positive variances."""
    shapes = jax.eval_shape(partial(networks.draw, network), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.standard_normal(leaf.shape) * np.prod(leaf.shape[:-1], initial=1.0) ** -0.5
        return jnp.asarray(1 + 0.1 * values if path[-1].key in ("var", "scale") else values, jnp.float32)

    head = jax.tree.map(lambda leaf: draw([jax.tree_util.DictKey("head")], leaf), shapes["head"])
    rest = {name: shapes[name] for name in ("backbone", "batch_stats")}
    return {**jax.tree_util.tree_map_with_path(draw, rest), "head": head}


@cache
def small_network():
    network = networks.build(make_config("small_cnn", 16, 8, batch_norm="frozen"))
    return network, random_variables(network, 0)


def pairs(seed=1):
    """Two pairs of clips of 4 frames, of which the second pair's clips have 3 and 1."""
    frames = np.random.default_rng(seed).integers(0, 256, (2, 2, 4, 16, 8, 3), np.uint8)
    return {"frames": jnp.asarray(frames), "mask": jnp.arange(4) < jnp.array([[[4], [4]], [[3], [1]]])}


@pytest.mark.parametrize(
    ("backbone", "size", "cube"),
    [
        ("small_cnn", (64, 32), (8, 4, 128)),
        ("small_cnn", (61, 27), (8, 4, 128)),
        ("patch_cnn", (61, 27), (8, 4, 128)),
        ("rcn", (64, 32), (8, 4, 32)),
        ("rcn", (61, 27), (7, 3, 32)),
    ],
)
def test_cube_is_the_shape_of_the_features(backbone, size, cube):
    network = networks.build(make_config(backbone, *size))
    assert network.cube == cube
    frames = jax.ShapeDtypeStruct((2, 3, *size, 3), jnp.uint8)
    variables = networks.backbone_variables(random_variables(network, 2))
    apply = partial(model.extract, network.backbone, train=False)
    features, _ = jax.eval_shape(apply, variables, frames, mask=jax.ShapeDtypeStruct((2, 3), bool))
    assert features.shape == (2, 3, *cube) and features.dtype == jnp.float32


def test_networks_of_one_configuration_are_equal():
    """They are static arguments: equal ones share a compiled function."""
    config = make_config("rcn", 16, 8)
    assert networks.build(config) == networks.build(config)
    assert hash(networks.build(config)) == hash(networks.build(config))
    assert networks.build(config) != networks.build(replace(config, seed=1))


def test_initial_variables_follow_from_the_key():
    network = networks.build(make_config("rcn", 16, 8))
    first, again, other = (networks.initialise(network, jax.random.key(seed, impl="unsafe_rbg")) for seed in (0, 0, 1))
    assert set(first) == {"backbone", "batch_stats", "head"} and first["batch_stats"] == {}
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.abs(first["backbone"]["conv0"]["kernel"] - other["backbone"]["conv0"]["kernel"]).max() > 0
    assert np.abs(first["head"]["recurrent"][0].input - other["head"]["recurrent"][0].input).max() > 0


@pytest.mark.parametrize("head", ["attention", "rcn", "pooling"])
def test_no_two_parts_begin_with_the_same_numbers(head):
    config = make_config("small_cnn", 16, 8)
    config = replace(config, head=head, loss=replace(config.loss, identity=1.0, classifier="linear"))
    network = networks.build(config, persons=50)
    variables = jax.jit(partial(networks.draw, network))(jax.random.key(3))
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(variables) if leaf.size >= 64 and np.ptp(leaf) > 0]
    assert len(leaves) >= 5
    alike = [
        abs(np.corrcoef(one[:size], other[:size])[0, 1])
        for number, one in enumerate(leaves)
        for other in leaves[:number]
        if (size := min(one.size, other.size))
    ]
    assert max(alike) < 0.6


def test_pretrained_without_published_weights_is_an_error():
    network = networks.build(make_config("rcn", 16, 8, pretrained=True))
    with pytest.raises(ValueError, match="no published weights of rcn"):
        networks.initialise(network, jax.random.key(0, impl="unsafe_rbg"))


def test_frames_and_their_features_give_the_same_encodings():
    network, variables = small_network()
    batch, key = pairs(), jax.random.key(3)
    from_frames, statistics = encode_pairs(network, variables, batch, key)
    flat = {name: part.reshape(4, *part.shape[2:]) for name, part in batch.items()}
    features, _ = extract(network.backbone, networks.backbone_variables(variables), flat["frames"], flat["mask"], False)
    cached = {"features": features.reshape(2, 2, 4, *network.cube), "mask": batch["mask"]}
    from_features, _ = encode_pairs(network, variables, cached, key)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), from_frames, from_features)
    jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])

    clips = networks.encode_clips.lower(network, variables, flat).compile()(variables, flat)
    flat_pairs = jax.tree.map(lambda part: part.reshape(4, *part.shape[2:]), from_frames)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), clips, flat_pairs)


def test_frames_of_another_kind_are_refused_with_what_is_wanted():
    network, variables = small_network()
    data = network.config.data
    frames, mask = np.zeros((2, 3, data.height, data.width, 3), np.uint8), np.ones((2, 3), bool)
    for batch, words in (
        ({"frames": frames / 255.0, "mask": mask}, "frames are float"),
        ({"frames": frames[:, :, 1:], "mask": mask}, f"give uint8 .N, T, {data.height}, {data.width}, 3., RGB"),
        ({"frames": frames.transpose(0, 1, 4, 2, 3), "mask": mask}, "frames are uint8"),
        ({"frames": frames, "mask": mask[:, 1:]}, "mask is bool"),
        ({"frames": frames}, "the batch lacks mask"),
    ):
        for function in (networks.embed_clips, networks.encode_clips):
            with pytest.raises(ValueError, match=words):
                function(network, variables, batch)


def test_branches_are_siamese():
    """Clips that change places take their encodings with them, and the loss stays."""
    network, variables = small_network()
    batch = pairs()
    swapped = {name: part[:, ::-1] for name, part in batch.items()}
    encodings, other = (encode_pairs(network, variables, b, jax.random.key(0))[0] for b in (batch, swapped))
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two[:, ::-1], atol=1e-6), encodings, other)
    assert np.abs(encodings.embedding[:, 0] - encodings.embedding[:, 1]).max() > 1e-3

    def loss(embedding):
        logit = jax.vmap(partial(model.similarity_logit, variables["head"]["similarity"]))
        return losses.pair_loss(logit(embedding[:, 0], embedding[:, 1]), jnp.array([True, False]))

    np.testing.assert_allclose(loss(encodings.embedding), loss(other.embedding), rtol=1e-5)


@pytest.mark.parametrize("remat", ["none", "backbone"])
def test_what_the_backbone_leaves_out_follows_from_the_key(remat):
    settings = make_config("efficientnet_lite0", 16, 8, endpoint="stride8", stochastic_depth=0.5)
    network = networks.build(replace(settings, train=TrainConfig(remat=remat)))
    variables = random_variables(network, 0)

    @jax.jit
    def gradient(key):
        def loss(backbone):
            encodings, _ = networks.encode_pairs(network, {**variables, "backbone": backbone}, pairs(), key)
            return jnp.square(encodings.embedding).sum()

        return jax.grad(loss)(variables["backbone"])["block4"]["project"]["kernel"]

    first, again, other = (np.asarray(gradient(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3 * np.abs(first).max() > 0


def test_padding_never_reaches_the_batch_statistics():
    """The clip's own frames replace padded ones: those are never seen, and whole repeats change no statistic."""
    network, variables = small_network()
    backbone = networks.backbone_variables(variables)
    rng = np.random.default_rng(4)
    clip, *rests = (rng.integers(0, 256, (1, 3, 16, 8, 3), np.uint8) for _ in range(3))
    mask = jnp.arange(6)[None] < 3
    padded = [jnp.asarray(np.concatenate([clip, rest], 1)) for rest in rests]
    (features, first), (_, second) = (extract(network.backbone, backbone, frames, mask, True) for frames in padded)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    alone, exact = extract(network.backbone, backbone, jnp.asarray(clip), jnp.ones((1, 3), bool), True)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), first, exact)
    np.testing.assert_allclose(features[:, :3], alone, rtol=1e-3, atol=1e-4)
    changes = jax.tree.map(lambda new, old: float(np.abs(new - old).max()), first, variables["batch_stats"])
    assert min(jax.tree.leaves(changes)) > 1e-4


@pytest.mark.parametrize(
    ("settings", "moves"), [({}, True), ({"fine_tune": "frozen"}, False), ({"batch_norm": "frozen"}, False)]
)
def test_statistics_follow_the_clips_only_where_they_are_trained(settings, moves):
    network, (_, variables) = networks.build(make_config("small_cnn", 16, 8, **settings)), small_network()
    encode_abstractly = partial(networks.encode_pairs, network)
    jaxpr = jax.make_jaxpr(encode_abstractly)(variables, pairs(), jax.random.key(0)).jaxpr
    leaves = len(jax.tree.leaves(variables["batch_stats"]))
    returned = set(map(id, jaxpr.outvars[-leaves:]))
    assert (returned.isdisjoint(map(id, jaxpr.invars))) == moves


def test_bfloat16_rounds_the_backbone_and_nothing_else():
    network, variables = small_network()
    backbone = networks.backbone_variables(variables)
    frames, mask = pairs()["frames"][:, 0], pairs()["mask"][:, 0]

    def features(params, precision):
        return extract(network.backbone, {**backbone, "params": params}, frames, mask, True, precision)

    (exact, statistics), (rounded, other) = (features(backbone["params"], p) for p in ("float32", "bfloat16"))
    assert exact.dtype == rounded.dtype == jnp.float32
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-5 < difference < 0.05
    assert {leaf.dtype for leaf in jax.tree.leaves(other)} == {jnp.dtype("float32")}
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0.1, atol=0.05), statistics, other)
    slope = jax.grad(lambda params: jnp.square(features(params, "bfloat16")[0]).mean())(backbone["params"])
    assert {leaf.dtype for leaf in jax.tree.leaves(slope)} == {jnp.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_rematerialisation_gives_the_same_features_statistics_and_gradients_in_less_memory():
    network, variables = small_network()
    backbone = networks.backbone_variables(variables)
    frames, mask = pairs()["frames"][:, 0], pairs()["mask"][:, 0]

    def loss(params, remat):
        features, statistics = model.extract(
            network.backbone, {**backbone, "params": params}, frames, mask, True, "float32", remat
        )
        return jnp.square(features).mean(), (features, statistics)

    slope = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    plain, remat = (slope.lower(backbone["params"], chosen).compile() for chosen in (False, True))
    kept, computed = (compiled(backbone["params"]) for compiled in (plain, remat))
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(kept[1]))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6 * scale), kept, computed)
    assert remat.memory_analysis().temp_size_in_bytes < plain.memory_analysis().temp_size_in_bytes


def test_average_features_are_the_mean_over_valid_frames_and_the_grid():
    network, variables = small_network()
    features = np.random.default_rng(5).standard_normal((3, 4, *network.cube)).astype(np.float32)
    lengths = [4, 2, 0]
    batch = {"features": jnp.asarray(features), "mask": jnp.arange(4) < jnp.array(lengths)[:, None]}
    means = networks.average_features(network, variables, batch)
    for row, length in enumerate(lengths):
        expected = features[row, :length].mean((0, 1, 2)) if length else np.zeros(128)
        np.testing.assert_allclose(means[row], expected, atol=1e-6)


def test_a_clip_has_the_same_embedding_among_few_clips_and_among_many():
    """Though the recurrence is computed otherwise."""
    network, variables = small_network()
    few, many = 2, 32
    choose = partial(recurrent.choose_formulation, "cpu", "tfloat32", network.cube[:2], (3, 3))
    chosen = [choose(clips * 4) for clips in (few, many)]
    assert chosen == ["spatial", "frequency"]
    features = np.random.default_rng(6).standard_normal((many, 4, *network.cube)).astype(np.float32)
    mask = np.arange(4) < np.arange(1, many + 1)[:, None]
    batches = [{"features": features[:clips], "mask": mask[:clips]} for clips in (few, many)]
    alone, among = (networks.embed_clips(network, variables, batch) for batch in batches)
    assert np.abs(alone).max() > 1e-2
    np.testing.assert_allclose(alone, among[:few], atol=1e-5)
    prepared = networks.prepared(network, variables)
    for batch, expected in zip(batches, (alone, among), strict=True):
        np.testing.assert_allclose(networks.embed_clips(network, prepared, batch), expected, atol=1e-5)
