"""How much of a finished run's attention falls on the person, and on the frames in which they are not hidden.

As in:

    python -m experiments.attention --workdir runs/walkers

Only for data that say where the person is, as walkers do. Prints the shares beside those of uniform weights and writes
`results/attention.json` in the work directory.
"""

import dataclasses

from rich.console import Console
from rich.table import Table

from experiments import finished_run
from reid_jax import grounding, workdir
from reid_jax.studies import Study, check_attention

SEEN = 0.6
"""A frame counts as unoccluded where at least this share of the person is in sight."""


def make(study: Study) -> None:
    """Measures a run's attention, prints the table and writes the file."""
    check_attention(study, "the share of attention")
    where, when = grounding.measure(study.network, study.variables, study.splits.test, SEEN)
    table = Table(title=f"attention of {study.workdir}, test persons")
    for column in ("", "attended", "uniform", "counted"):
        table.add_column(column, justify="left" if not column else "right")
    for name, share, unit in (
        ("location weight on the person's box", where, "frames"),
        (f"temporal weight on frames that show {SEEN:.0%} of the person", when, "tracklets"),
    ):
        table.add_row(name, f"{100 * share.attended:.1f}", f"{100 * share.uniform:.1f}", f"{share.count} {unit}")
    Console(width=120).print(table)
    place = study.workdir / "results"
    place.mkdir(exist_ok=True)
    record = {"location": dataclasses.asdict(where), "temporal": dataclasses.asdict(when), "threshold": SEEN}
    workdir.write_json(place / "attention.json", record | {"commit": workdir.code_version()})


if __name__ == "__main__":
    finished_run.start(make, __doc__)
