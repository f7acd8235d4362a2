"""What a run was trained on: other data is refused, longer trainings are noted, one process trains at a time."""

import json
from dataclasses import replace

import pytest
from tiny_runs import fit, tiny_config, tiny_splits, tiny_tracklets

from reid_jax import locking, origin, results, runs, scoring, studies, sweeps, workdir
from reid_jax.settings import change
from reid_jax.sweeps import Axis
from reid_jax.tracklets import Splits

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONFIG = tiny_config(steps=2, baselines=False)


def other_splits():
    """The same persons, otherwise divided."""
    splits = tiny_splits()
    return Splits(splits.test, splits.train, "tiny, the other way round")


def test_a_digest_tells_persons_cameras_lengths_and_names_apart():
    splits = tiny_splits()
    table = splits.train.table
    changed = [
        replace(table, person=table.person + 1),
        replace(table, camera=table.camera[::-1].copy()),
        replace(table, length=table.length + 1),
        replace(table, name=[f"{name}!" for name in table.name]),
    ]
    other = [replace(splits, train=replace(splits.train, table=one)) for one in changed]
    found = {origin.digest(one) for one in [splits, other_splits(), *other]}
    assert len(found) == 6
    assert origin.digest(splits) == origin.digest(replace(splits, description="in other words"))


def test_a_run_is_neither_scored_nor_resumed_nor_studied_on_other_data(tmp_path):
    folder, other = tmp_path / "run", other_splits()
    fit(CONFIG, folder)
    checkpoints = sorted(folder.glob("checkpoints/*"))
    longer = change(CONFIG, {"steps": 4})
    workdir.open_workdir(folder, longer, resume=True, overwrite=False)
    named = r"run was trained on tiny, drawn; what is loaded now is tiny, the other way round.*--manual-dir"
    for use in (
        lambda: scoring.evaluate_run(CONFIG, folder, other),
        lambda: runs.fit_run(longer, folder, other),
        lambda: studies.take_up(CONFIG, folder, other),
    ):
        with pytest.raises(workdir.WorkDirError, match=named):
            use()
    assert sorted(folder.glob("checkpoints/*")) == checkpoints and not (folder / "results.json").exists()
    assert runs.fit_run(longer, folder, tiny_splits())
    (folder / workdir.ORIGIN).unlink()
    scoring.evaluate_run(longer, folder, tiny_splits())  # a run of an earlier version, which wrote nothing down
    (folder / workdir.ORIGIN).write_text("[]")
    with pytest.raises(workdir.WorkDirError, match=r"origin.json cannot be read"):
        scoring.evaluate_run(longer, folder, tiny_splits())


def test_a_sweep_does_not_take_runs_of_another_download_for_its_own(tmp_path):
    base = change(CONFIG, {"manual_dir": "one"})
    found = sweeps.generate(base, [Axis("seed", (0,))])
    assert not sweeps.run_sweep(found, tmp_path, lambda _: tiny_splits()).failed
    loaded = []
    again = sweeps.run_sweep(found, tmp_path, lambda data: loaded.append(data) or tiny_splits())
    assert not again.failed and not loaded
    moved = sweeps.generate(change(base, {"manual_dir": "another"}), [Axis("seed", (0,))])
    assert not sweeps.run_sweep(moved, tmp_path, lambda _: tiny_splits()).failed
    with pytest.raises(workdir.WorkDirError, match="was trained on tiny, drawn"):
        sweeps.run_sweep(moved, tmp_path, lambda _: other_splits())


def test_a_training_that_was_made_longer_says_so_where_its_rate_had_a_plan(tmp_path):
    planned = change(CONFIG, {"decay": "cosine"})
    for name, config in (("whole", change(planned, {"steps": 4})), ("longer", planned), ("constant", CONFIG)):
        fit(config, tmp_path / name)
        if config.train.steps < 4:
            fit(change(config, {"steps": 4}), tmp_path / name, resume=True)
        scoring.evaluate_run(change(config, {"steps": 4}), tmp_path / name, tiny_splits())
    finished, problems = results.collect(tmp_path)
    assert not problems
    assert {one.workdir.name: results.extended(one.results) for one in finished} == {
        "whole": [], "longer": [2], "constant": [],
    }  # fmt: skip
    assert [len(group) for group in results.repeats(finished)] == [1, 1, 1]


def test_fewer_steps_than_were_taken_are_refused_and_change_nothing(tmp_path):
    folder = tmp_path / "run"
    fit(change(CONFIG, {"steps": 4}), folder)
    before = (folder / "config.json").read_bytes()
    with pytest.raises(workdir.WorkDirError, match="trained for 4 steps, steps is 2"):
        workdir.open_workdir(folder, CONFIG, resume=True, overwrite=False)
    assert (folder / "config.json").read_bytes() == before


def test_nothing_is_deleted_before_all_that_training_needs_is_there(tmp_path):
    folder = tmp_path / "run"
    fit(CONFIG, folder)

    def begin(config):
        return lambda: workdir.open_workdir(folder, config, resume=False, overwrite=True)

    before = sorted(path.name for path in folder.rglob("*"))
    for broken, message in (
        (change(CONFIG, {"endpoint": "nowhere"}), "endpoint"),
        (change(CONFIG, {"validation_persons": 500}), "validation_persons is 500"),
        (change(CONFIG, {"pretrained": True}), "no published weights"),
        (change(CONFIG, {"protocol": "two_camera"}), "two_camera"),
    ):
        splits = replace(tiny_splits(), test=three_cameras())
        with pytest.raises(ValueError, match=message):
            runs.fit_run(broken, folder, splits, begin(broken))
        assert sorted(path.name for path in folder.rglob("*")) == before, message
    assert runs.fit_run(CONFIG, folder, tiny_splits(), begin(CONFIG))


def three_cameras():
    tracklets = tiny_tracklets(4, first_person=20)
    camera = tracklets.table.camera.copy()
    camera[-1] = 5
    return replace(tracklets, table=replace(tracklets.table, camera=camera))


def test_one_process_trains_in_a_folder_at_a_time(tmp_path):
    folder = tmp_path / "run"
    with locking.alone_in(folder):
        with pytest.raises(workdir.WorkDirError, match="another process trains in"):
            runs.fit_run(CONFIG, folder, tiny_splits(), lambda: pytest.fail("the folder was opened"))
        assert list(folder.iterdir()) == []
    fit(CONFIG, folder)
    assert json.loads((folder / workdir.ORIGIN).read_text())["steps"] == [2]
