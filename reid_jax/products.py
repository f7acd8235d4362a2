"""Tables and figures of the paper as files: WORKDIR/paper/NAME.json, and where it has a picture NAME.png and NAME.pdf.

`key` is what a product follows from, beside the code: one with the same key is finished and need not be made again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reid_jax import workdir as workdirs

FOLDER = "paper"
Cell = str | int | float | None


@dataclass(frozen=True)
class Provenance:
    """Where a product comes from, in words."""

    dataset: str
    """Name of the data set, as in `config`; empty where none was read."""
    data: str
    """What was loaded: full data or a subset, which split."""
    run: str
    """The run or runs, and how their settings differ from a preset."""
    scored: str
    """Protocol and distance; empty where nothing was ranked."""


@dataclass(frozen=True)
class Product:
    """One table or figure."""

    name: str
    """Of its files, as `table7`."""
    title: str
    """As `Table VII: metric learning`."""
    statement: str
    """What was done, and what it is not, in plain sentences."""
    provenance: Provenance
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """The table, or the figures behind the picture; floats are percentages or the like, shown with one digit."""
    values: Mapping[str, Any]
    """Everything else, for programs that read the file."""
    probes: Mapping[str, int]
    """Probes `scored` and `skipped`, and the `gallery`; empty where nothing was ranked."""
    commit: str


def probes_of(record: Mapping[str, Any]) -> dict[str, int]:
    """A product's `probes`, of `retrieval.results_record`."""
    return {"scored": record["probes"], "skipped": record["skipped"], "gallery": record["gallery"]}


def make(
    name: str,
    title: str,
    statement: str,
    provenance: Provenance,
    headings: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    values: Mapping[str, Any],
    probes: Mapping[str, int] | None = None,
) -> Product:
    """A product of the code as it is now.

    Raises:
        ValueError: a row is not as long as the headings.
    """
    if any(len(row) != len(headings) for row in rows):
        raise ValueError(f"{name}: a row has not one cell for each of {', '.join(headings)}")
    plain = tuple(tuple(row) for row in rows)
    return Product(
        name, title, statement, provenance, tuple(headings), plain, values, probes or {}, workdirs.code_version()
    )


def save(folder: Path, product: Product, key: Mapping[str, Any]) -> Path:
    """Prints a product and writes FOLDER/paper/NAME.json, after its pictures: who finds it finds them too."""
    print_product(product)
    path = path_of(folder, product.name).with_suffix(".json")
    workdirs.write_json(path, {**asdict(product), "key": _plain(key)})
    print(path)
    return path


def path_of(folder: Path, name: str) -> Path:
    """Where a product's files lie, without their endings; the folder is made."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    return folder / FOLDER / name


def names(places: Sequence[Path]) -> list[str]:
    """Of several work directories: their folders' names, or their paths below the common folder where names recur.

    Raises:
        ValueError: none is given, or one twice.
    """
    if not places:
        raise ValueError("no work directory is given: name at least one run")
    whole = [place.resolve() for place in places]
    if len(set(whole)) < len(whole):
        raise ValueError(f"a work directory is given twice among {', '.join(map(str, places))}")
    short = [place.name for place in whole]
    if len(set(short)) == len(short):
        return short
    common = os.path.commonpath(whole)
    return [place.relative_to(common).as_posix() for place in whole]


def is_finished(folder: Path, name: str, key: Mapping[str, Any]) -> bool:
    """Whether FOLDER has that product, made from the same."""
    path = folder / FOLDER / f"{name}.json"
    return path.exists() and _load(path).get("key") == _plain(key)


def read(path: Path) -> Product:
    """A product of its JSON file.

    Raises:
        reid_jax.workdir.WorkDirError: it cannot be read.
    """
    values = _load(path)
    try:
        fields = {name: value for name, value in values.items() if name != "key"}
        return Product(**{**fields, "provenance": Provenance(**fields["provenance"])})
    except (KeyError, TypeError) as error:
        raise workdirs.WorkDirError(f"{path} is no table or figure of this version ({error}); delete it") from error


def collect(folder: Path) -> tuple[list[tuple[Path, Product]], list[str]]:
    """Every product below a folder, sorted by place, and what is wrong with the others."""
    found, problems = [], []
    folders = (place / FOLDER for place in workdirs.folders_below(folder))
    for path in (path for made in folders if workdirs.is_part(made) for path in sorted(made.glob("*.json"))):
        try:
            found.append((path, read(path)))
        except workdirs.WorkDirError as error:
            problems.append(str(error))
    return found, problems


def _load(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise workdirs.WorkDirError(f"{path} cannot be read ({error}); delete it") from error
    if not isinstance(values, dict):
        raise workdirs.WorkDirError(f"{path} is no table or figure of this program; move it elsewhere")
    return values


def _plain(values: Any) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(values))


def in_words(cell: Cell) -> str:
    """A cell as it is shown."""
    if cell is None:
        return ""
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def print_product(product: Product) -> None:
    """The table, with its statement below."""
    caption = product.statement
    if product.probes:
        caption += " {scored} probes scored, {skipped} skipped, gallery of {gallery}.".format(**product.probes)
    place = ", ".join(text for text in (product.provenance.data, product.provenance.scored.replace("`", "")) if text)
    table = Table(title=f"{product.title}\n{place}", caption=caption, caption_justify="left")
    for number, heading in enumerate(product.headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in product.rows:
        table.add_row(*map(in_words, row))
    Console(width=120).print(table)
