"""Batch norm followed by a clipping ReLU, with a gradient that reads and writes the maps as seldom as possible."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

RELU = (0.0, float("inf"))
RELU6 = (0.0, 6.0)
LINEAR = (-float("inf"), float("inf"))


class BatchNorm(nn.Module):
    """`flax.linen.BatchNorm` over the last axis, with the same variables, and what comes out clipped to `limits`."""

    limits: tuple[float, float]
    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "*N C"], train: bool) -> Float[Array, "*N C"]:
        """`train` uses the batch's statistics and moves the running ones."""
        channels = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        given = jax.tree.map(jax.lax.stop_gradient, (mean.value, variance.value))
        if train:
            features, of_batch = normalised_by_batch(x, scale, bias, self.epsilon, self.limits)
            if not self.is_initializing():
                for running, new in zip((mean, variance), of_batch, strict=True):
                    running.value = self.momentum * running.value + (1 - self.momentum) * new
            return features
        return normalised(x, scale, bias, *given, self.epsilon, self.limits)


def _clipped(x: Array, parameters: tuple[Array, ...], epsilon: float, limits: tuple[float, float]) -> Array:
    scale, bias, mean, variance = parameters
    features = (x - mean) * (jax.lax.rsqrt(variance + epsilon) * scale) + bias
    features = features if limits == LINEAR else jnp.clip(features, *limits)
    return features.astype(jnp.result_type(x, scale, bias))


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def normalised(
    x: Float[Array, "*N C"],
    scale: Float[Array, "C"],
    bias: Float[Array, "C"],
    mean: Float[Array, "C"],
    variance: Float[Array, "C"],
    epsilon: float,
    limits: tuple[float, float],
) -> Float[Array, "*N C"]:
    """`x` less `mean`, over its deviation, times `scale`, plus `bias`, clipped; the statistics take no gradient."""
    return _clipped(x, (scale, bias, mean, variance), epsilon, limits)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalised_by_batch(
    x: Float[Array, "*N C"],
    scale: Float[Array, "C"],
    bias: Float[Array, "C"],
    epsilon: float,
    limits: tuple[float, float],
) -> tuple[Float[Array, "*N C"], tuple[Float[Array, "C"], Float[Array, "C"]]]:
    """`normalised` by the mean and the variance of `x` itself, and these two, through which no gradient flows."""
    return _batch_forward(x, scale, bias, epsilon, limits)[0]


def _forward(x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float, limits: tuple):
    parameters = (scale, bias, mean, variance)
    return _clipped(x, parameters, epsilon, limits), (x, parameters)


def _batch_forward(x: Array, scale: Array, bias: Array, epsilon: float, limits: tuple):
    values, axes = x.astype(jnp.promote_types(x.dtype, jnp.float32)), tuple(range(x.ndim - 1))
    mean = values.mean(axes)
    variance = jnp.maximum(0.0, jnp.square(values).mean(axes) - jnp.square(mean))
    parameters = (scale, bias, mean, variance)
    return (_clipped(x, parameters, epsilon, limits), (mean, variance)), (x, parameters)


def _pull_back(epsilon: float, limits: tuple, saved: tuple, gradient: Array) -> tuple[Array, ...]:
    """The gradient beneath the clipping, those of `scale` and `bias`, and what a value changes by with `x`."""
    x, (scale, bias, mean, variance) = saved
    deviation, axes = jnp.sqrt(variance + epsilon), tuple(range(x.ndim - 1))
    slope = scale / deviation
    if limits != LINEAR:
        # Not as in the forward pass, for what is the same in both XLA keeps in between, in one more map of full size.
        features = x * slope + (bias - mean * slope)
        gradient = jnp.where((features > limits[0]) & (features < limits[1]), gradient, 0)
    gradient = gradient.astype(mean.dtype)
    of_bias = gradient.sum(axes)
    of_scale = ((gradient * x).sum(axes) - mean * of_bias) / deviation
    return gradient, of_scale, of_bias, slope


def _backward(epsilon: float, limits: tuple, saved: tuple, gradient: Array) -> tuple[Array | None, ...]:
    x, (scale, bias, _, _) = saved
    gradient, of_scale, of_bias, slope = _pull_back(epsilon, limits, saved, gradient)
    of_x = (gradient * slope).astype(x.dtype)
    return of_x, of_scale.astype(scale.dtype), of_bias.astype(bias.dtype), None, None


def _batch_backward(epsilon: float, limits: tuple, saved: tuple, gradients: tuple) -> tuple[Array, ...]:
    x, (scale, bias, mean, variance) = saved
    gradient, of_scale, of_bias, slope = _pull_back(epsilon, limits, saved, gradients[0])
    count = x.size // x.shape[-1]
    with_x = slope * of_scale / (count * jnp.sqrt(variance + epsilon))
    of_x = gradient * slope - x * with_x + (mean * with_x - slope * of_bias / count)
    return of_x.astype(x.dtype), of_scale.astype(scale.dtype), of_bias.astype(bias.dtype)


normalised.defvjp(_forward, _backward)
normalised_by_batch.defvjp(_batch_forward, _batch_backward)
