"""The settings that programs are started with are in force in a program and nowhere else."""

import os
import platform
import subprocess
import sys

import pytest

from reid_jax import tuning

PROGRAM = "import os; print(os.getpid(), os.environ.get('GLIBC_TUNABLES'), *__import__('sys').argv[1:])"
FLAG = "--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
ON_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")


def bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in (tuning.ALLOCATOR, tuning.XLA)}


def test_settings_of_the_user_are_kept():
    theirs = {tuning.ALLOCATOR: "glibc.malloc.hugetlb=0", tuning.XLA: f"{FLAG[:40]}=", "A": "b"}
    assert tuning.tuned(theirs, "glibc", "0.10.2") == theirs
    others = tuning.tuned({tuning.XLA: "--xla_dump_to=there"}, "", "0.10.2")
    assert others == {tuning.XLA: f"--xla_dump_to=there {FLAG}"}


def test_a_cpu_that_acts_as_several_devices_has_threads_for_all_of_them():
    forced = {tuning.XLA: "--xla_force_host_platform_device_count=8"}
    assert tuning.tuned(forced, "", "0.9.2") == forced | {tuning.THREADS: "32"}
    theirs = forced | {tuning.THREADS: "3"}
    assert tuning.tuned(theirs, "", "0.9.2") == theirs


@pytest.mark.parametrize("jaxlib", ["0.9.2", "0.99.0", "1.11.0"])
def test_what_reads_none_of_the_settings_is_left_alone(jaxlib):
    assert tuning.tuned({"A": "b"}, "", jaxlib) == {"A": "b"}


@ON_GLIBC
def test_a_program_starts_anew_once_in_the_same_process_with_its_arguments(tmp_path):
    package = tmp_path / "programs"
    package.mkdir()
    (package / "__init__.py").write_text("from reid_jax import tuning\ntuning.start_tuned()\n")
    (package / "show.py").write_text(PROGRAM)
    environment = bare() | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    process = subprocess.Popen(
        [sys.executable, "-m", "programs.show", "--a", "b c"], env=environment, stdout=subprocess.PIPE, text=True
    )
    pid, settings, *arguments = process.communicate(timeout=60)[0].split()
    assert int(pid) == process.pid
    assert "glibc.malloc.hugetlb=1" in settings
    assert arguments == ["--a", "b", "c"]


def test_importing_the_programs_starts_nothing_anew():
    code = "import experiments, os; print(os.environ.get('GLIBC_TUNABLES'), os.environ.get('XLA_FLAGS'))"
    out = subprocess.run([sys.executable, "-c", code], env=bare(), capture_output=True, text=True, timeout=60)
    assert out.stdout.split() == ["None", "None"]


def test_the_installed_xla_leaves_convolutions_to_itself():
    code = (
        "import jax, jax.numpy as jnp\n"
        "from jax import lax\n"
        "images, kernel = jnp.ones((1, 28, 28, 64)), jnp.ones((3, 3, 64, 64))\n"
        "convolve = lambda x, k: lax.conv_general_dilated(\n"
        "    x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))\n"
        "print('ynn_fusion' in jax.jit(convolve).lower(images, kernel).compile().as_text())\n"
    )
    settings = tuning.tuned(bare() | {"JAX_PLATFORMS": "cpu"}, "", tuning.metadata.version("jaxlib"))
    out = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=120)
    assert out.stdout.strip() == "False", out.stderr
