"""Orbax checkpoints of a run: the latest and the best, written in the background, each whole or not there."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

SCORE = "validation_map"
SPARE = 2**16
"""Bytes that a checkpoint may take beside its arrays."""

# Orbax logs the traceback of every thread that a failed save passes through; the failure itself is raised here.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


class Checkpoints:
    """The checkpoints under one folder; the item `state` is a pytree, `data` says which batch comes next.

    With `read_only` nothing in the folder changes, so that a run can be looked at while it trains.
    """

    def __init__(self, folder: Path, read_only: bool) -> None:
        best = checkpoint_managers.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        keep = checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(1), best])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=_score,  # without it no score is written
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        try:
            self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{folder}: a checkpoint's score (STEP/metrics/metrics) is damaged ({error}); take that checkpoint away"
            ) from error
        self._folder = folder

    def path(self, step: int) -> Path:
        """Where a checkpoint lies."""
        return self._folder / str(step)

    def latest(self) -> int | None:
        """The last step with a whole checkpoint, or None; raises as `save` does."""
        self._wait()
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest validation score, the last of equals; the latest where none was scored."""
        self._wait()
        scores = {step: self._manager.metrics(step) for step in self._manager.all_steps()}
        scored = {step: score[SCORE] for step, score in scores.items() if score}
        return max(scored, key=lambda step: (scored[step], step)) if scored else self._manager.latest_step()

    def save(self, step: int, state: Any, score: float | None) -> None:
        """Begins to save; a failure of an earlier save in the background is raised here.

        Raises:
            OSError: the disk is full or cannot be written, with the last step whose checkpoint is whole.
        """
        self._wait()
        if self._manager.latest_step() == step:
            return
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + SPARE
        if (free := shutil.disk_usage(self._folder).free) < needed:
            raise self._unsaved(f"it needs {needed / 2**20:.1f} MiB, the disk has {free / 2**20:.1f} left")
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave({"next_batch": step}))
        try:
            self._manager.save(step, args=arguments, metrics=None if score is None else {SCORE: score})
        except (OSError, ValueError) as error:
            raise self._unsaved(error) from error

    def shape(self, step: int, *path: str) -> tuple[int, ...] | None:
        """Shape of one array of the state saved at `step`, by the names that lead to it; None where there is none.

        Raises:
            ValueError: the checkpoint is gone or damaged.
        """
        known = ocp.StandardCheckpointer().metadata(self.path(step).absolute() / "state").item_metadata
        if known is None:
            raise ValueError(f"{self.path(step)} is gone or damaged; if the run is being trained, try again")
        found = known.tree
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return None if found is None else tuple(found.shape)

    def restore(self, step: int, like: Any) -> tuple[Any, int]:
        """The state saved at `step`, in the shapes of `like`, and the number of the next batch.

        Raises:
            ValueError: the checkpoint is of another network, or damaged.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
        try:
            found = self._manager.restore(step, args=arguments)
        except jax.errors.JaxRuntimeError:  # too little memory, say
            raise
        except Exception as error:  # Orbax raises that itself for data that is damaged
            raise ValueError(
                f"{self.path(step)}: this checkpoint is not of the configured network, or is damaged; give the "
                f"settings it was trained with, or a new work directory ({str(error).partition(chr(10))[0]})"
            ) from error
        return found["state"], found["data"]["next_batch"]

    def close(self) -> None:
        """Waits for the save in the background; raises as `save` does."""
        try:
            self._wait()
        finally:
            self._manager.close()

    def _wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._unsaved(error) from error

    def _unsaved(self, reason: object) -> OSError:
        # Orbax forgets the checkpoint that the failed one would have replaced; the disk still has it.
        self._manager.reload()
        steps = self._manager.all_steps()
        kept = f"the checkpoint of step {max(steps)} is whole" if steps else "no checkpoint is whole yet"
        return OSError(
            f"{self._folder}: a checkpoint could not be saved ({reason}); {kept}. Make room, then go on with --resume."
        )


def _score(metrics: dict[str, float]) -> float:
    return metrics[SCORE]
