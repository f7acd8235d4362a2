"""Sweeps: every combination once, in order and by name; finished runs skipped, others resumed, failures reported."""

import itertools
import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from tiny_runs import assert_same_state, last_state, metrics_without_time, tiny_splits

import data_builders
from experiments import command_line, sweep
from reid_jax import figures, sweeps, workdir
from reid_jax.metrics_log import MetricsLog
from reid_jax.presets import preset
from reid_jax.sweeps import Axis, Summary, SweepError, generate

pytestmark = pytest.mark.usefixtures("quick_compilation")
WALKERS = preset("default", "walkers")
TINY = (
    "--height 16 --width 8 --frames 4 --validation-persons 0 --backbone rcn --channels 4 --input-kernels 3 "
    "--state-kernels 3 --state-hidden 8 --batch-pairs 2 --steps 3 --warmup-steps 1 --decay none --log-every 1 "
    "--checkpoint-every 2 --validate-every 2 --embed-batch 64 --conditions 1 --no-baselines"
).split()


def test_the_runs_are_the_cross_product_in_order():
    axes = [Axis("penalty", (0.0, 0.5)), Axis("pooling", ("max", "average")), Axis("seed", (3, 1, 2))]
    found = generate(WALKERS, axes)
    expected = list(itertools.product(*(axis.values for axis in axes)))
    assert [(run.config.loss.penalty, run.config.attention.pooling, run.config.seed) for run in found] == expected
    assert found[1].name == "penalty=0.0,pooling=max,seed=1" and found[1].point == ("0.0", "max")
    assert len({run.name for run in found}) == len(expected) == 12
    assert found == generate(WALKERS, axes)
    for run in found:
        usual = workdir.flatten(WALKERS) | {"seed": run.config.seed, "penalty": run.config.loss.penalty}
        assert workdir.flatten(run.config) == usual | {"pooling": run.config.attention.pooling}


def test_kernels_and_layers_shape_the_whole_stack():
    axes = [Axis("kernels", (1, 5)), Axis("layers", (1, 2, 4))]
    found = {run.name: run.config.recurrent for run in generate(WALKERS, axes)}
    for kernel, layers in itertools.product((1, 5), (1, 2, 4)):
        stack = found[f"kernels={kernel},layers={layers}"]
        assert stack.channels == (64, 128, 128, 128)[:layers]
        assert stack.input_kernels == stack.state_kernels == (kernel,) * layers
    paper = generate(preset("paper", "mars"), [Axis("layers", (2, 4))])
    assert [run.config.recurrent.input_kernels for run in paper] == [(3, 5), (3, 5, 5, 5)]
    wide = generate(WALKERS, [sweeps.parse_axis("channels=8+9,7"), Axis("layers", (3,))])
    assert [run.config.recurrent.channels for run in wide] == [(8, 9, 9), (7, 7, 7)]


def test_names_are_those_of_single_folders():
    run = generate(WALKERS, [sweeps.parse_axis("data_dir=a/b c"), sweeps.parse_axis("channels=64+128")])[0]
    assert run.config.data.data_dir == "a/b c" and run.name == "data_dir=a%2Fb%20c,channels=64+128"


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ([Axis("kernels", (3, 4))], "kernels=4: kernel sides must be odd"),
        ([Axis("layers", (0,))], "layers=0: layers is 0: at least one"),
        ([Axis("frames", (4, 4))], "given twice"),
        ([Axis("seed", (1,)), Axis("seed", (2,))], "seed varies twice"),
        ([Axis("state_kernels", ((3, 3),)), Axis("kernels", (3,))], "state_kernels varies twice"),
        ([Axis("channels", ((8,),))], "channels=8: .* differ in length"),
    ],
)
def test_a_sweep_that_contradicts_itself_is_named_before_any_run(axes, words):
    with pytest.raises(SweepError, match=words):
        generate(WALKERS, axes)


@pytest.mark.parametrize("text", ["frames", "frames=", "dataset=mars", "preset=small"])
def test_what_cannot_vary_is_refused(text):
    with pytest.raises(SweepError, match=text.partition("=")[0]):
        sweeps.parse_axis(text)


def test_shards_are_disjoint_and_complete():
    found = generate(WALKERS, [Axis("seed", tuple(range(7)))])
    for count in range(1, 10):
        parts = [sweeps.shard(found, f"{first}/{count}") for first in range(1, count + 1)]
        assert sorted(run.name for part in parts for run in part) == sorted(run.name for run in found)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for text in ("0/3", "4/3", "1", "1/", "a/b", "-1/2", "1/0"):
        with pytest.raises(SweepError, match="counts from 1 to n"):
            sweeps.shard(found, text)


def test_seeds_and_with_two_cameras_splits_are_always_in_the_name():
    def names(*arguments):
        chosen, base = sweep.parse(arguments)
        return [run.name for run in generate(base, sweep.axes(chosen, base))]

    assert names("--kernels", "3", "--seed", "5") == ["kernels=3,seed=5"]
    two = names("--dataset", "prid2011", "--splits", "0", "4", "--seeds", "0", "1")
    assert two == ["split=0,seed=0", "split=0,seed=1", "split=4,seed=0", "split=4,seed=1"]
    assert names("--dataset", "ilids_vid", "--vary", "split=2,3") == ["split=2,seed=0", "split=3,seed=0"]
    assert names("--vary", "crop=1", "--vary", "clip=1,5") == ["crop=1.0,clip=1.0,seed=0", "crop=1.0,clip=5.0,seed=0"]


def test_the_data_depends_on_no_other_setting():
    base = preset("default", "prid2011")
    runs = generate(
        base, [Axis("kernels", (1, 3)), Axis("frames", (4, 8)), Axis("split", (0, 1)), Axis("seed", (0, 1))]
    )
    assert {sweep.source(run.config.data).split for run in runs} == {0, 1}
    assert len({sweep.source(run.config.data) for run in runs}) == 2


class Program:
    """The program on the tiny tracklets, in this process."""

    def __init__(self, root, monkeypatch, capfd):
        self.root, self.loaded, self._patch, self._output = root, [], monkeypatch, capfd
        # Somebody may commit while the tests run.
        monkeypatch.setattr(workdir, "code_version", lambda: "abc1234")
        monkeypatch.setattr(data_builders, "load", lambda data: self.loaded.append(data) or tiny_splits())

    def __call__(self, *arguments, error=None):
        self._patch.setattr(sys, "argv", ["sweep", "--workdir", str(self.root), *TINY, *arguments])
        if error is None:
            command_line.run(sweep.main)
        else:
            with pytest.raises(SystemExit) as caught:
                command_line.run(sweep.main)
            assert error in str(caught.value.code) and caught.value.code
        return self._output.readouterr().out


@pytest.fixture
def program(tmp_path, monkeypatch, capfd):
    return Program(tmp_path / "sweep", monkeypatch, capfd)


@pytest.mark.slow
def test_shards_skip_what_is_finished_and_the_whole_is_compared(program):
    # Another distance is another run but the same compiled programs.
    flags = ("--vary", "distance=euclidean,cosine", "--seeds", "0", "1")
    listed = program(*flags, "--list").splitlines()
    assert [line.split()[0] for line in listed] == ["new"] * 4 and not program.root.exists() and not program.loaded
    first = program(*flags, "--shard", "1/2")
    assert sorted(path.name for path in program.root.iterdir() if path.is_dir()) == [
        "distance=cosine,seed=0",
        "distance=euclidean,seed=0",
    ]
    assert first.count("1 of 2") == 2 + 1, "a progress line, and each distance has one of its two seeds"
    stamps = {path: path.stat().st_mtime_ns for path in program.root.glob("*/results.json")}
    program.loaded.clear()
    whole = program(*flags)
    assert "2 of 4 runs are finished already" in whole and len(program.loaded) == 1
    assert len(stamps) == 2 and all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    for distance in ("euclidean", "cosine"):
        found = [
            json.loads((program.root / f"distance={distance},seed={seed}/results.json").read_text()) for seed in (0, 1)
        ]
        assert all(values["commit"] == "abc1234" for values in found)
        for name in ("rank1", "map"):
            values = np.array([record[name] for record in found])
            assert f"{values.mean():.1f} ± {values.std():.1f}" in whole
    assert (program.root / "sweep-distance.png").exists() and (program.root / "sweep-distance.pdf").exists()

    results = program.root / "distance=cosine,seed=1" / "results.json"
    before, steps = json.loads(results.read_text()), metrics_without_time(results.parent)
    results.unlink()
    shutil.rmtree(results.parent / "results")
    assert [line.split()[0] for line in program(*flags, "--list").splitlines()] == ["finished"] * 3 + ["begun"]
    assert "3 of 4 runs are finished already" in program(*flags)
    assert json.loads(results.read_text()) == before and metrics_without_time(results.parent) == steps

    program(
        *flags, "--steps", "9", error="distance=euclidean,seed=0 holds a run of other settings (steps: 3 there, 9 now)"
    )
    (program.root / "kernels=5,seed=0").mkdir()
    (program.root / "kernels=5,seed=0" / "thesis.tex").write_text("all of it")
    program("--kernels", "5", error="kernels=5,seed=0 exists and is no run of this program")


def test_an_interrupted_run_goes_on_and_ends_as_if_it_never_was(program, monkeypatch, tmp_path):
    log = MetricsLog.__call__

    def interrupted(self, step, values):
        log(self, step, values)
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "__call__", interrupted)
        stopped = program("--seeds", "0", "1", error=str(command_line.STOPPED))
    assert "stopped in seed=0" in stopped and not (program.root / "seed=1").exists()
    folder = program.root / "seed=0"
    assert [line["step"] for line in metrics_without_time(folder)] == [1, 2] and not (folder / "results.json").exists()
    program("--seeds", "0")
    program.root = tmp_path / "uninterrupted"
    program("--seeds", "0")
    config, whole = workdir.read_config(folder), program.root / "seed=0"
    assert_same_state(last_state(config, folder), last_state(config, whole))
    assert json.loads((folder / "results.json").read_text()) == json.loads((whole / "results.json").read_text())


def test_a_run_that_fails_is_reported_and_stops_no_other(program):
    message = "1 of 2 runs failed: learning_rate=1e+38,seed=0: step 2 gave a loss or an update that is not finite"
    program("--vary", "learning_rate=1e38,0.001", error=message)
    assert not (program.root / "learning_rate=1e+38,seed=0" / "results.json").exists()
    assert (program.root / "learning_rate=1e+38,seed=0" / "config.json").exists()
    assert (program.root / "learning_rate=0.001,seed=0" / "results.json").exists()


def test_data_that_is_not_there_is_one_error_and_no_run(program, monkeypatch):
    def missing(data):
        raise FileNotFoundError("no download")

    monkeypatch.setattr(data_builders, "load", missing)
    program("--kernels", "1", "3", error="no download")
    assert not program.root.exists()


@pytest.mark.parametrize(
    "flags", [["--resume"], ["--overwrite"], ["--seed=3", "--seeds", "0"], ["--location_hidden", "4"]]
)
def test_flags_of_a_single_run_that_a_sweep_has_no_use_for(program, flags):
    named = flags[0].partition("=")[0].replace("_", "-")
    program("--kernels", "1", "--vary", "location_hidden=0,8", *flags, error=f"{named}: ")
    assert not program.root.exists()


def test_a_run_that_was_scored_before_its_end_is_not_finished(program):
    program("--seeds", "0", "--steps", "2")
    folder = program.root / "seed=0"
    values = json.loads((folder / "results.json").read_text())
    assert (values["step"], values["trained"]) == (2, 2)
    for path in (folder / "results.json", *(folder / "results").glob("*.json")):
        workdir.write_json(path, values | {"trained": 1})
    assert "finished" not in program("--seeds", "0", "--steps", "2", "--list")
    assert "1 of 1" in program("--seeds", "0", "--steps", "2")
    assert json.loads((folder / "results.json").read_text())["trained"] == 2


def test_help_shows_the_flags_of_the_sweep_and_of_a_run(capsys):
    with pytest.raises(SystemExit):
        sweep.parse(["--help"])
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--kernels", "--layers", "--vary", "--shard", "--seeds", "--learning-rate"))


def made_up(shape, seeds=3):
    """Summaries of a sweep of that shape, in the order of its runs; the last point has no run yet."""
    generator = np.random.default_rng(0)
    values = generator.uniform(20, 60, (*shape, seeds, 2))
    points = list(np.ndindex(*shape))
    summaries = [
        Summary(
            tuple(map(str, point)), seeds, [dict(zip(("rank1", "map"), pair, strict=True)) for pair in values[point]]
        )
        for point in points
    ]
    summaries[-1].records.clear()
    values[points[-1]] = np.nan
    return values, summaries


def test_pictures_show_means_and_deviations_where_they_belong(tmp_path, monkeypatch):
    drawn = {}
    for kind in ("save_heat_maps", "save_lines"):
        monkeypatch.setattr(figures, kind, lambda *given, kind=kind: drawn.__setitem__(kind, given))
    kernels, layers, alone = Axis("kernels", (1, 3, 5)), Axis("layers", (1, 2)), Axis("pooling", ("max",))
    values, summaries = made_up((3, 2))
    assert sweep.draw([kernels, alone, layers], summaries, tmp_path, "made up") == tmp_path / "sweep-kernels-layers"
    _, rows, columns, means, deviations, _ = drawn["save_heat_maps"]
    assert rows == ("kernels", ["1", "3", "5"]) and columns == ("layers", ["1", "2"])
    np.testing.assert_allclose(means["mAP (%)"], values[..., 1].mean(2))
    np.testing.assert_allclose(deviations["rank-1 (%)"], values[..., 0].std(2))
    values, summaries = made_up((3,))
    assert sweep.draw([kernels], summaries, tmp_path, "made up") == tmp_path / "sweep-kernels"
    np.testing.assert_allclose(drawn["save_lines"][2]["rank-1 (%)"], values[..., 0].mean(1))
    assert drawn["save_lines"][4] is True
    sweep.draw([Axis("pooling", ("max", "average", "attention"))], summaries, tmp_path, "made up")
    assert drawn["save_lines"][4] is False
    drawn.clear()
    assert sweep.draw([alone], summaries[:1], tmp_path, "made up") is None
    assert sweep.draw([kernels], [Summary(("1",), 1, [])] * 3, tmp_path, "made up") is None and not drawn
