"""Presets by name, for each data set: the paper's settings, ours, and ours at CPU size."""

from dataclasses import replace

from reid_jax.config import (
    AttentionConfig,
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


def preset(name: PresetName, dataset: DatasetName) -> Config:
    """The settings of a preset for a data set: the paper's, ours, or ours at CPU size."""
    base = {"paper": _paper, "paper_5x5": _paper_5x5, "default": _default, "small": _small}[name](dataset)
    protocol = "mars_official" if dataset in ("walkers", "mars") else "two_camera"
    return replace(
        base,
        preset=name,
        data=replace(base.data, dataset=dataset),
        evaluate=replace(base.evaluate, protocol=protocol),
    )


def _paper(dataset: DatasetName) -> Config:
    """Sections IV and V.B as written; the kernels of Table II's best variant."""
    return Config(
        data=DataConfig(height=224, width=224, validation_persons=0),
        backbone=BackboneConfig(backbone="efficientnet_lite0", pretrained=True),
        recurrent=RecurrentConfig(features="raw", initial="paper", dropout_between=0.7, dropout_top=0.7),
        attention=AttentionConfig(location_scale="sum", embedding="raw"),
        loss=LossConfig(penalty=1.0, pairs="drawn"),
        train=TrainConfig(decay="none", warmup_steps=0),
        evaluate=EvaluateConfig(conditions=10),
    )


def _paper_5x5(dataset: DatasetName) -> Config:
    """The same with section V.B's 5x5 kernels throughout."""
    base = _paper(dataset)
    return replace(base, recurrent=replace(base.recurrent, input_kernels=(5, 5, 5), state_kernels=(5, 5, 5)))


def _default(dataset: DatasetName) -> Config:
    """Walkers: a small network trained whole. Real pedestrians: ImageNet features, computed once, and a recurrence."""
    evaluation = EvaluateConfig(conditions=2)
    if dataset == "walkers":
        return Config(
            data=DataConfig(frames=4, positives="all"),
            backbone=BackboneConfig(backbone="small_cnn"),
            recurrent=RecurrentConfig(channels=(64, 128), input_kernels=(3, 3), state_kernels=(3, 3)),
            train=TrainConfig(batch_pairs=24, steps=500, checkpoint_every=125, validate_every=125),
            evaluate=evaluation,
        )
    features = BackboneConfig(
        backbone="efficientnet_lite0", endpoint="stride16", pretrained=True, fine_tune="frozen", cache_features=True
    )
    return Config(
        data=DataConfig(height=192, width=96, frames=4, positives="all"),
        backbone=features,
        recurrent=RecurrentConfig(channels=(128, 128), input_kernels=(3, 3), state_kernels=(3, 3)),
        train=TrainConfig(batch_pairs=16, steps=1000, checkpoint_every=200, validate_every=200),
        evaluate=evaluation,
    )


def _small(dataset: DatasetName) -> Config:
    """The same with one recurrent layer and fewer steps."""
    base = _default(dataset)
    return replace(
        base,
        recurrent=replace(base.recurrent, channels=(128,), input_kernels=(3,), state_kernels=(3,)),
        train=replace(base.train, steps=300 if dataset == "walkers" else 500, checkpoint_every=100, validate_every=100),
    )
