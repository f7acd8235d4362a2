"""Writers of files of weights, in every format that is read."""

import pytest
from safetensors.numpy import save_file


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _part(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def save_caffe(tensors, path):
    """A Caffe model of 2014's form, as both published ones are: V1LayerParameter, four axes everywhere."""
    layers = {}
    for name, value in sorted(tensors.items()):
        sides = (1,) * (4 - value.ndim) + value.shape
        blob = b"".join(_varint(number << 3) + _varint(side) for number, side in enumerate(sides, 1))
        blob += _part(5, value.astype("<f4").tobytes())
        layer, kind = name.rpartition(".")[0], {4: 4, 2: 14}.get(value.ndim)
        head = _part(4, layer.encode()) + (_varint(5 << 3) + _varint(kind) if kind else b"")
        layers[layer] = layers.get(layer, b"") + head + _part(6, blob)
    path.write_bytes(_part(1, b"net") + b"".join(_part(2, layer) for layer in layers.values()))


def _save_torch(tensors, path, zipped):
    torch = pytest.importorskip("torch", reason="writes the .pth formats")
    state = {name: torch.from_numpy(value) for name, value in tensors.items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)


SAVE = {
    "zip": lambda tensors, path: _save_torch(tensors, path, True),
    "legacy": lambda tensors, path: _save_torch(tensors, path, False),
    "safetensors": save_file,
    "caffe": save_caffe,
}
