"""A scan over frames whose convolutions have a backward pass of their own.

Written plainly, the backward pass of a recurrence adds to every kernel's gradient at every frame, and keeps at every
frame all that lies between the states. Here the forward pass keeps the states and what the convolutions gave. The
backward pass computes what lies between them again, frame by frame, multiplies with kernels that were transposed once,
and leaves the kernels' gradients for the end: one product over all frames. The function and its gradients are the same.

Axes: `T` frames, `Kh Kw` grid, `*N` nothing or clips, `D` inputs, `C` hidden channels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reid_jax.layers import Convolution, Kernels, Prepared, Products, prepare, products_of, turn

Step = Callable[[Sequence[Products], Any, tuple[Array, ...], Any], tuple[tuple[Array, ...], Any]]
"""(layers, shared, a state a layer, frame's inputs) -> (new states, frame's outputs)."""


def scan_prepared(
    step: Step, layers: Sequence[Prepared], shared: Any, start: tuple[Array, ...], inputs: Any
) -> tuple[tuple[Array, ...], Any]:
    """`jax.lax.scan` of `step` over the frames of `inputs`, with kernels that are prepared already."""
    products = [products_of(layer) for layer in layers]
    return jax.lax.scan(lambda states, frame: step(products, shared, states, frame), start, inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan(
    step: Step,
    convolutions: Sequence[Convolution],
    kernels: Sequence[Kernels],
    shared: Any,
    start: tuple[Array, ...],
    inputs: Any,
) -> tuple[tuple[Array, ...], Any]:
    """`jax.lax.scan` of `step` over the frames of `inputs`, `kernels` and `shared` being the same at every frame.

    Everything that has a gradient is an argument: `step` closes over constants only.
    """
    return scan_prepared(step, list(map(prepare, convolutions, kernels)), shared, start, inputs)


class _Sums(NamedTuple):
    """What the convolutions of one layer gave at a frame, or the gradients of that."""

    gates: Float[Array, "... 2*C"]
    candidate: Float[Array, "... C"]


class _Seen(NamedTuple):
    """What they were given, beside the state."""

    input: Float[Array, "... D"]
    reset: Float[Array, "... C"]


def _forward(
    step: Step,
    convolutions: Sequence[Convolution],
    kernels: Sequence[Kernels],
    shared: Any,
    start: tuple[Array, ...],
    inputs: Any,
) -> tuple[tuple[tuple[Array, ...], Any], Any]:
    products = [products_of(prepare(*layer)) for layer in zip(convolutions, kernels, strict=True)]

    def body(states: tuple[Array, ...], frame: Any) -> tuple[tuple[Array, ...], Any]:
        sums: list[dict[str, Array]] = [{} for _ in products]
        new_states, outputs = step(list(map(_noting, products, sums)), shared, states, frame)
        return new_states, (outputs, states, [_Sums(**found) for found in sums])

    states, (outputs, before, sums) = jax.lax.scan(body, start, inputs)
    return (states, outputs), (kernels, shared, inputs, before, sums)


def _noting(products: Products, found: dict[str, Array]) -> Products:
    """The same products, which leave what they give in `found`."""

    def gates(px: Array, h: Array) -> Array:
        found["gates"] = products.gates(px, h)
        return found["gates"]

    def candidate(px: Array, rh: Array) -> Array:
        found["candidate"] = products.candidate(px, rh)
        return found["candidate"]

    return Products(products.input, gates, candidate)


def _backward(step: Step, convolutions: Sequence[Convolution], kept: Any, gradients: Any) -> tuple[Any, ...]:
    kernels, shared, inputs, before, sums = kept
    # Made to follow from the forward pass, or XLA would prepare both passes' kernels at once and hold them together.
    nothing = 0 * before[-1].reshape(-1)[0]
    turned = list(map(turn, convolutions, jax.tree.map(lambda kernel: kernel + nothing, kernels)))

    def body(carry: tuple[Any, Any], frame_of_all: tuple[Any, ...]) -> tuple[tuple[Any, Any], Any]:
        (of_states, of_shared), (frame, states, frame_sums, of_outputs) = carry, frame_of_all

        def replay(frame_sums: Any, shared_part: Any, states: Any, frame_part: Any) -> tuple[Any, Any]:
            seen: list[dict[str, Array]] = [{} for _ in turned]
            layers = list(map(_replayed, turned, frame_sums, seen))
            result = step(layers, _merged(shared_part, shared), states, _merged(frame_part, frame))
            return result, [_Seen(**found) for found in seen]

        parts = frame_sums, _floating(shared), states, _floating(frame)
        _, back, seen = jax.vjp(replay, *parts, has_aux=True)
        of_sums, more_of_shared, of_states, of_frame = back((of_states, of_outputs))
        return (of_states, jax.tree.map(jnp.add, of_shared, more_of_shared)), (of_frame, of_sums, seen)

    carry = gradients[0], jax.tree.map(jnp.zeros_like, _floating(shared))
    frames = inputs, before, sums, gradients[1]
    (of_start, of_shared), (of_inputs, of_sums, seen) = jax.lax.scan(body, carry, frames, reverse=True)
    of_kernels = map(_kernel_gradients, convolutions, kernels, seen, before, of_sums)
    return tuple(of_kernels), of_shared, of_start, of_inputs


scan.defvjp(_forward, _backward)


def _replayed(turned: Prepared, sums: _Sums, seen: dict[str, Array]) -> Products:
    """Products that give again what they gave, note what they are given, and have the true gradients."""
    convolution, split, channels = turned.convolution, sums.gates.shape[-1], sums.candidate.shape[-1]

    def multiply(x: Array, weight: Any, outputs: int) -> Array:
        return _unvalued(convolution, outputs, convolution.analyse(x), weight)

    def of_input(x: Array) -> Sequence[Array]:
        seen["input"] = x
        return jnp.split(multiply(x, turned.input, split + channels), [split], -1)

    def gates(px: Array, h: Array) -> Array:
        return _known(convolution.synthesise(px + multiply(h, turned.gates, split)), sums.gates)

    def candidate(px: Array, rh: Array) -> Array:
        seen["reset"] = rh
        product = multiply(rh, turned.candidate, channels)
        return _known(convolution.synthesise(px + product), sums.candidate)

    return Products(of_input, gates, candidate)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _unvalued(convolution: Convolution, outputs: int, x: Array, turned: Any) -> Array:
    """Stands for a product whose value nobody reads; its gradient is the product's."""
    return jnp.zeros((*x.shape[:-1], outputs), x.dtype)


_unvalued.defvjp(
    lambda convolution, outputs, x, turned: (_unvalued(convolution, outputs, x, turned), turned),
    lambda convolution, outputs, turned, gradient: (convolution.multiply(gradient, turned), None),
)


@jax.custom_vjp
def _known(computed: Array, value: Array) -> Array:
    """`value`, which is what `computed` would be; both are given the gradient."""
    return value


_known.defvjp(lambda computed, value: (value, None), lambda _, gradient: (gradient, gradient))


def _kernel_gradients(
    convolution: Convolution, kernels: Kernels, seen: _Seen, states: Float[Array, "T Kh Kw *N C"], of_sums: _Sums
) -> Kernels:
    """One layer's, from what all frames' convolutions were given and the gradients of what they gave."""
    x, reset, h, gates, candidate = (jnp.moveaxis(array, 0, 2) for array in (*seen, states, *of_sums))
    both = jnp.concatenate([gates, candidate], -1)
    side = kernels.state.shape[0]
    of_state = convolution.kernel_gradient(h, gates, side), convolution.kernel_gradient(reset, candidate, side)
    return Kernels(convolution.kernel_gradient(x, both, kernels.input.shape[0]), jnp.concatenate(of_state, -1))


def _is_floating(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _floating(tree: Any) -> Any:
    """The leaves that have gradients; the others are left out."""
    return jax.tree.map(lambda leaf: leaf if _is_floating(leaf) else None, tree)


def _merged(floating: Any, tree: Any) -> Any:
    """`tree` with the leaves of `_floating`."""
    leaves = iter(jax.tree.leaves(floating))
    return jax.tree.map(lambda leaf: next(leaves) if _is_floating(leaf) else leaf, tree)
