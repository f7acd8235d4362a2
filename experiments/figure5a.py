"""Fig. 5a: the coefficient lambda of the location penalty (Eq. 9), by cross-validation on the train persons.

As in:

    python -m experiments.figure5a --dataset mars --manual-dir PATH
    python -m experiments.figure5a --dataset walkers --penalties 0 1 --seeds 0 --steps 150

For every lambda and every seed a tenth of the train persons, drawn by the seed, is held out, a network is trained on
the others, and Eq. 9's two terms are taken on pairs of the held-out persons. The paper plots the loss over lambda on
MARS and settles on 1; it gives no numbers. The loss itself contains lambda, so losses of different lambdas are not
comparable: its two terms are, and so is the mAP on the held-out persons, all of the run's own checkpoint. Every other
flag is that of `experiments.train`. Finished runs are skipped. The runs and paper/figure5a.json, .png and .pdf
lie in runs/figure5a-DATASET, or in `--workdir`.

Held-out mAP for 0, 0.1, 1 and 10, two draws each: 51.2 ± 2.4, 51.8 ± 0.7, 51.8 ± 0.3, 48.5 ± 0.5 on the MARS subset
(`--preset small --endpoint last --conditions 1 --no-baselines --steps 300 --seeds 0 1`, frozen features; 705 s on 2
cores of an Intel Xeon), which fits the paper's choice of 1; 44.6 ± 4.2, 46.5 ± 5.2, 45.3 ± 3.5, 44.7 ± 4.5 on walkers
(`experiments.paper --small`; 376 s on an AMD EPYC).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments import command_line, many_runs
from reid_jax import figures, held_out, products, results, runs, sweeps
from reid_jax.metrics_log import MetricsLog
from reid_jax.settings import change
from reid_jax.sweeps import Axis, SweepRun
from reid_jax.tracklets import DISTRACTOR

NAME = "figure5a"
PENALTIES, SHARE, SEEDS = (0.0, 0.1, 1.0, 10.0), 0.1, (0, 1, 2)
BATCHES, PAIRS_SEED = 20, 0
"""Mini-batches of held-out pairs on which the losses are taken."""
QUANTITIES = {
    "pair_loss": "cross-entropy of held-out pairs",
    "penalty": "location penalty of held-out clips",
    "map": "held-out mAP (%)",
}
Found = Mapping[float, Sequence[Mapping[str, float]]]


def flags() -> argparse.ArgumentParser:
    """The flags beside those of a run."""
    parser = many_runs.parser(NAME, __doc__, SEEDS)
    parser.add_argument("--penalties", type=float, nargs="+", default=PENALTIES, help="values of lambda")
    return parser


def measure(run: SweepRun, root: Path) -> dict[str, float]:
    """A finished run's `QUANTITIES`."""
    splits, lines = many_runs.load(run.config.data), MetricsLog.read(root / run.name)
    losses = held_out.losses(run.config, root / run.name, splits, BATCHES, PAIRS_SEED)
    scores = {line["step"]: line["validation_map"] for line in lines if "validation_map" in line}
    return {**losses, "map": scores[runs.chosen_step(root / run.name)]}


def main(arguments: Sequence[str]) -> products.Product | None:
    """Trains what is not finished, and writes and draws the losses; None where that was done before."""
    chosen, base = many_runs.parse(flags(), arguments, lambda _: (sweeps.SEED, "penalty", "validation_persons"))
    root = chosen.workdir or Path("runs") / f"{NAME}-{base.data.dataset}"
    splits = many_runs.load(base.data)
    person = splits.train.table.person
    base = change(base, {"validation_persons": round(SHARE * len(np.unique(person[person > DISTRACTOR])))})
    found = sweeps.generate(base, [Axis("penalty", tuple(chosen.penalties)), Axis(sweeps.SEED, tuple(chosen.seeds))])
    held_out.plain(base)  # An error now, not after the trainings.
    many_runs.train(found, root, chosen.together)
    key = {"runs": {run.name: results.comparable(run.config) for run in found}}
    if products.is_finished(root, NAME, key):
        return None
    measured: dict[float, list[dict[str, float]]] = {}
    for run in found:
        measured.setdefault(run.config.loss.penalty, []).append(measure(run, root))
    draw(measured, products.path_of(root, NAME), base.data.dataset)
    product = products.make(
        NAME,
        "Fig. 5a: the attention penalty's coefficient lambda",
        f"Trained on 90% of the train persons, measured on the other {base.data.validation_persons}, drawn "
        f"{len(chosen.seeds)} times; {base.train.steps} training steps a run; {BATCHES} mini-batches of held-out "
        "pairs.",
        many_runs.provenance(base, root, splits.description, ""),
        ("lambda", *QUANTITIES.values(), "draws"),
        [(f"{penalty:g}", *_in_words(of), len(of)) for penalty, of in measured.items()],
        {"penalties": list(measured), "draws": list(measured.values())},
    )
    products.save(root, product, key)
    return product


def draw(measured: Found, path: Path, dataset: str) -> None:
    """A panel for each quantity over the values of lambda."""
    lines = {}
    for name, words in QUANTITIES.items():
        values = [[one[name] for one in of] for of in measured.values()]
        means, spreads = [float(np.mean(of)) for of in values], [float(np.std(of)) for of in values]
        shown = spreads if len(values[0]) > 1 else None
        lines[words] = [figures.Line(words, range(len(values)), means, shown)]
    ticks = [f"{penalty:g}" for penalty in measured]
    figures.save_panels(path, lines, "lambda", ticks, f"{dataset}: 90% of the train persons against 10%")


def _in_words(of: Sequence[Mapping[str, float]]) -> list[str]:
    cells = []
    for name in QUANTITIES:
        values, digits = [one[name] for one in of], 1 if name == "map" else 3
        spread = f" ± {np.std(values):.{digits}f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.{digits}f}{spread}")
    return cells


if __name__ == "__main__":
    command_line.run(lambda: main(sys.argv[1:]))
