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

import numpy as np
import tyro

from experiments import command_line
from reid_jax import studies
from reid_jax.folders import read_folders
from reid_jax.workdir import write_atomically


def main(workdir: Path, tracklets: Path, output: Path = Path("embeddings.npz")) -> None:
    """The program.

    Args:
        workdir: a trained run; the checkpoint that its evaluation scores is used.
        tracklets: folder with a folder of images for each tracklet.
        output: the file to write.
    """
    command_line.check_place(output, "file")
    found = read_folders(tracklets)
    study = studies.of_tracklets(workdir, found)
    embeddings, similarity = studies.compared_embeddings(study)
    distance = study.config.evaluate.distance
    buffer = io.BytesIO()
    np.savez(buffer, name=np.array(found.table.name), embedding=embeddings, distance=distance, **similarity)
    write_atomically(output, buffer.getvalue())
    print(f"{output}: {len(found)} embeddings of {embeddings.shape[1]} values, to be compared by {distance} distances")


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
