"""Embedding a user's own folders of images."""

from functools import partial

import numpy as np
import pytest
from tiny_runs import fit, tiny_config, tiny_splits

from experiments import embed
from reid_jax import evaluate, network, runs, whitening, workdir

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make(root, **lengths):
    for name, length in lengths.items():
        (root / name).mkdir(parents=True)
        for number in range(length):
            (root / name / f"{number:03}.jpg").write_bytes(f"{name} {number}".encode())


def test_folders_and_frames_are_sorted(tmp_path):
    make(tmp_path, walker_b=2, walker_a=11)
    (tmp_path / "walker_a" / "notes.txt").write_text("not a frame")
    found = embed.read_folders(tmp_path)
    assert found.table.name == ["walker_a", "walker_b"]
    np.testing.assert_array_equal(found.table.length, [11, 2])
    assert found.encoded(0) == [f"walker_a {number}".encode() for number in range(11)]


@pytest.mark.parametrize("lengths", [{}, {"empty": 0}])
def test_nothing_to_embed_is_said(tmp_path, lengths):
    make(tmp_path, **lengths)
    with pytest.raises(ValueError, match="empty holds no .jpg" if lengths else "holds no folders"):
        embed.read_folders(tmp_path)


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        embed.read_folders(tmp_path / "nowhere")


def write(folder, tracklets, count):
    """The first tracklets' frames as a user's folders."""
    for row in range(count):
        (folder / str(row)).mkdir(parents=True)
        for number, frame in enumerate(tracklets.encoded(row)):
            (folder / str(row) / f"{number}.png").write_bytes(frame)


NECK = {"identity": 1.0, "neck": True, "pairs_per_person": 2, "positives": "all", "classifier": "linear"}


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"conditions": 2, "clip_frames": 2}, True),
        (NECK, False),
        (NECK | {"distance": "similarity"}, True),
        (NECK | {"neck_serves": "all"}, True),
    ],
)
def test_embeddings_are_those_that_evaluation_compares(tmp_path, settings, fits):
    config, folder, tracklets = tiny_config(steps=2, **settings), tmp_path / "run", tiny_splits().test
    fit(config, folder)
    write(tmp_path / "own", tracklets, 4)
    embed.main(folder, tmp_path / "own", tmp_path / "found.npz")
    trained, variables = runs.load_run(folder)
    function = partial(network.embed_clips, trained, variables)
    expected = evaluate.embed_conditions(function, tracklets, config, "whole", None)[:4]
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == {"name", "embedding"} | ({"v", "c"} if fits else set())
        np.testing.assert_allclose(found["embedding"], expected, rtol=1e-4, atol=1e-5)


def test_a_run_that_whitens_embeds_as_its_evaluation_compares(tmp_path):
    config, folder = tiny_config(steps=2, whitening=0.5, baselines=False), tmp_path / "run"
    fit(config, folder)
    tracklets = tiny_splits().test
    write(tmp_path / "own", tracklets, 3)
    with pytest.raises(workdir.WorkDirError, match="evaluate the run under its own settings"):
        embed.main(folder, tmp_path / "own", tmp_path / "found.npz")
    runs.evaluate_run(config, folder, tiny_splits())
    embed.main(folder, tmp_path / "own", tmp_path / "found.npz")
    trained, variables = runs.load_run(folder)
    plain = evaluate.embed(lambda batch: network.embed_clips(trained, variables, batch), tracklets, config)[:3]
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == {"name", "embedding"}
        np.testing.assert_allclose(
            found["embedding"], plain @ whitening.kept_by(config, folder, 2), rtol=1e-4, atol=1e-5
        )
