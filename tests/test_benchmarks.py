"""The benchmarks: they run, what they write is well-formed, and implementations that disagree stop them."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_runs import tiny_config, tiny_splits

from benchmarks import __main__ as program
from benchmarks import (
    accelerator,
    accelerator_backbone,
    accelerator_head,
    accelerator_step,
    heads,
    measuring,
    report,
    sizes,
)
from benchmarks import compile as compiling
from benchmarks.measuring import Row, assert_agree, row_of, single
from benchmarks.parts import Part, parts_here
from reid_jax import network as networks
from reid_jax.data import plan_buckets
from reid_jax.sampling import WHOLE

TINY = sizes.Size((3, 1), 4, 3, (4, 5), (3, 2, 4))
PAGE = f"# Speed\n\nBefore.\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n"


def test_a_quick_part_leaves_results_and_a_page(tmp_path):
    program.main(("retrieval",), quick=True, folder=tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    part = results["retrieval"]
    assert part["quick"] and part["machine"]["cores"] >= 1 and "jax" in part["versions"] and part["commit"]
    for row in part["rows"]:
        assert row["low"] <= row["value"] <= row["high"] and row["value"] >= 0
        assert (row["ratio"] is None) == (row["reference"] is None)
    page = (tmp_path / "performance.md").read_text()
    assert all(row["name"] in page for row in part["rows"])


def test_quick_figures_never_reach_the_repository():
    with pytest.raises(SystemExit, match="folder"):
        program.main(("retrieval",), quick=True)


def test_the_page_shows_the_results_that_lie_beside_it():
    results = program.ROOT / "benchmarks" / "results.json"
    if not results.exists():
        pytest.skip("nothing was measured yet")
    recorded = json.loads(results.read_text())
    assert not any(part["quick"] for part in recorded.values())
    page = program.PAGE.read_text()
    assert report.with_measured(page, report.measured_part(recorded)) == page


def test_both_implementations_agree_and_a_changed_parameter_does_not():
    pytest.importorskip("torch", reason="PyTorch is the reference")
    network, batch = heads.network_of(TINY), sizes.batch_of(TINY)
    variables = heads.first_variables(TINY)
    assert heads.better_layout(TINY) in measuring.LAYOUTS
    passes = heads.our_passes(network, variables, batch)
    ours = {name: getattr(passes, name)() for name in heads.NAMES}
    for layout in ("contiguous_format", "channels_last"):
        theirs, model = heads.torch_passes(network, variables, batch, layout)
        heads.assert_same(ours, _returned(theirs), model)
    model.cells[1].candidate.weight.data *= 1.02
    changed = _returned(theirs)
    for name in heads.NAMES:
        with pytest.raises(AssertionError):
            heads.assert_same({name: ours[name]}, changed, model)


def _returned(passes):
    return {"training": passes.training(), "forward": passes.forward()}


def test_what_disagrees_in_its_first_calls_is_not_timed_to_the_end():
    calls = []

    def check(found):
        assert found["one"] == found["other"], "they disagree"

    with pytest.raises(AssertionError, match="disagree"):
        measuring.interleaved({"one": lambda: calls.append(0) or 1, "other": lambda: 2}, 5, check)
    assert len(calls) == measuring.AT_MOST + measuring.IN_A_ROW
    seconds = measuring.interleaved({"one": lambda: 1, "other": lambda: 1}, 5, check)
    assert all(len(times) == 5 for times in seconds.values())


def test_the_reference_has_the_masks_of_padded_clips():
    torch = pytest.importorskip("torch", reason="PyTorch is the reference")
    network, batch = heads.network_of(TINY), sizes.batch_of(TINY)
    network = replace(
        network, config=replace(network.config, recurrent=replace(network.config.recurrent, features="standardised"))
    )
    variables = networks.initialise(network, jax.random.key(1))
    clips = {name: batch[name].reshape(4, *batch[name].shape[2:]) for name in ("features", "mask")}
    clips["mask"] = np.array([[True] * 3, [True, True, False], [True, False, False], [True] * 3])
    _, model = heads.torch_passes(network, variables, batch, "contiguous_format")
    with torch.no_grad():
        theirs = model(*map(torch.from_numpy, clips.values()))[0]
    assert_agree({"": networks.embed_clips(network, variables, clips)}, {"": theirs}, 1e-4)


def test_a_run_compiles_one_step_and_one_embedding_a_bucket_of_lengths():
    config, tracklets = tiny_config(dropout_top=0.25), tiny_splits().test
    plan = plan_buckets(tracklets, 0, config.evaluate.embed_batch, WHOLE, "whole")
    counts = compiling.programs_of_a_run(config, tiny_splits().train, tracklets, 5)
    assert counts["training steps"] == 1
    assert counts["embeddings"] == len({bucket.frames for bucket in plan}) > 1
    again = compiling.programs_of_a_run(config, tiny_splits().train, tracklets, 3)
    # The one is what draws the first variables, which every run compiles for itself.
    assert again == {"training steps": 0, "embeddings": 0, "programs": 1}


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (row_of("a", [1.0, 3.0, 2.0], [4.0]), None),
        (row_of("a", [1.0, 3.0, 2.0], [4.0], goal=0.5), True),
        (row_of("a", [1.0, 3.0, 2.0], [4.0], goal=0.4), False),
        (single("a", 5.0, "MB", goal=4.0), False),
        (Row("a", 5.0, "GFLOP/s", 5.0, 5.0, 10.0, ratio=0.5, goal=0.6, at_least=True), False),
        (Row("a", 7.0, "GFLOP/s", 7.0, 7.0, 10.0, ratio=0.7, goal=0.6, at_least=True), True),
    ],
)
def test_goals(row, met):
    assert row.met is met and row.record()["met"] is met


def test_the_page_keeps_what_stands_around_the_measured_part():
    page = report.with_measured(PAGE, "new\n")
    assert page == PAGE.replace("old\n", "\nnew\n\n")
    assert report.with_measured(page, "new\n") == page
    with pytest.raises(ValueError, match="markers|lines"):
        report.with_measured("# Speed\n", "new")


def test_rows_are_rendered_with_goal_and_verdict():
    rows = [row_of("one", [0.5, 1.5, 1.0], [4.0], goal=0.2).record(), single("two", 1234.5, "MB").record()]
    table = "\n".join(report.table(rows))
    assert "| one | 1 s | 0.500 to 1.50 | 4 (PyTorch) | 0.250 | <= 0.200 | **no** |" in table
    assert "| two | 1,234 MB |  |  |  |  |  |" in table


def test_the_plot_is_a_picture(tmp_path):
    points = [
        row_of("p", [x], [2 * x], curve=curve, at=x).record() for curve in ("frames", "clips") for x in (1.0, 2.0)
    ]
    report.plot(tmp_path / "plot.png", points)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_figures_that_lie_apart_do_not_agree():
    one = {"x": np.array([1.0, 100.0])}
    assert_agree(one, {"x": np.array([1.005, 100.0])}, 1e-4)
    with pytest.raises(AssertionError):
        assert_agree(one, {"x": np.array([1.1, 100.0])}, 1e-4)
    with pytest.raises(AssertionError):
        assert_agree(one, {"y": one["x"]}, 1e-4)


def test_an_accelerators_part_is_left_out_where_there_is_none_and_its_head_runs_in_every_precision():
    left_out = set(Part.__args__) - set(parts_here())
    assert left_out == {"accelerator_head", "accelerator_step", "accelerator_backbone"}
    for part in (accelerator_head, accelerator_step, accelerator_backbone):
        with pytest.raises(RuntimeError, match="no accelerator"):
            next(part.measure(False))
    rates = accelerator.peaks(True, 1)
    rows = accelerator_head.head(TINY, 1, 1, rates)
    named = {row.name: row for row in rows}
    assert rates.keys() == set(accelerator.PRECISIONS) and min(rates.values()) > 0
    rounding = [
        named[f"{form} bfloat16: gradients beside spatial float32's"].value for form in ("spatial", "frequency")
    ]
    assert all(1e-4 < value < 0.1 for value in rounding)
    assert named["frequency float32: gradients beside spatial float32's"].value < 1e-5


def test_operations_of_the_head_are_those_of_its_spatial_products():
    size = sizes.Size((3,), 2, 1, (4,), (5, 5, 6))
    per_image = 5 * 5 * 9 * (6 * 12 + 4 * 12)
    assert accelerator_head.operations(size) == 3 * 2 * 2 * per_image


def test_operations_of_a_step_are_three_times_those_of_its_products():
    one_layer = dict(channels=(4,), input_kernels=(3,), state_kernels=(3,))
    config = tiny_config(backbone="rcn", height=64, width=32, batch_pairs=4, frames=3, **one_layer)
    sides, channels = ((64, 32), (32, 16), (16, 8)), (3, 16, 32, 32)
    # Of a row's 5 * n products with 5x5 kernels 6 are with zero padding, which XLA leaves out.
    taps = [(5 * height - 6) * (5 * width - 6) for height, width in sides]
    once = sum(tap * channels[i] * channels[i + 1] for i, tap in enumerate(taps)) + 8 * 4 * 9 * (32 * 12 + 4 * 12)
    # It counts elementwise operations too.
    assert accelerator_step.operations(config) == pytest.approx(3 * 4 * 2 * 3 * 2 * once, rel=0.05)
