"""Whole runs: going on where one ended, killed and interrupted runs, the best checkpoint."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import (
    Trainings,
    assert_same_state,
    fit,
    last_state,
    metrics_without_time,
    tiny_config,
    tiny_splits,
    wait_for,
)

from reid_jax import network as networks
from reid_jax import runs, scoring, train, workdir, workers
from reid_jax.metrics_log import MetricsLog
from reid_jax.settings import change

pytestmark = pytest.mark.usefixtures("quick_compilation")
KILLED = tiny_config(steps=30, validation_persons=2, validate_every=6, checkpoint_every=2, log_every=2)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The run that the killed and interrupted ones must equal."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert fit(KILLED, folder)
    return folder


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("trainings"))


def assert_resumed_equals_whole(tmp_path, half, whole, **resumed):
    assert fit(half, tmp_path / "resumed")
    assert fit(replace(whole, **resumed), tmp_path / "resumed", resume=True)
    assert fit(whole, tmp_path / "whole")
    assert_same_state(last_state(whole, tmp_path / "resumed"), last_state(whole, tmp_path / "whole"))
    assert metrics_without_time(tmp_path / "resumed") == metrics_without_time(tmp_path / "whole")
    assert [line["step"] for line in metrics_without_time(tmp_path / "whole")] == [2, 4, 6, 8]
    assert int(last_state(whole, tmp_path / "whole")["next_batch"]) == 8


def test_a_resumed_run_equals_one_that_ran_through(tmp_path):
    assert_resumed_equals_whole(tmp_path, tiny_config(steps=4), tiny_config(steps=8))


def test_the_same_on_cached_features(tmp_path):
    settings = dict(fine_tune="frozen", cache_features=True, data_dir=str(tmp_path / "data"))
    assert_resumed_equals_whole(tmp_path, tiny_config(steps=4, **settings), tiny_config(steps=8, **settings))
    assert len(list((tmp_path / "data" / "features").iterdir())) == 1, "computed once"


@pytest.mark.slow
def test_the_same_with_batch_statistics_dropout_and_worker_processes(tmp_path):
    settings = dict(backbone="small_cnn", dropout_top=0.3)
    half, whole = tiny_config(steps=4, **settings), tiny_config(steps=8, **settings)
    assert_resumed_equals_whole(tmp_path, half, whole, data=replace(whole.data, workers=2))


def test_a_finished_run_is_not_trained_further(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state, metrics = last_state(KILLED, tmp_path / "run"), metrics_without_time(tmp_path / "run")
    assert fit(KILLED, tmp_path / "run", resume=True)
    assert_same_state(last_state(KILLED, tmp_path / "run"), state)
    assert metrics_without_time(tmp_path / "run") == metrics


def test_the_best_checkpoint_is_the_one_that_is_evaluated(uninterrupted):
    scores = {
        line["step"]: line["validation_map"] for line in metrics_without_time(uninterrupted) if "validation_map" in line
    }
    assert sorted(scores) == [6, 12, 18, 24, 30] and all(0 < score <= 100 for score in scores.values())
    best = max(scores, key=lambda step: (scores[step], step))
    kept = sorted(int(path.name) for path in (uninterrupted / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == sorted({best, 30})
    network, variables = runs.load_run(uninterrupted)
    assert network.config == KILLED
    stored = last_state(KILLED, uninterrupted, best)
    np.testing.assert_array_equal(
        variables["head"]["selection"], stored[".variables['head']['selection']"], err_msg=f"not of step {best}"
    )


def test_the_last_checkpoint_is_scored_where_that_is_asked_for(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    best = runs.chosen_step(folder)
    assert runs.chosen_step(folder, "last") == 30 and best in (6, 12, 18, 24, 30)
    last = change(KILLED, {"checkpoint": "last", "baselines": False})
    results = scoring.evaluate_run(last, folder, tiny_splits())
    assert (results["step"], results["altered"]) == (30, {"checkpoint": "last"})
    assert scoring.evaluate_run(change(last, {"checkpoint": "best"}), folder, tiny_splits())["step"] == best
    workdir.open_workdir(folder, last, resume=True, overwrite=False)
    assert runs.chosen_step(folder) == 30


def kill_until_finished(trainings, config, folder, kills, seed):
    """Trains with SIGKILLs at seeded moments; every third falls on a checkpoint being written. Returns the moments."""
    draw, moments = random.Random(seed), []
    for kill in range(kills):
        process = trainings.start(config, folder, resume=True)
        target = round(config.train.steps * 0.9 * (kill + draw.random()) / kills)

        def reached(target=target):
            lines = MetricsLog.read(folder)
            return bool(lines) and lines[-1]["step"] >= target

        def writing():
            return any((folder / "checkpoints").glob("*.orbax-checkpoint-tmp"))

        wait_for(lambda process=process, reached=reached: reached() or not process.is_alive())
        if kill % 3 == 1:
            wait_for(lambda process=process: writing() or not process.is_alive())
            moments.append((target, "writing"))
        else:
            moments.append((target, draw.random() * 0.2))
            process.join(moments[-1][1])
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, trainings.log(folder).read_text()
    trainings.finish(config, folder, resume=True)
    return moments


def assert_equals_uninterrupted(folder, uninterrupted):
    assert_same_state(last_state(KILLED, folder), last_state(KILLED, uninterrupted))
    assert metrics_without_time(folder) == metrics_without_time(uninterrupted)
    names = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (folder, uninterrupted)]
    assert names[0] == names[1]


def test_a_run_killed_at_random_moments_ends_as_if_it_never_was(trainings, uninterrupted, tmp_path):
    kill_until_finished(trainings, KILLED, tmp_path / "killed", kills=3, seed=0)
    assert_equals_uninterrupted(tmp_path / "killed", uninterrupted)


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_if_it_never_was(trainings, uninterrupted, tmp_path):
    moments = kill_until_finished(trainings, KILLED, tmp_path / "killed10", kills=10, seed=1)
    print(f"killed after step and seconds: {moments}")
    assert_equals_uninterrupted(tmp_path / "killed10", uninterrupted)


def interrupt(trainings, config, folder, number, group=False):
    """Sends a signal after the next line of metrics; returns the output."""
    before = len(MetricsLog.read(folder))
    process = trainings.start(config, folder, resume=True)
    wait_for(lambda: len(MetricsLog.read(folder)) > before or not process.is_alive())
    (os.killpg if group else os.kill)(process.pid, number)
    process.join(60)
    text = trainings.log(folder).read_text()
    assert process.exitcode == 0 and "stopped and saved" in text and "Traceback" not in text, text
    return text


def test_sigterm_and_sigint_save_and_end_and_the_run_goes_on_exactly(trainings, uninterrupted, tmp_path):
    folder = tmp_path / "interrupted"
    interrupt(trainings, KILLED, folder, signal.SIGTERM)
    first = last_state(KILLED, folder)
    assert 0 < int(first["next_batch"]) == int(first[".step"]) < 30
    interrupt(trainings, KILLED, folder, signal.SIGINT)
    assert int(first[".step"]) < int(last_state(KILLED, folder)[".step"]) < 30
    trainings.finish(KILLED, folder, resume=True)
    assert_same_state(last_state(KILLED, folder), last_state(KILLED, uninterrupted))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_with_its_worker_processes_still_saves(number, trainings, uninterrupted, tmp_path):
    config = replace(KILLED, data=replace(KILLED.data, workers=2))
    interrupt(trainings, config, tmp_path / "workers", number, group=True)
    trainings.finish(config, tmp_path / "workers", resume=True)
    assert_same_state(last_state(KILLED, tmp_path / "workers"), last_state(KILLED, uninterrupted))


def test_worker_processes_leave_signals_to_the_main_one():
    """As a scheduler sends them, to every process of a job; the main process is that of the test."""
    process = multiprocessing.get_context("spawn").Process(target=linger, daemon=True)
    process.start()
    wait_for(lambda: os.getpgid(process.pid) == process.pid)
    time.sleep(0.5)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process.pid, number)
    process.join(1)
    assert process.is_alive()
    process.kill()
    process.join()


def linger():
    """What a worker does between two batches."""
    workers.stand_apart(0, 1)
    time.sleep(100)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for a process's children")
def test_worker_processes_end_with_one_that_was_killed(trainings, tmp_path):
    config, folder = replace(KILLED, data=replace(KILLED.data, workers=2)), tmp_path / "killed"
    process = trainings.start(config, folder)
    wait_for(lambda: bool(MetricsLog.read(folder)) or not process.is_alive())
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    workers = [child for children in lists for child in children.read_text().split()]
    assert len(workers) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 30)


def test_metrics_after_resuming_between_two_lines_are_those_of_a_run_that_was_not_stopped(tmp_path):
    half = tiny_config(steps=3, log_every=2, checkpoint_every=3, validate_every=3)
    whole = replace(half, train=replace(half.train, steps=6))
    assert fit(half, tmp_path / "resumed") and fit(whole, tmp_path / "resumed", resume=True)
    assert fit(whole, tmp_path / "whole")
    lines = metrics_without_time(tmp_path / "whole")
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    assert metrics_without_time(tmp_path / "resumed") == lines


def test_a_run_without_checkpoints_cannot_be_loaded(tmp_path):
    workdir.open_workdir(tmp_path / "run", KILLED, resume=False, overwrite=False)
    with pytest.raises(workdir.WorkDirError, match="has no checkpoint yet"):
        runs.load_run(tmp_path / "run")
    with pytest.raises(workdir.WorkDirError, match="holds no run"):
        runs.load_run(tmp_path)


def test_losses_beside_eq_9_are_logged_weighed_and_their_classifier_taken_up_again(tmp_path):
    settings = dict(identity=0.5, triplet=0.25, margin=0.4, positives="all", batch_pairs=4, pairs_per_person=2, steps=2)
    fit(tiny_config(**settings), tmp_path / "run")
    line = metrics_without_time(tmp_path / "run")[0]
    expected = line["pair_loss"] + 2 * line["penalty"] + 0.5 * line["identity_loss"] + 0.25 * line["triplet_loss"]
    np.testing.assert_allclose(line["loss"], expected, rtol=1e-5)
    network, variables = runs.load_run(tmp_path / "run")
    assert network.persons == len(variables["head"]["identity"]["directions"]) == 8


def test_runs_that_differ_in_seed_split_and_paths_share_their_programs(tmp_path):
    config = tiny_config(steps=2, dropout_top=0.3, baselines=False)
    others = replace(config, seed=1, data=replace(config.data, split=3, data_dir=str(tmp_path)))
    compiled = []
    for number, one in enumerate((config, others)):
        fit(one, tmp_path / str(number))
        scoring.evaluate_run(one, tmp_path / str(number), tiny_splits())
        compiled.append((train.train_step._cache_size(), networks.embed_clips._cache_size()))
    assert compiled[0] == compiled[1]
    first, second = (metrics_without_time(tmp_path / name)[-1]["loss"] for name in "01")
    assert first != second
