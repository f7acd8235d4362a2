"""Small files of official downloads: MATLAB arrays, and the digest that tells one download from another."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.io
from jaxtyping import Int


def read_matrix(data: bytes, path: Path, key: str, columns: int | None = None) -> Int[np.ndarray, "rows columns"]:
    """An integer matrix out of a MATLAB file's bytes; `path` is for the errors.

    Raises `ValueError` naming the file when it is no MATLAB file, lacks the key, or is not two-dimensional, of whole
    numbers and, where `columns` is given, that wide.
    """
    try:
        held = scipy.io.loadmat(io.BytesIO(data))
    except Exception as error:  # scipy raises many kinds for a file that is damaged
        raise ValueError(f"{path} is no readable MATLAB file ({error}); download it again") from error
    names = sorted(name for name in held if not name.startswith("__"))
    if key not in held:
        raise ValueError(f"{path} lacks the key {key!r} (it has {names}); is it the official file?")
    matrix = np.asarray(held[key])
    wrong_kind = matrix.dtype.kind not in "iuf" or not np.array_equal(matrix, np.floor(matrix))
    if matrix.ndim != 2 or matrix.size == 0 or wrong_kind or columns not in (None, matrix.shape[1]):
        expected = "two-dimensional" if columns is None else f"(rows, {columns})"
        raise ValueError(
            f"{path}: {key} has shape {matrix.shape} of {matrix.dtype}; expected whole numbers, {expected}. "
            "Download the official file again"
        )
    return matrix.astype(np.int64)


def digest(parts: Iterable[bytes]) -> str:
    """Twelve hexadecimal digits that tell these parts, in this order, from others."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:12]


def first_existing(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first `folder / name` that exists, folders before names; None where none does."""
    names = list(names)
    return next((folder / name for folder in folders for name in names if (folder / name).exists()), None)
