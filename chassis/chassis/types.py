"""Value objects that all domains share, and what every aggregate has. Plain data: no I/O, no clock."""

import os
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The branch of what belongs to no branch in particular: everybody may see it.
COMMON = "*"

# What a decimal column and a person can still read; 1e999999999 must not become a gigabyte of zeros.
MAX_DIGITS = 64
_SIGNS = ("+", "-")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def decimal_of(text: str) -> Decimal:
    """The number that a text states, wherever a decimal comes in: of at most 64 characters, an exponent written out.

    A sign isn't counted, so that what has been taken can be negated, written out (`f`) and taken again. Raises
    ValueError saying what is wrong with it.
    """
    length = len(text) - (text[:1] in _SIGNS)
    if length > MAX_DIGITS or not _DECIMAL.fullmatch(text):
        shown = text if length <= MAX_DIGITS else f"{text[:20]}…"
        raise ValueError(f"{shown!r} isn't a decimal number of at most {MAX_DIGITS} digits")
    value = Decimal(text)
    exponent = int(value.as_tuple().exponent)
    # A zero before the point counts, as does the point.
    written = max(value.adjusted(), 0) + 1 + (1 - exponent if exponent < 0 else 0)
    if written > MAX_DIGITS:
        raise ValueError(f"{text!r} has more than {MAX_DIGITS} digits")
    return value


# What the kernel has drawn already, in hex. Asking it for each id would hand the interpreter to another thread each
# time, which costs more than all else that is done for an id.
_drawn: deque[str] = deque()
_DRAWN_AT_ONCE = 256
_RANDOM_BYTES = 10
# Two processes never give out the same.
os.register_at_fork(after_in_child=_drawn.clear)


def _draw() -> str:
    drawn = os.urandom(_RANDOM_BYTES * _DRAWN_AT_ONCE).hex()
    digits = 2 * _RANDOM_BYTES
    first, *others = (drawn[at : at + digits] for at in range(0, len(drawn), digits))
    _drawn.extend(others)
    return first


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and ordered by its millisecond of birth."""
    millis = f"{time.time_ns() // 1_000_000:012x}"
    try:
        rand = _drawn.popleft()
    except IndexError:
        rand = _draw()
    # The first two bits of `variant` are 10.
    variant = _VARIANT[rand[3]]
    return f"{millis[:8]}-{millis[8:]}-7{rand[:3]}-{variant}{rand[4:7]}-{rand[7:19]}"


_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


class Json:
    """Any JSON value, kept as its text so that no digit is lost.

    No dataclass: the JSONB codec writes it as the value itself, and must not take it for an object with a text.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Json({self.text!r})"


@dataclass(kw_only=True, eq=False)
class Aggregate:
    """What is loaded, changed and saved as one; `revision` counts its changes and is its etag."""

    # The attribute whose change is a StateChangeEvent.
    STATE: ClassVar[str | None] = None
    # Attributes that keep their first value.
    IMMUTABLE: ClassVar[frozenset[str]] = frozenset()

    id: str
    branch: str
    # Not `version`: TM Forum has an attribute of that name, which is the author's.
    revision: int = 0
    at_type: str | None = None
    at_base_type: str | None = None
    at_schema_location: str | None = None
    extensions: str | None = None

    def check(self, at: datetime) -> None:
        """Completes a new aggregate, or refuses one that breaks a rule; overridden where there are rules."""

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes, attribute by attribute; overridden where a change has rules.

        Raises InvalidArgument IMMUTABLE naming each attribute that can't change.
        """
        frozen = [name for name in changes if name in self.IMMUTABLE and changes[name] != getattr(self, name)]
        if frozen:
            raise InvalidArgument(
                "IMMUTABLE",
                "these attributes can't change",
                violations=[Violation(name, "immutable") for name in frozen],
            )
        for name, value in changes.items():
            if getattr(self, name) != value:
                setattr(self, name, value)

    @property
    def ordering_key(self) -> str:
        """Events with the same key are seen in order by every consumer."""
        return self.id


S = TypeVar("S", bound=StrEnum)


def require_transition(
    what: str, transitions: Mapping[S, frozenset[S]], current: S, wanted: S, *, attribute: str = "state"
) -> None:
    """Raises FailedPrecondition BAD_TRANSITION, naming both states and the attribute that holds them, unless the table
    allows the step."""
    if wanted not in transitions[current]:
        allowed = ", ".join(sorted(transitions[current])) or "nothing: it is final"
        why = f"can't go from {str(current)!r} to {str(wanted)!r}; possible: {allowed}"
        raise bad_transition(f"{what} {why}", why, attribute=attribute, before=current, wanted=wanted)


def bad_transition(
    message: str, why: str = "", *, attribute: str = "state", before: str = "", wanted: str = ""
) -> FailedPrecondition:
    """The refusal of a step that a state doesn't allow; `why`, of the attribute, unless the message says it."""
    return FailedPrecondition(
        "BAD_TRANSITION",
        message,
        violations=[Violation(attribute, why or message)],
        metadata={"from": str(before), "to": str(wanted)} if wanted else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Extensible:
    """A value object that carries attributes which we don't know, as the text of a JSON object."""

    extensions: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Money:
    """An exact amount of one currency (`unit`, ISO 4217). Amounts of different currencies never add."""

    unit: str | None = None
    value: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity(Extensible):
    """So many of some unit."""

    amount: Decimal | None = None
    units: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration(Extensible):
    """So many months, days …"""

    amount: int | None = None
    units: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TimePeriod(Extensible):
    """From an instant (included) to an instant (excluded); an absent end is open."""

    end_date_time: datetime | None = None
    start_date_time: datetime | None = None

    def covers(self, at: datetime) -> bool:
        """Whether the instant lies inside."""
        return (self.start_date_time is None or self.start_date_time <= at) and (
            self.end_date_time is None or at < self.end_date_time
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityRef(Extensible):
    """A reference to an entity of any kind."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    version: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RelatedParty(Extensible):
    """A reference to a party, or a party in a role, and what it is here."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Characteristic(Extensible):
    """A property that a specification or a user has named."""

    name: str | None = None
    value_type: str | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Extensible):
    """What somebody wrote about something."""

    id: str | None = None
    author: str | None = None
    date: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment(Extensible):
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Price(Extensible):
    """An amount with and without tax; rates and percentages in percent."""

    percentage: Decimal | None = None
    tax_rate: Decimal | None = None
    duty_free_amount: Money | None = None
    tax_included_amount: Money | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaxItem(Extensible):
    """A tax of a category, by rate (percent) or amount."""

    id: str | None = None
    href: str | None = None
    tax_category: str | None = None
    tax_rate: Decimal | None = None
    tax_amount: Money | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalReference(Extensible):
    """What another system calls the same thing."""

    external_reference_type: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MediumCharacteristic(Extensible):
    """Where a contact medium leads to."""

    city: str | None = None
    contact_type: str | None = None
    country: str | None = None
    email_address: str | None = None
    fax_number: str | None = None
    phone_number: str | None = None
    post_code: str | None = None
    social_network_id: str | None = None
    state_or_province: str | None = None
    street1: str | None = None
    street2: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContactMedium(Extensible):
    """A way to reach somebody."""

    medium_type: str | None = None
    preferred: bool | None = None
    characteristic: MediumCharacteristic | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetProductSchema(Extensible):
    """Where the schema of a product lies (in `extensions`: @type, @schemaLocation)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductSpecificationRef(Extensible):
    """A reference to a product specification."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    version: str | None = None
    target_product_schema: TargetProductSchema | None = None
    at_referred_type: str | None = None
