"""What a finished run's losses are on the persons that were held out of its training (Fig. 5a)."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from reid_jax import network as networks
from reid_jax import objective, runs
from reid_jax.config import Config
from reid_jax.data import clips_of, training_batches
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.precision import in_its_precision
from reid_jax.settings import change
from reid_jax.tracklets import Splits

AS_IN_A_TEST = {
    "mirror": False,
    "crop": 1.0,
    "translation": 0.0,
    "erase": 0.0,
    "colour": 0.0,
    "batch_norm": "frozen",
    "stochastic_depth": 0.0,
    "dropout_between": 0.0,
    "dropout_top": 0.0,
    "conditions": 1,
    # These know the train persons only.
    "identity": 0.0,
    "identity_margin": 0.0,
    "triplet": 0.0,
    "neck": False,
}
"""Settings under which the losses are taken: plain frames, running statistics, no dropout, Eq. 9 alone."""


def plain(config: Config) -> Config:
    """A run's settings as its losses are taken.

    Raises:
        ValueError: its pairs are of embeddings behind a neck, which the losses are not.
    """
    if config.loss.neck_serves != "identity":
        raise ValueError(
            f"neck_serves is {config.loss.neck_serves}: held-out losses are of embeddings before a neck; train with "
            "--neck-serves identity"
        )
    return change(config, AS_IN_A_TEST)


def losses(config: Config, workdir: Path, splits: Splits, batches: int, seed: int) -> dict[str, float]:
    """Means over mini-batches of pairs of the held-out persons: `pair_loss`, `penalty` of Eq. 9, `accuracy` if trained.

    The pairs follow from `seed` and the held-out persons.

    Raises:
        ValueError: the run held nobody out, or see `plain`.
    """
    held_out = runs.divided(config, splits)[1]
    if held_out is None:
        raise ValueError(f"{workdir} holds a run with validation_persons=0: no persons were held out of its training")
    network, variables = runs.load_run(workdir)
    readers = runs.feature_readers(network, variables, splits.train)
    settings = plain(config)
    program = networks.program(Network(settings, network.backbone, network.cube))
    drawn = training_batches(
        held_out, settings.data, config.train.batch_pairs, seed, readers(held_out) if readers else None
    )
    try:
        found = [jax.device_get(_losses(program, variables, clips_of(next(drawn)))) for _ in range(batches)]
    finally:
        drawn.close()
    known = [name for name in ("pair_loss", "penalty", "accuracy") if name in found[0]]
    return {name: float(np.mean([one[name] for one in found])) for name in known}


@partial(jax.jit, static_argnames="network")
@in_its_precision
def _losses(network: Network, variables: Parameters, batch: Batch) -> objective.Metrics:
    return objective.batch_loss(network, variables, batch, jax.random.key(0))[1][0]
