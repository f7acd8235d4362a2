"""Ranking and its scores against brute force, hand-made rankings and scikit-learn; MARS at its full size."""

import resource
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from test_protocols import make_table, read_mars_table

from reid_jax.distances import COLUMNS
from reid_jax.protocols import PROTOCOLS, matches
from reid_jax.retrieval import (
    AVERAGE_PRECISIONS,
    distance_matrix,
    match_positions,
    mean_and_std,
    rank,
    results_record,
    score,
)
from reid_jax.tracklets import JUNK, TrackletTable


def random_task(rng, size, protocol):
    """A task over persons -1 to 8 and four cameras, of which a third of the known persons' tracklets are queries."""
    person = rng.integers(-1, 9, size)
    query = (person > 0) & (rng.random(size) < 0.3)
    camera = rng.integers(1, 5, size)
    return PROTOCOLS[protocol](TrackletTable(person, camera, np.ones(size, int), query, [""] * size))


def embed(rng, task, dimensions):
    rows = rng.standard_normal((max(task.gallery_rows.max(), task.probe_rows.max()) + 1, dimensions)).astype(np.float32)
    return rows[task.probe_rows], rows[task.gallery_rows]


def brute_force(distances, task, kind):
    """CMC, AP and first match, probe by probe down the sorted gallery, as the official MATLAB code goes."""
    cmc, precisions, firsts = np.zeros(len(task.gallery_rows)), [], []
    for probe, row in enumerate(distances):
        person, camera = task.probe_person[probe], task.probe_camera[probe]
        ranked = sorted(range(len(row)), key=lambda column: (row[column], column))  # noqa: B023
        seen, found, area, first = 0, 0, 0.0, 0
        recall_before, precision_before = 0.0, 1.0
        total = np.sum((task.gallery_person == person) & (task.gallery_camera != camera))
        for column in ranked:
            same_camera = task.gallery_camera[column] == camera
            if task.gallery_person[column] == JUNK or (task.gallery_person[column] == person and same_camera):
                continue
            seen += 1
            if task.gallery_person[column] == person:
                found += 1
                first = first or seen
            if total:
                recall, precision = found / total, found / seen
                height = (precision_before + precision) / 2 if kind == "trapezoid" else precision
                area += (recall - recall_before) * height
                recall_before, precision_before = recall, precision
        firsts.append(first)
        precisions.append(area if total else np.nan)
        if first:
            cmc[first - 1 :] += 1
    return cmc / np.sum(np.array(firsts) > 0), np.array(precisions), np.array(firsts)


@pytest.mark.parametrize("kind", ["trapezoid", "step"])
@pytest.mark.parametrize("protocol", ["mars_official", "query_removed"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_brute_force(seed, protocol, kind):
    rng = np.random.default_rng(seed)
    task = random_task(rng, 70, protocol)
    probes, gallery = embed(rng, task, 3)
    result = score(probes, gallery, task, "euclidean", kind, block=8)
    distances = np.linalg.norm(probes[:, None].astype(np.float64) - gallery, axis=-1)
    cmc, precision, first = brute_force(distances, task, kind)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    np.testing.assert_allclose(result.average_precision, precision, atol=1e-12)
    np.testing.assert_array_equal(result.first_match, first)
    assert result.mean_ap == pytest.approx(np.nanmean(precision), abs=1e-12)
    assert (result.probes_scored, result.probes_skipped) == (np.sum(first > 0), np.sum(first == 0))
    assert result.gallery_size == len(gallery)


@pytest.mark.parametrize("seed", range(4))
def test_positions_of_tied_distances_follow_the_order_of_the_gallery(seed):
    rng = np.random.default_rng(seed)
    task = random_task(rng, 80, "mars_official")
    distances = rng.integers(0, 4, (len(task.probe_rows), 80)).astype(np.float32)
    for kind, precision_of in AVERAGE_PRECISIONS.items():
        _, precision, first = brute_force(distances, task, kind)
        for probe, row in enumerate(distances):
            good, junk = matches(task, probe)
            if len(good):
                positions = match_positions(row, good, junk)
                assert positions[0] == first[probe]
                assert precision_of(positions) == pytest.approx(precision[probe], abs=1e-12)


def test_a_hand_made_ranking():
    # Down the ranking of the probe (person 1, camera 1): itself (junk), a distractor, a match, junk, the same camera
    # (junk), person 2, a match, a distractor. Without junk the matches stand at 2 and 4 of 5.
    table = make_table([(1, 1, 1), (0, 2, 0), (1, 2, 0), (-1, 2, 0), (1, 1, 0), (2, 1, 0), (1, 3, 0), (0, 1, 0)])
    gallery = np.arange(8, dtype=np.float32)[:, None]
    task = PROTOCOLS["mars_official"](table)
    trapezoid = score(gallery[:1], gallery, task, "euclidean", "trapezoid", block=4)
    step = score(gallery[:1], gallery, task, "euclidean", "step", block=4)
    assert trapezoid.first_match.tolist() == [2]
    assert trapezoid.cmc.tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    assert trapezoid.mean_ap == pytest.approx(((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)
    assert step.mean_ap == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert rank(gallery[:1], gallery, task, "euclidean", 6, block=4).tolist() == [[1, 2, 5, 6, 7, -1]]
    assert results_record(step) == {
        "rank1": 0.0, "rank5": 100.0, "rank10": 100.0, "rank20": 100.0,
        "map": 50.0, "probes": 1, "skipped": 0, "gallery": 8,
    }  # fmt: skip


def test_a_match_at_the_top_scores_one_under_both_precisions():
    for precision_of in AVERAGE_PRECISIONS.values():
        assert precision_of(np.array([1])) == 1.0
        assert precision_of(np.array([1, 2, 3])) == 1.0


def test_step_precision_equals_scikit_learn():
    rng = np.random.default_rng(5)
    for _ in range(20):
        relevant = rng.random(40) < 0.2
        relevant[rng.integers(40)] = True
        distances = rng.permutation(40).astype(np.float32)
        positions = match_positions(distances, np.flatnonzero(relevant), np.array([], int))
        expected = average_precision_score(relevant, -distances)
        assert AVERAGE_PRECISIONS["step"](positions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("columns", [1, 4, 1024])
@pytest.mark.parametrize("block", [1, 5, 16, 100])
def test_distances_equal_float64_and_do_not_depend_on_the_block(block, columns, monkeypatch):
    """Nor on how many of the nine columns are multiplied at a time: one, three, or all."""
    monkeypatch.setattr("reid_jax.distances.COLUMNS", columns)
    rng = np.random.default_rng(6)
    probes, gallery = rng.standard_normal((16, 9)), rng.standard_normal((23, 9))
    v, c = rng.standard_normal(9), 0.3
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (probes, gallery)]
    expected = {
        "euclidean": np.linalg.norm(probes[:, None] - gallery, axis=-1),
        "cosine": 1 - unit[0] @ unit[1].T,
        "similarity": 1 - 1 / (1 + np.exp(-(probes[:, None] * gallery @ v + c))),
    }
    for distance, reference in expected.items():
        ours = distance_matrix(probes.astype(np.float32), gallery.astype(np.float32), distance, block, v, c)
        np.testing.assert_allclose(ours, reference, atol=2e-6, err_msg=distance)
        alone = distance_matrix(probes[:1].astype(np.float32), gallery.astype(np.float32), distance, block, v, c)
        np.testing.assert_allclose(alone, reference[:1], atol=2e-6, err_msg=f"{distance} of one probe")


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0, 1, 16])
def test_arrays_of_the_host_give_what_the_devices_give_and_stay_as_they_are(distance, offset):
    """Wherever they lie in memory, of either precision, contiguous or not."""
    room = np.random.default_rng(12).standard_normal(offset + 20 * 7).astype(np.float32)
    gallery = room[offset:].reshape(20, 7)
    before = gallery.copy()
    expected = distance_matrix(jax.device_put(gallery[:6]), jax.device_put(gallery), distance, 4)
    kinds = {"as it is": gallery, "double": gallery.astype(np.float64), "columns": np.asfortranarray(gallery)}
    for kind, array in kinds.items():
        ours = distance_matrix(array[:6], array, distance, 4)
        np.testing.assert_allclose(ours, expected, atol=1e-3, err_msg=kind)  # 0 of equal rows is the root of rounding
        np.testing.assert_allclose(ours[expected > 0.01], expected[expected > 0.01], rtol=1e-5, err_msg=kind)
    np.testing.assert_array_equal(gallery, before)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "similarity"])
def test_an_accelerator_transforms_the_sides_itself_to_the_same_distances(distance, monkeypatch):
    rng = np.random.default_rng(13)
    probes, gallery = rng.standard_normal((6, 9), np.float32), rng.standard_normal((20, 9), np.float32)
    v, c = rng.standard_normal(9).astype(np.float32), 0.3
    expected = distance_matrix(probes, gallery, distance, 4, v, c)
    # The code that it runs, on this machine's devices: only the arrays' kind follows from the backend's name.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    ours = distance_matrix(probes, gallery, distance, 4, v, c)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_large_common_mean_does_not_drown_small_distances(distance):
    rng = np.random.default_rng(7)
    rows = (100 + 0.01 * rng.standard_normal((30, 64))).astype(np.float32)
    exact = rows.astype(np.float64)
    if distance == "cosine":
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    expected = np.linalg.norm(exact[:8, None] - exact, axis=-1)
    expected = expected if distance == "euclidean" else expected**2 / 2
    apart = expected > 0
    ours = distance_matrix(rows[:8], rows, distance, 8)
    np.testing.assert_allclose(ours[apart], expected[apart], rtol=1e-2)


def test_a_saturated_similarity_still_ranks():
    # Logits of 30 to 33: s rounds to 1 in float32, but the order is that of the logits.
    task = PROTOCOLS["two_camera"](make_table([(1, 1, 0), (2, 2, 0), (3, 2, 0), (4, 2, 0), (1, 2, 0)]))
    gallery = np.array([[30], [31], [32], [33]], np.float32)
    v, c = np.ones(1, np.float32), 0.0
    result = score(np.ones((1, 1), np.float32), gallery, task, "similarity", "step", 1, v, c)
    assert result.first_match.tolist() == [1]
    far = score(np.ones((1, 1), np.float32), -gallery, task, "similarity", "step", 1, v, c)
    assert far.first_match.tolist() == [4]
    assert np.all(np.diff(distance_matrix(np.ones((1, 1), np.float32), gallery, "similarity", 1, v, c)) < 0)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "similarity"])
def test_ranked_rows_are_the_stable_order_of_the_distances(distance):
    rng = np.random.default_rng(8)
    task = random_task(rng, 60, "query_removed")
    probes, gallery = embed(rng, task, 5)
    v, c = rng.standard_normal(5).astype(np.float32), 0.1
    distances = distance_matrix(probes, gallery, distance, 7, v, c)
    nearest = rank(probes, gallery, task, distance, 6, 7, v, c)
    for probe, row in enumerate(distances):
        kept = np.delete(np.arange(len(row)), matches(task, probe)[1])
        expected = task.gallery_rows[kept[np.argsort(row[kept], kind="stable")[:6]]]
        np.testing.assert_array_equal(nearest[probe], expected)


@pytest.mark.parametrize("columns", [5, 1024])
def test_blocks_compile_once(caplog, columns, monkeypatch):
    monkeypatch.setattr("reid_jax.distances.COLUMNS", columns)
    task = random_task(np.random.default_rng(9), 50, "mars_official")
    probes, gallery = embed(np.random.default_rng(9), task, 13)
    assert len(probes) % 4
    with jax.log_compiles():
        score(probes, gallery, task, "euclidean", "step", block=4)
    assert sum("Finished XLA compilation of jit(_keys)" in record.message for record in caplog.records) == 1


def test_bad_input_is_refused_with_a_reason():
    rng = np.random.default_rng(10)
    task = random_task(rng, 40, "mars_official")
    probes, gallery = embed(rng, task, 4)
    broken = gallery.copy()
    broken[[3, 7], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 40 gallery embeddings are not finite"):
        score(probes, broken, task, "euclidean", "step", 8)
    with pytest.raises(ValueError, match="overflow float32"):
        score(probes, gallery * np.float32(1e25), task, "euclidean", "step", 8)
    for distance in ("cosine", "k_reciprocal"):
        with pytest.raises(ValueError, match="lengths of gallery embeddings overflow float32"):
            score(probes, gallery * np.float32(1e25), task, distance, "step", 8)
        with pytest.raises(ValueError, match="not finite"):
            score(probes, broken, task, distance, "step", 8)
    with pytest.raises(ValueError, match="1 of 40 gallery embeddings are zero"):
        score(probes, gallery * (np.arange(40) != 2)[:, None], task, "cosine", "step", 8)
    with pytest.raises(ValueError, match="39 gallery embeddings for the 40 gallery rows of mars_official"):
        score(probes, gallery[:-1], task, "euclidean", "step", 8)
    with pytest.raises(ValueError, match="needs v and c"):
        score(probes, gallery, task, "similarity", "step", 8)
    with pytest.raises(ValueError, match="block is 0"):
        score(probes, gallery, task, "euclidean", "step", 0)
    lonely = PROTOCOLS["two_camera"](make_table([(1, 1, 0), (2, 2, 0)]))
    with pytest.raises(ValueError, match="none of the 1 probes of two_camera has a match"):
        score(probes[:1], gallery[:1], lonely, "euclidean", "step", 8)


WITHOUT_TYPES = """
import numpy as np
from reid_jax.protocols import PROTOCOLS
from reid_jax.retrieval import score
from reid_jax.tracklets import TrackletTable
table = TrackletTable(np.array([1, 1]), np.array([1, 2]), np.array([1, 1]), np.array([True, False]), ["a", "b"])
task, one, both = PROTOCOLS["mars_official"](table), np.ones((1, 4), np.float32), np.ones((2, 4), np.float32)
for given in (
    (one, both[:, :3], task, "euclidean", "step", 8),
    (one, both[:, :3], task, "cosine", "step", 8),
    (one, both[:, :3], task, "k_reciprocal", "step", 8),
    (one, both, task, "similarity", "step", 8, np.ones(3, np.float32), 0.0),
    (one, both, task, "Euclidean", "step", 8),
    (one, both, task, "euclidean", "Step", 8),
):
    try:
        print(score(*given))
    except ValueError as error:
        print(error)
"""


def test_embeddings_and_names_that_do_not_fit_are_said_where_types_are_not_checked():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TYPES], capture_output=True, text=True, timeout=100)
    widths = "probe embeddings have 4 values, gallery embeddings"
    assert done.stdout.splitlines() == [
        *[f"{widths} 3"] * 3,
        f"{widths} 4, v (3,)",
        "distance is 'Euclidean': one of euclidean, cosine, similarity, k_reciprocal",
        "average_precision is 'Step': one of trapezoid, step",
    ], done.stderr


def test_mean_and_deviation_over_splits():
    summary = mean_and_std([{"rank1": 40.0, "map": 30.0}, {"rank1": 50.0, "map": 30.0}])
    assert summary == {"splits": 2.0, "rank1": 45.0, "rank1_std": 5.0, "map": 30.0, "map_std": 0.0}


@pytest.mark.parametrize("dimensions", [256, pytest.param(12_544, marks=pytest.mark.slow)])
def test_mars_at_full_size(dimensions, record_property):
    table = read_mars_table()
    # The peak is that of the whole process, so what ran before is taken off.
    embeddings = np.random.default_rng(11).standard_normal((len(table), dimensions), dtype=np.float32)
    for protocol, scored, skipped, size in (("mars_official", 1980, 0, 12180), ("query_removed", 1840, 140, 10200)):
        task = PROTOCOLS[protocol](table)
        probes, gallery = embeddings[task.probe_rows], embeddings[task.gallery_rows]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, used = time.perf_counter(), time.process_time()
        result = score(probes, gallery, task, "euclidean", "trapezoid", block=512)
        wall, used = time.perf_counter() - wall, time.process_time() - used
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        record_property(f"{protocol}_seconds", wall)
        print(f"{protocol}, E = {dimensions}: {wall:.2f} s, {used:.2f} CPU s, peak grew by {grown / 2**30:.2f} GiB")
        assert (result.probes_scored, result.probes_skipped, result.gallery_size) == (scored, skipped, size)
        # A random ranking: a probe's mean AP is near the share of its matches in the gallery.
        assert 0 < result.mean_ap < 0.01
        # Twenty seconds of two cores, counted in CPU time: other processes of the machine must not fail the test.
        assert used < 40
        # Two parts of the gallery, as they are and as XLA's product packs them, and a few blocks: no copy of it all.
        assert grown < 4 * 4 * COLUMNS * size + 8 * 512 * size * 4
