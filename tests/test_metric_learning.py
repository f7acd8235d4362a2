"""Metric learning: closed forms against loops over pairs, a reference package, and people told apart at last."""

import types

import numpy as np
import pytest
import scipy.linalg

from reid_jax import metric_learning
from reid_jax.protocols import two_camera
from reid_jax.retrieval import score
from reid_jax.tracklets import TrackletTable


def made_up(persons=12, cameras=3, a_camera=2, size=6, telling=2, seed=0):
    """Embeddings turned at random of values of which the first ones tell persons apart, the others cameras."""
    generator = np.random.default_rng(seed)
    person, camera = (np.repeat(np.arange(1, persons + 1), cameras * a_camera), np.tile(np.arange(cameras), persons))
    camera = np.repeat(camera, a_camera)
    x = generator.normal(0, 1, (len(person), size)) * np.linspace(0.3, 4, size)
    x[:, :telling] += generator.normal(0, 2, (persons + 1, telling))[person]
    x[:, telling:] += generator.normal(0, 3, (cameras, size - telling))[camera]
    mixing = scipy.linalg.qr(np.random.default_rng(99).normal(size=(size, size)))[0]
    return x @ mixing + 5, person, camera


def covariances_by_loops(x, person, camera):
    sums, counts = [np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1],) * 2)], [0, 0]
    for i in range(len(x)):
        for j in range(i):
            if camera[i] != camera[j]:
                kind = int(person[i] != person[j])
                sums[kind] += np.outer(x[i] - x[j], x[i] - x[j])
                counts[kind] += 1
    return sums[0] / counts[0], sums[1] / counts[1]


def metric(learnt):
    return learnt @ learnt.T


def test_pca_keeps_the_directions_of_largest_variance():
    x, *_ = made_up()
    learnt = metric_learning.pca(x, 3)
    np.testing.assert_allclose(learnt.T @ learnt, np.eye(3), atol=1e-12)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(metric(learnt), metric(vectors[:, -3:]), atol=1e-9)
    np.testing.assert_array_equal(learnt, metric_learning.pca(x, 3))


def test_pca_of_embeddings_that_span_less_has_all_that_they_span():
    x, *_ = made_up()
    within = (x - x.mean(1, keepdims=True)).astype(np.float32)  # each sums to zero, as standardised features do
    learnt = metric_learning.pca(within, x.shape[1])
    assert learnt.shape == (x.shape[1], x.shape[1] - 1)
    np.testing.assert_allclose(learnt.sum(0), 0, atol=1e-4)


def test_pca_is_exact_where_scikit_learn_would_approximate():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(600, 520)) * np.arange(1, 521) ** -0.5
    found = metric_learning.pca(x, 100)
    exact = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:100].T
    np.testing.assert_allclose(np.linalg.svd(exact.T @ found, compute_uv=False), 1, atol=1e-6)


def test_pair_covariances_equal_loops_over_pairs():
    x, person, camera = made_up()
    uneven = np.random.default_rng(1).permutation(len(x))[:41]  # persons with a camera missing, in any order
    x, person, camera = x[uneven], person[uneven], camera[uneven]
    for ours, loops in zip(
        metric_learning.pair_covariances(x, person, camera), covariances_by_loops(x, person, camera), strict=True
    ):
        np.testing.assert_allclose(ours, loops, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_kissme_equals_its_closed_form_of_loops(share):
    x, person, camera = made_up()
    both = covariances_by_loops(x, person, camera)
    size = x.shape[1]
    both = [(1 - share) * part + share * np.trace(part) / size * np.eye(size) for part in both]
    values, vectors = np.linalg.eigh(np.linalg.inv(both[0]) - np.linalg.inv(both[1]))
    assert values.min() < 0 < values.max(), "the projection has nothing to do"
    expected = (vectors * np.maximum(values, 0)) @ vectors.T
    learnt = metric_learning.kissme(x, person, camera, share)
    np.testing.assert_allclose(metric(learnt), expected, rtol=1e-7, atol=1e-10)
    assert learnt.shape[1] == (values > 0).sum()


def xqda_by_loops(x, person, camera, added):
    similar, dissimilar = covariances_by_loops(x, person, camera)
    similar = similar + added * np.eye(len(similar))
    values, vectors = scipy.linalg.eigh(dissimilar, similar)
    subspace = vectors[:, values > 1]
    inner, outer = (subspace.T @ part @ subspace for part in (similar, dissimilar))
    return subspace @ (np.linalg.inv(inner) - np.linalg.inv(outer)) @ subspace.T


@pytest.mark.parametrize("cameras", [2, 3])
def test_xqda_equals_loops_and_a_generalised_eigenproblem(cameras):
    x, person, camera = made_up(cameras=cameras)
    learnt = metric_learning.xqda(x, person, camera, 0.01)
    added = 0.01 * np.square(x).sum(1).mean()
    np.testing.assert_allclose(metric(learnt), xqda_by_loops(x, person, camera, added), rtol=1e-7, atol=1e-10)
    assert 1 <= learnt.shape[1] < x.shape[1]


def test_xqda_of_fewer_embeddings_than_values_equals_loops():
    x, person, camera = made_up(persons=4, size=40)
    assert len(x) < x.shape[1]
    learnt = metric_learning.xqda(x, person, camera, 0.01)
    added = 0.01 * np.square(x).sum(1).mean()
    np.testing.assert_allclose(metric(learnt), xqda_by_loops(x, person, camera, added), rtol=1e-6, atol=1e-9)


def lfda_scatters_by_loops(x, person, neighbours):
    """Sugiyama's (2007) pairwise definitions of the local within- and between-class scatters."""
    n = len(x)
    scale = np.zeros(n)
    for i in range(n):
        others = sorted(np.linalg.norm(x[i] - x[j]) for j in range(n) if j != i and person[j] == person[i])
        scale[i] = others[min(neighbours, len(others)) - 1]
    within, between = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1],) * 2)
    for i in range(n):
        for j in range(n):
            count = (person == person[i]).sum()
            outer = np.outer(x[i] - x[j], x[i] - x[j]) / 2
            if person[i] == person[j]:
                affinity = np.exp(-np.square(x[i] - x[j]).sum() / (scale[i] * scale[j]))
                within += affinity / count * outer
                between += affinity * (1 / n - 1 / count) * outer
            else:
                between += outer / n
    return within, between


def assert_same_columns(ours, other):
    signs = np.sign((ours * other).sum(0))
    np.testing.assert_allclose(ours, other * signs, rtol=1e-5, atol=1e-7 * np.abs(other).max())


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_lfda_equals_its_definition_by_loops(share):
    x, person, _ = made_up(persons=6)
    kept = np.r_[0:3, 5:20, 24:36]  # persons with three to six tracklets
    x, person = x[kept], person[kept]
    within, between = lfda_scatters_by_loops(x, person, 4)
    within = (1 - share) * within + share * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = scipy.linalg.eigh(between, within)
    expected = (vectors * np.sqrt(values))[:, ::-1][:, :4]
    assert_same_columns(metric_learning.lfda(x, person, 4, 4, share), expected)


def test_lfda_equals_metric_learn(monkeypatch):
    reference = pytest.importorskip("metric_learn", reason="metric-learn (the extra `reference`) is not installed")
    from metric_learn import lfda as module

    # metric-learn 0.7.0 has three slips, each undone here; the test above has the definition. It partitions along axis
    # 0 and then reads a column, which is no k-th nearest distance: the transpose is what it means to read.
    corrected = types.SimpleNamespace(**vars(np))
    corrected.partition = lambda squares, k, axis: np.partition(squares, k, axis=axis).T
    monkeypatch.setattr(module, "np", corrected)
    # Its checks of the input name a keyword that scikit-learn 1.8 no longer has.
    monkeypatch.setattr(reference.LFDA, "_prepare_inputs", lambda self, x, y, **checks: (x, y))
    x, person, _ = made_up()
    weighted, plain = (
        reference.LFDA(n_components=3, k=3, embedding_type=kind).fit(x, person).components_.T
        for kind in ("weighted", "plain")
    )
    # It adds the within-class scatter to the between-class one, where Sugiyama takes it off: eigenvalues 2 too large.
    eigenvalues = np.square(weighted / plain).mean(0) - 2
    assert_same_columns(metric_learning.lfda(x, person, 3, 3, 0.0), plain * np.sqrt(eigenvalues))


def test_a_person_seen_once_or_twice_alike_is_no_trouble_for_lfda():
    x, person, _ = made_up()
    x[1] = x[0]
    x[6:12] = x[6]
    assert np.isfinite(metric_learning.lfda(np.r_[x, x[:1] + 1], np.r_[person, 99], 3, 3, 0.01)).all()


LEARNT = {
    "lfda": lambda x, person, camera: metric_learning.lfda(x, person, 6, 7, 0.01),
    "kissme": lambda x, person, camera: metric_learning.kissme(x, person, camera, 0.01),
    "xqda": lambda x, person, camera: metric_learning.xqda(x, person, camera, 0.001),
}


@pytest.mark.parametrize("name", LEARNT)
def test_unseen_persons_are_told_apart_where_euclidean_distance_fails(name):
    x, person, camera = made_up(persons=80, cameras=2, size=16, telling=6)
    train, test = person <= 40, person > 40
    test_rows = np.flatnonzero(test)
    table = TrackletTable(
        person[test],
        camera[test] + 1,
        np.ones(test.sum(), int),
        np.zeros(test.sum(), bool),
        [str(i) for i in test_rows],
    )
    task = two_camera(table)

    def rank1(embeddings):
        sides = embeddings[test_rows[task.probe_rows]], embeddings[test_rows[task.gallery_rows]]
        return score(*(side.astype(np.float32) for side in sides), task, "euclidean", "step", 512).cmc[0]

    learnt = LEARNT[name](x[train], person[train], camera[train])
    assert np.array_equal(learnt, LEARNT[name](x[train], person[train], camera[train]))
    assert rank1(x) < 0.2 < 0.5 < rank1(x @ learnt)


WHITENING = {"whitening": lambda x, person, camera: metric_learning.whitening(x, 0.5, 0.1)}


@pytest.mark.parametrize("name", [*LEARNT, *WHITENING])
def test_a_shift_changes_nothing_and_a_turn_turns_the_map(name):
    x, person, camera = made_up()
    turn = scipy.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))[0]
    learn = (LEARNT | WHITENING)[name]
    mapped = x @ learn(x, person, camera)
    turned = (x @ turn) @ learn(x @ turn, person, camera)
    distances = np.linalg.norm(mapped[:, None] - mapped, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(turned[:, None] - turned, axis=-1), distances, rtol=1e-6, atol=1e-7)
    if name != "xqda":  # whose regularisation follows the embeddings' length
        shifted = x @ learn(x + 100, person, camera)
        np.testing.assert_allclose(np.linalg.norm(shifted[:, None] - shifted, axis=-1), distances, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_whitening_is_the_covariance_to_minus_half_the_share(share):
    x = made_up()[0]
    covariance = np.cov(x.T, bias=True)
    shrunk = 0.8 * covariance + 0.2 * np.eye(6) * np.trace(covariance) / 6
    learnt = metric_learning.whitening(x, share, 0.2)
    expected = scipy.linalg.fractional_matrix_power(shrunk, -share) if share else np.eye(6)
    np.testing.assert_allclose(learnt @ learnt.T, expected, rtol=1e-9, atol=1e-12)
    whole = x @ metric_learning.whitening(x, 1.0, 0.0)
    np.testing.assert_allclose(np.cov(whole.T, bias=True), np.eye(6), atol=1e-9)


def test_what_is_wrong_is_named():
    x, person, camera = made_up()
    one = np.zeros_like(person)
    for learn in (metric_learning.kissme, metric_learning.xqda):
        with pytest.raises(ValueError, match="in 1 cameras"):
            learn(x, person, one, 0.1)
        with pytest.raises(ValueError, match="of 1 persons"):
            learn(x, one, camera, 0.1)
        with pytest.raises(ValueError, match="^0 same-person"):
            learn(x, np.arange(len(x)), camera, 0.1)
        with pytest.raises(ValueError, match="1 of 72 train embeddings are not finite"):
            learn(np.r_[x[:-1], x[-1:] * np.nan], person, camera, 0.1)
    few = np.isin(person, (1, 2))
    wide = np.tile(x[few], (1, 6))
    with pytest.raises(ValueError, match="KISSME's covariance of same-person pairs is singular"):
        metric_learning.kissme(wide, person[few], camera[few], 0.0)
    with pytest.raises(ValueError, match="LFDA's within-class scatter is singular"):
        metric_learning.lfda(wide, person[few], 2, 7, 0.0)
    with pytest.raises(ValueError, match="72 embeddings show 1 persons"):
        metric_learning.lfda(x, one, 2, 7, 0.1)
    with pytest.raises(ValueError, match="72 persons, 1 tracklets of one at most"):
        metric_learning.lfda(x, np.arange(72), 2, 7, 0.1)
    with pytest.raises(ValueError, match="7 LFDA dimensions of embeddings of 6 values"):
        metric_learning.lfda(x, person, 7, 7, 0.1)
    with pytest.raises(ValueError, match="regularisation is 1.5: a share"):
        metric_learning.kissme(x, person, camera, 1.5)
    with pytest.raises(ValueError, match="covariance is singular"):
        metric_learning.whitening(wide, 0.5, 0.0)
    with pytest.raises(ValueError, match="XQDA needs it above 0"):
        metric_learning.xqda(x, person, camera, 0.0)
    with pytest.raises(ValueError, match="7 PCA dimensions of 72 embeddings of 6 values: they span 6 at most"):
        metric_learning.pca(x, 7)
    with pytest.raises(ValueError, match="all alike"):
        metric_learning.pca(np.ones_like(x), 4)
    with pytest.raises(ValueError, match="XQDA finds no direction"):
        metric_learning.xqda(
            np.repeat(np.eye(4), 2, 0)[[0, 3, 2, 5, 4, 7, 6, 1]],
            *np.array([[1, 1, 2, 2, 3, 3, 4, 4], [1, 2] * 4]),
            100.0,
        )
