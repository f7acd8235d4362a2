"""Files of published weights: where they lie, and their tensors whatever their format."""

import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reid_jax.backbones.caffemodel import read_caffemodel
from reid_jax.backbones.torch_file import read_torch_file

CACHE_VARIABLE = "REID_JAX_WEIGHTS"
"""The environment variable that names another folder for the weights."""

# First bytes of Caffe's NetParameter: the tag of one of its fields (name, layers, input, input's sides, layer).
_CAFFE_STARTS = (b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x22", b"\x28", b"\x42", b"\xa2\x06")


def cache_folder() -> Path:
    """Where the weights lie: $REID_JAX_WEIGHTS, or reid_jax/weights in $XDG_CACHE_HOME or in ~/.cache."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "reid_jax" / "weights"


def cached_file(backbone: str) -> Path:
    """The file of this backbone's weights; a ValueError with the command that brings it where it is absent."""
    path = cache_folder() / f"{backbone}.safetensors"
    if not path.is_file():
        raise ValueError(
            f"the weights of {backbone} are not there ({path}): fetch them once with "
            f"python -m reid_jax.backbones.weights {backbone}, or name a file of them with --from FILE there; "
            f"${CACHE_VARIABLE} names another folder"
        )
    return path


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors in a file of weights, by their published names.

    PyTorch's checkpoints (zip and legacy), Caffe's models and safetensors are told apart by content, and nothing in
    them is run. Raises ValueError, naming the file and the problem, for any other file and a broken one.
    """
    with path.open("rb") as file:
        head = file.read(9)
    # Eight bytes of length, then JSON; before the others, for the length may begin with any byte of theirs.
    if head[4:] == b"\0\0\0\0{":
        return _read_safetensors(path)
    if head.startswith((b"PK", b"\x80\x02")):
        return read_torch_file(path)
    if head.startswith(_CAFFE_STARTS):
        return read_caffemodel(path)
    raise ValueError(
        f"{path}: neither a PyTorch checkpoint (.pth), nor a Caffe model (.caffemodel), nor safetensors (it begins "
        f"with {head!r}): give a file of one of these formats, or download it again"
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    # A dtype that NumPy lacks is reported in each of these ways, by the version.
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not readable as safetensors ({error}): download or save it again") from error
