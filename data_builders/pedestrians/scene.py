"""What stands behind and in front of the walkers: a wide backdrop for each camera, and things that hide people."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_builders.pedestrians.camera import Camera
from data_builders.pedestrians.identity import FABRICS, Colour

WIDTH, HEIGHT = 1600, 384
"""Size of a backdrop in pixels of the supersampled canvas (128 x 256 shows a frame)."""
FOOT = 300
"""The row of a backdrop where the walkers' feet are."""
POOLS, WARMTH = 0.25, 0.07
"""Standard deviations (of logarithms) of the light's brightness and colour over a place."""
CLOTH = tuple(FABRICS.values())


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(np.clip(channel * factor, 0, 255)) for channel in colour)
    return red, green, blue


def _any_cloth(rng: np.random.Generator) -> Colour:
    return CLOTH[int(rng.integers(len(CLOTH)))]


def floor(picture: np.ndarray, seam: int, colour: Colour, tile: int, rng: np.random.Generator, contrast: float) -> None:
    """A floor below row `seam`, of tiles in perspective that grow towards the camera."""
    rows = np.arange(HEIGHT - seam, dtype=np.float32)[:, None]
    columns = np.arange(WIDTH, dtype=np.float32)[None] - WIDTH / 2
    away = 1.0 / (rows + 70)
    across, along = columns * away * 160 / tile, 9000.0 * away / tile
    checker = (np.floor(across) + np.floor(along)) % 2
    joint = (np.abs(across % 1 - 0.5) > 0.47) | (np.abs(along % 1 - 0.5) > 0.45)
    stone = rng.normal(0, 1, (24, 100)).astype(np.float32)
    mottle = cv2.resize(stone, (WIDTH, HEIGHT - seam), interpolation=cv2.INTER_CUBIC)
    tone = 1 + contrast * (checker - 0.5) - 0.12 * joint + 0.04 * mottle + 0.0007 * rows
    picture[seam:] = np.clip(np.array(colour, np.float32) * tone[..., None], 0, 255)


def wall(picture: np.ndarray, seam: int, colour: Colour) -> None:
    """A wall above the seam, darker at its foot."""
    tone = np.linspace(1.05, 0.88, seam)[:, None, None]
    picture[:seam] = np.clip(np.array(colour, np.float32) * tone, 0, 255)


def _hall(picture: np.ndarray, seam: int, rng: np.random.Generator) -> None:
    wall(picture, seam, (171, 165, 155))
    floor(picture, seam, (160, 154, 146), 26, rng, 0.16)
    for left in range(30, WIDTH, 190):
        cv2.rectangle(picture, (left, 0), (left + 34, seam), (150, 142, 130), -1)
        cv2.rectangle(picture, (left + 24, 0), (left + 34, seam), (122, 115, 106), -1)
        poster = _any_cloth(rng)
        cv2.rectangle(picture, (left + 68, seam - 170), (left + 138, seam - 60), _shade(poster, 0.95), -1)
        cv2.rectangle(picture, (left + 76, seam - 130), (left + 130, seam - 100), _any_cloth(rng), -1)
        cv2.rectangle(picture, (left + 68, seam - 170), (left + 138, seam - 60), (70, 68, 64), 2)


def _shops(picture: np.ndarray, seam: int, rng: np.random.Generator) -> None:
    wall(picture, seam, (132, 126, 121))
    floor(picture, seam, (145, 146, 142), 20, rng, 0.06)
    for left in range(0, WIDTH, 170):
        cv2.rectangle(picture, (left + 10, 0), (left + 156, seam - 14), (196, 206, 206), -1)
        for shelf in range(left + 22, left + 140, 32):
            top = int(rng.integers(0, max(seam - 110, 1)))
            cv2.rectangle(picture, (shelf, top), (shelf + 22, seam - 26), _any_cloth(rng), -1)
            cv2.circle(picture, (shelf + 11, top - 9), 8, (196, 168, 146), -1)
        cv2.rectangle(picture, (left + 10, 0), (left + 156, seam - 14), (60, 62, 62), 3)


def _facade(picture: np.ndarray, seam: int, rng: np.random.Generator) -> None:
    wall(picture, seam, (150, 121, 108))
    for row in range(0, seam, 9):
        cv2.line(picture, (0, row), (WIDTH, row), (128, 92, 80), 1)
        for column in range(9 * (row // 9 % 2), WIDTH, 18):
            cv2.line(picture, (column, row), (column, row + 9), (130, 94, 82), 1)
    for left in range(40, WIDTH, 210):
        cv2.rectangle(picture, (left, seam - 190), (left + 64, seam - 90), (66, 78, 92), -1)
        cv2.rectangle(picture, (left, seam - 190), (left + 64, seam - 90), (206, 202, 194), 4)
        cv2.line(picture, (left + 32, seam - 190), (left + 32, seam - 90), (206, 202, 194), 3)
        cv2.rectangle(picture, (left + 110, seam - 160), (left + 166, seam), _shade(_any_cloth(rng), 0.8), -1)
        cv2.circle(picture, (left + 156, seam - 74), 3, (220, 200, 120), -1)
    floor(picture, seam, (147, 146, 145), 30, rng, 0.03)
    cv2.rectangle(picture, (0, seam), (WIDTH, seam + 5), (104, 102, 100), -1)


def _concourse(picture: np.ndarray, seam: int, rng: np.random.Generator) -> None:
    wall(picture, seam, (126, 126, 128))
    floor(picture, seam, (150, 146, 142), 34, rng, 0.3)
    for _ in range(9):
        left, top = int(rng.integers(WIDTH)), int(rng.integers(seam, HEIGHT - 140))
        cv2.rectangle(picture, (left, top), (left + 90, top + 26), _shade(_any_cloth(rng), 0.9), -1)
        cv2.rectangle(picture, (left, top + 26), (left + 90, top + 40), (70, 68, 70), -1)


def _park(picture: np.ndarray, seam: int, rng: np.random.Generator) -> None:
    wall(picture, seam, (165, 176, 185))
    floor(picture, seam, (163, 153, 137), 60, rng, 0.02)
    for _ in range(420):
        green = np.array([64, 98, 48]) * rng.uniform(0.5, 1.35) + rng.integers(0, 14, 3)
        centre = int(rng.integers(WIDTH)), int(seam - abs(rng.normal(0, 80)) + 10)
        cv2.circle(picture, centre, int(rng.integers(8, 28)), tuple(int(channel) for channel in green), -1)
    for left in range(90, WIDTH, 260):
        cv2.rectangle(picture, (left, 0), (left + 18, seam + 8), (84, 66, 50), -1)
        bench = _shade(_any_cloth(rng), 0.9)
        cv2.rectangle(picture, (left + 70, seam - 22), (left + 160, seam - 4), bench, -1)
        cv2.rectangle(picture, (left + 70, seam - 48), (left + 160, seam - 32), bench, -1)


def _platform(picture: np.ndarray, seam: int, rng: np.random.Generator) -> None:
    wall(picture, seam, (117, 114, 116))
    floor(picture, seam, (153, 150, 148), 24, rng, 0.08)
    train = _any_cloth(rng)
    cv2.rectangle(picture, (0, max(seam - 150, 0)), (WIDTH, seam - 8), _shade(train, 0.85), -1)
    for left in range(12, WIDTH, 110):
        cv2.rectangle(picture, (left, seam - 125), (left + 70, seam - 70), (52, 58, 66), -1)
        if rng.random() < 0.4:
            cv2.rectangle(picture, (left + 20, seam - 105), (left + 48, seam - 70), _any_cloth(rng), -1)
    cv2.rectangle(picture, (0, seam + 6), (WIDTH, seam + 16), (206, 178, 60), -1)


PAINTERS = {
    "hall": _hall, "shops": _shops, "facade": _facade, "concourse": _concourse, "park": _park, "platform": _platform
}  # fmt: skip


def paint_backdrop(camera: Camera, rng: np.random.Generator) -> UInt8[np.ndarray, "384 1600 3"]:
    """The whole place a camera sees; the higher the camera, the more of it is floor."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    seam = int(np.clip(FOOT - 40 - 7.5 * camera.pitch, 24, FOOT))
    PAINTERS[camera.backdrop](picture, seam, rng)
    grain = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1.3) * lamps(rng) + grain, 0, 255).astype(np.uint8)


def lamps(rng: np.random.Generator) -> Float[np.ndarray, "384 1600 3"]:
    """Uneven light over a place: pools of it along the way, of different warmth. No two stretches look alike."""
    brightness, warmth = rng.normal(0, POOLS, (3, 14, 1)), rng.normal(0, WARMTH, (3, 14, 3))
    field = np.exp(brightness + warmth).astype(np.float32)
    return cv2.resize(field, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def window_of(
    backdrop: UInt8[np.ndarray, "384 1600 3"],
    place: tuple[float, float],
    zoom: float,
    foot: tuple[float, float],
    size: tuple[int, int],
) -> UInt8[np.ndarray, "H W 3"]:
    """The part of a backdrop around a walker who stands at its (column, row) `place`.

    `foot` is where the feet are in pixels of the (height, width) canvas.
    """
    matrix = np.array([[zoom, 0, foot[0] - zoom * place[0]], [0, zoom, foot[1] - zoom * place[1]]], np.float32)
    return cv2.warpAffine(
        backdrop, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


OBSTACLES = ("pillar", "sign", "trolley", "bush")


def paint_obstacle(kind: str, rng: np.random.Generator) -> tuple[UInt8[np.ndarray, "256 W 3"], np.ndarray]:
    """A thing in front of the walkers, as high as the canvas: its colours and its mask."""
    width = {"pillar": 34, "sign": 56, "trolley": 84, "bush": 76}[kind] + int(rng.integers(0, 16))
    colours, mask = np.zeros((256, width, 3), np.uint8), np.zeros((256, width), np.uint8)
    cloth = _any_cloth(rng)
    if kind == "pillar":
        round_shade = np.sin(np.linspace(0.35, np.pi, width))[None, :, None]
        colours[:] = np.array(_shade((150, 146, 140), rng.uniform(0.7, 1.2))) * (0.45 + 0.55 * round_shade)
        mask[:] = 1
    elif kind == "sign":
        top = int(rng.integers(70, 130))
        for canvas, board, post in ((colours, cloth, (70, 70, 72)), (mask, 1, 1)):
            cv2.rectangle(canvas, (width // 2 - 3, top), (width // 2 + 3, 255), post, -1)
            cv2.rectangle(canvas, (0, top), (width - 1, top + 62), board, -1)
        cv2.rectangle(colours, (6, top + 12), (width - 7, top + 26), _shade((232, 230, 222), 1.0), -1)
    elif kind == "trolley":
        for top, left, right in ((168, 8, width - 18), (200, 2, width - 10)):
            for canvas, colour in ((colours, _any_cloth(rng)), (mask, 1)):
                cv2.rectangle(canvas, (left, top), (right, top + 32), colour, -1)
        for canvas, colour in ((colours, (96, 98, 102)), (mask, 1)):
            cv2.rectangle(canvas, (0, 230), (width - 1, 236), colour, -1)
            cv2.line(canvas, (width - 3, 140), (width - 3, 236), colour, 4)
            for wheel in (10, width - 12):
                cv2.circle(canvas, (wheel, 243), 7, colour, -1)
    else:
        for _ in range(90):
            centre = int(rng.integers(8, width - 8)), int(256 - abs(rng.normal(0, 42)))
            green = np.array([58, 92, 44]) * rng.uniform(0.5, 1.3)
            radius = int(rng.integers(5, 12))
            cv2.circle(colours, centre, radius, tuple(int(channel) for channel in green), -1)
            cv2.circle(mask, centre, radius, 1, -1)
    return colours, mask.astype(bool)
