"""Fig. 10: failures. Probes beside the nearest gallery tracklet, which shows somebody else, and beside the right one.

As in:

    python -m experiments.figure10 --workdir runs/mars

The picture has, of different persons, those probes whose wrong match is nearer than the right one by most, all with
their attention. The paper shows examples and gives no numbers; ours, preset `default`: 97 of 406 probes fail on the
MARS subset, 50 of 141 on walkers. 3 s on 2 cores of an Intel Xeon. Written to WORKDIR/paper/figure10.json, .png and
.pdf; the JSON lists every failure.
"""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from experiments import finished_run
from reid_jax import clips, failures, products, strips
from reid_jax.failures import Failure
from reid_jax.studies import Study

NAME = "figure10"
PERSONS, LONGEST, SHOWN = 4, 16, 4
TITLES = ("probe", "nearest: another person", "nearest right match")


def make(study: Study) -> products.Product:
    """Lists the failures of a run's test persons and draws the worst of them."""
    found = failures.find(study, study.sides)
    drawn = failures.of_different_persons(study, found, PERSONS)
    if drawn:
        _draw(study, drawn)
    ranks = np.array([failure.rank for failure in found])
    bounds = {"2 to 5": (2, 5), "6 to 10": (6, 10), "11 to 20": (11, 20), "21 or more": (21, np.inf)}
    rows = [(words, int(((ranks >= low) & (ranks <= high)).sum())) for words, (low, high) in bounds.items()]
    result = study.score(study.sides)
    product = products.make(
        NAME,
        "Fig. 10: failures",
        f"{len(found)} of {result.probes_scored} scored probes find somebody else first.",
        study.provenance(),
        ("rank of the nearest right match", "probes"),
        rows,
        {"failures": [_listed(study, failure) for failure in found], "drawn": len(drawn)},
        {"scored": result.probes_scored, "skipped": result.probes_skipped, "gallery": result.gallery_size},
    )
    products.save(study.workdir, product, study.key())
    return product


def _draw(study: Study, drawn: list[Failure]) -> None:
    rows = [row for failure in drawn for row in (failure.probe, failure.wrong, failure.right)]
    seen = clips.watch(study, rows, LONGEST)
    pairs = []
    for failure, probe, wrong, right in zip(drawn, seen[::3], seen[1::3], seen[2::3], strict=True):
        wrong = replace(wrong, label=f"{wrong.label}; distance {failure.distance_wrong:.3g}")
        right = replace(right, label=f"{right.label}; {failure.distance_right:.3g}, rank {failure.rank}")
        pairs.append((probe, wrong, right))
    strips.save_side_by_side(products.path_of(study.workdir, NAME), pairs, TITLES, SHOWN)


def _listed(study: Study, failure: Failure) -> dict[str, Any]:
    """A failure with its tracklets by name."""
    name = study.splits.test.table.name
    named = {side: str(name[getattr(failure, side)]) for side in ("probe", "wrong", "right")}
    return asdict(failure) | {"names": named}


if __name__ == "__main__":
    finished_run.start(make, __doc__)
