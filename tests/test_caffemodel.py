"""The Caffe model reader: equal to Google's protocol buffers, and only a clear error on broken or hostile files."""

import random
import struct
import tracemalloc

import numpy as np
import pytest

from reid_jax.backbones.caffemodel import CaffeModelError, read_caffemodel

protobuf = pytest.importorskip("google.protobuf", reason="writes the files")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402
from google.protobuf.message import DecodeError  # noqa: E402

_Field = descriptor_pb2.FieldDescriptorProto
# Caffe's caffe.proto: name -> (number, type, repeated, packed).
_SCHEMA = {
    "BlobShape": {"dim": (1, "INT64", True, True)},
    "BlobProto": {
        "num": (1, "INT32", False, False),
        "channels": (2, "INT32", False, False),
        "height": (3, "INT32", False, False),
        "width": (4, "INT32", False, False),
        "data": (5, "FLOAT", True, True),
        "diff": (6, "FLOAT", True, True),
        "shape": (7, "BlobShape", False, False),
        "double_data": (8, "DOUBLE", True, True),
    },
    "LayerParameter": {
        "name": (1, "STRING", False, False),
        "type": (2, "STRING", False, False),
        "bottom": (3, "STRING", True, False),
        "blobs": (7, "BlobProto", True, False),
    },
    "V1LayerParameter": {
        "bottom": (2, "STRING", True, False),
        "name": (4, "STRING", False, False),
        "type": (5, "INT32", False, False),
        "blobs": (6, "BlobProto", True, False),
    },
    "NetParameter": {
        "name": (1, "STRING", False, False),
        "layers": (2, "V1LayerParameter", True, False),
        "input": (3, "STRING", True, False),
        "layer": (100, "LayerParameter", True, False),
    },
}


def _net_class(packed: bool = True) -> type:
    """Google's class of NetParameter; its numbers packed as Caffe writes them, or each a field of its own."""
    file = descriptor_pb2.FileDescriptorProto(name=f"caffe_{packed}.proto", package="caffe", syntax="proto2")
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, repeated, packs) in fields.items():
            field = described.field.add(name=name, number=number)
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _SCHEMA:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = getattr(_Field, f"TYPE_{kind}")
            field.options.packed = packs and packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


NET = _net_class()


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


KERNEL, WEIGHT, BIAS = _random(3, 2, 1, 2), _random(4, 6), _random(3)


def _new(net=NET, kind="data"):
    """A network of LayerParameter: a convolution and a fully connected layer."""
    model = net(name="net", input=["data"])
    model.layer.add(name="input", type="Input")
    for name, layer, arrays in (("conv/1x2", "Convolution", (KERNEL, BIAS)), ("fc", "InnerProduct", (WEIGHT,))):
        added = model.layer.add(name=name, type=layer, bottom=["data"])
        for array in arrays:
            blob = added.blobs.add()
            blob.shape.dim.extend(array.shape)
            getattr(blob, kind).extend(array.ravel().tolist())
    return model


def _old():
    """The same network of V1LayerParameter with four axes everywhere."""
    model = NET(name="net")
    model.layers.add(name="data", type=5)
    for name, layer, arrays in (("conv/1x2", 4, (KERNEL, BIAS)), ("fc", 14, (WEIGHT,))):
        added = model.layers.add(name=name, type=layer)
        for array in arrays:
            blob = added.blobs.add(data=array.ravel().tolist(), diff=np.zeros(array.size).tolist())
            blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
    return model


def _write(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


@pytest.mark.parametrize(
    "model",
    [_new(), _new(kind="double_data"), _new(_net_class(packed=False)), _old()],
    ids=["new", "double", "not packed", "old"],
)
def test_reads_both_generations(tmp_path, model):
    tensors = read_caffemodel(_write(tmp_path, model))
    assert list(tensors) == ["conv/1x2.0", "conv/1x2.1", "fc.0"]
    for value, written in zip(tensors.values(), (KERNEL, BIAS, WEIGHT), strict=True):
        assert value.dtype == np.float32 and value.flags.writeable
        np.testing.assert_array_equal(value, written)


def test_only_fully_connected_layers_lose_their_leading_axes(tmp_path):
    model = NET()
    for kind in (4, 14):
        blob = model.layers.add(name=f"layer{kind}", type=kind).blobs.add(num=1, channels=1, height=2, width=3)
        blob.data.extend(range(6))
    tensors = read_caffemodel(_write(tmp_path, model))
    assert [value.shape for value in tensors.values()] == [(1, 1, 2, 3), (2, 3)]


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def _part(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _one(blob: bytes, name: bytes = b"fc") -> bytes:
    return _part(100, _part(1, name) + _part(7, blob))


ONE = _part(5, struct.pack("<f", 1.0))
SIDES = b"".join(_varint(side << 3) + b"\x01" for side in (1, 2, 3, 4))


def test_a_hand_made_blob_is_read(tmp_path):
    assert read_caffemodel(_write(tmp_path, _one(SIDES + ONE)))["fc.0"].tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html>", "wire type 4"),
        (b"\x0a\x03net", "holds no layer with weights"),
        (_part(100, _part(1, b"pool")), "holds no layer with weights"),
        (_part(2, _part(1, _part(1, b"v0"))), "one of before 2014"),
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends beyond its message"),
        (_one(_part(7, b"\x0a\x02\x01\x02") + ONE), r"blob 'fc.0' has the shape \[1, 2\] and 4 bytes"),
        (_one(_part(7, b"\x08" + b"\xff" * 9 + b"\x01") + ONE), "blob 'fc.0' has the shape"),
        (_one(_part(7, b"\x0a\x01\x00")), r"has the shape \[0\]"),
        (_one(_part(7, b"\x0a\x28" + b"\x01" * 40) + ONE), "more than 32 sides"),
        (_one(_part(7, b"\x0a\x03\x01\x01\x81") + ONE), "within a number"),
        (_one(_part(7, b"\x08" + b"\xff" * 11)), "more than 10 bytes"),
        (_one(SIDES + ONE + _part(8, b"\0" * 8)), "both float and double"),
        (_one(SIDES + _part(5, b"\0" * 5)), "5 bytes"),
        (_one(SIDES + ONE, b""), "no name"),
        (_one(SIDES + ONE) * 2, "one of an earlier layer"),
        (_one(SIDES + ONE, b"\xff"), "not UTF-8"),
        (_one(SIDES + ONE, b"x" * 2000), "a name of 2000 bytes"),
        (_part(100, _part(1, b"fc") + _part(7, b"") * 5000), "more than 4096 blobs"),
        (b"".join(_one(SIDES + ONE, b"%d" % layer) for layer in range(5000)), "more than 4096 blobs"),
        (b"\x00\x00", "field number 0"),
        (b"\xa0\x06\x01", "wire type 0"),
        (_part(100, b"\x08\x01"), "wire type 0"),
        (b"\x0b" * 100_000, "wire type 3"),
        (_part(100, b"") * 10_000, "holds no layer"),
    ],
)
def test_broken_and_hostile_files_are_refused(tmp_path, content, problem):
    with pytest.raises(CaffeModelError, match=problem) as caught:
        read_caffemodel(_write(tmp_path, content))
    assert "net.caffemodel: " in str(caught.value) and "download it again" in str(caught.value)


def test_memory_stays_near_the_size_of_the_file(tmp_path):
    model = NET()
    blob = model.layer.add(name="fc", type="InnerProduct").blobs.add(data=np.zeros(1_000_000).tolist())
    blob.shape.dim.extend((1000, 1000))
    whole = _write(tmp_path, model)
    size = whole.stat().st_size
    hostile = tmp_path / "hostile.caffemodel"
    hostile.write_bytes(_part(100, _part(1, b"x" * 1000) + _part(7, b"") * (size // 2)))
    for path, most in ((whole, 1.5), (hostile, 1.0)):
        tracemalloc.start()
        try:
            read_caffemodel(path)
        except CaffeModelError:
            assert path is hostile
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most * size, path.name


def _reference(content: bytes) -> dict[str, list[float]]:
    """What Google's parser sees: every blob's numbers by name; DecodeError or UnicodeDecodeError where it sees none."""
    model = NET.FromString(content)
    tensors = {}
    for layer in (*model.layers, *model.layer):
        for index, blob in enumerate(layer.blobs):
            shape = tuple(blob.shape.dim) if blob.HasField("shape") else None
            tensors[f"{layer.name}.{index}"] = (shape, list(blob.data) or list(blob.double_data))
    return tensors


@pytest.mark.parametrize("generation", ["new", "old"])
def test_damage_is_an_error_or_read_as_google_does(tmp_path, generation):
    content, draw = (_new() if generation == "new" else _old()).SerializeToString(), random.Random(0)
    damaged = [content[:length] for length in range(len(content))]
    for trial in range(600):
        broken = bytearray(content)
        for _ in range((1, 1, 4, 32)[trial % 4]):
            broken[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        damaged.append(bytes(broken))
    refused = 0
    for broken in damaged:
        try:
            tensors = read_caffemodel(_write(tmp_path, broken))
        except CaffeModelError as error:
            assert "net.caffemodel" in str(error)
            refused += 1
            continue
        try:
            expected = _reference(broken)
        except (DecodeError, UnicodeDecodeError):
            pytest.fail(f"{broken!r} is no message, but was read")
        assert tensors.keys() == expected.keys()
        for name, value in tensors.items():
            shape, numbers = expected[name]
            assert shape in (None, value.shape)
            np.testing.assert_array_equal(value.ravel(), np.array(numbers, np.float32))
    assert len(content) // 2 < refused < len(damaged), "both kinds of damage occur"
