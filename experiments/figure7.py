"""Fig. 7: rank-1 as a function of how many frames of probe and gallery tracklets the network sees: 1, 2, 4 ... 128.

As in:

    python -m experiments.figure7 --workdir runs/mars

Tracklets are cut to their first frames (with `--protocol rcn_first_last`, as in the paper's source, probes to their
first and the gallery to its last); shorter ones are taken whole. The paper's bars carry no numbers; it reads from them
that longer sequences help on either side, and longer gallery sequences more than longer probes. Ours, preset `default`:
56.7 (1 frame each) to 76.1 (8 each, all there are) on the MARS subset, 58.9 to 64.5 on walkers; 8 frames of a probe
against 1 of the gallery give 68.0 and 56.7, 1 against 8 66.0 and 57.4. 168 s and 16 s on 2 cores of an Intel Xeon.
Written to WORKDIR/paper/figure7.json, .png and .pdf.
"""

import numpy as np

from experiments import finished_run
from reid_jax import figures, lengths, products
from reid_jax.retrieval import results_record
from reid_jax.studies import Study

NAME = "figure7"


def make(study: Study) -> products.Product:
    """Scores every pair of lengths on a run's test persons, writes the matrix and draws it."""
    frames = study.splits.test.table.length
    chosen = lengths.powers_of_two(int(frames.max()))
    results = [[results_record(one) for one in row] for row in lengths.results_by_length(study, chosen)]
    names = [str(length) for length in chosen]
    matrices = {name: np.array([[one[name] for one in row] for row in results]) for name in ("rank1", "map")}
    unknown = np.full((len(chosen), len(chosen)), np.nan)
    provenance = study.provenance()
    figures.save_heat_maps(
        products.path_of(study.workdir, NAME),
        ("frames of a probe, at most", names),
        ("frames of a gallery tracklet, at most", names),
        {"rank-1 (%)": matrices["rank1"]},
        {"rank-1 (%)": unknown},
        f"{provenance.dataset}: {provenance.scored.replace('`', '')}",
    )
    cut = ", ".join(f"{length}: {100 * float((frames > length).mean()):.1f}%" for length in chosen)
    product = products.make(
        NAME,
        "Fig. 7: length of probe and gallery sequences, rank-1",
        "Rows are the frames of a probe, columns those of a gallery tracklet, at most. Share of the test tracklets "
        f"that are longer and hence cut, by length: {cut}.",
        provenance,
        ("probe \\ gallery", *names),
        [(name, *row) for name, row in zip(names, matrices["rank1"].tolist(), strict=True)],
        {"lengths": chosen, **{quantity: matrix.tolist() for quantity, matrix in matrices.items()}},
        products.probes_of(results[-1][-1]),
    )
    products.save(study.workdir, product, study.key())
    return product


if __name__ == "__main__":
    finished_run.start(make, __doc__)
