"""The value objects of qualifications (TMF679)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.products import ProductRefOrValue
from chassis.types import EntityRef, Extensible, Note


class ProductAction(StrEnum):
    """What somebody would like to do about a product."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"
    NO_CHANGE = "noChange"


class QualificationState(StrEnum):
    """How far a qualification has come."""

    ACKNOWLEDGED = "acknowledged"
    TERMINATED_WITH_ERROR = "terminatedWithError"
    IN_PROGRESS = "inProgress"
    DONE = "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class AlternateProductOfferingProposal(Extensible):
    """What can be had instead."""

    id: str | None = None
    alternate_activation_date: datetime | None = None
    alternate_product: ProductRefOrValue | None = None
    alternate_product_offering: EntityRef | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EligibilityUnavailabilityReason(Extensible):
    """Why something can't be had: a code for programs, a label for people (English, Russian)."""

    code: str | None = None
    label: str | None = None
    label_ru: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class QualificationItemRelationship(Extensible):
    """How an item stands to another one of the same qualification."""

    id: str | None = None
    relationship_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TerminationError(Extensible):
    """Why an item couldn't be judged."""

    id: str | None = None
    value: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfferingQualificationItem(Extensible):
    """An offering that somebody asks about, and the answer."""

    id: str | None = None
    expected_activation_date: datetime | None = None
    qualification_item_result: str | None = None
    action: ProductAction | None = None
    alternate_product_offering_proposal: tuple[AlternateProductOfferingProposal, ...] = ()
    eligibility_unavailability_reason: tuple[EligibilityUnavailabilityReason, ...] = ()
    note: tuple[Note, ...] = ()
    product: ProductRefOrValue | None = None
    product_offering: EntityRef | None = None
    qualification_item_relationship: tuple[QualificationItemRelationship, ...] = ()
    state: QualificationState | None = None
    termination_error: tuple[TerminationError, ...] = ()
    category: EntityRef | None = None
    unknown: tuple[str, ...] = ()
    replaced_product: tuple[EntityRef, ...] = ()
    information_required: tuple[str, ...] = ()
    found_in_category: bool | None = None
