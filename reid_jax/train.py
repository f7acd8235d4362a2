"""Training (section IV, V.B): state, the compiled step, and the loop that runs, saves and resumes it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray
from tqdm import tqdm

from reid_jax import devices, objective
from reid_jax import network as networks
from reid_jax.checkpoints import Checkpoints
from reid_jax.config import TrainConfig
from reid_jax.model import Parameters
from reid_jax.network import Batch, Network
from reid_jax.objective import Metrics
from reid_jax.optimizer import learning_rate, make_optimizer, parameter_parts
from reid_jax.precision import in_its_precision
from reid_jax.settings import Number, is_on

_TRAINING = 2**31
"""What a run's training key is folded from its seed's with."""


class Diverged(RuntimeError):
    """The loss or the parameters are no longer finite."""


@flax.struct.dataclass
class TrainState:
    """Everything a step changes; together with the data's position, all that resuming needs.

    The fields are not checked: JAX and Orbax fill pytrees with other things than arrays on their way.
    """

    step: Any
    """int32 []: steps taken."""
    variables: Parameters
    optimizer: optax.OptState
    averaged: Any
    """Parameters: the running average of the variables, empty where the configuration has none."""
    broken_at: Any
    """int32 []: number of steps before the first that gave a NaN or Inf, or -1."""

    @property
    def served(self) -> Parameters:
        """The variables that are scored and used: the average, where there is one."""
        return self.averaged or self.variables


def trained(variables: Parameters) -> Parameters:
    """The variables that have gradients."""
    return {name: variables[name] for name in ("backbone", "head")}


def training_key(seed: int) -> PRNGKeyArray:
    """What every step's key is folded from. The seed's own key, split, draws the first variables: split n ways it
    gives what folding in 0 to n - 1 does, so steps have to be folded into another one."""
    return jax.random.fold_in(jax.random.key(seed), _TRAINING)


def initial_state(network: Network) -> TrainState:
    """The state before the first step; it follows from the configuration and its seed."""
    return state_of(network, networks.initialise(network, jax.random.key(network.config.seed)))


def state_of(network: Network, variables: Parameters) -> TrainState:
    """The state of given variables before the first step."""
    optimizer = make_optimizer(network.config).init(trained(variables))
    averaged = jax.tree.map(jnp.copy, variables) if is_on(network.config.train.average) else {}
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer, averaged, jnp.full((), -1, jnp.int32))


@partial(jax.jit, static_argnames=("network", "mesh"), donate_argnames="state")
def train_step(
    network: Network, state: TrainState, batch: Batch, key: PRNGKeyArray, mesh: Mesh | None = None
) -> tuple[TrainState, Metrics]:
    """One step of the optimiser; its randomness follows from the run's key and the step alone.

    On a mesh the state and the key are replicated, the batch is split by its pairs (see `devices`).
    """
    return devices.keep_replicated(one_step(network, state, batch, key), mesh)


@in_its_precision
def one_step(network: Network, state: TrainState, batch: Batch, key: PRNGKeyArray) -> tuple[TrainState, Metrics]:
    """`train_step` before compilation."""
    key = jax.random.fold_in(key, state.step)
    parts = parameter_parts(trained(state.variables), network.config)

    def loss(parameters: Parameters) -> tuple[Array, tuple[Metrics, Any]]:
        open_parts = jax.tree.map(
            lambda leaf, part: jax.lax.stop_gradient(leaf) if part == "frozen" else leaf, parameters, parts
        )
        return objective.batch_loss(network, {**state.variables, **open_parts}, batch, key)

    (_, (metrics, statistics)), gradients = jax.value_and_grad(loss, has_aux=True)(trained(state.variables))
    updates, optimizer = make_optimizer(network.config).update(gradients, state.optimizer, trained(state.variables))
    parameters = optax.apply_updates(trained(state.variables), updates)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    metrics["learning_rate"] = learning_rate(network.config)(state.step)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(optax.tree.norm(updates))
    broken_at = jnp.where((state.broken_at < 0) & ~finite, state.step, state.broken_at)
    variables = {**state.variables, **parameters, **statistics}
    averaged = running_average(network.config.train.average, state, variables)
    return TrainState(state.step + 1, variables, optimizer, averaged, broken_at), metrics


def running_average(kept: Number, state: TrainState, variables: Parameters) -> Parameters:
    """The average after a step. In the first steps less is kept: their variables are those before training."""
    if not state.averaged:
        return {}
    kept = jnp.minimum(kept, (1.0 + state.step) / (10.0 + state.step))
    return jax.tree.map(lambda old, new: kept * old + (1.0 - kept) * new, state.averaged, variables)


def check_finite(broken_at: int, checkpoints: Checkpoints) -> None:
    """Raises Diverged where a step has produced a NaN or Inf, naming it and the last good checkpoint."""
    if (step := broken_at) >= 0:
        good = checkpoints.latest()
        where = "none was saved before it" if good is None else f"the last good checkpoint is {checkpoints.path(good)}"
        raise Diverged(
            f"step {step + 1} gave a loss or an update that is not finite; {where}. A lower learning_rate, a longer "
            "warmup_steps, or initial=scaled usually helps."
        )


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a question asked between steps; a second SIGINT interrupts at once.

    In a thread that is not the main one nothing asks: signals are the main one's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = []

    def ask(number: int, _: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(
    network: Network,
    state: TrainState,
    batches: Iterator[dict[str, np.ndarray]],
    checkpoints: Checkpoints,
    log: Callable[[int, dict[str, float]], None],
    validate: Callable[[Parameters], float] | None,
    mesh: Mesh | None = None,
) -> tuple[TrainState, bool]:
    """Trains from `state` to the configured number of steps; returns the last state and whether it was reached.

    `batches` begins with the batch of `state.step`. Metrics go to `log` every `log_every` steps and with every
    checkpoint, which are saved every `checkpoint_every` steps and at the end, with `validate`'s score every
    `validate_every`. SIGINT and SIGTERM save, then end. On a mesh the state is replicated, and `batches` gives this
    process's pairs of each mini-batch.

    Raises:
        Diverged: a step gave a NaN or Inf.
    """
    settings, start = network.config.train, int(state.step)
    program, key = networks.program(network), devices.replicate(training_key(network.config.seed), mesh)
    metrics, since = [], time.perf_counter()
    hidden = not devices.is_first()
    # Steps are begun ahead of the device, in bursts: only the mean of all of them tells how long the rest takes.
    bar = tqdm(total=settings.steps, initial=start, desc="training", unit="step", smoothing=0, disable=hidden)
    with stop_requests() as stop, bar:
        for step in range(start + 1, settings.steps + 1):
            batch = next(batches)
            batch = devices.share({name: batch[name] for name in inputs(batch)}, mesh)
            state, step_metrics = train_step(program, state, batch, key, mesh)
            metrics.append(step_metrics)
            bar.update()
            last = step == settings.steps or _agreed(stop, step % settings.log_every == 0)
            saves = last or step % settings.checkpoint_every == 0
            if saves or step % settings.log_every == 0:
                check_finite(int(state.broken_at), checkpoints)
                found = means(jax.device_get(metrics), time.perf_counter() - since)
                log(step, found)
                shown = {name: f"{found[name]:.2f}" for name in ("accuracy", "identified") if name in found}
                bar.set_postfix(loss=f"{found['loss']:.3f}", **shown)
                if saves:
                    save(settings, state, step, checkpoints, log, validate)
                # A window of metrics ends where a run may be taken up again, which then logs the same.
                metrics, since = [], time.perf_counter()
            if last:
                return state, step == settings.steps
    return state, True


def _agreed(stop: Callable[[], bool], logged: bool) -> bool:
    """Whether to stop; several processes ask each other when metrics are logged, to stop after the same step."""
    if jax.process_count() == 1:
        return stop()
    return logged and devices.anywhere(stop())


def means(metrics: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, float]:
    """The mean of each metric over steps that took so many seconds, and how many were taken in one."""
    found = {name: float(np.mean([values[name] for values in metrics])) for name in metrics[0]}
    return found | {"steps_per_second": len(metrics) / seconds}


def save(
    settings: TrainConfig,
    state: TrainState,
    step: int,
    checkpoints: Checkpoints,
    log: Callable[[int, dict[str, float]], None],
    validate: Callable[[Parameters], float] | None,
) -> None:
    """Saves a state, where it is due with its score on the held-out persons."""
    score = None
    if validate is not None and (step == settings.steps or step % settings.validate_every == 0):
        score = validate(state.served)
        log(step, {"validation_map": score})
    checkpoints.save(step, state, score)


def inputs(batch: dict[str, np.ndarray]) -> list[str]:
    """The entries of a batch that the compiled step takes."""
    return [name for name in ("frames", "features", "mask", "same", "person") if name in batch]
