"""Distances between embeddings, a block of probes at a time.

`Q` probes, `G` gallery tracklets, `E` embedding. Distances are computed on the device: beside the embeddings and one
transformed copy, no more than two blocks of `block x G` floats exist at once.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reid_jax.config import Distance

Embeddings = Array | np.ndarray
Scalar = float | np.floating | Array
Blocks = Iterator[tuple[int, Float[np.ndarray, "block G"]]]
"""The first probe of a block, and its probes' sorting keys."""
Prepared = tuple[Array, Array, Array]

ALIGNMENT = 64
"""Bytes that an array of the host's has to begin at a multiple of, to be used in place."""


def key_blocks(
    probes: Float[Embeddings, "Q E"],
    gallery: Float[Embeddings, "G E"],
    distance: Distance,
    block: int,
    v: Float[Embeddings, "E"] | None = None,
    c: Scalar | None = None,
) -> Blocks:
    """(first probe, sorting keys of up to `block` probes) over all probes; the last is padded, to compile once.

    Keys are squared distances, of unit vectors where the distance is `cosine`, or minus the logit of Eq. 8: these still
    tell apart what the square root and the saturated sigmoid round to one value. Raises ValueError for no embeddings,
    for ones that are not finite or overflow, for zeros under `cosine`, and for `similarity` without `v` and `c`.
    """
    count = len(probes)
    if min(count, len(gallery)) == 0:
        raise ValueError(f"nothing to rank: {count} probes, {len(gallery)} gallery tracklets")
    # As even as can be: the last block's padding is work for nothing.
    block = -(-count // -(-count // min(block, count)))
    left, right, offset = _prepare(probes, gallery, distance, v, c)
    left = jnp.pad(left, ((0, -count % block), (0, 0))) if count % block else left
    following = _keys(left, right, offset, 0, block, distance)
    for start in range(0, count, block):
        current = following
        if start + block < count:  # the device computes this one while the host ranks the current one
            following = _keys(left, right, offset, start + block, block, distance)
        keys = np.asarray(current)[: count - start]
        if not np.isfinite(keys).all():  # of embeddings that are not finite no key is: they are looked for only now
            finite(probes, "probe"), finite(gallery, "gallery")
            raise ValueError(f"{distance} distances overflow float32: scale the embeddings down")
        yield start, keys


def finite(embeddings: Embeddings, side: str) -> Float[Array, "N E"]:
    """The embeddings on the device, in float32. Raises ValueError naming the `side` where one is not finite."""
    embeddings = jnp.asarray(embeddings, jnp.float32)
    if broken := int(jnp.sum(~jnp.isfinite(embeddings).all(axis=1))):
        raise ValueError(f"{broken} of {len(embeddings)} {side} embeddings are not finite: the training diverged")
    return embeddings


def _prepare(
    probes: Float[Embeddings, "Q E"],
    gallery: Float[Embeddings, "G E"],
    distance: Distance,
    v: Embeddings | None,
    c: Scalar | None,
) -> Prepared:
    """Both sides and an offset, such that one matrix product gives a block of keys."""
    if distance == "euclidean":
        return _centred(probes, gallery)
    probes, gallery = jnp.asarray(probes, jnp.float32), jnp.asarray(gallery, jnp.float32)
    if distance == "cosine":
        return _centred(unit_rows(probes, "probe"), unit_rows(gallery, "gallery"))
    if v is None or c is None:
        raise ValueError("the distance `similarity` needs v and c of Eq. 8")
    return probes * jnp.asarray(v, jnp.float32), gallery, jnp.asarray(c, jnp.float32)


def _centred(probes: Float[Embeddings, "Q E"], gallery: Float[Embeddings, "G E"]) -> Prepared:
    """Both sides less the gallery's mean, and the gallery's squared norms.

    |a|^2 + |b|^2 - 2ab cancels badly where embeddings share a large mean, and distances do not see a common shift.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # the keys tell of values that are not finite
        mean = gallery.mean(axis=0, dtype=np.float32)
        left, right = _less(probes, mean), _less(gallery, mean)
    return left, right, _squared_norms(right)


def _less(side: Float[Embeddings, "N E"], mean: Float[Embeddings, "E"]) -> Float[Array, "N E"]:
    """The side less the mean, in float32 on the device.

    An array of the host's goes through it once: into memory that XLA's CPU backend takes for its own as it lies.
    """
    if not isinstance(side, np.ndarray):
        return jnp.asarray(side, jnp.float32) - mean
    room = np.empty(side.size + ALIGNMENT // 4, np.float32)
    first = -room.ctypes.data % ALIGNMENT // 4
    result = room[first : first + side.size].reshape(side.shape)
    np.subtract(side, mean, out=result, casting="same_kind")
    return jax.device_put(result, may_alias=True)


@jax.jit
def _squared_norms(side: Float[Array, "N E"]) -> Float[Array, "N"]:
    return jnp.square(side).sum(axis=1)


def unit_rows(embeddings: Float[Array, "N E"], side: str) -> Float[Array, "N E"]:
    """Each row scaled to unit length. Raises ValueError naming the `side` where one is zero."""
    norms = jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    if zeros := int((norms == 0).sum()):
        raise ValueError(f"{zeros} of {len(embeddings)} {side} embeddings are zero and have no cosine: use euclidean")
    return embeddings / norms


@partial(jax.jit, static_argnames=("block", "distance"))
def _keys(
    left: Float[Array, "P E"],
    right: Float[Array, "G E"],
    offset: Array,
    start: int | Array,
    block: int,
    distance: Distance,
) -> Float[Array, "block G"]:
    """What is sorted by: the squared distance |a|^2 + |b|^2 - 2ab, or minus the logit of Eq. 8."""
    rows = jax.lax.dynamic_slice_in_dim(left, start, block)
    products = jnp.matmul(rows, right.T, precision=jax.lax.Precision.HIGHEST)
    if distance == "similarity":
        return -(products + offset)
    return jnp.maximum(jnp.square(rows).sum(axis=1, keepdims=True) + offset - 2 * products, 0)


FROM_KEY: Mapping[str, Callable[[Array], Array]] = {
    "euclidean": jnp.sqrt,
    "cosine": lambda squares: squares / 2,
    "similarity": jax.nn.sigmoid,
    "k_reciprocal": lambda distances: distances,
}
"""Distances by their sorting keys."""
