"""Which periods a recurring charge is billed for, and what part of a whole period each is: exact fractions of days.

The calendar convention (that of Kill Bill, whose test cases the tests read):

* Everything is a calendar date in the zone of the account; a period begins on its first date and ends before its last,
  so neither hours nor changes of the clock play a part.
* A period of months is billed on the billing day, or on the last day of a month that is too short for it. The first
  billing date is the billing day in the month of the start or, if that is past, one whole period after it.
* What lies before the first billing date is the leading part: its days by the days of the whole period that ends there,
  which begins so many months before it.
* What lies after the last billing date, when there is an end, is the trailing part: its days by the days from that
  billing date to the one which would follow.
* A period of days or weeks is counted from the start: it has no billing day and no leading part.
* In advance, a target date bills every period that has begun by then; in arrears, every one that has ended.
"""

import calendar
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from zoneinfo import ZoneInfo

from catalog.pricing.money import number, rounded
from catalog.pricing.offers import canonical
from catalog.pricing.receipts import Receipt, ReceiptStep, reading
from chassis.errors import InvalidArgument, Violation
from chassis.types import Json, decimal_of

ENGINE = "catalog.proration"
# Raised with every change of a rule; a receipt is replayed by the engine of its own revision.
REVISION = "1"

_UNITS = {"day": (1, False), "week": (7, False), "month": (1, True), "year": (12, True)}
_PERIOD = re.compile(r"(?:(\d{1,4}) )?([a-z]+)")
# As many billing dates as one answer may hold: 27 years of days.
MAX_PARTS = 10_000


class BillingMode(StrEnum):
    """Whether a period is billed when it begins or when it has ended."""

    IN_ADVANCE = "inAdvance"
    IN_ARREARS = "inArrears"


@dataclass(frozen=True, slots=True)
class Cycle:
    """How often a charge recurs: every so many months (`monthly`) or days."""

    count: int
    monthly: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch that is billed, from a date (included) to a date (excluded), and the days of its whole."""

    start: date
    end: date
    of_days: int

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.end - self.start).days

    @property
    def fraction(self) -> Fraction:
        """What part of a whole period it is; 1 for a whole one."""
        return Fraction(self.days, self.of_days)


@dataclass(frozen=True, slots=True)
class Change:
    """A change within a billed period, or several: `used` and `credit` (minor units) sum to what these were billed."""

    fraction: Fraction
    used: Decimal
    credit: Decimal
    charge: Decimal


def local_date(at: datetime, zone: str) -> date:
    """The date on which the instant falls in the zone (IANA name): what the calendar here counts by."""
    return at.astimezone(ZoneInfo(zone)).date()


def cycle(period: str) -> Cycle:
    """How often `month`, `3 month`, `2 week` … recurs: the spelling of `catalog.pricing.offers.charge_period`.

    Raises InvalidArgument UNKNOWN_PERIOD.
    """
    match = _PERIOD.fullmatch(period)
    if match is None or match[2] not in _UNITS or not int(match[1] or 1):
        raise InvalidArgument("UNKNOWN_PERIOD", f"{period!r} is no period of days, weeks, months or years")
    factor, monthly = _UNITS[match[2]]
    return Cycle(int(match[1] or 1) * factor, monthly)


def first_billing_date(every: Cycle, start: date, billing_day: int | None) -> date:
    """The first date on which a whole period begins: the start itself unless the billing day is another one.

    Raises InvalidArgument INVALID_BILLING_DAY for a day that isn't 1 … 31, or none for a period of months.
    """
    if not every.monthly:
        return start
    if billing_day is None or not 1 <= billing_day <= 31:
        raise InvalidArgument(
            "INVALID_BILLING_DAY",
            f"{billing_day} is no day of a month",
            violations=[Violation("billing_day", "from 1 to 31")],
        )
    first = _in_month(start.year, start.month, billing_day)
    return first if first >= start else _months_later(start, every.count, billing_day)


def parts(
    every: Cycle,
    start: date,
    end: date | None,
    target: date,
    billing_day: int | None = None,
    mode: BillingMode = BillingMode.IN_ADVANCE,
) -> list[Part]:
    """What is billed up to the target date of a charge that runs from `start` until `end` (excluded; None: for ever).

    Raises InvalidArgument INVALID_BILLING_DAY, PERIOD_REVERSED for an end before the start, TOO_MANY_PERIODS.
    """
    if end is not None and end < start:
        raise InvalidArgument(
            "PERIOD_REVERSED", f"it ends on {end}, before {start}", violations=[Violation("end", "before the start")]
        )
    result: list[Part] = []
    for whole_start, whole_end, part_start in _wholes(every, start, billing_day):
        part_end = whole_end if end is None else min(whole_end, end)
        due = part_start if mode is BillingMode.IN_ADVANCE else part_end
        if due > target or part_start >= part_end:
            return result
        if len(result) == MAX_PARTS:
            raise InvalidArgument("TOO_MANY_PERIODS", f"more than {MAX_PARTS} periods until {target}")
        result.append(Part(part_start, part_end, (whole_end - whole_start).days))
    return result


def cycles(billed: Sequence[Part]) -> Fraction:
    """How many whole periods the parts come to."""
    return sum((part.fraction for part in billed), Fraction(0))


def prorated(amount: Decimal, fraction: Fraction, currency: str) -> Decimal:
    """That fraction of an amount for a whole period, in the currency's minor units, half away from zero."""
    return rounded(Fraction(amount) * fraction, currency)


def changed(period: Part, at: date, billed: Decimal, new: Decimal, currency: str) -> Change:
    """What a change on the date `at` within a billed period gives back, and charges anew.

    `billed` is what the period was billed, `new` the new amount for a *whole* period. The days from `at` on are
    credited (their part of what was billed) and charged (their part of a whole period at the new amount); the credit is
    rounded, and what was used is the rest, so that nothing is lost between the two.

    Raises InvalidArgument OUTSIDE_PERIOD when the date isn't in the period.
    """
    if not period.start <= at <= period.end:
        raise InvalidArgument(
            "OUTSIDE_PERIOD",
            f"{at} isn't between {period.start} and {period.end}",
            violations=[Violation("at", "outside")],
        )
    left = (period.end - at).days
    credit = prorated(billed, Fraction(left, period.days), currency)
    whole = Fraction(left, period.of_days)
    return Change(whole, billed - credit, credit, prorated(new, whole, currency))


@dataclass(frozen=True, slots=True)
class Asked:
    """A recurring charge to be prorated: `amount` for a whole period, and the dates that count."""

    rule: str
    amount: Decimal
    currency: str
    period: str
    start: date
    end: date | None
    target: date
    billing_day: int | None = None
    mode: BillingMode = BillingMode.IN_ADVANCE
    # A change within a billed period: when, and the new amount for a whole one. It concerns those billed after it too.
    changed_at: date | None = None
    changed_to: Decimal | None = None


@dataclass(slots=True)
class Proration:
    """What is billed of each part, what a change comes to, and the receipt."""

    part: tuple[tuple[Part, Decimal], ...]
    amount: Decimal
    currency: str
    change: Change | None
    changed_at: date | None
    receipt: Receipt


def prorate(asked: Asked) -> Proration:
    """What is billed of a recurring charge up to the target date, each part rounded by itself.

    Raises what `cycle`, `parts` and `changed` do; OUTSIDE_PERIOD also when the change is in no billed part.
    """
    billed = parts(cycle(asked.period), asked.start, asked.end, asked.target, asked.billing_day, asked.mode)
    steps: list[ReceiptStep] = []
    amounts = [prorated(asked.amount, part.fraction, asked.currency) for part in billed]
    for part, amount in zip(billed, amounts, strict=True):
        steps.append(
            ReceiptStep(
                f"{part.start}/{part.end}",
                "PERIOD_BILLED",
                asked.rule,
                f"{number(asked.amount)} {asked.currency}",
                f"{number(amount)} {asked.currency}",
                str(part.fraction),
            )
        )
    change = _change(asked, billed, amounts, steps)
    inputs = {field.name: _plain(getattr(asked, field.name)) for field in fields(asked)}
    return Proration(
        tuple(zip(billed, amounts, strict=True)),
        sum(amounts, Decimal(0)),
        asked.currency,
        change,
        asked.changed_at,
        Receipt(ENGINE, REVISION, Json(canonical(inputs)), tuple(steps)),
    )


def replay(receipt: Receipt) -> Proration:
    """The same answer again, from nothing but the receipt's inputs. Raises InvalidArgument UNKNOWN_ENGINE."""
    if (receipt.engine, receipt.revision) != (ENGINE, REVISION):
        raise InvalidArgument("UNKNOWN_ENGINE", f"{receipt.engine} {receipt.revision} isn't {ENGINE} {REVISION}")
    with reading():
        inputs = json.loads(receipt.inputs.text)
        dates = ("start", "end", "target", "changed_at")
        stated = {name: date.fromisoformat(inputs[name]) for name in dates if inputs[name] is not None}
        asked = Asked(
            rule=inputs["rule"],
            amount=decimal_of(inputs["amount"]),
            currency=inputs["currency"],
            period=inputs["period"],
            start=stated["start"],
            end=stated.get("end"),
            target=stated["target"],
            billing_day=inputs["billing_day"],
            mode=BillingMode(inputs["mode"]),
            changed_at=stated.get("changed_at"),
            changed_to=None if inputs["changed_to"] is None else decimal_of(inputs["changed_to"]),
        )
    return prorate(asked)


def _plain(value: Decimal | date | int | str | None) -> int | str | None:
    if isinstance(value, Decimal):
        return number(value)
    return value if value is None or isinstance(value, int) else str(value)


def _change(
    asked: Asked, billed: Sequence[Part], amounts: Sequence[Decimal], steps: list[ReceiptStep]
) -> Change | None:
    if asked.changed_at is None:
        return None
    at, new = asked.changed_at, asked.changed_to or Decimal(0)
    touched = [(part, amount) for part, amount in zip(billed, amounts, strict=True) if at < part.end]
    if not touched or at < billed[0].start:
        raise InvalidArgument(
            "OUTSIDE_PERIOD", f"{at} is in no billed period", violations=[Violation("changed_at", "outside")]
        )
    whole = Change(Fraction(0), Decimal(0), Decimal(0), Decimal(0))
    for part, amount in touched:
        since = max(at, part.start)
        change = changed(part, since, amount, new, asked.currency)
        for action, before, after in (("CREDITED", amount, change.credit), ("CHARGED", new, change.charge)):
            steps.append(
                ReceiptStep(
                    f"{since}/{part.end}",
                    action,
                    asked.rule,
                    f"{number(before)} {asked.currency}",
                    f"{number(after)} {asked.currency}",
                    str(change.fraction),
                )
            )
        whole = Change(
            whole.fraction + change.fraction,
            whole.used + change.used,
            whole.credit + change.credit,
            whole.charge + change.charge,
        )
    return whole


def _wholes(every: Cycle, start: date, billing_day: int | None) -> Iterator[tuple[date, date, date]]:
    """Start and end of each whole period, and from where on it is had."""
    first = first_billing_date(every, start, billing_day)
    if start < first:
        # Counted back from the first billing date as it is: from 28 February to 28 January, whatever the billing day.
        yield _months_later(first, -every.count, first.day), first, start
    begin = first
    for n in range(1, MAX_PARTS + 2):
        if every.monthly:
            end = _months_later(first, n * every.count, billing_day or first.day)
        else:
            end = first + timedelta(days=n * every.count)
        yield begin, end, begin
        begin = end


def _months_later(origin: date, months: int, day: int) -> date:
    index = origin.year * 12 + origin.month - 1 + months
    return _in_month(index // 12, index % 12 + 1, day)


def _in_month(year: int, month: int, day: int) -> date:
    if not 1 <= year <= date.max.year:
        raise InvalidArgument("DATE_OUT_OF_RANGE", f"there is no year {year} in this calendar")
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))
