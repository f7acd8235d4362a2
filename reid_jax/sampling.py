"""Drawing training pairs: which persons, cameras, tracklets and frames, and their augmentation (section V.B).

Pair i follows from (seed, i) alone, so the data order is the same whatever reads it, and can be entered anywhere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from reid_jax.config import DataConfig
from reid_jax.tracklets import DISTRACTOR, TrackletTable


@dataclass(frozen=True)
class Augmentation:
    """What is done to a frame: cut a box, move it, stretch it, mirror it, change its colours, paint over a part."""

    mirror: bool
    side: float
    """Sides of the box as a share of the frame's sides, in (0, 1]."""
    top: float
    left: float
    """Where the box lies in the room it has: 0 at the top (left), 1 at the bottom (right)."""
    down: float
    right: float
    """How far the content moves, as a share of the frame's sides; the frame's edge is repeated behind it."""
    erased: tuple[float, float, float, float] | None = None
    """Top, left, bottom and right of a box painted over, as shares of the finished frame's sides."""
    colour: tuple[float, float, float] | None = None
    """Factors of brightness, contrast and saturation."""


WHOLE = Augmentation(mirror=False, side=1.0, top=0.0, left=0.0, down=0.0, right=0.0)

ERASED_AREA, ERASED_SHAPE = (0.02, 0.33), (0.3, 3.3)
"""Share of the frame, and height over width, of a box that is painted over (Zhong et al. 2020)."""


@dataclass(frozen=True)
class ClipDraw:
    """`count` frames of the tracklet in row `row`, every `step`-th from frame `start` (counted from 0)."""

    row: int
    start: int
    count: int
    augmentation: Augmentation
    step: int = 1
    further: tuple[Augmentation, ...] = ()
    """What is done to the second frame and those after it, where each is augmented for itself."""

    @property
    def frames(self) -> slice:
        """Which of the tracklet's frames these are."""
        return slice(self.start, self.start + (self.count - 1) * self.step + 1, self.step)

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """What is done to each of them."""
        return (self.augmentation, *self.further) if self.further else (self.augmentation,) * self.count


@dataclass(frozen=True)
class PairDraw:
    """Two clips, whether they show the same person, and each one's person, counted from 0 among the train persons."""

    clips: tuple[ClipDraw, ClipDraw]
    same: bool
    persons: tuple[int, int]


@dataclass(frozen=True)
class PairIndex:
    """A table's P persons, arranged for drawing: `rows[p][c]` are person p's tracklets in camera `cameras[p][c]`."""

    person: Int[np.ndarray, "P"]
    cameras: tuple[tuple[int, ...], ...]
    rows: tuple[tuple[Int[np.ndarray, "_"], ...], ...]
    length: Int[np.ndarray, "N"]
    paired: Int[np.ndarray, "M"]
    """The persons seen in two cameras or more, the only ones that a positive pair can show."""


def index_pairs(table: TrackletTable) -> PairIndex:
    """Arranges a table for `draw_pair`, leaving out junk and distractors.

    Raises:
        ValueError: a tracklet has no frames, or the table allows no positive or no negative pair.
    """
    identified = np.flatnonzero(table.person > DISTRACTOR)
    empty = identified[table.length[identified] < 1]
    if len(empty):
        raise ValueError(f"tracklet {table.name[empty[0]]} has no frames; prepare the data set again")
    persons = np.unique(table.person[identified])
    cameras, rows = [], []
    for person in persons:
        own = identified[table.person[identified] == person]
        seen = np.unique(table.camera[own])
        cameras.append(tuple(int(camera) for camera in seen))
        rows.append(tuple(own[table.camera[own] == camera] for camera in seen))
    paired = np.array([p for p, seen in enumerate(cameras) if len(seen) > 1], np.int64)
    if len(paired) == 0 or len(persons) < 2:
        raise ValueError(
            f"no training pairs can be drawn from {len(table)} tracklets of {len(persons)} persons, {len(paired)} of "
            "them seen in two cameras: a positive pair needs one person in two cameras, a negative pair two persons"
        )
    return PairIndex(persons, tuple(cameras), tuple(rows), table.length, paired)


def draw_pair(index: PairIndex, seed: int, i: int, data: DataConfig) -> PairDraw:
    """Draws training pair i: positive for even i, and for odd i negative, or positive too where `positives` is `all`.

    Persons are drawn uniformly, then two cameras (different ones, unless a negative pair has no such choice), then a
    tracklet in each, then `data.frames` frames of it, consecutive or spread out, or all of a shorter one.
    `data.pairs_per_person` pairs in a row show the same person.

    Args:
        index: the persons to draw from.
        seed: seed of the data order, not negative.
        i: number of the pair, not negative.
        data: T, the share of positive pairs, and the augmentation.
    """
    generator = np.random.default_rng([seed, i])
    same = i % 2 == 0 or data.positives == "all"
    if same:
        repeated = data.pairs_per_person > 1
        who = np.random.default_rng([seed, i // data.pairs_per_person, 1]) if repeated else generator
        places = _two_cameras(index, _one_of(index.paired, who), generator)
    else:
        places = _two_persons(index, generator)
    first, second = (_draw_clip(index, generator, *place, data, number) for number, place in enumerate(places))
    return PairDraw((first, second), same, (places[0][0], places[1][0]))


def _one_of(values: Int[np.ndarray, "N"], generator: np.random.Generator) -> int:
    """What the generator's `choice` gives, in a third of its time."""
    return int(values[generator.integers(len(values))])


def _child(generator: np.random.Generator, number: int) -> np.random.Generator:
    """The generator's child of that number: the one `spawn` would give, without making those before it."""
    own = generator.bit_generator.seed_seq
    return np.random.default_rng(np.random.SeedSequence(own.entropy, spawn_key=(*own.spawn_key, number)))


def _two_cameras(index: PairIndex, person: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    first, second = generator.choice(len(index.cameras[person]), size=2, replace=False)
    return [(person, int(first)), (person, int(second))]


def _two_persons(index: PairIndex, generator: np.random.Generator) -> list[tuple[int, int]]:
    first, second = (int(person) for person in generator.choice(len(index.person), size=2, replace=False))
    every = [(a, b) for a in range(len(index.cameras[first])) for b in range(len(index.cameras[second]))]
    across = [(a, b) for a, b in every if index.cameras[first][a] != index.cameras[second][b]]
    choices = across or every
    a, b = choices[generator.integers(len(choices))]
    return [(first, a), (second, b)]


def _draw_clip(
    index: PairIndex, generator: np.random.Generator, person: int, camera: int, data: DataConfig, number: int
) -> ClipDraw:
    """The pair's first clip or its second, `number` 0 or 1, whose children of the generator are three each."""
    row = _one_of(index.rows[person][camera], generator)
    length = int(index.length[row])
    count = min(data.frames, length)
    step = length // count if data.sampling == "spread" else 1
    start = int(generator.integers(length - (count - 1) * step))
    first, further = _draw_augmentation(generator, data, 3 * number), ()
    if data.augment == "frame":
        # From a stream of their own, so that the other clip's draws stay as they are.
        apart = _child(generator, 3 * number + 2)
        further = tuple(_draw_augmentation(apart, data, 2 * frame) for frame in range(count - 1))
    return ClipDraw(row, start, count, first, step, further)


def _draw_augmentation(generator: np.random.Generator, data: DataConfig, child: int) -> Augmentation:
    # Every number is drawn whatever the settings, so that changing one of them leaves the others' draws alone; what
    # only some settings need comes from a child of the generator, `child` or the next.
    turn, side, top, left, down, right = generator.random(6).tolist()
    return Augmentation(
        mirror=data.mirror and turn < 0.5,
        side=data.crop + (1 - data.crop) * side,
        top=top,
        left=left,
        down=data.translation * (2 * down - 1),
        right=data.translation * (2 * right - 1),
        erased=_erased_box(_child(generator, child), data.erase) if data.erase > 0 else None,
        colour=_colour(_child(generator, child + 1), data.colour) if data.colour > 0 else None,
    )


def _colour(generator: np.random.Generator, by: float) -> tuple[float, float, float]:
    brightness, contrast, saturation = (float(factor) for factor in generator.uniform(1 - by, 1 + by, 3))
    return brightness, contrast, saturation


def _erased_box(generator: np.random.Generator, share: float) -> tuple[float, float, float, float] | None:
    """A box, in that share of the clips."""
    if generator.random() >= share:
        return None
    area, shape = generator.uniform(*ERASED_AREA), np.exp(generator.uniform(*np.log(ERASED_SHAPE)))
    # The shape counts in pixels of a frame twice as high as it is wide, the usual one of pedestrians.
    height, width = min(1.0, np.sqrt(area * shape / 2)), min(1.0, np.sqrt(area / shape * 2))
    top, left = generator.uniform(0, 1 - height), generator.uniform(0, 1 - width)
    return float(top), float(left), float(top + height), float(left + width)
