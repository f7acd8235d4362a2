"""Read the weights of a Caffe model (`.caffemodel`) without Caffe.

The file is one protocol-buffer message, Caffe's NetParameter, of which only names, types and blobs of the layers are
decoded: messages lie four deep and each is a slice of the file, so neither depth nor memory can outgrow the file.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_MOST_AXES = 32  # Caffe's own limit.
# Far above any network's, and the reason why a hostile file's parts cannot take many times its size in memory.
_MOST_BLOBS, _LONGEST_TEXT = 4096, 1024
_CONVOLUTIONS = (4, 39, "Convolution", "Deconvolution")


class CaffeModelError(ValueError):
    """A Caffe model that is broken or of an unknown kind."""


class _Generation(NamedTuple):
    """Field numbers of one of the two generations of Caffe's layer messages; the older one's types are numbers."""

    name: int
    type: int
    type_wire: int
    blobs: int


# By the layers' field number in NetParameter.
_GENERATIONS = {100: _Generation(1, 2, _BYTES, 7), 2: _Generation(4, 5, _VARINT, 6)}


def read_caffemodel(path: str | Path) -> dict[str, np.ndarray]:
    """The blobs of the Caffe model at `path`, as float32 arrays of their own named `<layer>.<index in the layer>`.

    A fully connected layer's weights are [O I] and a bias [O], also where the file has Caffe's older four axes
    ([1 1 O I] and [1 1 1 O]). Raises CaffeModelError (a ValueError), naming the file and the problem, for a file that
    is broken or not a Caffe model.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise CaffeModelError("empty file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _tensors(content)
    except CaffeModelError as error:
        raise CaffeModelError(
            f"{path}: {error}; download it again, or write it anew with Caffe's upgrade_net_proto_binary"
        ) from error


def _tensors(content: mmap.mmap) -> dict[str, np.ndarray]:
    tensors = {}
    for number, wire, start, end in _fields(content, 0, len(content)):
        if number not in _GENERATIONS:
            continue
        _expect(wire, _BYTES, "layer")
        name, blobs = _layer(content, start, end, _GENERATIONS[number])
        if len(tensors) + len(blobs) > _MOST_BLOBS:
            raise CaffeModelError(f"more than {_MOST_BLOBS} blobs: not a Caffe model")
        for index, blob in enumerate(blobs):
            if not name or f"{name}.{index}" in tensors:
                raise CaffeModelError(f"a layer with weights has no name or one of an earlier layer ({name!r})")
            tensors[f"{name}.{index}"] = blob
    if not tensors:
        raise CaffeModelError("holds no layer with weights: not a Caffe model, or one of before 2014")
    return tensors


def _layer(content: mmap.mmap, start: int, end: int, layout: _Generation) -> tuple[str, list[np.ndarray]]:
    name, kind, blobs = "", None, []
    for number, wire, first, last in _fields(content, start, end):
        if number == layout.name:
            name = _text(content, wire, first, last)
        elif number == layout.type:
            _expect(wire, layout.type_wire, "layer's type")
            kind = _text(content, wire, first, last) if wire == _BYTES else _varint(content, first, last)[0]
        elif number == layout.blobs:
            _expect(wire, _BYTES, "blob")
            blobs.append((first, last))
            if len(blobs) > _MOST_BLOBS:
                raise CaffeModelError(f"a layer of more than {_MOST_BLOBS} blobs: not a Caffe model")
    convolution = kind in _CONVOLUTIONS
    return name, [_blob(content, *part, f"{name}.{index}", index, convolution) for index, part in enumerate(blobs)]


def _blob(content: mmap.mmap, start: int, end: int, name: str, index: int, convolution: bool) -> np.ndarray:
    """One BlobProto: numbers (float 5 or double 8), and its sides (`shape` 7, or the older four of 1 to 4)."""
    older, shape, data = [0, 0, 0, 0], None, {5: bytearray(), 8: bytearray()}
    for number, wire, first, last in _fields(content, start, end):
        if 1 <= number <= 4:
            _expect(wire, _VARINT, f"side of blob {name!r}")
            older[number - 1] = _varint(content, first, last)[0]
        elif number in data:
            _expect(wire, (_BYTES, _FOUR_BYTES if number == 5 else _EIGHT_BYTES), f"data of blob {name!r}")
            data[number] += memoryview(content)[first:last]
        elif number == 7:
            _expect(wire, _BYTES, f"shape of blob {name!r}")
            shape = (shape or []) + _dimensions(content, first, last)
    return _array(name, data, shape if shape is not None else _squeezed(older, index, convolution))


def _array(name: str, data: dict[int, bytearray], shape: list[int]) -> np.ndarray:
    if data[5] and data[8]:
        raise CaffeModelError(f"blob {name!r} holds both float and double data")
    dtype, content = ("<f8", data[8]) if data[8] else ("<f4", data[5])
    count, rest = divmod(len(content), np.dtype(dtype).itemsize)
    if rest or len(shape) > _MOST_AXES or min(shape, default=1) < 1 or math.prod(shape) != count:
        raise CaffeModelError(f"blob {name!r} has the shape {shape[:_MOST_AXES]} and {len(content)} bytes of {dtype}")
    with np.errstate(over="ignore"):
        return np.frombuffer(content, dtype).astype(np.float32, copy=False).reshape(shape)


def _squeezed(older: list[int], index: int, convolution: bool) -> list[int]:
    if index > 0 and older[:3] == [1, 1, 1]:
        return older[3:]
    return older[2:] if older[:2] == [1, 1] and not convolution else older


def _dimensions(content: mmap.mmap, start: int, end: int) -> list[int]:
    """The sides in a BlobShape: `dim` (1), each a field of its own or all in one."""
    sides = []
    for number, wire, first, last in _fields(content, start, end):
        if number != 1:
            continue
        _expect(wire, (_VARINT, _BYTES), "side of a shape")
        while first < last:
            side, first = _varint(content, first, last)
            sides.append(side)
            if len(sides) > _MOST_AXES:
                raise CaffeModelError(f"a shape of more than {_MOST_AXES} sides")
    return sides


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and first and last byte + 1 of the value, of each field of the message in a slice."""
    while position < end:
        tag, position = _varint(content, position, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise CaffeModelError(f"field number {number} at byte {position}: corrupt")
        start = position
        if wire == _VARINT:
            _, position = _varint(content, start, end)
        elif wire == _BYTES:
            length, start = _varint(content, start, end)
            position = start + length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            position = start + (8 if wire == _EIGHT_BYTES else 4)
        else:
            raise CaffeModelError(f"wire type {wire} at byte {start}: corrupt, or not a Caffe model")
        if position > end:
            raise CaffeModelError(f"a field at byte {start} ends beyond its message: truncated or corrupt")
        yield number, wire, start, position


def _varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, at most 64 bits, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise CaffeModelError(f"ends within a number at byte {position}: truncated or corrupt")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
    raise CaffeModelError(f"a number of more than 10 bytes before byte {position}: corrupt")


def _text(content: mmap.mmap, wire: int, start: int, end: int) -> str:
    _expect(wire, _BYTES, "text")
    if end - start > _LONGEST_TEXT:
        raise CaffeModelError(f"a name of {end - start} bytes: not a Caffe model")
    try:
        return content[start:end].decode()
    except UnicodeDecodeError as error:
        raise CaffeModelError(f"text at byte {start} is not UTF-8: corrupt") from error


def _expect(wire: int, expected: int | tuple[int, ...], what: str) -> None:
    if wire not in (expected if isinstance(expected, tuple) else (expected,)):
        raise CaffeModelError(f"a {what} has the wire type {wire}: corrupt, or not a Caffe model")
