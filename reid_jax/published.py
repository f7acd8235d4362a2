"""What the paper reports, to stand beside our own results: CMC in percent, as printed."""

from dataclasses import dataclass

from reid_jax.config import DatasetName


@dataclass(frozen=True)
class Published:
    """One row of the paper."""

    method: str
    table: str
    ranks: tuple[float, float, float, float]
    """Rank-1, 5, 10 and 20 in percent; the paper gives no mAP."""


_FULL, _MUTED = "Ours_G (5x5, 5x5)", "Ours_G (5x5, 5x5), attention muted"
_LFDA, _KISSME, _RCN = "Ours + LFDA", "Ours + KISSME", "RCN"

PUBLISHED: dict[DatasetName, tuple[Published, ...]] = {
    "ilids_vid": (
        Published(_FULL, "Tables III, V-VII", (61.2, 80.7, 90.3, 97.3)),
        Published(_MUTED, "Table III", (51.8, 70.4, 78.8, 85.9)),
        Published(_LFDA, "Table VII", (61.4, 83.4, 91.0, 97.9)),
        Published(_KISSME, "Table VII", (61.9, 86.8, 94.7, 98.6)),
        Published(_RCN, "Table VII", (58.0, 84.0, 91.0, 96.0)),
    ),
    "prid2011": (
        Published(_FULL, "Tables III, V-VII", (74.8, 92.6, 97.7, 98.6)),
        Published(_MUTED, "Table III", (58.6, 77.7, 80.2, 86.8)),
        Published(_LFDA, "Table VII", (75.7, 94.8, 98.3, 98.8)),
        Published(_KISSME, "Table VII", (77.0, 96.4, 99.2, 99.4)),
        Published(_RCN, "Table VII", (70.0, 90.0, 95.0, 97.0)),
    ),
    # The same model's rank-20 is 93.6 in one table and 96.6 in the others.
    "mars": (
        Published(_FULL, "Table III", (69.7, 83.4, 88.3, 93.6)),
        Published(_FULL, "Tables V-VII", (69.7, 83.4, 88.3, 96.6)),
        Published(_MUTED, "Table III", (55.2, 70.6, 77.1, 82.3)),
        Published(_LFDA, "Table VII", (71.3, 85.1, 89.5, 96.9)),
        Published(_KISSME, "Table VII", (73.5, 85.0, 89.5, 97.5)),
        Published(_RCN, "Table VII", (54.7, 79.1, 83.6, 88.4)),
    ),
}
