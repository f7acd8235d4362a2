"""Several ways to embed and compare the tracklets of one finished run, side by side and beside the paper's numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reid_jax import workdir as workdirs
from reid_jax.config import Config
from reid_jax.evaluate import Sides
from reid_jax.protocols import RetrievalTask
from reid_jax.retrieval import RANKS, results_record, score

Paper = Mapping[str, tuple[float, float, float, float]]
"""Rank-1, 5, 10 and 20 in percent of the paper's rows, by their names here."""


def euclidean_record(sides: Sides, task: RetrievalTask, config: Config) -> dict[str, float]:
    """`results_record` of embeddings ranked by Euclidean distance (section V.C), and their size `dimensions`."""
    settings = config.evaluate
    result = score(*sides, task, "euclidean", settings.average_precision, settings.probe_block)
    return results_record(result) | {"dimensions": sides[0].shape[1]}


def save_comparison(
    workdir: Path,
    name: str,
    config: Config,
    data: str,
    settings: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, float]],
    paper: Paper,
) -> dict[str, Any]:
    """Prints the rows beside the paper's and writes them to WORKDIR/results/NAME-PROTOCOL.json; returns what it holds.

    Args:
        workdir: the run's.
        name: what is compared.
        config: the run's settings, or what the evaluation changed of them.
        data: the data set in words.
        settings: what the rows were made with, beside the run's own settings.
        rows: `euclidean_record`s by their names.
        paper: the paper's numbers for this data set, where it has them.
    """
    results = {
        "dataset": config.data.dataset,
        "protocol": config.evaluate.protocol,
        "distance": "euclidean",
        "average_precision": config.evaluate.average_precision,
        "data": data,
        "split": config.data.split,
        "preset": config.preset,
        "settings": dict(settings),
        "rows": {row: dict(record) for row, record in rows.items()},
        "paper": {row: {f"rank{k}": figure for k, figure in zip(RANKS, paper[row], strict=True)} for row in paper},
    }
    print_comparison(results)
    folder = workdir / "results"
    folder.mkdir(exist_ok=True)
    workdirs.write_json(folder / f"{name}-{config.evaluate.protocol}.json", results)
    return results


def print_comparison(results: Mapping[str, Any]) -> None:
    """The table: ours in percent, the paper's rank-1, 5, 10 and 20, and the probes that were scored and skipped."""
    rows = results["rows"]
    first = next(iter(rows.values()))
    table = Table(
        title=f"{results['data']}: {results['protocol']}, euclidean, AP {results['average_precision']}",
        caption=f"{first['probes']} probes scored, {first['skipped']} skipped, gallery of {first['gallery']}",
    )
    columns = ("", "values", *(f"rank-{k}" for k in RANKS), "mAP", "the paper's rank-1, 5, 10, 20")
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    for name, record in rows.items():
        percent = [f"{record[key]:.1f}" for key in (*(f"rank{k}" for k in RANKS), "map")]
        quoted = results["paper"].get(name)
        figures = "  ".join(f"{quoted[f'rank{k}']:.1f}" for k in RANKS) if quoted else "-"
        table.add_row(name, str(record["dimensions"]), *percent, figures)
    Console(width=120).print(table)
