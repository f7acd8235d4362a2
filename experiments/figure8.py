"""Fig. 8: where the network looks over time. Frames, the strongest feature map and the location maps of test tracklets.

As in:

    python -m experiments.figure8 --workdir runs/mars

Six frames each of the longest tracklets of different persons; the feature map is the channel of X_t (Eq. 1) with the
strongest response to the clip, at the frame where it responds. The table is over all test tracklets. The paper's figure
gives no numbers. Ours, preset `default`: a map amounts to 81% of the grid in the median on the MARS subset, where the
penalty is 0.01, and to 99% on walkers, where it is 1: nearly uniform, unlike the paper's pictures. 46 s and 5 s on 2
cores of an Intel Xeon. Written to WORKDIR/paper/figure8.json, .png and .pdf.
"""

import numpy as np

from experiments import finished_run
from reid_jax import clips, focus, pictures, products, strips, studies
from reid_jax.studies import Study

NAME = "figure8"
PERSONS, LONGEST, SHOWN = 3, 16, 6


def make(study: Study) -> products.Product:
    """Draws the clips and measures all test tracklets.

    Raises:
        ValueError: the run's network has no attention.
    """
    studies.check_attention(study, "Fig. 8")
    found = clips.watch(study, pictures.choose_clips(study.splits.test, PERSONS), LONGEST)
    strips.save_attention(products.path_of(study.workdir, NAME), found, SHOWN)
    amount = 100 * focus.measure(study).where
    grid = found[0].locations.shape[1:]
    product = products.make(
        NAME,
        "Fig. 8: attention over time",
        f"Location maps m_t of Eq. 3 on a grid of {grid[0]} x {grid[1]} regions. Regions that a map amounts to: "
        f"exp(entropy of m_t), the mean over a tracklet's frames, of all {len(amount)} test tracklets.",
        study.provenance(),
        ("", "lowest", "first quarter", "median", "third quarter", "highest"),
        [
            (
                "regions that a map amounts to (% of the grid; 100: all alike)",
                *(float(value) for value in np.percentile(amount, (0, 25, 50, 75, 100))),
            )
        ],
        {
            "clips": [{"label": clip.label, "locations": clip.locations.tolist()} for clip in found],
            "amount": amount.tolist(),
        },
    )
    products.save(study.workdir, product, study.key())
    return product


if __name__ == "__main__":
    finished_run.start(make, __doc__)
