"""Encoded frames -> a clip of pixels, on the host: decode, crop, move, resize, mirror."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8

from reid_jax.sampling import WHOLE, Augmentation

ERASED_COLOUR = (124, 116, 104)
"""ImageNet's mean, in RGB: to a pretrained network, nothing."""

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a pixel's grey (ITU-R BT.601)."""

REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: 0,
}
"""By what the decoder may divide a JPEG's sides, and OpenCV's flag for it, which says grey only when alone."""
LARGER = 1.25
"""How much larger than wanted what is decoded smaller must stay: a crop of four fifths is still not enlarged."""


def corner_crops(crop: float) -> tuple[Augmentation, ...]:
    """The crops in the four corners of a frame, `crop` its share of the frame's sides."""
    return tuple(replace(WHOLE, side=crop, top=top, left=left) for top in (0.0, 1.0) for left in (0.0, 1.0))


def evaluation_conditions(conditions: int, crop: float) -> tuple[Augmentation, ...]:
    """The crop x mirror conditions that a test clip is averaged over (section V.B).

    Args:
        conditions: 1 (the whole frame), 2 (and its mirror) or 10 (centre and corner crops, each plain and mirrored).
        crop: sides of the ten conditions' crops, as a share of the frame's sides.

    Raises:
        ValueError: another number of conditions.
    """
    if conditions not in (1, 2, 10):
        raise ValueError(f"conditions is {conditions}; it can be 1 (plain), 2 (and mirrored) or 10 (5 crops x mirror)")
    centre = replace(WHOLE, side=crop, top=0.5, left=0.5)
    crops = (centre, *corner_crops(crop)) if conditions == 10 else (WHOLE,)
    both = tuple(replace(place, mirror=mirror) for place in crops for mirror in (False, True))
    return both[:conditions]


def decode_clip(
    encoded: Sequence[bytes],
    chosen: slice,
    height: int,
    width: int,
    augmentation: Augmentation | Sequence[Augmentation],
    name: str,
) -> UInt8[np.ndarray, "T H W 3"]:
    """Decodes the T chosen frames of a tracklet; RGB, the other frames are left encoded.

    JPEGs much larger than wanted are decoded at half their sides, a quarter or an eighth, which takes less time.

    Args:
        encoded: every frame of the tracklet, as JPEG or PNG.
        chosen: first frame, end and step, all within the tracklet.
        height: H in pixels.
        width: W in pixels.
        augmentation: done to every frame alike (`sampling.WHOLE`: resized only), or one for each of them.
        name: what errors call the tracklet.

    Raises:
        ValueError: the tracklet has fewer frames, or one of them cannot be decoded.
    """
    if chosen.start < 0 or chosen.stop > len(encoded):
        raise ValueError(
            f"tracklet {name} has {len(encoded)} frames, not {chosen.stop} as its table says; prepare the data again"
        )
    numbers = range(*chosen.indices(len(encoded)))
    each = (augmentation,) * len(numbers) if isinstance(augmentation, Augmentation) else augmentation
    clip = np.empty((len(numbers), height, width, 3), np.uint8)
    for t, (number, own) in enumerate(zip(numbers, each, strict=True)):
        clip[t] = augment(_decode(encoded[number], name, number, height, width), height, width, own)
    return clip


def augment(
    image: UInt8[np.ndarray, "h w 3"], height: int, width: int, augmentation: Augmentation
) -> UInt8[np.ndarray, "H W 3"]:
    """Cuts the augmentation's box out of an image (whole pixels), resizes it to H x W and does the rest to that."""
    tall, wide = image.shape[:2]
    box_height, box_width = max(1, round(augmentation.side * tall)), max(1, round(augmentation.side * wide))
    top = round(augmentation.top * (tall - box_height) - augmentation.down * tall)
    left = round(augmentation.left * (wide - box_width) - augmentation.right * wide)
    above, below = max(0, -top), max(0, top + box_height - tall)
    before, behind = max(0, -left), max(0, left + box_width - wide)
    if above or below or before or behind:
        image = cv2.copyMakeBorder(image, above, below, before, behind, cv2.BORDER_REPLICATE)
    top, left = top + above, left + before
    resized = _resize(image[top : top + box_height, left : left + box_width], height, width)
    turned = cv2.flip(resized, 1) if augmentation.mirror else resized
    coloured = turned if augmentation.colour is None else _colour(turned, *augmentation.colour)
    return coloured if augmentation.erased is None else _erased(coloured, augmentation.erased)


def _colour(
    frame: UInt8[np.ndarray, "H W 3"], brightness: float, contrast: float, saturation: float
) -> UInt8[np.ndarray, "H W 3"]:
    """Mixed with its grey, then with its mean grey, then scaled: three affine maps of the colours, done as one."""
    mixed = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), GREY)
    mean = float(np.dot(GREY, cv2.mean(frame)[:3]))
    offset = np.full((3, 1), (1 - contrast) * mean)
    return cv2.transform(frame, brightness * np.hstack([contrast * mixed, offset]))


def _erased(frame: UInt8[np.ndarray, "H W 3"], box: tuple[float, float, float, float]) -> UInt8[np.ndarray, "H W 3"]:
    """The frame itself, in which the box is painted over."""
    height, width = frame.shape[:2]
    top, left, bottom, right = (round(share * side) for share, side in zip(box, (height, width) * 2, strict=True))
    frame[top:bottom, left:right] = ERASED_COLOUR
    return frame


def _resize(image: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
    shrinks = image.shape[0] / height, image.shape[1] / width
    # Bilinear weights reach two pixels: enough down to half the size, where they equal the area's mean. Below that
    # only the area's mean sees every pixel; it costs five times as much, and is no filter for enlarging.
    area = max(shrinks) > 2 and min(shrinks) >= 1
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)


def reduction(data: bytes, height: int, width: int) -> int:
    """By what the sides of an encoded frame, wanted as H x W pixels, are divided in decoding: 1 for what is no JPEG."""
    tall, wide = _jpeg_size(data)
    return next((by for by in REDUCED if tall >= by * LARGER * height and wide >= by * LARGER * width), 1)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width as a JPEG's header has them; 0 and 0 for what is none. ITU-T T.81, B.1 and B.2.2."""
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # Any number of them may stand before a marker.
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return 0, 0


def _decode(data: bytes, name: str, frame: int, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    flags = cv2.IMREAD_COLOR_RGB | REDUCED[reduction(data, height, width)]
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise ValueError(
            f"frame {frame} of tracklet {name} (counted from 0, {len(data)} bytes) is no whole JPEG or PNG image; "
            "replace the file it came from, and of a data set prepare it again: experiments.prepare --again"
        )
    return image
