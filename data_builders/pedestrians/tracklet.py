"""One tracklet, drawn: frames as JPEG bytes, and where the person is in each."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_builders.pedestrians import crossing, scene
from data_builders.pedestrians.camera import CAMERAS, Camera, expose
from data_builders.pedestrians.crossing import CANVAS, Figure, Path, Walker, figure_of
from data_builders.pedestrians.figure import Surface, View, light, rasterise

FRAME = (64, 128)
"""Width and height of a frame."""
Kind = Literal["person", "background", "cut", "pair"]
PERSONS, STRANGERS, EXTRAS, PLACES, SHOTS = range(5)
"""The streams of random numbers."""
BEHIND, BEFORE, OBSTACLE = 0.25, 0.1, 0.18
"""How often somebody passes behind or before the person, or a thing stands before them."""
BRIGHTNESS, TINT, FLICKER = 0.1, 0.03, 0.02
"""Standard deviations (of logarithms) of a tracklet's light, its colour, and the change over its frames."""


@dataclass(frozen=True)
class Shot:
    """What a tracklet is to show. `stream` and `number` name the person, `serial` the tracklet (no two alike)."""

    seed: int
    serial: int
    camera: int
    length: int
    stream: int
    number: int
    kind: Kind


@dataclass(frozen=True)
class Obstacle:
    """A thing before the walkers and the column of its left edge in each frame."""

    colours: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    left: Float[np.ndarray, "T"]


@lru_cache(maxsize=16)
def backdrop_of(seed: int, camera: int) -> UInt8[np.ndarray, "384 1600 3"]:
    """The place that a camera sees."""
    return scene.paint_backdrop(CAMERAS[camera - 1], np.random.default_rng([seed, PLACES, camera]))


@lru_cache(maxsize=4)
def _soft_disc() -> Float[np.ndarray, "H W"]:
    """A shadow's darkness around the feet."""
    y, x = np.mgrid[-1:1:33j, -1:1:97j]
    return (1 - 0.55 * np.exp(-3.5 * (x * x + y * y)) * (x * x + y * y < 1)).astype(np.float32)


def cast_shadow(canvas: UInt8[np.ndarray, "H W 3"], view: View, sun: tuple[float, float, float]) -> None:
    """Darken the ground around a walker's feet, a little away from the sun."""
    disc = _soft_disc()
    height, width = disc.shape
    left, top = int(view.foot_x - width / 2 - 18 * sun[0]), int(view.foot_y - height / 2 - 3)
    x0, x1 = max(left, 0), min(left + width, canvas.shape[1])
    y0, y1 = max(top, 0), min(top + height, canvas.shape[0])
    if x0 < x1 and y0 < y1:
        patch = canvas[y0:y1, x0:x1]
        patch[:] = patch * disc[y0 - top : y1 - top, x0 - left : x1 - left, None]


def draw_walker(
    canvas: UInt8[np.ndarray, "H W 3"], walker: Walker, frame: int, camera: Camera
) -> Bool[np.ndarray, "H W"]:
    """Draw a walker and their shadow; where they cover the canvas."""
    view = walker.views[frame]
    if not -45 < view.foot_x < CANVAS[1] + 45:
        return np.zeros(CANVAS, bool)
    cast_shadow(canvas, view, camera.sun)
    surface: Surface = rasterise(walker.figure.parts, walker.joints[frame], view, CANVAS)
    mask, colours = light(surface, walker.figure.textures, np.array(camera.sun, np.float32), camera.ambient)
    canvas[mask] = colours
    return mask


def place_obstacle(canvas: UInt8[np.ndarray, "H W 3"], obstacle: Obstacle, frame: int) -> Bool[np.ndarray, "H W"]:
    """Draw an obstacle; where it covers the canvas."""
    covered = np.zeros(CANVAS, bool)
    left = int(obstacle.left[frame])
    x0, x1 = max(left, 0), min(left + obstacle.mask.shape[1], CANVAS[1])
    if x0 < x1:
        part = obstacle.mask[:, x0 - left : x1 - left]
        canvas[:, x0:x1][part] = obstacle.colours[:, x0 - left : x1 - left][part]
        covered[:, x0:x1] = part
    return covered


def _obstacles(rng: np.random.Generator, shot: Shot, target: Walker, path: Path) -> list[Obstacle]:
    if rng.random() > OBSTACLE or shot.kind == "background":
        return []
    colours, mask = scene.paint_obstacle(str(rng.choice(scene.OBSTACLES)), rng)
    scale = 1.15 * target.views[0].scale
    moved = -(path.right - path.right[rng.integers(shot.length)]) * scale
    side = rng.choice([-1, 1]) * rng.uniform(6, 46) if abs(moved).max() < 60 else rng.normal(0, 10)
    return [Obstacle(colours, mask, CANVAS[1] / 2 - mask.shape[1] / 2 + side + moved)]


def _passers(rng: np.random.Generator, shot: Shot, camera: Camera, target: Walker) -> tuple[list[Walker], list[Walker]]:
    """Passers-by behind and before the followed person."""

    def extra(beside: bool, front: bool) -> Walker:
        figure = figure_of(shot.seed, EXTRAS, int(rng.integers(crossing.PASSERS)))
        return crossing.passer(rng, figure, camera, target, beside, front)

    behind = [extra(False, False)] if rng.random() < BEHIND else []
    before = [extra(True, True)] if shot.kind == "pair" else [extra(False, True)] if rng.random() < BEFORE else []
    return behind, before


def person_box(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "4"]:
    """The person's box x0 y0 x1 y1 as shares of the frame; all zero when nobody is in it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4, np.float32)
    height, width = mask.shape
    box = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return np.array(box, np.float32)


@dataclass(frozen=True)
class Staging:
    """A tracklet before it is drawn: the walkers from back to front, the followed one among them, and obstacles."""

    camera: Camera
    backdrop: UInt8[np.ndarray, "384 1600 3"]
    start: float
    path: Path
    target: Walker
    empty: bool
    """Nobody is drawn: a box on the background."""
    behind: list[Walker]
    before: list[Walker]
    obstacles: list[Obstacle]


def stage(rng: np.random.Generator, shot: Shot, figure: Figure) -> Staging:
    """Draw the chances of a tracklet: the box's error, passers-by, obstacles, where in the scene it happens."""
    camera = CAMERAS[shot.camera - 1]
    cut = str(rng.choice(["side", "low", "high"])) if shot.kind == "cut" else "none"
    target, path = crossing.followed(rng, figure, camera, shot.length, cut)
    behind, before = _passers(rng, shot, camera, target)
    if shot.kind == "background":
        before = []
    drift = path.right[-1] * target.views[0].scale
    start = scene.WIDTH / 2 - drift / 2 + rng.uniform(-600, 600)
    obstacles = _obstacles(rng, shot, target, path)
    backdrop = backdrop_of(shot.seed, shot.camera)
    return Staging(camera, backdrop, start, path, target, shot.kind == "background", behind, before, obstacles)


def draw_frame(staging: Staging, frame: int) -> tuple[UInt8[np.ndarray, "H W 3"], np.ndarray, np.ndarray]:
    """The supersampled picture of one frame, the followed person's whole silhouette, and the part of it in sight."""
    view, camera = staging.target.views[frame], staging.camera
    near = staging.path.near[frame] - staging.path.near[0]
    place = (
        staging.start + staging.path.right[frame] * view.scale,
        scene.FOOT + float(np.clip(0.5 * near * np.sin(view.pitch) * view.scale, -50, 50)),
    )
    zoom = float(np.clip(np.exp(-0.03 * near), 0.8, 1.25))
    canvas = scene.window_of(staging.backdrop, place, zoom, (view.foot_x, view.foot_y), CANVAS)
    for walker in staging.behind:
        draw_walker(canvas, walker, frame, camera)
    silhouette = np.zeros(CANVAS, bool) if staging.empty else draw_walker(canvas, staging.target, frame, camera)
    seen = silhouette
    for walker in staging.before:
        seen = seen & ~draw_walker(canvas, walker, frame, camera)
    for obstacle in staging.obstacles:
        seen = seen & ~place_obstacle(canvas, obstacle, frame)
    return canvas, silhouette, seen


def render(shot: Shot) -> dict[str, Any]:
    """The tracklet's record: `frames` (JPEG), `box` [T 4] and `visible` [T], the same for the same shot everywhere.

    `box` is the person's whole silhouette inside the frame, hidden parts included; `visible` the share of it in sight.
    """
    rng = np.random.default_rng([shot.seed, SHOTS, shot.serial])
    staging = stage(rng, shot, figure_of(shot.seed, shot.stream, shot.number))
    camera, length = staging.camera, shot.length
    tone = np.array(camera.gains) * np.exp(rng.normal(0, BRIGHTNESS) + rng.normal(0, TINT, 3))
    flicker = np.exp(crossing.wander(rng, length, FLICKER))
    gamma = camera.gamma * np.exp(rng.normal(0, 0.06))
    noise = rng.standard_normal((FRAME[1] + 32, FRAME[0] + 32, 3), np.float32)
    frames, boxes, visible = [], [], []
    for frame in range(length):
        canvas, silhouette, seen = draw_frame(staging, frame)
        row, column = rng.integers(32, size=2)
        grain = noise[row : row + FRAME[1], column : column + FRAME[0]]
        frames.append(expose(canvas, camera, tone * flicker[frame], gamma, grain, FRAME))
        boxes.append(person_box(silhouette))
        visible.append(seen.sum() / max(silhouette.sum(), 1))
    return {"frames": frames, "box": np.stack(boxes), "visible": np.array(visible, np.float32)}
