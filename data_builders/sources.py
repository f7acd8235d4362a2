"""Reading files by name out of an extracted folder, a zip or a tar archive, and the check that an image is whole."""

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
JPEG_START = b"\xff\xd8"
JPEG_END = b"\xff\xd9"
# A few encoders leave padding after the end marker.
TAIL = 64


DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
"""What reading an archive raises that is cut or has other bytes than it should."""


@dataclass(frozen=True)
class Source:
    """Files of one folder or archive, by their path inside it."""

    path: Path
    names: Mapping[str, int] | None
    """Size in bytes by name, for an archive; None for a folder, which is not listed."""
    folders: Sequence[str]
    """Folders that an archive names as such, without a slash at the end."""
    read_bytes: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises `FileNotFoundError` or `ValueError` that name the file and its archive."""
        try:
            return self.read_bytes(name)
        except (KeyError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"{self.path}: {name} is named in the tables but is not there; "
                "extract or download this file again (it is incomplete)"
            ) from error
        except DAMAGED as error:
            raise ValueError(f"{self.path}: {name} is damaged ({error}); download this file again") from error


def open_source(path: Path) -> Source:
    """The files of a folder, a zip or a tar archive.

    Raises `ValueError` for an archive that is damaged, holds a name twice, or holds a path that leads outside of it.
    """
    if path.is_dir():
        return Source(path, None, (), lambda name: (path / name).read_bytes())
    try:
        return zip_source(path) if zipfile.is_zipfile(path) else tar_source(path)
    except DAMAGED as error:
        raise ValueError(f"{path} is no whole zip or tar archive ({error}); download it again") from error


def zip_source(path: Path) -> Source:
    """The files of a zip archive."""
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    for member in members:
        check_inside(path, member.filename)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(
                f"{path}: {member.filename} is a link, and is refused; download the archive from its authors"
            )
    files = [member for member in members if not member.is_dir()]
    folders = [member.filename.rstrip("/") for member in members if member.is_dir()]
    return Source(path, sizes_of(path, [(f.filename, f.file_size) for f in files]), folders, archive.read)


def tar_source(path: Path) -> Source:
    """The files of a tar archive. One that is compressed is slow to read out of order: extract it instead."""
    archive = tarfile.open(path)  # noqa: SIM115  (read from for as long as the source lives)
    members = archive.getmembers()
    for member in members:
        check_inside(path, member.name)
        if member.issym() or member.islnk():
            raise ValueError(f"{path}: {member.name} is a link, and is refused; download the archive from its authors")
    files = {member.name.removeprefix("./"): member for member in members if member.isfile()}
    sizes = sizes_of(path, [(m.name.removeprefix("./"), m.size) for m in members if m.isfile()])
    folders = [member.name.removeprefix("./") for member in members if member.isdir()]
    return Source(path, sizes, folders, lambda name: archive.extractfile(files[name]).read())


def check_inside(archive: Path, name: str) -> None:
    """Refuse a member whose path is absolute or climbs out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise ValueError(
            f"{archive}: the path {name!r} leads outside of the archive, and is refused; "
            "download the archive from the data set's own page"
        )


def sizes_of(archive: Path, files: list[tuple[str, int]]) -> dict[str, int]:
    """Size by name; a name held twice is an error."""
    sizes = dict(files)
    if len(sizes) != len(files):
        seen: set[str] = set()
        twice = next(name for name, _ in files if name in seen or seen.add(name))
        raise ValueError(f"{archive}: {twice} is in the archive twice; download it again")
    return sizes


def walk(source: Source) -> tuple[list[str], list[str]]:
    """Every file and every folder of the source by its path inside, sorted."""
    if source.names is not None:
        return sorted(source.names), sorted(source.folders)
    found: tuple[list[str], list[str]] = ([], [])
    for folder, folders, files in os.walk(source.path, followlinks=True):
        inside = PurePosixPath(Path(folder).relative_to(source.path).as_posix())
        found[0].extend(str(inside / name) for name in files)
        found[1].extend(str(inside / name) for name in folders)
    return sorted(found[0]), sorted(found[1])


def check_image(data: bytes, where: str) -> None:
    """Raise `ValueError` unless `data` is a whole JPEG or PNG by its first and last bytes; nothing is decoded."""
    if data.startswith(JPEG_START):
        whole = JPEG_END in data[-TAIL:]
    elif data.startswith(PNG_SIGNATURE):
        whole = PNG_END in data[-TAIL:]
    else:
        raise ValueError(f"{where} is neither a JPEG nor a PNG image ({len(data)} bytes); get this file again")
    if not whole:
        raise ValueError(f"{where} is a truncated image ({len(data)} bytes); get this file again")
