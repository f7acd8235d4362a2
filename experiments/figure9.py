"""Fig. 9: CMC curves of a run, of the metrics learnt on its embeddings, and of what they must improve on.

As in:

    python -m experiments.figure9 --workdir runs/mars

Where the paper has numbers for the data set (Table VII) they are drawn as hollow marks; the numbers of both are in
`experiments.table7`. 8 s (MARS subset) and 3 s (walkers) after that table on 2 cores of an Intel Xeon. Written to
WORKDIR/paper/figure9.json, .png and .pdf.
"""

from experiments import finished_run
from reid_jax import comparison, evaluate, figures, learnt_metrics, pictures, products, published, scoring
from reid_jax.retrieval import RetrievalResult, results_record
from reid_jax.studies import Study

NAME = "figure9"
OURS = "ours"
CURVES = {
    OURS: published.OURS,
    "ours + LFDA": published.LFDA,
    "ours + KISSME": published.KISSME,
    "RCN": published.RCN,
    scoring.HISTOGRAM: None,
}
"""Curves in the order of their colours, and the paper's row for each."""


def curves(study: Study) -> dict[str, RetrievalResult]:
    """The result behind each curve that can be made of this run."""
    learnt = learnt_metrics.learn(study.train_embeddings, study.splits.train.table)
    found = {OURS: study.score(study.sides)}
    for name, metric in (("ours + LFDA", learnt_metrics.PCA_LFDA), ("ours + KISSME", learnt_metrics.PCA_KISSME)):
        sides = evaluate.map_sides(study.sides, learnt[metric])
        found[name] = comparison.euclidean(sides, study.task, study.config)
    return found | {scoring.HISTOGRAM: evaluate.evaluate_histogram(study.splits.test, study.config)}


def make(study: Study) -> products.Product:
    """Draws the curves and writes them.

    Raises:
        ValueError: see the metrics.
    """
    found, dataset = curves(study), study.config.data.dataset
    paper_rows = published.TABLE_7.get(dataset, {})
    paper = {name: paper_rows[row] for name, row in CURVES.items() if row in paper_rows}
    figure = pictures.cmc_figure({name: one.cmc for name, one in found.items()}, paper, list(CURVES), dataset)
    figures.save(figure, products.path_of(study.workdir, NAME))
    records = {name: results_record(one) for name, one in found.items()}
    product = products.make(
        NAME,
        "Fig. 9: CMC curves",
        f"The metrics are learnt on the run's train tracklets and compare by Euclidean distance. {scoring.HISTOGRAM}: "
        "what colour alone can do.",
        study.provenance(),
        ("", *comparison.HEADINGS),
        [(name, *comparison.figures_beside(record, paper.get(name))) for name, record in records.items()],
        {"cmc": {name: one.cmc.tolist() for name, one in found.items()}, "paper": comparison.by_rank(paper)},
        products.probes_of(records[OURS]),
    )
    products.save(study.workdir, product, study.key())
    return product


if __name__ == "__main__":
    finished_run.start(make, __doc__)
