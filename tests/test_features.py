"""Cached features: what the backbone gives, the right rows of it, and never those of something else."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import tiny_config, tiny_tracklets

from reid_jax import features
from reid_jax import network as networks
from reid_jax.data import FrameReader
from reid_jax.features import cached_features, fingerprint
from reid_jax.sampling import WHOLE, ClipDraw

pytestmark = pytest.mark.usefixtures("quick_compilation")
MIRRORED = replace(WHOLE, mirror=True)


@pytest.fixture(scope="module")
def network():
    return networks.build(tiny_config(fine_tune="frozen"))


@pytest.fixture(scope="module")
def variables(network):
    return networks.initialise(network, jax.random.key(0))


@pytest.fixture(scope="module")
def tracklets():
    return tiny_tracklets(4, longest=7)


@pytest.fixture(scope="module")
def readers(network, variables, tracklets, tmp_path_factory):
    return cached_features(network, variables, tracklets, tmp_path_factory.mktemp("features"))


def cubes(network, variables, tracklets, draw):
    """The backbone's own features of the drawn frames."""
    frames = jnp.asarray(FrameReader(tracklets, 16, 8)(draw)["frames"], jnp.float32)
    return np.asarray(network.backbone.apply(networks.backbone_variables(variables), frames, train=False))


@pytest.mark.parametrize("condition", [WHOLE, MIRRORED])
def test_cached_clips_are_the_backbones_output_in_float16(network, variables, tracklets, readers, condition):
    reader = readers(tracklets)
    for row, length in enumerate(tracklets.table.length.tolist()):
        for draw in (ClipDraw(row, 0, length, condition), ClipDraw(row, length // 2, length - length // 2, condition)):
            found = reader(draw)["features"]
            assert found.dtype == np.float16 and found.shape == (draw.count, *network.cube)
            np.testing.assert_allclose(found, cubes(network, variables, tracklets, draw), atol=2e-3)


def test_plain_and_mirrored_differ(tracklets, readers):
    draws = [ClipDraw(0, 0, 2, condition) for condition in (WHOLE, MIRRORED)]
    plain, mirrored = (readers(tracklets)(draw)["features"] for draw in draws)
    assert np.abs(plain.astype(np.float32) - mirrored).max() > 0.01


def test_a_subset_in_another_order_reads_its_own_rows(tracklets, readers):
    rows = np.array([9, 2, 5])
    chosen, whole = readers(tracklets.take(rows)), readers(tracklets)
    again = readers(tracklets.take(rows).take(np.array([2, 0])))
    for place, row in enumerate(rows):
        count = int(tracklets.table.length[row])
        expected = whole(ClipDraw(int(row), 0, count, WHOLE))["features"]
        np.testing.assert_array_equal(chosen(ClipDraw(place, 0, count, WHOLE))["features"], expected)
        if row != 2:
            place = {5: 0, 9: 1}[int(row)]
            np.testing.assert_array_equal(again(ClipDraw(place, 0, count, WHOLE))["features"], expected)


def test_features_of_a_subset_alone_are_those_of_the_whole(network, variables, tracklets, readers, tmp_path):
    """The table's rows and the records' positions differ here."""
    subset = tracklets.take(np.array([7, 3]))
    alone, whole = cached_features(network, variables, subset, tmp_path)(subset), readers(tracklets)
    for place, row in enumerate((7, 3)):
        draw = ClipDraw(place, 0, 2, MIRRORED)
        np.testing.assert_array_equal(alone(draw)["features"], whole(replace(draw, row=row))["features"])


def test_another_setting_weight_or_image_has_another_file(network, variables, tracklets):
    taller = networks.build(tiny_config(fine_tune="frozen", height=32))
    other = jax.tree.map(lambda leaf: leaf + 1e-3, variables)
    repainted = tiny_tracklets(4, longest=7, noise=21)
    assert repainted.table.length.tolist() == tracklets.table.length.tolist()
    second = [*tracklets.records]
    second[1] = {**second[1], "frames": [*second[1]["frames"][:-1], repainted.encoded(1)[-1]]}
    names = [
        fingerprint(network, variables, tracklets),
        fingerprint(network, variables, replace(tracklets, records=second)),
        fingerprint(taller, variables, tracklets),
        fingerprint(network, other, tracklets),
        fingerprint(network, variables, repainted),
        fingerprint(network, variables, tracklets.take(np.arange(5))),
        fingerprint(network, variables, tracklets.take(np.arange(len(tracklets))[::-1])),
    ]
    assert len(set(names)) == len(names)
    head = {**variables, "head": jax.tree.map(lambda leaf: leaf + 1, variables["head"])}
    assert fingerprint(network, head, tracklets) == names[0], "the head has no part in it"


def test_they_are_computed_once_and_a_stopped_computation_leaves_nothing(
    network, variables, tracklets, tmp_path, monkeypatch
):
    original, calls = features._features, []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(features, "_features", stopping)
    with pytest.raises(KeyboardInterrupt):
        cached_features(network, variables, tracklets, tmp_path)
    assert len(calls) == 2 and list(tmp_path.iterdir()) == []
    cached_features(network, variables, tracklets, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    done = len(calls)
    cached_features(network, variables, tracklets, tmp_path)
    assert len(calls) == done


def test_a_disk_without_room_is_a_clear_error_that_leaves_nothing(network, variables, tracklets, tmp_path):
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match=f"{tmp_path}: no room for .* cached features.*make room"):
            cached_features(network, variables, tracklets, tmp_path)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_a_killed_process_left_is_removed_and_a_living_one_is_left_alone(tmp_path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    here = re.sub(r"[^\w-]", "-", socket.gethostname())
    abandoned, growing, others, init = (
        tmp_path / f"set.{host}.partial{pid}"
        for host, pid in ((here, process.pid), (here, os.getpid()), ("elsewhere", process.pid), (here, 1))
    )
    for path in (abandoned, growing, others, init):
        path.write_bytes(b"half")
    monkeypatch.setattr(os, "kill", lambda pid, signal, kill=os.kill: _refuse() if pid == 1 else kill(pid, signal))
    features.remove_abandoned(tmp_path)
    assert not abandoned.exists() and growing.exists(), "this machine's"
    assert others.exists() and init.exists(), "another machine's, and another user's"


def _refuse():
    raise PermissionError(1, "Operation not permitted")
