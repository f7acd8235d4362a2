"""The whole network: backbone, head and their variables; clips in, encodings out.

`variables` is one pytree: {"backbone": params, "head": params of `model` or of a peer, "batch_stats": the backbone's
running statistics}, and with a batch-norm neck its own under "neck".
Axes: `N` clips, `B` pairs, `T` frames, `H W` frame, `Kh Kw` grid, `D` features.
"""

from dataclasses import dataclass, replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from reid_jax import backbones, identity, model, peers, recurrent
from reid_jax.config import Config, EvaluateConfig
from reid_jax.model import Encoding, Parameters
from reid_jax.precision import in_its_precision

Batch = dict[str, Array | np.ndarray]
_BACKBONE = 2**30
"""What the backbone's key is folded from; the head folds its own from the numbers of frames and layers."""

_HEADS = {
    "attention": (model.initialise_head, model.encode),
    "rcn": (peers.initialise_rcn, peers.encode_rcn),
    "pooling": (peers.initialise_pooling, peers.encode_pooling),
}


@dataclass(frozen=True)
class Network:
    """What is fixed about a network: hashable, a static argument of the compiled functions."""

    config: Config
    backbone: nn.Module
    cube: tuple[int, int, int]
    """Shape of X_t: [Kh, Kw, D]."""
    persons: int = 0
    """How many train persons the identity loss tells apart (0: there is none)."""


def build(config: Config, persons: int = 0) -> Network:
    """The network of a configuration, without variables; with an identity loss, for so many train persons."""
    backbone = backbones.build(config.backbone)
    frame = jax.ShapeDtypeStruct((1, config.data.height, config.data.width, 3), jnp.float32)
    cube = jax.eval_shape(
        lambda pixels: backbone.init_with_output(jax.random.key(0), pixels, train=False)[0], frame
    ).shape[1:]
    return Network(config, backbone, cube, persons if config.loss.identity else 0)


def program(network: Network) -> Network:
    """The network with all settings alike that no compiled function reads: runs that differ in these share programs."""
    config = network.config
    data = replace(config.data, split=0, data_dir="", manual_dir=None, validation_persons=0, workers=0)
    own = config.evaluate
    evaluation = replace(EvaluateConfig(), distance=own.distance, clip_frames=own.clip_frames)
    common = replace(config, preset="default", seed=0, data=data, evaluate=evaluation)
    return replace(network, config=replace(common, train=replace(config.train, devices=0)))


def initialise(network: Network, key: PRNGKeyArray) -> Parameters:
    """First variables, with published backbone weights where `pretrained` says so.

    Raises:
        ValueError: there are no published weights, or a tensor of them is missing or of another shape.
    """
    # Drawing is cheap and compiling it is not: without optimisation it starts in a fraction of the time.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    variables = jax.jit(partial(draw, network), compiler_options=options if jax.default_backend() == "cpu" else None)(
        key
    )
    if network.config.backbone.pretrained:
        published = backbones.pretrained_variables(network.config.backbone, backbone_variables(variables))
        variables |= {"backbone": published["params"], "batch_stats": published.get("batch_stats", {})}
    return variables


def draw(network: Network, key: PRNGKeyArray) -> Parameters:
    """Random variables of the whole network, before any published weights."""
    data, (key_backbone, key_head, key_identity) = network.config.data, jax.random.split(key, 3)
    variables = network.backbone.init(key_backbone, jnp.zeros((1, data.height, data.width, 3)), train=False)
    head = _HEADS[network.config.head][0](key_head, network.cube, network.config)
    size, loss = head["similarity"]["v"].size, network.config.loss
    if network.persons:
        head["identity"] = identity.initialise(key_identity, size, network.persons, loss.classifier, loss.neck)
    statistics = {"neck": identity.first_statistics(size)} if network.persons and loss.neck else {}
    return statistics | {
        "backbone": variables["params"],
        "batch_stats": variables.get("batch_stats", {}),
        "head": head,
    }


def backbone_variables(variables: Parameters) -> Parameters:
    """The part of the variables that Linen's `apply` wants."""
    return {"params": variables["backbone"], "batch_stats": variables["batch_stats"]}


def encode_pairs(
    network: Network, variables: Parameters, batch: Batch, key: PRNGKeyArray
) -> tuple[Encoding, Parameters]:
    """Training encodings [B, 2, ...] of the two clips of every pair, and the new batch statistics.

    The two branches of a pair share all parameters, so its clips are encoded as 2 B independent ones: a `vmap` over
    the pair is the same function, but would put the pair before the frequencies, where a CPU copies every operand.
    `batch` holds `frames` (or cached `features`) and `mask`.
    """
    shape = batch["mask"].shape[:2]
    clips = {
        name: batch[name].reshape(-1, *batch[name].shape[2:])
        for name in ("frames", "features", "mask")
        if name in batch
    }
    features, statistics = clips.get("features"), variables["batch_stats"]
    if features is None:
        settings = network.config.backbone
        train = settings.batch_norm == "trained" and settings.fine_tune != "frozen"
        remat = network.config.train.remat == "backbone"
        arrays = backbone_variables(variables), clips["frames"], clips["mask"]
        own_key = jax.random.fold_in(key, _BACKBONE)
        features, statistics = model.extract(network.backbone, *arrays, train, settings.precision, remat, own_key)
    encoding = encode(network, variables, features, clips["mask"], key)
    return jax.tree.map(lambda array: array.reshape(*shape, *array.shape[1:]), encoding), statistics


def encode(
    network: Network,
    variables: Parameters,
    features: Float[Array, "N T Kh Kw D"],
    mask: Bool[Array, "N T"],
    key: PRNGKeyArray | None = None,
) -> Encoding:
    """Encodings of N clips of features by the configured head. With a key, dropout is on."""
    return _HEADS[network.config.head][1](variables["head"], features, mask, network.config, key)


def prepared(network: Network, variables: Parameters) -> Parameters:
    """The variables with the recurrence's kernels in the form they are multiplied in, for embedding many clips.

    `encode` takes them as they are; they cannot be trained or saved.
    """
    head, config = variables["head"], network.config
    if config.head != "attention":
        return variables
    grids = model.recurrent_grids(network.cube[:2], config.attention, config.recurrent)
    kernels = _prepare(head["recurrent"], tuple(grids), config.recurrent.formulation, config.backbone.precision)
    return {**variables, "head": {**head, "recurrent": kernels}}


_prepare = jax.jit(recurrent.prepare, static_argnames=("grids", "formulation", "precision"))


def _check(network: Network, batch: Batch) -> None:
    """Raises ValueError for frames that the network was not made for, which it may well compute something of."""
    if missing := {"frames", "mask"} - set(batch):
        raise ValueError(
            f"the batch lacks {', '.join(sorted(missing))}: frames [N, T, H, W, 3] and mask [N, T] are needed"
        )
    frames, mask, data = batch["frames"], batch["mask"], network.config.data
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[2:] != (data.height, data.width, 3):
        raise ValueError(
            f"frames are {frames.dtype} {list(frames.shape)}: give uint8 [N, T, {data.height}, {data.width}, 3], RGB, "
            "in the height and width of the run's settings"
        )
    if mask.dtype != bool or mask.shape != frames.shape[:2]:
        raise ValueError(
            f"mask is {mask.dtype} {list(mask.shape)}: give bool {list(frames.shape[:2])}, as the frames have"
        )


def clip_features(network: Network, variables: Parameters, batch: Batch) -> Float[Array, "N T Kh Kw D"]:
    """X_t of clips: the batch's cached `features`, or those of its `frames`, with running batch statistics."""
    if "features" in batch:
        return batch["features"]
    _check(network, batch)
    frames, mask = batch["frames"], batch["mask"]
    precision = network.config.backbone.precision
    return model.extract(network.backbone, backbone_variables(variables), frames, mask, False, precision)[0]


@partial(jax.jit, static_argnames="network")
@in_its_precision
def encode_clips(network: Network, variables: Parameters, batch: Batch) -> Encoding:
    """Encodings [N, ...] of clips `frames` [N, T, H, W, 3] (or `features`) with `mask` [N, T]; no dropout."""
    return encode(network, variables, clip_features(network, variables, batch), batch["mask"])


@partial(jax.jit, static_argnames="network")
@in_its_precision
def embed_clips(network: Network, variables: Parameters, batch: Batch) -> Float[Array, "N E"]:
    """Embeddings of clips; what only the pictures need is not computed.

    With `clip_frames` they are means over parts of so many frames, each of which counts by its valid frames. Where
    there is a neck they are those behind it, unless the distance is Eq. 8's similarity and stands before it.
    """
    features, mask = clip_features(network, variables, batch), batch["mask"]
    length = network.config.evaluate.clip_frames or mask.shape[1]
    parts, valid = _parts(features, length), _parts(mask, length)
    embeddings = _compared(network, variables, encode(network, variables, parts, valid).embedding)
    counts = valid.sum(1)
    weights = (counts / jnp.maximum(mask.sum(1), 1).repeat(counts.size // len(mask)))[:, None]
    return (weights * embeddings).reshape(len(mask), -1, embeddings.shape[1]).sum(1)


def _parts(frames: Array, length: int) -> Array:
    """Clips [N, T, ...] in parts [N P, length, ...], the last one of each padded with zeros."""
    missing = -frames.shape[1] % length
    padded = jnp.pad(frames, ((0, 0), (0, missing), *((0, 0),) * (frames.ndim - 2)))
    return padded.reshape(-1, length, *frames.shape[2:])


def fits_similarity(config: Config) -> bool:
    """Whether embeddings, as they are compared, lie on the side of a neck that Eq. 8's v and c were trained on."""
    return not config.loss.neck or config.loss.neck_serves == "all" or config.evaluate.distance == "similarity"


def _compared(network: Network, variables: Parameters, embeddings: Float[Array, "N E"]) -> Float[Array, "N E"]:
    """The embeddings as they are compared at test time: behind the neck, where there is one that serves for it."""
    before = network.config.loss.neck_serves == "identity" and network.config.evaluate.distance == "similarity"
    if "neck" not in variables or before:
        return embeddings
    behind = identity.neck(variables["head"]["identity"]["neck"], variables["neck"], embeddings)
    return identity.compared(behind, network.config)


@partial(jax.jit, static_argnames="network")
@in_its_precision
def average_features(network: Network, variables: Parameters, batch: Batch) -> Float[Array, "N D"]:
    """The mean of X_t over the valid frames and the grid: the backbone alone, what a network must improve on."""
    features, mask = clip_features(network, variables, batch), batch["mask"]
    frames = jnp.where(mask[:, :, None], features.astype(jnp.float32).mean((2, 3)), 0.0)
    return frames.sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)
