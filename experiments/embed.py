"""Embed your own tracklets: a folder of folders of images, one a tracklet, in the order of their file names.

As in:

    python -m experiments.embed --workdir runs/mars --tracklets PATH --output embeddings.npz

The file holds `name` [N] and `embedding` [N, E] in the order of the folders' names, as the run's evaluation compares
them: averaged over its test-time conditions, behind its neck, whitened where it has that. v [E] and c of Eq. 8 are
there too where they fit such embeddings: not whitened, and on the side of a neck that they were trained on.
"""

import io
from pathlib import Path

import numpy as np
import tyro

from experiments import command_line
from reid_jax import evaluate, network, runs, whitening
from reid_jax.tracklets import DISTRACTOR, Tracklets, TrackletTable
from reid_jax.workdir import write_atomically

IMAGES = {".jpg", ".jpeg", ".png"}


def read_folders(folder: Path) -> Tracklets:
    """Every subfolder's images as one tracklet, sorted; persons and cameras are unknown.

    Raises:
        ValueError: there is no subfolder, or one without images.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one that holds a folder of images for each tracklet")
    records, names = [], []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        images = sorted(path for path in place.iterdir() if path.suffix.lower() in IMAGES)
        if not images:
            raise ValueError(f"{place} holds no .jpg or .png image; remove the folder or fill it")
        records.append({"frames": [path.read_bytes() for path in images]})
        names.append(place.name)
    if not records:
        raise ValueError(f"{folder} holds no folders; each tracklet's images go into a folder of their own")
    count = len(records)
    length = np.array([len(record["frames"]) for record in records])
    unknown = np.full(count, DISTRACTOR)
    table = TrackletTable(unknown, np.ones(count, np.int64), length, np.zeros(count, bool), names)
    return Tracklets(table, records, np.arange(count))


def main(workdir: Path, tracklets: Path, output: Path = Path("embeddings.npz")) -> None:
    """The program.

    Args:
        workdir: a trained run; its best checkpoint is used.
        tracklets: folder with a folder of images for each tracklet.
        output: the file to write.
    """
    found = read_folders(tracklets)
    step = runs.best_step(workdir)
    trained, variables = runs.load_run(workdir, step)
    whitens = whitening.kept_by(trained.config, workdir, step)
    embeddings = evaluate.embed_conditions(
        evaluate.embedding_of(trained, variables), found, trained.config, "whole", None
    )
    similarity = variables["head"]["similarity"] if network.fits_similarity(trained.config) else {}
    if whitens is not None:
        embeddings, similarity = embeddings @ whitens, {}
    buffer = io.BytesIO()
    np.savez(buffer, name=np.array(found.table.name), embedding=embeddings, **similarity)
    write_atomically(output, buffer.getvalue())
    print(f"{output}: {len(found)} embeddings of {embeddings.shape[1]} values")


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
