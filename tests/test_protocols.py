"""Every named protocol on a small hand-made table, and the counts of the official MARS tables."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import scipy.io

from reid_jax import config
from reid_jax.protocols import PROTOCOLS, check_matched, matches
from reid_jax.tracklets import DISTRACTOR, JUNK, TrackletTable

MARS_INFO = Path(__file__).parents[2] / "shared" / "mars_info"


def make_table(rows):
    """A table of (person, camera, query) rows."""
    person, camera, query = (np.array(column) for column in zip(*rows, strict=True))
    names = [f"tracklet {row}" for row in range(len(rows))]
    return TrackletTable(person, camera, np.full(len(rows), 8), query.astype(bool), names)


def read_mars_table():
    """The official test table; skips where the tables are absent."""
    if not MARS_INFO.is_dir():
        pytest.skip("the official MARS tables are not beside the repository (../shared/mars_info)")
    table = scipy.io.loadmat(MARS_INFO / "tracks_test_info.mat")["track_test_info"]
    query = np.zeros(len(table), bool)
    query[scipy.io.loadmat(MARS_INFO / "query_IDX.mat")["query_IDX"][0].astype(int) - 1] = True
    first, last, person, camera = table.T
    return TrackletTable(person, camera, last - first + 1, query, [str(row) for row in range(len(table))])


#                        0           1           2           3           4              5                  6
MARS_LIKE = make_table([(1, 1, 1), (1, 1, 0), (1, 2, 1), (2, 1, 0), (JUNK, 1, 0), (DISTRACTOR, 2, 0), (1, 3, 0)])


def test_every_name_of_the_configuration_is_a_protocol():
    assert set(PROTOCOLS) == set(get_args(config.Protocol))


def test_mars_official_keeps_the_queries_and_sets_junk_aside():
    task = PROTOCOLS["mars_official"](MARS_LIKE)
    assert task.probe_rows.tolist() == [0, 2]
    assert task.gallery_rows.tolist() == list(range(7))
    good, junk = matches(task, 0)
    assert good.tolist() == [2, 6]
    assert junk.tolist() == [0, 1, 4]
    good, junk = matches(task, 1)
    assert good.tolist() == [0, 1, 6]
    assert junk.tolist() == [2, 4]


def test_query_removed_takes_the_queries_out_of_the_gallery():
    task = PROTOCOLS["query_removed"](MARS_LIKE)
    assert task.probe_rows.tolist() == [0, 2]
    assert task.gallery_rows.tolist() == [1, 3, 4, 5, 6]
    good, junk = matches(task, 0)
    assert task.gallery_rows[good].tolist() == [6]
    assert task.gallery_rows[junk].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("protocol", "views"), [("two_camera", ("whole", "whole")), ("rcn_first_last", ("first", "last"))]
)
def test_the_lower_camera_is_probe_and_unknown_persons_are_none(protocol, views):
    table = make_table([(3, 5, 0), (3, 2, 0), (4, 2, 0), (DISTRACTOR, 2, 0), (JUNK, 5, 0), (DISTRACTOR, 5, 0)])
    task = PROTOCOLS[protocol](table)
    assert task.probe_rows.tolist() == [1, 2]
    assert task.gallery_rows.tolist() == [0, 4, 5]
    assert (task.probe_view, task.gallery_view) == views
    good, junk = matches(task, 0)
    assert (good.tolist(), junk.tolist()) == ([0], [1])
    assert len(matches(task, 1)[0]) == 0


def test_protocols_refuse_tables_they_do_not_fit():
    no_queries = make_table([(1, 1, 0), (1, 2, 0)])
    for protocol in ("mars_official", "query_removed"):
        with pytest.raises(ValueError, match="names no tracklet.*two_camera"):
            PROTOCOLS[protocol](no_queries)
        with pytest.raises(ValueError, match=r"1 queries are junk or distractors \(the first is tracklet 1\)"):
            PROTOCOLS[protocol](make_table([(1, 1, 1), (DISTRACTOR, 2, 1)]))
    for protocol in ("two_camera", "rcn_first_last"):
        with pytest.raises(ValueError, match=r"exactly two cameras.*\[1, 2, 3\]"):
            PROTOCOLS[protocol](MARS_LIKE)


def test_a_task_without_a_match_is_refused_before_anything_is_computed():
    task = PROTOCOLS["mars_official"](make_table([(1, 1, True), (1, 1, False), (2, 2, True)]))
    with pytest.raises(ValueError, match="none of the 2 probes of mars_official has a match among 3 gallery"):
        check_matched(task)
    check_matched(PROTOCOLS["mars_official"](make_table([(1, 1, True), (1, 2, False)])))
    alone = make_table([(1, 1, True), (1, 2, True)])
    with pytest.raises(ValueError, match="of query_removed has a match among 0 gallery"):
        check_matched(PROTOCOLS["query_removed"](alone))


def test_the_official_mars_tables_give_the_known_counts():
    table = read_mars_table()
    official, removed = PROTOCOLS["mars_official"](table), PROTOCOLS["query_removed"](table)
    assert (len(official.probe_rows), len(official.gallery_rows)) == (1980, 12180)
    assert (len(removed.probe_rows), len(removed.gallery_rows)) == (1980, 10200)
    assert np.sum(removed.gallery_person != JUNK) == 9330
    for task, matchless in ((official, 0), (removed, 140)):
        assert sum(len(matches(task, probe)[0]) == 0 for probe in range(1980)) == matchless
    itself = [np.isin(row, matches(official, probe)[1]) for probe, row in enumerate(official.probe_rows)]
    assert all(itself)
