"""The C library's memory allocator, told to keep what it has and to hold it in huge pages.

A compiled step on a CPU asks for its buffers anew each time, hundreds of megabytes of them. By default glibc gives
them back to the kernel in between, and the kernel hands them out again page by page of 4 KiB: in training a backbone
that was half of the time (docs/performance.md).
"""

import os
import platform
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
_SETTINGS = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 1 << 40}


def tuned(environment: Mapping[str, str], libc: str) -> dict[str, str]:
    """`environment` with the allocator's settings, which are glibc's; what the user has set stays as it is."""
    if libc != "glibc" or VARIABLE in environment:
        return dict(environment)
    settings = ":".join(f"glibc.malloc.{name}={value}" for name, value in _SETTINGS.items())
    return {**environment, VARIABLE: settings}


def start_tuned() -> None:
    """Starts this process anew with the settings, which glibc reads only then; does nothing where they are in force.

    To be called at a program's very start: what was imported before is imported again.
    """
    environment = tuned(os.environ, platform.libc_ver()[0])
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
