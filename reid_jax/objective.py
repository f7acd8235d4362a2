"""What training minimises: Eq. 9 of a mini-batch of pairs, and the losses that a setting puts beside it.

Axes: `B` pairs, `N` clips, `P` train persons, `E` embedding.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from reid_jax import attention, identity, losses, model
from reid_jax import network as networks
from reid_jax.config import Config, LossConfig
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.settings import Number, is_on

Metrics = dict[str, Array]


def batch_loss(
    network: Network, variables: Parameters, batch: Batch, key: PRNGKeyArray
) -> tuple[Array, tuple[Metrics, Any]]:
    """Eq. 9 of a mini-batch of pairs and what stands beside it; also its metrics and the changed statistics."""
    config, head = network.config, variables["head"]
    encodings, statistics = networks.encode_pairs(network, variables, batch, key)
    compared, classified, neck = _behind_neck(config, variables, encodings.embedding)
    pair_term, told = _pair_term(config.loss, head["similarity"], compared, batch)
    penalties = jax.vmap(jax.vmap(attention.location_penalty))(encodings.locations, batch["mask"])
    loss = losses.siamese_loss(pair_term, penalties.reshape(-1), config.loss.penalty)
    scores = _identity_scores(config.loss, head, classified)
    beside = _losses_beside(config.loss, head, compared, scores, batch["person"])
    loss = loss + sum(weight * term for weight, term in beside.values())
    metrics = {
        "loss": loss,
        "pair_loss": pair_term,
        "penalty": penalties.mean(),
        **told,
        **_identified(scores, batch["person"]),
        **{name: term for name, (_, term) in beside.items()},
    }
    return loss, (metrics, {"batch_stats": statistics, **neck})


def _pair_term(
    config: LossConfig, similarity: Parameters, compared: Float[Array, "B 2 E"], batch: Batch
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of pairs, and as `accuracy` the share of them whose similarity says what they are, where it is trained:
    of the drawn pairs, or of all that the loss is of, similar and dissimilar ones weighing one half each as there."""
    first, second = compared[:, 0], compared[:, 1]
    if config.pairs == "cross":
        logits, person = _all_pairs(similarity, compared, batch["person"])
        loss = losses.cross_pair_loss(logits, person, config.hardness)
        return loss, {"accuracy": losses.pair_accuracy(logits, person)}
    if config.pairs == "drawn":
        logits = jax.vmap(partial(model.similarity_logit, similarity))(first, second)
        return losses.pair_loss(logits, batch["same"]), {"accuracy": jnp.mean((logits > 0) == batch["same"])}
    if config.pairs == "hinge":
        return losses.hinge_loss(first, second, batch["same"], config.margin), {}
    return jnp.zeros(()), {}


def _identified(scores: Float[Array, "N P"] | None, person: Int[Array, "B 2"]) -> Metrics:
    """The share of clips whose person is known again, where that is trained."""
    return {} if scores is None else {"identified": jnp.mean(scores.argmax(1) == person.reshape(-1))}


def _behind_neck(
    config: Config, variables: Parameters, embeddings: Float[Array, "B 2 E"]
) -> tuple[Float[Array, "B 2 E"], Float[Array, "B 2 E"], Parameters]:
    """What the pairs and triplets compare, what is classified, and the neck's new statistics under `neck`, if any."""
    if not config.loss.neck:
        return embeddings, embeddings, {}
    scale, clips = variables["head"]["identity"]["neck"], embeddings.reshape(-1, embeddings.shape[-1])
    behind, statistics = identity.neck_of_batch(scale, variables["neck"], clips)
    compared = identity.compared(behind, config) if config.loss.neck_serves == "all" else clips
    return compared.reshape(embeddings.shape), behind.reshape(embeddings.shape), {"neck": statistics}


def _identity_scores(
    config: LossConfig, head: Parameters, classified: Float[Array, "B 2 E"]
) -> Float[Array, "N P"] | None:
    """Every train person's logit for every clip; None where identities are not trained."""
    if not is_on(config.identity):
        return None
    return identity.logits(head["identity"], classified.reshape(-1, classified.shape[-1]), config.classifier)


def _losses_beside(
    config: LossConfig,
    head: Parameters,
    compared: Float[Array, "B 2 E"],
    scores: Float[Array, "N P"] | None,
    person: Int[Array, "B 2"],
) -> dict[str, tuple[Number, Array]]:
    """The losses beside Eq. 9, each with its weight."""
    persons, terms = person.reshape(-1), {}
    if scores is not None:
        if config.classifier == "cosine":
            scores = identity.with_margin(scores, persons, head["identity"]["scale"], config.identity_margin)
        terms["identity_loss"] = config.identity, losses.identity_loss(scores, persons, config.smoothing)
    if is_on(config.triplet):
        clips = compared.reshape(persons.size, -1)
        terms["triplet_loss"] = config.triplet, losses.triplet_loss(clips, persons, config.margin)
    return terms


def _all_pairs(
    similarity: Parameters, compared: Float[Array, "B 2 E"], person: Int[Array, "B 2"]
) -> tuple[Float[Array, "N N"], Int[Array, "N"]]:
    embeddings = compared.reshape(person.size, -1)
    one_to_all = jax.vmap(partial(model.similarity_logit, similarity), in_axes=(None, 0))
    return jax.vmap(one_to_all, in_axes=(0, None))(embeddings, embeddings), person.reshape(-1)
