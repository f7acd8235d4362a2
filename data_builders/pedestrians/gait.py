"""The walk: joint positions of a pedestrian over the walking cycle.

Body axes, in metres: x to the person's left, y up from the ground, z forward. A phase of 0 is the left heel's strike.
Angles follow the usual curves of normal walking (hip, knee and foot over the cycle).
"""

import numpy as np
from jaxtyping import Float

from data_builders.pedestrians.identity import Identity

JOINTS = (
    "neck", "crotch", "waist", "chin", "crown", "nape", "hair_end", "visor", "strap", "pack_top", "pack_bottom",
    "hem", "bag_top", "bag_bottom", "handle", "hood",
    *(f"{joint}_{side}" for joint in ("shoulder", "elbow", "wrist", "finger", "hip", "knee", "ankle", "heel", "toe")
      for side in "lr"),
)  # fmt: skip
JOINT = {name: row for row, name in enumerate(JOINTS)}
KNEE_HEIGHT, HIP_HEIGHT, NECK_HEIGHT = 0.285, 0.52, 0.835
Track = Float[np.ndarray, "T 3"]


def _bump(phase: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A periodic bell over the cycle."""
    away = (phase - centre + 0.5) % 1.0 - 0.5
    return np.exp(-((away / width) ** 2))


def hip_angle(phase: np.ndarray) -> np.ndarray:
    """Flexion of the hip in radians, positive forward."""
    turn = 2 * np.pi * phase
    return np.radians(8 + 21 * np.cos(turn + 0.25) - 3 * np.cos(2 * turn))


def knee_angle(phase: np.ndarray) -> np.ndarray:
    """Flexion of the knee in radians: a little after the strike, much in the swing."""
    return np.radians(4 + 14 * _bump(phase, 0.14, 0.09) + 56 * _bump(phase, 0.73, 0.13))


def foot_angle(phase: np.ndarray) -> np.ndarray:
    """Pitch of the foot over the ground in radians, positive with the toe down."""
    return np.radians(52 * _bump(phase, 0.61, 0.11) - 18 * _bump(phase, 0.0, 0.07) - 6 * _bump(phase, 0.9, 0.1))


def _step(origin: Track, angle: np.ndarray, length: float) -> Track:
    """The end of a limb hanging from `origin`, swung forward by `angle`."""
    zero = np.zeros_like(angle)
    return origin + length * np.stack([zero, -np.cos(angle), np.sin(angle)], axis=-1)


def _leg(hip: Track, phase: np.ndarray, who: Identity) -> dict[str, Track]:
    tall = who.build.height
    calm = {"skirt": 0.8, "long skirt": 0.65}.get(who.bottom, 1.0)
    swing = hip_angle(phase) * who.gait.stride * calm
    knee = _step(hip, swing, (HIP_HEIGHT - KNEE_HEIGHT) * tall)
    ankle = _step(knee, swing - knee_angle(phase) * (0.4 + 0.6 * calm), (KNEE_HEIGHT - 0.045) * tall)
    pitch = foot_angle(phase)
    down, ahead = -np.sin(pitch), np.cos(pitch)
    zero = np.zeros_like(pitch)
    sole = np.stack([zero, down, ahead], axis=-1) * tall
    drop = np.stack([zero, -np.cos(pitch), -np.sin(pitch)], axis=-1) * 0.027 * tall
    return {
        "hip": hip,
        "knee": knee,
        "ankle": ankle,
        "heel": ankle + drop - 0.022 * sole,
        "toe": ankle + drop + 0.088 * sole,
    }


def _arm(shoulder: Track, phase: np.ndarray, who: Identity, still: float) -> dict[str, Track]:
    """An arm swinging with the phase of the opposite leg; `still` = 0 holds it straight down (a load in the hand)."""
    tall, gait = who.build.height, who.gait
    swing = still * gait.arm_swing * np.radians(4 + 24 * np.cos(2 * np.pi * phase))
    bend = still * (gait.elbow + 0.35 * gait.arm_swing * (0.5 + 0.5 * np.cos(2 * np.pi * phase))) + 0.06
    outward = np.array([np.sign(shoulder[0, 0]), 0, 0]) * tall
    elbow = _step(shoulder, swing, 0.172 * tall) + 0.014 * outward
    wrist = _step(elbow, swing + bend, 0.145 * tall) + 0.002 * outward
    return {"shoulder": shoulder, "elbow": elbow, "wrist": wrist, "finger": _step(wrist, swing + bend, 0.052 * tall)}


def _turned(x: float, y: np.ndarray, z: np.ndarray, turn: np.ndarray) -> Track:
    """A point beside the spine, turned about it by `turn` radians."""
    return np.stack([x * np.cos(turn), y, z - x * np.sin(turn)], axis=-1)


def _trunk(phase: np.ndarray, who: Identity) -> dict[str, Track]:
    """Spine and head: the upper body leans, sways and counter-turns."""
    tall, gait = who.build.height, who.gait
    sway = 0.012 * gait.sway * np.cos(2 * np.pi * (phase - 0.25))
    lean = gait.lean + 0.0 * phase

    def at(height: float, ahead: float = 0.0, side: float = 0.0) -> Track:
        up = height - HIP_HEIGHT
        rise = HIP_HEIGHT + up * np.cos(lean) - ahead * np.sin(lean)
        return tall * np.stack([sway + side + 0 * lean, rise, up * np.sin(lean) + ahead * np.cos(lean)], axis=-1)

    side = who.bag_side
    return {
        "neck": at(NECK_HEIGHT), "crotch": at(0.505), "waist": at(0.6), "chin": at(0.895, 0.022),
        "crown": at(0.948, 0.02), "nape": at(0.925, -0.012), "hair_end": at(0.79, -0.05), "visor": at(0.953, 0.085),
        "hood": at(0.832, -0.045),
        "strap": at(0.62, 0.0, 0.1 * side), "pack_top": at(0.79, -0.098), "pack_bottom": at(0.635, -0.105),
        "bag_top": at(0.575, -0.01, 0.128 * side * who.build.breadth ** 0.5),
        "bag_bottom": at(0.47, -0.01, 0.135 * side * who.build.breadth ** 0.5), "handle": at(0.5, -0.2, 0.1 * side),
        "hem": at(_hem_height(who), 0.01),
    }  # fmt: skip


def _hem_height(who: Identity) -> float:
    if who.bottom == "long skirt":
        return 0.11
    return 0.31 if who.top == "coat" else 0.29


def _loads(points: dict[str, Track], who: Identity) -> None:
    """Where a bag in the hand hangs or rolls."""
    tall, hand = who.build.height, "finger_l" if who.bag_side > 0 else "finger_r"
    down = np.array([0, -tall, 0])
    if who.bag == "hand":
        points["bag_top"], points["bag_bottom"] = points[hand] + 0.035 * down, points[hand] + 0.14 * down
        points["handle"] = points[hand]
    elif who.bag == "suitcase":
        points["handle"] = points[hand]
        points["bag_top"] = points[hand] + tall * np.array([0.02 * who.bag_side, -0.12, -0.17])
        points["bag_bottom"] = points["bag_top"] * np.array([1, 0, 1]) + tall * np.array([0, 0.03, -0.1])


def walk(who: Identity, phase: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T J 3"]:
    """Joint positions (order of `JOINTS`) at the given phases; the lower foot stands on the ground, y = 0."""
    build, tall = who.build, who.build.height
    points = _trunk(phase, who)
    twist = 0.13 * np.cos(2 * np.pi * phase) * who.gait.stride
    broad = build.breadth**0.6
    for side, sign, shift in (("l", 1, 0.0), ("r", -1, 0.5)):
        hip = _turned(sign * 0.05 * build.hips * broad * tall, np.full_like(phase, HIP_HEIGHT * tall), 0 * phase, twist)
        hip[:, 0] += points["crotch"][:, 0] * 0.6
        limbs = _leg(hip, (phase + shift) % 1, who)
        centre = points["neck"]
        shoulder = _turned(
            sign * 0.103 * build.shoulders * broad * tall, centre[:, 1] - 0.052 * tall, centre[:, 2], -twist
        )
        shoulder[:, 0] += centre[:, 0]
        loaded = who.bag in ("hand", "suitcase") and sign == who.bag_side
        limbs |= _arm(shoulder, (phase + shift + 0.5) % 1, who, 0.15 if loaded else 1.0)
        points |= {f"{name}_{side}": track for name, track in limbs.items()}
    _loads(points, who)
    joints = np.stack([points[name] for name in JOINTS], axis=1)
    soles = joints[:, [JOINT[name] for name in ("heel_l", "heel_r", "toe_l", "toe_r")], 1].min(axis=1)
    lift = soles - 0.018 * tall
    joints[:, :, 1] -= lift[:, None]
    if who.bag == "suitcase":
        joints[:, JOINT["bag_bottom"], 1] += lift
    return joints.astype(np.float32)
