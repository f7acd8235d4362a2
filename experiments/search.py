"""Rank your own gallery for each of your own probes: who is most like them, and where the network looked.

As in:

    python -m experiments.search --workdir runs/mars --probes PATH --gallery PATH --output found

Both are folders with a folder of images for each tracklet, as one camera and the others, or the same folder twice: then
no tracklet finds itself. OUTPUT/ranking.csv has the nearest of each probe with their distances, as the run's evaluation
computes them; OUTPUT/ranking.png shows the first probes beside their nearest, with the location maps over the frames.
"""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, Int

from experiments import command_line
from reid_jax import clips, folders, retrieval, strips, studies
from reid_jax.studies import Study
from reid_jax.tracklets import Tracklets
from reid_jax.workdir import WorkDirError, write_atomically

BLOCK = 1024
"""Probes whose distances are computed at once."""
LONGEST, FRAMES = 16, 3
"""Frames of a tracklet that the network sees for the picture, and how many of them are shown."""
BESIDE = 4
"""Gallery tracklets beside a probe in the picture."""


def main(
    workdir: Path, probes: Path, gallery: Path, output: Path = Path("found"), top: int = 10, pictured: int = 4
) -> None:
    """The program.

    Args:
        workdir: a trained run; the checkpoint that its evaluation scores is used.
        probes: folder with a folder of images for each tracklet to look for.
        gallery: the same of the tracklets to look among.
        output: folder of the results; what it holds from before is replaced.
        top: how many of the gallery are listed for each probe.
        pictured: how many probes are in the picture (0: no picture).
    """
    command_line.check_place(output, "folder")
    if top < 1 or pictured < 0:
        raise ValueError(f"top is {top} and pictured {pictured}: one or more, and 0 or more")
    wanted, itself = folders.read_folders(probes), probes.resolve() == gallery.resolve()
    known = wanted if itself else folders.read_folders(gallery)
    study = studies.of_tracklets(workdir, wanted if itself else folders.joined(wanted, known))
    distances = compare(study, len(wanted), len(known))
    if itself:
        np.fill_diagonal(distances, np.inf)
    if not np.isfinite(distances).any():
        raise ValueError(f"{gallery} holds no tracklet but the probe itself: name a gallery with others")
    order = np.argsort(distances, axis=1, kind="stable")[:, : min(top, int(np.isfinite(distances[0]).sum()))]
    output.mkdir(exist_ok=True)
    write_ranking(output / "ranking.csv", wanted, known, order, distances)
    if pictured:
        draw(output / "ranking", study, order[:pictured], distances)
    files = "ranking.csv and ranking.png" if pictured else "ranking.csv"
    print(f"{output}: {files}, the {order.shape[1]} nearest of {len(known)} for each of {len(wanted)} probes")


def compare(study: Study, probes: int, gallery: int) -> Float[np.ndarray, "Q G"]:
    """The run's distances of the study's first tracklets, so many, from its last, so many; both may be all of them.

    Raises:
        reid_jax.workdir.WorkDirError: it compares by Eq. 8's similarity what that was not trained on.
    """
    both, similarity = studies.compared_embeddings(study)
    distance = study.config.evaluate.distance
    if distance == "similarity" and not similarity:
        raise WorkDirError(
            f"{study.workdir} compares by similarity, and v and c of Eq. 8 do not fit whitened embeddings"
        )
    sides, learned = (both[:probes], both[-gallery:]), (similarity.get("v"), similarity.get("c"))
    return np.array(retrieval.distance_matrix(*sides, distance, BLOCK, *learned))


def write_ranking(
    path: Path,
    probes: Tracklets,
    gallery: Tracklets,
    order: Int[np.ndarray, "Q top"],
    distances: Float[np.ndarray, "Q G"],
) -> None:
    """A line for each probe and each of its nearest, nearest first."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(("probe", "rank", "gallery", "distance"))
    for probe, rows in enumerate(order):
        for rank, row in enumerate(rows, start=1):
            name = probes.table.name[probe], rank, gallery.table.name[row]
            lines.writerow((*name, f"{distances[probe, row]:.6g}"))
    write_atomically(path, text.getvalue().encode())


def draw(path: Path, study: Study, order: Int[np.ndarray, "P top"], distances: Float[np.ndarray, "Q G"]) -> None:
    """The first probes, each beside its nearest; the study's tracklets begin with the probes, the gallery is last."""
    beside, name = min(BESIDE, order.shape[1]), study.splits.test.table.name
    first = len(name) - distances.shape[1]
    rows = [[probe, *(first + nearest[:beside]).tolist()] for probe, nearest in enumerate(order)]
    seen = iter(clips.watch(study, [row for line in rows for row in line], LONGEST))
    shown = []
    for probe, line in enumerate(rows):
        labels = [f"{name[row]}; {distances[probe, row - first]:.3g}" for row in line[1:]]
        names = [str(name[probe]), *labels]
        shown.append([replace(next(seen), label=label) for label in names])
    strips.save_side_by_side(path, shown, ("probe", *(f"rank {rank}" for rank in range(1, beside + 1))), FRAMES)


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
