"""Every setting of the library: frozen dataclasses, the only place with defaults, presets are in `presets`.

Field names are unique across the groups, so the command line spells each of them alone (`--frames 20`).
"""

from dataclasses import dataclass, field
from typing import Literal

from reid_jax.contradictions import problems

DatasetName = Literal["walkers", "mars", "ilids_vid", "prid2011", "folders"]
BackboneName = Literal[
    "rcn",
    "small_cnn",
    "patch_cnn",
    "googlenet",
    "googlenet_bvlc",
    "vgg16",
    "vgg16_bvlc",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
]
Protocol = Literal["mars_official", "query_removed", "two_camera", "rcn_first_last"]
Distance = Literal["euclidean", "cosine", "similarity", "k_reciprocal"]
Positives = Literal["half", "all"]
PresetName = Literal["paper", "paper_5x5", "default", "small", "strong", "rcn", "pooling"]


@dataclass(frozen=True)
class DataConfig:
    """Which tracklets, and how clips are drawn from them."""

    dataset: DatasetName = "walkers"
    """The data set."""
    data_dir: str = "data"
    """Folder of the prepared data sets."""
    manual_dir: str | None = None
    """Folder of the official download (default: the data set's folder in TFDS's manual directory)."""
    split: int = 0
    """Which published or seeded split of iLIDS-VID and PRID 2011 (0-9); MARS and walkers have one."""
    split_order: Literal["test_first", "train_first"] = "test_first"
    """iLIDS-VID's split file: which half comes first; public code bases differ, the usual reading is test_first."""
    prid_persons: Literal[178, 200] = 178
    """PRID 2011: the 178 persons of the published splits, or the paper's 200 with seeded halves."""
    validation_persons: int = 20
    """Persons held out of the train split, by seed, on whom the training is followed (0: none)."""
    frames: int = 20
    """T, the frames of a training clip; a shorter tracklet is padded and masked."""
    sampling: Literal["consecutive", "spread"] = "consecutive"
    """A training clip's frames are consecutive ones (the paper), or equally far apart, as far as the tracklet goes."""
    height: int = 64
    """Frame height H in pixels, after resizing."""
    width: int = 32
    """Frame width W in pixels, after resizing."""
    positives: Positives = "half"
    """Half of the drawn pairs are positive (the paper), or all: the cross pairs have negatives enough."""
    pairs_per_person: int = 1
    """With `positives` all: how many pairs in a row show the same person (2 with cross pairs: 4 clips a person)."""
    augment: Literal["clip", "frame"] = "clip"
    """What follows is drawn for a training clip, all its frames alike (the paper), or for each frame."""
    mirror: bool = True
    """Mirror half of the training clips."""
    crop: float = 0.9
    """Smallest side of a training clip's crop, as a share of the frame (1: no crop)."""
    translation: float = 0.05
    """A training clip is moved by up to this share of the frame's sides (section V.B: 0.05)."""
    erase: float = 0.0
    """Share of training clips in which a box of 2 to 33% of the frame is painted over (random erasing)."""
    colour: float = 0.0
    """Brightness, contrast and saturation of training clips vary by factors of 1 - colour to 1 + colour."""
    workers: int = 0
    """Processes that decode frames ahead of the training step (0: threads of the main process)."""


@dataclass(frozen=True)
class BackboneConfig:
    """Frame -> feature cube X_t."""

    backbone: BackboneName = "rcn"
    """The convolutional network under the recurrence."""
    endpoint: str = "last"
    """Which of the backbone's feature maps is X_t: its last one, or a named stage (see its module)."""
    pretrained: bool = False
    """Start from published weights; an error when there are none."""
    fine_tune: Literal["frozen", "last", "whole"] = "whole"
    """Which part of the backbone is trained (the paper: the whole set of parameters)."""
    frozen_stages: tuple[str, ...] = ()
    """With `fine_tune` whole: stages, by their names in the module, whose parameters stay as they were all the same."""
    stochastic_depth: float = 0.0
    """EfficientNet-Lite: how often its last block is left out in training, earlier ones less (published: 0.2)."""
    batch_norm: Literal["frozen", "trained"] = "trained"
    """Whether batch-norm statistics follow the training clips or stay as they were."""
    backbone_rate: float = 1.0
    """Multiplier of the learning rate for the backbone."""
    precision: Literal["float32", "tfloat32", "bfloat16"] = "tfloat32"
    """Products in float32; or on an accelerator with factors rounded as its matrix units do (NVIDIA: TF32); or the
    backbone and the recurrence's products in bfloat16. Parameters, statistics, states and loss are float32."""
    cache_features: bool = False
    """Compute a frozen backbone's features once, keep them on disk, and train on them: plain and mirrored frames alone,
    whatever `crop` and `translation` say."""


@dataclass(frozen=True)
class RecurrentConfig:
    """The stacked ConvGRU (Eq. 2, 5)."""

    channels: tuple[int, ...] = (128, 256, 256)
    """Channels of each layer's hidden state."""
    input_kernels: tuple[int, ...] = (3, 5, 5)
    """Side of each layer's input-to-hidden kernel."""
    state_kernels: tuple[int, ...] = (3, 5, 5)
    """Side of each layer's hidden-to-hidden kernel."""
    features: Literal["raw", "standardised"] = "standardised"
    """X_t as the backbone gives it (the paper), or each region's vector with mean 0 and variance 1."""
    between: Literal["keep", "halve"] = "keep"
    """Max-pooling between layers: 3x3 stride 1 keeps the grid, 2x2 stride 2 halves it."""
    initial: Literal["paper", "scaled"] = "scaled"
    """Kernels drawn from U[-1, 1] as the paper says, or from U[-1, 1] * sqrt(3 / fan-in)."""
    formulation: Literal["auto", "spatial", "frequency"] = "auto"
    """How the recurrence's convolutions are computed; the function is the same."""
    dropout_between: float = 0.0
    """Dropout rate on hidden activations on their way to the next layer (the paper: 0.7)."""
    dropout_top: float = 0.0
    """Dropout rate on the top layer's activations before temporal pooling (the paper: 0.7)."""


@dataclass(frozen=True)
class AttentionConfig:
    """Where and when to look (Eq. 3, 4, 6, 7)."""

    location: Literal["learned", "muted"] = "learned"
    """Location softmax driven by the previous state, or 1/K^2 everywhere (baseline 9)."""
    sees: Literal["state", "frame"] = "state"
    """Maps and temporal weights follow from the recurrence's state (Eq. 3, 6), or also from the frame's features."""
    location_hidden: int = 0
    """Width of a hidden layer before the location softmax (0: none, Eq. 3 as written)."""
    location_scale: Literal["sum", "mean"] = "mean"
    """Eq. 4's weights sum to one over the grid as written, or average to one, which keeps the features' scale."""
    region: Literal["cube", "slice"] = "cube"
    """What enters the recurrence: the weighted cube (Eq. 4), or its expected slice on a 1x1 grid (FC-GRU)."""
    pooling: Literal["attention", "average", "max"] = "attention"
    """Temporal selection of Eq. 6, or the average, or the maximum over the frames."""
    represent: Literal["states", "features", "both"] = "states"
    """What is pooled over the frames: h_t (Eq. 6), the features that enter the recurrence summed over x_t, or both."""
    embedding: Literal["raw", "unit"] = "unit"
    """Eq. 8's representations as they are, or scaled to unit length (with `represent` both: each part, too)."""
    state_hidden: int = 128
    """Width of the hidden layer of f_init (Eq. 7)."""


@dataclass(frozen=True)
class LossConfig:
    """Eq. 9."""

    penalty: float = 1.0
    """Lambda, the coefficient of the location penalty (the paper: 1)."""
    pairs: Literal["drawn", "cross", "hinge", "none"] = "cross"
    """Eq. 9 of the drawn pairs (the paper), or of every two clips of the mini-batch, both classes weighted alike; or
    RCN's hinge loss of the drawn pairs' distances; or no loss of pairs."""
    hardness: float = 0.0
    """With `cross`: how much more the pairs weigh that the network gets most wrong (0: all alike)."""
    identity: float = 0.0
    """Weight of a classification of the train persons beside Eq. 9 (the paper: 0)."""
    classifier: Literal["cosine", "linear"] = "cosine"
    """The identity's logits: scaled cosines to a direction a person, or plain products (RCN, the batch-norm neck)."""
    smoothing: float = 0.1
    """Share of the identity's label that is spread over all persons."""
    identity_margin: float = 0.0
    """With cosines: by how much that to the clip's own person is lowered before it is classified (CosFace)."""
    triplet: float = 0.0
    """Weight of the batch-hard triplet loss beside Eq. 9 (the paper: 0)."""
    margin: float = 0.3
    """By how much a triplet's negative must be farther than its positive; with `hinge`, how far a dissimilar pair."""
    neck: bool = False
    """A batch-norm neck between the embedding and the identities, whose output is compared at test time."""
    neck_serves: Literal["identity", "all"] = "identity"
    """What sees the neck's output in training: the identities alone (Luo et al. 2019), or pairs and triplets too."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation (section IV.B, V.B)."""

    batch_pairs: int = 10
    """Pairs in a mini-batch; half of them of one person in two cameras."""
    steps: int = 1000
    """Training steps."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """RMSProp (section V.B), or Adam."""
    learning_rate: float = 1e-3
    """The learning rate (not given in the paper)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    decay: Literal["none", "cosine", "steps"] = "cosine"
    """After the warm-up the learning rate stays, falls as a cosine, or tenfold at 1/3 and 7/12 of the steps."""
    clip: float = 5.0
    """Each element of the gradient is clipped to [-clip, clip]."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    l2: float = 0.0
    """Weight decay as a part of the gradient, which the optimiser scales with it (Luo et al. 2019: 5e-4)."""
    average: float = 0.0
    """What a step leaves of the running average of all variables, which then is what is scored (0: no average)."""
    log_every: int = 20
    """Steps between lines of metrics."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    validate_every: int = 100
    """Steps between evaluations on the held-out persons."""
    devices: int = 0
    """Devices that share a mini-batch (0: as many as there are and divide batch_pairs)."""
    remat: Literal["none", "backbone"] = "none"
    """The backward pass computes what lies within the backbone's stages again: less memory, more time."""


@dataclass(frozen=True)
class EvaluateConfig:
    """The named protocol and how tracklets are embedded for it."""

    persons: Literal["test", "held_out"] = "test"
    """Whom the final table scores: the test persons, or those held out of training, on whom settings are chosen."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint is scored and used: the best on the held-out persons, where there are any, or the last."""
    protocol: Protocol = "mars_official"
    """What is probe, what is gallery, what is skipped."""
    distance: Distance = "euclidean"
    """Between embeddings; `similarity` is 1 - s of Eq. 8, `k_reciprocal` re-ranks by common neighbours."""
    average_precision: Literal["trapezoid", "step"] = "trapezoid"
    """MARS's official trapezoidal AP, or the step-wise AP of most code bases."""
    embed_frames: int = 0
    """Longest clip that is embedded; a longer tracklet gives its first frames (0: the whole tracklet)."""
    clip_frames: int = 0
    """A tracklet's embedding is the mean over its clips of so many frames (0: it is one clip, as in the paper)."""
    embed_batch: int = 2048
    """Frames embedded together; clips are bucketed by length and padded to powers of two."""
    conditions: Literal[1, 2, 10] = 1
    """Test-time crop x mirror conditions to average over (1: the plain frame, 2: and its mirror, 10: the paper's)."""
    whitening: float = 0.0
    """Embeddings are whitened by those of the train persons before they are compared (0: not at all, 1: wholly)."""
    conditions_below: int = 128
    """Only tracklets shorter than this are averaged over the conditions (section V.B: 128)."""
    probe_block: int = 1024
    """Probes whose distances to the gallery are held at once."""
    first_last_frames: int = 16
    """T of `rcn_first_last`: the probe's first and the gallery's last frames."""
    baselines: bool = True
    """Score also the untrained network, its backbone's average features, and HSV histograms."""


@dataclass(frozen=True)
class Config:
    """One run, whole."""

    preset: PresetName = "default"
    """Where the defaults below come from."""
    head: Literal["attention", "rcn", "pooling"] = "attention"
    """What stands behind the backbone: the paper's network, or a peer that it is compared with."""
    seed: int = 0
    """Seed of the initialisation, the data order and the held-out persons."""
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        for problem in problems(self):
            raise ValueError(problem)
