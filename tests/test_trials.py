"""Runs trained together leave what each would have left alone, fail alone, and go on from wherever they stopped."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_runs import fit, last_state, metrics_without_time, tiny_config, tiny_splits

from reid_jax import devices, runs, sweeps, train, trials, workdir
from reid_jax.metrics_log import MetricsLog
from reid_jax.presets import preset
from reid_jax.settings import change
from reid_jax.sweeps import Axis
from reid_jax.workdir import flatten

pytestmark = pytest.mark.usefixtures("quick_compilation")
# Short steps, because RMSProp turns roundings of a gradient near 0 into whole steps.
BASE = tiny_config(
    channels=(4,),
    input_kernels=(3,),
    state_kernels=(3,),
    frames=3,
    steps=4,
    warmup_steps=0,
    learning_rate=1e-5,
    log_every=1,
    validation_persons=2,
    dropout_top=0.2,
    triplet=0.3,
    positives="all",
    batch_pairs=4,
    baselines=False,
)
DIFFERENT = [
    BASE,
    change(BASE, dict(seed=1, penalty=0.1, learning_rate=3e-5, crop=1.0)),
    change(BASE, dict(seed=2, split=3, dropout_top=0.5, triplet=0.7, margin=0.5, weight_decay=1e3, l2=0.2, clip=0.01)),
]


def opened(folder, configs):
    """Runs in new or continued work directories."""
    places = [folder / str(number) for number in range(len(configs))]
    for place, config in zip(places, configs, strict=True):
        workdir.open_workdir(place, config, resume=True, overwrite=False)
    return [(config, place, tiny_splits()) for config, place in zip(configs, places, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the same runs, each trained by itself."""
    folder = tmp_path_factory.mktemp("alone")
    for number, config in enumerate(DIFFERENT):
        assert fit(config, folder / str(number))
    return folder


def assert_same_run(config, place, other):
    lines, expected = metrics_without_time(place), metrics_without_time(other)
    assert [list(line) for line in lines] == [list(line) for line in expected]
    assert lines[-1]["step"] == config.train.steps
    for line, alone in zip(lines, expected, strict=True):
        np.testing.assert_allclose(list(line.values()), list(alone.values()), rtol=1e-4, err_msg=str(line))
    found, wanted = last_state(config, place), last_state(config, other)
    assert found.keys() == wanted.keys()
    for name, leaf in found.items():
        assert leaf.dtype == wanted[name].dtype
        np.testing.assert_allclose(leaf, wanted[name], rtol=1e-3, atol=2e-6, err_msg=name)
    assert (place / "config.json").read_bytes() == (other / "config.json").read_bytes()
    assert {path.name for path in place.iterdir()} == {path.name for path in other.iterdir()}
    steps = [sorted(path.name for path in (one / "checkpoints").iterdir()) for one in (place, other)]
    assert steps[0] == steps[1]


def test_together_they_leave_what_each_leaves_alone_with_one_compilation(alone, tmp_path):
    compiled = trials.trials_step._cache_size()
    assert trials.fit_runs(opened(tmp_path, DIFFERENT)) == [True] * 3
    assert trials.trials_step._cache_size() - compiled == 1
    for number, config in enumerate(DIFFERENT):
        assert_same_run(config, tmp_path / str(number), alone / str(number))
    lines = [metrics_without_time(tmp_path / str(number)) for number in range(3)]
    ends = [[line["loss"] for line in run if "loss" in line][-1] for run in lines]
    assert len({round(loss, 3) for loss in ends}) == 3
    others = [change(config, dict(seed=7, penalty=0.4)) for config in DIFFERENT]
    assert trials.fit_runs(opened(tmp_path / "others", others)) == [True] * 3
    assert trials.trials_step._cache_size() - compiled == 1
    loaded, variables = runs.load_run(tmp_path / "1")
    assert loaded.config == DIFFERENT[1] and variables["head"]["selection"].dtype == np.float32


def test_every_other_number_may_differ_too(tmp_path):
    common = dict(identity=0.5, classifier="cosine", hardness=0.1, average=0.5, dropout_between=0.2, learning_rate=1e-4)
    one = change(BASE, common | dict(validation_persons=0, steps=2))
    other = dict(identity=0.9, smoothing=0.3, identity_margin=0.4, hardness=2.0, average=0.9, dropout_between=0.4)
    configs = [one, change(one, other | dict(backbone_rate=0.1))]
    varied = {name for name in trials.NUMBERS if len({flatten(config)[name] for config in [*configs, *DIFFERENT]}) > 1}
    assert varied == set(trials.NUMBERS)
    assert trials.fit_runs(opened(tmp_path / "together", configs)) == [True] * 2
    for number, config in enumerate(configs):
        place = tmp_path / "alone" / str(number)
        assert fit(config, place)
        assert_same_run(config, tmp_path / "together" / str(number), place)


@pytest.mark.slow
def test_runs_that_stopped_at_different_steps_end_as_if_they_never_did(alone, tmp_path):
    for number, steps in ((0, 2), (1, 4)):
        fit(change(DIFFERENT[number], dict(steps=steps, decay="none")), tmp_path / str(number))
    assert trials.fit_runs(opened(tmp_path, DIFFERENT)) == [True] * 3
    for number, config in enumerate(DIFFERENT):
        assert_same_run(config, tmp_path / str(number), alone / str(number))


def test_one_that_diverges_stops_no_other(tmp_path):
    configs = [change(BASE, dict(learning_rate=rate, warmup_steps=2)) for rate in (1e38, 1e-5)]
    broken, reached = trials.fit_runs(opened(tmp_path, configs))
    assert reached is True and isinstance(broken, train.Diverged) and "step 2 gave" in str(broken)
    assert [line["step"] for line in metrics_without_time(tmp_path / "0")] == [1]
    assert max(line["step"] for line in metrics_without_time(tmp_path / "1")) == 4


def test_a_request_to_stop_saves_all(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(MetricsLog, "__call__", lambda self, step, values: asked.append(step))

    class Requests:
        def __enter__(self):
            return lambda: len(asked) > 0

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(train, "stop_requests", Requests)
    configs = [change(BASE, dict(seed=seed, validation_persons=0)) for seed in (0, 1)]
    assert trials.fit_runs(opened(tmp_path, configs)) == [False, False]
    for number, config in enumerate(configs):
        state = last_state(config, tmp_path / str(number))
        assert int(state[".step"]) == int(state["next_batch"]) == 2


@pytest.mark.parametrize("settings", [dict(frames=4), dict(triplet=0.0), dict(pairs="none"), dict(batch_pairs=6)])
def test_what_shapes_the_step_cannot_differ(settings, tmp_path):
    other = change(BASE, settings)
    assert trials.common(BASE) != trials.common(other)
    with pytest.raises(ValueError, match="cannot be trained together"):
        trials.fit_runs(opened(tmp_path, [BASE, other]))


def test_every_preset_can_be_trained_with_another_seed_split_and_rate():
    for name in ("paper", "default", "small", "rcn", "pooling"):
        config = preset(name, "prid2011")
        other = change(config, dict(seed=3, split=2, learning_rate=0.1, data_dir="elsewhere"))
        assert trials.common(config) == trials.common(other)


@pytest.mark.slow
def test_a_sweep_trains_its_runs_in_groups(tmp_path, capsys, monkeypatch):
    given_back = []
    monkeypatch.setattr(jax, "clear_caches", lambda: given_back.append(True))
    (tmp_path / "most").write_text("1")
    monkeypatch.setattr(devices, "MOST_MAPPINGS", tmp_path / "most")
    axes = [Axis("penalty", (0.0, 1.0)), Axis("frames", (3, 4)), Axis("seed", (0, 1))]
    found = sweeps.generate(replace(BASE, train=replace(BASE.train, steps=2)), axes)
    names = [[run.name for run in group] for group in sweeps.batches(found, 3)]
    frames = [[name.split(",")[1] for name in group] for group in names]
    assert frames == [["frames=3"] * 3, ["frames=3"], ["frames=4"] * 3, ["frames=4"]]
    outcome = sweeps.run_sweep(found, tmp_path, lambda _: tiny_splits(), together=3)
    assert not outcome.failed and outcome.stopped is None
    assert "run 8 of 8" in capsys.readouterr().out
    results = [json.loads((tmp_path / run.name / "results.json").read_text()) for run in found]
    assert len(results) == 8 and {sweeps.state(run, tmp_path) for run in found} == {"finished"}
    if devices.MAPPINGS.exists():
        assert len(given_back) == 4, "a full process gives its programs back after each group"
