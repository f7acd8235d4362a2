"""What training minimises: Eq. 9 of a mini-batch of pairs, and the losses that a setting puts beside it.

Axes: `B` pairs, `N` clips, `E` embedding.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from reid_jax import attention, identity, losses, model
from reid_jax import network as networks
from reid_jax.config import LossConfig
from reid_jax.model import Encoding, Parameters
from reid_jax.network import Batch, Network

Metrics = dict[str, Array]


def batch_loss(network: Network, variables: Parameters, batch: Batch, key: Array) -> tuple[Array, tuple[Metrics, Any]]:
    """Eq. 9 of a mini-batch of pairs and what stands beside it; also its metrics and the changed statistics."""
    config, head = network.config, variables["head"]
    encodings, statistics = networks.encode_pairs(network, variables, batch, key)
    first, second = encodings.embedding[:, 0], encodings.embedding[:, 1]
    logits = jax.vmap(partial(model.similarity_logit, head["similarity"]))(first, second)
    if config.loss.pairs == "cross":
        all_logits, person = _all_pairs(head["similarity"], encodings, batch["person"])
        pair_term = losses.cross_pair_loss(all_logits, person, config.loss.hardness)
    else:
        pair_term = {
            "drawn": lambda: losses.pair_loss(logits, batch["same"]),
            "hinge": lambda: losses.hinge_loss(first, second, batch["same"], config.loss.margin),
            "none": lambda: jnp.zeros(()),
        }[config.loss.pairs]()
    penalties = jax.vmap(jax.vmap(attention.location_penalty))(encodings.locations, batch["mask"])
    loss = losses.siamese_loss(pair_term, penalties.reshape(-1), config.loss.penalty)
    beside, neck = _losses_beside(config.loss, variables, encodings.embedding, batch["person"])
    loss = loss + sum(weight * term for weight, term in beside.values())
    metrics = {
        "loss": loss,
        "pair_loss": pair_term,
        "penalty": penalties.mean(),
        "accuracy": jnp.mean((logits > 0) == batch["same"]),
        **{name: term for name, (_, term) in beside.items()},
    }
    return loss, (metrics, {"batch_stats": statistics, **neck})


def _losses_beside(
    config: LossConfig, variables: Parameters, embeddings: Float[Array, "B 2 E"], person: Int[Array, "B 2"]
) -> tuple[dict[str, tuple[float, Array]], Parameters]:
    """The losses beside Eq. 9, each with its weight, and the neck's new statistics under `neck`, if it has any."""
    clips, persons, terms, statistics = embeddings.reshape(person.size, -1), person.reshape(-1), {}, {}
    if config.identity:
        parameters = variables["head"]["identity"]
        if config.neck:
            classified, statistics["neck"] = identity.neck_of_batch(parameters["neck"], variables["neck"], clips)
        else:
            classified = clips
        logits = identity.logits(parameters, classified, config.classifier)
        terms["identity_loss"] = config.identity, losses.identity_loss(logits, persons, config.smoothing)
    if config.triplet:
        terms["triplet_loss"] = config.triplet, losses.triplet_loss(clips, persons, config.margin)
    return terms, statistics


def _all_pairs(
    similarity: Parameters, encodings: Encoding, person: Int[Array, "B 2"]
) -> tuple[Float[Array, "N N"], Int[Array, "N"]]:
    embeddings = encodings.embedding.reshape(person.size, -1)
    one_to_all = jax.vmap(partial(model.similarity_logit, similarity), in_axes=(None, 0))
    return jax.vmap(one_to_all, in_axes=(0, None))(embeddings, embeddings), person.reshape(-1)
