"""Eq. 9: binary cross-entropy over pairs of clips, and the penalty on their location maps. Axes: `B` pairs."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def pair_loss(logits: Float[Array, "B"], same: Bool[Array, "B"]) -> Float[Array, ""]:
    """Mean of -log s over similar and -log(1 - s) over dissimilar pairs (Eq. 9, its second term)."""
    return optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype)).mean()


def cross_pair_loss(logits: Float[Array, "N N"], person: Int[Array, "N"], hardness: float) -> Float[Array, ""]:
    """The same over all pairs of two different clips of a mini-batch, similar and dissimilar weighing one half each.

    Each clip averages its similar and its dissimilar pairs. `hardness` above 0 weighs those it gets most wrong more: by
    the softmax of `hardness` times how wrong the logit is.
    """
    same = person[:, None] == person[None, :]
    similar, dissimilar = same & ~jnp.eye(len(person), dtype=bool), ~same
    losses = optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype))
    wrong = hardness * jax.lax.stop_gradient(jnp.where(same, -logits, logits))

    def mean(chosen: Bool[Array, "N N"]) -> Float[Array, ""]:
        weights = jnp.where(chosen, jax.nn.softmax(wrong, axis=1, where=chosen), 0.0)
        clips = chosen.any(1)
        return jnp.where(clips, (weights * losses).sum(1), 0.0).sum() / jnp.maximum(clips.sum(), 1)

    return 0.5 * (mean(similar) + mean(dissimilar))


def siamese_loss(pair_term: Float[Array, ""], penalties: Float[Array, "N"], coefficient: float) -> Float[Array, ""]:
    """Eq. 9 as it is minimised: the pair term plus lambda times the clips' mean location penalty (both of a pair)."""
    return pair_term + coefficient * 2.0 * penalties.mean()
