"""Embed your own tracklets: a folder of folders of images, one a tracklet, in the order of their file names.

As in:

    python -m experiments.embed --workdir runs/mars --tracklets PATH --output embeddings.npz

The file holds `name` [N] and `embedding` [N, E] in the order of the folders' names, as the run's evaluation compares
them: averaged over its test-time conditions, behind its neck, whitened where it has that; and the run's `distance`. v
[E] and c of Eq. 8 are there too where they fit such embeddings: not whitened, and on the side of a neck that they were
trained on. `experiments.search` ranks such tracklets.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float

from experiments import command_line
from reid_jax import evaluate, network, runs, whitening
from reid_jax.folders import read_folders
from reid_jax.studies import Study
from reid_jax.tracklets import Splits, Tracklets
from reid_jax.workdir import write_atomically


def main(workdir: Path, tracklets: Path, output: Path = Path("embeddings.npz")) -> None:
    """The program.

    Args:
        workdir: a trained run; the checkpoint that its evaluation scores is used.
        tracklets: folder with a folder of images for each tracklet.
        output: the file to write.
    """
    check_place(output)
    found = read_folders(tracklets)
    study = take_up(workdir, found)
    embeddings, similarity = embed(study)
    distance = study.config.evaluate.distance
    buffer = io.BytesIO()
    np.savez(buffer, name=np.array(found.table.name), embedding=embeddings, distance=distance, **similarity)
    write_atomically(output, buffer.getvalue())
    print(f"{output}: {len(found)} embeddings of {embeddings.shape[1]} values, to be compared by {distance} distances")


def take_up(workdir: Path, tracklets: Tracklets) -> Study:
    """A run's checkpoint that its evaluation scores, on tracklets of one's own."""
    step = runs.chosen_step(workdir)
    return Study(workdir, step, *runs.load_run(workdir, step), Splits(tracklets, tracklets, "own tracklets"))


def embed(study: Study) -> tuple[Float[np.ndarray, "N E"], dict[str, Any]]:
    """Embeddings of the tracklets as the run's evaluation compares them, and v and c of Eq. 8 where they fit those."""
    config, variables = study.config, study.variables
    whitens = whitening.kept_by(config, study.workdir, study.step)
    function = evaluate.embedding_of(study.network, variables)
    embeddings = evaluate.embed_conditions(function, study.splits.test, config, "whole", None)
    similarity = variables["head"]["similarity"] if network.fits_similarity(config) else {}
    if whitens is not None:
        embeddings, similarity = (embeddings @ whitens).astype(np.float32), {}
    return embeddings, similarity


def check_place(output: Path) -> None:
    """Raises ValueError where a file or folder cannot be written, before all is computed."""
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent} is no folder, in which {output.name} would lie; make it first")


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
