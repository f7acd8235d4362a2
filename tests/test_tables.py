"""The page of results: means against NumPy, what belongs together and what does not, and the paper beside it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import tiny_config

from experiments import tables
from reid_jax import products, published, results, workdir
from reid_jax.presets import preset
from reid_jax.settings import change

BASE = preset("small", "walkers")
FULL, SUBSET = "MARS, the full data set: 8298 train and 12180 test tracklets", "MARS, a subset: 26 train and 13 test"


def finished(folder, config, seed=0, data="walkers, drawn", baselines=(), scored=None, **more):
    """A work directory with made-up results, as `evaluate_run` leaves it, of an evaluation under `scored` settings."""
    generator = np.random.default_rng([seed, config.data.split])
    ranks = np.sort(generator.uniform(20, 90, 4))
    record = dict(zip(("rank1", "rank5", "rank10", "rank20"), ranks, strict=True)) | {"map": generator.uniform(5, 60)}
    record |= {"probes": 141, "skipped": 1, "gallery": 283}
    steps = config.train.steps
    values = {
        **record, **results.record(config, change(config, scored or {}), steps, steps, data), "commit": "abc123",
        "baselines": {name: record for name in baselines}, **more,
    }  # fmt: skip
    if not folder.exists():
        workdir.open_workdir(folder, config, resume=False, overwrite=False)
    (folder / "results").mkdir(exist_ok=True)
    workdir.write_json(folder / "results" / results.file_name(values), values)
    workdir.write_json(folder / "results.json", values)
    return values


def page(root):
    """The lines of the page's tables, each as its cells, and the whole text."""
    output = root.parent / "docs" / "results.md"
    tables.main(root, output)
    text = output.read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: [cell.strip() for cell in cells] for cells in lines}, text


def test_runs_equal_but_for_their_seed_are_one_line_with_mean_and_deviation(tmp_path):
    root = tmp_path / "runs"
    records = [
        finished(root / "sweep" / f"kernels=3,seed={seed}", change(BASE, {"seed": seed, "data_dir": f"d{seed}"}), seed)
        for seed in (0, 1, 4)
    ]
    other = finished(root / "sweep" / "kernels=5,seed=0", change(BASE, {"input_kernels": (5,), "steps": 7}), 9)
    lines, _ = page(root)
    line = lines["`sweep/kernels=3`"]
    for cell, name in zip(line[4:9], results.FIGURES, strict=True):
        values = np.array([record[name] for record in records])
        assert cell == f"{values.mean():.1f} ± {values.std():.1f}"
    assert line[1:4] == ["small", "walkers", "euclidean"]
    assert line[9:] == ["141", "283", "3: seeds 0, 1, 4", "abc123"]
    alone = lines["`sweep/kernels=5,seed=0`"]
    assert alone[1] == "small: input_kernels=5, steps=7" and alone[4] == f"{other['rank1']:.1f}"
    assert alone[11] == "seed 0"


def test_splits_are_averaged_and_named_once(tmp_path):
    base, records = preset("default", "prid2011"), []
    for split in range(3):
        config = change(base, {"split": split})
        text = f"PRID 2011, the full data set: 749 sequences, published split {split} of 10 (178)"
        records.append(finished(tmp_path / "runs" / f"split={split},seed=0", config, data=text, probes=80 + split))
    lines, text = page(tmp_path / "runs")
    line = next(cells for cells in lines.values() if "abc123" in cells)
    ranks = np.array([record["rank1"] for record in records])
    assert line[2] == "full" and line[4] == f"{ranks.mean():.1f} ± {ranks.std():.1f}"
    assert line[9] == "80-82" and line[11] == "3: seed 0; splits 0, 1, 2"
    assert text.count("published splits (10) (178)") == 1 and "## PRID 2011, `two_camera`" in text


def test_what_is_scored_otherwise_or_on_other_data_is_never_averaged(tmp_path):
    root, mars = tmp_path / "runs", preset("small", "mars")
    finished(root / "a", mars, 0, SUBSET)
    finished(root / "a", mars, 1, SUBSET, scored={"distance": "similarity"})
    finished(root / "b", mars, 2, FULL)
    finished(root / "c", mars, 3, SUBSET, scored={"protocol": "query_removed"})
    finished(root / "d", mars, 4, SUBSET, scored={"average_precision": "step"})
    finished(root / "e", mars, 5, SUBSET, scored={"persons": "held_out"})
    found, problems = results.collect(root)
    assert len(found) == 6 and not problems and len(results.repeats(found)) == 6
    lines, text = page(root)
    assert (lines["`a`"][2], lines["`b`"][2], lines["`e`"][2]) == ("subset", "full", "held-out persons")
    assert text.count("## MARS") == 3 and text.count("| `a` |") == 2
    order = [
        text.index(name) for name in ("`mars_official`, average precision `trap", "precision `step`", "`query_rem")
    ]
    assert order == sorted(order)


def test_the_papers_numbers_stand_beside_its_data_sets_alone(tmp_path):
    finished(tmp_path / "runs" / "a", preset("small", "mars"), data=SUBSET)
    assert "Ours + KISSME, Table VII |  | full |  | 73.5 | 85.0 | 89.5 | 97.5 |" in page(tmp_path / "runs")[1]
    finished(tmp_path / "drawn" / "a", BASE)
    assert "paper:" not in page(tmp_path / "drawn")[1]
    # MARS's rank-20 of one model differs between two tables: both rows are there; elsewhere they are one.
    assert [len(published.chosen(dataset)) for dataset in ("mars", "ilids_vid", "prid2011", "walkers")] == [6, 5, 5, 0]


def test_baselines_are_listed_below_the_runs_that_were_scored_with_them(tmp_path):
    values = finished(tmp_path / "runs" / "a", BASE, baselines=("untrained network", "HSV histogram"))
    finished(tmp_path / "runs" / "b", change(BASE, {"frames": 8}))
    text = page(tmp_path / "runs")[1]
    below = text.partition("Baselines of the same runs")[2]
    cell = f"{values['rank1']:.1f} / {values['map']:.1f}"
    assert "| run | distance | untrained network | HSV histogram |" in below
    assert f"| `a` | euclidean | {cell} | {cell} |" in below and "`b`" not in below


def product(folder, name, dataset, **fields):
    origin = products.Provenance(dataset, "of one seed", "`a`, small", "`mars_official`")
    counts = {"scored": 5, "skipped": 1, "gallery": 9}
    given = {"title": f"Title of {name}", "statement": "What it is.", "provenance": origin, "headings": ("x", "y"),
             "rows": [("row", 12.34)], "values": {}, "probes": counts} | fields  # fmt: skip
    products.save(folder, products.make(name, **given), {})
    return folder / "paper" / name


def test_the_papers_parts_follow_in_its_order_with_pictures_of_walkers_alone(tmp_path):
    root = tmp_path / "runs"
    finished(root / "a", BASE)
    finished(root / "mars", preset("small", "mars"), data=SUBSET)
    for name, place, dataset in (("figure7", "a", "walkers"), ("figure7", "mars", "mars"), ("table4", "a", "walkers")):
        product(root / place, name, dataset).with_suffix(".png").write_bytes(f"{name} {dataset}".encode())
    nothing = products.Provenance("", "", "", "")
    product(root / "a", "complexity", "", provenance=nothing, probes={})
    _, text = page(root)
    below = text.partition("## The paper's tables and figures")[2]
    heads = re.findall(r"^### Title of (\w+)$", below, re.MULTILINE)
    assert heads == ["table4", "figure7", "complexity"]
    assert below.count("**walkers.** What it is.") == 2 and below.count("**MARS.** What it is.") == 1
    assert "- scored: `mars_official`, 5 probes scored, 1 skipped, gallery 9" in below and "| row | 12.3 |" in below
    assert f"- commit: {workdir.code_version()}" in below
    copied = {path.name: path.read_text() for path in (tmp_path / "docs" / "results").iterdir()}
    assert copied == {"a-table4.png": "table4 walkers", "a-figure7.png": "figure7 walkers"}
    assert "![Title of figure7](results/a-figure7.png)" in below
    assert "The picture is `runs/mars/paper/figure7.png`" in below


def test_unfinished_runs_are_not_there_and_damaged_ones_are_named(tmp_path, capsys):
    root = tmp_path / "runs"
    with pytest.raises(ValueError, match="is no folder"):
        tables.main(root)
    workdir.open_workdir(root / "begun", BASE, resume=False, overwrite=False)
    with pytest.raises(ValueError, match="holds no finished run"):
        tables.main(root, tmp_path / "results.md")
    finished(root / "whole", BASE)
    finished(root / "damaged", BASE)
    (root / "damaged" / "results.json").write_text("{")
    lines, _ = page(root)
    assert "`whole`" in lines and "`begun`" not in lines and "`damaged`" not in lines
    assert f"left out: {root / 'damaged' / 'results.json'} cannot be read" in capsys.readouterr().err


def test_results_without_a_commit_are_shown_as_such(tmp_path):
    finished(tmp_path / "runs" / "a", BASE)
    for path in (tmp_path / "runs" / "a").rglob("*results*/*.json"):
        path.unlink()
    path = tmp_path / "runs" / "a" / "results.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({name: values[name] for name in values if name not in ("commit", "whitening")}))
    line = page(tmp_path / "runs")[0]["`a`"]
    assert line[12] == "not recorded" and line[3] == values["distance"]


def test_a_run_scored_with_and_without_whitening_has_a_line_for_each(tmp_path):
    config = change(BASE, {"whitening": 0.5})
    finished(tmp_path / "runs" / "a", config)
    finished(tmp_path / "runs" / "a", config, 5, scored={"whitening": 0.0})
    found, _ = results.collect(tmp_path / "runs")
    assert sorted(results.compared_by(one.results) for one in found) == ["euclidean", "euclidean, whitened 0.5"]
    assert results.read(tmp_path / "runs" / "a", config)["whitening"] == 0.5


def test_what_else_lies_beside_the_evaluations_is_no_evaluation(tmp_path):
    values = finished(tmp_path / "run", BASE)
    scored = {name: values[name] for name in results.SCORED}
    for name, other in (("attention", {"share": 0.5}), ("pooling", scored | {"rows": {}})):
        workdir.write_json(tmp_path / "run" / "results" / f"{name}.json", other)
    found, problems = results.collect(tmp_path)
    assert [one.results for one in found] == [values] and not problems


def test_a_run_scored_otherwise_later_keeps_its_own_results(tmp_path):
    config = tiny_config()
    assert results.read(tmp_path / "run", config) is None
    own = finished(tmp_path / "run", config)
    finished(tmp_path / "run", config, 5, scored={"distance": "cosine"})
    assert json.loads((tmp_path / "run" / "results.json").read_text())["distance"] == "cosine"
    assert results.read(tmp_path / "run", config) == own


def test_a_run_scored_with_other_clips_later_keeps_its_own_results(tmp_path):
    config = tiny_config()
    own = finished(tmp_path / "run", config)
    other = finished(tmp_path / "run", config, 5, scored={"conditions": 10, "clip_frames": 2, "probe_block": 7})
    assert other["altered"] == {"clip_frames": 2, "conditions": 10}
    step = finished(tmp_path / "run", config, 6, scored={"average_precision": "step"})
    found, _ = results.collect(tmp_path)
    assert len(results.repeats(found)) == 3
    assert all(values in [one.results for one in found] for values in (other, step))
    assert results.read(tmp_path / "run", config) == own
    assert results.compared_by(other) == "euclidean, clip_frames=2, conditions=10"


def test_results_from_before_a_run_was_trained_longer_are_none_of_it(tmp_path):
    config = tiny_config(steps=8)
    own = finished(tmp_path / "run", config)
    finished(tmp_path / "run", config, 5, scored={"distance": "cosine"})
    longer = change(config, {"steps": 16})
    workdir.open_workdir(tmp_path / "run", longer, resume=True, overwrite=False)
    assert results.read(tmp_path / "run", config) == own and results.read(tmp_path / "run", longer) is None
    found, problems = results.collect(tmp_path)
    assert not found and len(problems) == 2 and "cosine: scored after 8 of 16 steps" in problems[0]
    new = finished(tmp_path / "run", longer, 6)
    found, problems = results.collect(tmp_path)
    assert [one.results for one in found] == [new] == [results.read(tmp_path / "run", longer)] and len(problems) == 1


def test_an_evaluation_under_settings_that_the_run_has_left_says_so(tmp_path):
    config = tiny_config(conditions=2)
    finished(tmp_path / "run", config)
    workdir.open_workdir(tmp_path / "run", change(config, {"conditions": 10}), resume=True, overwrite=False)
    found, _ = results.collect(tmp_path)
    assert [one.results["altered"] for one in found] == [{"conditions": 2}]
    assert results.read(tmp_path / "run", change(config, {"conditions": 10})) is None


def test_repeats_may_differ_in_what_changes_no_figure(tmp_path):
    for seed, free in ((0, {}), (1, {"baselines": False}), (2, {"probe_block": 7, "embed_batch": 8, "log_every": 5})):
        finished(tmp_path / "runs" / f"seed={seed}", tiny_config(seed=seed, **free), seed)
    assert [len(group) for group in results.repeats(results.collect(tmp_path / "runs")[0])] == [3]


def test_the_version_is_the_commit_of_our_own_working_copy_or_the_packages(tmp_path, monkeypatch):
    root = Path(workdir.__file__).parents[1]
    if (root / ".git").exists() and shutil.which("git"):
        version = workdir.code_version()
        assert re.fullmatch(r"(.+-g)?[0-9a-f]{7,40}(-dirty)?|v?\d[\w.]*(-dirty)?", version), version
    monkeypatch.setattr(workdir.metadata, "version", lambda name: f"{name} 1.2")
    monkeypatch.setattr(workdir, "__file__", str(tmp_path / "reid_jax" / "workdir.py"))
    assert workdir.code_version() == "reid_jax 1.2", "an installed package"
    (tmp_path / ".git").mkdir()
    assert workdir.code_version() == "reid_jax 1.2", "a working copy that git does not know"
    monkeypatch.setenv("PATH", "")
    assert workdir.code_version() == "reid_jax 1.2", "a machine without git"


def test_which_checkpoint_says_nothing_where_nobody_is_held_out():
    alone, followed = tiny_config(validation_persons=0), tiny_config(validation_persons=3)
    best, last = ({"checkpoint": choice} for choice in ("best", "last"))
    assert results.comparable(change(alone, best)) == results.comparable(change(alone, last))
    assert results.comparable(change(followed, best)) != results.comparable(change(followed, last))
