"""The value objects of agreements (TMF651)."""

from dataclasses import dataclass
from datetime import datetime

from chassis.types import EntityRef, Extensible, Json, TimePeriod


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementAuthorization(Extensible):
    """Who has signed, when, and how."""

    date: datetime | None = None
    signature_representation: str | None = None
    state: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementTermOrCondition(Extensible):
    """A clause."""

    id: str | None = None
    description: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementItem(Extensible):
    """What is agreed on, and on which terms."""

    product: tuple[EntityRef, ...] = ()
    product_offering: tuple[EntityRef, ...] = ()
    term_or_condition: tuple[AgreementTermOrCondition, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementSpecificationRef(Extensible):
    """A reference to the pattern of an agreement."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    name: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementSpecCharacteristicValue(Extensible):
    """A value that a characteristic may have."""

    default: bool | None = None
    unit_of_measure: str | None = None
    value_from: str | None = None
    value_to: str | None = None
    value_type: str | None = None
    valid_for: TimePeriod | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementSpecCharacteristic(Extensible):
    """What agreements of the pattern may say of themselves."""

    configurable: bool | None = None
    description: str | None = None
    name: str | None = None
    value_type: str | None = None
    spec_characteristic_value: tuple[AgreementSpecCharacteristicValue, ...] = ()
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementSpecificationRelationship(Extensible):
    """How one pattern relates to another."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    relationship_type: str | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None
