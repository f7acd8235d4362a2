"""A run's metrics as TensorBoard's curves."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class Curves:
    """Event files in a folder, continued after `step`: TensorBoard then drops what an earlier process wrote beyond it.

    tensorboardX's own SummaryWriter hangs once its thread has met a full disk; the part of it used here has no thread.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        if step:
            self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of one step; an OSError where they cannot be written."""
        for name, value in values.items():
            self._write(step, summary=summary.scalar(name, value))
        self._events.flush()

    def _write(self, step: int, **content: Any) -> None:
        self._events.write_event(Event(step=step, wall_time=time.time(), **content))

    def close(self) -> None:
        """Writes what is still held back."""
        self._events.close()
