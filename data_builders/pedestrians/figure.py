"""Drawing one pedestrian: every part is rasterised with surface normals into a depth buffer, then textured and lit."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from data_builders.pedestrians.body import STEPS, Part
from data_builders.pedestrians.clothing import SIDE

TURN = SIDE / (2 * np.pi)


@dataclass(frozen=True)
class View:
    """How a camera sees a walker: angles in radians, distance in metres, scale in pixels a metre, feet in pixels."""

    yaw: float
    """0: the person walks towards the camera, +90 degrees: to the right of the picture."""
    pitch: float
    distance: float
    scale: float
    foot_x: float
    foot_y: float


@dataclass
class Surface:
    """A figure's visible surface: depth, texel and normal for each pixel of the canvas."""

    depth: Float[np.ndarray, "H W"]
    texel: Float[np.ndarray, "H W"]
    normal: Float[np.ndarray, "3 H W"]

    @classmethod
    def empty(cls, height: int, width: int) -> "Surface":
        """A canvas with nobody on it."""
        depth = np.full((height, width), -1e9, np.float32)
        return cls(depth, np.full((height, width), -1, np.int32), np.zeros((3, height, width), np.float32))

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """Where the figure is."""
        return self.texel >= 0


def project(joints: Float[np.ndarray, "J 3"], view: View) -> tuple[Float[np.ndarray, "J 3"], Float[np.ndarray, "J"]]:
    """Joints in the picture: x and y in pixels, depth towards the camera in pixels; and each one's scale."""
    cos, sin = np.cos(view.yaw), np.sin(view.yaw)
    across = joints[:, 0] * cos + joints[:, 2] * sin
    near = joints[:, 2] * cos - joints[:, 0] * sin
    up = joints[:, 1] * np.cos(view.pitch) - near * np.sin(view.pitch)
    depth = near * np.cos(view.pitch) + joints[:, 1] * np.sin(view.pitch)
    scale = view.scale * view.distance / (view.distance - depth)
    points = np.stack([view.foot_x + across * scale, view.foot_y - up * scale, depth * view.scale], axis=-1)
    return points, scale


def radii(parts: list[Part], view: View) -> tuple[Float[np.ndarray, "P S"], Float[np.ndarray, "P S"]]:
    """Radii in metres of each part's turned elliptic section, along it: across the picture and towards the camera."""
    squares = np.square(np.stack([(part.wide, part.deep) for part in parts]))
    wide, deep = squares[:, 0], squares[:, 1]
    cos, sin = np.float32(np.cos(view.yaw) ** 2), np.float32(np.sin(view.yaw) ** 2)
    return np.sqrt(wide * cos + deep * sin), np.sqrt(wide * sin + deep * cos)


def splat(
    surface: Surface, part: Part, ends: Float[np.ndarray, "2 3"], across: np.ndarray, towards: np.ndarray, yaw: float
) -> None:
    """Rasterise one part between two projected joints where it is nearest to the camera; radii in pixels."""
    height, width = surface.depth.shape
    start, end = ends.tolist()
    reach = float(across.max()) + 1
    left, right = int(max(min(start[0], end[0]) - reach, 0)), int(min(max(start[0], end[0]) + reach + 1, width))
    top, bottom = int(max(min(start[1], end[1]) - reach, 0)), int(min(max(start[1], end[1]) + reach + 1, height))
    if left >= right or top >= bottom:
        return
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
    ux, uy = dx / length, dy / length
    xs = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - start[0])
    ys = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - start[1]))[:, None]
    along = xs * np.float32(ux) + ys * np.float32(uy)
    side = xs * np.float32(uy) - ys * np.float32(ux)
    place = np.minimum(np.maximum(along * np.float32(1 / length), 0), 1)
    step = (place * STEPS).astype(np.int32)
    inverse = (1 / across)[step]
    over = (along - place * np.float32(length)) * inverse
    side *= inverse
    beyond = over * np.float32(part.flatness)
    inside = 1 - (np.square(side * side) if part.boxy else side * side) - beyond * beyond
    bulge = np.sqrt(np.maximum(inside, 0))
    depth = np.float32(start[2]) + place * np.float32(end[2] - start[2]) + bulge * towards[step]
    local = np.flatnonzero((inside > 0) & (depth > surface.depth[top:bottom, left:right]))
    pixel = local + local // (right - left) * (width - right + left) + (top * width + left)
    side, over, bulge, along = (values.ravel()[local] for values in (side, over, bulge, along))
    surface.depth.reshape(-1)[pixel] = depth.ravel()[local]
    cap = float(across[0]) / part.flatness
    stretch = SIDE / (length + cap + float(across[-1]) / part.flatness)
    row = np.minimum(np.maximum((along + cap) * np.float32(stretch), 0), SIDE - 1).astype(np.int32)
    angle = np.arcsin(np.minimum(np.maximum(side, -1), 1)) * np.float32(TURN)
    column = (angle + np.float32(SIDE * 8.5 - yaw * TURN)).astype(np.int32) % SIDE
    surface.texel.reshape(-1)[pixel] = (part.texture * SIDE + row) * SIDE + column
    if part.boxy:
        side = side**3
    normal = surface.normal.reshape(3, -1)
    normal[0, pixel] = side * np.float32(uy) + over * np.float32(ux)
    normal[1, pixel] = over * np.float32(uy) - side * np.float32(ux)
    normal[2, pixel] = bulge


def rasterise(parts: list[Part], joints: Float[np.ndarray, "J 3"], view: View, size: tuple[int, int]) -> Surface:
    """The visible surface of one pose on a canvas of (height, width)."""
    surface = Surface.empty(*size)
    points, scale = project(joints, view)
    starts, ends = [part.start for part in parts], [part.end for part in parts]
    middle = 0.5 * (scale[starts] + scale[ends])[:, None]
    across, towards = (middle * radius for radius in radii(parts, view))
    lines = np.stack([points[starts], points[ends]], axis=1)
    for number, part in enumerate(parts):
        splat(surface, part, lines[number], across[number], towards[number], view.yaw)
    return surface


def light(
    surface: Surface, textures: UInt8[np.ndarray, "P S S 3"], sun: Float[np.ndarray, "3"], ambient: float
) -> tuple[Bool[np.ndarray, "H W"], UInt8[np.ndarray, "N 3"]]:
    """The figure's mask and the colours of its pixels: sky light from above, a sun, and darker grazing edges."""
    mask = surface.mask
    texel = np.flatnonzero(mask)
    nx, ny, nz = surface.normal.reshape(3, -1)[:, texel]
    sky = ambient * (0.72 - 0.28 * ny)
    direct = (1 - ambient) * 1.5 * np.maximum(nx * sun[0] + ny * sun[1] + nz * sun[2], 0)
    shade = (sky + direct + 0.1) * (0.7 + 0.3 * nz)
    colours = textures.reshape(-1, 3).take(surface.texel.reshape(-1)[texel], axis=0) * shade[:, None]
    return mask, np.minimum(colours, 255).astype(np.uint8)
