"""Several devices, and several processes of them, that share one computation.

JAX compiles one program for all devices of a mesh and adds across them where the function asks for it. So a mini-batch
that is split over devices has the losses, gradients and batch statistics of the whole one, in another order of sums.
The mesh has one axis, over which parameters are replicated and pairs (or clips, or whole trials) are split.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

AXIS = "pairs"
Found = TypeVar("Found")
MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
"""On Linux the memory mappings of this process, a line each, and how many a process may have."""


def mesh(wanted: int, pairs: int | None = None) -> Mesh | None:
    """The mesh of `wanted` devices, or None where that is one: then nothing is placed anywhere.

    0 takes as many as there are and as divide `pairs`, the rows of a mini-batch, where those are given. Every process
    gives as many devices as the others, and their rows lie in the order of the processes.

    Raises:
        ValueError: there are not so many devices, or they cannot share the mini-batch or the processes equally.
    """
    processes = jax.process_count()
    present = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if wanted > len(present):
        raise ValueError(f"devices is {wanted}: there are {len(present)}; set devices to that many at most, or to 0")
    counts = [wanted] if wanted else range(len(present), 0, -1)
    fitting = [count for count in counts if count % processes == 0 and not (pairs and pairs % count)]
    if not fitting:
        raise ValueError(
            f"batch_pairs is {pairs} and devices is {wanted}, in {processes} processes: each device takes an equal "
            "share of a mini-batch and each process an equal number of devices; set batch_pairs to a multiple of the "
            "devices, and devices to a multiple of the processes"
        )
    if fitting[0] == 1:
        return None
    share = fitting[0] // processes
    of_process = [[device for device in present if device.process_index == index] for index in range(processes)]
    return Mesh(np.array([device for own in of_process for device in own[:share]]), (AXIS,))


def size(mesh: Mesh | None) -> int:
    """How many devices share a batch."""
    return 1 if mesh is None else mesh.size


def rows(mesh: Mesh) -> NamedSharding:
    """Arrays split over the mesh by their first axis."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """A pytree of arrays, the same in every process, on every device of the mesh."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)))
        return jax.make_array_from_process_local_data(everywhere, np.asarray(leaf), leaf.shape)

    return jax.tree.map(place, tree)


def share(batch: Mapping[str, Shaped[np.ndarray, "_N ..."]], mesh: Mesh | None) -> dict[str, Any]:
    """A batch's arrays split over the mesh by their first axis; of several processes each gives its own rows."""
    if mesh is None:
        return dict(batch)
    return {name: jax.make_array_from_process_local_data(rows(mesh), array) for name, array in batch.items()}


def keep_replicated(tree: Any, mesh: Mesh | None) -> Any:
    """Within a compiled function: results that every device holds whole."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def whole(array: Shaped[Array | np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """An array's values, also those that other processes hold."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)


def own(tree: Any) -> Any:
    """Replicated arrays as this process's first device holds them, for what it computes alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them have to ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def first_alone(function: Callable[[], Any]) -> None:
    """Process 0 calls the function while the others wait; where it fails there, all fail.

    Raises:
        OSError: process 0 failed; it raises the error itself.
    """
    if jax.process_count() == 1:
        function()
        return
    error = None
    if is_first():
        try:
            function()
        except BaseException as raised:
            error = raised
    failed = multihost_utils.broadcast_one_to_all(np.array(error is not None))
    if error is not None:
        raise error
    if failed:
        raise OSError("process 0 could not begin; its own output says why")


def first_then_all(function: Callable[[], Found]) -> Found:
    """Every process's own result of a function that leaves files behind, which process 0 makes before the others.

    Raises:
        OSError: process 0 failed; it raises the error itself.
    """
    found: list[Found] = []
    first_alone(lambda: found.append(function()))
    return found[0] if found else function()


def free_programs(share: float = 0.5) -> bool:
    """Gives all compiled programs back where they fill this share of the memory mappings a process may have.

    XLA's CPU backend holds dozens of mappings a program (3,300 for a training of `small`), and a process that asks for
    one too many ends in a segmentation fault. What is needed again comes from the persistent cache.

    Returns whether programs were given back; never where the system does not tell (not Linux).
    """
    if not (MAPPINGS.exists() and MOST_MAPPINGS.exists()):
        return False
    if len(MAPPINGS.read_bytes().splitlines()) < share * int(MOST_MAPPINGS.read_text()):
        return False
    jax.clear_caches()
    return True
