"""Depthwise convolution: each channel filtered with its own small kernel, fast on a CPU too."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def depthwise(x: Float[Array, "N H W C"], kernel: Float[Array, "k k 1 C"], stride: int) -> Float[Array, "N h w C"]:
    """Cross-correlate each channel of `x` with its own k x k kernel, padded as in TensorFlow ("SAME").

    XLA's grouped convolution, right on an accelerator, is many times slower on a CPU than a sum of shifted products.
    """
    return shifted(x, kernel, stride) if jax.default_backend() == "cpu" else grouped(x, kernel, stride)


def grouped(x: Float[Array, "N H W C"], kernel: Float[Array, "k k 1 C"], stride: int) -> Float[Array, "N h w C"]:
    """`depthwise` as XLA's convolution with one group a channel."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted(x: Float[Array, "N H W C"], kernel: Float[Array, "k k 1 C"], stride: int) -> Float[Array, "N h w C"]:
    """`depthwise` as a sum of k * k products of the kernel's entries with the shifted input."""
    return _sum_of_products(x, kernel, stride)


def _sum_of_products(x: Array, kernel: Array, stride: int) -> Array:
    windows = _windows(_padded(x, kernel.shape[0], stride), kernel.shape[0], stride)
    entries = kernel.reshape(-1, kernel.shape[-1])
    return sum(entry * window for entry, window in zip(entries, windows, strict=True))


def _before_and_after(size: int, side: int, stride: int) -> tuple[int, int]:
    """The padding of one axis."""
    total = max(0, ((size - 1) // stride) * stride + side - size)
    return total // 2, total - total // 2


def _padded(x: Array, side: int, stride: int) -> Array:
    return jnp.pad(x, ((0, 0), *(_before_and_after(size, side, stride) for size in x.shape[1:3]), (0, 0)))


def _windows(padded: Array, side: int, stride: int) -> list[Array]:
    """For each entry of the kernel, in rows, the part of the padded input [.. H W C] that it is multiplied with."""
    height, width = (size - side + 1 for size in padded.shape[-3:-1])
    return [
        padded[..., row : row + height : stride, column : column + width : stride, :]
        for row in range(side)
        for column in range(side)
    ]


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return shifted(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    margins = [_margins(size, kernel.shape[0], stride) for size in x.shape[1:3]]
    # Padded no further than needed, for small maps are soon many times as large; both read this one array.
    gradient = jnp.pad(gradient, ((0, 0), *margins, (0, 0)))
    first = (margins[0][0], margins[1][0])
    of_x = _input_gradient(gradient, first, kernel, stride, x.shape)
    return of_x, _kernel_gradient(x, kernel, stride, gradient, first)


def _input_gradient(padded: Array, first: tuple[int, int], kernel: Array, stride: int, shape: tuple[int, ...]) -> Array:
    """The pull-back to the input: for each of the stride's phases, its own entries times the shifted gradient.

    The gradient comes padded, with its first value at `first`. Autodiff of the slices would scatter k * k times into
    the whole input.
    """
    rows_of, columns_of = (_phases(size, kernel.shape[0], stride) for size in shape[1:3])
    phases = []
    for rows in rows_of:
        for columns in columns_of:
            terms = [
                kernel[row, column]
                * padded[:, first[0] + top : first[0] + top + height, first[1] + left : first[1] + left + width]
                for row, top, height in rows
                for column, left, width in columns
            ]
            phases.append(sum(terms, start=jnp.zeros((), padded.dtype)))
    return _interleaved(phases, stride, shape)


def _phases(size: int, side: int, stride: int) -> list[list[tuple[int, int, int]]]:
    """For each phase of an input axis, the (kernel entry, first gradient position, count) that its pixels meet."""
    before, _ = _before_and_after(size, side, stride)
    count = -(-size // stride)
    return [
        [(entry, (phase + before - entry) // stride, count) for entry in range((phase + before) % stride, side, stride)]
        for phase in range(stride)
    ]


def _margins(size: int, side: int, stride: int) -> tuple[int, int]:
    """How far the positions that an axis's phases meet lie before the gradient's first and behind its last."""
    met = [(position, count) for phase in _phases(size, side, stride) for _, position, count in phase]
    before, after = min(position for position, _ in met), max(position + count for position, count in met)
    return max(0, -before), max(0, after - -(-size // stride))


def _interleaved(phases: list[Array], stride: int, shape: tuple[int, ...]) -> Array:
    """Pixels of the phases, in rows of `stride`, put back in their places in an array of `shape`."""
    if stride == 1:
        return phases[0]
    frames, height, width, channels = shape
    blocks = (frames, -(-height // stride), -(-width // stride), channels)
    stacked = jnp.stack([jnp.broadcast_to(phase, blocks) for phase in phases]).reshape(stride, stride, *blocks)
    pixels = stacked.transpose(2, 3, 0, 4, 1, 5).reshape(frames, blocks[1] * stride, blocks[2] * stride, channels)
    return pixels[:, :height, :width]


def _kernel_gradient(x: Array, kernel: Array, stride: int, padded_gradient: Array, first: tuple[int, int]) -> Array:
    """The pull-back to the kernel.

    On a CPU frame by frame: reductions over the whole batch would read it k * k times. An accelerator has them fused.
    """
    side, (height, width) = kernel.shape[0], (-(-size // stride) for size in x.shape[1:3])
    if jax.default_backend() != "cpu":
        slope = padded_gradient[:, first[0] : first[0] + height, first[1] : first[1] + width]
        windows = _windows(_padded(x, side, stride), side, stride)
        return jnp.stack([jnp.sum(window * slope, (0, 1, 2)) for window in windows]).reshape(kernel.shape)

    def add_frame(totals: tuple[Array, ...], frame: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        padded, slope = frame
        slope = slope[first[0] : first[0] + height, first[1] : first[1] + width]
        windows = _windows(padded, side, stride)
        return tuple(total + window * slope for total, window in zip(totals, windows, strict=True)), None

    start = tuple(jnp.zeros((height, width, x.shape[-1]), x.dtype) for _ in range(side**2))
    totals, _ = jax.lax.scan(add_frame, start, (_padded(x, side, stride), padded_gradient))
    return jnp.stack([total.sum((0, 1)) for total in totals]).reshape(kernel.shape)


shifted.defvjp(_forward, _backward)
