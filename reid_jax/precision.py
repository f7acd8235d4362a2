"""What matrix products and convolutions are computed in (`config.BackboneConfig.precision`)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import jax
from jaxtyping import Array

BFLOAT16 = "bfloat16"


def products_in(precision: str) -> AbstractContextManager[Any]:
    """Within it JAX traces products that round their factors as `precision` says.

    Only `float32` asks for anything: an accelerator otherwise rounds them to what its matrix units take (NVIDIA's to
    TF32), or to what `jax_default_matmul_precision` says. A CPU never does.
    """
    if precision != "float32" or jax.default_backend() == "cpu":
        return nullcontext()
    return jax.default_matmul_precision("highest")


def in_its_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a network and more, to be compiled, with its products as the network's settings say."""

    @wraps(function)
    def inner(network: Any, *arguments: Any, **named: Any) -> Any:
        with products_in(network.config.backbone.precision):
            return function(network, *arguments, **named)

    return inner


def factors(precision: str, *arrays: Array) -> tuple[Array, ...]:
    """A product's factors, rounded to bfloat16 where it is computed in that; what it gives is to be float32 again."""
    return tuple(array.astype(BFLOAT16) for array in arrays) if precision == BFLOAT16 else arrays
