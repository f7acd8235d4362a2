"""What contradicts itself in a configuration, in words: the field, its value and the remedy."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable
from functools import cache
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from reid_jax.config import Config

_AT_LEAST_ONE = (
    "frames", "height", "width", "pairs_per_person", "state_hidden", "steps", "log_every", "checkpoint_every",
    "validate_every", "embed_batch", "probe_block", "first_last_frames",
)  # fmt: skip
_NOT_NEGATIVE = (
    "validation_persons", "workers", "devices", "backbone_rate", "location_hidden", "penalty", "hardness",
    "identity", "identity_margin", "triplet", "margin", "warmup_steps", "weight_decay", "l2", "embed_frames",
    "clip_frames", "conditions_below",
)  # fmt: skip
_BELOW_ONE = (
    "translation", "colour", "stochastic_depth", "dropout_between", "dropout_top", "smoothing", "average",
)  # fmt: skip
_RANGES: dict[str, tuple[tuple[str, ...], Callable[[Any], bool]]] = {
    "at least one": (_AT_LEAST_ONE, lambda value: value >= 1),
    "0 or more": (_NOT_NEGATIVE, lambda value: 0 <= value < math.inf),
    "from 0 to 4294967295, as JAX's keys": (("seed",), lambda value: 0 <= value < 2**32),
    "more than 0": (("learning_rate", "clip"), lambda value: 0 < value < math.inf),
    "a share in [0, 1)": (_BELOW_ONE, lambda value: 0 <= value < 1),
    "a share in [0, 1]": (("erase", "whitening"), lambda value: 0 <= value <= 1),
    "a share of the frame in (0, 1]": (("crop",), lambda value: 0 < value <= 1),
}


def problems(config: Config) -> list[str]:
    """What contradicts itself in a configuration: the field, its value and the remedy."""
    groups = (value for value in vars(config).values() if dataclasses.is_dataclass(value))
    settings = vars(config) | {name: value for group in groups for name, value in vars(group).items()}
    if strange := _strange(config, settings):
        return strange
    outside = [
        f"{name} is {settings[name]}: {words}"
        for words, (names, holds) in _RANGES.items()
        for name in names
        if not holds(settings[name])
    ]
    # What follows may divide by a setting.
    rules = {} if outside else _network(config) | _batches(config) | _cached(config) | _losses(config) | _scored(config)
    return outside + [text for text, broken in rules.items() if broken]


def _strange(config: Config, settings: dict[str, Any]) -> list[str]:
    """Values that are not of their settings' kind: a command line refuses them, a file or a script may hold them."""
    types = setting_types(type(config))
    choices = {name: typing.get_args(kind) for name, kind in types.items() if typing.get_origin(kind) is Literal}
    whole = [name for name, kind in types.items() if kind is int]
    return [
        f"{name} is {settings[name]!r}: one of {', '.join(map(str, of))}"
        for name, of in choices.items()
        if settings[name] not in of
    ] + [
        f"{name} is {settings[name]!r}: a whole number"
        for name in whole
        if not isinstance(settings[name], Integral) or isinstance(settings[name], bool)
    ]


@cache
def setting_types(kind: type) -> dict[str, Any]:
    """The type of every setting of a class by its name, those of its groups too."""
    found = {}
    for name, of in typing.get_type_hints(kind).items():
        found |= setting_types(of) if dataclasses.is_dataclass(of) else {name: of}
    return found


def _network(config: Config) -> dict[str, bool]:
    backbone, recurrent = config.backbone, config.recurrent
    layers = {len(recurrent.channels), len(recurrent.input_kernels), len(recurrent.state_kernels)}
    even = [kernel for kernel in recurrent.input_kernels + recurrent.state_kernels if kernel < 1 or kernel % 2 == 0]
    return {
        "channels, input_kernels and state_kernels differ in length: give one of each a layer": len(layers) > 1,
        f"kernel sides must be odd and positive, not {even}": bool(even),
        f"channels is {recurrent.channels}: at least one layer, of at least one channel": (
            not recurrent.channels or min(recurrent.channels) < 1
        ),
        f"frozen_stages is {backbone.frozen_stages}: leave it out or set fine_tune={backbone.fine_tune} to whole": (
            bool(backbone.frozen_stages) and backbone.fine_tune != "whole"
        ),
        f"stochastic_depth is {backbone.stochastic_depth}: set it to 0, {backbone.backbone} has none": (
            backbone.stochastic_depth > 0 and not backbone.backbone.startswith("efficientnet_lite")
        ),
        "stochastic_depth needs batch_norm=trained and a fine_tune other than frozen: set it to 0": (
            backbone.stochastic_depth > 0 and (backbone.batch_norm == "frozen" or backbone.fine_tune == "frozen")
        ),
    }


def _batches(config: Config) -> dict[str, bool]:
    data, train = config.data, config.train
    return {
        f"batch_pairs is {train.batch_pairs}: half of them are positive: give an even number": bool(
            train.batch_pairs % 2
        ),
        f"batch_pairs is {train.batch_pairs}: at least two": train.batch_pairs < 2,
        f"validate_every is {train.validate_every}: a multiple of checkpoint_every, {train.checkpoint_every}": bool(
            train.validate_every % train.checkpoint_every
        ),
        f"devices is {train.devices}: it must divide batch_pairs, {train.batch_pairs}; set it to 0 or change one": (
            train.devices > 0 and train.batch_pairs % train.devices > 0
        ),
        f"pairs_per_person is {data.pairs_per_person}: it must divide batch_pairs, {train.batch_pairs}": bool(
            train.batch_pairs % data.pairs_per_person
        ),
        f"pairs_per_person is {data.pairs_per_person}: less than batch_pairs, {train.batch_pairs}, or all pairs of a "
        "mini-batch show one person": data.pairs_per_person >= train.batch_pairs,
        f"pairs_per_person is {data.pairs_per_person} and positives half: use positives=all": (
            data.pairs_per_person > 1 and data.positives == "half"
        ),
        f"positives=all leaves pairs={config.loss.pairs} without a negative pair: use pairs=cross, or positives=half "
        "and pairs_per_person=1": data.positives == "all" and config.loss.pairs in ("drawn", "hinge"),
    }


def _cached(config: Config) -> dict[str, bool]:
    data, conditions, trained = config.data, config.evaluate.conditions, config.backbone.fine_tune
    rules = {
        f"cache_features needs erase=0, not {data.erase}: cached features are of whole frames": data.erase > 0,
        f"cache_features needs colour=0, not {data.colour}: cached features are of frames as they are": data.colour > 0,
        f"cache_features needs augment=clip, not {data.augment}: cached clips are plain or mirrored": (
            data.augment == "frame"
        ),
        f"cache_features needs conditions=2 or 1, not {conditions}: no crops are cached": conditions > 2,
        f"cache_features needs fine_tune=frozen, not {trained}": trained != "frozen",
    }
    return rules if config.backbone.cache_features else {}


def _losses(config: Config) -> dict[str, bool]:
    loss = config.loss
    return {
        "neck is the identity loss's: set identity above 0": loss.neck and not loss.identity,
        f"neck_serves is {loss.neck_serves}: there is no neck, set neck": loss.neck_serves == "all" and not loss.neck,
        f"identity_margin is {loss.identity_margin}: set it to 0, or identity above 0 and classifier to cosine": (
            loss.identity_margin > 0 and (loss.classifier != "cosine" or not loss.identity)
        ),
        f"hardness is {loss.hardness}: it weighs all pairs of a mini-batch: set it to 0 or pairs to cross": (
            loss.hardness > 0 and loss.pairs != "cross"
        ),
    }


def _scored(config: Config) -> dict[str, bool]:
    settings = config.evaluate
    learned = settings.distance == "similarity"
    return {
        "distance=similarity weighs embeddings as they were trained, and whitening changes them: set whitening to 0": (
            learned and settings.whitening > 0
        ),
        f"distance=similarity is what pairs=drawn and cross train, not pairs={config.loss.pairs}: use another": (
            learned and config.loss.pairs not in ("drawn", "cross")
        ),
        "conditions=10 averages over five crops, which are all the whole frame where crop is 1: lower one of them": (
            settings.conditions == 10 and config.data.crop == 1
        ),
        "persons=held_out needs validation_persons above 0: nobody is held out": (
            settings.persons == "held_out" and not config.data.validation_persons
        ),
    }
