"""Distances between embeddings, a block of probes at a time.

`Q` probes, `G` gallery tracklets, `E` embedding. Distances are computed on the device. On a CPU no more exists at once,
beside the embeddings, than two blocks of `block x G` floats and a few parts of the transformed gallery (`COLUMNS`): a
copy of all of it would be given out by the system page by page, which takes as long as a third of the products.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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

ALIGNMENT = 64
"""Bytes that an array of the host's has to begin at a multiple of, to be used in place."""
COLUMNS = 1024
"""Of the embeddings' columns so many at most are transformed and multiplied at a time on a CPU."""


@dataclass(frozen=True)
class Side:
    """Probes or gallery, and what is done to them before they are multiplied: `factor`, then `shift`."""

    embeddings: Float[Embeddings, "N E"]
    """The host's on a CPU, else the device's, in float32."""
    factor: Float[Embeddings, "N 1"] | Float[Embeddings, "1 E"] | None
    """What every row, or every column, is multiplied by, if anything."""
    shift: Float[Embeddings, "1 E"] | Float[Embeddings, "1 1"]
    """What is then taken off."""

    def part(self, rows: tuple[int, int], columns: tuple[int, int]) -> Float[Array, "rows columns"]:
        """Some rows and columns of it, from one to before another, on the device; zeros where it has no more."""
        wanted = slice(*rows), slice(*columns)
        found, shift = _cut(self.embeddings, wanted), _cut(self.shift, wanted)
        factor = None if self.factor is None else _cut(self.factor, wanted)
        size = rows[1] - rows[0], columns[1] - columns[0]
        if not isinstance(found, np.ndarray):
            padding = [(0, full - has) for full, has in zip(size, found.shape, strict=True)]
            return jnp.pad((found if factor is None else found * factor) - shift, padding)
        # Written by the host at an address that XLA's CPU backend takes for its own as it lies.
        room = np.empty(size[0] * size[1] + ALIGNMENT // 4, np.float32)
        first = -room.ctypes.data % ALIGNMENT // 4
        result = room[first : first + size[0] * size[1]].reshape(size)
        if found.shape != size:
            result[:] = 0
        own = result[: found.shape[0], : found.shape[1]]
        with np.errstate(invalid="ignore", over="ignore"):  # the keys tell of values that are not finite
            scaled = found if factor is None else np.multiply(found, factor, out=own, casting="same_kind")
            np.subtract(scaled, shift, out=own, casting="same_kind")
        return jax.device_put(result, may_alias=True)


def _cut(array: Embeddings, wanted: tuple[slice, slice]) -> Embeddings:
    """Those rows and columns; an axis of one serves for all."""
    rows, columns = (part if size > 1 else slice(None) for part, size in zip(wanted, array.shape, strict=True))
    return array[rows, columns]


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
    if distance == "similarity" and (v is None or c is None):
        raise ValueError("the distance `similarity` needs v and c of Eq. 8")
    # As even as can be: the last block's padding is work for nothing.
    block = -(-count // -(-count // min(block, count)))
    keys_of = _of_block(*_sides(probes, gallery, distance, v), -float(c) if distance == "similarity" else 0.0, distance)
    following = keys_of((0, block))
    for start in range(0, count, block):
        current = following
        if start + block < count:  # the device computes this one while the host ranks the current one
            following = keys_of((start + block, start + 2 * block))
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


def _sides(
    probes: Float[Embeddings, "Q E"], gallery: Float[Embeddings, "G E"], distance: Distance, v: Embeddings | None
) -> tuple[Side, Side]:
    """Both sides, such that their products give keys.

    |a|^2 + |b|^2 - 2ab cancels badly where embeddings share a large mean, and distances do not see a common shift: the
    gallery's mean is taken off both.
    """
    here = np.asarray if jax.default_backend() == "cpu" else partial(jnp.asarray, dtype=jnp.float32)
    probes, gallery = here(probes), here(gallery)
    if distance == "similarity":
        nothing = np.zeros((1, 1), np.float32)
        return Side(probes, np.asarray(v, np.float32)[None], nothing), Side(gallery, None, nothing)
    with np.errstate(invalid="ignore", over="ignore"):  # the keys tell of values that are not finite
        if distance == "euclidean":
            mean = gallery.mean(axis=0, dtype=np.float32)[None]
            return Side(probes, None, mean), Side(gallery, None, mean)
        factors = 1 / _norms(probes, "probe"), 1 / _norms(gallery, "gallery")
        mean = (factors[1].T @ gallery / len(gallery)).astype(np.float32)
    return Side(probes, factors[0], mean), Side(gallery, factors[1], mean)


def _of_block(
    probes: Side, gallery: Side, first: float, distance: Distance
) -> Callable[[tuple[int, int]], Float[Array, "block G"]]:
    """The keys of a block of probes, from one to before another, as they grow part by part from `first`."""
    count, size = gallery.embeddings.shape
    width = -(-size // -(-size // COLUMNS)) if isinstance(gallery.embeddings, np.ndarray) else size
    columns = [(start, start + width) for start in range(0, size, width)]
    whole = gallery.part((0, count), columns[0]) if len(columns) == 1 else None

    def keys_of(rows: tuple[int, int]) -> Float[Array, "block G"]:
        keys = jnp.full((rows[1] - rows[0], count), first, jnp.float32)
        for some in columns:
            left, right = probes.part(rows, some), whole if whole is not None else gallery.part((0, count), some)
            # Until the part before this one is done with, before the squares too: more than two of them are never held.
            keys = _keys(jax.block_until_ready(keys), left, right, (_squares(left), _squares(right)), distance)
        return keys

    return keys_of


def _norms(embeddings: Float[Embeddings, "N E"], side: str) -> Float[Embeddings, "N 1"]:
    """Each row's length. Raises ValueError naming the `side` where one is zero, overflows or is not finite."""
    host = isinstance(embeddings, np.ndarray)  # where `norm` would write all squares down
    found = np.sqrt(np.vecdot(embeddings, embeddings)) if host else jnp.linalg.norm(embeddings, axis=1)
    if zeros := int((found == 0).sum()):
        raise ValueError(f"{zeros} of {len(embeddings)} {side} embeddings are zero and have no cosine: use euclidean")
    if np.isinf(found).any():
        finite(embeddings, side)
        raise ValueError(f"the lengths of {side} embeddings overflow float32: scale the embeddings down")
    return found[:, None]


def unit_rows(embeddings: Float[Array, "N E"], side: str) -> Float[Array, "N E"]:
    """Each row scaled to unit length. Raises ValueError as `_norms`."""
    return embeddings / _norms(embeddings, side)


@partial(jax.jit, static_argnames="distance", donate_argnames="keys")
def _keys(
    keys: Float[Array, "block G"],
    left: Float[Array, "block part"],
    right: Float[Array, "G part"],
    squares: tuple[Float[Array, "block"], Float[Array, "G"]],
    distance: Distance,
) -> Float[Array, "block G"]:
    """What is sorted by, and these columns' part of it: of |a|^2 + |b|^2 - 2ab, or of minus the logit of Eq. 8."""
    products = jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
    if distance == "similarity":
        return keys - products
    return jnp.maximum(keys + squares[0][:, None] + squares[1] - 2 * products, 0)


@jax.jit
def _squares(part: Float[Array, "N part"]) -> Float[Array, "N"]:
    """|a|^2: a program of its own, since within the products' XLA:CPU computes it anew for every tile of them."""
    return jnp.square(part).sum(axis=1)


FROM_KEY: Mapping[str, Callable[[Array], Array]] = {
    "euclidean": jnp.sqrt,
    "cosine": lambda squares: squares / 2,
    "similarity": jax.nn.sigmoid,
    "k_reciprocal": lambda distances: distances,
}
"""Distances by their sorting keys."""
