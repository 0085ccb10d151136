"""What is in documents, kept in the object store by its hash: how it comes in, and how it goes without being missed.

A content is there before anybody says that a document has it, and goes when no document has it any more:

1. Its row in `kept_content` is committed, with a timer an hour ahead that will sweep it. Then it is put into the store.
   Whatever stops us now, the timer remembers that there may be something to take away.
2. The document's transaction holds the row, looks whether the content is there, and commits its use of it.
3. When a use ends, the timer is set again. The sweeper has the timer's row and the content's to itself when it looks
   for a use and, if there is none, takes the content away. A writer of the same content waits in step 1 for the sweeper
   and then begins with nothing; one that is in step 2 is waited for by the sweeper, who then finds the use.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.timers import TimerHandler, set_timer
from chassis.types import Quantity
from chassis.unit import Unit
from customers.document import store
from customers.document.domain import Document, media_type
from customers.document.objects import BLOCK_BYTES, Corrupt, ObjectStore
from customers.document.store import HASH_BYTES, Kept
from customers.document.values import DocumentAttachment

log = logging.getLogger(__name__)

SWEEP = "content-sweep"
# Longer than any call lasts that keeps a content and then says which document has it.
GRACE = timedelta(hours=1)
DEFAULT_MAX_BYTES = 32 * 1024 * 1024


def described(blocks: Iterable[bytes]) -> Kept:
    """Hash, size and the hashes of the blocks of a content, all blocks but the last of `BLOCK_BYTES`."""
    whole, size, hashes = hashlib.sha256(), 0, []
    for block in blocks:
        whole.update(block)
        size += len(block)
        hashes.append(hashlib.sha256(block).digest())
    return Kept(whole.hexdigest(), size, b"".join(hashes))


def blocks_of(data: bytes) -> Sequence[bytes]:
    """A content in blocks."""
    return [data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES)] or [b""]


class Contents:
    """The contents of one service's documents, at most `max_bytes` each."""

    def __init__(self, database: Database, objects: ObjectStore, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._database = database
        self._objects = objects
        self.max_bytes = max_bytes

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → what is done when it is time."""
        return {SWEEP: self._sweep}

    def keep(self, branch: str, blocks: Callable[[], Iterable[bytes]], *, expected: str = "") -> Kept:
        """Puts a content into the store, where it stays for an hour unless a document has it then.

        `blocks` begins anew with each call. Raises InvalidArgument CONTENT_TOO_LARGE, HASH_MISMATCH when another hash
        is expected; OSError.
        """
        content = described(self._limited(blocks()))
        if expected not in ("", content.content_hash):
            raise InvalidArgument(
                "HASH_MISMATCH",
                "what has come isn't what was sent",
                violations=[Violation("content_hash", "isn't that of the content")],
            )
        with self._database.unit() as unit:
            # First the timer, as the sweeper does.
            sweep_later(unit, branch, content.content_hash)
            store.keep(unit, branch, content)
        self._objects.put(branch, content.content_hash, blocks())
        return content

    def _limited(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        size = 0
        for block in blocks:
            size += len(block)
            self.check_size(size)
            yield block

    def check_size(self, size: int) -> None:
        """Raises InvalidArgument CONTENT_TOO_LARGE."""
        if size > self.max_bytes:
            raise InvalidArgument("CONTENT_TOO_LARGE", f"a content has at most {self.max_bytes} bytes")

    def use(self, unit: Unit, document: Document) -> None:
        """The document has the contents in it that it names, from this transaction on, and no others.

        Raises InvalidArgument UNKNOWN_CONTENT naming the attachments whose content isn't kept.
        """
        before = store.used_by(unit, document.id) if document.revision else frozenset()
        now = document.contents()
        found = store.hold(unit, document.branch, now)
        there = {
            content_hash
            for content_hash in found
            if content_hash in before or self._objects.exists(document.branch, content_hash)
        }
        missing = [
            Violation(f"attachment[{i}].content_hash", "no such content is kept")
            for i, one in enumerate(document.attachment)
            if one.content_hash and one.content_hash not in there
        ]
        if missing:
            raise InvalidArgument("UNKNOWN_CONTENT", "upload the content first", violations=missing)
        document.attachment = tuple(_completed(one, found) for one in document.attachment)
        store.use(unit, document, now - before, before - now)
        for dropped in sorted(before - now):
            sweep_later(unit, document.branch, dropped)

    def release(self, unit: Unit, document: Document) -> None:
        """The document is deleted: what only it had in it goes in an hour."""
        before = store.used_by(unit, document.id)
        store.use(unit, document, (), before)
        for dropped in sorted(before):
            sweep_later(unit, document.branch, dropped)

    def block(self, branch: str, content: Kept, number: int) -> bytes:
        """A block of the content, empty past the end. Raises Corrupt when it isn't what was written, OSError."""
        expected = content.block_hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]
        if not expected:
            return b""
        data = self._objects.read(branch, content.content_hash, number * BLOCK_BYTES, BLOCK_BYTES)
        if hashlib.sha256(data).digest() != expected:
            raise Corrupt(f"block {number} of {content.content_hash} isn't what was written")
        return data

    def small(self, branch: str, content: Kept) -> bytes | None:
        """The whole of a content of one block; None, which is logged, when it can't be read: what is known of its
        document must be seen all the same."""
        try:
            return self.block(branch, content, 0)
        except (Corrupt, OSError) as error:
            fields = {"content_hash": content.content_hash, "error": f"{type(error).__name__}: {error}"}
            log.exception("a content can't be read", extra={"fields": fields})
            return None

    def _sweep(self, key: str, unit: Unit) -> None:
        content_hash, _, branch = key.partition(" ")
        if not store.seize(unit, branch, content_hash) or store.used(unit, branch, content_hash):
            return
        # Before the commit: if that fails the row is still there, with its timer, and this is done once more.
        self._objects.remove(branch, content_hash)
        store.forget(unit, branch, content_hash)


def sweep_later(unit: Unit, branch: str, content_hash: str) -> None:
    set_timer(unit, f"{content_hash} {branch}", SWEEP, unit.at + GRACE, branch)


def _completed(attachment: DocumentAttachment, found: Mapping[str, Kept]) -> DocumentAttachment:
    """With size and media type, unless somebody has stated them."""
    if not attachment.content_hash:
        return attachment
    size = Quantity(amount=Decimal(found[attachment.content_hash].size), units="bytes")
    return replace(
        attachment,
        size=attachment.size or size,
        mime_type=attachment.mime_type or media_type(None, attachment.name),
    )
