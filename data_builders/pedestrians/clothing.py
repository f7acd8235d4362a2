"""The textures of a person: each part of the body is unrolled into a square picture.

A row is a place along the part (0 at its start: top of the torso, shoulder, hip), a column the angle around it, the
front in the middle, the person's left side at three quarters, the back at both ends.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

from data_builders.pedestrians.identity import Colour, Identity

SIDE = 64
"""Rows and columns of one texture."""
FRONT, LEFT, RIGHT = SIDE // 2, 3 * SIDE // 4, SIDE // 4
NAMES = (
    "torso", "head", "neck", "upper_arm", "forearm", "hand", "thigh", "shin", "shoe", "skirt", "bag", "hair", "hat",
    "hip", "metal",
)  # fmt: skip
TEXTURE = {name: row for row, name in enumerate(NAMES)}
METAL: Colour = (96, 98, 102)


def _plain(colour: Colour) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def paint_pattern(cloth: np.ndarray, pattern: str, colour: Colour) -> None:
    """Weave a pattern that goes all around into a cloth."""
    if pattern in ("stripes", "thin stripes"):
        step, width = (16, 8) if pattern == "stripes" else (8, 3)
        for row in range(step // 2, SIDE, step):
            cloth[row : row + width] = colour
    elif pattern == "pinstripes":
        for column in range(2, SIDE, 8):
            cloth[:, column : column + 3] = colour
    elif pattern == "checks":
        lattice = (np.indices((SIDE, SIDE)) // 8).sum(axis=0) % 2 == 0
        cloth[lattice] = colour
    elif pattern == "dots":
        for row in range(4, SIDE, 10):
            for column in range(4 + 5 * (row // 10 % 2), SIDE, 10):
                cv2.circle(cloth, (column, row), 3, colour, -1)
    elif pattern == "band":
        cloth[SIDE * 3 // 10 : SIDE // 2] = colour
    elif pattern == "halves":
        cloth[SIDE * 45 // 100 :] = colour


def paint_print(cloth: np.ndarray, pattern: str, colour: Colour, rng: np.random.Generator) -> None:
    """A logo on the left of the chest, or a large print on chest and back."""
    if pattern == "logo":
        cv2.circle(cloth, (FRONT + 7, 19), 4, colour, -1)
        cv2.rectangle(cloth, (2, 14), (8, 20), colour, -1)
        cv2.rectangle(cloth, (SIDE - 8, 14), (SIDE - 2, 20), colour, -1)
    elif pattern == "print":
        shape = int(rng.integers(3))
        for centre in (FRONT, 0, SIDE - 1):
            if shape == 0:
                cv2.circle(cloth, (centre, 25), 9, colour, -1)
            elif shape == 1:
                cv2.rectangle(cloth, (centre - 9, 17), (centre + 9, 34), colour, -1)
            else:
                cv2.fillPoly(cloth, [np.array([(centre, 13), (centre + 11, 35), (centre - 11, 35)], np.int32)], colour)


def _straps(cloth: np.ndarray, who: Identity) -> None:
    """Straps of a backpack over both shoulders, or of a shoulder bag across the body."""
    if who.bag == "backpack":
        strap = _mix(who.bag_colour, (0, 0, 0), 0.3)
        for column in (FRONT - 9, FRONT + 7):
            cloth[4:40, column : column + 3] = strap
    elif who.bag == "shoulder":
        strap = _mix(who.bag_colour, (0, 0, 0), 0.3)
        near, far = (LEFT, RIGHT) if who.bag_side > 0 else (RIGHT, LEFT)
        cv2.line(cloth, (far, 6), (near, 60), strap, 3)
        cv2.line(cloth, (far + (SIDE if far < near else -SIDE), 6), (near, 60), strap, 3)


def torso_texture(who: Identity, rng: np.random.Generator) -> np.ndarray:
    """The upper garment: pattern, opening, prints, straps, the trousers' waist below its hem."""
    cloth = _plain(who.top_colour)
    paint_pattern(cloth, who.pattern, who.second_colour)
    paint_print(cloth, who.pattern, who.second_colour, rng)
    if who.top in ("jacket", "coat"):
        inner = who.second_colour if who.pattern == "plain" else _mix(who.sleeve_colour, (255, 255, 255), 0.45)
        cv2.fillPoly(cloth, [np.array([(FRONT - 6, 0), (FRONT + 6, 0), (FRONT + 3, 63), (FRONT - 3, 63)])], inner)
    elif who.top in ("vest", "hoodie"):
        cv2.line(cloth, (FRONT, 0), (FRONT, SIDE), _mix(who.top_colour, (0, 0, 0), 0.5), 1)
    if who.top == "tee":
        cv2.ellipse(cloth, (FRONT, 0), (6, 6), 0, 0, 360, who.skin, -1)
    if who.top in ("tee", "sweater", "vest", "hoodie"):
        cloth[60:] = who.bottom_colour
        cloth[58:60] = _mix(who.top_colour, (0, 0, 0), 0.35)
    _straps(cloth, who)
    return cloth


def head_texture(who: Identity) -> np.ndarray:
    """Face, hair and hat on the unrolled head."""
    head = _plain(who.skin)
    bald = who.hair_style == "bald"
    if not bald:
        head[:19] = who.hair
        long = who.hair_style in ("long", "tail", "bun")
        reach = 13 if long else 15
        low = 56 if long else 44
        head[:low, : FRONT - reach] = who.hair
        head[:low, FRONT + reach :] = who.hair
        cv2.ellipse(head, (FRONT, 20), (reach - 1, 5), 0, 0, 360, who.skin, -1)
    if who.hair_style in ("cap", "beanie"):
        head[:24] = who.hat
        if who.hair_style == "beanie":
            head[20:24] = _mix(who.hat, (255, 255, 255), 0.3)
    dark = _mix(who.skin, (20, 12, 10), 0.75)
    for column in (FRONT - 5, FRONT + 5):
        cv2.ellipse(head, (column, 32), (2, 1), 0, 0, 360, dark, -1)
        cv2.line(head, (column - 3, 28), (column + 3, 28), _mix(who.skin, who.hair, 0.7), 1)
    cv2.line(head, (FRONT, 33), (FRONT, 39), _mix(who.skin, (60, 20, 10), 0.25), 2)
    cv2.line(head, (FRONT - 4, 46), (FRONT + 4, 46), _mix(who.skin, (120, 20, 20), 0.5), 2)
    return head


def sleeve_textures(who: Identity) -> tuple[np.ndarray, np.ndarray]:
    """Upper arm and forearm: long, short or no sleeves."""
    sleeve = _plain(who.sleeve_colour)
    if who.top != "vest" and who.pattern not in ("band", "halves"):
        paint_pattern(sleeve, who.pattern, who.second_colour)
    fore = sleeve.copy()
    fore[54:] = _mix(who.sleeve_colour, (0, 0, 0), 0.3)
    if who.top == "tee":
        sleeve[40:] = who.skin
        fore = _plain(who.skin)
    return sleeve, fore


def leg_textures(who: Identity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thigh, shin and shoe."""
    thigh, shin = _plain(who.bottom_colour), _plain(who.bottom_colour)
    stocking = _mix(who.skin, (40, 36, 40), 0.6 if who.weave % 2 else 0.0)
    if who.bottom == "shorts":
        shin = _plain(who.skin)
        thigh[54:] = who.skin
    elif who.bottom in ("skirt", "long skirt"):
        thigh, shin = _plain(stocking), _plain(stocking)
    elif who.side_stripe:
        for cloth in (thigh, shin):
            cloth[:, LEFT - 3 : LEFT + 3] = cloth[:, RIGHT - 3 : RIGHT + 3] = (222, 220, 212)
    if who.boots:
        shin[34:] = who.shoes
    shoe = _plain(who.shoes)
    return thigh, shin, shoe


def skirt_texture(who: Identity) -> np.ndarray:
    """A skirt in the colour of the lower garment, or a coat's tail in that of the coat."""
    if who.top == "coat":
        cloth = _plain(who.top_colour)
        if who.pattern not in ("band", "halves", "logo", "print"):
            paint_pattern(cloth, who.pattern, who.second_colour)
        elif who.pattern == "halves":
            cloth[:] = who.second_colour
        cv2.line(cloth, (FRONT, 0), (FRONT, SIDE), _mix(who.top_colour, (0, 0, 0), 0.5), 2)
        return cloth
    cloth = _plain(who.bottom_colour)
    if who.side_stripe:
        cloth[50:58] = (222, 220, 212)
    return cloth


def paint_identity(who: Identity) -> UInt8[np.ndarray, "P S S 3"]:
    """All textures of a person, in the order of `NAMES`, with the folds of the cloth shaded in."""
    rng = np.random.default_rng(who.weave)
    upper, fore = sleeve_textures(who)
    thigh, shin, shoe = leg_textures(who)
    bag = _plain(who.bag_colour)
    cv2.rectangle(bag, (FRONT - 8, 34), (FRONT + 8, 54), _mix(who.bag_colour, (0, 0, 0), 0.3), 2)
    bag[6:9] = _mix(who.bag_colour, (255, 255, 255), 0.25)
    hip = _plain(who.bottom_colour if who.top != "coat" else who.top_colour)
    pictures = {
        "torso": torso_texture(who, rng), "head": head_texture(who), "neck": _plain(who.scarf or who.skin),
        "upper_arm": upper, "forearm": fore, "hand": _plain(who.skin), "thigh": thigh, "shin": shin, "shoe": shoe,
        "skirt": skirt_texture(who), "bag": bag, "hair": _plain(who.hair), "hat": _plain(who.hat), "hip": hip,
        "metal": _plain(METAL),
    }  # fmt: skip
    stack = np.stack([pictures[name] for name in NAMES]).astype(np.float32)
    folds = rng.normal(0, 1, (len(NAMES), 8, 8, 1)).astype(np.float32)
    folds = np.stack([cv2.resize(fold, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for fold in folds])
    folds[[TEXTURE["head"], TEXTURE["hand"], TEXTURE["neck"]]] *= 0.2
    return np.clip(stack * (1 + 0.09 * folds[..., None]), 0, 255).astype(np.uint8)
