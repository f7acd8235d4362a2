"""Table IV: temporal max, average and attention pooling and Fisher vectors (Eq. 10), on the network of a finished run.

As in:

    python -m experiments.pooling --workdir runs/mars

All rows pool the same hidden states, those of the run's network, so what differs is the pooling alone. The paper's
max pooling is of a network trained with it: train one with `--pooling max` (or `average`) to compare those. Fisher
vectors cannot be trained through: a mixture is fitted on the train tracklets' frame-level states. The two Fisher rows
differ in what a descriptor is (see `reid_jax.fisher`): a frame's state averaged over the grid, or each region's.
The table is also written to WORKDIR/results/pooling-PROTOCOL.json.

Rank-1 and mAP on the MARS subset (8 frames a tracklet, mars_official, a run with attention on frozen features, whose
settings are in docs/paper.md at `fine_tune`), beside the paper's rank-1 on all of MARS: max 38.2, 22.3 (66.8);
average 37.4, 21.2 and attention 36.9, 24.9 (69.7 for both); Fisher vectors of frames 29.6, 16.9 (70.4), of regions
36.0, 22.0. With 406 probes, rank-1 is known to about 2.4 points. The subset does not confirm that Fisher vectors are
the best pooling; both rows of them have lost where in the frame a state was, which the other rows keep. 116 s of CPU
time on 2 cores.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

import data_builders
from experiments import command_line
from reid_jax import comparison, evaluate, fisher, runs, temporal_pooling, workdir
from reid_jax.config import Config
from reid_jax.network import Batch
from reid_jax.protocols import PROTOCOLS
from reid_jax.tracklets import DISTRACTOR, Splits

COMPONENTS = 16
"""The paper's C, which it does not give."""
MOST_DESCRIPTORS, VARIANCE_FLOOR = 100_000, 1e-3
"""For the mixture: how many descriptors it is fitted on, and what is added to its variances."""

POOLINGS = ("max", "average", "attention")
READINGS: tuple[fisher.Reading, ...] = ("frame", "region")
_PAPER = {
    "ilids_vid": ((59.4, 58.6, 83.8, 90.4), (61.2, 80.7, 90.3, 97.3), (63.2, 80.9, 92.2, 97.5)),
    "prid2011": ((72.4, 90.8, 96.0, 96.2), (74.8, 92.6, 97.7, 98.6), (79.2, 92.7, 97.4, 98.1)),
    "mars": ((66.8, 81.1, 86.7, 91.2), (69.7, 83.4, 88.3, 93.6), (70.4, 85.0, 89.6, 93.2)),
}
PAPER = {
    dataset: {"max": largest, "average": average, "attention": average, "Fisher vectors, frame": vectors}
    for dataset, (largest, average, vectors) in _PAPER.items()
}
"""Table IV, which has one row for average and attention; its iLIDS-VID rank-5 of max pooling is printed as 58.6."""


def compare(config: Config, place: Path, splits: Splits) -> dict[str, Any]:
    """Scores every pooling on a run's test persons; returns what the JSON file holds.

    Raises:
        ValueError: see `fisher.fit_mixture`.
    """
    network, variables = runs.load_run(place)
    network = replace(network, config=config)
    known = splits.train.take(np.flatnonzero(splits.train.table.person > DISTRACTOR))
    readers = runs.feature_readers(network, variables, splits.train)
    sample = temporal_pooling.sample_descriptors(
        network, variables, known, READINGS, MOST_DESCRIPTORS, config.seed, readers
    )
    mixtures = {
        reading: fisher.fit_mixture(found, COMPONENTS, VARIANCE_FLOOR, config.seed) for reading, found in sample.items()
    }
    ends: dict[str, int] = {}

    def function(batch: Batch) -> Float[np.ndarray, "N E"]:
        """All rows side by side, so that the network sees every tracklet once; `ends` says where each one ends."""
        pooled = temporal_pooling.pool(network, variables, mixtures, batch, POOLINGS, improved=True)
        ends.update(zip(pooled, np.cumsum([row.shape[1] for row in pooled.values()]).tolist(), strict=True))
        return np.concatenate([np.asarray(row) for row in pooled.values()], axis=1)

    task = PROTOCOLS[config.evaluate.protocol](splits.test.table)
    readers = runs.feature_readers(network, variables, splits.test)
    sides = evaluate.embed_sides(function, splits.test, task, config, readers)
    rows, start = {}, 0
    for name, end in ends.items():
        probes, gallery = (side[:, start:end] for side in sides)
        rows[name], start = comparison.euclidean_record((probes, gallery), task, config), end
    settings = {
        "trained_pooling": config.attention.pooling,
        "components": COMPONENTS,
        "descriptors_at_most": MOST_DESCRIPTORS,
        "variance_floor": VARIANCE_FLOOR,
    }
    paper = PAPER.get(config.data.dataset, {})
    return comparison.save_comparison(place, "pooling", config, splits.description, settings, rows, paper)


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, existing=True)
    workdir.check_resumable(arguments.workdir, arguments.config)
    compare(arguments.config, arguments.workdir, data_builders.load(arguments.config.data))


if __name__ == "__main__":
    command_line.run(main)
