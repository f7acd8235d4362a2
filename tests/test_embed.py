"""Embedding a user's own folders of images."""

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


def test_a_run_that_whitens_embeds_as_its_evaluation_compares(tmp_path):
    config, folder = tiny_config(steps=2, whitening=0.5, baselines=False), tmp_path / "run"
    fit(config, folder)
    tracklets = tiny_splits().test
    for row in range(3):
        (tmp_path / "own" / str(row)).mkdir(parents=True)
        for number, frame in enumerate(tracklets.encoded(row)):
            (tmp_path / "own" / str(row) / f"{number}.png").write_bytes(frame)
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
