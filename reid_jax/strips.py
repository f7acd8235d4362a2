"""Figures of clips: their frames side by side, and over or beside them where and when the network looked.

Axes: `H W` frame, `Kh Kw` grid.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_jax.clips import Clip
from reid_jax.figures import SHADES, save
from reid_jax.pictures import COLOURS, evenly, overlay

HEIGHT, GAP = 192, 5
"""Of a frame in a figure, and the white columns between two, in pixels."""
STRIP = 1.3
"""Height of a row of frames, in inches."""
LABEL = 1.6
"""Width of a single frame's column, in frames: room for its label."""

Picture = Float[np.ndarray, "H W 3"]


def plain(clip: Clip, t: int) -> Picture:
    """A frame."""
    return clip.frames[t].astype(np.float32) / 255


def strip(pictures: Sequence[Picture], width: int) -> Float[np.ndarray, "H2 W2 3"]:
    """Pictures side by side, all of `HEIGHT` rows and `width` columns."""
    gap = np.ones((HEIGHT, GAP, 3), np.float32)
    sized = [
        cv2.resize(picture.astype(np.float32), (width, HEIGHT), interpolation=_of(picture)) for picture in pictures
    ]
    return np.clip(np.concatenate([part for picture in sized for part in (picture, gap)][:-1], axis=1), 0, 1)


def save_selection(path: Path, clips: Sequence[Clip], most: int) -> None:
    """Fig. 6: the frames of each clip over their temporal weights, where 1 is an even share."""
    width, count = _width(clips[0]), max(min(len(clip.frames), most) for clip in clips)
    figure = Figure(figsize=(_inches(width, count) + 0.8, (STRIP + 1.05) * len(clips)), layout="constrained")
    axes = figure.subplots(2 * len(clips), 1, height_ratios=[STRIP, 0.75] * len(clips))
    highest = max(float(clip.selection.max()) * len(clip.selection) for clip in clips)
    for clip, above, below in zip(clips, axes[::2], axes[1::2], strict=True):
        chosen = evenly(len(clip.frames), most)
        above.imshow(strip([plain(clip, t) for t in chosen], width), extent=(0, len(chosen), 0, 1), aspect="auto")
        _bare(above, clip.label)
        below.axhline(1.0, color="#555555", linewidth=1, linestyle="--")
        below.bar(np.arange(len(chosen)) + 0.5, clip.selection[chosen] * len(clip.selection), 0.7, color=COLOURS[0])
        below.set_ylim(0, 1.15 * max(highest, 1.2))
        below.set_ylabel("weight", fontsize=8)
        below.set_xticks(np.arange(len(chosen)) + 0.5, [str(t + 1) for t in chosen])
        below.tick_params(labelsize=7)
        below.spines[["top", "right"]].set_visible(False)
        for panel in (above, below):
            panel.set_xlim(0, count)
    axes[-1].set_xlabel("frame (dashed: an even share of the weight, 1)", fontsize=8)
    save(figure, path)


def save_attention(path: Path, clips: Sequence[Clip], most: int) -> None:
    """Fig. 8: frames of each clip, its strongest feature map, and the frames' location maps, 1 an even share."""
    width, count = _width(clips[0]), max(min(len(clip.frames), most) for clip in clips)
    size = (2 * _inches(width, count) + LABEL * _inches(width, 1) + 1.9, (STRIP + 0.25) * len(clips) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(clips), 3, squeeze=False, width_ratios=[count, LABEL, count])
    lowest, highest = (float(edge([edge(clip.shares) for clip in clips])) for edge in (np.min, np.max))
    scale = ScalarMappable(Normalize(lowest, max(highest, lowest + 1e-6)), SHADES)
    for clip, (frames, response, maps) in zip(clips, panels, strict=True):
        chosen = evenly(len(clip.frames), most)
        frames.imshow(strip([plain(clip, t) for t in chosen], width))
        _bare(frames, clip.label)
        t = int(np.argmax(clip.response.reshape(len(clip.response), -1).max(1)))
        response.imshow(strip([_grey(clip.response[t])], width))
        _bare(response, f"features, frame {t + 1}")
        response.add_patch(Rectangle((0, 0), 1, 1, transform=response.transAxes, fill=False, edgecolor="#888888"))
        maps.imshow(strip([scale.to_rgba(clip.shares[t])[..., :3] for t in chosen], width))
        _bare(maps, f"attention, frames {', '.join(str(t + 1) for t in chosen)}")
    bar = figure.colorbar(scale, ax=panels[:, 2].tolist(), location="right", shrink=0.9)
    bar.set_label("weight of a region (1: an even share)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save(figure, path)


def save_side_by_side(path: Path, rows: Sequence[Sequence[Clip]], titles: Sequence[str], most: int) -> None:
    """Fig. 10: clips beside each other in every row, all with their location maps over the frames, titles on top."""
    width, count = _width(rows[0][0]), max(min(len(clip.frames), most) for row in rows for clip in row)
    size = (len(titles) * (_inches(width, count) + 0.2), (STRIP + 0.3) * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for clips, axes in zip(rows, panels, strict=True):
        for clip, panel in zip(clips, axes, strict=True):
            chosen = evenly(len(clip.frames), most)
            picture = strip([overlay(clip.frames[t], clip.locations[t], clip.shift) for t in chosen], width)
            panel.imshow(picture)
            # Shorter clips keep their frames' size.
            panel.set_xlim(0, count * (width + GAP) - GAP)
            _bare(panel, clip.label)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(f"{title}\n", fontsize=10, fontweight="bold")
    figure.supxlabel("red: regions with more than their even share of the weight", fontsize=8)
    save(figure, path)


def _width(clip: Clip) -> int:
    height, width = clip.frames.shape[1:3]
    return round(HEIGHT * width / height)


def _inches(width: int, count: int) -> float:
    return STRIP * (count * (width + GAP) - GAP) / HEIGHT


def _grey(values: Float[np.ndarray, "Kh Kw"]) -> Picture:
    """The lowest value black, the highest white."""
    room = max(float(values.max() - values.min()), 1e-12)
    return np.repeat(((values - values.min()) / room)[..., None], 3, axis=2)


def _of(picture: Picture) -> int:
    """Maps keep their regions' edges, frames are smoothed."""
    small = picture.shape[0] * 4 < HEIGHT
    return cv2.INTER_NEAREST if small else cv2.INTER_AREA if picture.shape[0] > HEIGHT else cv2.INTER_CUBIC


def _bare(axes: Axes, label: str) -> None:
    """No frame and no ticks, the label above on the left."""
    axes.set_axis_off()
    axes.set_title(label, fontsize=7.5, loc="left", pad=2)
