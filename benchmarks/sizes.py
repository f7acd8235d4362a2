"""What the head's benchmarks compute, and made-up inputs for it; without JAX, for the process that starts PyTorch only.

Axes: `B` pairs, `T` frames, `Kh Kw` grid, `D` features.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Size:
    """The paper's widths on GoogLeNet's cubes, unless it is to be quick."""

    kernels: tuple[int, ...]
    clips: int
    frames: int
    channels: tuple[int, ...] = (128, 256, 256)
    cube: tuple[int, int, int] = (7, 7, 1024)

    @property
    def title(self) -> str:
        """For the name of a row."""
        return f"{self.clips} clips of {self.frames} frames, {', '.join(f'{k}x{k}' for k in self.kernels)}"


def batch_of(size: Size) -> dict[str, np.ndarray]:
    """Pairs [B, 2, T, Kh, Kw, D] of cubes, half of them of one person."""
    pairs, rng = size.clips // 2, np.random.default_rng(0)
    return {
        "features": rng.standard_normal((pairs, 2, size.frames, *size.cube), np.float32),
        "mask": np.ones((pairs, 2, size.frames), bool),
        "same": np.arange(pairs) % 2 == 0,
        "person": np.stack([np.arange(pairs), np.arange(pairs) + np.arange(pairs) % 2], 1).astype(np.int32),
    }
