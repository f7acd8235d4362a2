"""The processes that read training batches beside the main one (`--workers`)."""

import multiprocessing
import os
import threading


def stand_apart(worker: int, workers: int) -> None:
    """What a worker process begins with: it leaves its group, but ends when the main process does.

    So Ctrl-C, and the SIGTERM that a scheduler sends to a whole group, reach the main process alone, which still needs
    batches for the step that it is about to save.
    """
    del worker, workers
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
