"""Named evaluation protocols: which tracklets are probes and gallery, and what counts as a match.

`Q` probes and `G` gallery tracklets are rows of a `TrackletTable`. One rule holds under every protocol. For a probe, a
gallery tracklet is *good* when it shows the same person in another camera; it is *junk*, as if it were not there, when
it shows the same person in the same camera (the probe itself among them) or is marked `JUNK`; anything else is a
negative, distractors and other persons of the same camera too. Protocols differ in the tracklets of each side and in
the part of them that is embedded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from reid_jax import config
from reid_jax.tracklets import DISTRACTOR, JUNK, TrackletTable

View = Literal["whole", "first", "last"]


@dataclass(frozen=True)
class RetrievalTask:
    """What a protocol asks of a table: `probe_rows` against `gallery_rows`, both rows of that table.

    A view is the part of each tracklet that its side embeds: all of it, or its `first` or `last` T frames.
    """

    protocol: config.Protocol
    probe_rows: Int[np.ndarray, "Q"]
    gallery_rows: Int[np.ndarray, "G"]
    probe_view: View
    gallery_view: View
    probe_person: Int[np.ndarray, "Q"]
    probe_camera: Int[np.ndarray, "Q"]
    gallery_person: Int[np.ndarray, "G"]
    gallery_camera: Int[np.ndarray, "G"]


def mars_official(table: TrackletTable) -> RetrievalTask:
    """The named queries against all tracklets, the queries among them (MARS's official evaluation).

    Raises ValueError where the table names no queries, or names a query that shows no known person.
    """
    return _task("mars_official", table, _queries(table), np.arange(len(table)), "whole", "whole")


def query_removed(table: TrackletTable) -> RetrievalTask:
    """The named queries against the tracklets that are no query; raises as `mars_official` does.

    A query whose only matches are queries too has none left, and is skipped.
    """
    return _task("query_removed", table, _queries(table), np.flatnonzero(~table.query), "whole", "whole")


def two_camera(table: TrackletTable) -> RetrievalTask:
    """Camera A, the lower number, against camera B (section V.B: iLIDS-VID and PRID 2011).

    Raises ValueError where the table has not exactly two cameras.
    """
    probes, gallery = _camera_sides("two_camera", table)
    return _task("two_camera", table, probes, gallery, "whole", "whole")


def rcn_first_last(table: TrackletTable) -> RetrievalTask:
    """First frames of camera A against last frames of camera B (the test of the recurrent baseline RCN).

    Raises ValueError where the table has not exactly two cameras.
    """
    probes, gallery = _camera_sides("rcn_first_last", table)
    return _task("rcn_first_last", table, probes, gallery, "first", "last")


PROTOCOLS: Mapping[str, Callable[[TrackletTable], RetrievalTask]] = {
    protocol.__name__: protocol for protocol in (mars_official, query_removed, two_camera, rcn_first_last)
}


def check_matched(task: RetrievalTask) -> None:
    """Raises ValueError where no probe has a match, so that nothing could be scored."""
    if not any(len(matches(task, probe)[0]) for probe in range(len(task.probe_rows))):
        raise ValueError(
            f"none of the {len(task.probe_rows)} probes of {task.protocol} has a match among {len(task.gallery_rows)} "
            "gallery tracklets: a match is its person in another camera; check the tracklets' persons and cameras, or "
            "choose another --protocol"
        )


def matches(task: RetrievalTask, probe: int) -> tuple[Int[np.ndarray, "good"], Int[np.ndarray, "junk"]]:
    """Good and junk of one probe, as positions in `task.gallery_rows`, each in ascending order."""
    same_person = task.gallery_person == task.probe_person[probe]
    same_camera = task.gallery_camera == task.probe_camera[probe]
    good = np.flatnonzero(same_person & ~same_camera)
    junk = np.flatnonzero((same_person & same_camera) | (task.gallery_person == JUNK))
    return good, junk


def _queries(table: TrackletTable) -> Int[np.ndarray, "Q"]:
    rows = np.flatnonzero(table.query)
    if len(rows) == 0:
        raise ValueError(
            "the table's `query` names no tracklet, and this protocol needs named queries: "
            "use two_camera or rcn_first_last"
        )
    unknown = [table.name[row] for row in rows[table.person[rows] <= DISTRACTOR]]
    if unknown:
        raise ValueError(
            f"{len(unknown)} queries are junk or distractors (the first is {unknown[0]}): "
            "only a tracklet of a known person can be a query; correct the table's `query` or `person`"
        )
    return rows


def _camera_sides(protocol: str, table: TrackletTable) -> tuple[Int[np.ndarray, "Q"], Int[np.ndarray, "G"]]:
    cameras = np.unique(table.camera)
    if len(cameras) != 2:
        raise ValueError(
            f"{protocol} needs a table of exactly two cameras, this one's `camera` has {cameras.tolist()}: "
            "take the tracklets of two of them, or use mars_official or query_removed"
        )
    probes = np.flatnonzero((table.camera == cameras[0]) & (table.person > DISTRACTOR))
    return probes, np.flatnonzero(table.camera == cameras[1])


def _task(
    protocol: config.Protocol,
    table: TrackletTable,
    probes: Int[np.ndarray, "Q"],
    gallery: Int[np.ndarray, "G"],
    probe_view: View,
    gallery_view: View,
) -> RetrievalTask:
    return RetrievalTask(
        protocol=protocol,
        probe_rows=probes,
        gallery_rows=gallery,
        probe_view=probe_view,
        gallery_view=gallery_view,
        probe_person=table.person[probes],
        probe_camera=table.camera[probes],
        gallery_person=table.person[gallery],
        gallery_camera=table.camera[gallery],
    )
