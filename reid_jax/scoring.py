"""Scoring a finished run: its table beside what it must improve on, and the pictures of it, in its work directory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from reid_jax import devices, evaluate, origin, pictures, runs, whitening
from reid_jax import network as networks
from reid_jax import workdir as workdirs
from reid_jax.config import Config
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.results import FIGURES, compared_by, file_name, record
from reid_jax.retrieval import RetrievalResult, results_record
from reid_jax.tracklets import Splits, Tracklets

TRAINED, UNTRAINED, AVERAGE, HISTOGRAM = "trained", "untrained network", "average-pooled features", "HSV histogram"


def evaluate_run(config: Config, workdir: Path, splits: Splits) -> dict[str, Any]:
    """Scores a run's chosen checkpoint on the configured persons, prints the table, and writes results and pictures.

    `config` may differ from the run's own in how it evaluates. Returns what results.json holds. Of several processes
    all call this, and the first one writes.
    """
    origin.check(workdir, splits)
    mesh = devices.mesh(config.train.devices)
    step, trained = runs.checkpoint_steps(workdir, config.evaluate.checkpoint)
    network, variables = runs.load_run(workdir, step, mesh)
    own, network = network.config, replace(network, config=config)
    scored = runs.scored_persons(config, splits)
    learnt = whitening_of(network, variables, workdir, step, splits, mesh) if config.evaluate.whitening else None
    rows = score_all(network, variables, scored, mesh, learnt)
    results = {
        **results_record(rows[TRAINED]),
        **record(own, config, step, trained, splits.description),
        "extended": origin.extended(workdir, own.train),
        "baselines": {name: results_record(row) for name, row in rows.items() if name != TRAINED},
    }
    if not devices.is_first():
        return results
    if workdirs.read_config(workdir) != own:
        raise workdirs.WorkDirError(
            f"{workdir} was begun anew or changed while it was scored, and these results are not of what it holds now: "
            "evaluate it again"
        )
    print_results(results)
    workdirs.write_json(workdir / workdirs.RESULTS, results)
    (workdir / "results").mkdir(exist_ok=True)
    workdirs.write_json(workdir / "results" / file_name(results), results)
    pictures.save_cmc(workdir / "cmc.png", {name: row.cmc for name, row in rows.items()}, results["protocol"])
    pictures.save_attention(workdir / "attention.png", network, devices.own(variables), scored)
    return results


def whitening_of(
    network: Network, variables: Parameters, workdir: Path, step: int, splits: Splits, mesh: Mesh | None = None
) -> Float[np.ndarray, "E E"]:
    """The map that whitens by the persons a run was trained on: the one kept in its work directory, or a new one."""
    key = whitening.key(network.config, step)
    found = whitening.kept(workdir, key)
    if devices.anywhere(found is None):
        readers = runs.feature_readers(network, variables, splits.train)
        found = whitening.learnt(network, variables, runs.divided(network.config, splits)[0], readers, mesh)
        whitening.keep(workdir, found, key)
    return found


def score_all(
    network: Network,
    variables: Parameters,
    test: Tracklets,
    mesh: Mesh | None = None,
    learnt: Float[np.ndarray, "E R"] | None = None,
) -> dict[str, RetrievalResult]:
    """The trained network's result, behind a `learnt` map if there is one, and, where `baselines` is set, what it must
    improve on, by the same evaluator."""
    readers = runs.feature_readers(network, variables, test)
    rows = {TRAINED: evaluate.evaluate_network(network, variables, test, readers, mesh, learnt)}
    if network.config.evaluate.baselines:
        untrained = devices.replicate(networks.initialise(network, jax.random.key(network.config.seed)), mesh)
        rows[UNTRAINED] = evaluate.evaluate_network(network, untrained, test, readers, mesh)
        rows[AVERAGE] = evaluate.evaluate_average(network, untrained, test, readers, mesh)
        rows[HISTOGRAM] = evaluate.evaluate_histogram(test, network.config)
    return rows


def print_results(results: dict[str, Any]) -> None:
    """The final table, with the probes that were scored and skipped."""
    whose = "" if results["persons"] == "test" else ", persons held out of training"
    compared = f"{compared_by(results)}, AP {results['average_precision']}"
    title = f"{results['data']}{whose}: {results['protocol']}, {compared}"
    table = Table(title=title)
    for column in ("", "rank-1", "rank-5", "rank-10", "rank-20", "mAP", "probes", "skipped", "gallery"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in {TRAINED: results, **results["baselines"]}.items():
        percent = [f"{row[key]:.1f}" for key in FIGURES]
        table.add_row(name, *percent, *(str(row[key]) for key in ("probes", "skipped", "gallery")))
    Console(width=120).print(table)
