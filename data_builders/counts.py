"""Counts of a prepared data set, beside the published ones."""

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

from reid_jax.tracklets import DISTRACTOR, JUNK, TrackletTable


def count(table: TrackletTable) -> dict[str, int]:
    """What is counted of one split; junk and distractors are tracklets, persons are the others' identities."""
    real = table.person > 0
    persons, first = np.unique(table.person[real], return_inverse=True)
    cameras = np.unique(np.stack([first, table.camera[real]]), axis=1)[0]
    return {
        "persons": len(persons),
        "tracklets": len(table),
        "frames": int(table.length.sum()),
        "cameras": len(np.unique(table.camera)),
        "shortest": int(table.length.min()),
        "longest": int(table.length.max()),
        "one-frame tracklets": int((table.length == 1).sum()),
        "persons in one camera": int((np.bincount(cameras, minlength=len(persons)) == 1).sum()),
        "junk": int((table.person == JUNK).sum()),
        "distractors": int((table.person == DISTRACTOR).sum()),
        "queries": int(table.query.sum()),
        "query persons": len(np.unique(table.person[table.query])),
    }


def differences(
    tables: Mapping[str, TrackletTable], published: Mapping[str, Mapping[str, int]]
) -> list[tuple[str, str, int, int]]:
    """(split, count, here, published) wherever a published count is not met."""
    return [
        (split, name, count(tables[split])[name], figure)
        for split, figures in published.items()
        for name, figure in figures.items()
        if count(tables[split])[name] != figure
    ]


def check_published(
    dataset: str, tables: Mapping[str, TrackletTable], published: Mapping[str, Mapping[str, int]]
) -> None:
    """Raise `ValueError` when a data set that is said to be whole differs from the published counts."""
    wrong = differences(tables, published)
    if wrong:
        where = "; ".join(f"{split} {name}: {here:,} here, {figure:,} published" for split, name, here, figure in wrong)
        raise ValueError(
            f"{dataset}: this download has the size of the whole data set in some tables, but differs from the "
            f"published counts in others ({where}). Tables of two downloads may be mixed: get the official ones again"
        )


def print_counts(title: str, tables: Mapping[str, TrackletTable], published: Mapping[str, Mapping[str, int]]) -> None:
    """The title and a table of the counts, with the published ones in their own columns."""
    shown = Table()
    shown.add_column("count")
    for split in tables:
        shown.add_column(split, justify="right")
        shown.add_column("published", justify="right", style="dim")
    counts = {split: count(table) for split, table in tables.items()}
    for name in next(iter(counts.values())):
        row = [name]
        for split, figures in counts.items():
            figure = published.get(split, {}).get(name)
            row += [f"{figures[name]:,}", "" if figure is None else f"{figure:,}"]
        shown.add_row(*row)
    print(title)
    Console().print(shown)
