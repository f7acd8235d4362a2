"""Probes whose nearest gallery tracklet shows somebody else (Fig. 10, section V.H)."""

from dataclasses import dataclass

import numpy as np

from reid_jax.evaluate import Sides
from reid_jax.protocols import matches
from reid_jax.studies import Study


@dataclass(frozen=True)
class Failure:
    """One such probe; tracklets are rows of the test table."""

    probe: int
    wrong: int
    """The nearest of the gallery, junk left out."""
    right: int
    """The nearest that shows the probe's person in another camera."""
    rank: int
    """That one's place among the gallery, from 1."""
    distance_wrong: float
    distance_right: float


def find(study: Study, sides: Sides) -> list[Failure]:
    """All of them, first those whose wrong match is nearer than the right one by most."""
    task = study.task
    nearest, ranks = study.nearest(sides, 1)[:, 0], study.score(sides).first_match
    distances, found = study.distances(sides), []
    column = {int(row): place for place, row in enumerate(task.gallery_rows)}
    for probe in np.flatnonzero(ranks > 1):
        good, _ = matches(task, int(probe))
        right = int(good[np.argmin(distances[probe, good])])
        wrong = int(nearest[probe])
        found.append(
            Failure(
                probe=int(task.probe_rows[probe]),
                wrong=wrong,
                right=int(task.gallery_rows[right]),
                rank=int(ranks[probe]),
                distance_wrong=float(distances[probe, column[wrong]]),
                distance_right=float(distances[probe, right]),
            )
        )
    return sorted(found, key=lambda failure: (failure.distance_wrong - failure.distance_right, failure.probe))


def of_different_persons(study: Study, found: list[Failure], most: int) -> list[Failure]:
    """The first failures of different probe persons, `most` at most."""
    person, chosen = study.splits.test.table.person, {}
    for failure in found:
        chosen.setdefault(int(person[failure.probe]), failure)
    return list(chosen.values())[:most]
