"""Table VIII: cross-data-set testing. Networks of finished runs on the test persons of other data sets.

As in:

    python -m experiments.table8 --workdirs runs/mars --targets ilids_vid=PATH prid2011=PATH
    python -m experiments.table8 --workdirs runs/mars runs/walkers

Every run is scored on every target, NAME or NAME=PATH of its download; without `--targets` these are the runs' own data
sets. Tracklets are resized to the run's frames; protocol and test half are the target's, everything else is the run's.
The paper trains on MARS: rank-1, 10 and 20 are 49.2, 87.6, 92.1 on iLIDS-VID and 61.4, 91.2, 94.7 on PRID 2011.
Ours, rank-1 and mAP of preset `default`: trained on the MARS subset and tested on walkers 44.7, 37.7; trained on
walkers and tested on the MARS subset 28.8, 14.4. Both, with their own data sets, in 141 s on 2 cores of an Intel Xeon.
Written to paper/table8.json below the first work directory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import tyro

import data_builders
from experiments import command_line
from reid_jax import products, published, studies
from reid_jax.config import Config, DatasetName
from reid_jax.metrics_log import MetricsLog
from reid_jax.presets import preset
from reid_jax.results import FIGURES, comparable, differences
from reid_jax.retrieval import results_record
from reid_jax.settings import change
from reid_jax.workdir import read_config

NAME = "table8"


def main(
    workdirs: Sequence[Path], targets: Sequence[str] = (), data_dir: Path | None = None, split: int | None = None
) -> None:
    """The program.

    Args:
        workdirs: the runs.
        targets: data sets, each NAME or NAME=PATH of its download (default: those of the runs).
        data_dir: folder of the prepared data sets (default: each run's own).
        split: which split of iLIDS-VID and PRID 2011 (default: 0); a run's own data set keeps the run's.
    """
    make(list(workdirs), targets, data_dir, split)


def make(
    places: list[Path], targets: Sequence[str] = (), data_dir: Path | None = None, split: int | None = None
) -> products.Product:
    """Scores the runs and writes the table.

    Raises:
        ValueError: a target is no data set.
    """
    names, configs = products.names(places), [read_config(place) for place in places]
    rows, values = [], []
    for place, workdir, config in zip(places, names, configs, strict=True):
        for target in target_settings(targets, configs):
            own = {"split": _split(config, target, split)} | ({"data_dir": str(data_dir)} if data_dir else {})
            moved = change(config, target | own)
            study = studies.take_up(moved, place, data_builders.load(moved.data))
            record = results_record(study.score(study.sides))
            source, name = config.data.dataset, moved.data.dataset
            quoted = published.TABLE_8.get((source, name))
            paper = "  ".join(f"{figure:.1f}" for figure in quoted) if quoted else "-"
            counts = record["probes"], record["gallery"]
            rows.append((source, name, *(record[figure] for figure in FIGURES), *counts, paper))
            values.append({"workdir": workdir, "trained_on": source, "data": study.splits.description, **record})
    distances = dict.fromkeys(config.evaluate.distance for config in configs)
    product = products.make(
        NAME,
        "Table VIII: cross-data-set testing",
        _statement(configs),
        products.Provenance(
            configs[0].data.dataset,
            "; ".join(dict.fromkeys(value["data"] for value in values)),
            "; ".join(f"`{name}`, {differences(config)}" for name, config in zip(names, configs, strict=True)),
            f"each target's own protocol, {' and '.join(distances)} distances",
        ),
        ("trained on", "tested on", "rank-1", "rank-5", "rank-10", "rank-20", "mAP", "probes", "gallery",
         "the paper's rank-1, 10, 20"),
        rows,
        {"rows": values},
    )  # fmt: skip
    products.save(places[0], product, key(places, targets, split))
    return product


def _split(config: Config, target: Mapping[str, Any], wanted: int | None) -> int:
    """Of a target: a run's own data set keeps the run's, whose other splits test persons that it was trained on."""
    if target["dataset"] == config.data.dataset:
        return config.data.split
    return (wanted or 0) if target["protocol"] == "two_camera" else 0


def key(places: list[Path], targets: Sequence[str] = (), split: int | None = None) -> dict[str, Any]:
    """What the table follows from, beside the code."""
    found = {}
    for name, place in zip(products.names(places), places, strict=True):
        log, settings = MetricsLog.read(place), comparable(read_config(place))
        found[name] = {"settings": settings, "logged": log[-1]["step"] if log else 0}
    return {"runs": found, "targets": list(targets), "split": split}


def target_settings(targets: Sequence[str], configs: list[Config]) -> list[dict[str, str | None]]:
    """The settings of the data that each target names.

    Raises:
        ValueError: a target is no data set.
    """
    own = {config.data.dataset: config.data.manual_dir for config in configs}
    chosen = dict(target.split("=", 1) if "=" in target else (target, own.get(target)) for target in targets) or own
    for name in chosen:
        if name not in get_args(DatasetName):
            raise ValueError(f"target {name!r}: the data sets are {', '.join(get_args(DatasetName))}")
    return [
        {"dataset": name, "manual_dir": path, "protocol": preset("default", name).evaluate.protocol}
        for name, path in chosen.items()
    ]


def _statement(configs: list[Config]) -> str:
    names = sorted({config.data.dataset for config in configs})
    if len(names) > 1:
        return f"Networks trained on {' and '.join(names)}, each tested on unseen persons of every data set."
    return (
        f"There is a network of {names[0]} alone. Rows of other data sets show what it is worth elsewhere; a row of "
        f"{names[0]} itself is no cross-data-set test."
    )


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
