"""Less memory for a backbone's backward pass: it keeps what each stage is given, and computes again what lies within.

Stages are the modules that the backbone itself is made of, whatever it is.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jaxtyping import Array


def by_stages(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which calls a backbone; its gradients are the same too."""
    within: list[nn.Module] = []

    def stage(call: Callable[..., Any], arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        if within or context.method_name != "__call__" or len(context.module.path) != 1:
            return call(*arguments, **options)

        def again(module: nn.Module, x: Array) -> Array:
            within.append(module)
            try:
                return module(x, *arguments[1:], **options)
            finally:
                within.pop()

        return nn.remat(again)(context.module, arguments[0])

    def staged(*arguments: Any) -> Any:
        with nn.intercept_methods(stage):
            return function(*arguments)

    return staged
