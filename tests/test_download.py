"""The download against a local server: whole, resumed, begun anew, and each way in which it fails."""

import hashlib
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from reid_jax.backbones import download as downloads
from reid_jax.backbones.download import download

CONTENT = random.Random(0).randbytes(1_000_000)
OTHER = random.Random(1).randbytes(1_000_000)


def _checksum(content=CONTENT, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    """Serves `server.site`: its content, and how well it behaves."""

    def do_GET(self):
        site, asked = self.server.site, self.headers.get("Range")
        site.requests.append((asked, self.headers.get("If-Range")))
        if site.status != 200:
            return self.send_error(site.status)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and site.ranges else 0
        if site.honest and self.headers.get("If-Range") not in (None, site.etag):
            start = 0
        if start >= len(site.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            return self.end_headers()
        self.send_response(206 if start or site.always_partial else 200)
        if start or site.always_partial:
            place = start + site.shift
            self.send_header("Content-Range", f"bytes {place}-{len(site.content) - 1}/{len(site.content)}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(site.content) - start))
        self.end_headers()
        # As long as `cuts` has entries, each connection ends after that many bytes.
        self.wfile.write(site.content[start:][: site.cuts.pop(0) if site.cuts else None])
        if site.hang:
            time.sleep(site.hang)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        # A client that gives up is what some tests are about.
        server.handle_error = lambda *_: None
        server.site = SimpleNamespace(content=CONTENT, etag='"one"', ranges=True, honest=True, cuts=[], requests=[])
        server.site.__dict__.update(status=200, shift=0, hang=0, always_partial=False)
        server.site.url = f"http://127.0.0.1:{server.server_port}/net.pth"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.site
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "net.pth"


def _only(target):
    """The target is whole and nothing else lies beside it."""
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == [target.name]


def _leave_part(target, content, mark):
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(content)
    if mark:
        target.with_name("net.pth.part.etag").write_text(mark)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_whole_with_progress_and_once(site, target, capsys, algorithm):
    download(site.url, _checksum(algorithm=algorithm), target)
    _only(target)
    assert "net.pth: 100%" in capsys.readouterr().err
    download(site.url, _checksum(algorithm=algorithm), target)
    assert site.requests == [(None, None)], "what is there is not fetched again"


def test_a_wrong_file_in_its_place_is_replaced(site, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    download(site.url, _checksum(), target)
    _only(target)


@pytest.mark.parametrize("etag", ['"one"', 'W/"weak"', None])
def test_a_cut_connection_is_resumed(site, target, etag):
    site.etag, site.cuts = etag, [300_000, 1]
    download(site.url, _checksum(), target)
    _only(target)
    mark = etag if etag == '"one"' else None
    assert site.requests == [(None, None), ("bytes=300000-", mark), ("bytes=300001-", mark)]


def test_a_killed_download_is_resumed(site, target):
    site.hang, site.cuts = 60, [400_000]
    program = "import sys; from pathlib import Path; from reid_jax.backbones.download import download as d; "
    program += "d(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
    process = subprocess.Popen([sys.executable, "-c", program, site.url, _checksum(), str(target)])
    part = target.with_name("net.pth.part")
    try:
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    kept = part.stat().st_size
    assert 0 < kept <= 400_000 and not target.exists()
    site.hang = 0
    download(site.url, _checksum(), target)
    _only(target)
    assert site.requests[-1] == (f"bytes={kept}-", '"one"')


def test_a_server_without_ranges_begins_anew(site, target):
    site.ranges = False
    _leave_part(target, CONTENT[:1000], '"one"')
    download(site.url, _checksum(), target)
    _only(target)


@pytest.mark.parametrize("honest", [True, False])
def test_another_version_begins_anew(site, target, honest):
    site.honest = honest
    _leave_part(target, OTHER[:1000], '"zero"')
    download(site.url, _checksum(), target)
    _only(target)
    assert site.requests[0] == ("bytes=1000-", '"zero"')


def test_a_part_of_another_place_begins_anew(site, target):
    site.shift = 5
    _leave_part(target, CONTENT[:1000], '"one"')
    download(site.url, _checksum(), target)
    _only(target)


@pytest.mark.parametrize(("content", "requests"), [(CONTENT, 1), (CONTENT + b"more", 2)])
def test_a_part_as_long_as_the_file(site, target, content, requests):
    _leave_part(target, content, '"one"')
    download(site.url, _checksum(), target)
    _only(target)
    assert len(site.requests) == requests


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_wrong_checksum_names_both_and_leaves_nothing(site, target, algorithm):
    site.content = OTHER
    with pytest.raises(ValueError, match="--from FILE") as caught:
        download(site.url, _checksum(algorithm=algorithm), target)
    for digest in (_checksum(algorithm=algorithm), _checksum(OTHER, algorithm)):
        assert digest.split(":")[1] in str(caught.value)
    assert os.listdir(target.parent) == []


def _fails_to_connect(url, target, reason):
    with pytest.raises(ConnectionError, match=reason) as caught:
        download(url, _checksum(), target)
    assert url in str(caught.value) and str(target) in str(caught.value) and "--from FILE" in str(caught.value)
    assert not target.exists()


def test_no_connection(site, target):
    _fails_to_connect("http://127.0.0.1:9/net.pth", target, "refused")
    _fails_to_connect("http://nowhere.invalid/net.pth", target, "could not be fetched")
    site.status = 404
    _fails_to_connect(site.url, target, "HTTP 404")


def test_a_part_survives_the_lack_of_a_connection(site, target):
    _leave_part(target, CONTENT[:1000], '"one"')
    _fails_to_connect("http://127.0.0.1:9/net.pth", target, "refused")
    download(site.url, _checksum(), target)
    _only(target)
    assert site.requests == [("bytes=1000-", '"one"')]


def test_endless_cuts_end(site, target):
    site.cuts = [100] * 50
    _fails_to_connect(site.url, target, "500 bytes are kept")
    assert len(site.requests) == 5
    site.cuts = [0] * 50
    _fails_to_connect(site.url, target, "500 bytes are kept")
    assert len(site.requests) == 6, "a connection that brings nothing is the last"


def test_a_silent_server_times_out(site, target, monkeypatch):
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    site.cuts, site.hang = [1000, 0], 1
    _fails_to_connect(site.url, target, "1000 bytes are kept")


def test_a_part_unasked_for_ends(site, target):
    site.always_partial, site.shift = True, 5
    _fails_to_connect(site.url, target, "a part where the whole")


def test_a_full_disk_is_told(site, target):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="make room on the disk") as caught:
            download(site.url, _checksum(), target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(target) in str(caught.value) and not target.exists()
    download(site.url, _checksum(), target)
    _only(target)
    assert site.requests[-1][0] == "bytes=100000-"
