"""The programs of the paper's figures, end to end on a tiny run, and the figures' numbers against brute force."""

import itertools
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import fit, tiny_config, tiny_splits, tiny_tracklets

from experiments import figure5a, figure5b, figure6, figure7, figure8, figure9, figure10, many_runs
from reid_jax import clips, failures, focus, held_out, lengths, network, scoring, strips, studies, workdir
from reid_jax.data import FrameReader, pad_clip, stack_clips
from reid_jax.metrics_log import MetricsLog
from reid_jax.pictures import evenly
from reid_jax.presets import preset
from reid_jax.sampling import WHOLE, ClipDraw
from reid_jax.settings import change
from reid_jax.tracklets import Splits, hold_out

pytestmark = pytest.mark.usefixtures("quick_compilation")
SETTINGS = {"steps": 4, "checkpoint_every": 4, "validate_every": 4}
TINY = (
    "--height 16 --width 8 --frames 4 --backbone rcn --channels 4 --input-kernels 1 --state-kernels 1 "
    "--state-hidden 8 --batch-pairs 2 --steps 2 --warmup-steps 1 --decay none --log-every 1 --checkpoint-every 2 "
    "--validate-every 2 --embed-batch 64 --conditions 1 --no-baselines"
).split()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A run whose test persons look alike, so that it fails on some of them."""
    folder, config = tmp_path_factory.mktemp("runs") / "run", tiny_config(**SETTINGS)
    assert fit(config, folder)
    alike = tiny_tracklets(6, first_person=40, seed=3, extras=True, noise=160)
    return studies.take_up(config, folder, Splits(tiny_splits().train, alike, "alike"))


def read(folder, name):
    return json.loads((folder / "paper" / f"{name}.json").read_text())


def assert_drawn(folder, name):
    assert (folder / "paper" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    picture = cv2.imread(str(folder / "paper" / f"{name}.png"))
    assert 250 <= picture.shape[0] <= 4000 and 500 <= picture.shape[1] <= 4000 and picture.std() > 5


def brute_force(study, probes, gallery):
    """For each probe: ranks of its good matches, and the nearest tracklet, by sorting in NumPy."""
    task, found = study.task, []
    for probe, embedding in enumerate(probes):
        distances = np.sqrt(np.square(gallery.astype(np.float64) - embedding).sum(1))
        same = task.gallery_person == task.probe_person[probe]
        seen = task.gallery_camera == task.probe_camera[probe]
        kept = np.flatnonzero(~((same & seen) | (task.gallery_person < 0)))
        order = kept[np.argsort(distances[kept], kind="stable")]
        ranks = 1 + np.flatnonzero((same & ~seen)[order])
        found.append((ranks, order, distances))
    return found


def embedded(study, rows, length):
    """Embeddings of test tracklets cut to their first frames, one at a time."""
    reader, test = FrameReader(study.splits.test, 16, 8), study.splits.test.table
    found = []
    for row in rows:
        clip = reader(ClipDraw(int(row), 0, min(length, int(test.length[row])), WHOLE))
        batch = stack_clips([pad_clip(clip, 16)])
        found.append(np.asarray(network.embed_clips(study.program, study.variables, batch))[0])
    return np.stack(found)


def test_lengths_are_powers_of_two_up_to_the_longest_tracklet():
    assert lengths.powers_of_two(1) == [1] and lengths.powers_of_two(5) == [1, 2, 4, 8]
    assert lengths.powers_of_two(8) == [1, 2, 4, 8] and lengths.powers_of_two(9)[-1] == 16
    assert lengths.powers_of_two(128)[-1] == lengths.powers_of_two(920)[-1] == 128


def test_figure_7_is_the_ordinary_evaluation_of_cut_tracklets(study):
    figure7.make(study)
    found = read(study.workdir, "figure7")["values"]
    assert found["lengths"] == [1, 2, 4, 8, 16]
    result = study.score(study.sides)
    assert found["rank1"][-1][-1] == pytest.approx(100 * result.cmc[0])
    assert found["map"][-1][-1] == pytest.approx(100 * result.mean_ap, abs=1e-3)
    task = study.task
    for i, j in ((0, 2), (3, 1), (1, 1)):
        sides = (
            embedded(study, task.probe_rows, found["lengths"][i]),
            embedded(study, task.gallery_rows, found["lengths"][j]),
        )
        first = np.mean([ranks[0] == 1 for ranks, _, _ in brute_force(study, *sides)])
        assert found["rank1"][i][j] == pytest.approx(100 * first)
    assert len({value for row in found["map"] for value in row}) > 5, "lengths matter"
    assert_drawn(study.workdir, "figure7")


def test_lengths_of_two_views_take_first_and_last_frames(study):
    test = study.splits.test
    two = Splits(study.splits.train, test.take(np.flatnonzero(test.table.person > 0)), "two cameras")
    config = change(study.config, {"protocol": "rcn_first_last", "first_last_frames": 2})
    cut = studies.take_up(config, study.workdir, two)
    results = lengths.results_by_length(cut, [1, 2])
    assert results[1][1].mean_ap == pytest.approx(cut.score(cut.sides).mean_ap, abs=1e-6)


def test_failures_are_those_of_a_brute_force_ranking(study):
    found = failures.find(study, study.sides)
    task, expected = study.task, {}
    for probe, (ranks, order, distances) in enumerate(brute_force(study, *study.sides)):
        if ranks[0] > 1:
            right = order[ranks[0] - 1]
            expected[int(task.probe_rows[probe])] = (
                int(task.gallery_rows[order[0]]),
                int(task.gallery_rows[right]),
                int(ranks[0]),
                pytest.approx(distances[order[0]], abs=1e-5),
                pytest.approx(distances[right], abs=1e-5),
            )
    listed = {
        failure.probe: (failure.wrong, failure.right, failure.rank, failure.distance_wrong, failure.distance_right)
        for failure in found
    }
    assert listed == expected and len(found) > 0
    gaps = [failure.distance_right - failure.distance_wrong for failure in found]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] >= 0
    person = study.splits.test.table.person
    chosen = failures.of_different_persons(study, found * 2, 2)
    assert len({person[failure.probe] for failure in chosen}) == len(chosen) <= 2 and chosen[0] == found[0]


def test_figure_10_draws_and_counts_them(study):
    figure10.make(study)
    found = read(study.workdir, "figure10")
    count = sum(row[1] for row in found["rows"])
    assert count == len(found["values"]["failures"]) > 0
    assert found["statement"].startswith(f"{count} of {found['probes']['scored']} scored probes")
    first = found["values"]["failures"][0]
    assert first["names"]["probe"] == study.splits.test.table.name[first["probe"]]
    assert_drawn(study.workdir, "figure10")


def test_figure_9_holds_the_runs_own_curve(study):
    figure9.make(study)
    found = read(study.workdir, "figure9")
    np.testing.assert_allclose(found["values"]["cmc"]["ours"], study.score(study.sides).cmc)
    assert set(found["values"]["cmc"]) == {"ours", "ours + LFDA", "ours + KISSME", scoring.HISTOGRAM}
    for row in found["rows"]:
        curve = found["values"]["cmc"][row[0]]
        assert row[1] == pytest.approx(100 * curve[0]) and curve == sorted(curve)
    assert_drawn(study.workdir, "figure9")


def test_spread_is_the_share_of_entries_that_weights_amount_to():
    weights = np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(focus.spread(weights), [1.0, 0.25, 0.5])
    valid = np.array([[True] * 4, [True, False, False, False], [True, True, False, False]])
    np.testing.assert_allclose(focus.spread(weights, valid), 1.0)


@pytest.mark.parametrize("program", [figure6, figure8])
def test_figures_of_attention(study, program):
    program.make(study)
    found = read(study.workdir, program.NAME)
    test = study.splits.test
    row = 1
    clip = clips.watch(study, [row], 16)[0]
    assert len(clip.frames) == test.table.length[row]
    amounts = focus.measure(study)
    if program is figure6:
        assert found["values"]["amount"][row] == pytest.approx(amounts.when[row])
        entropy = -(clip.selection * np.log(clip.selection)).sum()
        assert amounts.when[row] == pytest.approx(np.exp(entropy) / len(clip.selection), rel=1e-4)
        assert amounts.heaviest[row] == pytest.approx(clip.selection.max() * len(clip.selection), rel=1e-4)
        shown = [np.array(one["weights"]) for one in found["values"]["clips"]]
        assert all(abs(weights.sum() - 1) < 1e-5 or len(weights) == 12 for weights in shown)
    else:
        maps = clip.locations.reshape(len(clip.locations), -1)
        spread = np.exp(-(maps * np.log(maps)).sum(1)) / maps.shape[1]
        assert found["values"]["amount"][row] == pytest.approx(100 * spread.mean(), rel=1e-4)
        shown = np.array(found["values"]["clips"][0]["locations"])
        np.testing.assert_allclose(shown.sum((1, 2)), 1, rtol=1e-5)
    assert_drawn(study.workdir, program.NAME)
    with pytest.raises(ValueError, match="head=pooling"):
        program.make(studies.take_up(change(study.config, {"head": "pooling"}), study.workdir, study.splits))


def test_the_strongest_channel_is_shown(study):
    clip = clips.watch(study, [2, 5], 16)[1]
    batch = jax.tree.map(jnp.asarray, stack_clips([pad_clip({"frames": clip.frames}, len(clip.frames))]))
    cube = np.asarray(network.clip_features(study.program, study.variables, batch))[0]
    np.testing.assert_allclose(clip.response.max(), cube.max(), rtol=1e-4)
    assert clip.response.shape == cube.shape[:3]


def test_strips_have_all_their_frames_side_by_side():
    pictures = [np.full((8, 4, 3), shade, np.float32) for shade in (0.1, 0.5, 0.9)]
    row = strips.strip(pictures, 96)
    assert row.shape == (strips.HEIGHT, 3 * 96 + 2 * strips.GAP, 3)
    np.testing.assert_allclose(row[50, [10, 96 + 10 + strips.GAP, -10], 0], [0.1, 0.5, 0.9], atol=1e-6)
    assert evenly(5, 8) == [0, 1, 2, 3, 4] and evenly(11, 3) == [0, 5, 10]


def test_figure_5b_shows_what_was_logged(study):
    figure5b.make([study.workdir])
    found = read(study.workdir, "figure5b")
    lines = MetricsLog.read(study.workdir)
    assert found["values"]["runs"][study.workdir.name] == lines
    assert [row[1] for row in found["rows"]] == [line["step"] for line in lines]
    assert found["rows"][0][2] == f"{lines[0]['pair_loss']:.3f}"
    assert_drawn(study.workdir, "figure5b")


def test_figure_5b_puts_a_steps_losses_and_its_held_out_map_on_one_line(tmp_path):
    workdir.open_workdir(tmp_path / "run", tiny_config(), resume=False, overwrite=False)
    with pytest.raises(workdir.WorkDirError, match="logged nothing yet"):
        figure5b.make([tmp_path / "run"])
    log = MetricsLog(tmp_path / "run", 0)
    for step in (2, 4):
        log(step, {"pair_loss": 1.0 / step, "accuracy": 0.5})
    log(4, {"validation_map": 30.0})
    log.close()
    assert figure5b.make([tmp_path / "run"]).rows == (("run", 4, "0.250", 50.0, 30.0),)


def test_figure_5b_tells_runs_of_one_name_apart_and_shows_a_few_steps_of_each(tmp_path):
    places = [tmp_path / sweep / "seed=0" for sweep in ("a", "b")]
    for place, loss in zip(places, (1.0, 2.0), strict=True):
        workdir.open_workdir(place, tiny_config(), resume=False, overwrite=False)
        log = MetricsLog(place, 0)
        for step in range(1, 16):
            log(step, {"pair_loss": loss, "accuracy": 0.5})
        log.close()
    rows = figure5b.make(places).rows
    assert [row[2] for row in rows if row[0] == "b/seed=0"] == ["2.000"] * figure5b.ROWS == len(rows) // 2 * ["2.000"]
    with pytest.raises(ValueError, match="given twice"):
        figure5b.make([places[0], places[0]])


@pytest.mark.slow
def test_figure_5a_trains_and_measures_on_held_out_persons(tmp_path, monkeypatch):
    monkeypatch.setattr(many_runs, "load", lambda data: tiny_splits())
    monkeypatch.setattr(figure5a, "SHARE", 0.5)
    flags = [*TINY, "--penalties", "0", "10", "--seeds", "0", "--workdir", str(tmp_path)]
    found = figure5a.main(flags)
    assert [row[0] for row in found.rows] == ["0", "10"] and all(row[-1] == 1 for row in found.rows)
    assert_drawn(tmp_path, "figure5a")
    assert figure5a.main(flags) is None, "finished"
    place = tmp_path / "penalty=10.0,seed=0"
    config = workdir.read_config(place)
    assert config.data.validation_persons == 4
    again = held_out.losses(config, place, tiny_splits(), figure5a.BATCHES, figure5a.PAIRS_SEED)
    draws = read(tmp_path, "figure5a")["values"]["draws"]
    assert {name: draws[1][0][name] for name in again} == pytest.approx(again)
    assert (
        draws[1][0]["map"]
        == [line["validation_map"] for line in MetricsLog.read(place) if "validation_map" in line][-1]
    )
    with pytest.raises(ValueError, match="no persons were held out"):
        held_out.losses(change(config, {"validation_persons": 0}), place, tiny_splits(), 1, 0)


def test_figure_5a_refuses_what_it_varies_and_what_it_cannot_measure_before_it_trains(monkeypatch):
    monkeypatch.setattr(many_runs, "load", lambda data: tiny_splits())
    monkeypatch.setattr(many_runs, "train", lambda *given: pytest.fail("it trained"))
    for flag in ("--penalty", "--validation-persons", "--seed", "--resume"):
        with pytest.raises(ValueError, match=f"^{flag}: "):
            figure5a.main([f"{flag}=1"])
    with pytest.raises(ValueError, match="neck_serves is all"):
        figure5a.main(["--identity", "1", "--neck", "--neck-serves", "all"])


def test_held_out_losses_of_every_preset_are_of_plain_frames():
    names = ("paper", "paper_5x5", "default", "small", "strong", "pooling", "rcn")
    for name, dataset in itertools.product(names, ("walkers", "mars")):
        settings = held_out.plain(change(preset(name, dataset), {"colour": 0.0 if name == "small" else 0.2}))
        assert (settings.data.colour, settings.backbone.stochastic_depth, settings.loss.identity) == (0, 0, 0)


def test_held_out_losses_are_of_the_held_out_persons(study, monkeypatch):
    """The penalty of their plain clips by hand."""
    config = tiny_config(**SETTINGS, validation_persons=3, frames=9)
    held = hold_out(tiny_splits().train, 3, config.seed)[1]
    drawn, batches = [], held_out.training_batches

    def watched(tracklets, *rest):
        drawn.append(tracklets)
        return batches(tracklets, *rest)

    monkeypatch.setattr(held_out, "training_batches", watched)
    found = held_out.losses(config, study.workdir, tiny_splits(), 3, 0)
    assert drawn[0].table.name == held.table.name
    source = batches(held, change(config, held_out.AS_IN_A_TEST).data, config.train.batch_pairs, 0)
    penalties = []
    for _ in range(3):
        batch = next(source)
        both = {name: batch[name].reshape(-1, *batch[name].shape[2:]) for name in ("frames", "mask")}
        encoding = network.encode_clips(study.program, study.variables, both)
        looked = (np.asarray(encoding.locations) * both["mask"][:, :, None, None]).sum(1)
        penalties.append(np.square(1 - looked).sum((1, 2)).mean())
    source.close()
    assert found["penalty"] == pytest.approx(np.mean(penalties), rel=1e-4)
