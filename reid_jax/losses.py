"""Eq. 9: cross-entropy over pairs of clips and the penalty on their location maps; two losses that may stand beside it.

Axes: `B` pairs, `N` clips, `E` embedding, `P` persons.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from reid_jax.settings import Number


def pair_loss(logits: Float[Array, "B"], same: Bool[Array, "B"]) -> Float[Array, ""]:
    """Mean of -log s over similar and -log(1 - s) over dissimilar pairs (Eq. 9, its second term)."""
    return optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype)).mean()


def cross_pair_loss(logits: Float[Array, "N N"], person: Int[Array, "N"], hardness: Number) -> Float[Array, ""]:
    """The same over all pairs of two different clips of a mini-batch, similar and dissimilar weighing one half each.

    Each clip averages its similar and its dissimilar pairs. `hardness` above 0 weighs those it gets most wrong more: by
    the softmax of `hardness` times how wrong the logit is.
    """
    same, similar, dissimilar = _kinds(person)
    losses = optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype))
    wrong = hardness * jax.lax.stop_gradient(jnp.where(same, -logits, logits))

    def mean(chosen: Bool[Array, "N N"]) -> Float[Array, ""]:
        weights = jnp.where(chosen, jax.nn.softmax(wrong, axis=1, where=chosen), 0.0)
        clips = chosen.any(1)
        return jnp.where(clips, (weights * losses).sum(1), 0.0).sum() / jnp.maximum(clips.sum(), 1)

    return 0.5 * (mean(similar) + mean(dissimilar))


def pair_accuracy(logits: Float[Array, "N N"], person: Int[Array, "N"]) -> Float[Array, ""]:
    """The share of these pairs whose logit has the right sign, of the similar and of the dissimilar ones, averaged.

    A network that takes all for similar has one half, however few of them are.
    """
    same, *kinds = _kinds(person)
    right = (logits > 0) == same
    return sum((right & kind).sum() / jnp.maximum(kind.sum(), 1) for kind in kinds) / 2


def _kinds(person: Int[Array, "N"]) -> tuple[Bool[Array, "N N"], Bool[Array, "N N"], Bool[Array, "N N"]]:
    """Of all pairs of clips: which are of one person, and the similar and dissimilar pairs of different clips."""
    same = person[:, None] == person[None, :]
    return same, same & ~jnp.eye(len(person), dtype=bool), ~same


def hinge_loss(
    first: Float[Array, "B E"], second: Float[Array, "B E"], same: Bool[Array, "B"], margin: Number
) -> Float[Array, ""]:
    """RCN's (McLaughlin et al. 2016, Eq. 4): half the squared distance, or how far it falls short of the margin."""
    squared = jnp.square(first - second).sum(1)
    short = jnp.maximum(margin - jnp.sqrt(jnp.maximum(squared, 1e-12)), 0.0)
    return 0.5 * jnp.where(same, squared, jnp.square(short)).mean()


def siamese_loss(pair_term: Float[Array, ""], penalties: Float[Array, "N"], coefficient: Number) -> Float[Array, ""]:
    """Eq. 9 as it is minimised: the pair term plus lambda times the clips' mean location penalty (both of a pair)."""
    return pair_term + coefficient * 2.0 * penalties.mean()


def identity_loss(logits: Float[Array, "N P"], person: Int[Array, "N"], smoothing: Number) -> Float[Array, ""]:
    """Cross-entropy of classifying the train persons, with `smoothing` of the label spread over all of them."""
    labels = optax.smooth_labels(jax.nn.one_hot(person, logits.shape[1]), smoothing)
    return optax.softmax_cross_entropy(logits, labels).mean()


def triplet_loss(embeddings: Float[Array, "N E"], person: Int[Array, "N"], margin: Number) -> Float[Array, ""]:
    """Batch-hard triplets (Hermans et al. 2017): each clip's farthest positive and nearest negative, Euclidean.

    Clips without a positive or a negative in the mini-batch count as 0.
    """
    squares = jnp.square(embeddings).sum(1)
    # A difference of large numbers, which an accelerator would round before it is taken.
    products = jnp.matmul(embeddings, embeddings.T, precision=jax.lax.Precision.HIGHEST)
    squared = squares[:, None] + squares[None, :] - 2.0 * products
    distances = jnp.sqrt(jnp.maximum(squared, 1e-8))
    same, similar, _ = _kinds(person)
    farthest = jnp.where(similar, distances, -jnp.inf).max(1)
    nearest = jnp.where(same, jnp.inf, distances).min(1)
    return jnp.maximum(farthest - nearest + margin, 0.0).mean()
