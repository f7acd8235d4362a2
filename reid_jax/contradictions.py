"""What contradicts itself in a configuration, in words: the field, its value and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid_jax.config import Config


def problems(config: Config) -> list[str]:
    """What contradicts itself in a configuration: the field, its value and the remedy."""
    data, backbone, recurrent, train = config.data, config.backbone, config.recurrent, config.train
    layers = {len(recurrent.channels), len(recurrent.input_kernels), len(recurrent.state_kernels)}
    rates = (recurrent.dropout_between, recurrent.dropout_top)
    even = [kernel for kernel in recurrent.input_kernels + recurrent.state_kernels if kernel < 1 or kernel % 2 == 0]
    rules = {
        "channels, input_kernels and state_kernels differ in length: give one of each a layer": len(layers) > 1,
        f"kernel sides must be odd and positive, not {even}": bool(even),
        f"batch_pairs is {train.batch_pairs}: half of them are positive: give an even number": train.batch_pairs % 2,
        f"frames is {data.frames}: a clip has at least one": data.frames < 1,
        f"crop is {data.crop}: a share of the frame in (0, 1]": not 0 < data.crop <= 1,
        f"steps is {train.steps}: at least one": train.steps < 1,
        f"batch_pairs is {train.batch_pairs}: at least two": train.batch_pairs < 2,
        f"log_every and checkpoint_every are {train.log_every} and {train.checkpoint_every}: at least one": (
            min(train.log_every, train.checkpoint_every) < 1
        ),
        f"validate_every is {train.validate_every}: a multiple of checkpoint_every, {train.checkpoint_every}": (
            train.checkpoint_every > 0 and (train.validate_every < 1 or train.validate_every % train.checkpoint_every)
        ),
        f"devices is {train.devices}: 0 or more": train.devices < 0,
        f"devices is {train.devices}: it must divide batch_pairs, {train.batch_pairs}; set it to 0 or change one": (
            train.devices > 0 and train.batch_pairs % train.devices
        ),
        f"channels is {recurrent.channels}: at least one layer": not recurrent.channels,
        f"dropout_between and dropout_top are {rates}: rates in [0, 1)": not all(0 <= rate < 1 for rate in rates),
        f"erase is {data.erase}: a share of the clips in [0, 1]": not 0 <= data.erase <= 1,
        f"pairs_per_person is {data.pairs_per_person}: it must divide batch_pairs, {train.batch_pairs}": (
            data.pairs_per_person < 1 or train.batch_pairs % data.pairs_per_person
        ),
        f"pairs_per_person is {data.pairs_per_person} and positives half: use positives=all": (
            data.pairs_per_person > 1 and data.positives == "half"
        ),
        f"translation is {data.translation}: a share of the frame in [0, 1)": not 0 <= data.translation < 1,
        f"embed_frames is {config.evaluate.embed_frames}: 0 or more": config.evaluate.embed_frames < 0,
        f"clip_frames is {config.evaluate.clip_frames}: 0 or more": config.evaluate.clip_frames < 0,
        f"whitening is {config.evaluate.whitening}: a share in [0, 1]": not 0 <= config.evaluate.whitening <= 1,
        "distance=similarity weighs embeddings as they were trained, and whitening changes them: set whitening to 0": (
            config.evaluate.whitening > 0 and config.evaluate.distance == "similarity"
        ),
        f"average is {train.average}: a share in [0, 1)": not 0 <= train.average < 1,
        f"positives=all leaves pairs={config.loss.pairs} without a negative pair: use pairs=cross": (
            data.positives == "all" and config.loss.pairs in ("drawn", "hinge")
        ),
        "persons=held_out needs validation_persons above 0: nobody is held out": (
            config.evaluate.persons == "held_out" and not data.validation_persons
        ),
        "neck is the identity loss's: set identity above 0": config.loss.neck and not config.loss.identity,
        f"cache_features needs erase=0, not {data.erase}: cached features are of whole frames": (
            backbone.cache_features and data.erase > 0
        ),
        f"cache_features needs colour=0, not {data.colour}: cached features are of frames as they are": (
            backbone.cache_features and data.colour > 0
        ),
        f"colour is {data.colour}: a share in [0, 1)": not 0 <= data.colour < 1,
        f"identity_margin is {config.loss.identity_margin}: set it to 0 or classifier to cosine": (
            config.loss.identity_margin > 0 and config.loss.classifier != "cosine"
        ),
        f"cache_features needs augment=clip, not {data.augment}: cached clips are plain or mirrored": (
            backbone.cache_features and data.augment == "frame"
        ),
        f"cache_features needs fine_tune=frozen, not {backbone.fine_tune}": (
            backbone.cache_features and backbone.fine_tune != "frozen"
        ),
        f"stochastic_depth is {backbone.stochastic_depth}: a share in [0, 1)": not 0 <= backbone.stochastic_depth < 1,
        f"stochastic_depth is {backbone.stochastic_depth}: set it to 0, {backbone.backbone} has none": (
            backbone.stochastic_depth > 0 and not backbone.backbone.startswith("efficientnet_lite")
        ),
        "stochastic_depth needs batch_norm=trained and a fine_tune other than frozen: set it to 0": (
            backbone.stochastic_depth > 0 and (backbone.batch_norm == "frozen" or backbone.fine_tune == "frozen")
        ),
    }
    return [text for text, broken in rules.items() if broken]
