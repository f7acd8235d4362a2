"""One training at a time in a work directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reid_jax.workdir import WorkDirError


@contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds its lock, which ends with the process whatever ends that; no file is left behind.

    Raises:
        WorkDirError: another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    handle = os.open(workdir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkDirError(
                f"another process trains in {workdir}: wait for it, end it, or name another work directory"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
