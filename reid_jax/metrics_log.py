"""The metrics of a run, a line a log step, and the same as TensorBoard's curves."""

import json
from collections.abc import Mapping
from pathlib import Path

from reid_jax.workdir import METRICS, write_atomically


class MetricsLog:
    """metrics.jsonl and TensorBoard files of a run, continued after `step`: a killed run's later lines are dropped."""

    def __init__(self, workdir: Path, step: int) -> None:
        self._path = workdir / METRICS
        kept = [line for line in self.read(workdir) if line["step"] <= step]
        write_atomically(self._path, b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        self._file = self._path.open("a", buffering=1)
        # Here alone, since tensorboardX imports PyTorch where it is installed: programs that only read need not wait.
        from reid_jax.tensorboard import Curves

        self._curves = Curves(workdir / "tensorboard", step)

    @staticmethod
    def read(workdir: Path) -> list[dict[str, int | float]]:
        """The lines of metrics.jsonl; one cut short by a kill is left out."""
        path, lines = workdir / METRICS, []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return lines

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of one step; an OSError where they cannot be written."""
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._curves(step, values)
        except OSError as error:
            raise OSError(
                f"{self._path} or the tensorboard folder beside it could not be written ({error}); make room, "
                "then go on with --resume"
            ) from error

    def close(self) -> None:
        """Writes what is still held back."""
        self._file.close()
        self._curves.close()


class NoLog:
    """A log of a process that is not the one that writes."""

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
