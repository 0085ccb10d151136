"""What documents can be asked to do: one method, one use case."""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from chassis.convert import to_message
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.resources import Conditions, Filters, StandardMethods
from chassis.timers import TimerHandler
from chassis.unit import Unit, missing
from customers.document import store
from customers.document.contents import Contents, blocks_of
from customers.document.domain import Document, DocumentSpecification, media_type
from customers.document.objects import BLOCK_BYTES
from customers.document.store import Kept
from customers.document.uploads import Uploads
from customers.identity.collection import MembersCollection
from customers.party.references import changed, collection, created, found_by_reference, refuse_when_referenced
from svyaz.customers.v1 import document_pb2
from svyaz.type.v1 import requests_pb2

# Contents that an answer holds by itself, in all.
INLINE_BYTES, INLINE_CONTENTS = 512 * 1024, 50
_CONTENT, _HASH = "attachment.content", "attachment.content_hash"
_BY_HASH = frozenset(
    {
        requests_pb2.Filter.OPERATOR_UNSPECIFIED,
        requests_pb2.Filter.OPERATOR_EQ,
        requests_pb2.Filter.OPERATOR_NE,
    }
)
_found_by_reference = found_by_reference(store.document, "related_party.id", "related_entity.id", "document.id")


class Documents(StandardMethods):
    """TMF667, and contents in pieces."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents
        self._uploads = Uploads(database, contents)
        self._documents = MembersCollection(
            database,
            Document,
            document_pb2.Document,
            by=("related_party.id", "related_entity.id"),
            creating=self._creating,
            changed=self._changed,
            deleting=self._deleting,
            replies=self._replies,
            elsewhere=_elsewhere,
        )
        super().__init__(
            document_pb2.DESCRIPTOR.services_by_name["DocumentService"],
            self._documents,
            collection(database, DocumentSpecification, document_pb2.DocumentSpecification),
        )

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → what is done when it is time."""
        return {**self._contents.timers(), **self._uploads.timers()}

    def CreateDocument(self, request: document_pb2.CreateDocumentRequest, context: Any) -> document_pb2.Document:
        """Keeps the contents first: the transaction that says which document has them is short then."""
        if any(one.content for one in request.document.attachment):
            branch = self._database.branch_for_create(Document, request.branch)
            request = document_pb2.CreateDocumentRequest.FromString(request.SerializeToString())
            self._keep(branch, request.document)
        return self._documents.create(request)

    def UpdateDocument(self, request: document_pb2.UpdateDocumentRequest, context: Any) -> document_pb2.Document:
        """As `CreateDocument`; raises NotFound."""
        if any(one.content for one in request.document.attachment):
            with self._database.unit() as unit:
                branch = unit.get(Document, request.document.id).branch
            request = document_pb2.UpdateDocumentRequest.FromString(request.SerializeToString())
            self._keep(branch, request.document)
        return self._documents.update(request)

    def UploadContent(
        self, request: document_pb2.UploadContentRequest, context: Any
    ) -> document_pb2.UploadContentResponse:
        """Takes a piece of a content."""
        return document_pb2.UploadContentResponse(received=self._uploads.take(request))

    def FinishUpload(
        self, request: document_pb2.FinishUploadRequest, context: Any
    ) -> document_pb2.FinishUploadResponse:
        """Keeps what has come in pieces."""
        content_hash, size = self._uploads.finish(request)
        return document_pb2.FinishUploadResponse(content_hash=content_hash, size=size)

    def GetContent(self, request: document_pb2.GetContentRequest, context: Any) -> document_pb2.Content:
        """A piece of a content; raises NotFound when there is no such document, or nothing of ours in it."""
        with self._database.unit() as unit:
            document = unit.get(Document, request.document_id)
            attachment = document.with_content(request.attachment_id)
            content_hash = (attachment.content_hash if attachment is not None else None) or ""
            content = store.kept(unit, document.branch, [content_hash]).get(content_hash)
        if attachment is None or content is None:
            raise missing(Document, f"{document.id} (its content)")
        offset = max(0, request.offset)
        number, skipped = divmod(offset, BLOCK_BYTES)
        return document_pb2.Content(
            data=self._contents.block(document.branch, content, number)[skipped:],
            offset=offset,
            size=content.size,
            content_hash=content.content_hash,
            mime_type=media_type(attachment.mime_type, attachment.name),
            name=attachment.name,
        )

    def _keep(self, branch: str, document: document_pb2.Document) -> None:
        """Puts the contents into the store, and their hashes in their place.

        Raises InvalidArgument BAD_CONTENT, CONTENT_TOO_LARGE.
        """
        for i, attachment in enumerate(document.attachment):
            if not attachment.content:
                continue
            data = _decoded(attachment.content)
            if data is None:
                raise _bad_content(f"attachment[{i}].content", "must be base64")
            digest = hashlib.sha256(data).hexdigest()
            if attachment.content_hash and attachment.content_hash != digest:
                raise _bad_content(f"attachment[{i}].content_hash", "isn't that of the content")
            self._contents.keep(branch, partial(blocks_of, data))
            attachment.content_hash = digest
            attachment.ClearField("content")

    def _creating(self, unit: Unit, document: Document) -> None:
        self._contents.use(unit, document)
        created(unit, document)

    def _changed(self, unit: Unit, document: Document) -> None:
        self._contents.use(unit, document)
        changed(unit, document)
        # TMF667's name for it.
        unit.announce(document, "Change")

    def _deleting(self, unit: Unit, document: Document) -> None:
        refuse_when_referenced(unit, document)
        self._contents.release(unit, document)

    def _replies(self, unit: Unit, documents: Sequence[Document]) -> Sequence[document_pb2.Document]:
        messages = [to_message(document, document_pb2.Document) for document in documents]
        shown = list(_with_content(documents, messages))
        kept: dict[tuple[str, str], Kept] = {}
        for branch in {document.branch for document in documents}:
            hashes = {one.content_hash for of, one in shown if of == branch}
            kept.update({(branch, found): content for found, content in store.kept(unit, branch, hashes).items()})
        left, number = INLINE_BYTES, 0
        for branch, attachment in shown:
            content = kept.get((branch, attachment.content_hash))
            if content is None or content.size > left or number == INLINE_CONTENTS:
                continue
            data = self._contents.small(branch, content)
            if data is not None:
                attachment.content = base64.b64encode(data).decode()
                left, number = left - content.size, number + 1
        return messages


def _with_content(
    documents: Sequence[Document], messages: Sequence[document_pb2.Document]
) -> Iterator[tuple[str, document_pb2.DocumentAttachment]]:
    """Branch and attachment, of those whose content is kept here; each says where it is to be had."""
    for document, message in zip(documents, messages, strict=True):
        for attachment in message.attachment:
            if attachment.content_hash:
                if not attachment.url:
                    attachment.url = f"/document/v1/document/{document.id}/attachment/{attachment.id}"
                yield document.branch, attachment


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _bad_content(path: str, why: str) -> InvalidArgument:
    return InvalidArgument("BAD_CONTENT", f"{path} {why}", violations=[Violation(path, why)])


def _elsewhere(filters: Filters) -> tuple[Filters, Conditions]:
    """A content is found by its hash. Raises InvalidArgument INVALID_FILTER for another question about it."""
    own, conditions = _found_by_reference(filters)
    return [_by_hash(one) if one.path == _CONTENT else one for one in own], conditions


def _by_hash(condition: requests_pb2.Filter) -> requests_pb2.Filter:
    if condition.operator not in _BY_HASH:
        raise InvalidArgument(
            "INVALID_FILTER",
            "a content is only found by being the same",
            violations=[Violation(_CONTENT, "can only be compared for equality")],
        )
    # What can't be a content is no hash either, and finds nothing.
    decoded = ((_decoded(text), text) for text in condition.value)
    hashes = [text if data is None else hashlib.sha256(data).hexdigest() for data, text in decoded]
    return requests_pb2.Filter(path=_HASH, operator=condition.operator, value=hashes)
