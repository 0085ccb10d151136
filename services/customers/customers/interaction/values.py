"""The value objects of interactions (TMF683)."""

from dataclasses import dataclass
from datetime import datetime

from chassis.types import Extensible, Note, Quantity, RelatedParty, TimePeriod


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedChannel(Extensible):
    """A channel, and what it is here."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachmentRefOrValue(Extensible):
    """A document, by reference or by value."""

    id: str | None = None
    href: str | None = None
    attachment_type: str | None = None
    content: str | None = None
    description: str | None = None
    mime_type: str | None = None
    name: str | None = None
    url: str | None = None
    size: Quantity | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedEntityRefOrValue(Extensible):
    """What a topic is about: a product, an order, a bill."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InteractionItem(Extensible):
    """One of the topics of an interaction, and what came of it."""

    id: str | None = None
    creation_date: datetime | None = None
    reason: str | None = None
    resolution: str | None = None
    attachment: tuple[AttachmentRefOrValue, ...] = ()
    channel: tuple[RelatedChannel, ...] = ()
    item: RelatedEntityRefOrValue | None = None
    item_date: TimePeriod | None = None
    note: tuple[Note, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class InteractionRelationship(Extensible):
    """Another interaction, and how this one is related to it: as its answer, as its continuation."""

    id: str | None = None
    href: str | None = None
    relationship_type: str | None = None
