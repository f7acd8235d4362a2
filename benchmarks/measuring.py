"""Rows of figures, and how they are taken: medians of interleaved runs, agreement, memory of a process of its own."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

Seconds = dict[Any, list[float]]

IN_A_ROW = 3
"""Calls that are timed at a turn: each turn has untimed ones too, which may take seconds."""
SETTLED, AT_MOST = 0.5, 8
"""Seconds of untimed calls at a turn, of one call at least and so many at most; at the first turn another one is made,
for what is compiled does not count."""
LAYOUTS = ("contiguous_format", "channels_last")
"""PyTorch's memory layouts, of which the better one counts."""


@dataclass(frozen=True)
class Row:
    """One measured figure: the median of its runs and their range."""

    name: str
    value: float
    unit: str
    low: float
    high: float
    reference: float | None = None
    """What it is compared with, in the same unit: PyTorch's median, or what `against` says."""
    against: str = "PyTorch"
    ratio: float | None = None
    """`value` over `reference`."""
    goal: float | None = None
    """The ratio that is aimed at, or the value where there is no reference."""
    at_least: bool = False
    """Whether the goal is a lower bound; else it is an upper one."""
    curve: str = ""
    """Which curve of the plot it lies on, if any, and where."""
    at: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        found = self.value if self.ratio is None else self.ratio
        return found >= self.goal if self.at_least else found <= self.goal

    def record(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return {**asdict(self), "met": self.met}


def row_of(name: str, seconds: Sequence[float], reference: Sequence[float] | None = None, **others: Any) -> Row:
    """A row of seconds, compared with the reference's."""
    median = statistics.median(seconds)
    beside = None if reference is None else statistics.median(reference)
    ratio = None if beside is None else median / beside
    return Row(name, median, "s", min(seconds), max(seconds), beside, ratio=ratio, **others)


def single(name: str, value: float, unit: str, reference: float | None = None, **others: Any) -> Row:
    """A row of something that is measured once."""
    ratio = None if reference is None else value / reference
    return Row(name, value, unit, value, value, reference, ratio=ratio, **others)


def interleaved(
    work: Mapping[Any, Callable[[], Any]], runs: int, check: Callable[[Mapping[Any, Any]], None] | None = None
) -> Seconds:
    """Wall-clock seconds of so many runs of every function, `IN_A_ROW` of them at each of its turns.

    The first calls of a turn are not timed: they find cold caches and, where the system takes idle memory back, no
    memory, which a step that follows another one never does. What the very first calls return is given to `check`,
    which raises AssertionError where they disagree.
    """
    seconds: Seconds = {name: [] for name in work}
    first: dict[Any, Any] = {}
    for done in range(0, runs, IN_A_ROW):
        for name, function in work.items():
            start = time.perf_counter()
            result = jax.block_until_ready(function())
            settled = [time.perf_counter() - start if done else 0.0]
            if check is not None:
                first[name] = result
            del result  # Held, as what is compared is for the first turn, it keeps its memory from the timed calls.
            while sum(settled) < SETTLED and len(settled) < AT_MOST:
                settled.append(timed(function))
            seconds[name] += [timed(function) for _ in range(min(IN_A_ROW, runs - done))]
        if check is not None:
            check(first)
            check = None
            first.clear()
    return seconds


def timed(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def assert_agree(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float) -> None:
    """Raises AssertionError unless arrays of the same names differ by `tolerance` of their length at most."""
    assert ours.keys() == theirs.keys(), (sorted(ours), sorted(theirs))
    for name in ours:
        one, other = np.asarray(ours[name]), np.asarray(theirs[name])
        assert one.shape == other.shape, (name, one.shape, other.shape)
        difference = np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-30)
        assert difference <= tolerance, f"{name} differs by {difference:.1e} of its length, more than {tolerance}"


def peak_memory() -> float:
    """This process's, in MB; `getrusage` would count what its parent had when it was started."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result from a fresh process, so that its peak memory and its start are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_own_processes(*calls: tuple[Any, ...]) -> list[Any]:
    """The results of `(function, *arguments)`, each from a process of its own, side by side: of what is not timed."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: in_own_process(*call), calls))


def with_peak(function: Callable[..., Any], *arguments: Any) -> float:
    """Peak memory in MB of this process after the function; to be called in a process of its own."""
    function(*arguments)
    return peak_memory()
