"""The commands that README and docs show: each is one that its program takes."""

import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from experiments import command_line, many_runs, sweep
from reid_jax.sweeps import generate

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKE = re.compile(r"^ {4}(make [a-z].*)$", re.MULTILINE)
MODULE = re.compile(r"python -m (experiments(?:\.\w+)+|benchmarks(?:\.\w+)*|reid_jax(?:\.\w+)+)([^\n`]*)")
OF_SETTINGS = {"train", "evaluate", "prepare", "attention", "table4", "table7", "figure6", "figure7", "figure8"}
OF_SETTINGS |= {"figure9", "figure10", "complexity"}
OF_RUNS = {"table3", "figure5a"}


def shown(pattern):
    """Every match on every page, with the page's name."""
    return [(page.name, found) for page in PAGES for found in pattern.findall(page.read_text())]


def check(module, arguments):
    """Raises where the program would not take these arguments."""
    program = importlib.import_module("benchmarks.__main__" if module == "benchmarks" else module)
    name = module.rpartition(".")[2]
    if name in OF_SETTINGS:
        command_line.parse("", arguments, kind=command_line.TrainArguments)
    elif name in OF_RUNS:
        many_runs.parse(program.flags(), arguments, lambda _: ("seed",))
    elif name == "sweep":
        chosen, base = sweep.parse(arguments)
        assert generate(base, sweep.axes(chosen, base))
    elif name == "weights":
        tyro.cli(Annotated[program.Arguments, tyro.conf.OmitArgPrefixes], args=arguments)
    else:
        tyro.cli(functools.wraps(program.main)(lambda *_, **__: None), args=arguments)


def split(text):
    """A command's words, less a comment; what a shell would fill in stays as it is."""
    return shlex.split(text, comments=True)


@pytest.mark.parametrize(("page", "command"), shown(MODULE))
def test_programs_take_the_arguments_that_are_shown(page, command):
    module, arguments = command[0], split(command[1].replace("...", ""))
    if arguments != ["--help"]:
        check(module, arguments)


@pytest.mark.parametrize("flags", ["--vary pairs=drawn,cross", "--kernls 1", "--kernels 2", "--seeds 0 --seed 1"])
def test_commands_that_would_fail_are_told(flags):
    with pytest.raises((ValueError, SystemExit)):
        check("experiments.sweep", split(flags))


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(("page", "command"), shown(MAKE))
def test_make_starts_programs_with_arguments_that_they_take(page, command):
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    for part in command.partition("#")[0].split(" && "):
        words = split(part)
        if words[0] != "make":
            continue
        done = subprocess.run(
            ["make", "-n", *words[1:]], cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        for module, arguments in MODULE.findall(done.stdout):
            check(module, split(arguments))
