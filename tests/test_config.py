"""Presets, contradictions and the way of the settings through JSON."""

import copy
import dataclasses
import json
from dataclasses import replace
from typing import get_args

import pytest

from reid_jax import workdir
from reid_jax.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DatasetName,
    EvaluateConfig,
    LossConfig,
    PresetName,
    RecurrentConfig,
    TrainConfig,
)
from reid_jax.contradictions import problems
from reid_jax.presets import preset

PRESETS = [(name, dataset) for name in get_args(PresetName) for dataset in get_args(DatasetName)]


def groups(config):
    return [getattr(config, field.name) for field in dataclasses.fields(config)]


def test_names_are_unique_across_the_groups():
    """The command line spells each of them alone."""
    names = [field.name for field in dataclasses.fields(Config)]
    names += [
        field.name
        for group in groups(Config())
        if dataclasses.is_dataclass(group)
        for field in dataclasses.fields(group)
    ]
    repeated = {name for name in names if names.count(name) > 1}
    # The groups `data`, `backbone`, ... are not spelled; the backbone's own name is that of its group.
    assert repeated <= {"backbone"}


BROKEN = {
    "channels": {"recurrent": RecurrentConfig(channels=(8, 8))},
    "input_kernels": {"recurrent": RecurrentConfig(input_kernels=(3,))},
    "state_kernels": {"recurrent": RecurrentConfig(state_kernels=(3,))},
    "odd": {"recurrent": RecurrentConfig(input_kernels=(3, 4, 5))},
    "positive": {"recurrent": RecurrentConfig(state_kernels=(3, -1, 5))},
    "batch_pairs": {"train": TrainConfig(batch_pairs=7)},
    "frames": {"data": DataConfig(frames=0)},
    "crop": {"data": DataConfig(crop=0.0)},
    "steps": {"train": TrainConfig(steps=0)},
    "devices is 4: it must divide batch_pairs, 10": {"train": TrainConfig(devices=4)},
    "devices is -1": {"train": TrainConfig(devices=-1)},
    "stochastic_depth is 0.2: set it to 0, rcn has none": {"backbone": BackboneConfig(stochastic_depth=0.2)},
    "stochastic_depth is 1.0: a share": {
        "backbone": BackboneConfig(backbone="efficientnet_lite0", stochastic_depth=1.0)
    },
    "stochastic_depth needs batch_norm=trained": {
        "backbone": BackboneConfig(backbone="efficientnet_lite1", stochastic_depth=0.2, batch_norm="frozen")
    },
    "cache_features": {"backbone": BackboneConfig(cache_features=True, fine_tune="last")},
    "cache_features needs colour=0": {
        "data": DataConfig(colour=0.1),
        "backbone": BackboneConfig(cache_features=True, fine_tune="frozen"),
    },
    "colour is 1": {"data": DataConfig(colour=1.0)},
    "identity_margin is 0.2": {"loss": LossConfig(identity=1.0, identity_margin=0.2, classifier="linear")},
    "cache_features needs augment=clip": {
        "data": DataConfig(augment="frame"),
        "backbone": BackboneConfig(cache_features=True, fine_tune="frozen"),
    },
    "cache_features needs conditions=2 or 1, not 10": {
        "evaluate": EvaluateConfig(conditions=10),
        "backbone": BackboneConfig(cache_features=True, fine_tune="frozen"),
    },
    "probe_block is 0: at least one": {"evaluate": EvaluateConfig(probe_block=0)},
    "first_last_frames is 0": {"evaluate": EvaluateConfig(first_last_frames=0)},
    "not pairs=none": {"loss": LossConfig(pairs="none"), "evaluate": EvaluateConfig(distance="similarity")},
    "five crops, which are all the whole frame": {
        "data": DataConfig(crop=1.0),
        "evaluate": EvaluateConfig(conditions=10),
    },
    "pairs_per_person is 20: less than batch_pairs, 20": {
        "data": DataConfig(pairs_per_person=20, positives="all"),
        "train": TrainConfig(batch_pairs=20),
    },
    "seed is -1: from 0": {"seed": -1},
    "seed is 4294967296: from 0": {"seed": 2**32},
    "validation_persons is -1": {"data": DataConfig(validation_persons=-1)},
    "height is 0": {"data": DataConfig(height=0)},
    "learning_rate is nan: more than 0": {"train": TrainConfig(learning_rate=float("nan"))},
    "clip is 0": {"train": TrainConfig(clip=0.0)},
    "warmup_steps is -5": {"train": TrainConfig(warmup_steps=-5)},
    "checkpoint_every is 0": {"train": TrainConfig(checkpoint_every=0)},
    "smoothing is 3": {"loss": LossConfig(smoothing=3.0)},
    "hardness is 1.0: it weighs all pairs": {"loss": LossConfig(hardness=1.0, pairs="drawn")},
    "identity_margin is 0.1": {"loss": LossConfig(identity_margin=0.1)},
    "neck_serves is all": {"loss": LossConfig(neck_serves="all")},
    "frozen_stages is": {"backbone": BackboneConfig(frozen_stages=("stem",), fine_tune="last")},
}


@pytest.mark.parametrize("field", BROKEN)
def test_a_contradiction_is_an_error_that_names_the_field(field):
    with pytest.raises(ValueError, match=field):
        Config(**BROKEN[field])


@pytest.mark.parametrize(
    ("group", "name", "value", "words"),
    [
        ("evaluate", "distance", "cosin", "distance is 'cosin': one of euclidean, cosine, similarity, k_reciprocal"),
        ("train", "steps", 2.5, "steps is 2.5: a whole number"),
        ("train", "steps", True, "steps is True: a whole number"),
        ("data", "prid_persons", 100, "prid_persons is 100: one of 178, 200"),
    ],
)
def test_a_value_of_another_kind_is_named(group, name, value, words):
    """As a script or a file may give it; types are checked at once only in tests."""
    config = Config()
    changed = copy.copy(getattr(config, group))
    object.__setattr__(changed, name, value)
    object.__setattr__(config, group, changed)
    assert problems(config) == [words]


@pytest.mark.parametrize("crop", [1.5, -0.1])
def test_crop_is_a_share(crop):
    with pytest.raises(ValueError, match=str(crop)):
        Config(data=DataConfig(crop=crop))


def test_replace_checks_again():
    config = Config()
    assert problems(config) == []
    with pytest.raises(ValueError, match="batch_pairs is 3"):
        replace(config, train=replace(config.train, batch_pairs=3))


@pytest.mark.parametrize(("name", "dataset"), PRESETS)
def test_presets_are_of_their_data_set_and_survive_json(name, dataset):
    config = preset(name, dataset)
    assert problems(config) == []
    assert (config.preset, config.data.dataset) == (name, dataset)
    two_cameras = dataset in ("ilids_vid", "prid2011")
    assert config.evaluate.protocol == ("two_camera" if two_cameras else "mars_official")
    read = workdir.from_json(json.loads(json.dumps(workdir.to_json(config))))
    assert read == config and hash(read) == hash(config)


@pytest.mark.parametrize("dataset", get_args(DatasetName))
def test_paper_preset_holds_the_papers_values(dataset):
    config = preset("paper", dataset)
    assert (config.data.frames, config.data.translation) == (20, 0.05)
    assert config.recurrent.channels == (128, 256, 256)
    assert config.recurrent.input_kernels == (3, 5, 5)
    assert config.recurrent.state_kernels[1:] == (5, 5)
    assert (config.recurrent.initial, config.recurrent.features) == ("paper", "raw")
    assert (config.recurrent.dropout_between, config.recurrent.dropout_top) == (0.7, 0.7)
    assert (config.attention.location, config.attention.location_scale) == ("learned", "sum")
    assert (config.attention.sees, config.attention.represent) == ("state", "states")
    assert (config.attention.pooling, config.attention.embedding) == ("attention", "raw")
    assert (config.loss.penalty, config.loss.pairs) == (1.0, "drawn")
    assert (config.head, config.loss.identity, config.loss.triplet, config.data.erase) == ("attention", 0, 0, 0)
    assert config.backbone.backbone == "googlenet"
    assert (config.train.batch_pairs, config.train.clip) == (10, 5.0)
    epochs, persons = {"mars": (2000, 625), "ilids_vid": (1000, 150), "prid2011": (1000, 89)}.get(dataset, (500, 10))
    assert config.train.steps == epochs * persons * 2 / config.train.batch_pairs
    assert (config.backbone.pretrained, config.backbone.fine_tune) == (True, "whole")
    assert (config.evaluate.conditions, config.evaluate.conditions_below) == (10, 128)


def test_paper_5x5_differs_in_its_kernels_alone():
    paper, other = preset("paper", "mars"), preset("paper_5x5", "mars")
    assert other.recurrent.input_kernels == other.recurrent.state_kernels == (5, 5, 5)
    changed = {name for name, value in workdir.flatten(other).items() if workdir.flatten(paper)[name] != value}
    assert changed == {"preset", "input_kernels", "state_kernels"}


@pytest.mark.parametrize("dataset", get_args(DatasetName))
def test_strong_is_default_but_for_what_its_recipe_names(dataset):
    default, strong = (workdir.flatten(preset(name, dataset)) for name in ("default", "strong"))
    longer = {"preset", "erase", "sampling", "steps", "average", "checkpoint_every", "validate_every"}
    pedestrians = {"stochastic_depth", "neck", "classifier", "whitening"}
    changed = {name for name, value in strong.items() if default[name] != value}
    assert changed == longer | ({"distance"} if dataset == "walkers" else pedestrians)


def test_small_is_default_with_a_smaller_recurrence_and_a_frozen_backbone_where_it_is_large():
    for dataset in get_args(DatasetName):
        default, small = (preset(name, dataset) for name in ("default", "small"))
        assert len(small.recurrent.channels) < len(default.recurrent.channels)
        assert small.train.steps < default.train.steps
        assert small.backbone.cache_features == (dataset != "walkers")


@pytest.mark.parametrize("dataset", get_args(DatasetName))
def test_peers_have_their_own_losses_and_no_attention(dataset):
    rcn, pooling = preset("rcn", dataset), preset("pooling", dataset)
    assert (rcn.head, rcn.backbone.backbone, rcn.loss.pairs, rcn.loss.margin) == ("rcn", "rcn", "hinge", 2.0)
    assert rcn.data.positives == "half" and rcn.loss.identity == 2 * 1.0  # one for each clip of a pair
    assert (pooling.head, pooling.loss.pairs, pooling.loss.neck, pooling.loss.smoothing) == (
        "pooling",
        "none",
        True,
        0.1,
    )
    assert (pooling.train.optimizer, pooling.train.learning_rate, pooling.train.l2) == ("adam", 3.5e-4, 5e-4)
    depth = 0.0 if dataset == "walkers" else 0.2
    assert pooling.backbone == dataclasses.replace(preset("default", dataset).backbone, stochastic_depth=depth)
    assert rcn.loss.penalty == pooling.loss.penalty == 0.0


@pytest.mark.parametrize("values", [{"flavour": 1}, {"train": {"flavour": 1}}])
def test_unknown_setting_in_json_is_named(values):
    with pytest.raises(workdir.WorkDirError, match="somewhere.json: 'flavour' is not a setting of"):
        workdir.from_json(values, source="somewhere.json")


def test_setting_missing_from_json_keeps_its_default():
    config = workdir.from_json({"train": {"steps": 7}})
    assert config == Config(train=TrainConfig(steps=7))
