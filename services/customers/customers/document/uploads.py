"""Contents that are too large for one message: they come in pieces, in any order, each as often as it takes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

from chassis import calls
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from chassis.timers import TimerHandler, set_timer
from customers.document import store
from customers.document.contents import Contents
from customers.document.domain import Document
from customers.document.objects import BLOCK_BYTES
from customers.document.store import Kept
from svyaz.customers.v1 import document_pb2

FORGET = "content-upload"
KEPT_FOR = timedelta(days=1)
_LONGEST_ID = 200


class Uploads:
    """Pieces are rows until all of them are there; then they are one content of the object store."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → what is done when it is time."""
        return {FORGET: lambda key, unit: store.remove_upload(unit, key)}

    def take(self, request: document_pb2.UploadContentRequest) -> int:
        """Keeps a piece; how many bytes there are now. Raises InvalidArgument BAD_PIECE, CONTENT_TOO_LARGE."""
        wrong = []
        if request.offset < 0 or request.offset % BLOCK_BYTES:
            wrong.append(Violation("offset", f"must be a multiple of {BLOCK_BYTES}"))
        if not 0 < len(request.data) <= BLOCK_BYTES:
            wrong.append(Violation("data", f"must have 1 to {BLOCK_BYTES} bytes"))
        if wrong:
            raise InvalidArgument("BAD_PIECE", "the piece can't be so", violations=wrong)
        self._contents.check_size(request.offset + len(request.data))
        branch = self._database.branch_for_create(Document, request.branch)
        key = _key(branch, request.upload_id)
        with self._database.unit() as unit:
            store.put_piece(unit, key, request.offset // BLOCK_BYTES, branch, request.data)
            received = sum(size for _, size in store.piece_sizes(unit, key))
            set_timer(unit, key, FORGET, unit.at + KEPT_FOR, branch)
        return received

    def finish(self, request: document_pb2.FinishUploadRequest) -> tuple[str, int]:
        """Hash and size of the content, which is kept from now on; the same answer to the same question.

        Raises NotFound, FailedPrecondition UPLOAD_INCOMPLETE, InvalidArgument HASH_MISMATCH.
        """
        branch = self._database.branch_for_create(Document, request.branch)
        key = _key(branch, request.upload_id)
        with self._database.unit() as unit:
            content_hash = store.finished(unit, key)
            sizes = store.piece_sizes(unit, key)
            before = store.kept(unit, branch, [content_hash]) if content_hash is not None else {}
        if content_hash in before and not sizes:
            return content_hash, before[content_hash].size
        content = self._kept(branch, key, sizes, request)
        with self._database.unit() as unit:
            store.finish(unit, key, branch, content.content_hash)
        return content.content_hash, content.size

    def _kept(
        self, branch: str, key: str, sizes: Sequence[tuple[int, int]], request: document_pb2.FinishUploadRequest
    ) -> Kept:
        if not sizes:
            raise _gone(key)
        whole = all(
            position == i and (size == BLOCK_BYTES or i == len(sizes) - 1) for i, (position, size) in enumerate(sizes)
        )
        received = sum(size for _, size in sizes)
        if not whole or received != request.size:
            raise FailedPrecondition(
                "UPLOAD_INCOMPLETE",
                f"{received} of {request.size} bytes are here",
                violations=[Violation("size", f"{received} bytes are here")],
            )
        pieces = partial(self._pieces, key, len(sizes))
        return self._contents.keep(branch, pieces, expected=request.content_hash.lower())

    def _pieces(self, key: str, count: int) -> Iterator[bytes]:
        for position in range(count):
            with self._database.unit() as unit:
                found = store.piece(unit, key, position)
            if found is None:
                raise _gone(key)
            yield found


def _gone(key: str) -> NotFound:
    return NotFound("UPLOAD_UNKNOWN", "there is no such upload, or no longer", metadata={"upload": key})


def _key(branch: str, upload_id: str) -> str:
    """Whose upload it is, too: nobody adds to somebody else's. Raises InvalidArgument REQUIRED."""
    if not 0 < len(upload_id) <= _LONGEST_ID:
        raise InvalidArgument(
            "REQUIRED",
            "an upload has an id of the caller's",
            violations=[Violation("upload_id", f"must have 1 to {_LONGEST_ID} characters")],
        )
    owner = json.dumps([branch, calls.current().principal.subject, upload_id])
    return hashlib.sha256(owner.encode()).hexdigest()
