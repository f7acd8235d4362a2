"""Tables and figures as files: read back as they were, known by what they follow from, damaged ones named."""

import json

import pytest

from reid_jax import products, workdir
from reid_jax.products import Provenance

ORIGIN = Provenance("walkers", "drawn", "`run`", "`two_camera`")


def made(name="table7", rows=(("a", 1.25, None), ("b", 2, "-"))):
    return products.make(name, "Table", "What it is.", ORIGIN, ("", "x", "y"), rows, {"more": [1, 2]}, {})


def test_a_product_is_read_back_as_it_was(tmp_path, capsys):
    path = products.save(tmp_path, made(), {"step": 3, "kernels": (1, 2)})
    assert path == tmp_path / "paper" / "table7.json"
    found = products.read(path)
    assert found.rows == [["a", 1.25, None], ["b", 2, "-"]] and found.provenance == ORIGIN
    assert found.values == {"more": [1, 2]} and found.commit == workdir.code_version()
    printed = capsys.readouterr().out
    assert "What it is." in printed and "1.2" in printed and "1.25" not in printed


def test_finished_is_what_was_made_from_the_same(tmp_path):
    assert not products.is_finished(tmp_path, "table7", {})
    products.save(tmp_path, made(), {"kernels": (1, 2)})
    assert products.is_finished(tmp_path, "table7", {"kernels": (1, 2)})
    assert not products.is_finished(tmp_path, "table7", {"kernels": (1, 3)})
    assert not products.is_finished(tmp_path, "table4", {"kernels": (1, 2)})


def test_all_below_a_folder_are_collected_and_damaged_ones_named(tmp_path):
    for place in ("b", "a/c", "a"):
        products.save(tmp_path / place, made(), {})
    (tmp_path / "b" / "paper" / "broken.json").write_text("{")
    (tmp_path / "b" / "paper" / "other.json").write_text("{}")
    found, problems = products.collect(tmp_path)
    places = [path.relative_to(tmp_path).as_posix() for path, _ in found]
    assert places == ["a/paper/table7.json", "a/c/paper/table7.json", "b/paper/table7.json"]
    assert len(problems) == 2 and all("b/paper/" in problem for problem in problems)


def test_rows_that_do_not_fit_their_headings_are_refused():
    with pytest.raises(ValueError, match="table7: a row has not one cell"):
        made(rows=(("a", 1.0),))


def test_an_overwritten_run_loses_its_products(tmp_path):
    from tiny_runs import tiny_config

    config = tiny_config()
    workdir.open_workdir(tmp_path / "run", config, resume=False, overwrite=False)
    products.save(tmp_path / "run", made(), {})
    workdir.open_workdir(tmp_path / "run", config, resume=False, overwrite=True)
    assert not (tmp_path / "run" / "paper").exists() and json.loads((tmp_path / "run" / "config.json").read_text())
