"""The cameras: where each one looks from, its light, and what its sensor does to a picture."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Camera:
    """One fixed camera. Angles in degrees, distances in metres."""

    headings: tuple[float, ...]
    """Directions people walk in: 0 towards the camera, 180 away from it, 90 to the right of the picture."""
    pitch: float
    distance: float
    backdrop: str
    sun: tuple[float, float, float]
    """Direction to the light: right, down, towards the camera."""
    ambient: float
    """Share of light from the sky; the rest comes from the sun."""
    gains: tuple[float, float, float]
    """White balance of red, green and blue."""
    saturation: float
    gamma: float
    blur: float
    """Standard deviation of the optics' blur, in pixels of the finished frame."""
    noise: float
    """Standard deviation of the sensor's noise, in grey levels."""
    quality: int
    """JPEG quality."""
    jitter: float
    """Standard deviation of the detector's error, as a share of the box."""


CAMERAS: tuple[Camera, ...] = (
    Camera(
        (0, -18, 20), 9, 8.0, "hall", (-0.5, -0.6, 0.62), 0.62, (1.036, 1.0, 0.95), 0.97, 0.965, 0.45, 3.0, 82, 0.02
    ),
    Camera(
        (180, 165, 200),
        16,
        6.5,
        "shops",
        (0.35, -0.85, 0.4),
        0.75,
        (0.964, 1.022, 0.975),
        0.88,
        1.035,
        0.7,
        5.0,
        70,
        0.03,
    ),
    Camera(
        (90, 75, -85),
        5,
        11.0,
        "facade",
        (0.75, -0.45, 0.48),
        0.7,
        (0.957, 0.989, 1.058),
        0.91,
        0.93,
        0.5,
        3.5,
        76,
        0.025,
    ),
    Camera(
        (40, -45, 30),
        30,
        6.0,
        "concourse",
        (0.1, -0.9, 0.42),
        0.8,
        (1.0, 0.986, 0.978),
        0.86,
        1.12,
        0.8,
        7.0,
        62,
        0.035,
    ),
    Camera(
        (135, -130, 110),
        12,
        9.0,
        "park",
        (-0.8, -0.45, 0.4),
        0.45,
        (1.043, 1.018, 0.942),
        1.06,
        1.0,
        0.4,
        3.0,
        84,
        0.025,
    ),
    Camera(
        (-60, 65, -30),
        20,
        7.0,
        "platform",
        (0.6, -0.6, 0.53),
        0.66,
        (1.029, 0.978, 1.014),
        0.85,
        1.07,
        0.65,
        5.5,
        68,
        0.03,
    ),
)


def response(gains: Float[np.ndarray, "3"], gamma: float) -> UInt8[np.ndarray, "1 256 3"]:
    """The sensor's answer to each grey level in red, green and blue."""
    levels = np.linspace(0, 1, 256)[:, None]
    return (255 * np.clip(levels * gains, 0, 1) ** gamma).astype(np.uint8)[None]


def saturate(amount: float) -> Float[np.ndarray, "3 3"]:
    """The matrix that mixes each channel with the grey of all three."""
    grey = np.array([0.3, 0.59, 0.11], np.float32)
    return amount * np.eye(3, dtype=np.float32) + (1 - amount) * grey[None]


def expose(
    picture: UInt8[np.ndarray, "H W 3"],
    camera: Camera,
    gains: Float[np.ndarray, "3"],
    gamma: float,
    noise: Float[np.ndarray, "h w 3"],
    size: tuple[int, int],
) -> bytes:
    """The JPEG bytes a camera gives of a supersampled picture, at `size` (width, height)."""
    frame = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    frame = cv2.GaussianBlur(frame, (0, 0), camera.blur)
    frame = cv2.LUT(cv2.transform(frame, saturate(camera.saturation)), response(gains, gamma))
    frame = np.clip(frame + noise * camera.noise, 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, camera.quality])
    return data.tobytes()
