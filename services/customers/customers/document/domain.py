"""Documents and their specifications, and what may happen to them."""

import mimetypes
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from chassis.errors import InvalidArgument, Violation
from chassis.types import Attachment, EntityRef, RelatedParty, TimePeriod, new_id, require_transition
from customers.document.values import (
    CharacteristicSpecification,
    DocumentAttachment,
    DocumentCharacteristic,
    DocumentSpecificationRefOrValue,
    DocumentStatus,
    EntitySpecificationRelationship,
    ExternalIdentifier,
    RelatedEntity,
    TargetEntitySchema,
)
from customers.party.domain import Referrer, check_period

# Of what nobody says what it is.
ANY_MEDIA_TYPE = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_HASH = re.compile(r"[0-9a-f]{64}")

_S = DocumentStatus
# A document goes forward, step by step or not, and back to be worked on until it is archived.
DOCUMENT_TRANSITIONS: Mapping[DocumentStatus, frozenset[DocumentStatus]] = {
    _S.CREATED: frozenset({_S.REVIEWED, _S.APPROVED, _S.PUBLISHED, _S.ARCHIVED, _S.DELETED}),
    _S.REVIEWED: frozenset({_S.CREATED, _S.APPROVED, _S.PUBLISHED, _S.ARCHIVED, _S.DELETED}),
    _S.APPROVED: frozenset({_S.CREATED, _S.PUBLISHED, _S.ARCHIVED, _S.DELETED}),
    _S.PUBLISHED: frozenset({_S.ARCHIVED, _S.DELETED}),
    _S.ARCHIVED: frozenset({_S.PUBLISHED, _S.DELETED}),
    _S.DELETED: frozenset(),
}


def is_hash(text: str) -> bool:
    """Whether it can be a content's: hex SHA-256 in small letters."""
    return _HASH.fullmatch(text) is not None


def media_type(stated: str | None, name: str | None) -> str:
    """What a content is served as: what is stated, if that is a media type; else as its name tells."""
    if stated and _MEDIA_TYPE.fullmatch(stated.partition(";")[0].strip()):
        return stated.partition(";")[0].strip().lower()
    return mimetypes.guess_type(name or "", strict=True)[0] or ANY_MEDIA_TYPE


@dataclass(kw_only=True, eq=False)
class Document(Referrer):
    """A document: what is known of it. What is in it is kept by its hash."""

    creation_date: datetime | None = None
    description: str | None = None
    document_type: str | None = None
    last_update: datetime | None = None
    name: str | None = None
    version: str | None = None
    attachment: tuple[DocumentAttachment, ...] = ()
    category: tuple[EntityRef, ...] = ()
    characteristic: tuple[DocumentCharacteristic, ...] = ()
    document: tuple[EntityRef, ...] = ()
    document_specification: DocumentSpecificationRefOrValue | None = None
    external_identifier: tuple[ExternalIdentifier, ...] = ()
    related_entity: tuple[RelatedEntity, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    status: DocumentStatus | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a document in itself, two attachments of one id, or what can't be a hash."""
        self.status = self.status or DocumentStatus.CREATED
        self.creation_date = self.creation_date or at
        self.last_update = at
        # Whoever asks for a content names the attachment, and means that one for ever.
        self.attachment = tuple(one if one.id else replace(one, id=new_id()) for one in self.attachment)
        wrong = [
            Violation(f"document[{i}].id", "the document itself")
            for i, part in enumerate(self.document)
            if part.id == self.id
        ]
        times = Counter(one.id for one in self.attachment)
        for i, one in enumerate(self.attachment):
            if times[one.id] > 1:
                wrong.append(Violation(f"attachment[{i}].id", "another attachment has it"))
            if one.content_hash is not None and not is_hash(one.content_hash):
                wrong.append(Violation(f"attachment[{i}].content_hash", "must be a SHA-256 in hexadecimal digits"))
        if wrong:
            raise InvalidArgument("BAD_DOCUMENT", "the parts of the document can't be so", violations=wrong)
        for i, one in enumerate(self.attachment):
            check_period(f"attachment[{i}].valid_for", one.valid_for)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the status, where the table allows it."""
        wanted = changes.get("status")
        if wanted is not None and self.status is not None and wanted != self.status:
            require_transition("a document", DOCUMENT_TRANSITIONS, self.status, wanted, attribute="status")
        super().revise({k: v for k, v in changes.items() if (k, v) != ("status", None)}, at)
        self.check(at)

    def contents(self) -> frozenset[str]:
        """The hashes of what is in it."""
        return frozenset(one.content_hash for one in self.attachment if one.content_hash)

    def with_content(self, attachment_id: str) -> DocumentAttachment | None:
        """The attachment of that id (empty: the first), if its content is kept here."""
        kept = (one for one in self.attachment if one.content_hash and attachment_id in ("", one.id))
        return next(kept, None)

    def references(self) -> Iterator[str]:
        """Related parties and entities, the documents in it, and its specification."""
        for references in (self.related_party, self.related_entity, self.document):
            yield from (one.id or "" for one in references)
        if self.document_specification is not None:
            yield self.document_specification.id or ""


@dataclass(kw_only=True, eq=False)
class DocumentSpecification(Referrer):
    """What documents of a kind are like. TMF667 has no event of their states apart from that of any attribute."""

    description: str | None = None
    is_bundle: bool | None = None
    last_update: datetime | None = None
    name: str | None = None
    version: str | None = None
    attachment: tuple[Attachment, ...] = ()
    constraint: tuple[EntityRef, ...] = ()
    entity_spec_relationship: tuple[EntitySpecificationRelationship, ...] = ()
    lifecycle_status: DocumentStatus | None = None
    related_party: tuple[RelatedParty, ...] = ()
    spec_characteristic: tuple[CharacteristicSpecification, ...] = ()
    target_entity_schema: TargetEntitySchema | None = None
    valid_for: TimePeriod | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument for a reversed period."""
        self.lifecycle_status = self.lifecycle_status or DocumentStatus.CREATED
        self.last_update = at
        check_period("valid_for", self.valid_for)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Also moves the status, where the table allows it."""
        wanted = changes.get("lifecycle_status")
        if wanted is not None and self.lifecycle_status is not None and wanted != self.lifecycle_status:
            require_transition(
                "a document specification",
                DOCUMENT_TRANSITIONS,
                self.lifecycle_status,
                wanted,
                attribute="lifecycle_status",
            )
        super().revise({k: v for k, v in changes.items() if (k, v) != ("lifecycle_status", None)}, at)
        self.check(at)

    def references(self) -> Iterator[str]:
        """Related parties, and other specifications."""
        yield from (one.id or "" for one in self.related_party)
        yield from (one.id or "" for one in self.entity_spec_relationship)
