"""Tables II and III: nine variants of the architecture, each trained and scored.

As in:

    python -m experiments.table3 --dataset mars --manual-dir PATH --preset paper
    python -m experiments.table3 --dataset walkers --googlenet small_cnn --vgg rcn --steps 150

Three recurrent layers, the first 3x3, with kernels of (9x9, 1x1), (1x1, 9x9) or (5x5, 5x5) in the second and third,
over GoogLeNet and VGG-16; FC-GRUs over either; and the best variant with its attention muted. The FC-GRU rows take the
expected slice of the last convolution's cube (`region=slice`) where the paper takes fc7 and the last fully connected
layer. `--googlenet` and `--vgg` name the backbones that stand in the two places. Every other flag is that of
`experiments.train`; channels and kernels beyond three layers are cut, missing ones repeat the last. Finished runs are
skipped, an interrupted one is resumed. The runs and paper/table3.json lie in runs/table3-DATASET, or in `--workdir`.

Rank-1 and mAP on the MARS subset, one seed, frozen ImageNet features of EfficientNet-Lite0 and 1 in the places of
GoogLeNet and VGG-16 (`--preset small --endpoint last --conditions 1 --no-baselines --googlenet efficientnet_lite0
--vgg efficientnet_lite1 --channels 64 64 64 --input-kernels 3 5 5 --state-kernels 3 5 5 --steps 300`), beside the
paper's rank-1 on all of MARS, in the table's order: 26.8, 15.8 (56.7); 28.1, 20.8 (56.0); 29.1, 19.4 (57.6); 33.7, 21.4
(57.8); 29.3, 20.4 (60.5); 33.7, 22.8 (63.4); 34.7, 23.2 (64.0); 33.5, 24.0 (69.7); muted 35.7, 24.7 (55.2). With 406
probes rank-1 is known to about 2.3 points: ConvGRUs come out ahead of FC-GRUs as in the paper, that 5x5 kernels are the
best is not seen, and muting costs nothing where the paper loses 14.5. 700 s on 2 cores of an AMD EPYC with other work;
on walkers (`experiments.paper --small`) 580 s.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from experiments import command_line, many_runs
from reid_jax import comparison, products, published, results, sweeps
from reid_jax.config import BackboneName, Config
from reid_jax.retrieval import mean_and_std
from reid_jax.sweeps import Axis, SweepRun

NAME = "table3"
GOOGLENET, VGG = "googlenet", "vgg"
FC = {"region": "slice", "kernels": (1, 1, 1)}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    published.VGG_FC: (VGG, FC),
    published.GOOGLENET_FC: (GOOGLENET, FC),
    published.V_91: (VGG, {"kernels": (3, 9, 1)}),
    published.V_19: (VGG, {"kernels": (3, 1, 9)}),
    published.V_55: (VGG, {"kernels": (3, 5, 5)}),
    published.G_91: (GOOGLENET, {"kernels": (3, 9, 1)}),
    published.G_19: (GOOGLENET, {"kernels": (3, 1, 9)}),
    published.G_55: (GOOGLENET, {"kernels": (3, 5, 5)}),
    published.MUTED: (GOOGLENET, {"kernels": (3, 5, 5), "location": "muted"}),
}
"""The backbone's place and the settings of each row; in Table II a layer's two kernels are of one size."""


def flags() -> argparse.ArgumentParser:
    """The flags beside those of a run."""
    parser = many_runs.parser(NAME, __doc__, [0])
    names = get_args(BackboneName)
    parser.add_argument("--googlenet", choices=names, default="googlenet", help="backbone in GoogLeNet's place")
    parser.add_argument("--vgg", choices=names, default="vgg16", help="backbone in VGG-16's place")
    return parser


def runs_of(base: Config, backbones: dict[str, str], seeds: Sequence[int]) -> dict[str, list[SweepRun]]:
    """The runs of every row, a run for each seed."""
    found = {}
    for row, (place, settings) in ROWS.items():
        kernels = settings["kernels"]
        values = {name: value for name, value in settings.items() if name != "kernels"}
        values |= {"backbone": backbones[place], "layers": 3, "input_kernels": kernels, "state_kernels": kernels}
        named = [Axis(name, (value,)) for name, value in values.items() if name != "layers"]
        stacked = sweeps.configure(base, {"layers": 3})
        found[row] = sweeps.generate(stacked, [*named, Axis(sweeps.SEED, tuple(seeds))])
    return found


def main(arguments: Sequence[str]) -> products.Product:
    """Trains what is not finished, and writes the table."""
    chosen, base = many_runs.parse(flags(), arguments, lambda _: (sweeps.SEED, "backbone"))
    root = chosen.workdir or Path("runs") / f"{NAME}-{base.data.dataset}"
    backbones = {GOOGLENET: chosen.googlenet, VGG: chosen.vgg}
    found = runs_of(base, backbones, chosen.seeds)
    # Where one backbone stands in both places, rows share their runs.
    trained = {run.name: run for of_row in found.values() for run in of_row}
    many_runs.train(list(trained.values()), root, chosen.together)
    paper = published.TABLE_3.get(base.data.dataset, {})
    read = {row: [results.read(root / run.name, run.config) for run in of_row] for row, of_row in found.items()}
    rows = []
    for row, records in read.items():
        means = mean_and_std([results.figures(record) for record in records])
        rows.append((row, backbones[ROWS[row][0]], *comparison.figures_beside(means, paper.get(row))))
    first = next(iter(read.values()))[0]
    settings = base.evaluate
    product = products.make(
        NAME,
        "Tables II and III: architecture variants",
        _statement(base, backbones, len(chosen.seeds)),
        many_runs.provenance(base, root, first["data"], f"`{settings.protocol}`, {settings.distance} distances"),
        ("", "backbone", *comparison.HEADINGS),
        rows,
        {"rows": read, "paper": comparison.by_rank(paper)},
        products.probes_of(first),
    )
    products.save(root, product, {"runs": {name: results.comparable(run.config) for name, run in trained.items()}})
    return product


def _statement(base: Config, backbones: dict[str, str], seeds: int) -> str:
    stand_ins = [
        f"{backbones[place]} stands in {name}'s place"
        for place, name, usual in ((GOOGLENET, "GoogLeNet", "googlenet"), (VGG, "VGG-16", "vgg16"))
        if not backbones[place].startswith(usual)
    ]
    weights = "published weights" if base.backbone.pretrained else "no published weights"
    seeds_in_words = "one seed" if seeds == 1 else f"means over {seeds} seeds"
    words = [*stand_ins, f"{base.train.steps} training steps a run", weights, seeds_in_words]
    return f"{'; '.join(words)}. FC-GRU rows take the expected slice of the last convolution's cube."


if __name__ == "__main__":
    command_line.run(lambda: main(sys.argv[1:]))
