"""Embedding a split with the head on cached features: tracklets a second, beside PyTorch on the same batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.heads import TOLERANCE_OUTPUTS, better_layout, first_variables, network_of, torch_model
from benchmarks.measuring import Row, assert_agree, interleaved
from benchmarks.sizes import Size
from reid_jax import evaluate
from reid_jax import network as networks
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.sampling import ClipDraw
from reid_jax.tracklets import DISTRACTOR, Tracklets, TrackletTable


def made_up_tracklets(count: int, longest: int) -> Tracklets:
    """Tracklets of 4 to `longest` frames, short ones more often, without images."""
    rng = np.random.default_rng(0)
    length = np.exp(rng.uniform(np.log(4), np.log(longest + 1), count)).astype(int)
    blank = np.zeros(count, bool)
    table = TrackletTable(np.full(count, DISTRACTOR), np.ones(count, int), length, blank, [""] * count)
    return Tracklets(table, [{}] * count, np.arange(count))


@dataclass(frozen=True)
class PoolReader:
    """A clip reader that takes cubes from one array, as if they had been cached."""

    pool: np.ndarray

    def __call__(self, draw: ClipDraw) -> dict[str, np.ndarray]:
        return {"features": self.pool[draw.row : draw.row + draw.count]}


def torch_embed(network: Network, variables: Parameters, layout: str) -> Callable[[Batch], np.ndarray]:
    """PyTorch's function of a batch; ImportError where it is absent."""
    import torch

    model = torch_model(network, variables, layout)

    def embed(batch: Batch) -> np.ndarray:
        with torch.no_grad():
            features = torch.from_numpy(batch["features"]).float()
            # Clips that only fill up a batch have no frame: they are given one, or their weights were NaN.
            mask = torch.from_numpy(batch["mask"] | (np.arange(batch["mask"].shape[1]) == 0))
            return model(features, mask)[0].numpy()

    return embed


def measure(quick: bool) -> Iterator[Row]:
    """Tracklets a second, whole: reading batches, embedding, collecting."""
    size = Size((3, 3), 4, 3, (6, 8), (4, 3, 5)) if quick else Size((5, 5, 5), 20, 20)
    network = network_of(size)
    variables = first_variables(size)
    tracklets = made_up_tracklets(*((6, 9) if quick else (10, 48)))
    pool = np.random.default_rng(1).standard_normal((len(tracklets) + 48, *size.cube)).astype(np.float16)

    def ours() -> np.ndarray:
        function = partial(networks.embed_clips, network, networks.prepared(network, variables))
        return evaluate.embed(function, tracklets, network.config, readers=lambda _: PoolReader(pool))

    work = {"ours": ours}
    try:
        function = torch_embed(network, variables, better_layout(size))
        work["PyTorch"] = lambda: evaluate.embed(
            function, tracklets, network.config, readers=lambda _: PoolReader(pool)
        )
    except ImportError:
        print("PyTorch is not installed: no ratio to it")

    def check(found: Mapping[str, np.ndarray]) -> None:
        for embeddings in found.values():
            assert_agree({"embedding": found["ours"]}, {"embedding": embeddings}, TOLERANCE_OUTPUTS)

    seconds = interleaved(work, 2 if quick else 5, check)
    rates = {name: sorted(len(tracklets) / time for time in times) for name, times in seconds.items()}
    found, reference = rates["ours"], rates.get("PyTorch")
    median, beside = float(np.median(found)), float(np.median(reference)) if reference else None
    name = f"embedding {len(tracklets)} tracklets of {tracklets.table.length.mean():.0f} frames on average"
    ratio = median / beside if beside else None
    yield Row(name, median, "tracklets/s", found[0], found[-1], beside, ratio=ratio)
