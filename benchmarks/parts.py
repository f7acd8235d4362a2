"""One part of the benchmark: what it is called, and its entry of results.json."""

import os
import platform
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

import jax

from benchmarks import report
from benchmarks.measuring import in_own_process
from reid_jax import tuning
from reid_jax import workdir as workdirs

Part = Literal[
    "recurrence", "training", "embedding", "retrieval", "input", "compile", "backbones",
    "accelerator_head", "accelerator_step", "accelerator_backbone",
]  # fmt: skip
MODULES = {"backbones": "backbone_rows"}


def machine() -> dict[str, Any]:
    """What it is measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    backend = jax.default_backend()
    processor = names[0] if names else platform.processor()
    found = {"processor": processor, "cores": os.cpu_count(), "memory_gib": round(memory), "backend": backend}
    return found if backend == "cpu" else {**found, "accelerator": jax.devices()[0].device_kind}


def parts_here() -> tuple[Part, ...]:
    """Those that this machine can measure: asked in a process of its own, since JAX keeps an accelerator's memory."""
    accelerated = in_own_process(jax.default_backend) != "cpu"
    return tuple(part for part in Part.__args__ if accelerated or not part.startswith("accelerator"))


def versions() -> dict[str, str]:
    """Of what computes."""
    found = {}
    for name in ("jax", "jaxlib", "numpy", "torch", "torchvision"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def measure_part(name: Part, quick: bool) -> dict[str, Any]:
    """A part's entry of results.json; to be called in a process of its own."""
    tuning.keep_compiled()  # Where compiling is measured it is in other processes, which have folders of their own.
    start = time.perf_counter()
    rows = []
    for row in import_module(f"benchmarks.{MODULES.get(name, name)}").measure(quick):
        # Minutes may lie between two of them, and the part may be stopped: what is known is told, all of it.
        print(f"{report.line(row.record())} {time.perf_counter() - start:.0f} s", flush=True)
        rows.append(row)
    about = {"machine": machine(), "versions": versions(), "commit": workdirs.code_version(), "quick": quick}
    return {**about, "minutes": (time.perf_counter() - start) / 60, "rows": [row.record() for row in rows]}
