"""The metrics of Table VII at the settings that are used for it, learnt on train embeddings and applied to others."""

import numpy as np
from jaxtyping import Float

from reid_jax import metric_learning
from reid_jax.tracklets import DISTRACTOR, TrackletTable

PCA_DIMENSIONS = 150
"""Section V.G."""
LFDA_NEIGHBOURS, LFDA_SHARE = 7, 0.01
"""Sugiyama's neighbours, Xiong's regularisation; as many dimensions as PCA leaves, the last ones of little weight."""
KISSME_SHARE = 0.01
"""Regularisation: iLIDS-VID and PRID 2011 have no more same-person train pairs than PCA dimensions."""
XQDA_SHARE = 0.001
"""Liao's regularisation."""
SETTINGS = {
    "pca_dimensions_at_most": PCA_DIMENSIONS,
    "lfda_neighbours": LFDA_NEIGHBOURS,
    "lfda_regularisation": LFDA_SHARE,
    "kissme_regularisation": KISSME_SHARE,
    "xqda_regularisation": XQDA_SHARE,
}
PCA, PCA_LFDA, PCA_KISSME, XQDA = "PCA", "PCA + LFDA", "PCA + KISSME", "XQDA"


def learn(train: Float[np.ndarray, "N E"], table: TrackletTable) -> dict[str, Float[np.ndarray, "E _"]]:
    """The maps of the table's rows, by name, of train embeddings in the order of their table.

    Raises:
        ValueError: see the metrics.
    """
    known = np.flatnonzero(table.person > DISTRACTOR)
    x, person, camera = train[known], table.person[known], table.camera[known]
    first = metric_learning.pca(x, min(PCA_DIMENSIONS, len(x) - 1, x.shape[1]))
    dimensions = first.shape[1]
    reduced = x.astype(np.float64) @ first
    return {
        PCA: first,
        PCA_LFDA: first @ metric_learning.lfda(reduced, person, dimensions, LFDA_NEIGHBOURS, LFDA_SHARE),
        PCA_KISSME: first @ metric_learning.kissme(reduced, person, camera, KISSME_SHARE),
        XQDA: metric_learning.xqda(x, person, camera, XQDA_SHARE),
    }
