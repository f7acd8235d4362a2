"""Several devices and several processes train and evaluate a run as one device does, and take up each other's runs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from shared_runs import shared_config, train_and_evaluate
from tiny_runs import metrics_without_time, tiny_config, tiny_splits

from reid_jax import devices, network, runs, train, tuning, workdir
from reid_jax.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compilation")
TESTS = Path(__file__).parent
PERSONS = 6
"""Of the tiny train split, less those held out."""


def start(count, local, place, *jobs):
    """`shared_runs` in a process that sees `local` devices."""
    flags = f"--xla_force_host_platform_device_count={local}"
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, str(TESTS / "shared_runs.py"), str(count), place, *jobs]
    return subprocess.Popen(
        command,
        env=os.environ | {"XLA_FLAGS": flags, tuning.THREADS: str(4 * local), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Their output, once all have ended well."""
    try:
        texts = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(texts)
    return texts


@cache
def first_state():
    return train.initial_state(network.build(shared_config(4, 1), PERSONS))


def leaves(folder):
    """Every array of the run's last checkpoint, read by one device, by its path."""
    checkpoints = Checkpoints(folder / workdir.CHECKPOINTS, read_only=True)
    state, next_batch = checkpoints.restore(checkpoints.latest(), first_state())
    checkpoints.close()
    assert next_batch == int(state.step) == 4
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def assert_same_run(folder, other):
    """The metrics, parameters, statistics and results of two runs are equal but for the order of sums."""
    lines, others = metrics_without_time(folder), metrics_without_time(other)
    assert [line.keys() for line in lines] == [line.keys() for line in others] and len(lines) == 6
    for line, expected in zip(lines, others, strict=True):
        np.testing.assert_allclose(list(line.values()), list(expected.values()), rtol=1e-4, err_msg=str(line))
    found, expected = leaves(folder), leaves(other)
    for name, leaf in found.items():
        # A step of RMSProp moves a parameter by about 1e-5.
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-3, atol=2e-6, err_msg=name)
    results, wanted = (json.loads((place / "results.json").read_text()) for place in (folder, other))
    assert results.keys() == wanted.keys() and results["map"] == pytest.approx(wanted["map"], abs=0.1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run on one device, and a copy of it after two of its four steps."""
    folder = tmp_path_factory.mktemp("alone")
    train_and_evaluate(folder / "whole", 2, 1)
    shutil.copytree(folder / "whole", folder / "half")
    train_and_evaluate(folder / "whole", 4, 1)
    return folder


def test_parameters_move_farther_than_the_comparison_tolerates(alone):
    start, end = first_state().variables["head"], leaves(alone / "whole")
    moved = [
        np.abs(end[f".variables['head']{jax.tree_util.keystr(path)}"] - leaf).max()
        for path, leaf in jax.tree_util.tree_leaves_with_path(start)
    ]
    assert np.mean(np.array(moved) > 2e-5) > 0.8


def test_eight_devices_train_and_evaluate_as_one(alone, tmp_path):
    text = finish(start(8, 8, "alone", f"{tmp_path / 'eight'}=4"))[0]
    assert "8 devices, 1 processes, meshes of [8, 5, 6]" in text
    assert_same_run(tmp_path / "eight", alone / "whole")


@pytest.mark.slow
def test_runs_trained_together_are_spread_over_the_devices(alone, tmp_path):
    text = finish(start(2, 2, "together", f"{tmp_path}=4"))[0]
    assert "2 devices, 1 processes" in text
    assert_same_run(tmp_path / "0", alone / "whole")
    assert len({metrics_without_time(tmp_path / str(seed))[-2]["loss"] for seed in range(3)}) == 3


def test_two_processes_train_as_one_and_each_goes_on_where_the_other_stopped(alone, tmp_path):
    shutil.copytree(alone / "half", tmp_path / "joined")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jobs = [f"{tmp_path / 'joined'}=4", f"{tmp_path / 'left'}=2"]
    texts = finish(*(start(0, 2, f"127.0.0.1:{port}/2/{process}", *jobs) for process in range(2)))
    assert all("4 devices, 2 processes, meshes of [4, 2, 2]" in text for text in texts)
    assert "mars_official" in texts[0] and "mars_official" not in texts[1], "the first process alone prints results"
    assert_same_run(tmp_path / "joined", alone / "whole")
    train_and_evaluate(tmp_path / "left", 4, 1)
    assert_same_run(tmp_path / "left", alone / "whole")


def test_devices_that_are_not_there_or_cannot_share_a_batch_are_named(tmp_path):
    assert jax.device_count() == 1 and devices.mesh(0) is None and devices.mesh(1, 10) is None
    with pytest.raises(ValueError, match="devices is 3: it must divide batch_pairs, 8; set it to 0"):
        shared_config(4, 3)
    with pytest.raises(ValueError, match="devices is 2: there are 1; set devices to that many at most"):
        runs.fit_run(tiny_config(devices=2), tmp_path, tiny_splits())


@pytest.mark.skipif(not devices.MAPPINGS.exists(), reason="this system does not tell a process's memory mappings")
def test_programs_are_given_back_where_they_fill_the_mappings_of_a_process():
    def held() -> int:
        return len(devices.MAPPINGS.read_bytes().splitlines())

    before, function = held(), jax.jit(lambda x: jax.numpy.tanh(x @ x.T).sum())
    for rows in range(1, 31):
        function(np.ones((rows, 3), np.float32))
    full = held()
    assert full > before + 30 and not devices.free_programs(1.0) and held() >= full
    assert devices.free_programs(0.0) and held() < before + (full - before) / 2
    assert function(np.zeros((2, 3), np.float32)) == 0
