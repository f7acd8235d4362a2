"""Figures: a PDF and a PNG each, equal for equal figures, with every value legible on its cell."""

import cv2
import numpy as np
import pytest
from matplotlib import colormaps

from reid_jax import figures

MEANS = {"rank-1 (%)": np.array([[20.0, 30.0, 40.0], [25.0, np.nan, 62.4]])}
DEVIATIONS = {"rank-1 (%)": np.array([[1.0, 2.0, 3.0], [np.nan, np.nan, 0.5]])}


def draw_map(path):
    rows, columns = ("kernels", ["1", "3"]), ("layers", ["1", "2", "3"])
    figures.save_heat_maps(path, rows, columns, MEANS, DEVIATIONS, "made up")


def draw_lines(path, ordered=True):
    means, deviations = np.array([30.0, np.nan, 50.0]), np.array([2.0, np.nan, np.nan])
    values = ("layers", ["1", "2", "3"])
    figures.save_lines(path, values, {"mAP (%)": means}, {"mAP (%)": deviations}, ordered, "made up")


@pytest.mark.parametrize("draw", [draw_map, draw_lines])
def test_a_figure_is_a_pdf_and_a_png_and_the_same_each_time(tmp_path, draw):
    for name in ("one.5", "other"):
        draw(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.5.pdf", "one.5.png", "other.pdf", "other.png"]
    for ending, start in ((".pdf", b"%PDF"), (".png", b"\x89PNG")):
        one, other = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("one.5", "other"))
        assert one == other and one.startswith(start)
    picture = cv2.imread(str(tmp_path / "other.png"))
    assert 300 <= picture.shape[0] <= 2000 and 500 <= picture.shape[1] <= 2500


def test_a_cell_has_the_shade_of_its_value_and_a_missing_one_is_grey(tmp_path):
    draw_map(tmp_path / "map")
    picture = cv2.imread(str(tmp_path / "map.png"))[..., ::-1].astype(int)

    def count(colour):
        return (np.abs(picture - colour).max(-1) <= 2).sum()

    shades = colormaps[figures.SHADES]
    for value in (20.0, 25.0, 30.0, 40.0, 62.4):
        assert count((255 * np.array(shades((value - 20) / 42.4)[:3])).round()) > 1000, value
    assert count(np.array([0xE6] * 3)) > 1000


def test_points_without_an_order_are_not_joined(tmp_path):
    draw_lines(tmp_path / "joined", ordered=True)
    draw_lines(tmp_path / "apart", ordered=False)
    assert (tmp_path / "joined.png").read_bytes() != (tmp_path / "apart.png").read_bytes()
