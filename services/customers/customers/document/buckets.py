"""Contents in a bucket of S3, Google Cloud Storage or Azure Blob Storage, for who runs more than one machine."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore as Bucket
from obstore.store import from_url

from customers.document.objects import Corrupt, DiskObjects, ObjectStore

# What is put goes in parts of so many bytes; the least that S3 takes is 5 MiB.
_PART_BYTES = 8 * 1024 * 1024
_PATIENCE = timedelta(seconds=30)
_ATTEMPTS = 3


class BucketObjects:
    """Contents as objects of one bucket, which several replicas share, under names that begin with the URL's path.

    Who may use it is said by what the provider's own tools read too: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, a pod's
    web identity, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_…`.
    """

    def __init__(self, url: str) -> None:
        self._bucket: Bucket = from_url(
            url,
            # An endpoint without TLS is one that the operator has named as such.
            client_options={"timeout": _PATIENCE, "connect_timeout": timedelta(seconds=5), "allow_http": True},
            retry_config={"max_retries": _ATTEMPTS, "retry_timeout": _PATIENCE},
        )

    def put(self, branch: str, digest: str, blocks: Iterable[bytes]) -> None:
        """As an object, which nobody sees before it is whole; one that is there is written once more, since what has
        rotted can't be told from here."""
        with _reached():
            whole = _checked(digest, blocks)
            obstore.put(self._bucket, _name(branch, digest), whole, use_multipart=True, chunk_size=_PART_BYTES)

    def exists(self, branch: str, digest: str) -> bool:
        """Whether there is an object of its name."""
        try:
            with _reached():
                obstore.head(self._bucket, _name(branch, digest))
        except FileNotFoundError:
            return False
        return True

    def read(self, branch: str, digest: str, offset: int, size: int) -> bytes:
        """A part of the object."""
        name = _name(branch, digest)
        with _reached():
            # No store answers for a range that begins where the object ends.
            left = obstore.head(self._bucket, name)["size"] - offset
            if left <= 0:
                return b""
            return bytes(obstore.get_range(self._bucket, name, start=offset, length=min(size, left)))

    def remove(self, branch: str, digest: str) -> None:
        """Deletes the object. Parts of what was never finished nobody sees; a rule of the bucket removes them."""
        try:
            with _reached():
                obstore.delete(self._bucket, _name(branch, digest))
        except FileNotFoundError:
            return


def object_store(place: str) -> ObjectStore:
    """Where contents lie: `s3://bucket/path`, `gs://…` or `az://…`, else a directory. Raises ValueError for a URL that
    none of these can be made of."""
    if "://" not in place:
        return DiskObjects(Path(place))
    try:
        return BucketObjects(place)
    except BaseError as error:
        raise ValueError(f"{place!r} isn't a place for contents: {error}") from error


def _checked(digest: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks; before it is told that there are no more, they are what the hash says."""
    whole = hashlib.sha256()
    for block in blocks:
        whole.update(block)
        yield block
    if whole.hexdigest() != digest:
        raise Corrupt(f"the content isn't that of {digest}")


@contextmanager
def _reached() -> Iterator[None]:
    """The store's errors as those of a file."""
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(str(error)) from error
    except BaseError as error:
        raise OSError(f"the object store: {error}") from error


def _name(branch: str, digest: str) -> str:
    # Hexadecimal: whatever a branch is called, it is one step of the name.
    return f"{branch.encode().hex()}/{digest[:2]}/{digest}"
