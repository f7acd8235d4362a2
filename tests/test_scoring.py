"""What scoring a finished run leaves, and whom it scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_runs import fit, metrics_without_time, tiny_config, tiny_splits

from reid_jax import scoring, workdir

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_an_evaluation_leaves_results_and_pictures_and_training_helped(tmp_path, capsys):
    config, folder = tiny_config(steps=120, log_every=40, checkpoint_every=60, validate_every=60), tmp_path / "run"
    assert fit(config, folder)
    results = scoring.evaluate_run(config, folder, tiny_splits())
    assert json.loads((folder / "results.json").read_text()) == results
    assert json.loads((folder / "results" / "mars_official-euclidean.json").read_text()) == results
    assert results["dataset"] == "walkers" and results["protocol"] == "mars_official"
    assert results["distance"] == "euclidean" and results["data"] == "tiny, drawn"
    rows = {scoring.TRAINED: results, **results["baselines"]}
    assert set(rows) == {scoring.TRAINED, scoring.UNTRAINED, scoring.AVERAGE, scoring.HISTOGRAM}
    for row in rows.values():
        assert (row["probes"], row["gallery"], row["skipped"]) == (4, 14, 0)
        assert 0 <= row["rank1"] <= row["rank5"] <= row["rank10"] <= row["rank20"] <= 100
        assert 0 < row["map"] <= 100
    assert results["map"] > results["baselines"][scoring.UNTRAINED]["map"]
    printed = capsys.readouterr().out
    assert "mars_official" in printed and f"{results['map']:.1f}" in printed and scoring.HISTOGRAM in printed
    for name in ("cmc.png", "attention.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_results_are_not_filed_under_a_run_that_was_begun_anew_meanwhile(tmp_path, monkeypatch):
    folder, other = tmp_path / "run", tiny_config(learning_rate=0.5)
    config = tiny_config(steps=2, baselines=False)
    assert fit(config, folder)
    scored = scoring.score_all

    def meanwhile(*given):
        workdir.write_json(folder / "config.json", workdir.to_json(other))
        return scored(*given)

    monkeypatch.setattr(scoring, "score_all", meanwhile)
    with pytest.raises(workdir.WorkDirError, match="begun anew or changed while it was scored"):
        scoring.evaluate_run(config, folder, tiny_splits())
    assert not (folder / "results.json").exists()


def test_settings_can_be_chosen_on_persons_held_out_without_a_look_at_the_test_persons(tmp_path, capsys):
    config = tiny_config(steps=2, validation_persons=3, persons="held_out", baselines=False)
    fit(config, tmp_path / "run")
    splits = replace(tiny_splits(), test=tiny_splits().test.take(np.array([0])))  # which would be no task
    results = scoring.evaluate_run(config, tmp_path / "run", splits)
    assert results["persons"] == "held_out" and (results["probes"], results["gallery"]) == (6, 9)
    assert "held out of training" in " ".join(capsys.readouterr().out.split())
    scored = [line["validation_map"] for line in metrics_without_time(tmp_path / "run") if "validation_map" in line]
    np.testing.assert_allclose(results["map"], scored[-1], rtol=1e-6)
