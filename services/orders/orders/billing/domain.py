"""Charge events and the hash chains that they are sealed into. Pure: no I/O, no clock.

A chain is (source, account, epoch). Its events are numbered from 1 without a gap, and

    hash = hex SHA-256(previous hash ‖ data)

where `previous hash` is its 64 lower-case hexadecimal characters in ASCII (64 zeros before a chain's first event) and
`data` is the RFC 8785 canonical JSON of the charge together with its source, account, epoch and sequence. The first
event of a chain that continues an account after a restore names the last event that both histories share:
`"lastCommon": {"epoch", "sequence", "hash"}`; without it, the account had no sealed charge before.
"""

import calendar
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from chassis.errors import InvalidArgument, Violation
from chassis.types import Money, TimePeriod, new_id

SOURCE = "svyaz/orders"
ZERO_HASH = "0" * 64

# How long the periods of a charge or a discount are; the catalog knows these by more names.
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}

# An account travels in a message header, which holds printable ASCII only.
_ACCOUNT = re.compile(r"[!-~]{1,200}")


class ChargeType(StrEnum):
    """What happened to a charge."""

    CHARGE_CREATE = "ChargeCreateEvent"
    RECURRING_CHARGE_START = "RecurringChargeStartEvent"
    RECURRING_CHARGE_CHANGE = "RecurringChargeChangeEvent"
    RECURRING_CHARGE_STOP = "RecurringChargeStopEvent"
    # Between these two it isn't charged.
    RECURRING_CHARGE_SUSPEND = "RecurringChargeSuspendEvent"
    RECURRING_CHARGE_RESUME = "RecurringChargeResumeEvent"
    # What an account gets: amounts of these are negative.
    CREDIT_CREATE = "CreditCreateEvent"
    DISCOUNT_CREATE = "DiscountCreateEvent"
    POINTS_REDEMPTION = "PointsRedemptionEvent"
    CHARGE_CORRECTION = "ChargeCorrectionEvent"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeAlteration:
    """A discount (negative) or surcharge that `amount` contains, for so many `units` from when the charge occurs.

    Without a duration it lasts as long as the charge. `percentage` in percent, amounts before tax. `valid_for`: of a
    charge that goes on with it, since when it has run and when it ends; its duration isn't granted anew.
    """

    amount: Money
    name: str | None = None
    product_offering_price_id: str = ""
    # What granted it, when that isn't a price of the catalog.
    promotion_id: str = ""
    percentage: Decimal | None = None
    duration: int | None = None
    units: str | None = None
    valid_for: TimePeriod | None = None

    def until(self, begins: datetime) -> datetime | None:
        """The instant from which the charge is without it, by the calendar in UTC; None: never, or by odd units."""
        if self.valid_for is not None:
            return self.valid_for.end_date_time
        if self.duration is None:
            return None
        # The periods of a charge can be several of a unit: `3 month`.
        number, _, unit = (self.units or "").rpartition(" ")
        if number and not number.isdecimal():
            return None
        duration = self.duration * int(number or 1)
        try:
            if unit in _SECONDS:
                return begins + timedelta(seconds=_SECONDS[unit] * duration)
            if unit in _DAYS:
                return begins + timedelta(days=_DAYS[unit] * duration)
            if unit not in _MONTHS:
                return None
            month = begins.month - 1 + _MONTHS[unit] * duration
            first = begins.replace(year=begins.year + month // 12, month=month % 12 + 1, day=1)
            return first.replace(day=min(begins.day, calendar.monthrange(first.year, first.month)[1]))
        except (OverflowError, ValueError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeEvent:
    """A charge as the order's transaction writes it, not yet in a chain. It holds ids only, nothing personal.

    `amount` is before tax and after its alterations, `list_amount` before both, `tax_rate` in percent,
    `receipt_digest` the hex SHA-256 of the receipt that explains the amount. Raises InvalidArgument CHARGE_INVALID
    naming each wrong field.
    """

    type: ChargeType
    account: str
    branch: str
    occurred_at: datetime
    product_id: str
    order_id: str
    order_item_id: str
    customer_id: str
    product_offering_id: str
    product_offering_price_id: str
    amount: Money
    # How a bill calls it, and why there is one, as a code.
    name: str | None = None
    reason: str | None = None
    # What brought it about when no order did: `slaCredit/` and the id of the breach.
    cause: str | None = None
    # The event of the charge that it is set against.
    charge_id: str | None = None
    points: int | None = None
    tax_rate: Decimal | None = None
    tax_included_amount: Money | None = None
    recurring_charge_period: str | None = None
    receipt_digest: str | None = None
    list_amount: Money | None = None
    alteration: tuple[ChargeAlteration, ...] = ()
    id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        violations = []
        if not _ACCOUNT.fullmatch(self.account):
            violations.append(Violation("account", "must be 1 to 200 printable ASCII characters without blanks"))
        if not self.branch:
            violations.append(Violation("branch", "is missing"))
        if self.occurred_at.tzinfo is None:
            violations.append(Violation("occurred_at", "must have a time zone"))
        amounts = [("amount", self.amount), ("tax_included_amount", self.tax_included_amount)]
        amounts += [("list_amount", self.list_amount), *(("alteration", one.amount) for one in self.alteration)]
        for name, money in amounts:
            if money is not None and (not money.unit or money.value is None or not money.value.is_finite()):
                violations.append(Violation(name, "must have a currency and a finite value"))
        if self.tax_rate is not None and not self.tax_rate.is_finite():
            violations.append(Violation("tax_rate", "must be finite"))
        if self.type is ChargeType.CHARGE_CREATE and self.recurring_charge_period is not None:
            violations.append(Violation("recurring_charge_period", "belongs to recurring charges"))
        if violations:
            raise InvalidArgument(
                "CHARGE_INVALID", "this isn't a charge that billing could take", violations=violations
            )

    def draft(self) -> str:
        """The charge as JSON text, without what only a chain gives it. Amounts are decimal strings, never floats."""
        fields: dict[str, Any] = {
            "id": self.id,
            "type": self.type.value,
            "source": SOURCE,
            "account": self.account,
            "branch": self.branch,
            "occurredAt": _instant(self.occurred_at),
            "productId": self.product_id or None,
            "productOrderId": self.order_id or None,
            "productOrderItemId": self.order_item_id or None,
            "customerId": self.customer_id or None,
            "productOfferingId": self.product_offering_id or None,
            "productOfferingPriceId": self.product_offering_price_id or None,
            "amount": _money(self.amount),
            "name": self.name,
            "reason": self.reason,
            "cause": self.cause,
            "chargeId": self.charge_id,
            "points": self.points,
            "taxRate": None if self.tax_rate is None else f"{self.tax_rate:f}",
            "taxIncludedAmount": _money(self.tax_included_amount),
            "recurringChargePeriod": self.recurring_charge_period,
            "receiptDigest": self.receipt_digest,
            "listAmount": _money(self.list_amount),
            "alteration": [_alteration(one, self.occurred_at) for one in self.alteration] or None,
        }
        return canonical(_stated(fields)).decode()


def _alteration(alteration: ChargeAlteration, begins: datetime) -> dict[str, Any]:
    until = alteration.until(begins.astimezone(UTC))
    since = alteration.valid_for.start_date_time if alteration.valid_for is not None else None
    return _stated(
        {
            "name": alteration.name,
            "productOfferingPriceId": alteration.product_offering_price_id or None,
            "promotionId": alteration.promotion_id or None,
            "percentage": None if alteration.percentage is None else f"{alteration.percentage:f}",
            "amount": _money(alteration.amount),
            "applicationDuration": (
                None
                if alteration.duration is None
                else _stated({"amount": alteration.duration, "units": alteration.units})
            ),
            # Of what goes on: since when its duration counts.
            "since": None if since is None else _instant(since),
            "until": None if until is None else _instant(until),
        }
    )


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _money(money: Money | None) -> dict[str, str] | None:
    return None if money is None else {"unit": str(money.unit), "value": f"{money.value:f}"}


# --- chains ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """The last link of a chain."""

    epoch: int
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A committed charge that waits for its place in the chain of its account; `key` is where it is stored."""

    key: int
    account: str
    branch: str
    draft: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A charge in its place. `data` are the very bytes that were hashed."""

    key: int
    account: str
    epoch: int
    sequence: int
    previous_hash: str
    hash: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """A link of a chain as the stream has it."""

    account: str
    epoch: int
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Growth:
    """A chain that got longer: by `count` events, from `old_sequence` (0: it is new) to `head`."""

    account: str
    branch: str
    old_sequence: int
    head: Head
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """How far a chain has come, or how much of it occurred on a day. `last_hash` is the hash at `last_sequence`.

    `unsealed`: committed but not yet in a chain; `unsent`: sealed but not yet acknowledged by the stream;
    `unacknowledged`: sealed but not yet by billing.
    """

    account: str
    epoch: int
    count: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    last_hash: str = ""
    unsealed: int = 0
    unsent: int = 0
    unacknowledged: int = 0


def chain_hash(previous_hash: str, data: bytes) -> str:
    """The hash of an event: lower-case hexadecimal."""
    return hashlib.sha256(previous_hash.encode("ascii") + data).hexdigest()


def canonical(fields: Mapping[str, Any]) -> bytes:
    """The RFC 8785 form of an object of strings, whole numbers below 2⁵³, such objects and lists of them, with names
    in ASCII.

    For these Python's own encoder writes the same bytes as the library `rfc8785`, five times as fast; the names' order
    by code point is then that by UTF-16, and there is no fraction to format.
    """
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def seal(unsealed: Unsealed, *, epoch: int, head: Head | None) -> Sealed:
    """Gives a charge the next place in its account's chain; `head` is the account's last link, of whatever epoch."""
    fields = json.loads(unsealed.draft)
    if head is not None and head.epoch == epoch:
        sequence, previous_hash = head.sequence + 1, head.hash
    else:
        sequence, previous_hash = 1, ZERO_HASH
        if head is not None:
            fields["lastCommon"] = {"epoch": head.epoch, "sequence": head.sequence, "hash": head.hash}
    fields["epoch"] = epoch
    fields["sequence"] = sequence
    data = canonical(fields)
    return Sealed(
        key=unsealed.key,
        account=unsealed.account,
        epoch=epoch,
        sequence=sequence,
        previous_hash=previous_hash,
        hash=chain_hash(previous_hash, data),
        data=data,
    )


def seal_all(batch: Iterable[Unsealed], *, epoch: int, heads: Mapping[str, Head]) -> tuple[list[Sealed], list[Growth]]:
    """Seals a batch in its order; also returns how each chain grew.

    Where two branches begin an account's chain in one batch, the first has it; what the others charge is left out.
    """
    current = dict(heads)
    sealed: list[Sealed] = []
    grown: dict[str, Growth] = {}
    for unsealed in batch:
        account = unsealed.account
        first = grown.get(account)
        if first is not None and first.branch != unsealed.branch:
            continue
        before = current.get(account)
        event = seal(unsealed, epoch=epoch, head=before)
        sealed.append(event)
        head = current[account] = Head(epoch, event.sequence, event.hash)
        old_sequence = event.sequence - 1 if first is None else first.old_sequence
        grown[account] = Growth(account, unsealed.branch, old_sequence, head, event.sequence - old_sequence)
    return sealed, list(grown.values())


# --- days ------------------------------------------------------------------------------------------------------------


def parse_day(text: str) -> date:
    """A local date YYYY-MM-DD. Raises InvalidArgument DAY_INVALID."""
    # The last representable day has no next midnight.
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) and text < "9999":
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidArgument(
        "DAY_INVALID", f"{text!r} is no date", violations=[Violation("day", "must be YYYY-MM-DD and exist")]
    )
