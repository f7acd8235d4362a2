"""The command line: a flag for every setting, defaults from preset or run, errors that say what to mend."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import fit, tiny_config, tiny_splits

import data_builders
from experiments import command_line
from experiments import evaluate as evaluate_program
from experiments import train as train_program
from reid_jax import workdir as workdirs
from reid_jax.config import Config
from reid_jax.presets import preset

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROOT = Path(__file__).parents[1]


def parse(*arguments, existing=False):
    return command_line.parse("A program.", list(arguments), existing, command_line.TrainArguments)


def ends(capfd, program, *arguments):
    """Exit code and error output of a program's command line, run in this process."""
    with pytest.raises(SystemExit) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program", *arguments])
        command_line.run(program)
    if isinstance(caught.value.code, str):
        return 1, caught.value.code
    return caught.value.code, capfd.readouterr().err


def test_help_lists_every_setting_with_its_default_and_a_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    words = text.split()
    settings = workdirs.flatten(preset("default", "walkers"))
    missing = [name for name in settings if not any(f"--{form}" in words for form in _forms(name))]
    assert not missing
    assert "--workdir" in words and any("--resume" in word for word in words)
    for sentence in ("lambda", "not given in the paper", "0.05"):
        assert sentence.lower() in text.lower()


def _forms(name):
    flag = name.replace("_", "-")
    return (flag, f"{flag},", f"no-{flag}", f"{flag}|--no-{flag}")


@pytest.mark.parametrize(
    "flags",
    [
        ["--processes", "2"],
        ["--coordinator", "host:1"],
        ["--coordinator", "host:1", "--processes", "2", "--process", "2"],
    ],
)
def test_processes_that_are_not_told_where_they_belong_are_an_error(flags):
    arguments = command_line.parse("A program.", flags, kind=command_line.SharedArguments)
    with pytest.raises(ValueError, match="--coordinator"):
        command_line.join(arguments)


def test_the_defaults_are_those_of_preset_and_data_set():
    assert parse().config == preset("default", "walkers")
    assert parse("--dataset", "mars", "--preset", "paper").config == preset("paper", "mars")
    assert parse("--dataset", "prid2011").config.evaluate.protocol == "two_camera"
    assert parse("--dataset", "mars").workdir == Path("runs/mars")


def test_a_flag_changes_its_one_setting():
    base = preset("small", "mars")
    found = parse("--dataset=mars", "--preset=small", "--steps", "7", "--channels", "8", "--no-mirror").config
    assert found == replace(
        base,
        train=replace(base.train, steps=7),
        data=replace(base.data, mirror=False),
        recurrent=replace(base.recurrent, channels=(8,)),
    )


def test_resume_takes_the_settings_of_the_run_and_flags_change_them(tmp_path):
    config = tiny_config(learning_rate=0.25)
    workdirs.open_workdir(tmp_path / "run", config, resume=False, overwrite=False)
    place = ("--workdir", str(tmp_path / "run"))
    assert parse("--resume", *place).config == config
    assert parse(*place, existing=True).config == config
    longer = parse("--resume", *place, "--steps", "99").config
    assert longer == replace(config, train=replace(config.train, steps=99))
    assert parse(*place).config == preset("default", "walkers"), "not without --resume"
    assert isinstance(parse("--resume", "--workdir", str(tmp_path / "new")).config, Config)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning-rte", "1"], "learning-rte"),
        (["--steps", "many"], "steps"),
        (["--preset", "huge"], "huge"),
        (["--dataset", "duke"], "duke"),
        (["--protocol", "mine"], "protocol"),
        (["--conditions", "3"], "conditions"),
    ],
)
def test_an_unknown_flag_or_value_is_named(capfd, arguments, words):
    code, text = ends(capfd, lambda: parse(*arguments))
    assert code not in (0, None) and words in text and "Traceback" not in text


def test_settings_that_contradict_themselves_are_named(capfd):
    code, text = ends(capfd, lambda: parse("--batch-pairs", "3"))
    assert code not in (0, None) and "batch_pairs is 3" in text and "Traceback" not in text


def test_a_missing_or_foreign_work_directory_ends_the_program_with_a_sentence(tmp_path, capfd):
    code, text = ends(capfd, evaluate_program.main, "--workdir", str(tmp_path / "nowhere"))
    assert code == 1 and text.startswith(f"error: {tmp_path / 'nowhere'} holds no run")
    (tmp_path / "thesis.tex").write_text("all of it")
    for flags in ([], ["--overwrite"], ["--resume"]):
        code, text = ends(capfd, train_program.main, "--workdir", str(tmp_path), *flags)
        assert code == 1 and "is no run of this program" in text


def test_an_existing_run_and_other_settings_end_the_program_before_any_data_is_read(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(data_builders, "load", lambda _: pytest.fail("the data set was read"))
    workdirs.open_workdir(tmp_path / "run", tiny_config(), resume=False, overwrite=False)
    code, text = ends(capfd, train_program.main, "--workdir", str(tmp_path / "run"))
    assert code == 1 and "--resume" in text and "--overwrite" in text
    code, text = ends(capfd, train_program.main, "--workdir", str(tmp_path / "run"), "--resume", "--learning-rate", "1")
    assert code == 1 and "learning_rate: 0.003 before, 1.0 now" in text
    code, text = ends(capfd, evaluate_program.main, "--workdir", str(tmp_path / "run"), "--frames", "9")
    assert code == 1 and "frames: 4 before, 9 now" in text
    code, text = ends(capfd, evaluate_program.main, "--workdir", str(tmp_path / "run"), "--steps", "9")
    assert code == 1 and "steps: 8 before, 9 now" in text, "which an evaluation has no use for"
    for program, flags in ((train_program, ["--resume"]), (evaluate_program, [])):
        place = ("--workdir", str(tmp_path / "run"), "--preset", "strong")
        code, text = ends(capfd, program.main, *place, *flags)
        assert code == 1 and "preset: 'default' before, 'strong' now" in text, "a name would not change the settings"
    code, text = ends(capfd, evaluate_program.main, "--workdir", str(tmp_path / "run"), "--overwrite")
    assert code == 2 and "--overwrite" in text and (tmp_path / "run" / "config.json").exists()


def test_the_programs_train_and_evaluate_a_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(data_builders, "load", lambda _: tiny_splits())
    folder, config = tmp_path / "run", tiny_config(steps=4)
    assert fit(config, folder)
    monkeypatch.setattr(sys, "argv", ["train", "--workdir", str(folder), "--resume", "--steps", "8"])
    command_line.run(train_program.main)
    assert workdirs.read_config(folder).train.steps == 8 and (folder / "results.json").exists()
    flags = ["--workdir", str(folder), "--distance", "cosine", "--no-baselines"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *flags])
    command_line.run(evaluate_program.main)
    assert (folder / "results" / "mars_official-cosine.json").exists()
    monkeypatch.setattr(sys, "argv", ["evaluate", *flags, "--clip-frames", "2"])
    command_line.run(evaluate_program.main)
    assert json.loads((folder / "results" / "mars_official-cosine-clip_frames=2.json").read_text())["altered"]
    assert not json.loads((folder / "results" / "mars_official-cosine.json").read_text())["altered"]
    assert workdirs.read_config(folder).evaluate.distance == "euclidean", "the run's settings are its own"
    assert "cosine" in capfd.readouterr().out


def test_the_error_of_a_real_process_is_one_line(tmp_path):
    command = [sys.executable, "-m", "experiments.evaluate", "--workdir", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 1 and done.stderr.strip().startswith("error: ") and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
