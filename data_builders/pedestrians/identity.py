"""Who a pedestrian is: build, clothing, hair, bag and gait, drawn from a seeded generator."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
"""Red, green, blue, 0-255."""

FABRICS: dict[str, Colour] = {
    "black": (34, 33, 37),
    "white": (226, 223, 214),
    "grey": (124, 126, 130),
    "navy": (36, 46, 92),
    "red": (176, 34, 40),
    "green": (44, 112, 66),
    "beige": (196, 168, 124),
    "blue": (62, 118, 190),
}
TROUSERS: dict[str, Colour] = {
    "black": (34, 33, 37),
    "denim": (50, 66, 108),
    "grey": (112, 114, 118),
    "beige": (186, 162, 122),
    "brown": (92, 64, 44),
    "light denim": (122, 150, 184),
}
SHOES: tuple[Colour, ...] = ((28, 27, 29), (232, 230, 226), (104, 66, 40), (170, 36, 44))
HAIR: tuple[Colour, ...] = ((26, 22, 21), (62, 41, 28), (118, 80, 48), (200, 164, 104), (150, 148, 146))
SKIN: tuple[Colour, ...] = ((236, 196, 170), (216, 168, 136), (168, 116, 84), (104, 70, 52))

PATTERNS = ("plain", "stripes", "thin stripes", "pinstripes", "checks", "dots", "band", "halves", "logo", "print")
PATTERN_ODDS = (0.2, 0.11, 0.08, 0.08, 0.11, 0.08, 0.1, 0.1, 0.06, 0.08)
TOPS = ("tee", "sweater", "jacket", "vest", "coat", "hoodie")
TOP_ODDS = (0.22, 0.22, 0.2, 0.1, 0.14, 0.12)
BOTTOMS = ("trousers", "shorts", "skirt", "long skirt")
BOTTOM_ODDS = (0.6, 0.14, 0.16, 0.1)
HAIR_STYLES = ("short", "long", "bun", "tail", "cap", "beanie", "bald")
HAIR_ODDS = (0.38, 0.2, 0.08, 0.1, 0.1, 0.07, 0.07)
BAGS = ("none", "backpack", "shoulder", "hand", "suitcase")
BAG_ODDS = (0.28, 0.26, 0.2, 0.15, 0.11)


@dataclass(frozen=True)
class Build:
    """The body's measures: height in metres, the rest as factors of an average body."""

    height: float
    breadth: float
    shoulders: float
    hips: float


@dataclass(frozen=True)
class Gait:
    """How a person walks: cycles a frame, and amplitudes as factors of an average walk (angles in radians)."""

    cadence: float
    stride: float
    arm_swing: float
    elbow: float
    lean: float
    sway: float


@dataclass(frozen=True)
class Identity:
    """Everything that stays with a person from camera to camera."""

    build: Build
    gait: Gait
    skin: Colour
    hair: Colour
    hair_style: str
    hat: Colour
    top: str
    top_colour: Colour
    second_colour: Colour
    sleeve_colour: Colour
    pattern: str
    bottom: str
    bottom_colour: Colour
    side_stripe: bool
    shoes: Colour
    boots: bool
    bag: str
    bag_colour: Colour
    bag_side: int
    scarf: Colour | None
    weave: int
    """Seed of the folds and of the logo's shape."""


def draw_build(rng: np.random.Generator, feminine: bool) -> Build:
    """A body: taller and broader in the shoulders, or shorter and broader in the hips."""
    height = rng.normal(1.66, 0.06) if feminine else rng.normal(1.78, 0.07)
    return Build(
        height=float(np.clip(height, 1.5, 1.96)),
        breadth=float(rng.choice([0.86, 1.0, 1.18], p=[0.35, 0.4, 0.25]) * rng.uniform(0.97, 1.03)),
        shoulders=float(rng.uniform(0.84, 0.94) if feminine else rng.uniform(0.97, 1.1)),
        hips=float(rng.uniform(1.0, 1.14) if feminine else rng.uniform(0.88, 1.0)),
    )


def draw_gait(rng: np.random.Generator) -> Gait:
    """A walk: about sixteen frames a cycle."""
    return Gait(
        cadence=float(rng.uniform(0.052, 0.072)),
        stride=float(rng.uniform(0.75, 1.15)),
        arm_swing=float(rng.uniform(0.35, 1.3)),
        elbow=float(rng.uniform(0.1, 0.55)),
        lean=float(rng.uniform(-0.03, 0.13)),
        sway=float(rng.uniform(0.4, 1.6)),
    )


def _dye(rng: np.random.Generator, colour: Colour) -> Colour:
    """The palette's colour, hardly varied: colour alone must not tell persons apart."""
    red, green, blue = np.clip(np.array(colour) + rng.integers(-5, 6, 3), 8, 245)
    return int(red), int(green), int(blue)


def draw_identity(rng: np.random.Generator) -> Identity:
    """A person whose parts are all common; only their combination is not."""
    feminine = bool(rng.random() < 0.5)
    fabrics, trousers = list(FABRICS.values()), list(TROUSERS.values())
    first, second, sleeve = rng.choice(len(fabrics), 3, replace=False)
    top = str(rng.choice(TOPS, p=TOP_ODDS))
    pattern = str(rng.choice(PATTERNS, p=PATTERN_ODDS))
    bottom = str(rng.choice(BOTTOMS, p=BOTTOM_ODDS)) if feminine else str(rng.choice(BOTTOMS[:2], p=[0.8, 0.2]))
    style = (
        str(rng.choice(HAIR_STYLES, p=HAIR_ODDS))
        if feminine
        else str(rng.choice(("short", "cap", "beanie", "bald"), p=[0.62, 0.15, 0.1, 0.13]))
    )
    contrast = top == "vest" or rng.random() < 0.2
    return Identity(
        build=draw_build(rng, feminine),
        gait=draw_gait(rng),
        skin=SKIN[int(rng.choice(len(SKIN), p=[0.4, 0.3, 0.16, 0.14]))],
        hair=HAIR[int(rng.choice(len(HAIR), p=[0.3, 0.28, 0.17, 0.15, 0.1]))],
        hair_style=style,
        hat=_dye(rng, fabrics[int(rng.integers(len(fabrics)))]),
        top=top,
        top_colour=_dye(rng, fabrics[first]),
        second_colour=_dye(rng, fabrics[second]),
        sleeve_colour=_dye(rng, fabrics[sleeve if contrast else first]),
        pattern=pattern,
        bottom=bottom,
        bottom_colour=_dye(rng, trousers[int(rng.integers(len(trousers)))]),
        side_stripe=bool(rng.random() < 0.15),
        shoes=SHOES[int(rng.integers(len(SHOES)))],
        boots=bool(rng.random() < 0.2),
        bag=str(rng.choice(BAGS, p=BAG_ODDS)),
        bag_colour=_dye(rng, fabrics[int(rng.integers(len(fabrics)))]),
        bag_side=int(rng.choice([-1, 1])),
        scarf=_dye(rng, fabrics[int(rng.integers(len(fabrics)))]) if rng.random() < 0.15 else None,
        weave=int(rng.integers(2**31)),
    )
