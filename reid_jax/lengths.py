"""Rank-1 as a function of how many frames of probe and gallery tracklets are seen (Fig. 7).

Axes: `N` tracklets, `E` embedding, `P` lengths of probes, `G` lengths of gallery tracklets.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from reid_jax import evaluate
from reid_jax.protocols import View
from reid_jax.retrieval import RetrievalResult
from reid_jax.settings import change
from reid_jax.studies import Study

LONGEST = 128
"""Of the paper's figure."""


def powers_of_two(longest: int) -> list[int]:
    """1, 2, 4 ... up to the first that holds a tracklet of `longest` frames, 128 at most."""
    return [length for length in (1, 2, 4, 8, 16, 32, 64, LONGEST) if length < 2 * longest]


def results_by_length(study: Study, lengths: Sequence[int]) -> list[list[RetrievalResult]]:
    """The result of every length of the probes (outer) against every length of the gallery (inner), ascending lengths.

    A tracklet is cut as its side of the protocol asks: to its first frames, or with `rcn_first_last` to the gallery's
    last ones; a shorter one is taken whole.
    """
    task = study.task
    if task.probe_view == task.gallery_view:
        rows = np.union1d(task.probe_rows, task.gallery_rows)
        both = embeddings_by_length(study, lengths, rows, task.probe_view)
        probes = [found[np.searchsorted(rows, task.probe_rows)] for found in both]
        gallery = [found[np.searchsorted(rows, task.gallery_rows)] for found in both]
    else:
        probes = embeddings_by_length(study, lengths, task.probe_rows, task.probe_view)
        gallery = embeddings_by_length(study, lengths, task.gallery_rows, task.gallery_view)
    return [[study.score((left, right)) for right in gallery] for left in probes]


def embeddings_by_length(
    study: Study, lengths: Sequence[int], rows: Int[np.ndarray, "N"], view: View
) -> list[Float[np.ndarray, "N E"]]:
    """Embeddings of some test tracklets cut to each length; those that a length does not cut are embedded once."""
    test = study.splits.test
    tracklets, readers, found = test.take(rows), study.readers(test), []
    for length, before in zip(lengths, [0, *lengths], strict=False):
        config = change(study.config, {"embed_frames": length, "first_last_frames": length})
        longer = np.flatnonzero(tracklets.table.length > before)
        if len(longer):
            new = evaluate.embed_conditions(study.embed, tracklets.take(longer), config, view, readers)
        found.append(found[-1].copy() if found else np.zeros_like(new))
        if len(longer):
            found[-1][longer] = new
    return found
