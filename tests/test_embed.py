"""Embedding a user's own folders of images."""

import numpy as np
import pytest

from experiments import embed


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
