"""Pooling as Caffe and PyTorch do it, with a gradient that is fast on a CPU too."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "N H W C"], side: int, stride: int, margin: int) -> Float[Array, "N h w C"]:
    """Maximum over windows of `side` x `side`, `stride` apart, the first one starting `margin` outside the frame.

    The last window may reach beyond the frame's end ("ceil mode"), so that no location is left out. XLA's gradient of
    this takes ten times as long on a CPU as the maximum of shifted slices, first along rows and then along columns.
    """
    if jax.default_backend() == "cpu":
        return line_max(line_max(x, side, stride, margin, 2), side, stride, margin, 1)
    return windowed(x, side, stride, margin)


def halved(x: Float[Array, "N H W C"]) -> Float[Array, "N h w C"]:
    """Maximum over 2x2 windows side by side, which leave out an odd last row or column.

    Raises:
        ValueError: the map is one location high or wide.
    """
    if min(x.shape[1:3]) < 2:
        raise ValueError(
            f"frames are too small: a map of {x.shape[1]}x{x.shape[2]} cannot be halved; raise their sides"
        )
    return max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2], 2, 2, 0)


def windowed(x: Float[Array, "N H W C"], side: int, stride: int, margin: int) -> Float[Array, "N h w C"]:
    """`max_pool` as XLA's reduction over windows."""
    edges = [_windows_and_end(size, side, stride, margin)[1] for size in x.shape[1:3]]
    padding = ((0, 0), *((margin, end) for end in edges), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, stride, stride, 1), padding)


def _windows_and_end(size: int, side: int, stride: int, margin: int) -> tuple[int, int]:
    """How many windows cover `size` locations, and by how much the last one reaches beyond them."""
    windows = max(1, -(-(size + 2 * margin - side) // stride) + 1)
    # One that would begin beyond the last location has nothing but margin.
    windows -= (windows - 1) * stride >= size + margin
    return windows, max(0, (windows - 1) * stride + side - size - margin)


def _slices(x: Array, side: int, stride: int, margin: int, axis: int) -> list[Array]:
    """For each place in a window, what all windows along the axis have there."""
    windows, end = _windows_and_end(x.shape[axis], side, stride, margin)
    x = _padded(x, axis, (margin, end), -jnp.inf)
    reach = (windows - 1) * stride + 1
    return [jax.lax.slice_in_dim(x, place, place + reach, stride, axis) for place in range(side)]


def _padded(x: Array, axis: int, before_and_after: tuple[int, int], value: float | int) -> Array:
    """Padded along one axis alone."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = before_and_after
    return jnp.pad(x, padding, constant_values=value)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def line_max(x: Float[Array, "N H W C"], side: int, stride: int, margin: int, axis: int) -> Float[Array, "N h w C"]:
    """`max_pool` along one axis alone; of equal largest values the first one takes the gradient.

    What is kept for it is the largest value's place in each window, in a byte. Comparing anew costs a pass over the map
    for each place, which was a tenth of GoogLeNet's training.
    """
    return reduce(jnp.maximum, _slices(x, side, stride, margin, axis))


def _forward(x: Array, *window: int) -> tuple[Array, tuple[Array, Array]]:
    values = _slices(x, *window)
    largest = reduce(jnp.maximum, values)
    place = jnp.full(largest.shape, len(values) - 1, jnp.int8)
    for earlier in reversed(range(len(values) - 1)):
        place = jnp.where(values[earlier] == largest, jnp.int8(earlier), place)
    return largest, (x, place)


def _backward(
    side: int, stride: int, margin: int, axis: int, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array]:
    x, place = saved  # Of `x` the shape alone is read, so that it is not kept.
    reach = (side - 1) // stride
    rows = gradient.shape[axis] + reach
    gradient, place = _padded(gradient, axis, (reach, reach), 0), _padded(place, axis, (reach, reach), -1)

    def given(at: int) -> Array:
        begin = reach - at // stride
        values, places = (jax.lax.slice_in_dim(array, begin, begin + rows, 1, axis) for array in (gradient, place))
        return jnp.where(places == at, values, 0)

    # Locations of the same remainder by the stride form one array each: XLA scatters into strides slowly.
    phases = [reduce(jnp.add, map(given, range(phase, side, stride))) for phase in range(stride)]
    shape = list(x.shape)
    shape[axis] = rows * stride
    whole = jnp.stack(phases, axis + 1).reshape(shape)
    return (jax.lax.slice_in_dim(whole, margin, margin + x.shape[axis], 1, axis),)


line_max.defvjp(_forward, _backward)


def adaptive_average_pool(x: Float[Array, "N H W C"], side: int) -> Float[Array, "N side side C"]:
    """Averages over side x side regions of about equal size that cover the frame, as PyTorch's adaptive pooling."""
    if x.shape[1:3] == (side, side):
        return x
    rows, columns = (_region_shares(size, side) for size in x.shape[1:3])
    return jnp.einsum("ih,jw,nhwc->nijc", rows, columns, x)


def _region_shares(size: int, regions: int) -> Float[np.ndarray, "R S"]:
    """The share of each of `size` locations in each region's average; region i is [i S / R, (i + 1) S / R), widened."""
    shares = np.zeros((regions, size), np.float32)
    for region in range(regions):
        first, end = region * size // regions, -(-(region + 1) * size // regions)
        shares[region, first:end] = 1 / (end - first)
    return shares
