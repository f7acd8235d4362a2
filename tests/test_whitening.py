"""Embeddings whitened by those of the train persons: from whom the map is learnt, and when anew."""

from functools import partial

import numpy as np
import pytest
from tiny_runs import fit, tiny_config, tiny_splits

from reid_jax import evaluate, metric_learning, runs, scoring, whitening, workdir
from reid_jax import network as networks
from reid_jax.protocols import PROTOCOLS
from reid_jax.retrieval import score
from reid_jax.settings import change

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_whitening_follows_from_the_persons_trained_on_and_is_learnt_once(tmp_path, monkeypatch):
    config = tiny_config(steps=2, validation_persons=3, baselines=False, distance="cosine")
    whitened, folder, splits = change(config, {"whitening": 0.5}), tmp_path / "run", tiny_splits()
    fit(config, folder)
    before = scoring.evaluate_run(config, folder, splits)
    assert before["whitening"] == 0 and not (folder / "whitening.npz").exists()
    results = scoring.evaluate_run(whitened, folder, splits)
    network, variables = runs.load_run(folder)
    embed = partial(networks.embed_clips, network, variables)
    trained_on, task = runs.divided(config, splits)[0], PROTOCOLS["mars_official"](splits.test.table)
    assert len(trained_on) < len(splits.train)
    x = evaluate.embed(embed, trained_on.take(np.flatnonzero(trained_on.table.person > 0)), config)
    learnt = metric_learning.whitening(x, 0.5, whitening.REGULARISATION)
    test = evaluate.embed(embed, splits.test, config) @ learnt.astype(np.float32)
    expected = score(test[task.probe_rows], test[task.gallery_rows], task, "cosine", "trapezoid", 512)
    np.testing.assert_allclose(results["map"], 100 * expected.mean_ap, rtol=1e-6)
    assert results["whitening"] == 0.5 and results["map"] != before["map"]
    names = {path.name for path in (folder / "results").iterdir()}
    assert names == {"mars_official-cosine.json", "mars_official-cosine-whitened0.5.json"}

    learn, calls = whitening.learnt, []
    monkeypatch.setattr(whitening, "learnt", lambda *given: calls.append(given) or learn(*given))
    assert scoring.evaluate_run(change(whitened, {"probe_block": 2}), folder, splits)["map"] == results["map"]
    assert not calls
    (folder / "whitening.npz").write_bytes(b"damaged")
    assert scoring.evaluate_run(whitened, folder, splits)["map"] == results["map"] and len(calls) == 1
    scoring.evaluate_run(change(whitened, {"whitening": 1.0}), folder, splits)
    assert len(calls) == 2


def test_a_new_run_in_the_same_place_loses_the_map_and_one_that_goes_on_learns_another(tmp_path):
    config, folder, splits = tiny_config(steps=2, whitening=0.5, baselines=False), tmp_path / "run", tiny_splits()
    fit(config, folder)
    scoring.evaluate_run(config, folder, splits)
    first = whitening.kept_by(config, folder, 2)
    longer = change(config, {"steps": 4})
    fit(longer, folder, resume=True)
    scoring.evaluate_run(longer, folder, splits)
    assert not np.array_equal(first, whitening.kept_by(longer, folder, 4))
    workdir.open_workdir(folder, config, resume=False, overwrite=True)
    assert not (folder / "whitening.npz").exists()


def test_whitening_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="whitening is 1.5: a share"):
        tiny_config(whitening=1.5)
    with pytest.raises(ValueError, match="set whitening to 0"):
        tiny_config(whitening=0.5, distance="similarity")
