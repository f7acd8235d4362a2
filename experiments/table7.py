"""Table VII, the paper's own rows: metric learning on the embeddings of a finished run.

As in:

    python -m experiments.table7 --workdir runs/mars

The metrics are learnt on the run's train tracklets (its held-out persons among them) and scored on its test persons;
the table is also written to WORKDIR/paper/table7.json.

Rank-1, rank-5 and mAP on the MARS subset (8 frames a tracklet, mars_official, preset `default`, seed 0), beside the
paper's rank-1 and rank-5 on all of MARS: Euclidean 75.9, 89.2, 62.2 (69.7, 83.4); PCA 74.1, 88.9, 61.7; PCA + LFDA
72.7, 85.7, 57.5 (71.3, 85.1); PCA + KISSME 76.4, 87.7, 61.7 (73.5, 85.0); XQDA 74.4, 87.7, 61.1. With 406 probes, a
rank is known to about 2.3 points: that KISSME or LFDA gains is not seen. On
walkers rank-1 and mAP: 64.5, 57.2; 66.0, 57.9; 58.9, 56.2; 61.7, 56.8; 66.0, 59.2. On 2 cores of an Intel Xeon 232 s
and 31 s.
"""

from experiments import finished_run
from reid_jax import comparison, evaluate, learnt_metrics, products, published
from reid_jax.studies import Study

NAME = "table7"
EUCLIDEAN = "Euclidean"
PAPER_ROWS = {
    EUCLIDEAN: published.OURS,
    learnt_metrics.PCA_LFDA: published.LFDA,
    learnt_metrics.PCA_KISSME: published.KISSME,
}


def make(study: Study) -> products.Product:
    """Scores every metric on a run's test persons, and writes the table.

    Raises:
        ValueError: see the metrics.
    """
    learnt = learnt_metrics.learn(study.train_embeddings, study.splits.train.table)
    sides = {EUCLIDEAN: study.sides} | {name: evaluate.map_sides(study.sides, found) for name, found in learnt.items()}
    records = {name: comparison.euclidean_record(both, study.task, study.config) for name, both in sides.items()}
    published_rows = published.TABLE_7.get(study.config.data.dataset, {})
    paper = {row: published_rows[name] for row, name in PAPER_ROWS.items() if published_rows}
    product = products.make(
        NAME,
        "Table VII: metric learning",
        "The run's own embeddings, and what PCA, LFDA, KISSME and XQDA, learnt on its train tracklets, make of them.",
        study.provenance("euclidean"),
        ("", "values", *comparison.HEADINGS),
        comparison.rows_beside(records, paper),
        {"rows": records, "paper": comparison.by_rank(paper), "settings": learnt_metrics.SETTINGS},
        products.probes_of(records[EUCLIDEAN]),
    )
    products.save(study.workdir, product, study.key())
    return product


if __name__ == "__main__":
    finished_run.start(make, __doc__)
