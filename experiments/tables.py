"""Collect all finished runs, tables and figures below a folder into one page, the paper's numbers beside ours.

As in:

    python -m experiments.tables --runs runs --output docs/results.md
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import tyro

from experiments import command_line
from reid_jax import products, published, results
from reid_jax.config import DatasetName, Protocol
from reid_jax.products import Product
from reid_jax.results import FIGURES, Finished
from reid_jax.workdir import write_atomically

TITLES = {
    "walkers": "walkers", "mars": "MARS", "ilids_vid": "iLIDS-VID", "prid2011": "PRID 2011", "folders": "own data",
}  # fmt: skip
HEADINGS = (
    "run", "settings", "data", "distance", "rank-1", "rank-5", "rank-10", "rank-20", "mAP", "probes", "gallery",
    "repeats", "commit",
)  # fmt: skip
ORDER = (
    "table3", "table4", "table7", "table8", "figure5a", "figure5b", "figure6", "figure7", "figure8", "figure9",
    "figure10", "complexity",
)  # fmt: skip
"""Of the paper's tables and figures."""
SHOWN = "walkers"
"""The one data set whose pictures may be shown: the others' frames are their authors'."""
PREFACE = """# Results

Written by `make tables` from the finished runs below `{folder}`. All figures are percentages; `±` is the standard
deviation over runs that are equal but for their seed and split (divided by their number). *settings* are those that
differ from the named preset as it was at that *commit* (of the evaluation, `-dirty` where files differed from it, be it
pages alone). The paper's figures are of the full data sets with Euclidean distances, averaged over 10 trials; it gives
neither mAP nor a name for its protocol. The runs come first, then the paper's tables and figures made of them (`make
paper`, `make paper-small`); pictures are of walkers alone, since the other data sets' frames are their authors'.
"""


def main(runs: Path = Path("runs"), output: Path = Path("docs/results.md")) -> None:
    """The program.

    Args:
        runs: folder with work directories at any depth.
        output: the page to write.
    """
    if not runs.is_dir():
        raise ValueError(f"{runs} is no folder; name the one that holds the work directories with --runs")
    finished, problems = results.collect(runs)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not finished:
        raise ValueError(f"{runs} holds no finished run; train one first, or name another folder with --runs")
    made, problems = products.collect(runs)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    output.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([page(finished, runs), *paper_parts(made, runs, output.with_suffix(""))])
    write_atomically(output, text.encode())
    count = len({one.workdir for one in finished})
    print(f"{output}: {count} finished run{'s' if count > 1 else ''}, {len(made)} of the paper's tables and figures")


def paper_parts(made: Sequence[tuple[Path, Product]], folder: Path, pictures: Path) -> list[str]:
    """The part of the paper's tables and figures, in its order; pictures that may be shown are copied to `pictures`."""
    known = [(path, product) for path, product in made if product.name in ORDER]
    parts, title, shown = ["## The paper's tables and figures\n"] if known else [], None, []
    for path, product in sorted(known, key=lambda pair: (ORDER.index(pair[1].name), pair[0])):
        # Section III.E is of no run, and every work directory has the same.
        if not product.provenance.dataset and (product.name, product.rows) in shown:
            continue
        shown.append((product.name, product.rows))
        parts += [f"### {product.title}\n"] if product.title != title else []
        title = product.title
        parts.append(paper_part(path, product, folder, pictures))
    return parts


def paper_part(path: Path, product: Product, folder: Path, pictures: Path) -> str:
    """One table or figure: what was done on which data, its table, and its picture."""
    origin, place = product.provenance, path.parent.parent.relative_to(folder).as_posix()
    counts = "{scored} probes scored, {skipped} skipped, gallery {gallery}" if product.probes else ""
    facts = {
        "data": origin.data,
        "run": origin.run,
        "scored": ", ".join(text for text in (origin.scored, counts.format(**product.probes)) if text),
        "commit": product.commit,
    }
    lines = [f"**{TITLES[origin.dataset]}.** {product.statement}" if origin.dataset else product.statement, ""]
    lines += [f"- {name}: {text}" for name, text in facts.items() if text]
    rows = [[products.in_words(cell) for cell in row] for row in product.rows]
    lines += ["", *table(product.headings, rows)]
    picture = path.with_suffix(".png")
    if picture.exists() and origin.dataset == SHOWN:
        pictures.mkdir(parents=True, exist_ok=True)
        name = f"{place.replace('/', '-')}-{picture.name}"
        write_atomically(pictures / name, picture.read_bytes())
        lines += ["", f"![{product.title}]({pictures.name}/{name})"]
    elif picture.exists():
        lines += ["", f"The picture is `{picture.relative_to(folder.parent).as_posix()}`, beside it a PDF."]
    return "\n".join(lines) + "\n"


def page(finished: Sequence[Finished], folder: Path) -> str:
    """The runs: a part for each data set, protocol and average precision."""
    parts: dict[tuple[str, str, str], list[Finished]] = {}
    for one in finished:
        key = (one.results["dataset"], one.results["protocol"], one.results["average_precision"])
        parts.setdefault(key, []).append(one)
    order = [get_args(DatasetName), get_args(Protocol), ("trapezoid", "step")]
    keys = sorted(parts, key=lambda key: [names.index(name) for names, name in zip(order, key, strict=True)])
    return "\n".join([PREFACE.format(folder=folder), *(part(key, parts[key], folder) for key in keys)])


def part(key: tuple[str, str, str], finished: Sequence[Finished], folder: Path) -> str:
    """One table of runs, the paper's rows below ours, and what colour or an untrained network reach."""
    dataset, protocol, average_precision = key
    groups = results.repeats(finished)
    descriptions = dict.fromkeys(results.without_split(one.results["data"]) for one in finished)
    lines = [f"## {TITLES[dataset]}, `{protocol}`, average precision `{average_precision}`", ""]
    lines += [f"- {description}" for description in descriptions]
    quoted = [
        (f"paper: {row.method}, {row.table}", "", "full", "", *(f"{rank:.1f}" for rank in row.ranks), *[""] * 5)
        for row in published.chosen(dataset)
    ]
    lines += ["", *table(HEADINGS, [*(run_row(group, folder) for group in groups), *quoted])]
    return "\n".join([*lines, *baseline_table(groups, folder)]) + "\n"


def run_row(group: Sequence[Finished], folder: Path) -> tuple[str, ...]:
    """The line of runs that are equal but for seed and split."""
    records = [results.figures(one.results) for one in group]
    first = group[0]
    return (
        run_name(group, folder),
        ", extended after ".join([results.differences(first.config), *map(str, results.extended(first.results))]),
        kind_of_data(first),
        results.compared_by(first.results),
        *(results.in_words(records, name) for name in FIGURES),
        *(_span(one.results[name] for one in group) for name in ("probes", "gallery")),
        _repeats(group),
        ", ".join(dict.fromkeys(one.results.get("commit", "not recorded") for one in group)),
    )


def baseline_table(groups: Iterable[Sequence[Finished]], folder: Path) -> list[str]:
    """A line for each group that was scored with baselines; nothing where none was."""
    groups = [group for group in groups if any(one.results["baselines"] for one in group)]
    names = list(dict.fromkeys(name for group in groups for one in group for name in one.results["baselines"]))
    rows = []
    for group in groups:
        cells = []
        for name in names:
            scored = [one.results["baselines"][name] for one in group if name in one.results["baselines"]]
            records = [results.figures(record) for record in scored]
            cells.append(f"{results.in_words(records, 'rank1')} / {results.in_words(records, 'map')}")
        rows.append((run_name(group, folder), results.compared_by(group[0].results), *cells))
    heading = ["", "Baselines of the same runs, rank-1 / mAP:", ""]
    return [*heading, *table(("run", "distance", *names), rows)] if rows else []


def run_name(group: Sequence[Finished], folder: Path) -> str:
    """The work directory below the folder; of several, without what tells their seeds and splits apart."""
    names = [one.workdir.relative_to(folder).as_posix() for one in group]
    if len(names) > 1:
        alike = (re.sub(r"(^|,|(?<=/))(seed|split)=\d+", "", name).rstrip("/") for name in names)
        names = list(dict.fromkeys(alike))
    return ", ".join(f"`{name}`" for name in names)


def kind_of_data(one: Finished) -> str:
    """Whether a run was scored on held-out persons, a full data set, a subset, or the drawn walkers."""
    description = one.results["data"]
    if one.results["persons"] == "held_out":
        return "held-out persons"
    if "a subset" in description:
        return "subset"
    return "full" if "the full data set" in description else one.results["dataset"]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _repeats(group: Sequence[Finished]) -> str:
    seeds = sorted({one.config.seed for one in group})
    splits = sorted({one.config.data.split for one in group})
    words = [_several("seed", seeds)]
    if group[0].results["protocol"] in ("two_camera", "rcn_first_last") or len(splits) > 1:
        words.append(_several("split", splits))
    return f"{len(group)}: {'; '.join(words)}" if len(group) > 1 else "; ".join(words)


def _several(name: str, numbers: Sequence[int]) -> str:
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _span(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
