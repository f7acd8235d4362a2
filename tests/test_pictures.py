"""Pictures: files of a sensible size written whole, persons apart, an overlay that tints what is looked at."""

import os

import cv2
import jax
import numpy as np
import pytest
from tiny_runs import tiny_config, tiny_tracklets

from reid_jax import network as networks
from reid_jax import pictures

pytestmark = pytest.mark.usefixtures("quick_compilation")


def read(path):
    picture = cv2.imread(str(path))
    assert picture is not None and path.read_bytes().startswith(b"\x89PNG")
    return picture


def test_curves_are_drawn_on_a_picture_of_a_sensible_size(tmp_path):
    curves = {"trained": np.linspace(0.4, 1.0, 50), "three in the gallery": np.array([0.2, 0.5, 1.0])}
    pictures.save_cmc(tmp_path / "cmc.png", curves, "mars_official")
    picture = read(tmp_path / "cmc.png")
    assert 500 <= picture.shape[0] <= 1500 and 700 <= picture.shape[1] <= 1500
    assert [path.name for path in tmp_path.iterdir()] == ["cmc.png"]
    # The first two of the palette are on it (OpenCV reads BGR).
    for colour in ([178, 114, 0], [0, 94, 213]):
        assert (np.abs(picture.astype(int) - colour).max(-1) < 8).sum() > 100


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    pictures.save_cmc(tmp_path / "cmc.png", {"a": np.ones(5)}, "two_camera")
    before = (tmp_path / "cmc.png").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="cmc.png could not be written"):
        pictures.save_cmc(tmp_path / "cmc.png", {"a": np.zeros(5)}, "two_camera")
    assert (tmp_path / "cmc.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_attention_is_shown_for_a_few_persons(tmp_path):
    tracklets = tiny_tracklets(3, extras=True)
    network = networks.build(tiny_config())
    variables = networks.initialise(network, jax.random.key(0))
    pictures.save_attention(tmp_path / "attention.png", network, variables, tracklets)
    picture = read(tmp_path / "attention.png")
    assert 300 <= picture.shape[0] <= 4000 and 300 <= picture.shape[1] <= 4000
    assert picture.std() > 5, "not an empty page"


def test_the_longest_clips_of_different_persons_are_chosen():
    tracklets = tiny_tracklets(9, extras=True)
    rows = pictures.choose_clips(tracklets)
    table = tracklets.table
    persons = table.person[rows]
    assert rows == sorted(rows) and len(rows) == len(set(persons.tolist())) == 6 and (persons > 0).all()
    for row in rows:
        assert table.length[row] == table.length[table.person == table.person[row]].max()
    left_out = [table.length[table.person == p].max() for p in range(1, 10) if p not in persons]
    assert max(left_out) <= min(table.length[rows])


def test_an_even_map_leaves_the_frame_as_it_is_and_a_peak_reddens_its_place():
    frame = np.random.default_rng(0).integers(0, 256, (16, 8, 3)).astype(np.uint8)
    enlarged = cv2.resize(frame, (32, 64), interpolation=cv2.INTER_CUBIC) / 255
    even = pictures.overlay(frame, np.full((4, 2), 1 / 8, np.float32), 0.0)
    np.testing.assert_allclose(even, enlarged, atol=1e-6)
    peak = np.full((4, 2), 0.01, np.float32)
    peak[0, 0] = 0.93
    tinted = pictures.overlay(frame, peak, 0.0)
    np.testing.assert_allclose(tinted[48:], enlarged[48:], atol=1e-6)
    corner, before = tinted[:8, :8].mean((0, 1)), enlarged[:8, :8].mean((0, 1))
    assert corner[0] > before[0] and corner[1] < before[1] and corner[2] < before[2]
    assert tinted.min() >= 0 and tinted.max() <= 1
    black = np.zeros_like(frame)
    here, there = (pictures.overlay(black, peak, shift)[..., 0] for shift in (0.0, 1.5))
    np.testing.assert_allclose(there[6:, 6:], here[:-6, :-6], atol=1e-6)
