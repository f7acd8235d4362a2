"""Fetch a published file: resumed where it was cut off, and there only whole and with the published checksum."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

_TIMEOUT = 30.0  # Seconds without a byte, after which a connection counts as broken.
_ATTEMPTS = 5
_CHUNK = 1 << 18
_NETWORK_ERRORS = (http.client.HTTPException, OSError)


@dataclass(frozen=True)
class _Part:
    """What is there of a file that was cut off, and the server's mark of that version of it."""

    path: Path

    @property
    def mark_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.etag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def mark(self) -> str:
        return self.mark_path.read_text() if self.mark_path.exists() else ""

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.mark_path.unlink(missing_ok=True)


class _Cut(Exception):
    """The connection ended before the file did."""


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download(url: str, checksum: str, target: Path) -> None:
    """Fetches `url` to `target`, unless it is there already, with a progress bar.

    `checksum` is `<algorithm>:<hexadecimal digest>`, e.g. `sha256:...`. What an interrupted download leaves
    (`<target>.part`) is gone on with, by this call and by a later one, if the server can and still has the same file.

    Raises:
        ConnectionError: there is no connection, or it broke repeatedly; what came is kept.
        ValueError: the file's checksum is another; what came is removed.
        OSError: it cannot be written.
    """
    algorithm, expected = checksum.split(":")
    if target.exists() and file_digest(target, algorithm) == expected:
        return
    part = _Part(target.with_name(f"{target.name}.part"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, target.name)
        found = file_digest(part.path, algorithm)
        if found != expected:
            part.remove()
            raise ValueError(
                f"{url}: the {algorithm} of what came is {found}, not the published {expected}; it was removed: try "
                "again, or download the file elsewhere and give it with --from FILE"
            )
        os.replace(part.path, target)
        part.remove()
    except ConnectionError:
        raise
    except OSError as error:
        raise OSError(
            f"{target} could not be written ({error}); make room on the disk or choose another folder with --cache, "
            "then run the command again: it goes on where it stopped"
        ) from error


def _fetch(url: str, part: _Part, name: str) -> None:
    """Fills `part` with the whole file, in as many connections as that takes."""
    reason: Exception | None = None
    for _ in range(_ATTEMPTS):
        before = part.size()
        try:
            _fetch_on(url, part, name)
            return
        except _Cut as error:
            reason = error
            if part.size() <= before:
                break
    raise _unreachable(url, part.path, f"{reason}, {part.size()} bytes are kept and a further run goes on from there")


def _fetch_on(url: str, part: _Part, name: str) -> None:
    """One connection: goes on behind what is there, or begins anew where the server cannot or has another file."""
    have, mark = part.size(), part.mark()
    request = urllib.request.Request(url, headers={"User-Agent": "reid_jax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if mark:
            request.add_header("If-Range", mark)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:
                raise _unreachable(url, part.path, f"HTTP {error.code} {error.reason}") from error
        # Nothing lies behind what is there: it is whole, or of another file.
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return
        part.remove()
        return _fetch_on(url, part, name)
    except _NETWORK_ERRORS as error:
        raise _unreachable(url, part.path, getattr(error, "reason", error)) from error
    with response:
        start = _start(response)
        if start not in (0, have) or (start and mark != _mark(response)):
            if not have:
                raise _unreachable(url, part.path, "the server sends a part where the whole was asked for")
            part.remove()
            return _fetch_on(url, part, name)
        if not start:
            # Before the mark, or a kill between the two would leave an older file's part under a newer one's mark.
            part.remove()
        part.mark_path.write_text(_mark(response))
        _receive(response, part.path, start, name)


def _start(response: http.client.HTTPResponse) -> int:
    """The place in the file of the response's first byte; -1 where a part of it says nothing of its place."""
    if response.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _mark(response: http.client.HTTPResponse) -> str:
    """What tells this version of the file from others: a strong ETag or, where there is none, its date."""
    tag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _receive(response: http.client.HTTPResponse, path: Path, start: int, name: str) -> None:
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    with (
        path.open("r+b" if start else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name) as bar,
    ):
        file.seek(start)
        position = start
        while chunk := _read(response):
            file.write(chunk)
            position += len(chunk)
            bar.update(len(chunk))
    if total is not None and position < total:
        raise _Cut(f"the connection ended after {position} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except _NETWORK_ERRORS as error:
        raise _Cut(f"the connection broke ({error or type(error).__name__})") from error


def _unreachable(url: str, path: Path, reason: object) -> ConnectionError:
    target = path.with_name(path.name.removesuffix(".part"))
    return ConnectionError(
        f"{url} could not be fetched to {target} ({reason}): try again with a connection to the internet, or download "
        "it elsewhere and give it with --from FILE"
    )
