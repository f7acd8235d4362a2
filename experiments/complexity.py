"""Section III.E: parameters and operations of ConvGRU layers beside fully connected ones, by formula and as counted.

As in:

    python -m experiments.complexity --dataset mars --preset paper --workdir runs/complexity

For a configuration's recurrent layers: the paper's formulas, 3 k1 k2 (Cx Ch + Ch^2) parameters and H1 H2 times as many
multiply-adds a frame, against the parameters that are made and the operations that XLA counts in the compiled cell; and
the same for an FC-GRU, 3 H1^2 H2^2 (Cx Ch + Ch^2). XLA leaves out products with zero padding, which the formula counts,
and adds the gates' element-wise steps. Nothing is trained and no data is read. The preset `paper` has 21.2 million
parameters and 1,038 million multiply-adds a frame by formula (XLA counts 739), its FC-GRU 2,714 million of both. 1 s on
2 cores. Written to
WORKDIR/paper/complexity.json (default: runs/complexity).
"""

from dataclasses import asdict
from pathlib import Path

from experiments import command_line
from reid_jax import complexity, model, products, results
from reid_jax import network as networks
from reid_jax.complexity import Cost, Layer
from reid_jax.config import Config

NAME = "complexity"
HEADINGS = (
    "layer",
    "unit",
    "parameters: formula (millions)",
    "counted",
    "multiply-adds a frame: formula (millions)",
    "XLA",
)
UNITS = {"ConvGRU": ("formula", "counted"), "FC-GRU": ("connected_formula", "connected_counted")}
"""Each unit's cost by formula and as counted, by their names in the JSON."""
COSTS = tuple(name for names in UNITS.values() for name in names)


def make(config: Config, folder: Path) -> products.Product:
    """Counts every layer and writes the table."""
    cube = networks.build(config).cube
    grids = model.recurrent_grids(cube[:2], config.attention, config.recurrent)
    stack = complexity.layers(cube, grids, config.recurrent)
    records = []
    for layer in stack:
        full = complexity.connected(layer)
        costs = [complexity.formula(layer), complexity.counted(layer, config.recurrent)]
        costs += [complexity.formula(full), complexity.counted(full, config.recurrent)]
        records.append({"layer": asdict(layer), "costs": dict(zip(COSTS, map(asdict, costs), strict=True))})
    rows = [row for layer, record in zip(stack, records, strict=True) for row in _rows(_name(layer), record["costs"])]
    total = {
        name: asdict(Cost(*(sum(record["costs"][name][part] for record in records) for part in asdict(costs[0]))))
        for name in COSTS
    }
    ratio = total["connected_counted"]["operations"] / total["counted"]["operations"]
    product = products.make(
        NAME,
        "Section III.E: complexity of ConvGRU and FC-GRU",
        f"Preset {results.differences(config)}; layers over {config.backbone.backbone}'s cubes of "
        f"{cube[0]} x {cube[1]} x {cube[2]}, from frames of {config.data.height} x {config.data.width}; T = "
        f"{config.data.frames} frames take so many times as many operations. XLA leaves out products with zero "
        f"padding. The FC-GRU, which is compiled but never run, has {ratio:.1f} times as many operations by XLA.",
        products.Provenance("", "", "", ""),
        HEADINGS,
        [*rows, *_rows("all layers", total)],
        {"layers": records, "total": total, "frames": config.data.frames},
    )
    products.save(folder, product, {})
    return product


def _rows(name: str, costs: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """A row for each unit."""
    found = []
    for unit, names in UNITS.items():
        cells = [f"{costs[cost][part] / 1e6:,.2f}" for part in ("parameters", "operations") for cost in names]
        found.append((name, unit, *cells))
    return found


def _name(layer: Layer) -> str:
    kernels = " and ".join(dict.fromkeys(f"{side}x{side}" for side in (layer.input_kernel, layer.state_kernel)))
    return f"{layer.input} to {layer.hidden}, {kernels} on {layer.grid[0]}x{layer.grid[1]}"


def main() -> None:
    """The program."""
    arguments = command_line.parse(__doc__, workdir=Path("runs") / NAME)
    make(arguments.config, arguments.workdir)


if __name__ == "__main__":
    command_line.run(main)
