"""The value objects of documents (TMF667)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.types import Attachment, EntityRef, Extensible, Json, Quantity, RelatedParty, TimePeriod


class DocumentStatus(StrEnum):
    """Where a document, or a specification of documents, is in its life."""

    CREATED = "created"
    REVIEWED = "reviewed"
    APPROVED = "approved"
    PUBLISHED = "published"
    ARCHIVED = "archived"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentAttachment(Extensible):
    """A part of a document: a content that is kept here (`content_hash`, hex SHA-256), or one that is elsewhere."""

    id: str | None = None
    href: str | None = None
    attachment_type: str | None = None
    description: str | None = None
    mime_type: str | None = None
    name: str | None = None
    url: str | None = None
    size: Quantity | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None
    content_hash: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacteristicRelationship(Extensible):
    """How one characteristic relates to another."""

    id: str | None = None
    href: str | None = None
    relationship_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentCharacteristic(Extensible):
    """A property of a document."""

    id: str | None = None
    name: str | None = None
    value_type: str | None = None
    characteristic_relationship: tuple[CharacteristicRelationship, ...] = ()
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalIdentifier(Extensible):
    """What another system calls the document."""

    id: str | None = None
    href: str | None = None
    external_identifier_type: str | None = None
    owner: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedEntity(Extensible):
    """Something that the document is about, and as what."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EntitySpecificationRelationship(Extensible):
    """How one specification relates to another."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    relationship_type: str | None = None
    role: str | None = None
    association_spec: EntityRef | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacteristicSpecificationRelationship(Extensible):
    """How the specification of a characteristic relates to another."""

    characteristic_specification_id: str | None = None
    name: str | None = None
    parent_specification_href: str | None = None
    parent_specification_id: str | None = None
    relationship_type: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacteristicValueSpecification(Extensible):
    """A value that a characteristic may have."""

    is_default: bool | None = None
    range_interval: str | None = None
    regex: str | None = None
    unit_of_measure: str | None = None
    value_from: int | None = None
    value_to: int | None = None
    value_type: str | None = None
    valid_for: TimePeriod | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacteristicSpecification(Extensible):
    """What documents of a kind may say of themselves."""

    id: str | None = None
    configurable: bool | None = None
    description: str | None = None
    extensible: bool | None = None
    is_unique: bool | None = None
    max_cardinality: int | None = None
    min_cardinality: int | None = None
    name: str | None = None
    regex: str | None = None
    value_type: str | None = None
    char_spec_relationship: tuple[CharacteristicSpecificationRelationship, ...] = ()
    characteristic_value_specification: tuple[CharacteristicValueSpecification, ...] = ()
    valid_for: TimePeriod | None = None
    at_value_schema_location: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetEntitySchema(Extensible):
    """Where the schema of the specified lies (in `extensions`: @type, @schemaLocation)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSpecificationRefOrValue(Extensible):
    """A specification by reference, or all that it says."""

    id: str | None = None
    href: str | None = None
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
    at_referred_type: str | None = None
