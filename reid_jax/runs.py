"""A whole run in a work directory: train, evaluate, leave everything behind; and taking a finished run up again."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from reid_jax import evaluate, pictures, train
from reid_jax import network as networks
from reid_jax import workdir as workdirs
from reid_jax.checkpoints import Checkpoints
from reid_jax.config import Config
from reid_jax.data import training_batches
from reid_jax.features import ReaderOf, cached_features
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.retrieval import RetrievalResult, results_record
from reid_jax.sampling import index_pairs
from reid_jax.tracklets import Splits, Tracklets, hold_out

CHECKPOINTS = "checkpoints"
TRAINED, UNTRAINED, AVERAGE, HISTOGRAM = "trained", "untrained network", "average-pooled features", "HSV histogram"


def feature_readers(network: Network, variables: Parameters, tracklets: Tracklets) -> ReaderOf | None:
    """Readers of cached features where the configuration asks for them, else None: frames are decoded."""
    config = network.config
    if not config.backbone.cache_features:
        return None
    return cached_features(network, variables, tracklets, Path(config.data.data_dir) / "features")


def fit_run(config: Config, workdir: Path, splits: Splits) -> bool:
    """Trains in an opened work directory, from its latest checkpoint if it has one; whether it reached the last step.

    Raises:
        reid_jax.train.Diverged: a step gave a NaN or Inf.
    """
    tracklets, held_out = hold_out(splits.train, config.data.validation_persons, config.seed)
    network = networks.build(config, len(index_pairs(tracklets.table).person))
    state = train.initial_state(network)
    checkpoints = Checkpoints(workdir / CHECKPOINTS, read_only=False)
    readers = feature_readers(network, state.variables, splits.train)
    first_batch = 0
    if (step := checkpoints.latest()) is not None:
        state, first_batch = checkpoints.restore(step, state)
    log = workdirs.MetricsLog(workdir, int(state.step))
    batches = training_batches(
        tracklets,
        config.data,
        config.train.batch_pairs,
        config.seed,
        readers(tracklets) if readers else None,
        first_batch=first_batch,
    )
    try:
        validate = partial(validation_map, network, held_out, readers) if held_out else None
        return train.fit(network, state, batches, checkpoints, log, validate)[1]
    finally:
        batches.close()
        checkpoints.close()
        log.close()


def validation_map(network: Network, held_out: Tracklets, readers: ReaderOf | None, variables: Parameters) -> float:
    """mAP in percent on the held-out persons, under `mars_official` with the plain frames."""
    settings = replace(network.config.evaluate, protocol="mars_official", conditions=1)
    plain = replace(network, config=replace(network.config, evaluate=settings))
    return 100 * evaluate.evaluate_network(plain, variables, held_out, readers).mean_ap


def load_run(workdir: Path, step: int | None = None) -> tuple[Network, Parameters]:
    """The network of a run and its variables at `step`, by default the best checkpoint.

    Raises:
        reid_jax.workdir.WorkDirError: there is no run, or it has no checkpoint yet.
    """
    config = workdirs.read_config(workdir)
    checkpoints = Checkpoints(workdir / CHECKPOINTS, read_only=True) if (workdir / CHECKPOINTS).exists() else None
    if checkpoints is None or (step := checkpoints.best() if step is None else step) is None:
        raise workdirs.WorkDirError(f"{workdir} has no checkpoint yet; train it first, with --resume")
    persons = (checkpoints.shape(step, "variables", "head", "identity", "directions") or (0,))[0]
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    network = networks.build(config, persons)
    like = jax.eval_shape(lambda key: train.state_of(network, networks.draw(network, key)), jax.random.key(0))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like)
    state, _ = checkpoints.restore(step, like)
    checkpoints.close()
    return network, state.variables


def evaluate_run(config: Config, workdir: Path, splits: Splits) -> dict[str, Any]:
    """Scores a run's best checkpoint on the test persons, prints the table, and writes results and pictures.

    `config` may differ from the run's own in how it evaluates. Returns what results.json holds.
    """
    network, variables = load_run(workdir)
    network = replace(network, config=config)
    rows = score_all(network, variables, splits.test)
    results = {
        "dataset": config.data.dataset,
        "protocol": config.evaluate.protocol,
        "distance": config.evaluate.distance,
        "average_precision": config.evaluate.average_precision,
        **results_record(rows[TRAINED]),
        "data": splits.description,
        "split": config.data.split,
        "preset": config.preset,
        "commit": workdirs.code_version(),
        "baselines": {name: results_record(row) for name, row in rows.items() if name != TRAINED},
    }
    print_results(results, rows)
    workdirs.write_json(workdir / workdirs.RESULTS, results)
    (workdir / "results").mkdir(exist_ok=True)
    workdirs.write_json(workdir / "results" / f"{results['protocol']}-{results['distance']}.json", results)
    pictures.save_cmc(workdir / "cmc.png", {name: row.cmc for name, row in rows.items()}, results["protocol"])
    pictures.save_attention(workdir / "attention.png", network, variables, splits.test)
    return results


def score_all(network: Network, variables: Parameters, test: Tracklets) -> dict[str, RetrievalResult]:
    """The trained network's result and, where `baselines` is set, what it must improve on, by the same evaluator."""
    readers = feature_readers(network, variables, test)
    rows = {TRAINED: evaluate.evaluate_network(network, variables, test, readers)}
    if network.config.evaluate.baselines:
        untrained = networks.initialise(network, jax.random.key(network.config.seed))
        rows[UNTRAINED] = evaluate.evaluate_network(network, untrained, test, readers)
        rows[AVERAGE] = evaluate.evaluate_average(network, untrained, test, readers)
        rows[HISTOGRAM] = evaluate.evaluate_histogram(test, network.config)
    return rows


def print_results(results: dict[str, Any], rows: dict[str, RetrievalResult]) -> None:
    """The final table, with the probes that were scored and skipped."""
    title = f"{results['data']}: {results['protocol']}, {results['distance']}, AP {results['average_precision']}"
    table = Table(title=title)
    for column in ("", "rank-1", "rank-5", "rank-10", "rank-20", "mAP", "probes", "skipped", "gallery"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in rows.items():
        record = results_record(row)
        percent = [f"{record[key]:.1f}" for key in ("rank1", "rank5", "rank10", "rank20", "map")]
        table.add_row(name, *percent, *(str(record[key]) for key in ("probes", "skipped", "gallery")))
    Console(width=120).print(table)
