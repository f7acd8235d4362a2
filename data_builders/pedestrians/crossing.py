"""Who walks where in one tracklet: the followed person, passers-by, and the box the detector puts around the person."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

from data_builders.pedestrians.body import Part, parts_of
from data_builders.pedestrians.camera import Camera
from data_builders.pedestrians.clothing import paint_identity
from data_builders.pedestrians.figure import View
from data_builders.pedestrians.gait import walk
from data_builders.pedestrians.identity import Identity, draw_identity

CANVAS = (256, 128)
"""Height and width of the supersampled canvas."""
SOLE = 0.93
"""Where an exact box has the feet, as a share of its height."""
PASSERS = 48
"""Passers-by come from this many people."""


@dataclass(frozen=True)
class Figure:
    """A person ready to be drawn."""

    who: Identity
    parts: list[Part]
    textures: UInt8[np.ndarray, "P S S 3"]


@lru_cache(maxsize=128)
def figure_of(seed: int, stream: int, number: int) -> Figure:
    """The person of that number; the same in every camera and process."""
    who = draw_identity(np.random.default_rng([seed, stream, number]))
    return Figure(who, parts_of(who), paint_identity(who))


@dataclass(frozen=True)
class Walker:
    """A figure's way through the frames of one tracklet."""

    figure: Figure
    joints: Float[np.ndarray, "T J 3"]
    views: list[View]


@dataclass(frozen=True)
class Path:
    """The followed person's way over the ground: metres to the right and towards the camera since the first frame."""

    right: Float[np.ndarray, "T"]
    near: Float[np.ndarray, "T"]


def wander(rng: np.random.Generator, length: int, spread: float) -> Float[np.ndarray, "T"]:
    """A slowly changing error of standard deviation `spread` (an autoregression)."""
    steps = rng.normal(0, 1, length)
    for frame in range(1, length):
        steps[frame] = 0.85 * steps[frame - 1] + 0.527 * steps[frame]
    return spread * steps


def fitted_scale(who: Identity, pitch: float, distance: float, fill: float) -> float:
    """Pixels a metre that make the projected person `fill` of the canvas high."""
    tall = who.build.height
    top = tall * np.cos(pitch) * distance / (distance - tall * np.sin(pitch))
    return fill * CANVAS[0] / (top + 0.14 * np.sin(pitch))


def phases(rng: np.random.Generator, who: Identity, length: int) -> Float[np.ndarray, "T"]:
    """Phases of the walking cycle from a random one on, at the person's cadence, nearly even."""
    return rng.random() + who.gait.cadence * (np.arange(length) * rng.normal(1, 0.03))


def speed(who: Identity) -> float:
    """Metres a frame: two steps a cycle."""
    return 0.82 * who.build.height * who.gait.stride * who.gait.cadence


def followed(rng: np.random.Generator, figure: Figure, camera: Camera, length: int, cut: str) -> tuple[Walker, Path]:
    """The person of the tracklet, about centred: the detector's box errs by shift, scale and drift.

    `cut` spoils the box: `side` holds half of the body, `low` the legs, `high` the upper body; `none` is a good box.
    """
    start = np.radians(rng.choice(camera.headings) + rng.normal(0, 6))
    yaw = start + np.radians(rng.normal(0, 6)) * np.linspace(0, 1, length)
    pitch = np.radians(camera.pitch + rng.normal(0, 1.2))
    fill = rng.uniform(0.8, 0.9)
    growth = np.exp(wander(rng, length, 0.6 * camera.jitter) + rng.normal(0, camera.jitter))
    shift = rng.normal(0, 1.2 * camera.jitter), rng.normal(0, 0.6 * camera.jitter)
    x = 0.5 + shift[0] + wander(rng, length, camera.jitter)
    y = SOLE - (0.9 - fill) / 2 + shift[1] + wander(rng, length, 0.5 * camera.jitter)
    if cut == "side":
        x = x + 0.45 * rng.choice([-1, 1])
    elif cut in ("low", "high"):
        growth = growth * 1.9
        y = y + (0.02 if cut == "low" else 0.75)
    scale = growth * fitted_scale(figure.who, pitch, camera.distance, fill)
    views = [
        View(float(a), float(pitch), camera.distance, float(s), float(u * CANVAS[1]), float(v * CANVAS[0]))
        for a, s, u, v in zip(yaw, scale, x, y, strict=True)
    ]
    pace = speed(figure.who)
    path = Path(np.cumsum(pace * np.sin(yaw)), np.cumsum(pace * np.cos(yaw)))
    return Walker(figure, walk(figure.who, phases(rng, figure.who, length)), views), path


def passer(
    rng: np.random.Generator, figure: Figure, camera: Camera, target: Walker, beside: bool, front: bool
) -> Walker:
    """Somebody who crosses before or behind the followed person, or walks beside them."""
    length = len(target.views)
    first = target.views[0]
    yaw = first.yaw if beside else np.radians(rng.choice(camera.headings) + rng.normal(0, 10)) + rng.choice([0, np.pi])
    gap = rng.uniform(0.25, 0.45) if front else -rng.uniform(0.5, 2.2)
    scale = first.scale * camera.distance / (camera.distance - gap)
    drop = gap * np.sin(first.pitch) * first.scale + 0.01 * CANVAS[0] * np.sign(gap)
    if beside:
        x = np.full(length, rng.choice([-1, 1]) * rng.uniform(26, 40)) + wander(rng, length, 3)
    else:
        own, other = speed(figure.who) * np.sin(yaw), speed(target.figure.who) * np.sin(first.yaw)
        relative = (own - other) * scale + rng.choice([-1, 1]) * rng.uniform(2, 5)
        x = relative * (np.arange(length) - rng.uniform(0, length)) + rng.normal(0, 14)
    views = [
        View(float(yaw), view.pitch, camera.distance, float(scale), float(view.foot_x + dx), float(view.foot_y + drop))
        for view, dx in zip(target.views, x, strict=True)
    ]
    return Walker(figure, walk(figure.who, phases(rng, figure.who, length)), views)
