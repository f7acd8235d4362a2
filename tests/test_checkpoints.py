"""Checkpoints: which are kept, what a restore refuses, and a disk without room."""

import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import Trainings, assert_same_state, fit, last_state, small_files_only, tiny_config

from reid_jax import runs
from reid_jax.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("quick_compilation")


def state(value, size=3):
    return {"weights": jnp.full(size, value, jnp.float32), "step": jnp.asarray(int(value), jnp.int32)}


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 700 kB: room for one tiny checkpoint, not for the next beside it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_latest_and_the_best_are_kept_and_read_back_as_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, read_only=False)
    assert checkpoints.latest() is None and checkpoints.best() is None
    for step, score in ((1, None), (2, 30.0), (3, 80.0), (4, None), (5, 70.0), (6, None)):
        checkpoints.save(step, state(step), score)
        assert checkpoints.latest() == step
    assert checkpoints.best() == 3
    checkpoints.close()
    assert sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()) == [3, 6]
    again = Checkpoints(tmp_path, read_only=False)
    assert (again.latest(), again.best()) == (6, 3)
    again.save(7, state(7), 80.0)
    assert again.best() == 7, "the last of equals"
    restored, next_batch = again.restore(7, state(0))
    np.testing.assert_array_equal(restored["weights"], np.full(3, 7.0))
    assert int(restored["step"]) == 7 and next_batch == 7
    again.close()


def test_without_scores_the_best_is_the_latest(tmp_path):
    checkpoints = Checkpoints(tmp_path, read_only=False)
    checkpoints.save(1, state(1), None)
    checkpoints.save(2, state(2), None)
    checkpoints.save(2, state(9), None)
    assert checkpoints.best() == checkpoints.latest() == 2
    assert int(checkpoints.restore(2, state(0))[0]["step"]) == 2, "a step is saved once"
    checkpoints.close()


def test_a_saved_state_is_not_touched_by_what_follows(tmp_path):
    checkpoints = Checkpoints(tmp_path, read_only=False)
    current = {"weights": jnp.zeros(300_000)}
    advance = jax.jit(lambda tree: {"weights": tree["weights"] + 1}, donate_argnums=0)
    checkpoints.save(1, current, None)
    for _ in range(5):
        current = advance(current)
    assert float(checkpoints.restore(1, current)[0]["weights"].max()) == 0.0
    checkpoints.close()


def test_reading_leaves_a_checkpoint_being_written_alone(tmp_path):
    writer = Checkpoints(tmp_path, read_only=False)
    writer.save(1, state(1), None)
    writer.close()
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.latest() == reader.best() == 1
    reader.close()
    assert unfinished.exists()
    writer = Checkpoints(tmp_path, read_only=False)
    assert writer.latest() == 1
    writer.save(2, state(2), None)
    writer.close()
    assert not unfinished.exists()


# Orbax leaves the tasks of a read that failed behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_network_or_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, read_only=False)
    checkpoints.save(1, state(1), None)
    for other in (state(1, size=4), {"other": jnp.zeros(3)}, {**state(1), "more": jnp.zeros(2)}):
        with pytest.raises(ValueError, match=f"{tmp_path}/1.*configured network"):
            checkpoints.restore(1, other)
    checkpoints.close()
    for path in (tmp_path / "1" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    damaged = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(ValueError, match=f"{tmp_path}/1.*damaged"):
        damaged.restore(1, state(1))
    (tmp_path / "1" / "state" / "_METADATA").unlink()
    with pytest.raises(ValueError, match=f"{tmp_path}/1 is gone or damaged"):
        damaged.shape(1, "weights")
    with pytest.raises(ValueError, match=f"{tmp_path}/7 is gone or damaged"):
        damaged.shape(7, "weights")
    damaged.close()


def test_a_damaged_score_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, read_only=False)
    checkpoints.save(1, state(1), 50.0)
    checkpoints.close()
    (tmp_path / "1" / "metrics" / "metrics").write_text("x")
    with pytest.raises(ValueError, match=f"{tmp_path}: a checkpoint's score .*is damaged"):
        Checkpoints(tmp_path, read_only=True)


def test_a_disk_without_room_is_told_before_anything_is_written(small_disk):
    checkpoints = Checkpoints(small_disk / "run", read_only=False)
    size = 90_000  # 360 kB of noise
    noise = {"weights": jnp.asarray(np.random.default_rng(0).normal(size=size), jnp.float32)}
    checkpoints.save(1, noise, None)
    with pytest.raises(OSError, match="run: a checkpoint could not be saved.*step 1 is whole. Make room"):
        checkpoints.save(2, noise, None)
    restored, _ = checkpoints.restore(1, noise)
    np.testing.assert_array_equal(restored["weights"], noise["weights"])
    checkpoints.close()


def test_a_run_on_a_full_disk_ends_with_a_clear_error_and_goes_on_elsewhere(small_disk, tmp_path):
    config, workdir = tiny_config(), small_disk / "run"
    text = Trainings(tmp_path).finish(config, workdir, code=1)
    assert "Traceback" not in text
    assert f"error: {workdir / 'checkpoints'}: a checkpoint could not be saved" in text.splitlines()[-1]
    assert "the checkpoint of step 2 is whole" in text
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert fit(config, workdir, resume=True)
    fit(config, tmp_path / "whole")
    assert_same_state(last_state(config, workdir), last_state(config, tmp_path / "whole"))


def test_a_write_that_fails_in_the_background_ends_the_run_at_once(tmp_path):
    config, workdir = tiny_config(), tmp_path / "run"
    fit(tiny_config(steps=4), workdir)
    before, start = last_state(config, workdir), time.monotonic()
    text = Trainings(tmp_path).finish(config, workdir, resume=True, prepare=small_files_only, code=1)
    assert time.monotonic() - start < 120
    last = text.splitlines()[-1]
    assert last.startswith(f"error: {workdir / 'checkpoints'}: a checkpoint could not be saved") and "too large" in last
    assert "the checkpoint of step 4 is whole" in last
    assert_same_state(last_state(config, workdir), before)
    assert fit(config, workdir, resume=True)
    fit(config, tmp_path / "whole")
    assert_same_state(last_state(config, workdir), last_state(config, tmp_path / "whole"))
    assert runs.load_run(workdir)[0].config == config
