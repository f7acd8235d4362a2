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

STOCHASTIC_DEPTH = 0.2
"""Of EfficientNet's published training; the small network for walkers has none."""


_PAPER_STEPS = {"ilids_vid": 30_000, "prid2011": 17_800, "mars": 250_000}
"""Section V.B's 1,000 epochs, 2,000 for MARS, of ten pairs a step: an epoch, which the paper does not define, shows
each train person (150, 89, 625) in one similar and one dissimilar pair, as in McLaughlin et al. (2016)."""


def preset(name: PresetName, dataset: DatasetName) -> Config:
    """The settings of a preset for a data set: the paper's, ours, or ours at CPU size."""
    base = {
        "paper": _paper,
        "paper_5x5": _paper_5x5,
        "default": _default,
        "small": _small,
        "strong": _strong,
        "rcn": _rcn,
        "pooling": _pooling,
    }[name](dataset)
    protocol = "mars_official" if dataset in ("walkers", "mars", "folders") else "two_camera"
    return replace(
        base,
        preset=name,
        data=replace(base.data, dataset=dataset),
        evaluate=replace(base.evaluate, protocol=protocol),
    )


def _paper(dataset: DatasetName) -> Config:
    """Sections IV and V.B as written, where docs/paper.md names no other reading; Table II's best kernels."""
    longest = TrainConfig()
    if dataset in _PAPER_STEPS:
        longest = TrainConfig(steps=_PAPER_STEPS[dataset], checkpoint_every=1000, validate_every=1000)
    return Config(
        data=DataConfig(height=224, width=224, validation_persons=0),
        backbone=BackboneConfig(backbone="googlenet", pretrained=True),
        recurrent=RecurrentConfig(features="raw", initial="paper", dropout_between=0.7, dropout_top=0.7),
        attention=AttentionConfig(location_scale="sum", embedding="raw"),
        loss=LossConfig(penalty=1.0, pairs="drawn"),
        train=replace(longest, decay="none", warmup_steps=0),
        evaluate=EvaluateConfig(conditions=10),
    )


def _paper_5x5(dataset: DatasetName) -> Config:
    """The same with section V.B's 5x5 kernels throughout."""
    base = _paper(dataset)
    return replace(base, recurrent=replace(base.recurrent, input_kernels=(5, 5, 5), state_kernels=(5, 5, 5)))


def _common(dataset: DatasetName) -> Config:
    """Data, backbone and training that every preset but the paper's begins with.

    Walkers: a small network trained whole. Real pedestrians: a pretrained one fine-tuned.
    """
    evaluation = EvaluateConfig(conditions=2, checkpoint="last")
    if dataset == "walkers":
        return Config(
            data=DataConfig(frames=4, positives="all"),
            backbone=BackboneConfig(backbone="small_cnn"),
            recurrent=RecurrentConfig(channels=(64, 128), input_kernels=(3, 3), state_kernels=(3, 3)),
            train=TrainConfig(batch_pairs=24, steps=600, checkpoint_every=150, validate_every=150),
            evaluate=evaluation,
        )
    return Config(
        data=DataConfig(height=192, width=96, frames=2, positives="all", pairs_per_person=2),
        backbone=BackboneConfig(backbone="efficientnet_lite0", pretrained=True),
        recurrent=RecurrentConfig(channels=(128, 128), input_kernels=(3, 3), state_kernels=(3, 3)),
        train=TrainConfig(batch_pairs=16, steps=1500, learning_rate=5e-4, checkpoint_every=250, validate_every=250),
        evaluate=evaluation,
    )


def _default(dataset: DatasetName) -> Config:
    """Real pedestrians: told persons too, and both states and attended features stand for a clip.

    A tracklet's embedding is a mean of unit vectors, shorter the less its clips agree: cosine distances leave that out.
    """
    base = _common(dataset)
    if dataset == "walkers":
        return base
    return replace(
        base,
        attention=AttentionConfig(represent="both"),
        loss=LossConfig(penalty=0.01, identity=1.0, triplet=1.0),
        evaluate=replace(base.evaluate, clip_frames=2, distance="cosine"),
    )


def _strong(dataset: DatasetName) -> Config:
    """The default with what a longer training bears (docs/recipe.md).

    Real pedestrians: a batch-norm neck before the identities too, and embeddings half whitened at the end.
    """
    base = _default(dataset)
    longer = replace(
        base,
        data=replace(base.data, erase=0.5, sampling="spread"),
        train=replace(base.train, steps=4500, average=0.99, checkpoint_every=500, validate_every=500),
        evaluate=replace(base.evaluate, distance="cosine"),
    )
    if dataset == "walkers":
        return longer
    return replace(
        longer,
        backbone=replace(base.backbone, stochastic_depth=STOCHASTIC_DEPTH),
        loss=replace(base.loss, neck=True, classifier="linear"),
        evaluate=replace(longer.evaluate, whitening=0.5),
    )


def _small(dataset: DatasetName) -> Config:
    """One recurrent layer and fewer steps; real pedestrians as ImageNet features that are computed once."""
    base = _common(dataset)
    small = replace(
        base,
        recurrent=replace(base.recurrent, channels=(128,), input_kernels=(3,), state_kernels=(3,)),
        train=replace(base.train, steps=300, checkpoint_every=100, validate_every=100),
    )
    if dataset == "walkers":
        return small
    frozen = replace(base.backbone, endpoint="stride16", fine_tune="frozen", cache_features=True)
    return replace(
        small,
        data=replace(base.data, frames=4, pairs_per_person=1),
        backbone=frozen,
        train=replace(small.train, steps=500, learning_rate=1e-3),
    )


def _rcn(dataset: DatasetName) -> Config:
    """McLaughlin et al. (2016) on RGB alone: CNN-RNN, mean pooling, hinge and two identity losses."""
    base = _common(dataset)
    return replace(
        base,
        head="rcn",
        data=replace(base.data, height=64, width=32, frames=16, positives="half", pairs_per_person=1),
        backbone=BackboneConfig(backbone="rcn"),
        recurrent=replace(base.recurrent, channels=(128,), input_kernels=(1,), state_kernels=(1,), dropout_between=0.6),
        loss=LossConfig(penalty=0.0, pairs="hinge", margin=2.0, identity=2.0, classifier="linear", smoothing=0.0),
    )


def _pooling(dataset: DatasetName) -> Config:
    """What today's users run: average pooling, smoothed identities behind a batch-norm neck, batch-hard triplets."""
    base = _common(dataset)
    return replace(
        base,
        head="pooling",
        data=replace(base.data, frames=2, pairs_per_person=2, erase=0.5),
        backbone=replace(base.backbone, stochastic_depth=0.0 if dataset == "walkers" else STOCHASTIC_DEPTH),
        loss=LossConfig(penalty=0.0, pairs="none", identity=1.0, classifier="linear", triplet=1.0, neck=True),
        train=replace(base.train, optimizer="adam", learning_rate=3.5e-4, l2=5e-4),
        evaluate=replace(base.evaluate, distance="cosine"),
    )
