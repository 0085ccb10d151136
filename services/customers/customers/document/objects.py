"""Where contents lie: an object store, of which the local disk is the one that is built in.

A store keeps bytes under (branch, hash) and knows nothing else. Who may remove what, and when, is decided by
`contents.py`, which never has two at work on the same key where that matters.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

# Contents are read and checked in blocks of so many bytes; whoever speaks gRPC takes a message of that size by default.
BLOCK_BYTES = 2 * 1024 * 1024
# No `put` takes so long: what it has left by then is left for good. Shorter than the grace of the sweeper.
LONGEST_PUT_SECONDS = 600.0


class Corrupt(Exception):
    """What lies there isn't what was written."""


class ObjectStore(Protocol):
    """Bytes under the key (branch, hex SHA-256). Its methods raise OSError when the place can't be reached."""

    def put(self, branch: str, digest: str, blocks: Iterable[bytes]) -> None:
        """Keeps the content; when it returns, the content outlives a loss of power. The same again changes nothing.

        Raises Corrupt when the blocks aren't what the hash says."""

    def exists(self, branch: str, digest: str) -> bool:
        """Whether the content is there, whole."""

    def read(self, branch: str, digest: str, offset: int, size: int) -> bytes:
        """So many bytes from the offset, fewer at the end. Raises FileNotFoundError."""

    def remove(self, branch: str, digest: str) -> None:
        """Takes the content away, and what an interrupted `put` has left of it, if there is any."""


class DiskObjects:
    """Contents as files of one directory, which several replicas may share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, branch: str, digest: str, blocks: Iterable[bytes]) -> None:
        """As a file of another name, which gets its own once it is on the disk: half a content is never seen."""
        path = self._path(branch, digest)
        if self._is_whole(path, digest):
            # Whoever has written it may not have come to the end of this method yet.
            _fsync(path.parent)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{digest}.", suffix=".part", dir=path.parent)
        try:
            whole = hashlib.sha256()
            with os.fdopen(handle, "wb") as file:
                for block in blocks:
                    whole.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if whole.hexdigest() != digest:
                raise Corrupt(f"the content isn't that of {digest}")
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        # The new names too: those of the folders, which may be new as well.
        for folder in (path.parent, path.parent.parent, self._directory):
            _fsync(folder)

    def exists(self, branch: str, digest: str) -> bool:
        """Whether there is a file of its name."""
        return self._path(branch, digest).exists()

    def read(self, branch: str, digest: str, offset: int, size: int) -> bytes:
        """A part of the file."""
        with self._path(branch, digest).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def remove(self, branch: str, digest: str) -> None:
        """Deletes the file, and parts that were never finished; one that is being written isn't one of them."""
        path = self._path(branch, digest)
        for left in path.parent.glob(f"{digest}.*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > LONGEST_PUT_SECONDS:
                    left.unlink()
        path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Deletes everything: for who has made the directory for a while."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _is_whole(self, path: Path, digest: str) -> bool:
        """Whether the file is there and is what its name says: one that has rotted is written anew."""
        if not path.exists():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest

    def _path(self, branch: str, digest: str) -> Path:
        # Hexadecimal: whatever a branch is called, it is the name of one folder.
        return self._directory / branch.encode().hex() / digest[:2] / digest


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
