"""The paper's tables and figures, one after the other; what is finished already is skipped.

As in:

    python -m experiments.paper --small
    python -m experiments.paper --workdir runs/mars

On a finished run: Tables IV, VII and VIII, Figs. 5b to 10, and section III.E; a program each, `experiments.table4` and
so on, which this one runs one after the other on the same embeddings. With `--small` also what needs trainings of its
own, all on walkers and at a size for two CPU cores: the run itself, where it is not there yet, Tables II and III and
Fig. 5a. Everything lies in WORKDIR/paper and, of the trainings, in folders beside WORKDIR; `make tables` collects it.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import tyro

from experiments import (
    command_line,
    complexity,
    figure5a,
    figure5b,
    figure6,
    figure7,
    figure8,
    figure9,
    figure10,
    many_runs,
    table3,
    table4,
    table7,
    table8,
)
from reid_jax import products, studies
from reid_jax.presets import preset
from reid_jax.sweeps import SweepRun
from reid_jax.workdir import CONFIG, read_config

ON_ONE_RUN = (table4, table7, figure6, figure7, figure8, figure9, figure10)
SHORT = (
    "--dataset walkers --steps 150 --warmup-steps 20 --checkpoint-every 150 --validate-every 150 --batch-pairs 16 "
    "--conditions 1 --no-baselines"
).split()
"""Flags of the trainings of `--small`."""
TABLE_3 = (
    "--googlenet small_cnn --vgg rcn --channels 32 64 64 --input-kernels 3 5 5 --state-kernels 3 5 5 "
    "--validation-persons 0"
).split()
FIGURE_5A = "--penalties 0 0.1 1 10 --seeds 0 1 --channels 64 --input-kernels 3 --state-kernels 3".split()


class PaperError(ValueError):
    """Some parts could not be made."""


def main(workdir: Path = Path("runs/walkers"), beside: Sequence[Path] = (), small: bool = False) -> None:
    """The program.

    Args:
        workdir: the run to look at; with `small` it is trained on walkers if it is not there.
        beside: more finished runs, for Fig. 5b and Table VIII.
        small: also the parts that need trainings of their own, on walkers, at a size for two CPU cores.
    """
    places = [workdir, *beside]
    if small:
        train(workdir)
    study = studies.take_up(config := read_config(workdir), workdir, many_runs.load(config.data))
    parts: dict[str, Callable[[], object]] = {}
    for module in ON_ONE_RUN:
        if products.is_finished(workdir, module.NAME, study.key()):
            print(f"{module.NAME} is finished already")
        else:
            parts[module.NAME] = partial(module.make, study)
    parts[figure5b.NAME] = lambda: figure5b.make(places)
    if products.is_finished(workdir, table8.NAME, table8.key(places)):
        print(f"{table8.NAME} is finished already")
    else:
        parts[table8.NAME] = lambda: table8.make(places)
    parts[complexity.NAME] = lambda: complexity.make(preset("paper", "mars"), workdir)
    if small:
        root = workdir.parent
        parts[table3.NAME] = lambda: table3.main([*SHORT, *TABLE_3, "--workdir", f"{root}/table3-walkers"])
        parts[figure5a.NAME] = lambda: figure5a.main([*SHORT, *FIGURE_5A, "--workdir", f"{root}/figure5a-walkers"])
    make(parts)


def train(workdir: Path) -> None:
    """Trains and evaluates `workdir` unless that was done: as it was begun there, or walkers as preset."""
    begun = (workdir / CONFIG).exists()
    config = read_config(workdir) if begun else preset("default", "walkers")
    many_runs.train([SweepRun(workdir.name, (), config)], workdir.parent)


def make(parts: dict[str, Callable[[], object]]) -> None:
    """Makes one part after the other and prints how long each took.

    Raises:
        PaperError: some failed, which stops no other.
    """
    seconds, failed = {}, {}
    for name, part in parts.items():
        print(f"== {name}", flush=True)
        start = time.monotonic()
        try:
            part()
        except (ValueError, OSError) as error:
            failed[name] = error
            print(f"{name} failed: {error}")
        seconds[name] = time.monotonic() - start
    print("\n".join(f"{name:<12}{taken:8.0f} s" for name, taken in seconds.items()))
    if failed:
        failures = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise PaperError(f"{len(failed)} of {len(parts)} parts failed: {failures}")


if __name__ == "__main__":
    command_line.run(lambda: tyro.cli(main, description=__doc__))
