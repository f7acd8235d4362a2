"""Time of re-ranking: ours, on sparse neighbourhoods, and the dense way of the code that was published with it.

Axes: `Q` probes, `G` gallery, `N = Q + G`, `E` embedding.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from benchmarks.measuring import Row, assert_agree, interleaved, row_of, timed
from reid_jax.reranking import AVERAGED, NEIGHBOURS, ORIGINAL
from reid_jax.retrieval import distance_matrix


def dense(probes: Float[np.ndarray, "Q E"], gallery: Float[np.ndarray, "G E"]) -> Float[np.ndarray, "Q G"]:
    """`k_reciprocal` distances as torchreid has them: N x N arrays, a full sort, a loop over tracklets."""
    points = np.concatenate([probes, gallery])
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    distances = np.maximum(2 - 2 * points @ points.T, 0)
    distances /= distances.max(1, keepdims=True)
    order = np.argsort(distances, axis=1)
    weights = np.zeros_like(distances)
    for row, own in enumerate(distances):
        near = _reciprocal(order, row, NEIGHBOURS)
        found = near
        for other in near:
            theirs = _reciprocal(order, other, NEIGHBOURS // 2)
            if 3 * len(np.intersect1d(theirs, near)) > 2 * len(theirs):
                found = np.append(found, theirs)
        found = np.unique(found)
        shares = np.exp(-own[found])
        weights[row, found] = shares / shares.sum()
    weights = np.stack([weights[row[:AVERAGED]].mean(0) for row in order])
    return (1 - ORIGINAL) * _jaccard(weights, len(probes)) + ORIGINAL * distances[: len(probes), len(probes) :]


def _reciprocal(order: np.ndarray, row: int, count: int) -> np.ndarray:
    forward = order[row, : count + 1]
    return forward[(order[forward, : count + 1] == row).any(1)]


def _jaccard(weights: np.ndarray, probes: int) -> np.ndarray:
    holders = [np.flatnonzero(column) for column in weights.T]
    distances = np.empty((probes, len(weights) - probes), np.float32)
    for row in range(probes):
        common = np.zeros(len(weights), np.float32)
        for column in np.flatnonzero(weights[row]):
            rows = holders[column]
            common[rows] += np.minimum(weights[row, column], weights[rows, column])
        distances[row] = (1 - common / (2 - common))[probes:]
    return distances


def measure(quick: bool, block: int) -> Iterator[Row]:
    """A row against the dense way, at a size that it bears, and one at the size of MARS."""
    if quick:
        yield measure_size(20, 180, 16, block, 2)
        return
    yield measure_size(500, 3000, 256, block, 5)
    yield measure_size(1_980, 12_180, 256, block, 3, beside=False)


def measure_size(probes: int, gallery: int, dimensions: int, block: int, runs: int, beside: bool = True) -> Row:
    """Seconds of ours, and of the dense way beside it, on points around a centre for every eight of them."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal(((probes + gallery) // 8, dimensions), np.float32)
    person = rng.integers(len(centres), size=probes + gallery)
    points = centres[person] + rng.standard_normal((len(person), dimensions), np.float32)
    sides = points[:probes], points[probes:]

    def ours() -> np.ndarray:
        return distance_matrix(*sides, "k_reciprocal", block)

    seconds = interleaved({"ours": ours}, runs)["ours"]
    title = f"re-ranking by common neighbours: {probes} x {gallery}, {dimensions} values"
    if not beside:
        return row_of(title, seconds)
    theirs: list[np.ndarray] = []
    loop = [timed(lambda: theirs.append(dense(*sides)))]
    assert_agree({"distances": ours()}, {"distances": theirs[0]}, 1e-3)
    return row_of(title, seconds, loop, against="dense, in loops")
