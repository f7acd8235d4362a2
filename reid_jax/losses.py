"""Eq. 9: binary cross-entropy over pairs of clips, and the penalty on their location maps. Axes: `B` pairs."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def pair_loss(logits: Float[Array, "B"], same: Bool[Array, "B"]) -> Float[Array, ""]:
    """Mean of -log s over similar and -log(1 - s) over dissimilar pairs (Eq. 9, its second term)."""
    return optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype)).mean()


def cross_pair_loss(logits: Float[Array, "N N"], person: Int[Array, "N"]) -> Float[Array, ""]:
    """The same over all pairs of two different clips of a mini-batch, similar and dissimilar weighing one half each."""
    same = person[:, None] == person[None, :]
    other = ~jnp.eye(len(person), dtype=bool)
    losses = optax.sigmoid_binary_cross_entropy(logits, same.astype(logits.dtype))

    def mean(chosen: Bool[Array, "N N"]) -> Float[Array, ""]:
        return jnp.where(chosen, losses, 0.0).sum() / jnp.maximum(chosen.sum(), 1)

    return 0.5 * (mean(same & other) + mean(~same))


def siamese_loss(
    pair_term: Float[Array, ""], penalties: Float[Array, "N"], coefficient: float
) -> Float[Array, ""]:
    """Eq. 9 as it is minimised: the pair term plus lambda times the clips' mean location penalty (both of a pair)."""
    return pair_term + coefficient * 2.0 * penalties.mean()
