"""What pricing knows of an offering: compiled once from the catalog's things, then priced any number of times."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec

from catalog.pricing import conditions, periods, tiers
from catalog.pricing.conditions import Condition
from catalog.pricing.money import EXACT, minor_unit
from catalog.product.domain import (
    CHARGES,
    RECURRING,
    LifecycleStatus,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
    alters,
    kind_of_price,
)
from catalog.product.values import (
    BundledProductOffering,
    BundlePricing,
    BundlePricingMode,
    OfferingPhase,
    POPAlteration,
    PriceCondition,
    ProductOfferingPriceRefOrValue,
    ProductOfferingTerm,
    ProductPriceValue,
)
from chassis.errors import InvalidArgument
from chassis.types import COMMON, Duration, EntityRef, TimePeriod, decimal_of

# Kinds of price that are listed with an offering though ordering it doesn't charge them: what is charged by being
# used, and what is charged for leaving before a term is over.
USAGE, TERMINATION = "usage", "earlyTermination"
# Status → no obstacle to being sold, or part of what is.
_LIVE = frozenset(status.value for status in LifecycleStatus if status.live)

_ALWAYS = TimePeriod()

# How often a recurring charge recurs, in the spellings that occur; others are kept as they are.
_PERIODS = {
    name: period
    for period, names in {
        (1, "second"): "second seconds",
        (1, "minute"): "minute minutes",
        (1, "hour"): "hour hours hourly",
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
    conditions: tuple[Condition, ...] = ()
    # Of one group only the best counts; empty: none.
    group: str = ""
    may_be_negative: bool = False
    # The phases and terms that it is for; none: all.
    phases: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    # What a receipt says of it.
    reason: str | None = None

    def holds_always(self) -> bool:
        """Whether it counts at any time, for anybody."""
        return (
            self.status in _LIVE
            and self.valid_for == _ALWAYS
            and not (self.conditions or self.group or self.duration or self.phases or self.terms)
        )


# Alterations of one priority, and those before the next priority that don't count, each with the reason.
Level = tuple[Sequence[Alteration], Sequence[tuple[Alteration, str]]]


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
    # How a quantity becomes an amount; None: so many times the amount.
    model: tiers.Model | None = None
    usage_type: str = ""
    conditions: tuple[Condition, ...] = ()
    phases: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    # What the tax is looked up by when there is no rate; empty: nothing is known of a tax.
    tax_category: str = ""
    # The price list that it belongs to; empty: the general one.
    price_list: str = ""
    # Prices with one key replace each other where lists compete.
    key: str = ""
    # The currency's smallest amount.
    minor_unit: Decimal = Decimal()
    # What the amount without tax is multiplied by to include the price's own tax, and what a receipt says of that.
    taxed: Decimal = Decimal(1)
    tax_note: str = ""
    # It counts at any time, for anybody, and so do its alterations: these by priority. None: each needs a look.
    levels: tuple[Level, ...] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An offering that a bundle is made of; `most` None: as many as one likes."""

    id: str
    number: int
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a holder's time; no duration: without end."""

    name: str
    duration: Duration | None


@dataclass(frozen=True, slots=True)
class Term:
    """A commitment that can be chosen; no duration: without end."""

    name: str
    duration: Duration | None
    valid_for: TimePeriod


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
    parts: tuple[Part, ...]
    # References that lead nowhere, and what can't be understood.
    broken: tuple[str, ...]
    # The id of the first version.
    series: str
    phases: tuple[Phase, ...]
    terms: tuple[Term, ...]
    # Only its own prices count, none of its parts'.
    overrides: bool
    # Off every charge of its parts, in percent.
    parts_discount: Decimal | None
    # Each kind of charge with the currencies that it has a price in, where all charges count for anybody; None: it
    # depends.
    currencies: tuple[frozenset[str], ...] | None
    # The same as canonical JSON (RFC 8785): what a receipt quotes.
    text: str = field(repr=False)


_ONLY_OF_ALTERATIONS = ("percentage", "meant", "priority", "duration", "note", "group", "may_be_negative")


def price_ids(offering: ProductOffering) -> Iterable[str]:
    """The prices that the offering refers to."""
    return [p.id for p in offering.product_offering_price if p.price is None and p.id]


def related_price_ids(price: ProductOfferingPrice) -> Iterable[str]:
    """The prices that the price is made of or altered by."""
    yield from (part.id for part in price.bundled_pop_relationship if part.id)
    yield from (relation.id for relation in price.pop_relationship if relation.id and alters(relation))


def compile_offer(offering: ProductOffering, prices: Mapping[str, ProductOfferingPrice]) -> Offer:
    """What pricing knows of the offering; `prices` holds what it refers to, directly or through other prices."""
    return parse_offer(plain_offer(offering, prices))


def plain_offer(offering: ProductOffering, prices: Mapping[str, ProductOfferingPrice]) -> dict[str, Any]:
    """The plain form of `compile_offer`."""
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
            # A percentage is no charge of its own but alters those beside it, unless it is one of what is used.
            alters_others = data["amount"] is None and data["percentage"] is not None and "model" not in data
            (everywhere if alters_others else charges).append(data)
    for data in charges:
        data["alterations"] += [_as_alteration(price) for price in everywhere]
        data["alterations"].sort(key=lambda a: (a["priority"], a["rule"]))
        for name in _ONLY_OF_ALTERATIONS:
            data.pop(name, None)
    spec = offering.product_specification
    broken += _impossible(offering, charges)
    return {
        "id": offering.id,
        "name": offering.name or "",
        "version": offering.version or "",
        "specification": {"id": spec.id, "name": spec.name or ""} if spec is not None and spec.id else None,
        "is_bundle": bool(offering.is_bundle or offering.bundled_product_offering),
        "is_sellable": offering.is_sellable is not False,
        "status": offering.status.value,
        "valid_for": window(offering.valid_for),
        "charges": charges,
        "bundled": [_part(bundled) for bundled in offering.bundled_product_offering],
        "broken": list(dict.fromkeys(broken)),
        **_stated(
            series=offering.series,
            phases=[_phase(phase) for phase in offering.phase],
            terms=[_term(term) for term in offering.product_offering_term if term.name],
            bundle_pricing=_bundle_pricing(offering.bundle_pricing),
        ),
    }


def compile_sold(ids: Iterable[str], prices: Mapping[str, ProductOfferingPrice]) -> Offer:
    """Prices as they were sold, with their alterations: an offer of nothing else."""
    sold = tuple(ProductOfferingPriceRefOrValue(id=key) for key in ids)
    offering = ProductOffering(
        id="", branch=COMMON, lifecycle_status=LifecycleStatus.LAUNCHED, product_offering_price=sold
    )
    return compile_offer(offering, prices)


def _stated(**attributes: Any) -> dict[str, Any]:
    """What has been stated of them: what hasn't is left out, so that older receipts say the same."""
    return {name: value for name, value in attributes.items() if value}


def _part(bundled: BundledProductOffering) -> dict[str, Any]:
    option = bundled.bundled_product_offering_option
    data: dict[str, Any] = {"id": bundled.id or "", "number": bundled.default_number}
    if option is not None and (option.number_rel_offer_lower_limit, option.number_rel_offer_upper_limit) != (
        None,
        None,
    ):
        data["least"] = option.number_rel_offer_lower_limit or 0
        if option.number_rel_offer_upper_limit is not None:
            data["most"] = option.number_rel_offer_upper_limit
    return data


def _phase(phase: OfferingPhase) -> dict[str, Any]:
    name = phase.name or (phase.phase_type.value if phase.phase_type is not None else "")
    return {"name": name, **_stated(duration=_span(phase.duration))}


def _term(term: ProductOfferingTerm) -> dict[str, Any]:
    return {"name": term.name, "valid_for": window(term.valid_for), **_stated(duration=_span(term.duration))}


def _bundle_pricing(pricing: BundlePricing | None) -> dict[str, str]:
    if pricing is None or pricing.mode is None or pricing.mode is BundlePricingMode.SUM:
        return {}
    return {"mode": pricing.mode.value, **_stated(percentage=_text(pricing.percentage))}


def _impossible(offering: ProductOffering, charges: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    names = [_phase(phase)["name"] for phase in offering.phase]
    for phase in offering.phase[:-1]:
        if phase.duration is None or not phase.duration.amount:
            yield f"its phase {phase.name} never ends, so none after it begins"
    lasting = [phase.duration for phase in offering.phase] + [term.duration for term in offering.product_offering_term]
    for duration in lasting:
        span = _span(duration)
        if span is not None and not periods.understood(Duration(**span)):
            yield f"{span['units']!r} is no unit of time that a phase or term can last"
    yield from _endless(charges)
    percentage = offering.bundle_pricing.percentage if offering.bundle_pricing is not None else None
    if percentage is not None and not 0 <= abs(percentage) <= 100:
        yield f"its parts can't be discounted by {percentage} %"
    if len(set(names)) < len(names):
        yield "two of its phases have one name"
    for charge in charges:
        for name in charge.get("phases", ()):
            if name not in names:
                yield f"price {charge['rule']} is for a phase {name!r}, which isn't there"


def _endless(charges: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Alterations for some time of which nobody can tell when it is over."""
    for charge in charges:
        for alteration in charge["alterations"]:
            if "duration" not in alteration:
                continue
            span = Duration(**alteration["duration"])
            # Without units it counts periods, which only what recurs has.
            stated = span.units or charge["kind"] == RECURRING
            if stated and periods.lasting(span, charge["period"]) is None:
                yield f"{span.units or charge['period']!r} is no unit of time that {alteration['rule']} can last"


def _flattened(
    id: str, prices: Mapping[str, ProductOfferingPrice], broken: list[str], above: tuple[str, ...]
) -> list[dict[str, Any]]:
    """The charges of a price, and of those that it is made of."""
    price = prices.get(id)
    if price is None or id in above:
        broken.append(f"there is no price {id!r}" if price is None else f"price {id} contains itself")
        return []
    alterations = []
    broken += _misunderstood(price)
    for relation in price.pop_relationship:
        if not alters(relation):
            continue
        other = prices.get(relation.id or "")
        if other is None:
            broken.append(f"there is no price {relation.id!r}")
        else:
            broken += _misunderstood(other)
            surcharge = (relation.relationship_type or "").lower().startswith("surcharge")
            alterations.append(_as_alteration(_charge_of(other), surcharge=surcharge))
    own = [_charge_of(price)] if price.price is not None or not price.bundled_pop_relationship else []
    for part in price.bundled_pop_relationship:
        own += [_inside(data, price) for data in _flattened(part.id or "", prices, broken, (*above, id))]
    for data in own:
        data["alterations"] += alterations
    return own


def _inside(data: dict[str, Any], whole: ProductOfferingPrice) -> dict[str, Any]:
    """A price that another is made of: it counts where both do."""
    outer = _applicability(whole)
    stated = {**outer, **data}
    if "conditions" in outer:
        stated["conditions"] = [*outer["conditions"], *data.get("conditions", ())]
    return stated


def _applicability(price: ProductOfferingPrice) -> dict[str, Any]:
    """When it counts, apart from status and validity."""
    return _stated(
        conditions=[conditions.plain(condition) for condition in price.condition if _fault(condition) is None],
        phases=sorted(price.phase),
        terms=sorted(term.name for term in price.product_offering_term if term.name),
        price_list=price.price_list,
        charge=price.charge,
    )


def _model(price: ProductOfferingPrice) -> dict[str, Any] | None:
    """How the quantity becomes an amount; None: so many times the amount, or nobody can tell (see `_misunderstood`)."""
    if price.pricing_model is None:
        return None
    try:
        return tiers.compile_model(
            price.pricing_model,
            amount=price.price.value if price.price is not None else None,
            percentage=price.percentage,
            unit_of_measure=price.unit_of_measure,
        )
    except InvalidArgument:
        return None


def _misunderstood(price: ProductOfferingPrice) -> Iterable[str]:
    faults = (_fault(condition) for condition in price.condition)
    yield from (f"price {price.id} has a condition that can't be: {fault}" for fault in faults if fault is not None)
    if price.pricing_model is not None and _model(price) is None:
        yield f"price {price.id} has a pricing model that can't be reckoned with"


def _fault(condition: PriceCondition) -> str | None:
    try:
        conditions.plain(condition)
    except ValueError as error:
        return str(error)
    return None


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
        "gross": bool(price.tax_included),
        "tax_rate": _text(sum(rates, Decimal())) if rates else None,
        "status": price.status.value,
        "valid_for": window(price.valid_for),
        "alterations": [],
        "note": _lasting(price.application_duration),
        **_applicability(price),
        **_stated(
            group=price.exclusivity_group,
            may_be_negative=price.may_be_negative,
            duration=_span(price.application_duration),
            tax_category=price.tax_category,
            model=_model(price),
            usage_type=price.pricing_model.usage_type if price.pricing_model is not None else None,
        ),
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
        "valid_for": window(price.valid_for),
        "alterations": [],
        **_stated(tax_category=value.tax_category),
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
    data = {
        "rule": alteration.id or rule,
        "id": alteration.id or "",
        "name": alteration.name or "",
        "kind": kind_of_price(alteration.price_type, alteration.recurring_charge_period),
        "meant": _meant(alteration.price_type),
        "priority": alteration.priority or 0,
        **_amount_of(value),
        "status": "Active",
        "valid_for": window(alteration.valid_for),
        "note": _lasting(alteration.application_duration),
        "duration": _span(alteration.application_duration),
    }
    return _as_alteration(data)


def _lasting(duration: Duration | None) -> str:
    return f"for {duration.amount} {duration.units or 'periods'}" if duration and duration.amount else ""


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
        **_stated(**{name: data.get(name) for name in _OF_ALTERATIONS}),
    }


_OF_ALTERATIONS = ("duration", "conditions", "phases", "terms", "group", "may_be_negative")


def _meant(price_type: str | None) -> str:
    """The kind of charge that an alteration is for, when its price type says so; `discount`, say, doesn't."""
    kind = kind_of_price(price_type, None) if price_type else ""
    return kind if kind in (*CHARGES, USAGE) else ""


def window(period: TimePeriod | None) -> list[str]:
    return ["", ""] if period is None else [instant(period.start_date_time), instant(period.end_date_time)]


def instant(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def canonical(value: Any) -> str:
    """Canonical JSON (RFC 8785) of what has texts, whole numbers, truth values and ASCII names only."""
    return _CANONICAL.encode(value).decode()


_CANONICAL = msgspec.json.Encoder(order="sorted")


def parse_offer(data: Mapping[str, Any], text: str = "") -> Offer:
    """An offer from its plain form: the only way that one is made, so that a receipt's offers are the same. `text`: its
    canonical JSON, where that is there already."""
    spec = data["specification"]
    charges = tuple(_parse_charge(charge) for charge in data["charges"])
    bundle_pricing = data.get("bundle_pricing", {})
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
        valid_for=period_of(data["valid_for"]),
        charges=charges,
        parts=tuple(_parse_part(part) for part in data["bundled"]),
        broken=tuple(data["broken"]),
        series=data.get("series") or data["id"],
        phases=tuple(Phase(phase["name"], _duration(phase)) for phase in data.get("phases", ())),
        terms=tuple(Term(t["name"], _duration(t), period_of(t["valid_for"])) for t in data.get("terms", ())),
        overrides=bundle_pricing.get("mode") == BundlePricingMode.OVERRIDE,
        parts_discount=_decimal(bundle_pricing.get("percentage"))
        if bundle_pricing.get("mode") == BundlePricingMode.DISCOUNT
        else None,
        currencies=currencies_by_kind(charges) if all(charge.levels is not None for charge in charges) else None,
        text=text or canonical(data),
    )


def currencies_by_kind(charges: Iterable[Charge]) -> tuple[frozenset[str], ...]:
    """The currencies in which each kind of charge has a price."""
    kinds: dict[str, set[str]] = {}
    for charge in charges:
        kinds.setdefault(charge.key, set()).add(charge.currency)
    return tuple(frozenset(currencies) for currencies in kinds.values())


def _parse_part(data: Mapping[str, Any]) -> Part:
    number = data["number"]
    # Limits that nobody stated leave nothing to choose.
    return Part(data["id"], number, data.get("least", number), data.get("most") if "least" in data else number)


def _parse_charge(data: Mapping[str, Any]) -> Charge:
    alterations = tuple(_parse_alteration(alteration) for alteration in data["alterations"])
    kind, phases = pricing_kind(data["kind"]), tuple(data.get("phases", ()))
    usage_type = data.get("usage_type", "")
    amount, rate = _decimal(data["amount"]), _decimal(data["tax_rate"])
    model = tiers.parse_model(data["model"]) if "model" in data else None
    stated = tuple(conditions.parse(condition) for condition in data.get("conditions", ()))
    terms, price_list = tuple(data.get("terms", ())), data.get("price_list", "")
    currency, status, valid_for = data["currency"], data["status"], period_of(data["valid_for"])
    tax_category = data.get("tax_category", "")
    plain = (
        kind in CHARGES
        and amount is not None
        and model is None
        and not (usage_type or stated or phases or terms or price_list or tax_category)
        and status in _LIVE
        and valid_for == _ALWAYS
        and all(
            a.holds_always() and a.kind in ("", kind) and (a.percentage is not None or a.currency == currency)
            for a in alterations
        )
    )
    by_priority = groupby(alterations, key=lambda alteration: alteration.priority)
    return Charge(
        rule=data["rule"],
        ref=_price_ref(data),
        name=data["name"],
        kind=kind,
        period=data["period"],
        currency=currency,
        amount=amount,
        gross=data["gross"],
        tax_rate=rate,
        status=status,
        valid_for=valid_for,
        alterations=alterations,
        model=model,
        usage_type=usage_type,
        conditions=stated,
        phases=phases,
        terms=terms,
        tax_category=tax_category,
        price_list=price_list,
        key=data.get("charge") or f"{kind} {data['period']} {usage_type}",
        minor_unit=minor_unit(currency),
        taxed=taxed_by(rate),
        tax_note="" if rate is None else f"{rate:f} %",
        levels=tuple((tuple(level), ()) for _, level in by_priority) if plain else None,
    )


def taxed_by(rate: Decimal | None) -> Decimal:
    """What an amount without tax is multiplied by to include a tax of so many percent."""
    return Decimal(1) if rate is None else 1 + EXACT.divide(rate, 100)


def pricing_kind(kind: str) -> str:
    """The kind in our spelling; one that we don't know stays as it is."""
    if kind.startswith(USAGE):
        return USAGE
    return TERMINATION if kind.startswith(("earlytermination", "terminat")) else kind


def _parse_alteration(data: Mapping[str, Any]) -> Alteration:
    return Alteration(
        rule=data["rule"],
        ref=_price_ref(data),
        name=data["name"],
        priority=data["priority"],
        kind=data["kind"],
        percentage=_decimal(data["percentage"]),
        amount=_decimal(data["amount"]),
        gross=data["gross"],
        currency=data["currency"],
        status=data["status"],
        valid_for=period_of(data["valid_for"]),
        note=data["note"],
        duration=_duration(data),
        conditions=tuple(conditions.parse(condition) for condition in data.get("conditions", ())),
        group=data.get("group", ""),
        may_be_negative=data.get("may_be_negative", False),
        phases=tuple(data.get("phases", ())),
        terms=tuple(data.get("terms", ())),
        reason="; ".join(filter(None, (data["name"], data["note"]))) or None,
    )


def _duration(data: Mapping[str, Any]) -> Duration | None:
    return Duration(**data["duration"]) if "duration" in data else None


def _price_ref(data: Mapping[str, Any]) -> EntityRef | None:
    if not data["id"]:
        return None
    return EntityRef(id=data["id"], name=data["name"] or None, at_referred_type=ProductOfferingPrice.__name__)


def period_of(window: Sequence[str]) -> TimePeriod:
    if not any(window):
        return _ALWAYS
    start, end = (datetime.fromisoformat(text) if text else None for text in window)
    return TimePeriod(start_date_time=start, end_date_time=end)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else decimal_of(text)


def charge_period(name: str | None, length: int | None) -> str:
    """`month`, `3 month` …; empty for none."""
    if not name:
        return ""
    count, unit = _counted(name, length or 1)
    return unit if count == 1 else f"{count} {unit}"


def _span(duration: Duration | None) -> dict[str, Any] | None:
    if duration is None or not duration.amount:
        return None
    count, unit = _counted(duration.units or "", duration.amount)
    return {"amount": count, "units": unit}


def _counted(name: str, number: int) -> tuple[int, str]:
    """So many of a period, by its regular name: 2 quarters are 6 of `month`."""
    count, unit = _PERIODS.get(re.sub("[-_ ]", "", name.lower()), (1, name.lower()))
    return count * number, unit
