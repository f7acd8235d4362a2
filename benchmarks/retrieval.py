"""Time of ranking at the size of MARS: ours, a per-probe loop in the style of torchreid, and the matrix product alone.

    python -m benchmarks.retrieval --dimensions 12544

The table and the embeddings are made up, of MARS size: 1,980 probes, 12,180 gallery tracklets, 11 matches a probe.
Prints medians and ratios. Both rankings must give equal scores, ties sorted stably; the loop is timed as torchreid has
it, with NumPy's default sort, and takes most of the benchmark's minutes.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from reid_jax.protocols import PROTOCOLS, RetrievalTask, matches
from reid_jax.retrieval import distance_matrix, match_positions, score, step_average_precision
from reid_jax.tracklets import JUNK, TrackletTable

GALLERY, PROBES, PERSONS, CAMERAS, JUNK_SHARE, DISTRACTOR_SHARE = 12_180, 1_980, 634, 6, 0.07, 0.27


def made_up_table(rng: np.random.Generator) -> TrackletTable:
    """Tracklets with MARS's shares of junk, distractors and queries."""
    person = rng.integers(1, PERSONS + 1, GALLERY)
    kind = rng.random(GALLERY)
    person[kind < JUNK_SHARE] = JUNK
    person[kind > 1 - DISTRACTOR_SHARE] = 0
    query = np.zeros(GALLERY, bool)
    query[rng.choice(np.flatnonzero(person > 0), PROBES, replace=False)] = True
    camera = rng.integers(1, CAMERAS + 1, GALLERY)
    return TrackletTable(person, camera, np.ones(GALLERY, int), query, [""] * GALLERY)


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


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall-clock time of `function` after one call to warm up."""
    jax.block_until_ready(function())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, required=True, help="E, the size of an embedding")
    parser.add_argument("--block", type=int, default=512, help="probes whose distances are computed together")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    task = PROTOCOLS["mars_official"](made_up_table(rng))
    gallery = rng.standard_normal((GALLERY, arguments.dimensions), dtype=np.float32)
    probes, block, repeats = gallery[task.probe_rows], arguments.block, arguments.repeats
    distances = distance_matrix(probes, gallery, "euclidean", block)
    (cmc, mean_ap), (loop_cmc, loop_mean_ap) = ours(distances, task), loop_in_torchreid_style(distances, task, "stable")
    np.testing.assert_allclose(cmc, loop_cmc, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_ap, loop_mean_ap, rtol=0, atol=1e-12)

    product = jax.jit(lambda left, right: jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST))
    on_device = jnp.asarray(probes), jnp.asarray(gallery)
    ranking = median_seconds(lambda: ours(distances, task), repeats)
    loop = median_seconds(lambda: loop_in_torchreid_style(distances, task, "quicksort"), repeats)
    multiply = median_seconds(lambda: product(*on_device), repeats)
    whole = median_seconds(lambda: score(probes, gallery, task, "euclidean", "step", block).cmc, repeats)
    print(f"{PROBES} x {GALLERY}, E = {arguments.dimensions}, on {jax.devices()[0].device_kind}, medians of {repeats}")
    print(f"ranking, ours                {ranking:8.3f} s")
    print(f"ranking, torchreid's loop    {loop:8.3f} s   {loop / ranking:6.1f} x ours; scores equal to 1e-12")
    print(f"matrix product alone         {multiply:8.3f} s")
    print(f"distances and ranking, ours  {whole:8.3f} s   {whole / multiply:6.2f} x the product alone")
    print(f"peak memory of the process   {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:8.2f} GiB")


if __name__ == "__main__":
    main()
