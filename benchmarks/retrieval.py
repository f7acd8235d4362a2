"""Time of ranking at the size of MARS: ours, a per-probe loop in the style of torchreid, and the matrix product alone.

The table and the embeddings are made up, of MARS size: 1,980 probes, 12,180 gallery tracklets, 11 matches a probe.
Both rankings must give equal scores for a quarter of the probes, ties sorted stably; the loop is timed for all, as
torchreid has it, with NumPy's default sort.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks import reranking
from benchmarks.measuring import Row, in_own_process, interleaved, peak_memory, row_of, single, timed
from reid_jax.config import EvaluateConfig
from reid_jax.protocols import PROTOCOLS, RetrievalTask, matches
from reid_jax.retrieval import distance_matrix, match_positions, score, step_average_precision
from reid_jax.tracklets import JUNK, TrackletTable

CAMERAS, JUNK_SHARE, DISTRACTOR_SHARE = 6, 0.07, 0.27


@dataclass(frozen=True)
class Size:
    """Tracklets, how many of them are probes, and persons."""

    gallery: int
    probes: int
    persons: int


def made_up_table(rng: np.random.Generator, size: Size) -> TrackletTable:
    """Tracklets with MARS's shares of junk and distractors."""
    person = rng.integers(1, size.persons + 1, size.gallery)
    kind = rng.random(size.gallery)
    person[kind < JUNK_SHARE] = JUNK
    person[kind > 1 - DISTRACTOR_SHARE] = 0
    query = np.zeros(size.gallery, bool)
    query[rng.choice(np.flatnonzero(person > 0), size.probes, replace=False)] = True
    camera = rng.integers(1, CAMERAS + 1, size.gallery)
    return TrackletTable(person, camera, np.ones(size.gallery, int), query, [""] * size.gallery)


def loop_in_torchreid_style(
    distances: Float[np.ndarray, "Q G"], task: RetrievalTask, sort: str
) -> tuple[np.ndarray, float]:
    """CMC and step-wise mAP as torchreid's `eval_market1501` writes them: one full argsort, then lists, probe by probe.

    Junk is added to what it drops, and the CMC is kept whole.
    """
    order = np.argsort(distances, axis=1, kind=sort)
    same_person = task.gallery_person[order] == task.probe_person[:, None]
    cmc, precisions = np.zeros(len(task.gallery_rows)), []
    for probe, ranked in enumerate(order):
        same_camera = task.gallery_camera[ranked] == task.probe_camera[probe]
        kept = ~(same_person[probe] & same_camera) & (task.gallery_person[ranked] != JUNK)
        found = same_person[probe][kept]
        if not found.any():
            continue
        cmc[np.argmax(found) :] += 1
        precision = [count / (place + 1.0) for place, count in enumerate(found.cumsum())]
        precisions.append(float(np.sum(np.asarray(precision) * found) / found.sum()))
    return cmc / len(precisions), float(np.mean(precisions))


def ours(distances: Float[np.ndarray, "Q G"], task: RetrievalTask) -> tuple[np.ndarray, float]:
    """The same from `match_positions`, as `score` calls it."""
    positions = [match_positions(row, *matches(task, probe)) for probe, row in enumerate(distances)]
    found = [ranks for ranks in positions if len(ranks)]
    cmc = np.cumsum(np.bincount([ranks[0] - 1 for ranks in found], minlength=len(task.gallery_rows))) / len(found)
    return cmc, float(np.mean([step_average_precision(ranks) for ranks in found]))


def of_first_probes(task: RetrievalTask, count: int) -> RetrievalTask:
    """The task of its first probes alone."""
    names = ("probe_rows", "probe_person", "probe_camera")
    return replace(task, **{name: getattr(task, name)[:count] for name in names})


def peak_beyond_embeddings(dimensions: int, size: Size, block: int) -> float:
    """MB that this process needed beyond its embeddings to score them; to be called in a process of its own."""
    task, probes, gallery = made_up_task(dimensions, size)
    held = peak_memory()
    score(probes, gallery, task, "euclidean", "step", block)
    return peak_memory() - held


def made_up_task(dimensions: int, size: Size) -> tuple[RetrievalTask, np.ndarray, np.ndarray]:
    """A task with the embeddings of its probes and of its gallery."""
    rng = np.random.default_rng(0)
    task = PROTOCOLS["mars_official"](made_up_table(rng, size))
    gallery = rng.standard_normal((size.gallery, dimensions), dtype=np.float32)
    return task, gallery[task.probe_rows], gallery


def measure_dimensions(dimensions: int, size: Size, block: int, runs: int) -> Iterator[Row]:
    """Seconds of the whole beside the matrix product alone, and of the ranking beside the loop."""
    task, probes, gallery = made_up_task(dimensions, size)
    distances = distance_matrix(probes, gallery, "euclidean", block)
    quarter = distances[: len(probes) // 4], of_first_probes(task, len(probes) // 4)
    for found, expected in zip(ours(*quarter), loop_in_torchreid_style(*quarter, "stable"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    product = jax.jit(lambda left, right: jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST))
    on_device = jnp.asarray(probes), jnp.asarray(gallery)
    work = {
        "ranking": lambda: ours(distances, task),
        "product": lambda: product(*on_device),
        "whole": lambda: score(probes, gallery, task, "euclidean", "step", block).cmc,
    }
    seconds = interleaved(work, runs)
    title = f"distances, ranking, CMC, mAP: {len(probes)} x {len(gallery)}, {dimensions} values"
    yield row_of(title, seconds["whole"], seconds["product"], against="the matrix product", goal=1.3)
    loop = [timed(lambda: loop_in_torchreid_style(distances, task, "quicksort"))]
    yield row_of("ranking, CMC, mAP alone", seconds["ranking"], loop, against="torchreid's loop", goal=1 / 60)
    peak = in_own_process(peak_beyond_embeddings, dimensions, size, block)
    yield single("memory beyond the embeddings", peak, "MB")


def measure(quick: bool) -> Iterator[Row]:
    """Rows at the size of MARS, with embeddings as long as the paper's; and of re-ranking."""
    block = 16 if quick else EvaluateConfig().probe_block
    whole = (16, Size(300, 50, 20), block, 2) if quick else (12_544, Size(12_180, 1_980, 634), block, 5)
    yield from measure_dimensions(*whole)
    yield from reranking.measure(quick, block)
