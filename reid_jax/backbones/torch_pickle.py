"""The pickle of a PyTorch state dict, acted out without running anything in it.

Unpickling runs whatever a file says. Here the pickle's instructions are only listed (`pickletools.genops`), and the few
that a state dict needs are acted out on plain lists, dicts and tuples; any other instruction, and any name but the ones
below, is refused.
"""

import io
import mmap
import pickletools
import struct
from typing import Any, NamedTuple

import numpy as np

_DTYPES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "<i1",
    "torch ByteStorage": "<u1",
    "torch BoolStorage": "?",
}
_DICTS = ("collections OrderedDict",)
_TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PARAMETERS = ("torch._utils _rebuild_parameter",)

_MARK = object()
_CONSTANTS = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class TorchFileError(ValueError):
    """A checkpoint that is broken, unsafe or of an unknown kind."""


class _Name(NamedTuple):
    """A class or function that the pickle names; it is compared, never imported."""

    name: str


class Storage(NamedTuple):
    """One flat buffer of the file, by its key."""

    dtype: np.dtype
    key: str
    size: int


class Tensor(NamedTuple):
    """A strided view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def unpickle(stream: io.BytesIO | mmap.mmap) -> Any:
    """The value of the next pickle of the stream, made of plain containers, `_Name`, `Storage` and `Tensor`."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return stack.pop()
            _act(opcode.name, argument, stack, memo)
    except TorchFileError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise TorchFileError(f"broken pickle ({error})") from error
    raise TorchFileError("broken pickle (it has no end)")


def _act(opcode: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """One instruction of the pickle machine, out of those that a state dict needs."""
    if opcode in ("PROTO", "FRAME"):
        return
    if opcode in _CONSTANTS:
        stack.append(_CONSTANTS[opcode]())
    elif opcode in _LITERALS:
        stack.append(argument)
    elif opcode in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif opcode == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif opcode in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif opcode == "GLOBAL":
        stack.append(_known_name(argument))
    elif opcode == "TUPLE":
        stack.append(tuple(_pop_to_mark(stack)))
    elif opcode in _TUPLES:
        stack.append(tuple(reversed([stack.pop() for _ in range(_TUPLES[opcode])])))
    elif opcode in ("APPEND", "APPENDS"):
        items = [stack.pop()] if opcode == "APPEND" else _pop_to_mark(stack)
        _of_type(stack[-1], list).extend(items)
    elif opcode in ("SETITEM", "SETITEMS"):
        items = [stack.pop(), stack.pop()][::-1] if opcode == "SETITEM" else _pop_to_mark(stack)
        keys = [_of_type(key, str) for key in items[::2]]
        _of_type(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
    elif opcode == "BUILD":
        # A state dict carries its version numbers as attributes; they mean nothing here.
        stack.pop()
        _of_type(stack[-1], dict)
    elif opcode == "BINPERSID":
        stack.append(_storage(_of_type(stack.pop(), tuple)))
    elif opcode == "REDUCE":
        arguments = _of_type(stack.pop(), tuple)
        stack.append(_reduce(_of_type(stack.pop(), _Name).name, arguments))
    else:
        raise TorchFileError(f"the pickle instruction {opcode} has no place in a state dict: refused")


def _known_name(name: str) -> _Name:
    if name not in (*_DTYPES, *_DICTS, *_TENSORS, *_PARAMETERS):
        raise TorchFileError(f"the file asks for {name.replace(' ', '.')!r}, which no state dict needs: refused")
    return _Name(name)


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TorchFileError(f"broken pickle ({type(value).__name__} in the place of {kind.__name__})")
    return value


def _storage(reference: tuple[Any, ...]) -> Storage:
    tag, kind, key, _, size, *views = reference
    if tag != "storage" or any(view is not None for view in views):
        raise TorchFileError("a reference to something other than a whole storage")
    kind = _of_type(kind, _Name).name
    if kind not in _DTYPES:
        raise TorchFileError(f"a storage of the type {kind.replace(' ', '.')}")
    return Storage(np.dtype(_DTYPES[kind]), _of_type(key, str), _of_type(size, int))


def _reduce(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the few known constructors would give."""
    if name in _DICTS and arguments == ():
        return {}
    if name in _PARAMETERS:
        return _of_type(arguments[0], Tensor)
    if name in _TENSORS:
        storage, offset, shape, strides = arguments[:4]
        for sides in (shape, strides):
            for side in _of_type(sides, tuple):
                _of_type(side, int)
        return Tensor(_of_type(storage, Storage), _of_type(offset, int), shape, strides)
    raise TorchFileError(f"{name.replace(' ', '.')} is called in an unknown way: refused")
