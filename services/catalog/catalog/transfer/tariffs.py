"""Operators' tariff tables (offers.csv with prices.csv) as offerings, prices and the rules between them.

Every rule that the tables state (a prerequisite, a ban, a place in an incompatibility group) becomes a relationship or
an exclusion group here, or a finding says why not; the two together are as many as there are rules.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from catalog.product.domain import (
    Category,
    LifecycleStatus,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
)
from catalog.product.values import ProductOfferingPriceRefOrValue, ProductOfferingRelationship
from catalog.transfer.domain import Content, ContentError, Element, File, as_text, extensions
from catalog.transfer.files import named, text_of
from catalog.transfer.formulas import Charging, NotMappableError, Row, charging, kind_of_usage, numbers
from chassis.types import COMMON, EntityRef, Money, ProductSpecificationRef, Quantity, decimal_of

CURRENCY = "RUB"
REQUIRES, EXCLUDES = "requires", "excludes"
# One of those with this role is enough.
ANY_OF = "prerequisite"

_OFFERS = ("id", "name", "kind")
_PRICES = ("offer_id", "formula", "price")
_KINDS = {"tariff": "Tariffs", "option": "Options", "common_service": "Common services"}
_IDS = re.compile(r"[,;\s]+")
_FLAGS = {"tablet_ok": "tabletAllowed", "only_pensioner": "onlyPensioner", "multiple_use": "multipleUse"}
# Columns that become something of their own; others are kept as extensions.
_TAKEN = frozenset(
    {"id", "name", "kind", "segment", "region", "archived", "prerequisites", "forbidden_to_switch_on",
     "incompatibility_groups", *_FLAGS}
)  # fmt: skip


@dataclass(slots=True)
class _Offer:
    key: str
    place: str
    row: Mapping[str, str]
    item: ProductOffering
    # Group → those that can't be had beside it.
    groups: Mapping[str, list[str]] = field(default_factory=dict)


def read(files: Sequence[File]) -> Content:
    """Raises ContentError when a table or one of its columns is missing."""
    offers = _table(files, "offers", _OFFERS)
    prices = _table(files, "prices", _PRICES)
    content = Content("operator-tariffs", complete=True)
    known: dict[str, _Offer] = {}
    for place, row in offers:
        content.rows_read += 1
        offer = _offer(row, place, content, known)
        if offer is not None:
            known[offer.key] = offer
    operators = {offer.row.get("operator", "") for offer in known.values()} - {""}
    if len(operators) == 1:
        content.source = operators.pop()
    _shelves(known.values(), content)
    charges: dict[str, int] = {}
    for place, row in prices:
        content.rows_read += 1
        _price(row, place, content, known, charges)
    for offer in known.values():
        _prerequisites(offer, known, content)
        _bans(offer, known, content)
    _groups(known, content)
    content.elements += [Element(offer.item, offer.place) for offer in known.values()]
    return content


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(files: Sequence[File], name: str, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and row, of each row."""
    found = [file for file in named(files, ".csv") if file.name.lower().removesuffix(".csv").endswith(name)]
    if len(found) != 1:
        raise ContentError(f"there must be one table {name}.csv, not {len(found)}")
    file = found[0]
    text = text_of(file)
    if "\0" in text:
        raise ContentError(f"{file.name} has the character U+0000")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
    except csv.Error as error:
        raise ContentError(f"{file.name}:1: {error}") from error
    if missing:
        raise ContentError(f"{file.name} has no column {', '.join(missing)}")
    return _rows(reader, file.name)


def _rows(reader: "csv.DictReader[str]", name: str) -> Iterator[tuple[str, dict[str, str]]]:
    line = reader.line_num + 1
    try:
        for row in reader:
            yield f"{name}:{line}", {key: value or "" for key, value in row.items() if isinstance(key, str)}
            line = reader.line_num + 1
    except csv.Error as error:
        raise ContentError(f"{name}:{line}: {error}") from error


# --- offers ----------------------------------------------------------------------------------------------------------


def _offer(row: Mapping[str, str], place: str, content: Content, known: Mapping[str, _Offer]) -> _Offer | None:
    key = row["id"].strip()
    wrong = [
        ("id", "REQUIRED", "required") if not key else None,
        ("id", "DUPLICATE", "another one has the same id") if key in known else None,
        ("name", "REQUIRED", "required") if not row["name"].strip() else None,
        ("kind", "UNKNOWN_KIND", f"isn't one of {', '.join(_KINDS)}") if row["kind"] not in _KINDS else None,
    ]
    groups = _json(row.get("incompatibility_groups", ""))
    if not isinstance(groups, dict) or not all(isinstance(ids, list) for ids in groups.values()):
        wrong.append(("incompatibility_groups", "MALFORMED", "isn't an object of lists"))
    faults = [fault for fault in wrong if fault is not None]
    for name, code, reason in faults:
        content.refuse(code, reason, place=place, element=key, field=name)
    if faults:
        return None
    item = ProductOffering(
        id=key,
        branch=COMMON,
        name=row["name"].strip(),
        lifecycle_status=LifecycleStatus.RETIRED if row.get("archived") == "1" else None,
        product_specification=ProductSpecificationRef(id=row["kind"], name=_KINDS[row["kind"]]),
        category=(EntityRef(id=row["kind"], name=_KINDS[row["kind"]]),),
        market_segment=_refs(row.get("segment", "")),
        place=_refs(row.get("region", "")),
        is_bundle=False,
        extensions=as_text(
            extensions(
                **{name: row[column] == "1" for column, name in _FLAGS.items() if row.get(column)},
                **{_camel(name): value for name, value in row.items() if name not in _TAKEN},
            )
        ),
    )
    return _Offer(key, place, row, item, {name: [str(one) for one in ids] for name, ids in groups.items()})


def _refs(text: str) -> tuple[EntityRef, ...]:
    return (EntityRef(id=text.strip(), name=text.strip()),) if text.strip() else ()


def _shelves(offers: Iterable[_Offer], content: Content) -> None:
    """A specification and a category for each kind of offer."""
    for kind in dict.fromkeys(offer.row["kind"] for offer in offers):
        name = _KINDS[kind]
        spec = ProductSpecification(id=kind, branch=COMMON, name=name, brand=content.source)
        content.elements.append(Element(spec, f"offers.csv#{kind}"))
        shelf = Category(id=kind, branch=COMMON, name=name, is_root=True)
        content.elements.append(Element(shelf, f"offers.csv#{kind}"))


# --- prices ----------------------------------------------------------------------------------------------------------


def _price(
    row: Mapping[str, str], place: str, content: Content, known: Mapping[str, _Offer], charges: dict[str, int]
) -> None:
    """The prices that a row becomes, among its offer's. What no model says is kept as it is, and reported by name."""
    key, formula = row["offer_id"].strip(), row["formula"].strip()
    charges[key] = number = charges.get(key, 0) + 1
    offer = known.get(key)
    name = f"{key}/{number}"
    if offer is None:
        content.refuse("UNKNOWN_OFFER", f"there is no offer {key!r}", place=place, element=name, field="offer_id")
        return
    made = [Charging(price_type="unmapped")]
    params = _json(row.get("params", ""))
    try:
        if not isinstance(params, dict):
            raise NotMappableError("the parameters aren't an object")
        made = charging(
            Row(
                formula=formula,
                price=_decimal(row["price"]),
                params=numbers(params),
                window=row.get("window_over", "").strip(),
                usage=kind_of_usage(formula, row.get("item", "")),
            )
        )
    except NotMappableError as error:
        content.report("NOT_MAPPABLE", str(error), place=place, element=name, field="formula")
    order = row.get("calculation_order", "").strip()
    for part, one in enumerate(made):
        price = ProductOfferingPrice(
            id=name if part == 0 else f"{name}.{part}",
            branch=COMMON,
            name=row.get("item", "").strip()[:200] or formula,
            description=row.get("item", "").strip() or None,
            lifecycle_status=offer.item.lifecycle_status,
            price_type=one.price_type,
            recurring_charge_period_type=one.period,
            price=Money(unit=CURRENCY, value=one.amount) if one.amount is not None else _nothing(one),
            pricing_model=one.model,
            unit_of_measure=Quantity(amount=Decimal(1), units=one.unit) if one.unit else None,
            priority=int(order) if order.isdigit() else None,
            # Several rows of one offer are charged beside each other, each for what it is for.
            charge=name if part == 0 else f"{name}.{part}",
            extensions=as_text(
                extensions(
                    formula=formula,
                    params=params,
                    statedPrice=row["price"],
                    item=row.get("item"),
                    windowOver=row.get("window_over"),
                )
            ),
        )
        content.elements.append(Element(price, place))
        reference = ProductOfferingPriceRefOrValue(id=price.id, name=price.name)
        offer.item.product_offering_price = (*offer.item.product_offering_price, reference)


def _nothing(one: Charging) -> Money | None:
    # A model's amounts are in the currency of the price.
    return Money(unit=CURRENCY) if one.model is not None else None


def _decimal(text: str) -> Decimal | None:
    if not text.strip():
        return None
    try:
        return decimal_of(text.strip())
    except ValueError as error:
        raise NotMappableError(str(error)) from None


# --- rules -----------------------------------------------------------------------------------------------------------


def _prerequisites(offer: _Offer, known: Mapping[str, _Offer], content: Content) -> None:
    """Any of them is enough."""
    for key in _ids(offer.row.get("prerequisites", "")):
        if _leads(offer, key, "prerequisites", known, content):
            _relate(offer, key, known, REQUIRES, ANY_OF)
            content.rules_resolved += 1


def _bans(offer: _Offer, known: Mapping[str, _Offer], content: Content) -> None:
    """Those beside which it can't be switched on."""
    for key in _ids(offer.row.get("forbidden_to_switch_on", "")):
        if _leads(offer, key, "forbidden_to_switch_on", known, content):
            _relate(offer, key, known, EXCLUDES, None)
            content.rules_resolved += 1


def _leads(offer: _Offer, key: str, name: str, known: Mapping[str, _Offer], content: Content) -> bool:
    reason = "" if key in known else f"there is no offer {key!r}"
    if key == offer.key:
        reason = "it names itself"
    if reason:
        content.rules_reported += 1
        code = "SELF_REFERENCE" if key == offer.key else "UNKNOWN_OFFER"
        content.report(code, reason, place=offer.place, element=offer.key, field=name)
    return not reason


def _relate(offer: _Offer, key: str, known: Mapping[str, _Offer], kind: str, role: str | None) -> None:
    relation = ProductOfferingRelationship(
        id=key, name=known[key].item.name, relationship_type=kind, role=role, at_referred_type="ProductOffering"
    )
    if relation not in offer.item.product_offering_relationship:
        offer.item.product_offering_relationship = (*offer.item.product_offering_relationship, relation)


def _groups(known: Mapping[str, _Offer], content: Content) -> None:
    """Those that name each other under one group's name exclude each other.

    Where all of a circle do, they are an exclusion group (one name may stand for several circles: of two regions, say);
    where only some do, each that names another excludes it. Who is named without naming is reported.
    """
    stated: dict[str, dict[str, set[str]]] = {}
    for offer in known.values():
        for name, ids in offer.groups.items():
            others = stated.setdefault(name, {}).setdefault(offer.key, set())
            for key in ids:
                if key == offer.key:
                    # So it says that it belongs to the group.
                    content.rules_resolved += 1
                elif key not in known:
                    content.rules_reported += 1
                    reason = f"there is no offer {key!r} in the group {name}"
                    place, field_name = offer.place, "incompatibility_groups"
                    content.report("UNKNOWN_OFFER", reason, place=place, element=offer.key, field=field_name)
                else:
                    others.add(key)
                    mutual = offer.key in known[key].groups.get(name, ())
                    content.rules_resolved += mutual
                    content.rules_reported += not mutual
                    if not mutual:
                        reason = f"in the group {name} it excludes {key}, which doesn't exclude it; it holds both ways"
                        content.report(
                            "ASYMMETRIC", reason, place=offer.place, element=offer.key, field="incompatibility_groups"
                        )
    for name, pairs in stated.items():
        for number, circle in enumerate(_circles(pairs), 1):
            whole = all(
                other in pairs.get(one, ()) or one in pairs.get(other, ())
                for one in circle
                for other in circle
                if one != other
            )
            label = name if number == 1 else f"{name}/{number}"
            for key in circle:
                if whole:
                    item = known[key].item
                    item.exclusion_group = (*item.exclusion_group, label)
                else:
                    for other in sorted(pairs.get(key, ())):
                        _relate(known[key], other, known, EXCLUDES, None)


def _circles(pairs: Mapping[str, set[str]]) -> list[list[str]]:
    """Those connected with each other, in either direction."""
    near: dict[str, set[str]] = {}
    for one, others in pairs.items():
        near.setdefault(one, set()).update(others)
        for other in others:
            near.setdefault(other, set()).add(one)
    seen: set[str] = set()
    found = []
    for start in near:
        if start in seen:
            continue
        circle, waiting = set(), [start]
        while waiting:
            key = waiting.pop()
            if key not in circle:
                circle.add(key)
                waiting += near[key] - circle
        seen |= circle
        found.append(sorted(circle))
    return found


def _ids(text: str) -> list[str]:
    return [key for key in _IDS.split(text.strip()) if key]


def _json(text: str) -> Any:
    """The JSON value of a cell, numbers exact; an empty cell is an empty object, a malformed one None."""
    if not text.strip():
        return {}
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)
