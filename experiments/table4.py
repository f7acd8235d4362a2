"""Table IV: temporal max, average and attention pooling and Fisher vectors (Eq. 10), on the network of a finished run.

As in:

    python -m experiments.table4 --workdir runs/mars

All rows pool the same hidden states, those of the run's network, so what differs is the pooling alone: no row has the
attended features that `--represent both` puts beside them. The paper's max pooling is of a network trained with it:
train one with `--pooling max` (or `average`) to compare those. Fisher vectors cannot be trained through: a mixture is
fitted on the train tracklets' frame-level states. The two Fisher rows differ in what a descriptor is (see
`reid_jax.fisher`): a frame's state averaged over the grid, or each region's.
The table is also written to WORKDIR/paper/table4.json.

Rank-1 and mAP on the MARS subset (8 frames a tracklet, mars_official, preset `default`, seed 0), beside the paper's
rank-1 on all of MARS: max 73.2, 56.4 (66.8); average 72.7, 56.3 and attention 72.4, 55.9 (69.7 for both); Fisher
vectors of frames 67.2, 50.3 (70.4), of regions 72.9, 57.3. With 406 probes, rank-1 is known to about 2.3 points: the
subset confirms neither that max pooling is the worst nor that Fisher vectors are the best. On walkers: 62.4, 56.5;
66.0, 57.2; 64.5, 57.2; 51.1, 39.8; 61.7, 54.0. On 2 cores of an Intel Xeon 179 s and 37 s, embedding included.
"""

from experiments import finished_run
from reid_jax import comparison, products, published, studies, temporal_pooling
from reid_jax.studies import Study

NAME = "table4"
PAPER_ROWS = {
    "max": published.MAX,
    "average": published.AVERAGE_OR_ATTENTION,
    "attention": published.AVERAGE_OR_ATTENTION,
    temporal_pooling.fisher_name("frame"): published.FISHER,
}
"""Table IV has one row for average and attention."""


def make(study: Study) -> products.Product:
    """Scores every pooling on a run's test persons, and writes the table.

    Raises:
        ValueError: the run's network has no attention, or see `fisher.fit_mixture`.
    """
    studies.check_attention(study, "Table IV")
    records = {
        name: comparison.euclidean_record(sides, study.task, study.config)
        for name, sides in temporal_pooling.pooled_sides(study).items()
    }
    published_rows = published.TABLE_4.get(study.config.data.dataset, {})
    paper = {row: published_rows[name] for row, name in PAPER_ROWS.items() if published_rows}
    trained = study.config.attention.pooling
    product = products.make(
        NAME,
        "Table IV: temporal pooling",
        f"The same hidden states pooled in several ways, nothing else; the network was trained with {trained} pooling.",
        study.provenance("euclidean"),
        ("", "values", *comparison.HEADINGS),
        comparison.rows_beside(records, paper),
        {
            "rows": records,
            "paper": comparison.by_rank(paper),
            "settings": {"trained_pooling": trained, **temporal_pooling.SETTINGS},
        },
        products.probes_of(records[trained]),
    )
    products.save(study.workdir, product, study.key())
    return product


if __name__ == "__main__":
    finished_run.start(make, __doc__)
