"""The allocator's settings are in force in a program and nowhere else."""

import os
import platform
import subprocess
import sys

import pytest

from reid_jax import allocator

PROGRAM = "import os; print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), *__import__('sys').argv[1:])"


def test_a_setting_of_the_user_is_kept():
    assert allocator.tuned({allocator.VARIABLE: "glibc.malloc.hugetlb=0", "A": "b"}, "glibc") == {
        allocator.VARIABLE: "glibc.malloc.hugetlb=0",
        "A": "b",
    }


def test_another_c_library_is_left_alone():
    assert allocator.tuned({"A": "b"}, "") == {"A": "b"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_a_program_starts_anew_once_in_the_same_process_with_its_arguments(tmp_path):
    package = tmp_path / "programs"
    package.mkdir()
    (package / "__init__.py").write_text("from reid_jax import allocator\nallocator.start_tuned()\n")
    (package / "show.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != allocator.VARIABLE}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.getcwd()])
    process = subprocess.Popen(
        [sys.executable, "-m", "programs.show", "--a", "b c"], env=environment, stdout=subprocess.PIPE, text=True
    )
    pid, settings, *arguments = process.communicate(timeout=60)[0].split()
    assert int(pid) == process.pid
    assert "glibc.malloc.hugetlb=1" in settings
    assert arguments == ["--a", "b", "c"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_importing_the_programs_starts_nothing_anew():
    environment = {name: value for name, value in os.environ.items() if name != allocator.VARIABLE}
    code = "import experiments, os; print(os.environ.get('GLIBC_TUNABLES'))"
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "None"
