"""The programs of Tables IV and VII, end to end on a tiny run."""

import json
import sys
from functools import partial

import numpy as np
import pytest
from tiny_runs import fit, tiny_config, tiny_splits

from experiments import metric_learning, pooling
from reid_jax import comparison, evaluate, runs, temporal_pooling
from reid_jax import network as networks
from reid_jax.data import FrameReader, pad_clip, stack_clips
from reid_jax.protocols import PROTOCOLS
from reid_jax.sampling import WHOLE, ClipDraw

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert fit(tiny_config(steps=4, checkpoint_every=4, validate_every=4), folder)
    return folder


def start(monkeypatch, program, *arguments):
    """The program as its command starts it, on the tiny tracklets."""
    monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments)])
    monkeypatch.setattr(program.data_builders, "load", lambda config: tiny_splits())
    program.main()


def assert_own_row(row, run, **settings):
    """The row of the network as it is equals the run's own evaluation."""
    network, variables = runs.load_run(run)
    config = tiny_config(steps=4, checkpoint_every=4, validate_every=4, **settings)
    similarity = variables["head"]["similarity"]
    function = partial(networks.embed_clips, network, variables)
    expected = runs.results_record(evaluate.evaluate(function, tiny_splits().test, config, similarity))
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_metric_learning_writes_table_vii(run, monkeypatch, capsys):
    start(monkeypatch, metric_learning, "--workdir", run, "--conditions", 2)
    results = json.loads((run / "results" / "metric-learning-mars_official.json").read_text())
    assert list(results["rows"]) == ["Euclidean", "PCA", "PCA + LFDA", "PCA + KISSME", "XQDA"]
    assert_own_row(results["rows"]["Euclidean"], run, conditions=2)
    # The tiny embedding has 12 values: its PCA is a rotation, after which distances are the same.
    assert results["rows"]["PCA"]["dimensions"] == results["settings"]["pca_dimensions"] == 12
    assert results["rows"]["PCA"]["map"] == pytest.approx(results["rows"]["Euclidean"]["map"], abs=0.01)
    printed = capsys.readouterr().out
    for row in results["rows"].values():
        assert 0 < row["rank1"] <= row["rank20"] <= 100 and row["probes"] == 4
        assert f"{row['map']:.1f}" in printed
    assert results["paper"] == {}, "the paper has no walkers"


def test_a_protocol_whose_sides_see_different_frames(run, monkeypatch):
    """Two cameras, first against last frames: the maps are learnt on whole train tracklets all the same."""
    test = tiny_splits().test
    test = test.take(np.flatnonzero(test.table.person > 0))
    splits = runs.Splits(tiny_splits().train, test, "two cameras")
    monkeypatch.setattr(sys, "argv", ["metric_learning", "--workdir", str(run), "--protocol", "rcn_first_last"])
    monkeypatch.setattr(metric_learning.data_builders, "load", lambda config: splits)
    metric_learning.main()
    results = json.loads((run / "results" / "metric-learning-rcn_first_last.json").read_text())
    network, variables = runs.load_run(run)
    config = tiny_config(protocol="rcn_first_last")
    function = partial(networks.embed_clips, network, variables)
    expected = evaluate.evaluate(function, test, config, variables["head"]["similarity"])
    assert results["rows"]["Euclidean"]["map"] == pytest.approx(100 * expected.mean_ap)


def test_pooling_writes_table_iv(run, monkeypatch, capsys):
    monkeypatch.setattr(pooling, "COMPONENTS", 3)
    start(monkeypatch, pooling, "--workdir", run, "--conditions", 2)
    results = json.loads((run / "results" / "pooling-mars_official.json").read_text())
    rows = results["rows"]
    assert list(rows) == ["max", "average", "attention", "Fisher vectors, frame", "Fisher vectors, region"]
    assert_own_row(rows["attention"], run, conditions=2)
    assert rows["Fisher vectors, frame"]["dimensions"] == rows["Fisher vectors, region"]["dimensions"] == 2 * 6 * 3
    printed = capsys.readouterr().out
    for row in rows.values():
        assert 0 < row["rank1"] <= row["rank20"] <= 100 and row["probes"] == 4
        assert f"{row['map']:.1f}" in printed


def batch_of(rows, frames):
    test = tiny_splits().test
    reader, table = FrameReader(test, 16, 8), test.table
    clips = [pad_clip(reader(ClipDraw(row, 0, int(table.length[row]), WHOLE)), frames) for row in rows]
    return stack_clips(clips)


@pytest.mark.parametrize("pooling_name", ["max", "average", "attention"])
def test_a_pooling_is_what_a_network_of_that_pooling_gives(run, pooling_name):
    network, variables = runs.load_run(run)
    batch = batch_of(range(4), 9)
    own = networks.build(tiny_config(pooling=pooling_name))
    pooled = temporal_pooling.pool(network, variables, {}, batch, ("max", "average", "attention"), True)
    np.testing.assert_allclose(pooled[pooling_name], networks.embed_clips(own, variables, batch), atol=1e-6)


def test_poolings_do_not_see_padding_and_fisher_vectors_follow_their_mixture(run):
    network, variables = runs.load_run(run)
    place, names = (network, variables, tiny_splits().train, pooling.READINGS), ("max", "average", "attention")
    sample = temporal_pooling.sample_descriptors(*place, 10**6, 0, None)
    frames, regions = int(tiny_splits().train.table.length.sum()), int(np.prod(network.cube[:2]))
    assert sample["frame"].shape == (frames, 6), "every valid frame, once"
    assert sample["region"].shape == (frames * regions, 6), "every region of it, once"
    fewer = temporal_pooling.sample_descriptors(*place, frames // 2, 0, None)
    assert all(frames // 4 < len(found) < 3 * frames // 4 for found in fewer.values())
    mixtures = {reading: pooling.fisher.fit_mixture(found, 3, 1e-3, 0) for reading, found in sample.items()}
    short, long = (
        temporal_pooling.pool(network, variables, mixtures, batch_of(range(6), length), names, True)
        for length in (9, 12)
    )
    assert list(short) == list(long)
    for name in short:
        np.testing.assert_allclose(short[name], long[name], atol=2e-5, err_msg=name)
    lengths = np.linalg.norm(short["Fisher vectors, region"], axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_the_papers_numbers_stand_beside_ours(tmp_path, capsys):
    record = {"rank1": 50.0, "rank5": 60.0, "rank10": 70.0, "rank20": 80.0, "map": 40.0}
    record |= {"probes": 9, "skipped": 1, "gallery": 20, "dimensions": 5}
    for program, rows in ((metric_learning, ("Euclidean", "PCA + LFDA", "PCA + KISSME")), (pooling, ("max",))):
        for dataset, paper in program.PAPER.items():
            config = tiny_config(dataset=dataset)
            ours = dict.fromkeys((*rows, "other"), record)
            results = comparison.save_comparison(tmp_path, "x", config, "made up", {}, ours, paper)
            assert results == json.loads((tmp_path / "results" / "x-mars_official.json").read_text())
            printed = capsys.readouterr().out
            for row in rows:
                assert "  ".join(f"{figure:.1f}" for figure in paper[row]) in printed
    assert metric_learning.PAPER["mars"]["PCA + KISSME"] == (73.5, 85.0, 89.5, 97.5)
    assert pooling.PAPER["mars"]["Fisher vectors, frame"] == (70.4, 85.0, 89.6, 93.2)


def test_embed_sides_are_the_rows_of_the_task(run):
    network, variables = runs.load_run(run)
    test = tiny_splits().test
    task = PROTOCOLS["query_removed"](test.table)
    function = partial(networks.embed_clips, network, variables)
    probes, gallery = evaluate.embed_sides(function, test, task, network.config, None)
    every = evaluate.embed(function, test, network.config)
    np.testing.assert_array_equal(probes, every[task.probe_rows])
    np.testing.assert_array_equal(gallery, every[task.gallery_rows])
