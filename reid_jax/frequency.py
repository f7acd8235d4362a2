"""Small zero-padded convolutions as dense products over spatial frequencies.

On a grid of n points a kernel of side k reaches k // 2 beyond the border, so a circular convolution of length
N = n + k // 2 gives the same n outputs: what wraps around falls on outputs that are cut away. A real image has about
N^2 / 2 distinct complex frequencies, each a dense product over channels. Everything is held as reals, real and
imaginary parts side by side, so that the work is plain matrix products.

Axes: `M` frequencies, `P` = Kh Kw grid points, `*N` any axes between, clips say: behind the grid they cost nothing, in
front of it XLA's CPU backend would copy every operand of every product.
"""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Basis(NamedTuple):
    """Transforms between a grid and its frequencies, in float64; constants of the grid and the largest kernel."""

    grid: tuple[int, int]
    angles: Float[np.ndarray, "M 2"]
    """Radians per step along each grid axis."""
    forward: Float[np.ndarray, "2 M P"]
    """Grid -> real and imaginary parts."""
    inverse: Float[np.ndarray, "P 2 M"]
    """Real and imaginary parts -> grid."""


@lru_cache(maxsize=64)
def basis(grid: tuple[int, int], side: int) -> Basis:
    """The transforms for kernels of at most `side` x `side` on `grid`."""
    height, width = (n + side // 2 for n in grid)
    kept = []
    for u in range(height):
        for v in range(width):
            mirror = ((-u) % height, (-v) % width)
            if (u, v) <= mirror:
                kept.append((u, v, 1.0 if (u, v) == mirror else 2.0))
    index = np.array(kept)
    angles = 2 * np.pi * index[:, :2] / np.array([height, width])
    points = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 2)
    phase = angles @ points.T
    forward = np.stack([np.cos(phase), -np.sin(phase)])
    inverse = np.stack([np.cos(phase), -np.sin(phase)]) * index[:, 2][:, None] / (height * width)
    return Basis(grid, angles, forward, inverse.transpose(2, 0, 1))


def transform(x: Float[Array, "Kh Kw *N D"], basis: Basis) -> Float[Array, "M *N 2*D"]:
    """The frequencies of images: real parts, then imaginary parts."""
    points = x.reshape(-1, *x.shape[2:])
    return jnp.concatenate([jnp.tensordot(jnp.asarray(part, x.dtype), points, 1) for part in basis.forward], axis=-1)


def transform_kernel(kernel: Float[Array, "k1 k2 D F"], basis: Basis) -> Float[Array, "M 2*D 2*F"]:
    """A kernel as one matrix a frequency, from (real, imaginary) inputs to (real, imaginary) outputs."""
    offsets = np.stack(np.meshgrid(*(np.arange(k) - (k - 1) // 2 for k in kernel.shape[:2]), indexing="ij"), -1)
    phase = basis.angles @ offsets.reshape(-1, 2).T
    taps = kernel.reshape(-1, *kernel.shape[2:])
    real, imaginary = (
        jnp.einsum("mk,kdf->mdf", jnp.asarray(part, kernel.dtype), taps) for part in (np.cos(phase), np.sin(phase))
    )
    return jnp.block([[real, imaginary], [-imaginary, real]])


def multiply(spectrum: Float[Array, "M *N D2"], kernel: Float[Array, "M D2 F2"]) -> Float[Array, "M *N F2"]:
    """The convolution itself: one dense product a frequency."""
    return jnp.einsum("m...i,mif->m...f", spectrum, kernel)


def invert(spectrum: Float[Array, "M *N F2"], basis: Basis) -> Float[Array, "Kh Kw *N F2//2"]:
    """Frequencies back to the grid, the part beyond it cut away."""
    parts = enumerate(jnp.split(spectrum, 2, axis=-1))
    points = sum(jnp.tensordot(jnp.asarray(basis.inverse[:, part], x.dtype), x, 1) for part, x in parts)
    return points.reshape(*basis.grid, *points.shape[1:])
