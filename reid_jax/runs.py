"""A run in a work directory: trained there, left with all it is resumed from, and taken up again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from reid_jax import devices, evaluate, locking, origin, train
from reid_jax import network as networks
from reid_jax import workdir as workdirs
from reid_jax.checkpoints import Checkpoints
from reid_jax.config import Config
from reid_jax.data import training_batches
from reid_jax.features import ReaderOf, cached_features
from reid_jax.metrics_log import MetricsLog, NoLog
from reid_jax.model import Parameters
from reid_jax.network import Network
from reid_jax.protocols import PROTOCOLS, check_matched
from reid_jax.sampling import index_pairs
from reid_jax.tracklets import Splits, Tracklets, hold_out
from reid_jax.train import TrainState


def feature_readers(network: Network, variables: Parameters, tracklets: Tracklets) -> ReaderOf | None:
    """Readers of cached features where the configuration asks for them, else None: frames are decoded."""
    config = network.config
    if not config.backbone.cache_features:
        return None
    folder, own = Path(config.data.data_dir).expanduser() / "features", devices.own(variables)
    return devices.first_then_all(lambda: cached_features(network, own, tracklets, folder))


@dataclass(frozen=True)
class OpenRun:
    """A run in its work directory, ready to be trained on."""

    network: Network
    state: TrainState
    """From the latest checkpoint, if there is one."""
    batches: Iterator[dict[str, np.ndarray]]
    """Beginning with the state's next batch."""
    checkpoints: Checkpoints
    log: Callable[[int, dict[str, float]], None]
    validate: Callable[[Parameters], float] | None


def fit_run(config: Config, workdir: Path, splits: Splits, begin: Callable[[], None] | None = None) -> bool:
    """Trains in an opened work directory, from its latest checkpoint if it has one; whether it reached the last step.

    The configured devices share each mini-batch; of several processes all call this. `begin` opens the directory when
    all that is needed to train is there.

    Raises:
        ValueError: the devices cannot share it, or see `opened`.
        reid_jax.train.Diverged: a step gave a NaN or Inf.
    """
    mesh = devices.mesh(config.train.devices, config.train.batch_pairs)
    with opened(config, workdir, splits, mesh, begin) as run:
        return train.fit(run.network, run.state, run.batches, run.checkpoints, run.log, run.validate, mesh)[1]


@contextmanager
def opened(
    config: Config, workdir: Path, splits: Splits, mesh: Mesh | None, begin: Callable[[], None] | None = None
) -> Iterator[OpenRun]:
    """Takes up the run in a work directory that is open, or that `begin` opens; at the end all is written and closed.

    Raises:
        ValueError: the data does not fit the settings, nor, in the end, the protocol.
        reid_jax.workdir.WorkDirError: another process trains there, or the run was trained on other data.
    """
    tracklets, held_out = divided(config, splits)
    check_matched(PROTOCOLS[config.evaluate.protocol](scored_persons(config, splits).table))
    network = networks.build(config, len(index_pairs(tracklets.table).person))
    state = train.initial_state(network)
    readers = feature_readers(network, state.variables, splits.train)
    state, first_batch = devices.replicate(state, mesh), 0
    with ExitStack() as stack:
        devices.first_alone(lambda: stack.enter_context(locking.alone_in(workdir)))
        if begin is not None:
            begin()
        checkpoints = Checkpoints(workdir / workdirs.CHECKPOINTS, read_only=False)
        stack.callback(checkpoints.close)
        if (step := checkpoints.latest()) is not None:
            state, first_batch = checkpoints.restore(step, state)
        devices.first_alone(lambda: origin.note(workdir, splits, config.train, int(state.step)))
        log = MetricsLog(workdir, int(state.step)) if devices.is_first() else NoLog()
        stack.callback(log.close)
        batches = training_batches(
            tracklets,
            config.data,
            config.train.batch_pairs,
            config.seed,
            readers(tracklets) if readers else None,
            first_batch=first_batch,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        stack.callback(batches.close)
        validate = partial(validation_map, network, held_out, readers, mesh=mesh) if held_out else None
        yield OpenRun(network, state, batches, checkpoints, log, validate)


def validation_map(
    network: Network, held_out: Tracklets, readers: ReaderOf | None, variables: Parameters, mesh: Mesh | None = None
) -> float:
    """mAP in percent on the held-out persons, under `mars_official` with the plain frames."""
    settings = replace(network.config.evaluate, protocol="mars_official", conditions=1)
    plain = replace(network, config=replace(network.config, evaluate=settings))
    return 100 * evaluate.evaluate_network(plain, variables, held_out, readers, mesh).mean_ap


def chosen_step(workdir: Path, choice: Literal["best", "last"] | None = None) -> int:
    """The step of the checkpoint that a run is scored and used by: its settings' choice, or another.

    Raises:
        reid_jax.workdir.WorkDirError: it has no checkpoint yet.
    """
    return checkpoint_steps(workdir, choice or workdirs.read_config(workdir).evaluate.checkpoint)[0]


def checkpoint_steps(workdir: Path, choice: Literal["best", "last"]) -> tuple[int, int]:
    """The steps of a run's best or last checkpoint, as is asked for, and of the last.

    Raises:
        reid_jax.workdir.WorkDirError: it has no checkpoint yet.
    """
    workdirs.read_config(workdir)
    best = latest = None
    if (workdir / workdirs.CHECKPOINTS).exists():
        with closing(Checkpoints(workdir / workdirs.CHECKPOINTS, read_only=True)) as checkpoints:
            best, latest = checkpoints.best(), checkpoints.latest()
    if best is None or latest is None:
        raise workdirs.WorkDirError(f"{workdir} has no checkpoint yet; train it first, with --resume")
    return (best if choice == "best" else latest), latest


def load_run(workdir: Path, step: int | None = None, mesh: Mesh | None = None) -> tuple[Network, Parameters]:
    """The network of a run and its variables at `step`, by default the chosen one; on a mesh, replicated.

    Raises:
        ValueError: the checkpoint is gone, of another network, or damaged.
        reid_jax.workdir.WorkDirError: there is no run, or it has no checkpoint yet.
    """
    config = workdirs.read_config(workdir)
    step = chosen_step(workdir) if step is None else step
    here = NamedSharding(mesh, PartitionSpec()) if mesh is not None else SingleDeviceSharding(jax.devices()[0])
    with closing(Checkpoints(workdir / workdirs.CHECKPOINTS, read_only=True)) as checkpoints:
        persons = (checkpoints.shape(step, "variables", "head", "identity", "directions") or (0,))[0]
        network = networks.build(config, persons)
        like = jax.eval_shape(lambda key: train.state_of(network, networks.draw(network, key)), jax.random.key(0))
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like)
        state, _ = checkpoints.restore(step, like)
    return network, state.served


def scored_persons(config: Config, splits: Splits) -> Tracklets:
    """The tracklets that the final table is of: of the test persons, or of those held out of training."""
    if config.evaluate.persons == "test":
        return splits.test
    return divided(config, splits)[1]


def divided(config: Config, splits: Splits) -> tuple[Tracklets, Tracklets | None]:
    """The train split's tracklets that a run is trained on, and those of its held-out persons, if there are any."""
    return hold_out(splits.train, config.data.validation_persons, config.seed)
