"""Re-ranking by k-reciprocal neighbours (Zhong et al. 2017): two tracklets are near that have neighbours in common.

The neighbours are sought among probes and gallery together, so a probe's ranking depends on all other tracklets too;
nobody's person or camera is looked at. `Q` probes, `G` gallery tracklets, `N = Q + G`, `E` embedding. Distances are
squared ones of unit vectors, a block at a time; neighbours and what follows from them are sparse `N x N` arrays.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import sparse

from reid_jax.distances import Blocks, Embeddings, finite, key_blocks, unit_rows

NEIGHBOURS, AVERAGED, ORIGINAL = 20, 6, 0.3
"""k1, k2 and lambda, as published for Market-1501 and MARS."""


def reranked_blocks(probes: Float[Embeddings, "Q E"], gallery: Float[Embeddings, "G E"], block: int) -> Blocks:
    """(first probe, distances of up to `block` probes to the gallery), as `distances.key_blocks` gives them.

    A distance is (1 - lambda) times Jaccard's of two tracklets' neighbourhoods and lambda times the squared one, which
    is divided by the probe's largest. Raises ValueError as `distances.key_blocks` does under `cosine`.
    """
    sides = [unit_rows(finite(side, name), name) for side, name in ((probes, "probe"), (gallery, "gallery"))]
    points, count = jnp.concatenate(sides), len(probes)
    nearest = _nearest(points, block)
    weights = _averaged(_weighed(points, _expanded(nearest), block), nearest)
    shown = weights[count:].tocsc()
    for start, squared in key_blocks(points[:count], points, "euclidean", block):
        rows = range(start, start + len(squared))
        jaccard = np.stack([_jaccard(weights[row : row + 1], shown) for row in rows])
        yield start, ((1 - ORIGINAL) * jaccard + ORIGINAL * _relative(squared)[:, count:]).astype(np.float32)


def _nearest(points: Float[Array, "N E"], block: int) -> Int[np.ndarray, "N k"]:
    """Each tracklet's k1 + 1 nearest ones, itself among them, nearest first."""
    count = min(NEIGHBOURS + 1, len(points))
    blocks = key_blocks(points, points, "euclidean", block)
    return np.concatenate([np.asarray(jax.lax.top_k(-squared, count)[1]) for _, squared in blocks])


def _graph(nearest: Int[np.ndarray, "N k"], count: int) -> sparse.csr_array:
    """1 where the second tracklet is one of the `count` nearest of the first."""
    chosen = nearest[:, :count]
    ends = np.arange(0, chosen.size + 1, chosen.shape[1])
    return sparse.csr_array((np.ones(chosen.size, np.int32), chosen.ravel(), ends), shape=(len(nearest),) * 2)


def _reciprocal(nearest: Int[np.ndarray, "N k"], count: int) -> sparse.csr_array:
    """R(i, k): 1 where each is among the other's `count` nearest (their Eq. 3)."""
    graph = _graph(nearest, count)
    return graph.multiply(graph.T).tocsr()


def _expanded(nearest: Int[np.ndarray, "N k"]) -> sparse.csr_array:
    """R*(i, k1): R(i, k1), and with it all of R(j, k1 / 2) of a j in it of whose it has more than 2/3 (their Eq. 5)."""
    wide, narrow = _reciprocal(nearest, NEIGHBOURS + 1), _reciprocal(nearest, round(NEIGHBOURS / 2) + 1)
    shared = (wide @ narrow.T).multiply(wide).tocsr()
    shared.data = (3 * shared.data > 2 * narrow.sum(1)[shared.indices]).astype(np.int32)
    expanded = (wide + shared @ narrow).tocsr()
    expanded.eliminate_zeros()
    return expanded


def _weighed(points: Float[Array, "N E"], neighbours: sparse.csr_array, block: int) -> sparse.csr_array:
    """exp(-d) at every neighbour (their Eq. 7), each tracklet's summing to one."""
    weights = np.empty(neighbours.nnz, np.float32)
    for start, squared in key_blocks(points, points, "euclidean", block):
        ends = neighbours.indptr[start : start + len(squared) + 1]
        rows = np.repeat(np.arange(len(squared)), np.diff(ends))
        weights[ends[0] : ends[-1]] = np.exp(-_relative(squared)[rows, neighbours.indices[ends[0] : ends[-1]]])
    found = sparse.csr_array((weights, neighbours.indices, neighbours.indptr), shape=neighbours.shape)
    found.data /= np.repeat(found.sum(1), np.diff(found.indptr))
    return found


def _averaged(weights: sparse.csr_array, nearest: Int[np.ndarray, "N k"]) -> sparse.csr_array:
    """The mean of the weights of each tracklet's k2 nearest (local query expansion, their Eq. 11)."""
    count = min(AVERAGED, nearest.shape[1])
    return (_graph(nearest, count).astype(np.float32) @ weights / count).tocsr()


def _jaccard(one: sparse.csr_array, others: sparse.csc_array) -> Float[np.ndarray, "G"]:
    """1 - sum of minima / sum of maxima (their Eq. 10); both sum to one, so the maxima sum to 2 - the minima."""
    columns = others[:, one.indices]
    minima = np.minimum(columns.data, np.repeat(one.data, np.diff(columns.indptr)))
    common = np.bincount(columns.indices, minima, others.shape[0])
    return 1 - common / (2 - common)


def _relative(squared: Float[np.ndarray, "P N"]) -> Float[np.ndarray, "P N"]:
    return squared / np.maximum(squared.max(1, keepdims=True), np.finfo(np.float32).tiny)
