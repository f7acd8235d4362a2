"""The processes that read training batches beside the main one (`--workers`)."""

import multiprocessing
import os
import signal
import threading


def stand_apart(worker: int, workers: int) -> None:
    """What a worker process begins with: it leaves its group, but ends when the main process does.

    Ctrl-C and SIGTERM are for the main process alone, which still needs batches for the step that it is about to save:
    a terminal sends them to the whole group, a scheduler to every process of a job.
    """
    del worker, workers
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Has this process end when the one that started it does, whatever ends that."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
