"""Fig. 5b: convergence. Training loss and held-out mAP of finished or running trainings, step by step.

As in:

    python -m experiments.figure5b --workdirs runs/mars runs/walkers

Reads what the trainings logged. The paper plots the loss over 1,000 (iLIDS-VID, PRID 2011) and 2,000 epochs (MARS) and
gives no numbers. Held-out mAP of preset `default`: 74.2, 76.8, 84.7, 83.6, 81.9, 82.2 after 250 to 1,500 steps on the
MARS subset, 60.5, 66.0, 72.9, 73.1 after 150 to 600 on walkers. 1 s on 2 cores. Written to paper/figure5b.json, .png
and .pdf below the first work directory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments import command_line
from reid_jax import figures, products, results
from reid_jax.metrics_log import MetricsLog
from reid_jax.workdir import WorkDirError, read_config

NAME = "figure5b"
PANELS = {
    "pair_loss": "cross-entropy of training pairs",
    "accuracy": "training pairs told right (%)",
    "validation_map": "held-out mAP (%)",
}
PERCENT = {"accuracy": 100.0}
ROWS = 8
"""Logged steps of each run in the table, at most."""


def main(workdirs: Sequence[Path]) -> products.Product:
    """The program.

    Args:
        workdirs: the runs, a line each.
    """
    return make(list(workdirs))


def make(places: list[Path]) -> products.Product:
    """Writes and draws the metrics of the runs in some work directories.

    Raises:
        reid_jax.workdir.WorkDirError: one of them holds no run, or one that has logged nothing.
    """
    logged = dict(zip(products.names(places), map(_logged, places), strict=True))
    panels = {
        words: [figures.Line(name, *_points(lines, quantity)) for name, lines in logged.items()]
        for quantity, words in PANELS.items()
    }
    figures.save_panels(products.path_of(places[0], NAME), panels, "training step", None, "convergence")
    rows = [(name, *row) for name, lines in logged.items() for row in _rows(lines)]
    configs = [read_config(place) for place in places]
    described = "; ".join(f"`{name}`, {results.differences(c)}" for name, c in zip(logged, configs, strict=True))
    product = products.make(
        NAME,
        "Fig. 5b: convergence",
        "Cross-entropy and accuracy of training pairs are means over the steps before, similar and dissimilar pairs "
        "weighing one half each; the mAP is on persons held out.",
        products.Provenance(configs[0].data.dataset, "", described, ""),
        ("run", "step", "cross-entropy", "accuracy (%)", "held-out mAP"),
        rows,
        {"runs": logged},
    )
    products.save(places[0], product, {"steps": {name: lines[-1]["step"] for name, lines in logged.items()}})
    return product


def _logged(place: Path) -> list[dict[str, Any]]:
    """The log lines of a run, the mAP of a step beside its losses."""
    read_config(place)
    steps: dict[int, dict[str, Any]] = {}
    for line in MetricsLog.read(place):
        steps.setdefault(line["step"], {}).update(line)
    if not steps:
        raise WorkDirError(f"{place} has logged nothing yet; train it first")
    return list(steps.values())


def _points(lines: Sequence[dict[str, Any]], quantity: str) -> tuple[list[float], list[float]]:
    found = [(line["step"], line[quantity]) for line in lines if quantity in line]
    return [x for x, _ in found], [PERCENT.get(quantity, 1.0) * y for _, y in found]


def _rows(lines: Sequence[dict[str, Any]]) -> list[tuple]:
    """Evenly spread steps, those with a held-out mAP first of all; losses are the last that were logged by then."""
    known, filled = {"pair_loss": np.nan, "accuracy": np.nan}, []
    for line in lines:
        known |= {name: line[name] for name in ("pair_loss", "accuracy") if name in line}
        filled.append({**known, "step": line["step"], "map": line.get("validation_map")})
    scored = [line for line in filled if line["map"] is not None]
    chosen = scored if 0 < len(scored) <= ROWS else filled[:: max(1, -(-len(filled) // ROWS))]
    return [
        (line["step"], f"{line['pair_loss']:.3f}", PERCENT["accuracy"] * line["accuracy"], line["map"])
        for line in chosen
    ]


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
