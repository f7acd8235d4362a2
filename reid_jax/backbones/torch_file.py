"""Read the tensors of a PyTorch checkpoint (legacy or zip) without PyTorch and without running anything in it."""

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from reid_jax.backbones.torch_pickle import Tensor, TorchFileError, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
# zipfile raises them all, some undocumented, on broken archives.
_ZIP_ERRORS = (zipfile.BadZipFile, struct.error, EOFError, OSError)
_ZIP_ERRORS += (RuntimeError, ArithmeticError, LookupError, ValueError)


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of the state dict in the checkpoint at `path`, by name, as arrays of their own.

    Raises TorchFileError (a ValueError), naming the file and the problem, for a file that is broken, that asks for
    anything beyond a flat dict of tensors, or that is not a PyTorch checkpoint.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise TorchFileError("empty file")
            if file.read(2) == b"PK":
                return _read_zip(file)
            return _read_legacy(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except TorchFileError as error:
        raise TorchFileError(f"{path}: {error}; download it again, or save its state dict with torch.save") from error


def _read_legacy(content: mmap.mmap) -> dict[str, np.ndarray]:
    """Five pickles in a row (magic, version, system, state dict, storage keys), then the storages in that order."""
    if unpickle(content) != _MAGIC:
        raise TorchFileError("not a PyTorch checkpoint (wrong magic number)")
    if unpickle(content) != _LEGACY_VERSION:
        raise TorchFileError(f"a legacy checkpoint of another version than {_LEGACY_VERSION}")
    system = unpickle(content)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise TorchFileError("not written on a little-endian machine")
    tensors = _state_dict(unpickle(content))
    keys = unpickle(content)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise TorchFileError("the list of storages is broken")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages, position = {}, content.tell()
    for key in keys:
        if key not in dtypes:
            raise TorchFileError(f"storage {key!r} belongs to no tensor")
        if position + 8 > len(content):
            raise TorchFileError(f"ends before storage {key!r}: truncated")
        (size,) = struct.unpack_from("<q", content, position)
        end = position + 8 + size * dtypes[key].itemsize
        if size < 0 or end > len(content):
            raise TorchFileError(f"ends within storage {key!r}: truncated or corrupt")
        storages[key] = np.frombuffer(content, dtypes[key], size, position + 8)
        position = end
    if position != len(content):
        raise TorchFileError(f"{len(content) - position} bytes follow the last storage")
    return {name: _view(name, tensor, storages.get) for name, tensor in tensors.items()}


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    """An uncompressed zip: `<folder>/data.pkl` and one entry `<folder>/data/<key>` a storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            folders = [entry.removesuffix("data.pkl") for entry in archive.namelist() if entry.endswith("/data.pkl")]
            if len(folders) != 1:
                raise TorchFileError("a zip, but not a PyTorch checkpoint (it needs one data.pkl)")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise TorchFileError("compressed entries, which PyTorch never writes")
            entries = set(archive.namelist())
            if f"{folders[0]}byteorder" in entries and archive.read(f"{folders[0]}byteorder") != b"little":
                raise TorchFileError("not written on a little-endian machine")
            tensors = _state_dict(unpickle(io.BytesIO(archive.read(f"{folders[0]}data.pkl"))))
            storages = {}
            for storage in {tensor.storage for tensor in tensors.values()}:
                entry = f"{folders[0]}data/{storage.key}"
                data = archive.read(entry) if entry in entries else b""
                if len(data) != storage.size * storage.dtype.itemsize:
                    raise TorchFileError(f"entry {entry!r} is missing or not {storage.size} {storage.dtype} long")
                storages[storage.key] = np.frombuffer(data, storage.dtype)
    except TorchFileError:
        raise
    except _ZIP_ERRORS as error:
        raise TorchFileError(f"broken zip ({error})") from error
    return {name: _view(name, tensor, storages.get) for name, tensor in tensors.items()}


def _state_dict(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, dict):
        raise TorchFileError(f"holds a {type(value).__name__}, not a state dict")
    for name, tensor in value.items():
        if not isinstance(tensor, Tensor):
            raise TorchFileError(f"{name!r} is a {type(tensor).__name__}, not a tensor: not a flat state dict")
    return value


def _view(name: str, tensor: Tensor, storage_of: Callable[[str], np.ndarray | None]) -> np.ndarray:
    storage, (_, offset, shape, strides) = storage_of(tensor.storage.key), tensor
    if storage is None or len(storage) != tensor.storage.size or storage.dtype != tensor.storage.dtype:
        raise TorchFileError(f"tensor {name!r}: its storage is missing or of another size than announced")
    if offset < 0 or len(shape) != len(strides) or min(shape, default=1) < 1 or min(strides, default=0) < 0:
        raise TorchFileError(f"tensor {name!r}: impossible shape {shape}, strides {strides} or offset {offset}")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if last >= len(storage) or math.prod(shape) > len(storage):
        raise TorchFileError(f"tensor {name!r}: shape {shape} reaches outside its storage of {len(storage)}")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()
