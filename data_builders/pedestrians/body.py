"""The solid parts hung on the joints: tapered limbs with an elliptic section, and the texture each one wears."""

from dataclasses import dataclass

import numpy as np

from data_builders.pedestrians.clothing import TEXTURE
from data_builders.pedestrians.gait import JOINT
from data_builders.pedestrians.identity import Identity

STEPS = 32
"""A part's radii are kept at STEPS + 1 places along it."""


@dataclass(frozen=True)
class Part:
    """A limb from joint `start` to joint `end`; `wide` and `deep` are its radii in metres across and front to back."""

    start: int
    end: int
    wide: np.ndarray
    deep: np.ndarray
    texture: int
    flatness: float
    """1: round ends, larger: flatter ends."""
    boxy: bool
    """Whether its section is a rounded box."""


def _part(
    start: str,
    end: str,
    wide: tuple[float, ...],
    deep: tuple[float, ...],
    texture: str,
    flatness: float,
    boxy: bool = False,
) -> Part:
    places = np.linspace(0, 1, STEPS + 1)

    def spread(radii: tuple[float, ...]) -> np.ndarray:
        return np.interp(places, np.linspace(0, 1, len(radii)), radii).astype(np.float32)

    return Part(JOINT[start], JOINT[end], spread(wide), spread(deep), TEXTURE[texture], flatness, boxy)


def _times(factor: float, radii: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(factor * radius for radius in radii)


def _trunk(who: Identity) -> list[Part]:
    tall, build = who.build.height, who.build
    broad = tall * build.breadth * (1.06 if who.top in ("jacket", "coat", "hoodie") else 1.0)
    upper, lower = build.shoulders, build.hips
    wide = (
        0.048,
        0.092 * upper,
        0.107 * upper,
        0.108 * upper,
        0.101 * upper,
        0.092,
        0.086,
        0.088,
        0.097 * lower,
        0.101 * lower,
    )
    deep = (0.034, 0.044, 0.056, 0.064, 0.066, 0.063, 0.06, 0.061, 0.067, 0.07)
    hip = _times(broad, (0.066, 0.086 * lower, 0.093 * lower)), _times(broad, (0.042, 0.056, 0.062))
    neck = tall * (1.35 if who.scarf else 1.0)
    return [
        _part("neck", "crotch", _times(broad, wide), _times(broad, deep), "torso", 3.0),
        _part("waist", "crotch", *hip, "hip", 1.6),
        _part("neck", "chin", _times(neck, (0.036, 0.03)), _times(neck, (0.036, 0.032)), "neck", 1.0),
    ]


def _head(who: Identity) -> list[Part]:
    tall = who.build.height
    parts = [
        _part("crown", "chin", _times(tall, (0.047, 0.047, 0.036)), _times(tall, (0.056, 0.056, 0.045)), "head", 1.0)
    ]
    if who.hair_style == "long":
        hair = _times(tall, (0.05, 0.058, 0.054, 0.036)), _times(tall, (0.034, 0.032, 0.026, 0.018))
        parts.append(_part("nape", "hair_end", *hair, "hair", 1.5))
    elif who.hair_style == "tail":
        parts.append(
            _part("nape", "hair_end", _times(tall, (0.03, 0.022, 0.01)), _times(tall, (0.05, 0.03, 0.01)), "hair", 1.0)
        )
    elif who.hair_style == "bun":
        parts.append(_part("crown", "nape", (0.028 * tall,) * 2, (0.078 * tall,) * 2, "hair", 1.0))
    elif who.hair_style == "cap":
        parts.append(
            _part("crown", "visor", _times(tall, (0.03, 0.036, 0.03)), _times(tall, (0.012, 0.01, 0.008)), "hat", 1.0)
        )
    if who.top == "hoodie":
        parts.append(_part("hood", "neck", (0.062 * tall, 0.05 * tall), (0.03 * tall,) * 2, "upper_arm", 1.0))
    return parts


def _limbs(who: Identity, side: str) -> list[Part]:
    tall = who.build.height
    thick = tall * who.build.breadth**0.7
    arm = thick * (1.16 if who.top in ("jacket", "coat", "hoodie") else 1.0) * (0.92 + 0.08 * who.build.shoulders)
    loose = {"trousers": 1.12, "shorts": 1.1}.get(who.bottom, 0.94)
    shin_loose = 1.14 if who.bottom == "trousers" and not who.boots else 0.96
    ankle = 0.03 if who.bottom == "trousers" else 0.021
    shin = _times(thick * shin_loose, (0.034, 0.035, 0.03, ankle))
    upper, fore = _times(arm, (0.027, 0.031, 0.028, 0.025)), _times(arm, (0.025, 0.024, 0.018))
    thigh = _times(thick * loose, (0.05, 0.047, 0.034))
    cut = 1.5 if who.bottom == "shorts" else 1.0
    return [
        _part(f"shoulder_{side}", f"elbow_{side}", upper, upper, "upper_arm", 1.0),
        _part(f"elbow_{side}", f"wrist_{side}", fore, fore, "forearm", 1.2),
        _part(
            f"wrist_{side}", f"finger_{side}", _times(tall, (0.014, 0.012)), _times(tall, (0.02, 0.018)), "hand", 1.0
        ),
        _part(f"hip_{side}", f"knee_{side}", _times(cut**0.2, thigh), thigh, "thigh", 1.7),
        _part(f"knee_{side}", f"ankle_{side}", shin, shin, "shin", 1.0),
        _part(
            f"heel_{side}",
            f"toe_{side}",
            _times(tall, (0.02, 0.026, 0.02)),
            _times(tall, (0.022, 0.02, 0.015)),
            "shoe",
            1.0,
        ),
    ]


def _drapery(who: Identity) -> list[Part]:
    """Skirt or coat tail, from the waist to the hem."""
    broad = who.build.height * who.build.breadth**0.6 * who.build.hips
    if who.bottom == "long skirt":
        wide, deep = (0.08, 0.1, 0.112, 0.124), (0.06, 0.085, 0.11, 0.125)
    elif who.bottom == "skirt":
        wide, deep = (0.08, 0.1, 0.114, 0.122), (0.06, 0.082, 0.108, 0.112)
    elif who.top == "coat":
        wide, deep = (0.088, 0.103, 0.11, 0.114), (0.066, 0.08, 0.1, 0.105)
    else:
        return []
    return [_part("waist", "hem", _times(broad, wide), _times(broad, deep), "skirt", 9.0)]


def _bag(who: Identity) -> list[Part]:
    tall = who.build.height
    if who.bag == "backpack":
        return [
            _part(
                "pack_top",
                "pack_bottom",
                (0.078 * tall, 0.09 * tall, 0.086 * tall),
                (0.05 * tall,) * 2,
                "bag",
                2.2,
                True,
            )
        ]
    if who.bag == "shoulder":
        return [_part("bag_top", "bag_bottom", (0.03 * tall, 0.034 * tall), (0.088 * tall,) * 2, "bag", 4.0, True)]
    handle = (0.006 * tall,) * 2
    if who.bag == "hand":
        return [
            _part("bag_top", "bag_bottom", (0.03 * tall, 0.036 * tall), (0.08 * tall, 0.09 * tall), "bag", 5.0, True),
            _part("handle", "bag_top", handle, (0.03 * tall,) * 2, "bag", 1.0),
        ]
    if who.bag == "suitcase":
        return [
            _part("bag_top", "bag_bottom", (0.085 * tall,) * 2, (0.06 * tall,) * 2, "bag", 5.0, True),
            _part("handle", "bag_top", handle, handle, "metal", 1.0),
        ]
    return []


def parts_of(who: Identity) -> list[Part]:
    """All solid parts of a person, in no order: a depth buffer sorts them."""
    return _trunk(who) + _head(who) + _limbs(who, "l") + _limbs(who, "r") + _drapery(who) + _bag(who)
