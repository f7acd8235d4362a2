"""A scan whose weights' gradients are formed after it, in one product over all frames.

Written plainly, the backward pass of a recurrence adds to every weight's gradient at every frame, and the weights are
what is large. Here the scan's backward pass gives the gradients of the products alone; each weight's gradient is then
one product of all frames' inputs with all frames' gradients. The function and its gradients are the same.

Axes: `T` frames, `M` frequencies, `N` clips, `I` inputs, `F` outputs of a product.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reid_jax.frequency import multiply

Multiply = Callable[[Float[Array, "M *N I"]], Float[Array, "M *N F"]]
Step = Callable[[Sequence[Multiply], Any, Any, Any], tuple[Any, Any]]
"""(a product for each weight, shared, state, frame's inputs) -> (state, frame's outputs); each product is used once."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan(
    step: Step, weights: Sequence[Float[Array, "_M _I _F"]], shared: Any, start: Any, inputs: Any
) -> tuple[Any, Any]:
    """`jax.lax.scan` of `step` over the frames of `inputs`, `weights` and `shared` being the same at every frame.

    Everything that has a gradient is an argument: `step` closes over constants only.
    """
    products = [partial(multiply, kernel=weight) for weight in weights]
    return jax.lax.scan(lambda state, frame: step(products, shared, state, frame), start, inputs)


def _forward(step: Step, weights: Sequence[Array], shared: Any, start: Any, inputs: Any) -> tuple[Any, Any]:
    def tapped(taps: Sequence[Array], shared: Any, start: Any, inputs: Any) -> tuple[Any, Any]:
        def body(state: Any, frame: tuple[Any, Sequence[Array]]) -> tuple[Any, Any]:
            seen: list[Array] = [jnp.zeros(())] * len(weights)

            def tap(number: int, spectrum: Array) -> Array:
                seen[number] = spectrum
                return multiply(spectrum, weights[number]) + frame[1][number]

            state, outputs = step([partial(tap, number) for number in range(len(weights))], shared, state, frame[0])
            return state, (outputs, seen)

        state, (outputs, spectra) = jax.lax.scan(body, start, (inputs, taps))
        return (state, outputs), spectra

    frames = jax.tree.leaves(inputs)[0].shape[0]
    shapes = _product_shapes(step, weights, shared, start, inputs)
    taps = [jnp.zeros((frames, *shape), kind) for shape, kind in shapes]
    result, back, spectra = jax.vjp(tapped, taps, shared, start, inputs, has_aux=True)
    return result, (back, spectra)


def _product_shapes(step: Step, weights: Sequence[Array], shared: Any, start: Any, inputs: Any) -> list[tuple]:
    """Shape and type of what every product gives at one frame."""
    found: list[tuple] = [()] * len(weights)

    def note(number: int, spectrum: Array) -> Array:
        product = multiply(spectrum, weights[number])
        found[number] = (product.shape, product.dtype)
        return product

    first = jax.tree.map(lambda array: array[0], inputs)
    jax.eval_shape(lambda: step([partial(note, number) for number in range(len(weights))], shared, start, first))
    return found


def _backward(step: Step, kept: tuple[Any, Sequence[Array]], gradients: Any) -> tuple[Any, Any, Any, Any]:
    back, spectra = kept
    of_products, *of_others = back(gradients)
    pairs = zip(spectra, of_products, strict=True)
    return [_weight_gradient(seen, gradient) for seen, gradient in pairs], *of_others


def _weight_gradient(seen: Float[Array, "T M *N I"], gradient: Float[Array, "T M *N F"]) -> Float[Array, "M I F"]:
    rows = [array.reshape(*array.shape[:2], -1, array.shape[-1]) for array in (seen, gradient)]
    return jnp.einsum("tmni,tmnf->mif", *rows)


scan.defvjp(_forward, _backward)
