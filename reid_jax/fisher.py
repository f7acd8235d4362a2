"""Fisher vectors of frame-level hidden states (Eq. 10, Table IV): a mixture fitted offline, and a tracklet's gradient.

Eq. 10 sums over the T hidden states h_t, each a vector of D values, and leaves open how the network's K x K x C states
become such vectors. Flattened, D would be the whole embedding, and 2 D values a component far more than a data set can
fit. Two readings are offered: `frame`, h_t averaged over the grid, one descriptor a frame, so that the sum is over t as
in the equation; and `region`, each region's channels a descriptor, T K^2 of them, as for local descriptors.

Eq. 10 and scikit-image's `fisher_vector` differ: the library also gives the gradient of the weights, which Eq. 10
leaves out; its block of variances is -v of Eq. 10; and it takes one tracklet at a time. Here is the paper's form, u and
v, of many padded tracklets at once on the device.

Axes: `N` tracklets, `T` frames, `Ks1 Ks2` grid of the states, `C` channels; `S` descriptors of a tracklet, of `D`
values; `M` components of the mixture (the paper's C), `F` = 2 M D.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from sklearn.mixture import GaussianMixture

Numbers = Array | np.ndarray
Reading = Literal["frame", "region"]


class Mixture(NamedTuple):
    """A mixture of Gaussians with diagonal covariances: pi_k, mu_k and sigma_k squared of Eq. 10."""

    weights: Float[Numbers, "M"]
    means: Float[Numbers, "M D"]
    variances: Float[Numbers, "M D"]


def descriptors(
    states: Float[Numbers, "N T Ks1 Ks2 C"], mask: Bool[Numbers, "N T"], reading: Reading
) -> tuple[Float[Array, "N S D"], Bool[Array, "N S"]]:
    """Descriptors of each tracklet and which of them are of its own frames; D is C."""
    states, mask = jnp.asarray(states), jnp.asarray(mask)
    if reading == "frame":
        return states.mean((2, 3)), mask
    regions = states.shape[2] * states.shape[3]
    return states.reshape(len(states), -1, states.shape[-1]), jnp.repeat(mask, regions, axis=1)


def fit_mixture(descriptors: Float[np.ndarray, "S D"], components: int, floor: float, seed: int) -> Mixture:
    """A mixture of `components` Gaussians of train descriptors, by expectation maximisation (scikit-learn's).

    Args:
        descriptors: valid descriptors only, of train tracklets.
        components: the paper's C, which it does not give.
        floor: added to every variance, as a share of the descriptors' mean variance.
        seed: of the first means.

    Raises:
        ValueError: too few descriptors, ones that do not vary, or ones that are not finite.
    """
    if components < 1 or len(descriptors) < 2 * components:
        raise ValueError(
            f"a mixture of {components} components needs 1 component and 2 descriptors a component at least, not "
            f"{len(descriptors)} descriptors: lower the components or give more tracklets"
        )
    if not np.isfinite(descriptors).all():
        raise ValueError("the descriptors of a mixture are not finite: the training diverged")
    variance = float(descriptors.var(axis=0, dtype=np.float64).mean())
    if variance == 0:
        raise ValueError(f"all {len(descriptors)} descriptors are equal: there is nothing to fit a mixture to")
    # Fitted at unit scale, so that the floor and the tolerances mean the same for every network.
    scale = variance**0.5
    fitted = GaussianMixture(components, covariance_type="diag", reg_covar=floor, random_state=seed)
    fitted.fit(descriptors.astype(np.float64) / scale)
    return Mixture(fitted.weights_, fitted.means_ * scale, fitted.covariances_ * variance)


def posteriors(mixture: Mixture, descriptors: Float[Numbers, "S D"]) -> Float[Array, "S M"]:
    """q_kt of Eq. 10: the share of each component in a descriptor."""
    weights, means, variances = (jnp.asarray(part, jnp.float32) for part in mixture)
    descriptors = jnp.asarray(descriptors, jnp.float32)
    # Component by component, here and below: all deviations at once are S x M x D values.
    squares = jax.lax.map(
        lambda component: jnp.square(_deviations(*component, descriptors)).sum(-1), (means, variances)
    )
    logits = jnp.log(weights) - 0.5 * (squares.T + jnp.log(variances).sum(-1))
    return jax.nn.softmax(logits, axis=-1)


def fisher_vector(mixture: Mixture, descriptors: Float[Numbers, "S D"], mask: Bool[Numbers, "S"]) -> Float[Array, "F"]:
    """Eq. 10 of one tracklet: u_1 ... u_M, then v_1 ... v_M, over its valid descriptors; zero where none is valid."""
    weights, means, variances = (jnp.asarray(part, jnp.float32) for part in mixture)
    descriptors, mask = jnp.asarray(descriptors, jnp.float32), jnp.asarray(mask)
    descriptors = jnp.where(mask[:, None], descriptors, 0.0)
    q = jnp.where(mask[:, None], posteriors(mixture, descriptors), 0.0) / jnp.maximum(mask.sum(), 1)

    def gradient(component: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        weight, mean, variance, share = component
        deviations = _deviations(mean, variance, descriptors)
        u = share @ deviations / jnp.sqrt(weight)
        return u, share @ (jnp.square(deviations) - 1) / jnp.sqrt(2 * weight)

    u, v = jax.lax.map(gradient, (weights, means, variances, q.T))
    return jnp.concatenate([u.ravel(), v.ravel()])


def improve(vector: Float[Array, "F"]) -> Float[Array, "F"]:
    """The improved Fisher vector (Perronnin et al. 2010; the paper's source [71]): signed square root, unit length."""
    rooted = jnp.sign(vector) * jnp.sqrt(jnp.abs(vector))
    return rooted / jnp.maximum(jnp.linalg.norm(rooted), 1e-12)


def fisher_vectors(
    mixture: Mixture, descriptors: Float[Numbers, "N S D"], mask: Bool[Numbers, "N S"], improved: bool
) -> Float[Array, "N F"]:
    """Eq. 10 of N tracklets, each `improve`d or as the equation gives it; masked descriptors change nothing."""

    def of_one(descriptors: Array, mask: Array) -> Array:
        vector = fisher_vector(mixture, descriptors, mask)
        return improve(vector) if improved else vector

    return jax.vmap(of_one)(jnp.asarray(descriptors, jnp.float32), jnp.asarray(mask))


def _deviations(
    mean: Float[Array, "D"], variance: Float[Array, "D"], descriptors: Float[Array, "S D"]
) -> Float[Array, "S D"]:
    """(h_t - mu_k) / sigma_k of one component."""
    return (descriptors - mean) * jax.lax.rsqrt(variance)
