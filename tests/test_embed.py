"""Embedding a user's own folders of images."""

from functools import partial

import cv2
import numpy as np
import pytest
from tiny_runs import fit, tiny_config, tiny_splits

from experiments import embed, search
from reid_jax import evaluate, network, runs, scoring, whitening, workdir
from reid_jax.folders import images_of, read_folders
from reid_jax.retrieval import distance_matrix

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make(root, **lengths):
    for name, length in lengths.items():
        (root / name).mkdir(parents=True)
        for number in range(length):
            (root / name / f"{number:03}.jpg").write_bytes(frame(name, number))


def frame(name, number):
    """An image that is no other's."""
    colour = np.full((16, 8, 3), 10 * number, np.uint8)
    colour[0] = sum(name.encode()) % 256
    return cv2.imencode(".png", colour)[1].tobytes()


def test_folders_and_frames_are_sorted(tmp_path):
    make(tmp_path, walker_b=2, walker_a=11)
    (tmp_path / "walker_a" / "notes.txt").write_text("not a frame")
    (tmp_path / "walker_a" / "._000.jpg").write_bytes(b"of a Finder")
    make(tmp_path, __MACOSX=0, **{".ipynb_checkpoints": 0})
    found = read_folders(tmp_path)
    assert found.table.name == ["walker_a", "walker_b"]
    np.testing.assert_array_equal(found.table.length, [11, 2])
    assert list(found.encoded(0)) == [frame("walker_a", number) for number in range(11)]


def test_images_are_read_when_they_are_used(tmp_path):
    make(tmp_path, walker=3)
    found = read_folders(tmp_path)
    (tmp_path / "walker" / "001.jpg").write_bytes(frame("another", 7))
    assert found.encoded(0)[1] == frame("another", 7)


@pytest.mark.parametrize("lengths", [{}, {"empty": 0}])
def test_nothing_to_embed_is_said(tmp_path, lengths):
    make(tmp_path, **lengths)
    with pytest.raises(ValueError, match="empty holds no .jpg" if lengths else "holds no folders"):
        read_folders(tmp_path)


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        read_folders(tmp_path / "nowhere")


def test_a_file_that_is_no_image_is_named(tmp_path):
    make(tmp_path, walker=3)
    (tmp_path / "walker" / "001.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"walker/001.jpg is no whole JPEG or PNG image \(0 bytes\)"):
        read_folders(tmp_path)


def test_a_place_that_cannot_be_written_and_a_run_that_is_not_there_are_said_first(tmp_path):
    make(tmp_path / "own", walker=3)
    with pytest.raises(ValueError, match="nowhere is no folder, in which e.npz would lie"):
        embed.main(tmp_path / "run", tmp_path / "own", tmp_path / "nowhere" / "e.npz")
    with pytest.raises(ValueError, match="own is there and is no file; name another --output"):
        embed.main(tmp_path / "run", tmp_path / "own", tmp_path / "own")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is there and is no folder"):
        search.main(tmp_path / "run", tmp_path / "own", tmp_path / "own", tmp_path / "file")
    with pytest.raises(workdir.WorkDirError, match="run holds no run"):
        embed.main(tmp_path / "run", tmp_path / "own", tmp_path / "e.npz")


def test_frames_are_in_time_order_however_their_numbers_are_written(tmp_path):
    (tmp_path / "walker").mkdir()
    for name in ("frame10.png", "frame9.png", "frame2.png", "frame1b.png", "frame1.png", "2.png", "a.png"):
        (tmp_path / "walker" / name).touch()
    found = [path.name for path in images_of(tmp_path / "walker")]
    assert found == ["2.png", "a.png", "frame1.png", "frame1b.png", "frame2.png", "frame9.png", "frame10.png"]


def write(folder, tracklets, count):
    """The first tracklets' frames as a user's folders."""
    for row in range(count):
        (folder / str(row)).mkdir(parents=True)
        for number, frame in enumerate(tracklets.encoded(row)):
            (folder / str(row) / f"{number}.png").write_bytes(frame)


NECK = {"identity": 1.0, "neck": True, "positives": "all", "classifier": "linear"}


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"conditions": 2, "clip_frames": 2}, True),
        (NECK, False),
        (NECK | {"distance": "similarity"}, True),
        (NECK | {"neck_serves": "all"}, True),
    ],
)
def test_embeddings_are_those_that_evaluation_compares(tmp_path, settings, fits):
    config, folder, tracklets = tiny_config(steps=2, **settings), tmp_path / "run", tiny_splits().test
    fit(config, folder)
    write(tmp_path / "own", tracklets, 4)
    embed.main(folder, tmp_path / "own", tmp_path / "found.npz")
    trained, variables = runs.load_run(folder)
    function = partial(network.embed_clips, trained, variables)
    expected = evaluate.embed_conditions(function, tracklets, config, "whole", None)[:4]
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == {"name", "embedding", "distance"} | ({"v", "c"} if fits else set())
        np.testing.assert_allclose(found["embedding"], expected, rtol=1e-4, atol=1e-5)


def test_a_run_that_whitens_embeds_as_its_evaluation_compares(tmp_path):
    config, folder = tiny_config(steps=2, whitening=0.5, baselines=False), tmp_path / "run"
    fit(config, folder)
    tracklets = tiny_splits().test
    write(tmp_path / "own", tracklets, 3)
    with pytest.raises(workdir.WorkDirError, match="evaluate the run under its own settings"):
        embed.main(folder, tmp_path / "own", tmp_path / "found.npz")
    scoring.evaluate_run(config, folder, tiny_splits())
    embed.main(folder, tmp_path / "own", tmp_path / "found.npz")
    trained, variables = runs.load_run(folder)
    plain = evaluate.embed(lambda batch: network.embed_clips(trained, variables, batch), tracklets, config)[:3]
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == {"name", "embedding", "distance"}
        np.testing.assert_allclose(
            found["embedding"], plain @ whitening.kept_by(config, folder, 2), rtol=1e-4, atol=1e-5
        )


def ranking(path):
    """Of each probe: names and distances, nearest first."""
    found = {}
    for line in path.read_text().splitlines()[1:]:
        probe, rank, name, distance = line.split(",")
        found.setdefault(probe, []).append((name, float(distance)))
        assert len(found[probe]) == int(rank)
    return found


@pytest.mark.parametrize("settings", [{"distance": "cosine"}, {"distance": "similarity", "conditions": 2}])
def test_a_search_ranks_as_evaluation_does(tmp_path, settings):
    config, folder, tracklets = tiny_config(steps=2, **settings), tmp_path / "run", tiny_splits().test
    fit(config, folder)
    for name, rows in (("probes", [0, 3]), ("gallery", [1, 2, 4, 5, 7])):
        write(tmp_path / name, tracklets.take(np.array(rows)), len(rows))
    search.main(folder, tmp_path / "probes", tmp_path / "gallery", tmp_path / "found", top=3)
    trained, variables = runs.load_run(folder)
    embedded = evaluate.embed_conditions(evaluate.embedding_of(trained, variables), tracklets, config, "whole", None)
    learned = variables["head"]["similarity"]
    sides = embedded[[0, 3]], embedded[[1, 2, 4, 5, 7]]
    expected = distance_matrix(*sides, settings["distance"], 8, learned["v"], learned["c"])
    found = ranking(tmp_path / "found" / "ranking.csv")
    for probe, row in zip("01", expected, strict=True):
        order = np.argsort(row)[:3]
        assert [name for name, _ in found[probe]] == [str(place) for place in order]
        np.testing.assert_allclose([distance for _, distance in found[probe]], row[order], rtol=1e-3, atol=1e-5)
    picture = cv2.imread(str(tmp_path / "found" / "ranking.png"))
    assert picture.shape[1] > picture.shape[0] > 200 and picture.std() > 10


def test_in_a_folder_against_itself_no_tracklet_finds_itself_and_each_is_embedded_once(tmp_path, monkeypatch):
    config, folder, watched = tiny_config(steps=2), tmp_path / "run", []
    fit(config, folder)
    write(tmp_path / "own", tiny_splits().test, 4)
    watch = search.clips.watch
    monkeypatch.setattr(
        search.clips, "watch", lambda study, rows, *rest: watched.append((study, rows)) or watch(study, rows, *rest)
    )
    search.main(folder, tmp_path / "own", tmp_path / "own", tmp_path / "pictured", pictured=2)
    ((study, rows),) = watched
    assert len(study.splits.test) == 4
    first = [name for name, _ in ranking(tmp_path / "pictured" / "ranking.csv")["0"]]
    assert [study.splits.test.table.name[row] for row in rows[:4]] == ["0", *first]
    search.main(folder, tmp_path / "own", tmp_path / "own", tmp_path / "found", pictured=0)
    found = ranking(tmp_path / "found" / "ranking.csv")
    assert {probe: sorted(name for name, _ in lines) for probe, lines in found.items()} == {
        probe: sorted(set("0123") - {probe}) for probe in "0123"
    }
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["ranking.csv"]
    with pytest.raises(ValueError, match="top is 0"):
        search.main(folder, tmp_path / "own", tmp_path / "own", tmp_path / "found", top=0)
