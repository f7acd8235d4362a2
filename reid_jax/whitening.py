"""Embeddings whitened by those of the train persons before they are compared. `N` tracklets, `E` embedding.

A trained network spreads its train persons along few directions and leaves little in all others, which still tell
new persons apart. The map is learnt once for a checkpoint and kept in the work directory.
"""

import io
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from reid_jax import devices, evaluate, metric_learning, results
from reid_jax.config import Config
from reid_jax.features import ReaderOf
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.tracklets import DISTRACTOR, Tracklets
from reid_jax.workdir import WHITENING, WorkDirError, write_atomically

REGULARISATION = 0.5
"""How far the covariance is shrunk (docs/recipe.md)."""
LONGEST = 16
"""Frames of a train tracklet that are embedded, its first ones: MARS has half a million, and a covariance needs few."""

_ELSEWHERE = set(results.SCORED) - {"whitening"}
"""Settings that a map does not follow from."""


def learnt(
    network: Network, variables: Parameters, train: Tracklets, readers: ReaderOf | None, mesh: Mesh | None = None
) -> Float[np.ndarray, "E E"]:
    """The map of the embeddings of `train`, embedded as short test tracklets are; junk and distractors are left out.

    On a mesh the variables are replicated.
    """
    known = train.take(np.flatnonzero(train.table.person > DISTRACTOR))
    function = evaluate.embedding_of(network, variables)
    settings = network.config.evaluate
    frames = min(settings.embed_frames or LONGEST, LONGEST)
    short = replace(settings, embed_frames=frames, conditions_below=sys.maxsize)
    config = replace(network.config, evaluate=short)
    embeddings = evaluate.embed_conditions(function, known, config, "whole", readers, mesh)
    return metric_learning.whitening(embeddings, settings.whitening, REGULARISATION).astype(np.float32)


def key(config: Config, step: int) -> dict[str, Any]:
    """What the map of a run follows from, beside its data and the code: its checkpoint and its settings."""
    settings = results.comparable(config)
    return {"step": step} | {name: value for name, value in settings.items() if name not in _ELSEWHERE}


def keep(workdir: Path, found: Float[np.ndarray, "E E"], of: dict[str, Any]) -> None:
    """Writes a map and its `key` into the work directory, in the place of an earlier one."""
    if devices.is_first():
        buffer = io.BytesIO()
        np.savez(buffer, map=found, key=json.dumps(of))
        write_atomically(workdir / WHITENING, buffer.getvalue())


def kept(workdir: Path, of: dict[str, Any]) -> Float[np.ndarray, "E E"] | None:
    """The map in the work directory, or None where there is none that can be read, or one of another `key`."""
    try:
        with np.load(workdir / WHITENING) as file:
            same = json.loads(str(file["key"])) == json.loads(json.dumps(of))
            return file["map"] if same else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def kept_by(config: Config, workdir: Path, step: int) -> Float[np.ndarray, "E E"] | None:
    """The map that a run's last evaluation left, or None where its settings whiten nothing.

    Raises:
        reid_jax.workdir.WorkDirError: it was not evaluated under its own settings yet.
    """
    if not config.evaluate.whitening:
        return None
    found = kept(workdir, key(config, step))
    if found is None:
        raise WorkDirError(
            f"{workdir} whitens embeddings and keeps no map for step {step}: evaluate the run under its own settings "
            f"first (make eval WORKDIR={workdir})"
        )
    return found
