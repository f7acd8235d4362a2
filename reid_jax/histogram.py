"""The comparison without learning: colour histograms of a person's strips, averaged over a tracklet."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

HSV_RANGES = (0, 180, 0, 256, 0, 256)
"""OpenCV's 8-bit ranges of hue, saturation and value."""
MIDDLE = 1 / 3
"""Share of the columns that is counted. A detector centres the person; the rest of the box is mostly background, whose
colours tell cameras apart, not persons."""


def histogram_embedding(
    frames: UInt8[np.ndarray, "T H W 3"], strips: int, bins: tuple[int, int, int]
) -> Float[np.ndarray, "E"]:
    """Roots of the mean HSV histograms over the frames: of the frame's middle, and of `strips` horizontal strips of it.

    `frames` are RGB, `bins` those of hue, saturation and value. Each histogram sums to one before the root, so the
    Euclidean distance of two embeddings is (up to a factor) the Hellinger distance, that of Bhattacharyya's
    coefficient. E = (1 + strips) * prod(bins). Raises `ValueError` for no frame, or for more strips than rows.
    """
    if not len(frames):
        raise ValueError("frames is empty: an embedding needs at least one frame")
    height, width = frames.shape[1:3]
    if not 0 <= strips <= height:
        raise ValueError(f"strips = {strips}: frames of {height} rows have 0 to {height} strips")
    margin = round(width * (1 - MIDDLE) / 2)
    total = np.zeros((1 + strips, *bins))
    for frame in frames:
        hsv = cv2.cvtColor(np.ascontiguousarray(frame[:, margin : width - margin]), cv2.COLOR_RGB2HSV)
        regions = [hsv, *(np.array_split(hsv, strips) if strips else [])]
        for row, region in enumerate(regions):
            counts = cv2.calcHist([region], [0, 1, 2], None, list(bins), list(HSV_RANGES))
            total[row] += counts / (region.shape[0] * region.shape[1])
    return np.sqrt(total / len(frames)).ravel().astype(np.float32)
