"""Several ways to embed and compare the same tracklets, a row each, beside the paper's numbers."""

from collections.abc import Mapping, Sequence

from reid_jax.config import Config
from reid_jax.evaluate import Sides
from reid_jax.products import Cell
from reid_jax.protocols import RetrievalTask
from reid_jax.published import Ranks
from reid_jax.results import FIGURES
from reid_jax.retrieval import RANKS, RetrievalResult, results_record, score

HEADINGS = ("rank-1", "rank-5", "rank-10", "rank-20", "mAP", "the paper's rank-1, 5, 10, 20")
"""Of the columns of `figures_beside`."""


def euclidean(sides: Sides, task: RetrievalTask, config: Config) -> RetrievalResult:
    """The result of embeddings ranked by Euclidean distance (section V.C)."""
    settings = config.evaluate
    return score(*sides, task, "euclidean", settings.average_precision, settings.probe_block)


def euclidean_record(sides: Sides, task: RetrievalTask, config: Config) -> dict[str, float]:
    """`results_record` of `euclidean`, and the embeddings' size as `dimensions`."""
    return results_record(euclidean(sides, task, config)) | {"dimensions": sides[0].shape[1]}


def figures_beside(record: Mapping[str, float | str], paper: Ranks | None) -> list[Cell]:
    """The cells of `HEADINGS`: rank-1, 5, 10, 20 and mAP in percent, and what the paper reports, if it does."""
    quoted = "  ".join(f"{figure:.1f}" for figure in paper) if paper else "-"
    return [*(record[name] for name in FIGURES), quoted]


def rows_beside(records: Mapping[str, Mapping[str, float]], paper: Mapping[str, Ranks]) -> list[Sequence[Cell]]:
    """A row for each record: its name, the embeddings' size, and `figures_beside`."""
    return [
        (name, int(record["dimensions"]), *figures_beside(record, paper.get(name))) for name, record in records.items()
    ]


def by_rank(paper: Mapping[str, Ranks]) -> dict[str, dict[str, float]]:
    """The paper's rows as records, for JSON."""
    return {row: {f"rank{k}": figure for k, figure in zip(RANKS, ranks, strict=True)} for row, ranks in paper.items()}
