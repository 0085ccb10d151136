"""Why products don't work for a time, and what of them is charged meanwhile. Pure: no I/O, no clock.

A product has the reasons that are its own, and those of the bundle that it is in. It is to be suspended as long as one
of them is in force, and resumes when none is: a part that is suspended itself stays so when its bundle resumes.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.products import ProductPrice, ProductSuspension, SuspensionReason
from chassis.types import Aggregate, TimePeriod

# What isn't charged where no rule says otherwise: who is in debt, or defrauds, goes on owing what he has signed for;
# who puts his contract to rest, or is kept from using it by an authority, has nothing to pay for.
UNCHARGED = frozenset({SuspensionReason.VOLUNTARY, SuspensionReason.REGULATORY})

Suspensions = tuple[ProductSuspension, ...]


@dataclass(kw_only=True, eq=False)
class SuspensionRule(Aggregate):
    """Whether a recurring price is charged while its product is suspended."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset()

    description: str | None = None
    product_offering_id: str | None = None
    product_offering_price_id: str | None = None
    # None: for every reason.
    reason: SuspensionReason | None = None
    charged: bool | None = None

    def fits(self, reason: SuspensionReason | None, offering_id: str | None, price_id: str | None) -> bool:
        """Whether it says something of this price of this offering, suspended for this reason."""
        return (
            self.reason in (None, reason)
            and self.product_offering_id in (None, offering_id)
            and self.product_offering_price_id in (None, price_id)
        )

    @property
    def weight(self) -> tuple[bool, bool, bool, str]:
        """The greater, the more definite; of two that are as definite the later one."""
        named = (self.product_offering_price_id, self.product_offering_id, self.reason)
        price, offering, reason = (one is not None for one in named)
        return price, offering, reason, self.id


def name_of(price: ProductPrice) -> str:
    """By what a price of a product is called: its id in the catalog, or its name where it has none."""
    reference = price.product_offering_price
    return (reference.id if reference is not None else None) or price.name or ""


def uncharged(
    reason: SuspensionReason | None,
    offering_id: str | None,
    prices: Iterable[ProductPrice],
    rules: Sequence[SuspensionRule],
) -> tuple[str, ...]:
    """The names of those prices that aren't charged while the reason holds."""
    found = []
    for price in prices:
        name = name_of(price)
        fitting = [rule for rule in rules if rule.fits(reason, offering_id, name)]
        charged = max(fitting, key=lambda rule: rule.weight).charged if fitting else reason not in UNCHARGED
        if not charged:
            found.append(name)
    return tuple(dict.fromkeys(found))


def wish(reason: SuspensionReason | None, start: datetime, end: datetime | None, note: str | None) -> ProductSuspension:
    """A reason of a product's own. Raises InvalidArgument REQUIRED, INVALID_PERIOD."""
    if reason is None:
        raise InvalidArgument("REQUIRED", "it needs a reason", violations=[Violation("reason", "required")])
    if end is not None and end <= start:
        raise InvalidArgument(
            "INVALID_PERIOD", "it would end before it begins", violations=[Violation("end", "must be after the start")]
        )
    return ProductSuspension(
        reason=reason, valid_for=TimePeriod(start_date_time=start, end_date_time=end), note=note or None
    )


def in_force(suspensions: Iterable[ProductSuspension], at: datetime) -> Suspensions:
    """Those that hold at the instant: from their start on, and no more at their end."""
    return tuple(one for one in suspensions if not _planned(one, at) and not _over(one, at))


def lasting(suspensions: Iterable[ProductSuspension], at: datetime) -> Suspensions:
    """Those that hold, or will."""
    return tuple(one for one in suspensions if not _over(one, at))


def _planned(one: ProductSuspension, at: datetime) -> bool:
    start = one.valid_for.start_date_time if one.valid_for is not None else None
    return start is not None and start > at


def _over(one: ProductSuspension, at: datetime) -> bool:
    end = one.valid_for.end_date_time if one.valid_for is not None else None
    return end is not None and end <= at


def next_turn(suspensions: Iterable[ProductSuspension], at: datetime) -> datetime | None:
    """When the next of a product's own begins or ends by itself; those of its bundle turn with that."""
    instants = [
        instant
        for one in own(suspensions)
        if one.valid_for is not None
        for instant in (one.valid_for.start_date_time, one.valid_for.end_date_time)
        if instant is not None and instant > at
    ]
    return min(instants, default=None)


def with_reason(suspensions: Suspensions, wanted: ProductSuspension, at: datetime) -> Suspensions:
    """With a reason of the product's own. One that is there already takes the new end and note, and the new beginning
    unless it has begun."""
    before = next((one for one in own(suspensions) if one.reason is wanted.reason), None)
    if before is None:
        return (*suspensions, wanted)
    if not _planned(before, at) and before.valid_for is not None and wanted.valid_for is not None:
        began = before.valid_for.start_date_time
        wanted = replace(wanted, valid_for=replace(wanted.valid_for, start_date_time=began))
    renewed = replace(before, valid_for=wanted.valid_for, note=wanted.note or before.note)
    return tuple(renewed if one is before else one for one in suspensions)


def without(suspensions: Suspensions, reasons: Collection[SuspensionReason | None]) -> Suspensions:
    """Without these reasons, as far as they are the product's own."""
    return tuple(one for one in suspensions if one.reason not in reasons or one.inherited_from is not None)


def without_reason(suspensions: Suspensions, reason: SuspensionReason | None) -> Suspensions:
    """Without a reason of the product's own. Raises FailedPrecondition NOT_SUSPENDED when it has none such."""
    kept = without(suspensions, {reason})
    if len(kept) == len(suspensions):
        inherited = next((one.inherited_from for one in suspensions if one.reason is reason), None)
        why = f"only its bundle {inherited} is: resume that" if inherited else "it isn't suspended for that"
        raise FailedPrecondition("NOT_SUSPENDED", f"{reason}: {why}", violations=[Violation("reason", why)])
    return kept


def inherited(before: Suspensions, above: Iterable[ProductSuspension], bundle_id: str) -> Suspensions:
    """What a part has of its bundle: `above` are those that are in force for that, `before` what the part had."""
    known = {(one.reason, one.inherited_from): one for one in before}
    following = []
    for one in above:
        source = one.inherited_from or bundle_id
        fresh = ProductSuspension(reason=one.reason, inherited_from=source)
        following.append(replace(known.get((one.reason, source), fresh), valid_for=one.valid_for))
    return tuple(following)


def own(suspensions: Iterable[ProductSuspension]) -> Suspensions:
    """Those that aren't the bundle's."""
    return tuple(one for one in suspensions if one.inherited_from is None)


def resting(
    suspensions: Suspensions,
    offering_id: str | None,
    prices: Sequence[ProductPrice],
    rules: Sequence[SuspensionRule],
    at: datetime,
) -> tuple[str, ...]:
    """The names of the prices that one of those in force keeps from being charged: who is in debt too doesn't pay for
    what rests."""
    held = in_force(suspensions, at)
    names = {name for one in held for name in uncharged(one.reason, offering_id, prices, rules)}
    return tuple(sorted(names))
