"""Shares of attention: against sums over pixels, and of uniform attention itself."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_runs import tiny_config, tiny_tracklets

from experiments import attention
from reid_jax import grounding, network
from reid_jax.studies import Study
from reid_jax.tracklets import DISTRACTOR, Splits


@pytest.mark.parametrize("grid", [(4, 2), (7, 7), (6, 3)])
def test_coverage_equals_counted_pixels(grid):
    side, rng = 420, np.random.default_rng(0)
    for _ in range(5):
        x0, x1 = np.sort(rng.choice(side + 1, 2, replace=False))
        y0, y1 = np.sort(rng.choice(side + 1, 2, replace=False))
        pixels = np.zeros((side, side))
        pixels[y0:y1, x0:x1] = 1
        cells = pixels.reshape(grid[0], side // grid[0], grid[1], side // grid[1]).mean((1, 3))
        box = np.array([x0, y0, x1, y1]) / side
        np.testing.assert_allclose(grounding.box_coverage(box, grid), cells, atol=1e-12)


def test_weight_on_the_box_alone_and_beside_it():
    locations = np.zeros((2, 4, 2))
    locations[0, 1, 0] = locations[1, 3, 1] = 1.0
    boxes = np.tile([0.0, 0.25, 0.5, 0.75], (2, 1))
    attended, uniform = grounding.location_share(locations, boxes)
    np.testing.assert_allclose(attended, [1.0, 0.0])
    np.testing.assert_allclose(uniform, [0.25, 0.25])


def test_temporal_weight_needs_frames_of_both_kinds():
    selection = np.array([0.7, 0.2, 0.1])
    assert grounding.selection_share(selection, np.array([1.0, 0.9, 0.8]), 0.5) is None
    assert grounding.selection_share(selection, np.array([0.1, 0.2, 0.3]), 0.5) is None
    attended, uniform = grounding.selection_share(selection, np.array([1.0, 0.2, 0.6]), 0.5)
    assert attended == pytest.approx(0.8) and uniform == pytest.approx(2 / 3)


def with_truth(tracklets):
    """The same with boxes and visibility drawn by chance."""
    rng = np.random.default_rng(1)
    records = []
    for record in tracklets.records:
        length = len(record["frames"])
        low, high = rng.uniform(0, 0.4, (length, 2)), rng.uniform(0.6, 1, (length, 2))
        box = np.concatenate([low, high], axis=1).astype(np.float32)
        records.append(record | {"box": box, "visible": rng.uniform(0, 1, length).astype(np.float32)})
    return dataclasses.replace(tracklets, records=records)


@pytest.mark.parametrize("location", ["muted", "learned"])
def test_uniform_attention_has_the_uniform_share(location):
    config = tiny_config(location=location, pooling="average" if location == "muted" else "attention")
    tracklets = with_truth(tiny_tracklets(4, extras=True))
    built = network.build(config)
    variables = network.initialise(built, jax.random.key(0))
    where, when = grounding.measure(built, variables, tracklets, 0.5)
    known = tracklets.take(np.flatnonzero(tracklets.table.person > DISTRACTOR))
    assert where.count == known.table.length.sum(), "every frame of a person, none of junk"
    assert 0 < when.count <= len(known)
    boxes = np.concatenate([known.records[int(index)]["box"] for index in known.index])
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).mean()
    assert where.uniform == pytest.approx(area, rel=1e-5)
    if location == "muted":
        assert where.attended == pytest.approx(where.uniform, rel=1e-5)
        assert when.attended == pytest.approx(when.uniform, rel=1e-5)


def test_data_without_truth_is_refused():
    built = network.build(tiny_config())
    variables = network.initialise(built, jax.random.key(0))
    with pytest.raises(ValueError, match="no box and visible"):
        grounding.measure(built, variables, tiny_tracklets(4))


def test_the_program_prints_and_keeps_what_was_measured(tmp_path, capsys):
    tracklets = with_truth(tiny_tracklets(4, extras=True))
    built = network.build(tiny_config())
    variables = network.initialise(built, jax.random.key(0))
    attention.make(Study(tmp_path, 0, built, variables, Splits(tracklets, tracklets, "drawn")))
    kept = json.loads((tmp_path / "results" / "attention.json").read_text())
    where, when = grounding.measure(built, variables, tracklets, attention.SEEN)
    assert kept["location"] == pytest.approx(dataclasses.asdict(where))
    assert kept["temporal"] == pytest.approx(dataclasses.asdict(when))
    assert f"{100 * where.attended:.1f}" in capsys.readouterr().out
