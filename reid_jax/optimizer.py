"""Learning rate, RMSProp (section V.B) or Adam, and which parameters are trained at which rate."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from reid_jax import backbones
from reid_jax.config import Config
from reid_jax.model import Parameters
from reid_jax.settings import Number

STEPS = (1 / 3, 7 / 12)
"""Shares of all steps after which `steps` lowers the learning rate."""


def learning_rate(config: Config) -> optax.Schedule:
    """Linear warm-up, then constant, a cosine down to zero at the last step, or the steps of Luo et al. (2019).

    Those are tenfold, at epochs 40 and 70 of 120.
    """
    settings = config.train
    if settings.decay == "steps":
        lowered = optax.piecewise_constant_schedule(1.0, {round(share * settings.steps): 0.1 for share in STEPS})
        constant = learning_rate(replace(config, train=replace(settings, decay="none")))
        return lambda step: constant(step) * lowered(step)
    warmup = optax.linear_schedule(0.0, settings.learning_rate, settings.warmup_steps)
    rest = max(settings.steps - settings.warmup_steps, 1)
    after = {
        "none": optax.constant_schedule(settings.learning_rate),
        "cosine": optax.cosine_decay_schedule(settings.learning_rate, rest),
    }[settings.decay]
    return optax.join_schedules([warmup, after], [settings.warmup_steps])


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Element-wise clipping, `l2`, then RMSProp (section V.B) or Adam, then the decoupled `weight_decay`.

    The backbone has a rate of its own, frozen parts none.
    """
    scaling = {
        "rmsprop": partial(optax.scale_by_rms, decay=0.9, eps=1e-8, bias_correction=True),
        "adam": optax.scale_by_adam,
    }[config.train.optimizer]

    def at_rate(factor: Number) -> optax.GradientTransformation:
        schedule = learning_rate(config)
        return optax.chain(
            optax.stateless(partial(jax.tree.map, partial(_clipped, config.train.clip, config.train.l2))),
            scaling(),
            optax.add_decayed_weights(config.train.weight_decay),
            optax.scale_by_learning_rate(lambda step: factor * schedule(step)),
        )

    parts = {"head": at_rate(1.0), "backbone": at_rate(config.backbone.backbone_rate), "frozen": optax.set_to_zero()}
    return optax.multi_transform(parts, partial(parameter_parts, config=config))


def _clipped(limit: Number, l2: Number, gradient: Array, parameter: Array) -> Array:
    """A leaf's gradient, clipped element by element, and with it that of l2 / 2 times the square of the parameters."""
    return jnp.clip(gradient, -limit, limit) + l2 * parameter


def parameter_parts(parameters: Parameters, config: Config) -> Parameters:
    """For each leaf of {"backbone", "head"}, which part it belongs to: `head`, `backbone` or `frozen`."""
    names, kept = tuple(parameters["backbone"]), config.backbone.frozen_stages
    if unknown := set(kept) - set(names):
        there = ", ".join(sorted(names))
        raise ValueError(f"frozen_stages has {sorted(unknown)}; {config.backbone.backbone} has {there}")
    stages = {
        "frozen": (),
        "last": backbones.last_stages(config.backbone),
        "whole": tuple(name for name in names if name not in kept),
    }[config.backbone.fine_tune]
    return {
        "head": jax.tree.map(lambda _: "head", parameters["head"]),
        "backbone": {
            stage: jax.tree.map(lambda _, part="backbone" if stage in stages else "frozen": part, leaves)
            for stage, leaves in parameters["backbone"].items()
        },
    }
