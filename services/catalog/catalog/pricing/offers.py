"""What pricing knows of an offering: compiled once from the catalog's things, then priced any number of times."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from catalog.product.domain import (
    CHARGES,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
    alters,
    kind_of_price,
)
from catalog.product.values import POPAlteration, ProductOfferingPriceRefOrValue, ProductPriceValue
from chassis.types import Duration, EntityRef, TimePeriod

# How often a recurring charge recurs, in the spellings that occur; others are kept as they are.
_PERIODS = {
    name: period
    for period, names in {
        (1, "day"): "day days daily",
        (1, "week"): "week weeks weekly",
        (2, "week"): "biweekly fortnight fortnights fortnightly",
        (30, "day"): "thirtydays",
        (1, "month"): "month months monthly",
        (2, "month"): "bimonthly bimestrial",
        (3, "month"): "quarter quarters quarterly",
        (4, "month"): "triannual",
        (6, "month"): "halfyear halfyearly semiannual semiannually biannual",
        (1, "year"): "year years yearly annual annually",
        (2, "year"): "biennial",
    }.items()
    for name in names.split()
}


@dataclass(frozen=True, slots=True)
class Alteration:
    """A discount (negative) or surcharge, by percent or by an amount per unit."""

    rule: str
    ref: EntityRef | None
    name: str
    priority: int
    # The kind of charge that it is for; empty: any.
    kind: str
    percentage: Decimal | None
    amount: Decimal | None
    # The amount includes the tax of what it alters.
    gross: bool
    currency: str
    status: str
    valid_for: TimePeriod
    note: str
    # From when the charge begins; None: for as long as it runs.
    duration: Duration | None


@dataclass(frozen=True, slots=True)
class Charge:
    """A price of an offering, per unit. `gross`: the amount includes the tax; `tax_rate` in percent."""

    rule: str
    ref: EntityRef | None
    name: str
    kind: str
    period: str
    currency: str
    amount: Decimal | None
    gross: bool
    tax_rate: Decimal | None
    status: str
    valid_for: TimePeriod
    alterations: tuple[Alteration, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """All that pricing needs to know of an offering, at any instant; immutable, so it can be kept and shared."""

    id: str
    ref: EntityRef
    specification: EntityRef | None
    is_bundle: bool
    is_sellable: bool
    status: str
    valid_for: TimePeriod
    charges: tuple[Charge, ...]
    bundled: tuple[tuple[str, int], ...]
    # References that lead nowhere.
    broken: tuple[str, ...]
    # The same as canonical JSON (RFC 8785): what a receipt quotes.
    text: str = field(repr=False)


_ONLY_OF_ALTERATIONS = ("percentage", "meant", "priority")


def price_ids(offering: ProductOffering) -> Iterable[str]:
    """The prices that the offering refers to."""
    return [p.id for p in offering.product_offering_price if p.price is None and p.id]


def related_price_ids(price: ProductOfferingPrice) -> Iterable[str]:
    """The prices that the price is made of or altered by."""
    yield from (part.id for part in price.bundled_pop_relationship if part.id)
    yield from (relation.id for relation in price.pop_relationship if relation.id and alters(relation))


def compile_offer(offering: ProductOffering, prices: Mapping[str, ProductOfferingPrice]) -> Offer:
    """What pricing knows of the offering; `prices` holds what it refers to, directly or through other prices."""
    charges: list[dict[str, Any]] = []
    everywhere: list[dict[str, Any]] = []
    broken: list[str] = []
    for i, price in enumerate(offering.product_offering_price):
        embedded = [
            _embedded_alteration(f"{offering.id}#{i}.{k}", alteration, alteration.price)
            for k, alteration in enumerate(price.price_alteration)
            if alteration.price is not None
        ]
        if price.price is None:
            found = _flattened(price.id or "", prices, broken, ())
        else:
            found = [_embedded_charge(f"{offering.id}#{i}", price, price.price)]
        for data in found:
            data["alterations"] += embedded
            # A price without an amount is no charge of its own but alters those beside it.
            (charges if data["amount"] is not None or data["percentage"] is None else everywhere).append(data)
    for data in charges:
        data["alterations"] += [_as_alteration(price) for price in everywhere]
        data["alterations"].sort(key=lambda a: (a["priority"], a["rule"]))
        for name in _ONLY_OF_ALTERATIONS:
            del data[name]
    spec = offering.product_specification
    return parse_offer(
        {
            "id": offering.id,
            "name": offering.name or "",
            "version": offering.version or "",
            "specification": {"id": spec.id, "name": spec.name or ""} if spec is not None and spec.id else None,
            "is_bundle": bool(offering.is_bundle or offering.bundled_product_offering),
            "is_sellable": offering.is_sellable is not False,
            "status": offering.status.value,
            "valid_for": _window(offering.valid_for),
            "charges": charges,
            "bundled": [{"id": b.id or "", "number": b.default_number} for b in offering.bundled_product_offering],
            "broken": broken,
        }
    )


def _flattened(
    id: str, prices: Mapping[str, ProductOfferingPrice], broken: list[str], above: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The charges of a price, and of those that it is made of."""
    price = prices.get(id)
    if price is None or id in above:
        broken.append(f"there is no price {id!r}" if price is None else f"price {id} contains itself")
        return []
    alterations = []
    for relation in price.pop_relationship:
        if not alters(relation):
            continue
        other = prices.get(relation.id or "")
        if other is None:
            broken.append(f"there is no price {relation.id!r}")
        else:
            surcharge = (relation.relationship_type or "").lower().startswith("surcharge")
            alterations.append(_as_alteration(_charge_of(other), surcharge=surcharge))
    own = [_charge_of(price)] if price.price is not None or not price.bundled_pop_relationship else []
    for part in price.bundled_pop_relationship:
        own += _flattened(part.id or "", prices, broken, (*above, id))
    for data in own:
        data["alterations"] += alterations
    return own


def _charge_of(price: ProductOfferingPrice) -> dict[str, Any]:
    money = price.price
    rates = [tax.tax_rate for tax in price.tax if tax.tax_rate is not None]
    return {
        "rule": price.id,
        "id": price.id,
        "name": price.name or "",
        "kind": price.kind,
        "meant": _meant(price.price_type),
        "priority": price.priority or 0,
        "period": charge_period(price.recurring_charge_period_type, price.recurring_charge_period_length),
        "currency": (money.unit or "") if money is not None else "",
        "amount": _text(money.value) if money is not None else None,
        "percentage": _text(price.percentage) if price.percentage else None,
        "gross": False,
        "tax_rate": _text(sum(rates, Decimal())) if rates else None,
        "status": price.status.value,
        "valid_for": _window(price.valid_for),
        "alterations": [],
    }


def _embedded_charge(rule: str, price: ProductOfferingPriceRefOrValue, value: ProductPriceValue) -> dict[str, Any]:
    return {
        "rule": price.id or rule,
        "id": price.id or "",
        "name": price.name or "",
        "kind": kind_of_price(price.price_type, price.recurring_charge_period),
        "meant": "",
        "priority": 0,
        "period": charge_period(price.recurring_charge_period, price.recurring_charge_period_length),
        **_amount_of(value),
        "tax_rate": _text(value.tax_rate),
        # A price inside an offering lives and dies with it.
        "status": price.lifecycle_status or "Active",
        "valid_for": _window(price.valid_for),
        "alterations": [],
    }


def _amount_of(value: ProductPriceValue) -> dict[str, Any]:
    gross = value.duty_free_amount is None and value.tax_included_amount is not None
    money = value.tax_included_amount if gross else value.duty_free_amount
    return {
        "currency": (money.unit or "") if money is not None else "",
        "amount": _text(money.value) if money is not None else None,
        "percentage": _text(value.percentage) if value.percentage else None,
        "gross": gross,
    }


def _embedded_alteration(rule: str, alteration: POPAlteration, value: ProductPriceValue) -> dict[str, Any]:
    duration = alteration.application_duration
    data = {
        "rule": alteration.id or rule,
        "id": alteration.id or "",
        "name": alteration.name or "",
        "kind": kind_of_price(alteration.price_type, alteration.recurring_charge_period),
        "meant": _meant(alteration.price_type),
        "priority": alteration.priority or 0,
        **_amount_of(value),
        "status": "Active",
        "valid_for": _window(alteration.valid_for),
        "note": f"for {duration.amount} {duration.units or 'periods'}" if duration and duration.amount else "",
        "duration": _span(duration) if duration and duration.amount else None,
    }
    return _as_alteration(data)


def _as_alteration(data: Mapping[str, Any], *, surcharge: bool = False) -> dict[str, Any]:
    sign = 1 if surcharge or data["kind"].startswith("surcharge") else -1
    signed = {
        key: None if data[key] is None else _text(sign * abs(Decimal(data[key]))) for key in ("percentage", "amount")
    }
    return {
        **{key: data[key] for key in ("rule", "id", "name", "priority", "gross", "currency", "status", "valid_for")},
        **signed,
        "kind": data["meant"],
        "note": data.get("note", ""),
        **({"duration": data["duration"]} if data.get("duration") else {}),
    }


def _meant(price_type: str | None) -> str:
    """The kind of charge that an alteration is for, when its price type says so; `discount`, say, doesn't."""
    kind = kind_of_price(price_type, None) if price_type else ""
    return kind if kind in CHARGES else ""


def _window(period: TimePeriod | None) -> list[str]:
    return ["", ""] if period is None else [instant(period.start_date_time), instant(period.end_date_time)]


def instant(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def canonical(value: Any) -> str:
    """Canonical JSON (RFC 8785) of what has texts, whole numbers, truth values and ASCII names only."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def parse_offer(data: Mapping[str, Any]) -> Offer:
    """An offer from its plain form: the only way that one is made, so that a receipt's offers are the same."""
    spec = data["specification"]
    return Offer(
        id=data["id"],
        ref=EntityRef(
            id=data["id"],
            name=data["name"] or None,
            version=data["version"] or None,
            at_referred_type=ProductOffering.__name__,
        ),
        specification=EntityRef(
            id=spec["id"], name=spec["name"] or None, at_referred_type=ProductSpecification.__name__
        )
        if spec
        else None,
        is_bundle=data["is_bundle"],
        is_sellable=data["is_sellable"],
        status=data["status"],
        valid_for=_period(data["valid_for"]),
        charges=tuple(_parse_charge(charge) for charge in data["charges"]),
        bundled=tuple((bundled["id"], bundled["number"]) for bundled in data["bundled"]),
        broken=tuple(data["broken"]),
        text=canonical(data),
    )


def _parse_charge(data: Mapping[str, Any]) -> Charge:
    return Charge(
        rule=data["rule"],
        ref=_price_ref(data),
        name=data["name"],
        kind=data["kind"],
        period=data["period"],
        currency=data["currency"],
        amount=_decimal(data["amount"]),
        gross=data["gross"],
        tax_rate=_decimal(data["tax_rate"]),
        status=data["status"],
        valid_for=_period(data["valid_for"]),
        alterations=tuple(
            Alteration(
                rule=a["rule"],
                ref=_price_ref(a),
                name=a["name"],
                priority=a["priority"],
                kind=a["kind"],
                percentage=_decimal(a["percentage"]),
                amount=_decimal(a["amount"]),
                gross=a["gross"],
                currency=a["currency"],
                status=a["status"],
                valid_for=_period(a["valid_for"]),
                note=a["note"],
                duration=Duration(**a["duration"]) if a.get("duration") else None,
            )
            for a in data["alterations"]
        ),
    )


def _price_ref(data: Mapping[str, Any]) -> EntityRef | None:
    if not data["id"]:
        return None
    return EntityRef(id=data["id"], name=data["name"] or None, at_referred_type=ProductOfferingPrice.__name__)


def _period(window: Sequence[str]) -> TimePeriod:
    start, end = (datetime.fromisoformat(text) if text else None for text in window)
    return TimePeriod(start_date_time=start, end_date_time=end)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def charge_period(name: str | None, length: int | None) -> str:
    """`month`, `3 month` …; empty for none."""
    if not name:
        return ""
    count, unit = _counted(name, length or 1)
    return unit if count == 1 else f"{count} {unit}"


def _span(duration: Duration) -> dict[str, Any]:
    count, unit = _counted(duration.units or "", duration.amount or 1)
    return {"amount": count, "units": unit}


def _counted(name: str, number: int) -> tuple[int, str]:
    """So many of a period, by its regular name: 2 quarters are 6 of `month`."""
    count, unit = _PERIODS.get(re.sub("[-_ ]", "", name.lower()), (1, name.lower()))
    return count * number, unit
