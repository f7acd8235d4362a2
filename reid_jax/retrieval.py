"""How well distances rank: CMC and average precision.

`Q` probes, `G` gallery tracklets, `E` embedding. Distances come in blocks from the device (`distances`, `reranking`),
positions are counted on the host. Of tied gallery tracklets the earlier comes first: a ranking is a function of the
distances alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reid_jax.config import Distance
from reid_jax.distances import FROM_KEY, Blocks, Embeddings, Scalar, key_blocks
from reid_jax.protocols import RetrievalTask, check_matched, matches
from reid_jax.reranking import reranked_blocks

RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class RetrievalResult:
    """How one gallery was ranked: `cmc[k - 1]` is the share of scored probes with a good match among the first k.

    `first_match` is the rank, from 1, of a probe's first good match. A probe without one in the gallery is skipped: its
    `average_precision` is nan and its `first_match` 0. `gallery_size` counts every tracklet of the gallery, junk too.
    """

    cmc: Float[np.ndarray, "G"]
    mean_ap: float
    average_precision: Float[np.ndarray, "Q"]
    first_match: Int[np.ndarray, "Q"]
    probes_scored: int
    probes_skipped: int
    gallery_size: int


def score(
    probes: Float[Embeddings, "Q E"],
    gallery: Float[Embeddings, "G E"],
    task: RetrievalTask,
    distance: Distance,
    average_precision: str,
    block: int,
    v: Float[Embeddings, "E"] | None = None,
    c: Scalar | None = None,
) -> RetrievalResult:
    """CMC and mAP of embeddings that lie in the order of `task.probe_rows` and `task.gallery_rows`.

    `distance` is `euclidean`, `cosine`, `similarity` (1 - s of Eq. 8, with its `v` and `c`) or `k_reciprocal`
    (`reranking`); `average_precision` is one of `AVERAGE_PRECISIONS`. Raises ValueError for embeddings that do not fit
    the task or are not finite, and where no probe has a good match.
    """
    _check_sizes(probes, gallery, task)
    check_matched(task)
    if average_precision not in AVERAGE_PRECISIONS:
        raise ValueError(f"average_precision is {average_precision!r}: one of {', '.join(AVERAGE_PRECISIONS)}")
    precision_of = AVERAGE_PRECISIONS[average_precision]
    precision = np.full(len(probes), np.nan)
    first_match = np.zeros(len(probes), np.int64)
    for start, keys in _blocks(probes, gallery, distance, block, v, c):
        for probe, row in enumerate(keys, start):
            good, junk = matches(task, probe)
            if len(good):
                positions = match_positions(row, good, junk)
                first_match[probe], precision[probe] = positions[0], precision_of(positions)
    scored = first_match > 0
    hits = np.bincount(first_match[scored] - 1, minlength=len(gallery))
    return RetrievalResult(
        cmc=np.cumsum(hits) / scored.sum(),
        mean_ap=float(precision[scored].mean()),
        average_precision=precision,
        first_match=first_match,
        probes_scored=int(scored.sum()),
        probes_skipped=int((~scored).sum()),
        gallery_size=len(gallery),
    )


def rank(
    probes: Float[Embeddings, "Q E"],
    gallery: Float[Embeddings, "G E"],
    task: RetrievalTask,
    distance: Distance,
    top: int,
    block: int,
    v: Float[Embeddings, "E"] | None = None,
    c: Scalar | None = None,
) -> Int[np.ndarray, "Q top"]:
    """The `top` nearest gallery tracklets of each probe, nearest first and junk left out, as rows of the table.

    -1 fills the end of a row where fewer are left. Arguments and errors are those of `score`.
    """
    _check_sizes(probes, gallery, task)
    nearest = np.full((len(probes), top), -1)
    for start, keys in _blocks(probes, gallery, distance, block, v, c):
        for probe, row in enumerate(keys, start):
            order = np.argsort(row, kind="stable")
            kept = order[~np.isin(order, matches(task, probe)[1])][:top]
            nearest[probe, : len(kept)] = task.gallery_rows[kept]
    return nearest


def distance_matrix(
    probes: Float[Embeddings, "Q E"],
    gallery: Float[Embeddings, "G E"],
    distance: Distance,
    block: int,
    v: Float[Embeddings, "E"] | None = None,
    c: Scalar | None = None,
) -> Float[np.ndarray, "Q G"]:
    """All distances at once, in float32: |a - b|, 1 - cos(a, b), 1 - s of Eq. 8, or the re-ranked one.

    `score` and `rank` sort by a monotone key of these (see `distances.key_blocks`).
    """
    finished = [FROM_KEY[distance](keys) for _, keys in _blocks(probes, gallery, distance, block, v, c)]
    return np.concatenate([np.asarray(part) for part in finished])


def match_positions(
    distances: Float[np.ndarray, "G"], good: Int[np.ndarray, "good"], junk: Int[np.ndarray, "junk"]
) -> Int[np.ndarray, "good"]:
    """Ranks, from 1 and ascending, of the good matches when the gallery is sorted by distance and junk left out.

    Equals a stable sort. A person has a handful of good matches, so counting who lies ahead of each is cheaper.
    """
    distances = distances.copy()
    distances[junk] = np.inf
    nearer = np.array([np.count_nonzero(distances < distances[row]) for row in good])
    tied_before = np.array([np.count_nonzero(distances[:row] == distances[row]) for row in good])
    return np.sort(1 + nearer + tied_before)


def trapezoid_average_precision(positions: Int[np.ndarray, "good"]) -> float:
    """MARS's official AP of ascending ranks p_i: the mean of [(i - 1) / (p_i - 1) + i / p_i] / 2, 0 / 0 being 1."""
    found = np.arange(1, len(positions) + 1)
    before = np.where(positions > 1, (found - 1) / np.maximum(positions - 1, 1), 1.0)
    return float(np.mean((before + found / positions) / 2))


def step_average_precision(positions: Int[np.ndarray, "good"]) -> float:
    """AP of most code bases, of ascending ranks p_i: the mean of i / p_i."""
    return float(np.mean(np.arange(1, len(positions) + 1) / positions))


AVERAGE_PRECISIONS: Mapping[str, Callable[[np.ndarray], float]] = {
    "trapezoid": trapezoid_average_precision,
    "step": step_average_precision,
}


def results_record(result: RetrievalResult) -> dict[str, float]:
    """Rank-1, 5, 10, 20 and mAP in percent, the probes scored and skipped, and the size of the gallery.

    A rank beyond the gallery is read at its end.
    """
    record = {f"rank{k}": 100 * float(result.cmc[min(k, len(result.cmc)) - 1]) for k in RANKS}
    record |= {"map": 100 * result.mean_ap, "probes": result.probes_scored, "skipped": result.probes_skipped}
    return record | {"gallery": result.gallery_size}


def mean_and_std(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every entry of the splits' `results_record`s, its standard deviation as `<entry>_std`, and `splits`.

    The deviation is that of the given splits (divided by their number), so 0 for a single one.
    """
    if not records:
        raise ValueError("no split to average over")
    summary = {"splits": float(len(records))}
    for name in records[0]:
        values = [record[name] for record in records]
        summary |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values))}
    return summary


def _check_sizes(probes: Embeddings, gallery: Embeddings, task: RetrievalTask) -> None:
    for side, embeddings, rows in (("probe", probes, task.probe_rows), ("gallery", gallery, task.gallery_rows)):
        if len(embeddings) != len(rows):
            raise ValueError(f"{len(embeddings)} {side} embeddings for the {len(rows)} {side} rows of {task.protocol}")


def _blocks(
    probes: Embeddings, gallery: Embeddings, distance: Distance, block: int, v: Embeddings | None, c: Scalar | None
) -> Blocks:
    if distance not in FROM_KEY:
        raise ValueError(f"distance is {distance!r}: one of {', '.join(FROM_KEY)}")
    if block < 1:
        raise ValueError(f"block is {block}: at least one probe at a time")
    size = probes.shape[1]
    if gallery.shape[1] != size or (distance == "similarity" and v is not None and np.shape(v) != (size,)):
        weights = "" if distance != "similarity" else f", v {np.shape(v)}"
        raise ValueError(f"probe embeddings have {size} values, gallery embeddings {gallery.shape[1]}{weights}")
    if distance == "k_reciprocal":
        return reranked_blocks(probes, gallery, block)
    return key_blocks(probes, gallery, distance, block, v, c)
