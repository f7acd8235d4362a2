"""The measured part of docs/performance.md, and its plot, from results.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reid_jax.pictures import COLOURS, save
from reid_jax.workdir import write_atomically

BEGIN, END = "<!-- measured -->", "<!-- end -->"
TITLES = {
    "recurrence": "The recurrence",
    "training": "A training step",
    "embedding": "Embedding",
    "retrieval": "Retrieval",
    "input": "Input",
    "compile": "Compilation",
    "backbones": "Backbones",
    "accelerator_head": "The head on an accelerator",
    "accelerator_step": "A training step on an accelerator",
    "accelerator_backbone": "A backbone on an accelerator",
}
Record = Mapping[str, Any]


def number(value: float | None) -> str:
    """Three significant digits, or all before the point."""
    if value is None:
        return ""
    if value == round(value) and abs(value) < 1e4:
        return str(int(value))
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def table(rows: Sequence[Record]) -> list[str]:
    """Rows as a Markdown table."""
    lines = ["| what | median | range | beside | ratio | goal | met |", "| --- | --- | --- | --- | --- | --- | --- |"]
    return [*lines, *(line(row) for row in rows)]


def line(row: Record) -> str:
    """One of its lines."""
    unit = f" {row['unit']}" if row["unit"] else ""
    span = f"{number(row['low'])} to {number(row['high'])}" if row["low"] != row["high"] else ""
    beside = f"{number(row['reference'])} ({row['against']})" if row["reference"] is not None else ""
    goal = "" if row["goal"] is None else f"{'>=' if row['at_least'] else '<='} {number(row['goal'])}"
    met = {None: "", True: "yes", False: "**no**"}[row["met"]]
    cells = (row["name"], number(row["value"]) + unit, span, beside, number(row["ratio"]), goal, met)
    return "| " + " | ".join(cells) + " |"


def machine_line(part: Record) -> str:
    """Where and on what a part was measured."""
    machine, versions = part["machine"], ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    accelerator = f"{machine['accelerator']}; " if machine.get("accelerator") else ""
    processor = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    return (
        f"{accelerator}{processor}, {machine['backend']} backend; "
        f"{versions}; commit {part['commit']}, {part['minutes']:.1f} minutes."
    )


def measured_part(results: Mapping[str, Record]) -> str:
    """Everything between the markers."""
    lines: list[str] = []
    for name, title in TITLES.items():
        if part := results.get(name):
            rows = [row for row in part["rows"] if not row["curve"]]
            lines += [f"### {title}", "", machine_line(part), "", *table(rows), ""]
    return "\n".join(lines)


def with_measured(page: str, measured: str) -> str:
    """The page with its measured part replaced.

    Raises:
        ValueError: the page lacks the markers, each on a line of its own.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END} around its measured part; put them back")
    return f"{before}{BEGIN}\n\n{measured}\n{END}{after}"


def plot(path: Path, rows: Sequence[Record]) -> None:
    """Seconds of forward and backward by kernel side, frames and clips, beside PyTorch's."""
    curves: dict[str, list[Record]] = {}
    for row in rows:
        if row["curve"]:
            curves.setdefault(row["curve"], []).append(row)
    if not curves:
        return
    figure = Figure(figsize=(3.6 * len(curves), 3.6), layout="constrained")
    for axes, (curve, points) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        at = [point["at"] for point in points]
        for field, label, colour, style in (
            ("reference", "PyTorch", COLOURS[1], "s--"),
            ("value", "this library", COLOURS[0], "o-"),
        ):
            if all(point[field] is not None for point in points):
                axes.plot(at, [point[field] for point in points], style, color=colour, label=label)
        ticks = [f"{int(x)}x{int(x)}" if curve == "kernel side" else str(int(x)) for x in at]
        axes.set_xscale(
            "linear" if curve == "kernel side" else "log", **({} if curve == "kernel side" else {"base": 2})
        )
        axes.set_xticks(at, ticks)
        axes.minorticks_off()
        axes.set(xlabel=curve, ylabel="forward and backward (s)", ylim=(0, None))
        axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    save(figure, path)


def write(results: Mapping[str, Record], page: Path, output: Path, picture: Path) -> None:
    """Renders `page` with the results into `output`, and the plot into `picture`."""
    write_atomically(output, with_measured(page.read_text(), measured_part(results)).encode())
    plot(picture, results.get("recurrence", {"rows": []})["rows"])
