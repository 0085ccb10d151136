"""Where content may come from and go to: what a job carries, and one directory. No other file, and no address, is read.

The catalog calls nobody, so a URL that would have to be fetched isn't: whoever has the file attaches it, or puts it
into the directory.
"""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from catalog.transfer.domain import FILED, ContentError, File

# What all files of a job come to, unpacked. Things take several times as much room as the text that tells of them, and
# a process that prices is given half a gigabyte.
MAX_BYTES = 64 * 1024 * 1024
# zlib's way of saying: a gzip header, which tells the window's size.
_GZIP = 16 + zlib.MAX_WBITS


class Folder:
    """The directory for transfers; empty: there is none."""

    def __init__(self, directory: str) -> None:
        self._root = Path(directory).resolve() if directory else None

    def read(self, url: str) -> list[File]:
        """The file of a `file:` URL, or the files of a folder, by name, as they are kept. Raises ContentError."""
        path = self._inside(url)
        try:
            if path.is_dir():
                paths = sorted(found for found in path.iterdir() if found.is_file() and found.name[0] != ".")
                # A link may lead out again.
                paths = [self._inside(f"{FILED}{found}") for found in paths]
            else:
                paths = [path]
            if sum(found.stat().st_size for found in paths) > MAX_BYTES:
                raise _too_much(url)
            return [File(found.name, found.read_bytes()) for found in paths]
        except OSError as error:
            raise ContentError(f"{url} can't be read: {error.strerror}") from error

    def write(self, url: str, data: bytes) -> None:
        """Writes the file of a `file:` URL, whole or not at all. Raises ContentError."""
        path = self._inside(url)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except OSError as error:
            raise ContentError(f"{url} can't be written: {error.strerror}") from error

    def _inside(self, url: str) -> Path:
        if not url.startswith(FILED):
            raise ContentError(f"{url} isn't read: attach the content (cid:NAME), or name a file of the directory")
        if self._root is None:
            raise ContentError(f"{url} can't be reached: this service is given no directory for transfers")
        name = url.removeprefix(FILED)
        if "\0" in name:
            raise ContentError("a file's name has no character U+0000")
        path = (self._root / (name if Path(name).is_relative_to(self._root) else name.lstrip("/"))).resolve()
        if not path.is_relative_to(self._root):
            raise ContentError(f"{url} isn't read: it lies outside of the directory for transfers")
        return path


def unpacked(files: Iterable[File]) -> list[File]:
    """The files, unzipped where a name ends in .gz. Raises ContentError, also when they come to more than a job may."""
    room = MAX_BYTES
    found = []
    for file in files:
        if file.name.endswith(".gz"):
            file = File(file.name.removesuffix(".gz"), _unzipped(file, room))
        room -= len(file.data)
        if room < 0:
            raise _too_much(file.name)
        found.append(file)
    return found


def _unzipped(file: File, room: int) -> bytes:
    """What is in all members of a gzip file (RFC 1952, 2.2), up to so many bytes; zeros may fill it up at its end."""
    parts: list[bytes] = []
    rest = file.data
    while rest:
        unzip = zlib.decompressobj(_GZIP)
        try:
            # 0 would be no limit; one more than there is room for tells that there is more.
            data = unzip.decompress(rest, room + 1)
        except zlib.error as error:
            raise ContentError(f"{file.name} isn't gzip: {error}") from error
        room -= len(data)
        if room < 0:
            raise _too_much(file.name)
        if not unzip.eof:
            raise ContentError(f"{file.name} breaks off")
        parts.append(data)
        rest = unzip.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _too_much(name: str) -> ContentError:
    return ContentError(f"{name}: the files of a job come to more than {MAX_BYTES} bytes")


def text_of(file: File) -> str:
    """The file's text. Raises ContentError where it isn't UTF-8."""
    try:
        return file.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.data[: error.start].count(b"\n") + 1
        raise ContentError(f"{file.name}:{line} isn't UTF-8: {error.reason}") from error


def named(files: Sequence[File], ending: str) -> list[File]:
    """Those whose names end so."""
    return [file for file in files if file.name.lower().endswith(ending)]
