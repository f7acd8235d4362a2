"""Work directories: what is refused, what is deleted, settings and metrics read back, writes that fail."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tiny_runs import tiny_config

from reid_jax import workdir as workdirs
from reid_jax.metrics_log import MetricsLog
from reid_jax.presets import preset
from reid_jax.workdir import WorkDirError, check_usable, open_workdir, read_config, write_atomically

CONFIG = tiny_config()


@pytest.fixture
def run(tmp_path):
    open_workdir(tmp_path / "run", CONFIG, resume=False, overwrite=False)
    return tmp_path / "run"


def fill(folder: Path) -> None:
    """What a finished run leaves."""
    (folder / "checkpoints" / "4").mkdir(parents=True)
    (folder / "checkpoints" / "4" / "state").write_text("x")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    (folder / "results.json").write_text("{}")
    (folder / "attention.png").write_bytes(b"x")


def test_settings_are_read_back_as_they_were_written(tmp_path):
    for number, config in enumerate([CONFIG, *(preset(p, "mars") for p in ("paper", "paper_5x5", "default", "small"))]):
        open_workdir(tmp_path / str(number), config, resume=False, overwrite=False)
        assert read_config(tmp_path / str(number)) == config
    alone = sum(not isinstance(value, dict) for value in workdirs.to_json(CONFIG).values())
    grouped = sum(len(group) for group in _groups(CONFIG))
    assert len(workdirs.flatten(CONFIG)) == alone + grouped, "names are unique"


def _groups(config):
    return [values for values in workdirs.to_json(config).values() if isinstance(values, dict)]


def test_an_existing_run_is_left_alone_without_resume_or_overwrite(run):
    fill(run)
    before = sorted(run.rglob("*"))
    with pytest.raises(WorkDirError, match=f"{run}.*--resume.*--overwrite"):
        open_workdir(run, CONFIG, resume=False, overwrite=False)
    with pytest.raises(WorkDirError, match="exclude each other"):
        open_workdir(run, CONFIG, resume=True, overwrite=True)
    assert sorted(run.rglob("*")) == before


def test_overwrite_deletes_the_run_and_nothing_else(run):
    fill(run)
    (run / "notes.txt").write_text("mine")
    open_workdir(run, tiny_config(seed=5), resume=False, overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "notes.txt"]
    assert read_config(run).seed == 5


@pytest.mark.parametrize("content", [{"thesis.tex": "all of it"}, {"config.json": '{"model_type": "bert"}'}])
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True)])
def test_a_folder_of_something_else_is_refused_whatever_the_flags(tmp_path, content, flags):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(WorkDirError, match=f"{tmp_path} exists and is no run"):
        open_workdir(tmp_path, CONFIG, *flags)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content


def test_an_empty_or_missing_folder_or_one_killed_at_its_first_file_is_usable(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / f".config.json.{os.getpid()}").write_text('{"pres')
    for name in ("empty", "missing", "killed"):
        for flags in ((False, False), (True, False), (False, True)):
            check_usable(tmp_path / name, CONFIG, *flags)
        open_workdir(tmp_path / name, CONFIG, resume=True, overwrite=False)
        assert [path.name for path in (tmp_path / name).iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(learning_rate=0.5), "learning_rate: 0.003 before, 0.5 now"),
        (dict(seed=3), "seed: 0 before, 3 now"),
        (dict(channels=(4, 8)), r"channels: \(4, 6\) before, \(4, 8\) now"),
        (dict(frames=5, pairs="drawn"), "frames: 4 before, 5 now; pairs: 'cross' before, 'drawn' now"),
    ],
)
def test_resuming_with_other_settings_is_refused_naming_both_values(run, settings, message):
    with pytest.raises(WorkDirError, match=message):
        open_workdir(run, tiny_config(**settings), resume=True, overwrite=False)
    assert read_config(run) == CONFIG


def test_resuming_may_extend_the_steps_and_change_how_it_evaluates(run):
    changed = tiny_config(steps=100, log_every=7, workers=2, data_dir="elsewhere", distance="cosine", conditions=2)
    open_workdir(run, changed, resume=True, overwrite=False)
    assert read_config(run) == changed


@pytest.mark.parametrize(
    "text", ["", '{"seed": 1', "[1, 2]", '{"data": 3, "preset": "small"}', '{"train": {"steps": "many"}}', "\x00\xff"]
)
def test_a_damaged_config_is_a_clear_error_naming_the_file(run, text):
    (run / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(WorkDirError, match=f"(?s){run / 'config.json'}.*--overwrite"):
        read_config(run)


def test_an_unknown_setting_is_named_and_a_missing_one_keeps_its_default(run):
    values = workdirs.to_json(CONFIG)
    del values["train"]["weight_decay"]
    workdirs.write_json(run / "config.json", values)
    assert read_config(run) == CONFIG
    values["train"]["momentum"] = 0.9
    workdirs.write_json(run / "config.json", values)
    with pytest.raises(WorkDirError, match=f"{run / 'config.json'}: 'momentum' is not a setting of TrainConfig"):
        read_config(run)


def test_there_is_no_run_in_a_missing_folder(tmp_path):
    with pytest.raises(WorkDirError, match=f"{tmp_path / 'nowhere'} holds no run.*train"):
        read_config(tmp_path / "nowhere")


def test_metrics_after_the_resumed_step_and_a_line_cut_short_are_dropped(run):
    log = MetricsLog(run, 0)
    for step in (2, 4, 6):
        log(step, {"loss": step / 3})
    log.close()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert [line["step"] for line in MetricsLog.read(run)] == [2, 4, 6]
    again = MetricsLog(run, 4)
    again(6, {"loss": 7.0})
    again.close()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 2, "loss": 2 / 3}, {"step": 4, "loss": 4 / 3}, {"step": 6, "loss": 7.0}]


def test_tensorboard_files_hold_the_same_curves(run):
    for start, step in ((0, 3), (3, 5)):
        log = MetricsLog(run, start)
        log(step, {"loss": 0.5 * step})
        log.close()
        # File names carry the second: the next run gets its own.
        for path in (run / "tensorboard").glob("events*"):
            path.rename(path.with_name(f"{path.name}.{start}"))
    events = [event for path in sorted((run / "tensorboard").iterdir()) for event in _events(path)]
    values = sorted((event.step, value.tag, value.simple_value) for event in events for value in event.summary.value)
    assert values == [(3, "loss", 1.5), (5, "loss", 2.5)]
    assert [event.step for event in events if event.session_log.status] == [4]


def _events(path: Path) -> list[Event]:
    """TFRecord: length (8 bytes), its checksum (4), the data, its checksum (4)."""
    data, events = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return events


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"{path} could not be written.*No space left.*make room"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_metrics_on_a_full_disk_are_a_clear_error_and_no_hang(tmp_path):
    program = """
import resource, sys
from pathlib import Path
from reid_jax.metrics_log import MetricsLog
log = MetricsLog(Path(sys.argv[1]), 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    for step in range(1000):
        log(step, {"loss": 1.0})
except OSError as error:
    print("stopped:", error)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root, check=False)
    assert f"stopped: {tmp_path / 'metrics.jsonl'}" in done.stdout and "too large" in done.stdout, done.stderr
    assert len(MetricsLog.read(tmp_path)) > 10


def test_every_group_keeps_its_names_apart():
    assert replace(CONFIG, seed=1) != CONFIG
    names = [name for group in _groups(CONFIG) for name in group]
    assert len(names) == len(set(names))


def test_places_where_no_run_can_lie_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkDirError, match="file is a file; name a folder"):
        workdirs.check_usable(tmp_path / "file", CONFIG, resume=False, overwrite=False)
    with pytest.raises(WorkDirError, match=r"a folder's name has a \["):
        workdirs.check_usable(tmp_path / "paper [2016]" / "run", CONFIG, resume=False, overwrite=False)
    with pytest.raises(OSError, match="name another place or see"):
        workdirs.write_atomically(tmp_path, b"")


def test_a_run_called_as_a_part_of_one_is_a_run(tmp_path):
    for name in ("paper", "run"):
        (tmp_path / name / "paper").mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in workdirs.folders_below(tmp_path)]
    assert found == [".", "paper", "run"]


def test_folders_are_found_once_whatever_links_lead_to_them(tmp_path):
    (tmp_path / "sweep" / "seed=0" / "checkpoints" / "8").mkdir(parents=True)
    (tmp_path / "sweep" / "seed=0" / "up").symlink_to("..")
    (tmp_path / "latest").symlink_to("sweep/seed=0")
    (tmp_path / "elsewhere").mkdir()
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "linked").symlink_to("../elsewhere")
    found = [path.relative_to(tmp_path).as_posix() for path in workdirs.folders_below(tmp_path)]
    assert found == [".", "elsewhere", "runs", "sweep", "sweep/seed=0"]
    assert list(workdirs.folders_below(runs)) == [runs, runs / "linked"]
