"""The programs of the paper's tables, end to end on a tiny run, and what they are made of against NumPy."""

import itertools
import json
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tiny_runs import fit, tiny_config, tiny_splits

import data_builders
from experiments import command_line, finished_run, many_runs, paper, table3, table4, table7, table8
from experiments import complexity as complexity_program
from reid_jax import comparison, complexity, evaluate, products, published, runs, studies, temporal_pooling, workdir
from reid_jax import network as networks
from reid_jax.data import FrameReader, pad_clip, stack_clips
from reid_jax.presets import preset
from reid_jax.retrieval import results_record
from reid_jax.sampling import WHOLE, ClipDraw
from reid_jax.settings import change
from reid_jax.sweeps import Outcome
from reid_jax.tracklets import Splits

pytestmark = pytest.mark.usefixtures("quick_compilation")
SETTINGS = {"steps": 4, "checkpoint_every": 4, "validate_every": 4}
TINY = (
    "--height 16 --width 8 --frames 4 --validation-persons 0 --state-hidden 8 --batch-pairs 2 --steps 2 "
    "--warmup-steps 1 --decay none --log-every 1 --checkpoint-every 2 --validate-every 2 --embed-batch 64 "
    "--conditions 1 --no-baselines"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert fit(tiny_config(**SETTINGS), folder)
    return folder


def study_of(run, splits=None, **settings):
    return studies.take_up(tiny_config(**SETTINGS, **settings), run, splits or tiny_splits())


def read(folder, name):
    return json.loads((folder / "paper" / f"{name}.json").read_text())


def assert_own_row(row, run, splits=None, **settings):
    """The row of the network as it is equals the run's own evaluation."""
    network, variables = runs.load_run(run)
    config, test = tiny_config(**SETTINGS, **settings), (splits or tiny_splits()).test
    function = partial(networks.embed_clips, network, variables)
    expected = results_record(evaluate.evaluate(function, test, config, variables["head"]["similarity"]))
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_table_vii_from_its_command_line(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["table7", "--workdir", str(run), "--conditions", "2"])
    monkeypatch.setattr(data_builders, "load", lambda data: tiny_splits())
    finished_run.start(table7.make, table7.__doc__)
    found = read(run, "table7")
    rows = found["values"]["rows"]
    assert list(rows) == ["Euclidean", "PCA", "PCA + LFDA", "PCA + KISSME", "XQDA"]
    assert_own_row(rows["Euclidean"], run, conditions=2)
    # The tiny embedding has 12 values: its PCA is a rotation, after which distances are the same.
    assert rows["PCA"]["dimensions"] == 12
    assert rows["PCA"]["map"] == pytest.approx(rows["Euclidean"]["map"], abs=0.01)
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert 0 < row["rank1"] <= row["rank20"] <= 100 and row["probes"] == 4
        assert name in printed and f"{row['map']:.1f}" in printed
    assert found["values"]["paper"] == {}, "the paper has no walkers"
    assert found["probes"] == {"scored": 4, "skipped": 0, "gallery": 14}
    assert "tiny, drawn" in printed and found["provenance"]["scored"] == "`mars_official`, euclidean distances"


def test_a_protocol_whose_sides_see_different_frames(run):
    """Two cameras, first against last frames: the maps are learnt on whole train tracklets all the same."""
    test = tiny_splits().test
    splits = Splits(tiny_splits().train, test.take(np.flatnonzero(test.table.person > 0)), "two cameras")
    found = table7.make(study_of(run, splits, protocol="rcn_first_last"))
    assert_own_row(found.values["rows"]["Euclidean"], run, splits, protocol="rcn_first_last")


def test_table_iv(run, monkeypatch):
    monkeypatch.setattr(temporal_pooling, "COMPONENTS", 3)
    table4.make(study_of(run, conditions=2))
    rows = read(run, "table4")["values"]["rows"]
    assert list(rows) == ["max", "average", "attention", "Fisher vectors, frame", "Fisher vectors, region"]
    assert_own_row(rows["attention"], run, conditions=2)
    assert rows["Fisher vectors, frame"]["dimensions"] == rows["Fisher vectors, region"]["dimensions"] == 2 * 6 * 3
    with pytest.raises(ValueError, match="head=rcn"):
        table4.make(study_of(run, head="rcn"))


def test_table_iv_is_of_states_whatever_else_stands_for_a_clip(run, monkeypatch):
    monkeypatch.setattr(temporal_pooling, "COMPONENTS", 3)
    study = study_of(run)
    both = replace(study, network=replace(study.network, config=change(study.config, {"represent": "both"})))
    for sides, others in zip(*(temporal_pooling.pooled_sides(of).values() for of in (study, both)), strict=True):
        for one, other in zip(sides, others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_part_that_is_asked_to_stop_ends_the_whole_with_its_own_status(capsys):
    parts = {
        "table3": lambda: many_runs.end(Outcome({}, "seed=0"), 2),
        "figure5a": lambda: pytest.fail("it went on"),
    }
    with pytest.raises(SystemExit) as stopped:
        paper.make(parts)
    assert stopped.value.code == command_line.STOPPED and "stopped in seed=0" in capsys.readouterr().out


def batch_of(rows, frames):
    test = tiny_splits().test
    reader, table = FrameReader(test, 16, 8), test.table
    clips = [pad_clip(reader(ClipDraw(row, 0, int(table.length[row]), WHOLE)), frames) for row in rows]
    return stack_clips(clips)


@pytest.mark.parametrize("name", ["max", "average", "attention"])
def test_a_pooling_is_what_a_network_of_that_pooling_gives(run, name):
    network, variables = runs.load_run(run)
    batch = batch_of(range(4), 9)
    own = networks.build(tiny_config(**SETTINGS, pooling=name))
    pooled = temporal_pooling.pool(network, variables, {}, batch, ("max", "average", "attention"), True)
    np.testing.assert_allclose(pooled[name], networks.embed_clips(own, variables, batch), atol=1e-6)


def test_poolings_do_not_see_padding_and_fisher_vectors_follow_their_mixture(run):
    network, variables = runs.load_run(run)
    train, names = tiny_splits().train, ("max", "average", "attention")
    place = network, variables, train, temporal_pooling.READINGS
    sample = temporal_pooling.sample_descriptors(*place, 10**6, 0, None)
    frames, regions = int(train.table.length.sum()), int(np.prod(network.cube[:2]))
    assert sample["frame"].shape == (frames, 6), "every valid frame, once"
    assert sample["region"].shape == (frames * regions, 6), "every region of it, once"
    fewer = temporal_pooling.sample_descriptors(*place, frames // 2, 0, None)
    assert all(frames // 4 < len(found) < 3 * frames // 4 for found in fewer.values())
    mixtures = {reading: temporal_pooling.fisher.fit_mixture(found, 3, 1e-3, 0) for reading, found in sample.items()}
    short, long = (
        temporal_pooling.pool(network, variables, mixtures, batch_of(range(6), length), names, True)
        for length in (9, 12)
    )
    assert list(short) == list(long)
    for name in short:
        np.testing.assert_allclose(short[name], long[name], atol=2e-5, err_msg=name)
    np.testing.assert_allclose(np.linalg.norm(short["Fisher vectors, region"], axis=1), 1, rtol=1e-5)


def test_the_papers_numbers_stand_beside_ours():
    record = {"rank1": 50.0, "rank5": 60.0, "rank10": 70.0, "rank20": 80.0, "map": 40.0, "dimensions": 5}
    rows = comparison.rows_beside({"a": record, "b": record}, {"a": published.TABLE_7["mars"][published.KISSME]})
    assert rows == [
        ("a", 5, 50.0, 60.0, 70.0, 80.0, 40.0, "73.5  85.0  89.5  97.5"),
        ("b", 5, 50.0, 60.0, 70.0, 80.0, 40.0, "-"),
    ]
    assert published.TABLE_3["mars"][published.G_55][:3] == published.TABLE_7["mars"][published.OURS][:3]
    for dataset, rows in published.TABLE_3.items():
        assert list(rows) == list(table3.ROWS), "the nine rows, in the paper's order"
        assert rows[published.G_55] == published.TABLE_4[dataset][published.AVERAGE_OR_ATTENTION]
    every = itertools.chain(*(table.values() for table in (published.TABLE_3, published.TABLE_7)))
    assert all(list(ranks) == sorted(ranks) for rows in every for ranks in rows.values())


def test_table_ii_is_what_is_trained():
    rows = table3.runs_of(preset("paper", "mars"), {"googlenet": "googlenet", "vgg": "vgg16"}, [0, 1])
    kernels = {name: (9, 1) if "9x9, 1x1" in name else (1, 9) if "1x1, 9x9" in name else (5, 5) for name in rows}
    assert len(rows) == 9 and len({run.name for of_row in rows.values() for run in of_row}) == 18
    for name, of_row in rows.items():
        for run, seed in zip(of_row, (0, 1), strict=True):
            recurrent, attention = run.config.recurrent, run.config.attention
            full = "FC-GRU" in name
            assert recurrent.channels == (128, 256, 256) and run.config.seed == seed
            expected = (1, 1, 1) if full else (3, *kernels[name])
            assert recurrent.input_kernels == recurrent.state_kernels == expected
            assert attention.region == ("slice" if full else "cube")
            assert attention.location == ("muted" if "muted" in name else "learned")
            assert run.config.backbone.backbone == ("vgg16" if "VGG" in name or "_V" in name else "googlenet")


@pytest.mark.slow
def test_table_iii_trains_its_rows_once(tmp_path, monkeypatch):
    monkeypatch.setattr(many_runs, "load", lambda data: tiny_splits())
    chosen = {name: table3.ROWS[name] for name in (published.VGG_FC, published.GOOGLENET_FC, published.MUTED)}
    chosen[published.MUTED] = ("googlenet", {"kernels": (1, 1, 1), "location": "muted", "region": "slice"})
    monkeypatch.setattr(table3, "ROWS", chosen)
    flags = [*TINY, "--googlenet", "rcn", "--vgg", "rcn", "--workdir", str(tmp_path)]
    # One channel in the preset's place of two: the other layers repeat it.
    flags += ["--channels", "4", "--input-kernels", "3", "--state-kernels", "3"]
    found = table3.main(flags)
    assert [row[:2] for row in found.rows] == [(name, "rcn") for name in chosen]
    assert found.rows[0][2:] == found.rows[1][2:], "one backbone in both places: the same run"
    folders = sorted(path for path in tmp_path.iterdir() if path.name != "paper")
    assert len(folders) == 2
    for folder in folders:
        recurrent = workdir.read_config(folder).recurrent
        assert recurrent.channels == (4, 4, 4) and recurrent.input_kernels == (1, 1, 1)
    own = json.loads((folders[0] / "results.json").read_text())
    assert own["rank1"] in [row[2] for row in found.rows] and read(tmp_path, "table3")["rows"]
    assert "rcn stands in GoogLeNet's place; rcn stands in VGG-16's place; 2 training steps" in found.statement
    stamps = [(folder / "results.json").stat().st_mtime_ns for folder in folders]
    table3.main(flags)
    assert stamps == [(folder / "results.json").stat().st_mtime_ns for folder in folders]


def test_table_viii_scores_every_run_on_every_target(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(data_builders, "load", lambda data: asked.append(data) or tiny_splits())
    found = table8.make([run], ["walkers", "mars=elsewhere"], tmp_path)
    assert [row[:2] for row in found.rows] == [("walkers", "walkers"), ("walkers", "mars")]
    assert [(data.dataset, data.manual_dir, data.data_dir) for data in asked] == [
        ("walkers", None, str(tmp_path)),
        ("mars", "elsewhere", str(tmp_path)),
    ]
    assert_own_row(read(run, "table8")["values"]["rows"][0], run)
    assert "network of walkers alone" in found.statement
    assert not products.is_finished(run, table8.NAME, table8.key([run])), "of other targets"
    assert len(table8.make([run]).rows) == 1
    assert products.is_finished(run, table8.NAME, table8.key([run]))
    with pytest.raises(ValueError, match="target 'market'"):
        table8.make([run], ["market"])
    assert published.TABLE_8["mars", "prid2011"] == (61.4, 91.2, 94.7)


def test_table_viii_never_takes_another_split_of_the_data_that_a_run_was_trained_on(monkeypatch, tmp_path):
    """A split's test persons are another's train persons."""
    asked = []
    monkeypatch.setattr(data_builders, "load", lambda data: asked.append((data.dataset, data.split)) or tiny_splits())
    places = [tmp_path / "prid" / "split=3", tmp_path / "mars" / "split=3"]
    fit(tiny_config(**SETTINGS, dataset="prid2011", split=3), places[0])
    fit(tiny_config(**SETTINGS, dataset="mars"), places[1])
    found = table8.make(places)
    assert asked == [("prid2011", 3), ("mars", 0), ("prid2011", 0), ("mars", 0)]
    assert [row["workdir"] for row in found.values["rows"]] == ["prid/split=3"] * 2 + ["mars/split=3"] * 2
    asked.clear()
    table8.make(places, ["prid2011"], None, 7)
    assert asked == [("prid2011", 3), ("prid2011", 7)]


def test_tables_are_never_made_of_a_run_that_is_scored_on_its_held_out_persons(run):
    with pytest.raises(ValueError, match="--persons test"):
        study_of(run, persons="held_out", validation_persons=2)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_complexity_formulas_against_what_is_made_and_what_xla_counts(kernel):
    layer, config = complexity.Layer((4, 3), 5, 6, kernel, kernel), preset("paper", "mars").recurrent
    formula, counted = complexity.formula(layer), complexity.counted(layer, config)
    assert formula.parameters == counted.parameters == 3 * kernel**2 * (5 * 6 + 6 * 6)
    assert formula.operations == 12 * formula.parameters
    inside = sum(
        0 <= row + i < 4 and 0 <= column + j < 3
        for row, column in np.ndindex(4, 3)
        for i, j in itertools.product(range(-(kernel // 2), kernel // 2 + 1), repeat=2)
    )
    products_inside = 3 * inside * (5 * 6 + 6 * 6)
    # The gates' element-wise steps come on top: some ten a state value, counted as half a multiply-add each.
    assert products_inside < counted.operations < products_inside + 12 * 12 * 6
    full = complexity.connected(layer)
    assert complexity.formula(full).operations == 3 * 12**2 * (5 * 6 + 6 * 6)
    assert complexity.counted(full, config).parameters == complexity.formula(full).parameters


def test_section_iii_e(tmp_path):
    config = change(preset("paper", "mars"), {"backbone": "rcn", "pretrained": False, "height": 16, "width": 16})
    found = complexity_program.make(config, tmp_path)
    assert [row[1] for row in found.rows] == ["ConvGRU", "FC-GRU"] * 4 and found.rows[-1][0] == "all layers"
    layers = found.values["layers"]
    assert [layer["layer"]["hidden"] for layer in layers] == [128, 256, 256]
    for cost in ("formula", "counted"):
        total = sum(layer["costs"][cost]["parameters"] for layer in layers)
        assert found.values["total"][cost]["parameters"] == total
    assert found.rows[0][2] == found.rows[0][3] == f"{3 * 9 * (32 * 128 + 128**2) / 1e6:,.2f}"
    assert products.read(tmp_path / "paper" / "complexity.json").rows == [list(row) for row in found.rows]


def test_one_part_that_fails_stops_no_other(capsys):
    made = []

    def broken():
        raise ValueError("too few tracklets")

    with pytest.raises(paper.PaperError, match="1 of 2 parts failed: figure7: too few tracklets"):
        paper.make({"figure7": broken, "figure8": lambda: made.append("figure8")})
    assert made == ["figure8"] and "figure7" in capsys.readouterr().out
