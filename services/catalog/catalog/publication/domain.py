"""Publishing: who may approve, what needs approval, versions, and status changes that are planned."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from catalog.pricing.domain import PricingRule
from catalog.product.domain import (
    CatalogItem,
    LifecycleStatus,
    PlannedTransition,
    ProductOffering,
    ProductOfferingPrice,
)
from catalog.product.values import BundlePricingMode, ExistingSubscribers, POPAlteration, ProductOfferingPriceRefOrValue
from chassis.errors import FailedPrecondition, Violation
from chassis.types import TimePeriod

T = TypeVar("T", bound=CatalogItem)

# From so many per cent on a discount needs a second person, unless the environment says otherwise.
LARGE_DISCOUNT_PERCENT = Decimal(30)


class AuthorshipKind(StrEnum):
    """What somebody did with a thing."""

    CHANGE = "change"
    APPROVAL = "approval"


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorshipRecord:
    """Somebody changed or approved a thing; `digest` is of what was approved."""

    id: str
    kind: AuthorshipKind
    subject: str
    at: datetime
    digest: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """A second person's word for a thing with its prices and parts."""

    id: str
    approver: str
    at: datetime
    author: tuple[str, ...] = ()
    digest: str
    note: str | None = None


def check_approver(item: CatalogItem, approver: str, authors: Iterable[str]) -> None:
    """Lets nobody approve what is (also) his own work. Raises FailedPrecondition OWN_WORK, NOTHING_TO_APPROVE."""
    if approver in authors:
        raise FailedPrecondition(
            "OWN_WORK",
            f"{approver} has changed {type(item).__name__} {item.id}, or a part of it, since it was approved last; "
            "somebody else must approve it",
            metadata={"approver": approver},
        )
    if item.status.published or item.status is LifecycleStatus.REJECTED:
        raise FailedPrecondition(
            "NOTHING_TO_APPROVE",
            f"{type(item).__name__} {item.id} is {item.status}",
            metadata={"lifecycle_status": item.status.value},
        )


def needs_approval(item: CatalogItem, threshold: Decimal) -> list[Violation]:
    """What of a thing a second person must have seen before it has its present status; none: nothing.

    Publishing an offering always does; a discount of `threshold` per cent or more, a price list and a tax rate as soon
    as they count.
    """
    found: list[Violation] = []
    if isinstance(item, ProductOffering) and item.status is LifecycleStatus.LAUNCHED:
        found.append(Violation("lifecycle_status", "an offering is published with the approval of a second person"))
    if isinstance(item, PricingRule) and item.status.live:
        found.append(Violation("lifecycle_status", "prices go by it only with the approval of a second person"))
    if item.status.live:
        found += [
            Violation(path, f"a discount of {percent.normalize():f} % needs the approval of a second person")
            for path, percent in discounts(item)
            if percent >= threshold
        ]
    return found


def discounts(item: CatalogItem) -> Iterable[tuple[str, Decimal]]:
    """Where in the thing a percentage is taken off, and how much."""
    if isinstance(item, ProductOfferingPrice):
        if item.percentage and not item.kind.startswith("surcharge"):
            yield "percentage", abs(item.percentage)
    elif isinstance(item, ProductOffering):
        for i, price in enumerate(item.product_offering_price):
            yield from _embedded(f"product_offering_price[{i}]", price)
        bundle = item.bundle_pricing
        if bundle is not None and bundle.mode is BundlePricingMode.DISCOUNT and bundle.percentage:
            yield "bundle_pricing.percentage", abs(bundle.percentage)


def _embedded(path: str, price: ProductOfferingPriceRefOrValue) -> Iterable[tuple[str, Decimal]]:
    if price.price is not None and price.price.percentage and not _adds(price.price_type):
        yield f"{path}.price.percentage", abs(price.price.percentage)
    for k, alteration in enumerate(price.price_alteration):
        percent = _percent(alteration)
        if percent and not _adds(alteration.price_type):
            yield f"{path}.price_alteration[{k}].price.percentage", percent


def _percent(alteration: POPAlteration) -> Decimal | None:
    value = alteration.price.percentage if alteration.price is not None else None
    return abs(value) if value else None


def _adds(price_type: str | None) -> bool:
    return (price_type or "").lower().startswith("surcharge")


def check_approved(item: CatalogItem, needed: Sequence[Violation], approved: bool) -> None:
    """Raises FailedPrecondition APPROVAL_REQUIRED naming what a second person must have seen, unless one has."""
    if needed and not approved:
        raise FailedPrecondition(
            "APPROVAL_REQUIRED",
            f"{type(item).__name__} {item.id} as it is now isn't approved: {needed[0].description}",
            violations=needed,
        )


# --- versions --------------------------------------------------------------------------------------------------------


def next_version(versions: Iterable[str | None]) -> str:
    """The version after all of these: the first number in the highest goes up (1.4 → 2.0, `2024 b` → `2025 b`)."""
    known = [version for version in versions if version]
    highest = max(known, key=_rank, default="1")
    number = re.search(r"\d+", highest)
    if number is None:
        return f"{highest} 2"
    rest = re.sub(r"\d+", "0", highest[number.end() :])
    return f"{highest[: number.start()]}{int(number.group()) + 1}{rest}"


def _rank(version: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", version)], version


def further_version(
    offering: ProductOffering,
    *,
    id: str,
    versions: Iterable[str | None],
    valid_from: datetime | None,
    existing_subscribers: ExistingSubscribers | None,
) -> ProductOffering:
    """A draft like the offering, the next version of its series. Raises FailedPrecondition NOT_PUBLISHED."""
    if not offering.status.published:
        raise FailedPrecondition(
            "NOT_PUBLISHED",
            f"ProductOffering {offering.id} is {offering.status}: it can still be changed as it is",
            metadata={"lifecycle_status": offering.status.value},
        )
    draft = copied(offering, id)
    draft.series = offering.series or offering.id
    draft.version = next_version(versions)
    draft.valid_for = TimePeriod(start_date_time=valid_from) if valid_from is not None else None
    draft.existing_subscribers = existing_subscribers
    draft.planned_transition = ()
    draft.status_reason = None
    return draft


def copied(item: T, id: str) -> T:
    """A draft with the same attributes."""
    # Not a copy of the object: that one is known to the mapper.
    attributes: dict[str, Any] = {field.name: getattr(item, field.name) for field in fields(item)}
    return type(item)(**{**attributes, "id": id, "revision": 0, "lifecycle_status": LifecycleStatus.IN_DESIGN})


# --- planned transitions ---------------------------------------------------------------------------------------------


def next_planned(offering: ProductOffering) -> datetime | None:
    """When the next planned transition is due that hasn't been refused."""
    return min((planned.at for planned in _open(offering) if planned.at is not None), default=None)


def due(offering: ProductOffering, at: datetime) -> PlannedTransition | None:
    """The first planned transition whose time has come."""
    found = [planned for planned in _open(offering) if planned.at is not None and planned.at <= at]
    return min(found, key=lambda planned: planned.at or at, default=None)


def without(offering: ProductOffering, planned: PlannedTransition) -> tuple[PlannedTransition, ...]:
    """The offering's plans when this one has been carried out."""
    return tuple(one for one in offering.planned_transition if one is not planned)


def refusing(offering: ProductOffering, planned: PlannedTransition, why: str) -> tuple[PlannedTransition, ...]:
    """The offering's plans when this one has been refused."""
    return tuple(replace(one, refused=why) if one is planned else one for one in offering.planned_transition)


def _open(offering: ProductOffering) -> Iterable[PlannedTransition]:
    return (
        planned
        for planned in offering.planned_transition
        if planned.refused is None and planned.lifecycle_status is not None and planned.at is not None
    )


# --- retirement ------------------------------------------------------------------------------------------------------

# An order that was taken before the sale ended may become a product later: one that waits for its customer as long as
# 14 days, one for a later date longer. So a retired offering is looked at again, after 1, 2, 4 … minutes, for a month.
FIRST_LOOK, LAST_LOOK = timedelta(minutes=1), timedelta(days=30)


def check_unheld(offering: ProductOffering, holders: int) -> None:
    """Keeps an offering that somebody has. Raises FailedPrecondition HAS_HOLDERS with their number, whatever branch."""
    if holders:
        why = (
            f"{holders} live {'product is' if holders == 1 else 'products are'} of it; "
            "migrate them to another version, or let them end"
        )
        raise FailedPrecondition(
            "HAS_HOLDERS",
            f"ProductOffering {offering.id} can't be {offering.status}: {why}",
            violations=[Violation("lifecycle_status", why)],
            metadata={"holders": str(holders)},
        )


def next_look(retired_at: datetime, at: datetime) -> datetime | None:
    """When a retired offering is looked at for late holders again; None: not any more."""
    waited = max(at - retired_at, FIRST_LOOK / 2)
    following = retired_at + 2 * waited
    return following if following - retired_at <= LAST_LOOK else None
