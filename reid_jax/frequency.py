"""Small zero-padded convolutions as dense products over spatial frequencies.

On a grid of n points a kernel of side k reaches k // 2 beyond the border, so a circular convolution of length
N = n + k // 2 gives the same n outputs: what wraps around falls on outputs that are cut away. A real image has about
N^2 / 2 distinct complex frequencies, each a dense product over channels. Everything is held as reals, a row for the
real and one for the imaginary part, so that the work is plain matrix products that read each weight once.

Axes: `M` frequencies, `P` = Kh Kw grid points, `*N` any axes between, clips say: behind the grid they cost nothing, in
front of it XLA's CPU backend would copy every operand of every product. `2` is (real, imaginary).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reid_jax.precision import factors

FEW = 8
"""How many frequencies' spectra of all frames are held at once in the backward pass."""
WIDE = 256
"""Above so many inputs the real and the imaginary weights are multiplied one after the other, not side by side."""

Spectrum = tuple[Float[Array, "M _D F"], ...]
"""A kernel's weights: real and imaginary below each other in one array [M, 2 D, F], or in an array each [M, D, F]."""


class Basis(NamedTuple):
    """Transforms between a grid and its frequencies, in float64; constants of the grid and the largest kernel."""

    grid: tuple[int, int]
    angles: Float[np.ndarray, "M 2"]
    """Radians per step along each grid axis."""
    forward: Float[np.ndarray, "M 2 P"]
    """Grid -> real and imaginary parts."""
    inverse: Float[np.ndarray, "P M 2"]
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
    forward = np.stack([np.cos(phase), -np.sin(phase)], 1)
    inverse = forward * index[:, 2][:, None, None] / (height * width)
    return Basis(grid, angles, forward, inverse.transpose(2, 0, 1))


def transform(x: Float[Array, "Kh Kw *N D"], basis: Basis) -> Float[Array, "M 2 *N D"]:
    """The frequencies of images."""
    points = x.reshape(len(basis.inverse), -1)
    return _map(jnp.asarray(basis.forward.reshape(-1, len(points)), x.dtype), points).reshape(-1, 2, *x.shape[2:])


def invert(spectrum: Float[Array, "M 2 *N F"], basis: Basis) -> Float[Array, "Kh Kw *N F"]:
    """Frequencies back to the grid, the part beyond it cut away."""
    parts = spectrum.reshape(2 * len(spectrum), -1)
    points = _map(jnp.asarray(basis.inverse.reshape(-1, len(parts)), spectrum.dtype), parts)
    return points.reshape(*basis.grid, *spectrum.shape[2:])


@jax.custom_vjp
def _map(matrix: Float[Array, "O I"], x: Float[Array, "I R"]) -> Float[Array, "O R"]:
    """A product with a constant, whose gradient has the constant in front as well: autodiff's transposes `x` twice."""
    return matrix @ x


_map.defvjp(lambda matrix, x: (matrix @ x, matrix), lambda matrix, gradient: (None, matrix.T @ gradient))


def transform_kernel(kernel: Float[Array, "k1 k2 D F"], basis: Basis) -> Spectrum:
    """A kernel as one complex matrix a frequency."""
    phases = jnp.asarray(_kernel_phases(kernel.shape[:2], basis), kernel.dtype)
    taps = kernel.reshape(-1, *kernel.shape[2:])
    # This order is a matrix product's own; any other would be a transposition of all weights.
    if kernel.shape[2] > WIDE:
        return tuple(jnp.tensordot(part, taps, 1) for part in phases.swapaxes(0, 1))
    return (jnp.tensordot(phases, taps, 1).reshape(len(phases), -1, kernel.shape[3]),)


def _kernel_phases(sides: tuple[int, ...], basis: Basis) -> Float[np.ndarray, "M 2 taps"]:
    offsets = np.stack(np.meshgrid(*(np.arange(k) - (k - 1) // 2 for k in sides), indexing="ij"), -1)
    phase = basis.angles @ offsets.reshape(-1, 2).T
    return np.stack([np.cos(phase), np.sin(phase)], 1)


def multiply(spectrum: Float[Array, "M 2 *N D"], kernel: Spectrum) -> Float[Array, "M 2 *N F"]:
    """The convolution itself: one dense product a frequency, or two that are added.

    (x + iy)(v + iw) as rows (x, -y) and (y, x) times the column (v, w): every weight is held and read once.
    """
    frequencies, inputs = len(spectrum), spectrum.shape[-1]
    rows = spectrum.reshape(frequencies, 2, -1, inputs)
    turned = rows[:, ::-1] * jnp.array([-1, 1], rows.dtype)[:, None, None]
    factors = [part.reshape(frequencies, -1, inputs) for part in (rows, turned)]
    if len(kernel) == 1:
        factors = [jnp.concatenate(factors, -1)]
    product = sum(map(jnp.matmul, factors, kernel))
    return product.reshape(*spectrum.shape[:-1], kernel[0].shape[-1])


def multiply_adjoint(
    spectrum: Float[Array, "M 2 *N D"], gradient: Float[Array, "M 2 *N F"]
) -> tuple[Float[Array, "M D F"], Float[Array, "M D F"]]:
    """The gradient of `multiply`'s kernel, real and imaginary: each one product over all rows a frequency."""
    frequencies, inputs, outputs = gradient.shape[0], spectrum.shape[-1], gradient.shape[-1]
    rows = spectrum.reshape(frequencies, -1, inputs)
    real, imaginary = gradient.reshape(frequencies, 2, -1, outputs).swapaxes(0, 1)
    columns = jnp.concatenate([real, imaginary], 1), jnp.concatenate([imaginary, -real], 1)
    return tuple(jnp.einsum("mni,mnf->mif", rows, column) for column in columns)


@dataclass(frozen=True)
class Frequency:
    """Convolutions on one grid in this form, with kernels of at most `side` x `side`, and in what precision."""

    grid: tuple[int, int]
    side: int
    precision: str

    @property
    def _basis(self) -> Basis:
        return basis(self.grid, self.side)

    def prepare(self, kernel: Float[Array, "k k D F"]) -> Spectrum:
        """A kernel in the form it is multiplied in."""
        return factors(self.precision, *transform_kernel(kernel, self._basis))

    def analyse(self, x: Float[Array, "Kh Kw *N D"]) -> Float[Array, "M 2 *N D"]:
        """Images in the form they are multiplied in."""
        return transform(x, self._basis)

    def multiply(self, x: Float[Array, "M 2 *N D"], weights: Spectrum) -> Float[Array, "M 2 *N F"]:
        """Prepared kernel and analysed images -> the convolution, to be summed and synthesised."""
        return multiply(*factors(self.precision, x), weights).astype(x.dtype)

    def synthesise(self, y: Float[Array, "M 2 *N F"]) -> Float[Array, "Kh Kw *N F"]:
        """Products (or sums of them) back on the grid."""
        return invert(y, self._basis)

    def kernel_gradient(
        self, x: Float[Array, "Kh Kw *N D"], gradient: Float[Array, "Kh Kw *N F"], side: int
    ) -> Float[Array, "k k D F"]:
        """The gradient of a kernel of `side` from a convolution's images and its outputs' gradient.

        A few frequencies at a time: the images' spectra are larger than the images. The weights' are gathered first and
        transformed together, which reads the taps once.
        """
        images, of_outputs = (
            array.reshape(array.shape[0] * array.shape[1], -1, array.shape[-1]) for array in (x, gradient)
        )

        def products(_: None, part: tuple[Array, Array]) -> tuple[None, tuple[Array, Array]]:
            spectra = (jnp.tensordot(*pair, 1) for pair in zip(part, (images, of_outputs), strict=True))
            found = multiply_adjoint(*factors(self.precision, *spectra))
            return None, tuple(gradient.astype(x.dtype) for gradient in found)

        transforms = self._basis.forward, self._basis.inverse.transpose(1, 2, 0)
        groups = tuple(jnp.asarray(_in_groups(part), x.dtype) for part in transforms)
        _, spectra = jax.lax.scan(products, None, groups)
        phases = _kernel_phases((side, side), self._basis).transpose(1, 2, 0)
        taps = sum(
            jnp.tensordot(jnp.asarray(phase, x.dtype), part.reshape(-1, *part.shape[2:])[: phase.shape[1]], 1)
            for phase, part in zip(phases, spectra, strict=True)
        )
        return taps.reshape(side, side, *taps.shape[1:])


def _in_groups(constants: Float[np.ndarray, "M *rest"]) -> Float[np.ndarray, "groups few *rest"]:
    """Constants by frequency, with zeros for the frequencies that the last group lacks."""
    groups = -(-len(constants) // FEW)
    few = -(-len(constants) // groups)
    padded = np.pad(constants, [(0, groups * few - len(constants))] + [(0, 0)] * (constants.ndim - 1))
    return padded.reshape(groups, few, *constants.shape[1:])
