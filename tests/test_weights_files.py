"""Files of weights: told by their content, whatever their names, and found in the folder of weights."""

import struct

import numpy as np
import pytest
from safetensors.numpy import save_file
from weight_writers import SAVE

from reid_jax.backbones import weights_files

SMALL = {"b.0": np.arange(6, dtype=np.float32).reshape(2, 3), "b.1": np.ones(2, np.float32)}


@pytest.mark.parametrize("form", SAVE)
def test_the_content_tells_the_format(tmp_path, form):
    path = tmp_path / "net.zip"
    SAVE[form](SMALL, path)
    tensors = weights_files.read_tensors(path)
    assert tensors.keys() == SMALL.keys()
    for name, value in SMALL.items():
        np.testing.assert_array_equal(tensors[name], value)
        assert tensors[name].dtype == np.float32


@pytest.mark.parametrize("length", [0x010A, 0x0112, 0x4B50, 0x0280])
def test_safetensors_are_known_whatever_their_length(tmp_path, length):
    path = tmp_path / "net.safetensors"
    save_file({"a": np.ones(2, np.float32)}, path)
    content = path.read_bytes()
    path.write_bytes(struct.pack("<Q", length) + content[8:-8].rstrip().ljust(length) + content[-8:])
    assert weights_files.read_tensors(path)["a"].tolist() == [1.0, 1.0]


def test_damaged_safetensors_are_read_or_refused(tmp_path):
    path, draw = tmp_path / "net.safetensors", np.random.default_rng(0)
    save_file(SMALL, path)
    content, refused = path.read_bytes(), 0
    for trial in range(400):
        broken = bytearray(content[: draw.integers(len(content))] if trial % 2 else content)
        for _ in range(0 if trial % 2 else draw.integers(1, 5)):
            broken[draw.integers(len(content))] ^= 1 << draw.integers(8)
        path.write_bytes(broken)
        try:
            assert all(isinstance(value, np.ndarray) for value in weights_files.read_tensors(path).values())
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 200


def test_the_folder_of_weights(tmp_path, monkeypatch):
    for name in ("REID_JAX_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_files.cache_folder() == tmp_path / ".cache" / "reid_jax" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights_files.cache_folder() == tmp_path / "xdg" / "reid_jax" / "weights"
    monkeypatch.setenv("REID_JAX_WEIGHTS", str(tmp_path / "own"))
    assert weights_files.cache_folder() == tmp_path / "own"
    with pytest.raises(ValueError, match="python -m reid_jax.backbones.weights vgg16"):
        weights_files.cached_file("vgg16")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "vgg16.safetensors").touch()
    assert weights_files.cached_file("vgg16") == tmp_path / "own" / "vgg16.safetensors"
