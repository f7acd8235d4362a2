"""Re-ranking against the paper's sets, written with loops; what it is for; what it refuses."""

import numpy as np
import pytest
from test_protocols import make_table

from reid_jax.protocols import PROTOCOLS
from reid_jax.reranking import AVERAGED, NEIGHBOURS, ORIGINAL, reranked_blocks
from reid_jax.retrieval import distance_matrix, rank, score


def clustered(rng, persons, each, spread):
    """Points around a centre a person, and their persons."""
    person = np.repeat(np.arange(persons), each)
    centres = rng.standard_normal((persons, 12))
    return (centres[person] + spread * rng.standard_normal((len(person), 12))).astype(np.float32), person


def by_sets(probes, gallery):
    """Zhong et al. 2017, section 3, one tracklet after the other, in float64."""
    points = np.concatenate([probes, gallery]).astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    distances = np.square(points[:, None] - points).sum(-1)
    distances /= distances.max(1, keepdims=True)
    order = [list(np.argsort(row, kind="stable")) for row in distances]

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros_like(distances)
    for i in range(len(points)):
        own = reciprocal(i, NEIGHBOURS)
        grown = set(own)
        for j in own:
            theirs = reciprocal(j, NEIGHBOURS // 2)
            if len(theirs & own) > 2 / 3 * len(theirs):
                grown |= theirs
        members = sorted(grown)
        weights[i, members] = np.exp(-distances[i, members])
        weights[i] /= weights[i].sum()
    weights = np.stack([weights[row[:AVERAGED]].mean(0) for row in order])
    smaller = np.minimum(weights[: len(probes), None], weights[None, len(probes) :]).sum(-1)
    larger = np.maximum(weights[: len(probes), None], weights[None, len(probes) :]).sum(-1)
    return (1 - ORIGINAL) * (1 - smaller / larger) + ORIGINAL * distances[: len(probes), len(probes) :]


@pytest.mark.parametrize(("persons", "each", "probes"), [(12, 9, 25), (40, 3, 7), (3, 4, 5)])
def test_distances_equal_the_papers_sets(persons, each, probes):
    rng = np.random.default_rng(persons)
    points, _ = clustered(rng, persons, each, 0.6)
    points = points[rng.permutation(len(points))]
    ours = distance_matrix(points[:probes], points[probes:], "k_reciprocal", 4)
    np.testing.assert_allclose(ours, by_sets(points[:probes], points[probes:]), atol=2e-6)


def test_blocks_change_nothing():
    points, _ = clustered(np.random.default_rng(1), 20, 5, 0.5)
    whole, parts = (np.concatenate([b for _, b in reranked_blocks(points[:30], points[30:], n)]) for n in (100, 7))
    np.testing.assert_allclose(parts, whole, atol=2e-6)


def test_what_is_common_neighbours_comes_nearer():
    rng = np.random.default_rng(2)
    points, person = clustered(rng, 30, 8, 1.0)
    camera = np.tile(np.arange(1, 5), len(points) // 4)
    query = (np.arange(len(points)) % 8) == 0
    task = PROTOCOLS["query_removed"](
        make_table([(int(p) + 1, int(c), int(q)) for p, c, q in zip(person, camera, query, strict=True)])
    )
    sides = points[task.probe_rows], points[task.gallery_rows]
    plain, reranked = (score(*sides, task, name, "step", 16) for name in ("cosine", "k_reciprocal"))
    assert reranked.mean_ap > plain.mean_ap + 0.03
    nearest = rank(*sides, task, "k_reciprocal", 1, 16)[:, 0]
    assert np.mean(person[nearest] == person[task.probe_rows]) == pytest.approx(reranked.cmc[0])


def test_the_same_tracklet_many_times_is_no_division_by_zero():
    points = np.ones((60, 3), np.float32)
    assert np.isfinite(distance_matrix(points[:2], points[2:], "k_reciprocal", 8)).all()


def test_zeros_and_nothing_are_refused():
    points = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match="1 of 5 gallery embeddings are zero"):
        distance_matrix(points, points * (np.arange(5) > 0)[:, None], "k_reciprocal", 8)
    with pytest.raises(ValueError, match="nothing to rank"):
        distance_matrix(points[:0], points, "k_reciprocal", 8)
