"""Figures of experiments: each as PDF (vectors) and PNG, in colours that colour-blind readers tell apart."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_jax.pictures import COLOURS, MARKERS
from reid_jax.workdir import write_atomically

RESOLUTION = 200
"""Dots per inch of the PNG."""
SHADES = "cividis"
"""Of a heat map: even steps of lightness, made for colour-blind readers."""
MISSING = "#E6E6E6"


def save(figure: Figure, path: Path) -> None:
    """A figure as PDF and PNG, both named like `path` but for the ending, each written atomically."""
    # TrueType letters, which publishers ask for, and no date, so that equal figures are equal files.
    with rc_context({"pdf.fonttype": 42}):
        for ending, metadata in ((".pdf", {"CreationDate": None}), (".png", {})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending[1:], dpi=RESOLUTION, metadata=metadata)
            write_atomically(path.with_name(path.name + ending), buffer.getvalue())


def save_heat_maps(
    path: Path,
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    means: Mapping[str, Float[np.ndarray, "R C"]],
    deviations: Mapping[str, Float[np.ndarray, "R C"]],
    title: str,
) -> None:
    """A heat map for each quantity, side by side or stacked: each cell's mean and, unless it is NaN, its deviation.

    `rows` and `columns` are the name of what varies and its values in words; a cell whose mean is NaN stays grey.
    """
    room = max(0.7, 0.1 * max(map(len, columns[1])))
    width = max(2.2, room * len(columns[1])) + 0.8 + 0.1 * max(map(len, rows[1]))
    height = max(1.6, 0.55 * len(rows[1])) + 1.2
    # Maps that are wider than high stand one above the other, or a page would shrink their numbers.
    below = width > 2 * height
    size = (width, height * len(means)) if below else (width * len(means), height)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(*((len(means), 1) if below else (1, len(means))), squeeze=False).ravel()
    for axes, (quantity, mean) in zip(panels, means.items(), strict=True):
        _heat_map(axes, mean, deviations[quantity])
        axes.set_title(quantity, fontsize=10)
        axes.set_xlabel(columns[0])
        axes.set_ylabel(rows[0])
        axes.set_xticks(range(len(columns[1])), columns[1])
        axes.set_yticks(range(len(rows[1])), rows[1])
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _heat_map(axes: Axes, mean: Float[np.ndarray, "R C"], deviation: Float[np.ndarray, "R C"]) -> None:
    shades = matplotlib.colormaps[SHADES].with_extremes(bad=MISSING)
    image = axes.imshow(np.ma.masked_invalid(mean), cmap=shades, aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for edge in range(1, mean.shape[1]):
        axes.axvline(edge - 0.5, color="white", linewidth=1.5)
    for edge in range(1, mean.shape[0]):
        axes.axhline(edge - 0.5, color="white", linewidth=1.5)
    for (row, column), value in np.ndenumerate(mean):
        if np.isnan(value):
            axes.text(column, row, "no run", ha="center", va="center", fontsize=7, color="black")
            continue
        spread = deviation[row, column]
        words = f"{value:.1f}" + ("" if np.isnan(spread) else f"\n± {spread:.1f}")
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.46
        axes.text(column, row, words, ha="center", va="center", fontsize=8, color="white" if dark else "black")


def save_lines(
    path: Path,
    values: tuple[str, Sequence[str]],
    means: Mapping[str, Float[np.ndarray, "V"]],
    deviations: Mapping[str, Float[np.ndarray, "V"]],
    ordered: bool,
    title: str,
) -> None:
    """A line for each quantity over the values of one setting, its deviations as error bars where they are not NaN.

    `values` is the setting's name and its values in words, evenly spaced; without an order the points are not joined.
    """
    room = max(0.7, 0.095 * max(map(len, values[1])))
    figure = Figure(figsize=(max(4.5, room * len(values[1]) + 1.0), 3.4), layout="constrained")
    axes, positions = figure.add_subplot(), np.arange(len(values[1]))
    styles = zip(means.items(), COLOURS, MARKERS, strict=False)
    for number, ((quantity, mean), colour, marker) in enumerate(styles):
        # Apart by a little, or the error bars of one quantity hide those of the other.
        shifted = positions + 0.06 * (number - (len(means) - 1) / 2)
        spread = np.where(np.isnan(deviations[quantity]), 0.0, deviations[quantity])
        axes.errorbar(
            shifted,
            mean,
            spread,
            fmt=marker,
            linestyle="-" if ordered else "none",
            capsize=3,
            markersize=5,
            linewidth=1.5,
            color=colour,
            label=quantity,
        )
    axes.set_xticks(positions, values[1])
    axes.set_xlim(-0.4, len(positions) - 0.6)
    axes.set_xlabel(values[0])
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=9)
    save(figure, path)


@dataclass(frozen=True)
class Line:
    """One line of a panel; `spread` are error bars."""

    label: str
    x: Sequence[int | float]
    y: Sequence[int | float]
    spread: Sequence[int | float] | None = None


def save_panels(
    path: Path, panels: Mapping[str, Sequence[Line]], across: str, ticks: Sequence[str] | None, title: str
) -> None:
    """Panels side by side, each named by its quantity, over one thing.

    That is numbers from 0 on, or 0, 1, 2 ... under the words of `ticks`. A line has the same colour and mark in every
    panel; one that a panel has no points of is left out there.
    """
    figure = Figure(figsize=(max(3.4 * len(panels), 4.5), 3.3), layout="constrained")
    labels = list(dict.fromkeys(line.label for lines in panels.values() for line in lines))
    styles = {label: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(labels)}
    for axes, (quantity, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for line in (line for line in lines if len(line.x)):
            colour, marker = styles[line.label]
            axes.errorbar(
                line.x,
                line.y,
                line.spread,
                fmt=marker,
                linestyle="-",
                capsize=3,
                # Marks on many points would hide the line.
                markersize=4 if len(line.x) <= 12 else 0,
                linewidth=1.5,
                color=colour,
                label=line.label,
            )
        axes.set_title(quantity, fontsize=10)
        axes.set_xlabel(across)
        if ticks is None:
            axes.set_xlim(left=0)
        else:
            axes.set_xticks(range(len(ticks)), ticks)
        axes.grid(axis="y", alpha=0.3)
    if any(len(lines) > 1 for lines in panels.values()):
        named = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        handles = {label: handle for handle, label in named}
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(labels), fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)
