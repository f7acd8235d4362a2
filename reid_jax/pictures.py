"""Pictures of results, saved as PNG: CMC curves, and clips with their attention laid over the frames."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_jax import backbones
from reid_jax import network as networks
from reid_jax.data import FrameReader, pad_clip, stack_clips
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.sampling import WHOLE, ClipDraw
from reid_jax.tracklets import DISTRACTOR, Tracklets
from reid_jax.workdir import write_atomically

# Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv*"
RANKS, PAPER_RANKS = 20, (1, 5, 10, 20)
CLIPS, LONGEST, SHOWN = 6, 16, 8
"""Clips in a picture, the frames of a clip that the network sees, and how many of them are shown."""


def save_cmc(path: Path, curves: Mapping[str, Float[np.ndarray, "G"]], protocol: str) -> None:
    """CMC curves up to rank 20, each with its rank-1 in the legend."""
    save(cmc_figure(curves, {}, list(curves), f"CMC, {protocol}"), path)


def cmc_figure(
    curves: Mapping[str, Float[np.ndarray, "G"]], marks: Mapping[str, Sequence[float]], order: Sequence[str], title: str
) -> Figure:
    """CMC curves up to rank 20, each with its rank-1 in the legend; `marks` are the paper's rank-1, 5, 10 and 20.

    `order` gives every name of either its colour and its kind of line.
    """
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, colour, marker, line in zip(order, COLOURS, MARKERS, ("-", "--", "-.", ":", "-", "--"), strict=False):
        if name in curves:
            ranks = np.arange(1, min(RANKS, len(curves[name])) + 1)
            values, label = 100 * curves[name][: len(ranks)], f"{name} ({100 * curves[name][0]:.1f})"
            axes.plot(ranks, values, linestyle=line, marker=marker, markersize=3.5, color=colour, label=label)
        if name in marks:
            label, style = f"{name}, the paper's ({marks[name][0]:.1f})", {"markersize": 8, "markerfacecolor": "none"}
            axes.plot(PAPER_RANKS, marks[name], linestyle="none", marker=marker, color=colour, label=label, **style)
    axes.set(xlabel="rank", ylabel="matching rate (%)", xlim=(0.5, RANKS + 0.5), ylim=(0, 101), title=title)
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, title="rank-1 in brackets")
    return figure


def save(figure: Figure, path: Path) -> None:
    """A figure as PNG, written atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    write_atomically(path, buffer.getvalue())


def save_attention(path: Path, network: Network, variables: Parameters, tracklets: Tracklets) -> None:
    """Clips of several persons: each frame, its location map laid over it, and its temporal weight as a bar."""
    rows = choose_clips(tracklets)
    reader = FrameReader(tracklets, network.config.data.height, network.config.data.width)
    counts = [min(LONGEST, int(tracklets.table.length[row])) for row in rows]
    clips = [pad_clip(reader(ClipDraw(row, 0, n, WHOLE)), LONGEST) for row, n in zip(rows, counts, strict=True)]
    batch = stack_clips(clips)
    encoding = networks.encode_clips(network, variables, batch)
    locations, selection = np.asarray(encoding.locations), np.asarray(encoding.selection)
    columns, shift = min(SHOWN, max(counts)), backbones.shift(network.config.backbone)
    figure = Figure(figsize=(columns * 1.05, len(rows) * 2.05), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row, frames, maps, weights, count in zip(
        grid, rows, batch["frames"], locations, selection, counts, strict=True
    ):
        label = f"person {tracklets.table.person[row]}"
        show_clip(list(axes), frames[:count], maps[:count], weights[:count], label, shift)
    figure.suptitle("where (red: over its even share), when (bar: the frame's weight, of the largest)", fontsize=9)
    save(figure, path)


def choose_clips(tracklets: Tracklets, most: int = CLIPS) -> list[int]:
    """The longest tracklets of different persons, `most` at most, in the order of the table."""
    table = tracklets.table
    known = np.flatnonzero(table.person > DISTRACTOR)
    longest = known[np.argsort(-table.length[known], kind="stable")]
    _, first = np.unique(table.person[longest], return_index=True)
    return sorted(longest[np.sort(first)[:most]].tolist())


def evenly(count: int, most: int) -> list[int]:
    """`most` places at most of `count`, evenly spread from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def show_clip(
    axes: Sequence,
    frames: UInt8[np.ndarray, "T H W 3"],
    maps: Float[np.ndarray, "T Kh Kw"],
    weights: Float[np.ndarray, "T"],
    label: str,
    shift: float,
) -> None:
    """A row of frames drawn evenly from the clip, each over its temporal weight."""
    for axis in axes:
        axis.set_axis_off()
    for axis, t in zip(axes, evenly(len(frames), len(axes)), strict=False):
        picture = overlay(frames[t], maps[t], shift)
        axis.imshow(picture)
        height, width = picture.shape[:2]
        bar = height * 0.06
        axis.add_patch(_rectangle(height + bar * 0.6, float(width), bar, "#DDDDDD"))
        axis.add_patch(_rectangle(height + bar * 0.6, float(width * weights[t] / weights.max()), bar, COLOURS[0]))
        axis.set(xlim=(0, width), ylim=(height + 2 * bar, 0))
    axes[0].set_title(label, fontsize=8, loc="left")


def overlay(
    frame: UInt8[np.ndarray, "H W 3"], locations: Float[np.ndarray, "Kh Kw"], shift: float
) -> Float[np.ndarray, "H2 W2 3"]:
    """A frame, four times as large, whose regions with more than their even share of the weight are tinted red.

    The map is laid `shift` pixels of the frame further below and right, to where its cells see (`backbones.shift`).
    """
    height, width = 4 * frame.shape[0], 4 * frame.shape[1]
    picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    share = cv2.resize(locations.astype(np.float32) * locations.size, (width, height), interpolation=cv2.INTER_LINEAR)
    moved = np.array([[1, 0, 4 * shift], [0, 1, 4 * shift]])
    share = cv2.warpAffine(share, moved, (width, height), borderMode=cv2.BORDER_REPLICATE)
    strength = np.clip((share - 1.0) / max(float(share.max()) - 1.0, 0.5), 0, 1)[..., None] * 0.65
    return picture * (1 - strength) + np.array([1.0, 0.1, 0.0], np.float32) * strength


def _rectangle(top: float, width: float, height: float, colour: str) -> Rectangle:
    return Rectangle((0, top), width, height, color=colour, linewidth=0)
