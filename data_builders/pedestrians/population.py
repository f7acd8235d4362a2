"""The whole data set on paper, before anything is drawn: persons, cameras, tracklets, lengths and queries."""

from dataclasses import dataclass

import numpy as np

from data_builders.pedestrians.tracklet import PERSONS, STRANGERS, Kind, Shot
from reid_jax.tracklets import DISTRACTOR, JUNK, TrackletTable

PLAN = 100
"""The stream of random numbers of the plan."""
CAMERA_ODDS = (0.04, 0.16, 0.3, 0.3, 0.2)
"""Shares of persons seen by 1, 2, ... cameras."""
TRACKLET_ODDS = (0.62, 0.28, 0.1)
"""Shares of 1, 2, 3 tracklets of a person in a camera."""
SHORTEST, LONGEST = 5, 80


@dataclass(frozen=True)
class Row:
    """One tracklet of the plan, as the table will have it."""

    person: int
    camera: int
    number: int
    kind: Kind
    length: int


def draw_length(rng: np.random.Generator) -> int:
    """Frames of a tracklet: mostly 5 to 9, a few up to 80."""
    if rng.random() < 0.015:
        return int(rng.integers(25, LONGEST + 1))
    return int(np.clip(rng.lognormal(np.log(6), 0.33), SHORTEST, 24))


def draw_cameras(rng: np.random.Generator, cameras: int) -> list[int]:
    """The cameras that see a person, sorted."""
    odds = np.array(CAMERA_ODDS[:cameras])
    count = 1 + int(rng.choice(len(odds), p=odds / odds.sum()))
    return sorted(int(camera) + 1 for camera in rng.choice(cameras, count, replace=False))


def plan_persons(rng: np.random.Generator, persons: range, cameras: int) -> list[Row]:
    """The tracklets of real persons, by person, camera and number."""
    rows = []
    for person in persons:
        for camera in draw_cameras(rng, cameras):
            count = 1 + int(rng.choice(len(TRACKLET_ODDS), p=TRACKLET_ODDS))
            rows += [Row(person, camera, number, "person", draw_length(rng)) for number in range(1, count + 1)]
    return rows


def plan_nobody(rng: np.random.Generator, person: int, count: int, cameras: int) -> list[Row]:
    """Junk (bad boxes: background, cut bodies, two people) or distractors (people of no identity, some badly cut)."""
    kinds, odds = (
        (("background", "cut", "pair"), (0.4, 0.4, 0.2)) if person == JUNK else (("person", "cut"), (0.8, 0.2))
    )
    rows = []
    for number in range(1, count + 1):
        kind, camera = str(rng.choice(kinds, p=odds)), int(rng.integers(1, cameras + 1))
        rows.append(Row(person, camera, number, kind, draw_length(rng)))
    return rows


def draw_queries(rng: np.random.Generator, rows: list[Row]) -> np.ndarray:
    """One query for each (person, camera) of real persons, one of its tracklets by chance."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, row in enumerate(rows):
        if row.person > 0:
            groups.setdefault((row.person, row.camera), []).append(index)
    query = np.zeros(len(rows), bool)
    query[[int(rng.choice(members)) for members in groups.values()]] = True
    return query


def tracklet_name(row: Row) -> str:
    """Like the names of MARS: person, camera, tracklet."""
    person = "00-1" if row.person == JUNK else f"{row.person:04d}"
    return f"{person}C{row.camera}T{row.number:04d}"


def table_of_rows(rows: list[Row], query: np.ndarray) -> TrackletTable:
    """The rows as columns."""
    return TrackletTable(
        person=np.array([row.person for row in rows], np.int64),
        camera=np.array([row.camera for row in rows], np.int64),
        length=np.array([row.length for row in rows], np.int64),
        query=query,
        name=[tracklet_name(row) for row in rows],
    )


def plan(
    seed: int, cameras: int, train_persons: int, test_persons: int, distractors: int, junk: int
) -> tuple[dict[str, TrackletTable], dict[str, list[Shot]]]:
    """Tables and shots of the splits `train` and `test`; the latter starts with junk and distractors, as in MARS."""
    rng = np.random.default_rng([seed, PLAN])
    train = plan_persons(rng, range(1, train_persons + 1), cameras)
    test = plan_nobody(rng, JUNK, junk, cameras) + plan_nobody(rng, DISTRACTOR, distractors, cameras)
    test += plan_persons(rng, range(train_persons + 1, train_persons + test_persons + 1), cameras)
    no_query = np.zeros(len(train), bool)
    tables = {"train": table_of_rows(train, no_query), "test": table_of_rows(test, draw_queries(rng, test))}
    shots: dict[str, list[Shot]] = {}
    serial = 0
    for split, rows in (("train", train), ("test", test)):
        shots[split] = []
        for row in rows:
            stream, number = (PERSONS, row.person) if row.person > 0 else (STRANGERS, serial)
            shots[split].append(Shot(seed, serial, row.camera, row.length, stream, number, row.kind))
            serial += 1
    return tables, shots
