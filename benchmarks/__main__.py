"""Measures everything that docs/performance.md quotes, and writes it there.

As in:

    python -m benchmarks
    python -m benchmarks --only recurrence retrieval
    python -m benchmarks --quick --folder build/benchmarks

Every part runs in a process of its own. Parts that are not measured keep the figures they have.
"""

import json
from pathlib import Path

import tyro

from benchmarks import report
from benchmarks.measuring import in_own_process
from benchmarks.parts import Part, measure_part, parts_here
from reid_jax import workdir as workdirs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"


def main(only: tuple[Part, ...] = (), quick: bool = False, folder: Path | None = None) -> None:
    """The program.

    Args:
        only: parts to measure (default: all; those of an accelerator are measured where there is one, and only then).
        quick: tiny sizes, to see that everything runs; needs `folder`.
        folder: where to write results.json, performance.md and performance.png (default: into the repository).
    """
    if quick and folder is None:
        raise SystemExit("--quick measures nothing worth keeping: name another --folder for what it writes")
    results_file = ROOT / "benchmarks" / "results.json" if folder is None else folder / "results.json"
    page = PAGE if folder is None else folder / PAGE.name
    results_file.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(results_file.read_text()) if results_file.exists() else {}
    for name in only or parts_here():
        print(f"{name} ...", flush=True)
        results[name] = in_own_process(measure_part, name, quick)
        workdirs.write_json(results_file, results)
        print("\n".join(report.table(results[name]["rows"])), flush=True)
        report.write(results, PAGE, page, page.with_suffix(".png"))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
