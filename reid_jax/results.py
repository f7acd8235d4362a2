"""Finished runs read back from their work directories, and figures over those that differ in seed and split alone."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid_jax import settings
from reid_jax import workdir as workdirs
from reid_jax.config import Config
from reid_jax.presets import preset
from reid_jax.retrieval import mean_and_std

SCORED = ("persons", "protocol", "distance", "whitening", "average_precision")
"""What an evaluation may choose anew, and its results name."""
FREE = {"baselines", "embed_batch", "probe_block"}
"""Settings of an evaluation that leave its figures as they are."""
INDIFFERENT = FREE | workdirs.PLACES | {"log_every"}
"""Settings that no result depends on, beyond the order of sums."""
FIGURES = ("rank1", "rank5", "rank10", "rank20", "map")
REPEATS = {"seed", "split"}
"""Settings over which means are taken."""
UNNAMED = REPEATS | set(SCORED) | {"preset"}
"""Settings that are named elsewhere."""


@dataclass(frozen=True)
class Finished:
    """One evaluation of a finished run."""

    workdir: Path
    config: Config
    """The run's own settings; how it was scored stands in `results`."""
    results: dict[str, Any]


def comparable(config: Config) -> dict[str, Any]:
    """Every setting that a result may depend on, by its name; with nobody held out the best checkpoint is the last."""
    found = {name: value for name, value in workdirs.flatten(config).items() if name not in INDIFFERENT}
    return found if config.data.validation_persons else found | {"checkpoint": "last"}


def differences(config: Config) -> str:
    """The preset, and every setting that differs from it and may change a result."""
    usual = comparable(preset(config.preset, config.data.dataset))
    words = ", ".join(_named(_changed(usual, comparable(config), UNNAMED)))
    return f"{config.preset}: {words}" if words else config.preset


def record(own: Config, scored: Config, step: int, trained: int, description: str) -> dict[str, Any]:
    """What results.json says beside the figures: how the checkpoint of `step` was scored, on what, of a run of settings
    `own` that had been trained for `trained` steps."""
    return {
        "dataset": scored.data.dataset,
        **{name: getattr(scored.evaluate, name) for name in SCORED},
        "altered": altered(own, asdict(scored.evaluate)),
        "data": description,
        "split": scored.data.split,
        "preset": scored.preset,
        "commit": workdirs.code_version(),
        "step": step,
        "trained": trained,
        "evaluate": {name: value for name, value in asdict(scored.evaluate).items() if name not in FREE},
    }


def altered(own: Config, scored: Mapping[str, Any]) -> dict[str, Any]:
    """Which settings of an evaluation are not its run's, beside what `SCORED` names."""
    return _changed(asdict(own.evaluate), scored, FREE | set(SCORED))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], but: set[str]) -> dict[str, Any]:
    return {name: value for name, value in now.items() if name not in but and before[name] != value}


def _named(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={settings.in_words(value)}" for name, value in values.items()]


def file_name(values: Mapping[str, Any]) -> str:
    """Of an evaluation in `results/`: one for each of what it was scored by."""
    whitened = f"whitened{values['whitening']:g}" if values["whitening"] else ""
    precision = "" if values["average_precision"] == "trapezoid" else values["average_precision"]
    whose = "" if values["persons"] == "test" else values["persons"]
    parts = (values["protocol"], values["distance"], whitened, precision, *_named(values["altered"]), whose)
    return "-".join(part for part in parts if part) + ".json"


def read(workdir: Path, config: Config) -> dict[str, Any] | None:
    """The results of a run trained to its end and scored as its settings have it, or None: it is not finished.

    A later evaluation under others replaces results.json but not the file in results/.

    Raises:
        reid_jax.workdir.WorkDirError: a file of results cannot be read.
    """
    wanted = {name: getattr(config.evaluate, name) for name in SCORED}
    for found in _evaluations(workdir, config):
        own = not found["altered"] and all(found[name] == value for name, value in wanted.items())
        if own and found["trained"] >= config.train.steps:
            return found
    return None


def _evaluations(workdir: Path, config: Config) -> list[dict[str, Any]]:
    """Every evaluation in the work directory of a run, one for each of what it was scored by."""
    before = {"whitening": 0.0, "altered": {}, "trained": config.train.steps}  # Of evaluations that did not name them.
    found = {}
    for path in (*sorted((workdir / "results").glob("*.json")), workdir / workdirs.RESULTS):
        try:
            values = json.loads(path.read_text())
            if path.name != workdirs.RESULTS and isinstance(values, dict) and "rank1" not in values:
                continue  # something else about the run
            values = before | values
            if "evaluate" in values:  # The run's own settings may have changed since, when it was resumed.
                values["altered"] = altered(config, values["evaluate"])
            found[_scored_by(values)] = values
        except FileNotFoundError:
            continue
        except (ValueError, TypeError, KeyError) as error:
            raise workdirs.WorkDirError(f"{path} cannot be read ({error!r}); evaluate the run again") from error
    return list(found.values())


def _scored_by(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return *(values[name] for name in SCORED), *values["altered"].items()


def collect(folder: Path) -> tuple[list[Finished], list[str]]:
    """Every evaluation of every finished run below a folder, sorted by place, and what is wrong with the others."""
    found, problems = [], []
    for workdir in (place for place in workdirs.folders_below(folder) if (place / workdirs.CONFIG).exists()):
        try:
            config = workdirs.read_config(workdir)
            for values in _evaluations(workdir, config):
                if values["trained"] < config.train.steps:
                    problems.append(_cut_short(workdir, config, values))
                else:
                    found.append(Finished(workdir, config, values))
        except workdirs.WorkDirError as error:
            problems.append(str(error))
    return found, problems


def _cut_short(workdir: Path, config: Config, values: Mapping[str, Any]) -> str:
    scored = f"{workdir}, {values['protocol']}, {compared_by(values)}"
    return (
        f"{scored}: scored after {values['trained']} of {config.train.steps} steps; train the run to its end and "
        "evaluate it so again"
    )


def without_split(description: str) -> str:
    """A data set's description that is the same for all of its splits."""
    return re.sub(r" split \d+ of (\d+)", r" splits (\1)", description)


def repeats(finished: Sequence[Finished]) -> list[list[Finished]]:
    """The evaluations in groups that are equal but for seed and split, in the order of their first."""
    groups: dict[Any, list[Finished]] = {}
    for one in finished:
        settings = {name: value for name, value in comparable(one.config).items() if name not in REPEATS | set(SCORED)}
        how = _scored_by(one.results), tuple(extended(one.results)), without_split(one.results["data"])
        key = (*sorted(settings.items()), *how)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def extended(values: Mapping[str, Any]) -> list[int]:
    """For how many steps a run that was scored had been meant before it was made longer (see `origin.extended`)."""
    return values.get("extended", [])


def compared_by(values: Mapping[str, Any]) -> str:
    """The distance of an evaluation, how far embeddings were whitened before it, and what it chose otherwise."""
    whitened = [f"whitened {values['whitening']:g}"] if values["whitening"] else []
    return ", ".join([values["distance"], *whitened, *_named(values["altered"])])


def figures(values: Mapping[str, Any]) -> dict[str, float]:
    """Rank-1, 5, 10, 20 and mAP in percent of what results.json holds, or of one of its baselines."""
    return {name: values[name] for name in FIGURES}


def in_words(records: Sequence[Mapping[str, float]], quantity: str) -> str:
    """Mean and deviation of a figure over records, as `62.4 ± 1.2`; of one record its value, of none a dash."""
    if not records:
        return "-"
    means = mean_and_std(records)
    return f"{means[quantity]:.1f}" + (f" ± {means[f'{quantity}_std']:.1f}" if len(records) > 1 else "")
