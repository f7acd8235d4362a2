"""How a program is started to be fast on a CPU: the C library's allocator and XLA's choice of convolutions.

Both read their settings from the environment when a process starts.

A compiled step on a CPU asks for its buffers anew each time, hundreds of megabytes of them. By default glibc gives
them back to the kernel in between, and the kernel hands them out again page by page of 4 KiB: in training a backbone
that was half of the time. XLA by default hands single convolutions to YNNPACK, which takes up to twice as long for
them as XLA's own (docs/performance.md).
"""

import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

ALLOCATOR, XLA, THREADS = "GLIBC_TUNABLES", "XLA_FLAGS", "PJRT_NPROC"
_SETTINGS = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 1 << 40}
_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"
_FORCED = "xla_force_host_platform_device_count"
"""A CPU that acts as several devices: with a thread a core, collectives that wait for each other may fill them all."""
_KNOWN = range(10, 13)
"""Minor versions of jaxlib 0 that know the flag: XLA aborts on one that it does not know."""


def tuned(environment: Mapping[str, str], libc: str, jaxlib: str) -> dict[str, str]:
    """`environment` with the settings that this C library and this version of jaxlib have; the user's own are kept."""
    found = dict(environment)
    if libc == "glibc":
        found.setdefault(ALLOCATOR, ":".join(f"glibc.malloc.{name}={value}" for name, value in _SETTINGS.items()))
    major, minor = map(int, jaxlib.split(".")[:2])
    if major == 0 and minor in _KNOWN and _FUSIONS not in found.get(XLA, ""):
        flag = f"--{_FUSIONS}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
        found[XLA] = f"{found.get(XLA, '')} {flag}".strip()
    if forced := re.search(rf"--{_FORCED}=(\d+)", found.get(XLA, "")):
        found.setdefault(THREADS, str(4 * int(forced[1])))
    return found


def start_tuned() -> None:
    """Starts this process anew with the settings, which are read only then; does nothing where they are in force.

    To be called at a program's very start: what was imported before is imported again.
    """
    environment = tuned(os.environ, platform.libc_ver()[0], metadata.version("jaxlib"))
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def keep_compiled() -> None:
    """Compiled programs are kept for the next process, where the user has not named a folder for them."""
    import jax  # not before a program is started anew

    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "reid_jax" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
