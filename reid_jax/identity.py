"""Classifying the train persons beside Eq. 9: cosines to a direction a person, or a batch-norm neck and plain products.

Axes: `N` clips, `E` embedding, `P` persons.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reid_jax.config import Config
from reid_jax.model import Parameters, unit
from reid_jax.settings import Number

SCALE = 16.0
"""First scale of the cosines."""
BEHIND_NECK = 1e-3
"""Standard deviation of the first directions behind a neck, where products are plain (Luo et al. 2019)."""
MOMENTUM = 0.9
"""How much of the neck's running statistics a mini-batch leaves."""


def initialise(key: PRNGKeyArray, size: int, persons: int, classifier: str, neck: bool) -> Parameters:
    """A direction in the embedding's space [E] for each of P persons, the cosines' scale, and the neck's if any.

    Directions for cosines are long, so that RMSProp turns them slowly and the embeddings have to come to them.
    """
    directions = jax.random.normal(key, (persons, size))
    parameters = {
        "directions": directions * {"cosine": 1.0, "linear": BEHIND_NECK if neck else size**-0.5}[classifier],
        "scale": jnp.full((), SCALE, jnp.float32),
    }
    return parameters | ({"neck": jnp.ones(size)} if neck else {})


def first_statistics(size: int) -> Parameters:
    """The neck's running mean and variance before training."""
    return {"mean": jnp.zeros(size), "var": jnp.ones(size)}


def logits(parameters: Parameters, embeddings: Float[Array, "N E"], classifier: str) -> Float[Array, "N P"]:
    """Products with every person's direction (`linear`), or scaled cosines to it, so that no length can grow.

    The cosines are NormFace's (Wang et al. 2017).
    """
    if classifier == "linear":
        return embeddings @ parameters["directions"].T
    return parameters["scale"] * unit(embeddings) @ unit(parameters["directions"]).T


def with_margin(
    logits: Float[Array, "N P"], person: Int[Array, "N"], scale: Float[Array, ""], margin: Number
) -> Float[Array, "N P"]:
    """Scaled cosines of which the own person's is lowered by a margin (CosFace, Wang et al. 2018)."""
    return logits - scale * margin * jax.nn.one_hot(person, logits.shape[1])


def neck(scale: Float[Array, "E"], statistics: Parameters, embeddings: Float[Array, "N E"]) -> Float[Array, "N E"]:
    """The batch-norm neck (Luo et al. 2019), which has no shift: what is classified, and compared at test time."""
    return (embeddings - statistics["mean"]) * jax.lax.rsqrt(statistics["var"] + 1e-5) * scale


def neck_of_batch(
    scale: Float[Array, "E"], statistics: Parameters, embeddings: Float[Array, "N E"]
) -> tuple[Float[Array, "N E"], Parameters]:
    """The neck with a mini-batch's own statistics, and the running ones after it."""
    own = {"mean": embeddings.mean(0), "var": embeddings.var(0)}
    running = jax.tree.map(lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, statistics, own)
    return neck(scale, own, embeddings), running


def compared(behind: Float[Array, "N E"], config: Config) -> Float[Array, "N E"]:
    """What of the neck's output is compared: scaled to unit length where every loss sees it and embeddings are."""
    if config.loss.neck_serves == "all" and config.attention.embedding == "unit":
        return unit(behind)
    return behind
