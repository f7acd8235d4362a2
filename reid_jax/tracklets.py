"""Tracklets: a table of what each one is, and random access to its encoded frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

JUNK = -1
DISTRACTOR = 0


@dataclass(frozen=True)
class TrackletTable:
    """N tracklets, a row each.

    Persons are positive; `DISTRACTOR` is nobody in particular, `JUNK` is never scored. Cameras count from 1.
    `query` marks the tracklets that the data set names as queries (all False where it names none).
    """

    person: Int[np.ndarray, "N"]
    camera: Int[np.ndarray, "N"]
    length: Int[np.ndarray, "N"]
    query: Bool[np.ndarray, "N"]
    name: Sequence[str]

    def __post_init__(self) -> None:
        sizes = {len(column) for column in (self.person, self.camera, self.length, self.query, self.name)}
        if len(sizes) != 1:
            raise ValueError(f"the columns of a TrackletTable differ in length: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.person)

    def take(self, rows: Int[np.ndarray, "M"]) -> "TrackletTable":
        """The table of the given rows, in their order."""
        return TrackletTable(
            person=self.person[rows],
            camera=self.camera[rows],
            length=self.length[rows],
            query=self.query[rows],
            name=[self.name[row] for row in rows],
        )


@dataclass(frozen=True)
class Tracklets:
    """A table and the records behind it: row i of the table is `records[index[i]]["frames"]`, encoded images."""

    table: TrackletTable
    records: Sequence[Mapping[str, Any]]
    index: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.table)

    def encoded(self, row: int) -> Sequence[bytes]:
        """The encoded frames of one tracklet, in time order.

        Raises:
            ValueError: its record cannot be read.
        """
        try:
            return self.records[int(self.index[row])]["frames"]
        except (RuntimeError, ValueError) as error:  # ArrayRecord's or TFDS's, of a file that is damaged or gone
            raise ValueError(
                f"tracklet {self.table.name[row]} cannot be read ({error}): what is prepared is not whole; prepare the "
                "data set again with experiments.prepare --again"
            ) from error

    def take(self, rows: Int[np.ndarray, "M"]) -> "Tracklets":
        """The tracklets of the given rows, in their order."""
        return Tracklets(self.table.take(rows), self.records, self.index[rows])


@dataclass(frozen=True)
class Splits:
    """What a data set offers one trial: tracklets to train on, and tracklets of other persons to test on."""

    train: Tracklets
    test: Tracklets
    description: str
    """What was loaded, in words: full data or a subset, which split."""


def hold_out(tracklets: Tracklets, persons: int, seed: int) -> tuple[Tracklets, Tracklets | None]:
    """(tracklets to train on, those of `persons` held-out persons), drawn by the seed from those seen in two cameras.

    The held-out table names as queries the first tracklet of each person in each camera, as MARS does. Junk and
    distractors stay with the first part, which leaves them out of training. None where `persons` is 0.

    Raises:
        ValueError: fewer than two persons would be left to train on.
    """
    if persons == 0:
        return tracklets, None
    table = tracklets.table
    known = np.unique(table.person[table.person > DISTRACTOR])
    seen_twice = [p for p in known if len(np.unique(table.camera[table.person == p])) > 1]
    if persons > len(seen_twice) or persons > len(known) - 2:
        raise ValueError(
            f"validation_persons is {persons}, but only {len(seen_twice)} of {len(known)} train persons are seen in "
            "two cameras, and two must be left to train on: lower it, or set it to 0"
        )
    chosen = np.random.default_rng(seed).choice(seen_twice, persons, replace=False)
    held = np.isin(table.person, chosen)
    validation = tracklets.take(np.flatnonzero(held))
    validation = replace(validation, table=with_first_queries(validation.table))
    return tracklets.take(np.flatnonzero(~held)), validation


def with_first_queries(table: TrackletTable) -> TrackletTable:
    """The table with the first tracklet of each person in each camera as queries, as MARS has them."""
    places = np.stack([table.person, table.camera])
    query = np.zeros(len(table), bool)
    query[np.unique(places, axis=1, return_index=True)[1]] = True
    return replace(table, query=query & (table.person > DISTRACTOR))
