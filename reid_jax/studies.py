"""A finished run taken up again: its network, its data, and embeddings that several tables and figures share."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from reid_jax import evaluate, origin, results, runs, whitening
from reid_jax import network as networks
from reid_jax.config import Config
from reid_jax.features import ReaderOf
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.products import Provenance
from reid_jax.protocols import PROTOCOLS, RetrievalTask
from reid_jax.retrieval import RetrievalResult, distance_matrix, rank, score
from reid_jax.tracklets import Splits, Tracklets


@dataclass(frozen=True)
class Study:
    """A run's chosen checkpoint, under settings that may differ from the run's own in how it is evaluated."""

    workdir: Path
    step: int
    """Of the checkpoint."""
    network: Network
    variables: Parameters
    splits: Splits

    @property
    def config(self) -> Config:
        """The settings."""
        return self.network.config

    @property
    def program(self) -> Network:
        """The network to call compiled functions with: runs that differ in nothing they read share programs."""
        return networks.program(self.network)

    @property
    def embed(self) -> evaluate.Embed:
        """The network's own embeddings of a batch of clips."""
        return partial(networks.embed_clips, self.program, self.variables)

    def readers(self, tracklets: Tracklets) -> ReaderOf | None:
        """Readers of cached features where the run has them, else None: frames are decoded."""
        return runs.feature_readers(self.network, self.variables, tracklets)

    @cached_property
    def task(self) -> RetrievalTask:
        """What the protocol asks of the test tracklets."""
        return PROTOCOLS[self.config.evaluate.protocol](self.splits.test.table)

    @cached_property
    def sides(self) -> evaluate.Sides:
        """Embeddings of the test task's probes and gallery."""
        test = self.splits.test
        return evaluate.embed_sides(self.embed, test, self.task, self.config, self.readers(test))

    @cached_property
    def train_embeddings(self) -> Float[np.ndarray, "N E"]:
        """Embeddings of all train tracklets, held-out persons among them, in the order of their table."""
        train = self.splits.train
        return evaluate.embed_conditions(self.embed, train, self.config, "whole", self.readers(train))

    def score(self, sides: evaluate.Sides) -> RetrievalResult:
        """The result of the network's embeddings of probes and gallery, under the configured distance."""
        return score(*sides, self.task, *self._compared())

    def nearest(self, sides: evaluate.Sides, top: int) -> Int[np.ndarray, "Q top"]:
        """The rows of the `top` nearest gallery tracklets of each probe, junk left out (see `retrieval.rank`)."""
        distance, _, *rest = self._compared()
        return rank(*sides, self.task, distance, top, *rest)

    def distances(self, sides: evaluate.Sides) -> Float[np.ndarray, "Q G"]:
        """All distances at once."""
        distance, _, *rest = self._compared()
        return distance_matrix(*sides, distance, *rest)

    def _compared(self) -> tuple[Any, ...]:
        """Distance, average precision, block, v and c."""
        settings, learned = self.config.evaluate, self.variables["head"]["similarity"]
        return settings.distance, settings.average_precision, settings.probe_block, learned["v"], learned["c"]

    def provenance(self, distance: str | None = None) -> Provenance:
        """What a table or figure of this study says about where it comes from; `distance` if it is not the run's."""
        settings = self.config.evaluate
        return Provenance(
            dataset=self.config.data.dataset,
            data=self.splits.description,
            run=f"`{self.workdir.name}`, {results.differences(self.config)}; checkpoint of step {self.step}",
            scored=f"`{settings.protocol}`, {distance or settings.distance} distances",
        )

    def key(self) -> dict[str, Any]:
        """What a table or figure of this study follows from, beside the code."""
        return {"step": self.step, "settings": results.comparable(self.config)}


def take_up(config: Config, workdir: Path, splits: Splits) -> Study:
    """The run in a work directory, evaluated as `config` says.

    Raises:
        ValueError: it is to be scored on others than the test persons, of whom all tables and figures are.
        reid_jax.workdir.WorkDirError: there is no run, or it has no checkpoint yet.
    """
    if config.evaluate.persons != "test":
        raise ValueError(
            f"tables and figures are of the test persons, and {workdir} is scored on those held out of training: give "
            "the program of a single table or figure --persons test"
        )
    step = runs.chosen_step(workdir, config.evaluate.checkpoint)
    network, variables = runs.load_run(workdir, step)
    if config.data.dataset == network.config.data.dataset:
        origin.check(workdir, splits)
    return Study(workdir, step, Network(config, network.backbone, network.cube, network.persons), variables, splits)


def of_tracklets(workdir: Path, tracklets: Tracklets) -> Study:
    """A run's checkpoint that its evaluation scores, on tracklets of one's own."""
    step = runs.chosen_step(workdir)
    return Study(workdir, step, *runs.load_run(workdir, step), Splits(tracklets, tracklets, "own tracklets"))


def compared_embeddings(study: Study) -> tuple[Float[np.ndarray, "N E"], Parameters]:
    """Embeddings of one's own tracklets as the run's evaluation compares them, and v and c of Eq. 8 where they fit.

    Averaged over the run's test-time conditions, behind its neck, whitened where it has that (v and c then do not fit).
    """
    config, variables = study.config, study.variables
    whitens = whitening.kept_by(config, study.workdir, study.step)
    function = evaluate.embedding_of(study.network, variables)
    embeddings = evaluate.embed_conditions(function, study.splits.test, config, "whole", None)
    if whitens is not None:
        return (embeddings @ whitens).astype(np.float32), {}
    return embeddings, variables["head"]["similarity"] if networks.fits_similarity(config) else {}


def check_attention(study: Study, what: str) -> None:
    """Raises ValueError where a run's network has no attention, which `what` is about."""
    if study.config.head != "attention":
        raise ValueError(
            f"{what} is about the attention of the paper's network; {study.workdir} holds a run with "
            f"head={study.config.head}: name another --workdir"
        )
