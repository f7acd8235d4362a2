"""Linear maps learnt on train embeddings, after which Euclidean distance ranks better (Table VII, section V.G).

Each function gives a map L [E, R]: |(a - b) L| is the distance, so mapped embeddings go wherever embeddings go. A
Mahalanobis metric M is given as L with L L^T = M. No means are taken off: Euclidean distances do not see them, and
cosine ones keep the origin that the embeddings had. All are closed forms and repeat exactly; sums are over all pairs,
never a sample of them. Axes: `N` tracklets, `E` embedding, `R` mapped embedding, `P` persons. Leave junk and
distractors out of the train embeddings: they are no persons.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

Embeddings = Float[np.ndarray, "N E"]
Labels = Int[np.ndarray, "N"]


def pca(embeddings: Embeddings, dimensions: int) -> Float[np.ndarray, "E _"]:
    """The `dimensions` orthonormal directions of largest variance (scikit-learn's), or all that the embeddings span.

    Raises:
        ValueError: there are too few embeddings or values for so many, or they are all alike or not finite.
    """
    from sklearn.decomposition import PCA  # half a second, which every program would wait for

    count, size = _finite(embeddings).shape
    most = min(count - 1, size)
    if not 1 <= dimensions <= most:
        raise ValueError(
            f"{dimensions} PCA dimensions of {count} embeddings of {size} values: they span {most} at most; ask for "
            "from 1 to so many, or give more embeddings"
        )
    found = PCA(dimensions, svd_solver="full").fit(embeddings)
    tolerance = max(count, size) * np.finfo(embeddings.dtype).eps
    rank = int((found.singular_values_ > tolerance * found.singular_values_[0]).sum())
    if rank < 1:
        raise ValueError(f"{count} embeddings that are all alike have no PCA dimensions")
    return found.components_[:rank].T.astype(np.float64)


def whitening(embeddings: Embeddings, share: float, regularisation: float) -> Float[np.ndarray, "E E"]:
    """Directions of the embeddings' covariance C, each divided by the root of its eigenvalue to the power of `share`.

    With `share` 1 the embeddings come out uncorrelated and of equal variance (Jegou and Chum, ECCV 2012), with 0 only
    turned. C is regularised to (1 - b) C + b tr(C)/E I with b = `regularisation`, so fewer embeddings than values do.

    Raises:
        ValueError: the embeddings are not finite, or the covariance is singular.
    """
    x = _centred(embeddings)
    values, vectors = scipy.linalg.eigh(_shrunk(x.T @ x / len(x), regularisation))
    _check_regular(values, "the embeddings' covariance")
    return vectors * values ** (-share / 2)


def lfda(
    embeddings: Embeddings, person: Labels, dimensions: int, neighbours: int, regularisation: float
) -> Float[np.ndarray, "E {dimensions}"]:
    """Local Fisher discriminant analysis (Sugiyama, JMLR 2007), as in re-identification after PCA (Pedagadi 2013).

    Same-person tracklets draw together in so far as they lie near each other: their affinity is
    exp(-|a - b|^2 / (s_a s_b)), s the distance to the `neighbours`-th nearest of the person (7 in the source; the
    farthest where the person has fewer). The generalised eigenvectors of the local between- and within-class scatters,
    each times the root of its eigenvalue (the source's weighted form). The within-class scatter S is regularised to
    (1 - b) S + b tr(S)/E I with b = `regularisation` (Xiong et al., ECCV 2014, who take 0.01).

    Raises:
        ValueError: fewer than two persons, no person with two tracklets, more `dimensions` than E, or a singular
            within-class scatter.
    """
    x = _centred(embeddings)
    if not 1 <= dimensions <= x.shape[1]:
        raise ValueError(f"{dimensions} LFDA dimensions of embeddings of {x.shape[1]} values: ask for from 1 to those")
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}: LFDA's local scale needs 1 at least")
    persons, of, counts = np.unique(person, return_inverse=True, return_counts=True)
    if len(persons) < 2 or counts.max() < 2:
        raise ValueError(
            f"LFDA needs two persons, and one with two tracklets: the {len(x)} embeddings show {len(persons)} persons, "
            f"{counts.max()} tracklets of one at most"
        )
    # Rows of each person's graph Laplacian times x, once with the affinities and once with (affinity - 1).
    within, mixed = np.zeros_like(x), np.zeros_like(x)
    for number, count in enumerate(counts):
        rows = np.flatnonzero(of == number)
        affinity = local_affinity(x[rows], neighbours)
        within[rows] = _laplacian_rows(affinity, x[rows]) / count
        mixed[rows] = _laplacian_rows(affinity - 1, x[rows]) / len(x)
    within_scatter = _symmetric(x.T @ within)
    between_scatter = _symmetric(x.T @ x + x.T @ mixed) - within_scatter
    shrunk = _regularised(within_scatter, regularisation, "LFDA's within-class scatter")
    largest = len(shrunk) - dimensions, len(shrunk) - 1
    values, vectors = scipy.linalg.eigh(between_scatter, shrunk, subset_by_index=largest)
    return vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))


def local_affinity(x: Float[np.ndarray, "n E"], neighbours: int) -> Float[np.ndarray, "n n"]:
    """exp(-|a - b|^2 / (s_a s_b)) with s the distance to the `neighbours`-th nearest (the farthest where fewer are).

    0 where a scale is 0, as in the source's own program; a tracklet alone has affinity 1 to itself.
    """
    if len(x) == 1:
        return np.ones((1, 1))
    squares = np.square(x[:, None] - x[None]).sum(-1)
    nearest = min(neighbours, len(x) - 1)
    scale = np.sqrt(np.partition(squares, nearest, axis=1)[:, nearest])
    product = np.outer(scale, scale)
    return np.exp(-np.divide(squares, product, out=np.full_like(squares, np.inf), where=product > 0))


def kissme(embeddings: Embeddings, person: Labels, camera: Labels, regularisation: float) -> Float[np.ndarray, "E R"]:
    """KISSME (Koestinger et al., CVPR 2012): M = S^-1 - D^-1, its negative eigenvalues cut off.

    S and D are the covariances of the differences of same-person and of other-person pairs across cameras. The source
    draws as many pairs of other persons as there are of the same; here they are all taken. Both covariances C are
    regularised to (1 - b) C + b tr(C)/E I with b = `regularisation` (Tao et al., TCSVT 2013; 0 is the source's form,
    which leaves it to a PCA). R is the number of positive eigenvalues.

    Raises:
        ValueError: no pair of either kind (one person, or one camera only), a singular covariance, or no direction in
            which same-person pairs differ less.
    """
    similar, dissimilar = pair_covariances(_centred(embeddings), person, camera)
    inverses = [
        scipy.linalg.inv(_regularised(covariance, regularisation, f"KISSME's covariance of {name} pairs"))
        for covariance, name in ((similar, "same-person"), (dissimilar, "other-person"))
    ]
    values, vectors = scipy.linalg.eigh(_symmetric(inverses[0] - inverses[1]))
    kept = values > np.finfo(np.float64).eps * len(values) * np.abs(values).max()
    if not kept.any():
        raise ValueError("KISSME finds no direction in which same-person pairs differ less than pairs of two persons")
    return vectors[:, kept] * np.sqrt(values[kept])


def xqda(embeddings: Embeddings, person: Labels, camera: Labels, regularisation: float) -> Float[np.ndarray, "E R"]:
    """Cross-view quadratic discriminant analysis (Liao et al., CVPR 2015): a subspace and KISSME's metric in it.

    The subspace W holds the generalised eigenvectors of D w = value S w with value > 1: differences of two persons
    vary more there than those of one (S, D as in `kissme`). With W^T S W = I, W^T D W is diagonal, so the metric in the
    subspace is diag(1 - 1/value), positive throughout. (The source's program takes singular vectors of S^-1 D
    instead; this is the source's text.) S is regularised by adding `regularisation` times the embeddings' mean squared
    length, which for the source's unit-length features is its 0.001 I.

    Raises:
        ValueError: no pair of either kind (one person, or one camera only), a regularisation that is not positive,
            or no direction with value > 1.
    """
    if regularisation <= 0:
        raise ValueError(f"regularisation is {regularisation}: XQDA needs it above 0 (the source: 0.001)")
    x = _centred(embeddings)
    basis = None
    if x.shape[1] > len(x):  # all differences lie in the span of the embeddings, where the problem is smaller
        basis, rows = scipy.linalg.qr(x.T, mode="economic")
        x = rows.T
    similar, dissimilar = pair_covariances(x, person, camera)
    added = regularisation * float(np.square(embeddings, dtype=np.float64).sum(axis=1).mean())
    similar[np.diag_indices_from(similar)] += added
    values, vectors = scipy.linalg.eigh(dissimilar, similar, subset_by_value=(1.0, np.inf))
    if len(values) == 0:
        raise ValueError("XQDA finds no direction in which pairs of two persons differ more than same-person pairs")
    learnt = vectors[:, ::-1] * np.sqrt(1 - 1 / values[::-1])
    return learnt if basis is None else basis @ learnt


def pair_covariances(
    x: Embeddings, person: Labels, camera: Labels
) -> tuple[Float[np.ndarray, "E E"], Float[np.ndarray, "E E"]]:
    """Means of (a - b)(a - b)^T over the pairs in two cameras: those of one person, and those of two persons.

    With two cameras these are the sums over probe x gallery of the sources; more cameras make all their pairs.

    Raises:
        ValueError: there is no pair of one of the kinds.
    """
    nothing = np.zeros(len(x), np.int64)
    every, same_camera = _group_scatter(x, nothing), _group_scatter(x, camera)
    same_person = _group_scatter(x, person)
    same_both = _group_scatter(x, np.unique(np.stack([person, camera]), axis=1, return_inverse=True)[1])
    similar, similar_pairs = same_person[0] - same_both[0], same_person[1] - same_both[1]
    across, across_pairs = every[0] - same_camera[0], every[1] - same_camera[1]
    dissimilar_pairs = across_pairs - similar_pairs
    if similar_pairs == 0 or dissimilar_pairs == 0:
        cameras, persons = np.unique(camera), np.unique(person)
        raise ValueError(
            f"{similar_pairs} same-person and {dissimilar_pairs} other-person pairs across cameras, of {len(x)} "
            f"embeddings of {len(persons)} persons in {len(cameras)} cameras: the metric needs both kinds of pairs; "
            "give tracklets of two persons or more, seen in two cameras or more"
        )
    return _symmetric(similar / similar_pairs), _symmetric((across - similar) / dissimilar_pairs)


def _group_scatter(x: Embeddings, group: Labels) -> tuple[Float[np.ndarray, "E E"], int]:
    """The sum of (a - b)(a - b)^T over the pairs within groups, n X^T X - s s^T for each group, and their number."""
    groups, of, counts = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(groups), x.shape[1]))
    np.add.at(sums, of, x)
    return x.T @ (counts[of, None] * x) - sums.T @ sums, int((counts * (counts - 1) // 2).sum())


def _laplacian_rows(affinity: Float[np.ndarray, "n n"], x: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n E"]:
    return affinity.sum(1, keepdims=True) * x - affinity @ x


def _regularised(scatter: Float[np.ndarray, "E E"], share: float, what: str) -> Float[np.ndarray, "E E"]:
    """`_shrunk`; an error where that is singular."""
    shrunk = _shrunk(scatter, share)
    _check_regular(scipy.linalg.eigvalsh(shrunk), what)
    return shrunk


def _shrunk(scatter: Float[np.ndarray, "E E"], share: float) -> Float[np.ndarray, "E E"]:
    """(1 - share) S + share tr(S)/E I."""
    if not 0 <= share < 1:
        raise ValueError(f"regularisation is {share}: a share in [0, 1)")
    size = len(scatter)
    return (1 - share) * scatter + share * np.trace(scatter) / size * np.eye(size)


def _check_regular(values: Float[np.ndarray, "E"], what: str) -> None:
    """An error where these eigenvalues, in ascending order, are a singular matrix's."""
    if values[0] <= values[-1] * len(values) * np.finfo(np.float64).eps:
        raise ValueError(
            f"{what} is singular (smallest eigenvalue {values[0]:.1e}, largest {values[-1]:.1e}): map the embeddings "
            "to fewer dimensions by PCA first, raise regularisation, or give more tracklets"
        )


def _centred(embeddings: Embeddings) -> Embeddings:
    """In float64 and less their mean: sums of squares cancel badly where embeddings share a large mean."""
    x = _finite(embeddings).astype(np.float64)
    return x - x.mean(axis=0)


def _finite(embeddings: Embeddings) -> Embeddings:
    if broken := int((~np.isfinite(embeddings).all(axis=1)).sum()):
        raise ValueError(f"{broken} of {len(embeddings)} train embeddings are not finite: the training diverged")
    return embeddings


def _symmetric(matrix: Float[np.ndarray, "E E"]) -> Float[np.ndarray, "E E"]:
    return (matrix + matrix.T) / 2
