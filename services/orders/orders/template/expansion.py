"""From a template and the values of its parameters to an ordinary order. Pure.

What the order will do is in its items and parties alone, so that whoever reads it needs no template: a product that
changes hands is one that is changed while the order names the customer in the role of `transferor` whose it is.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chassis.errors import InvalidArgument, Violation
from chassis.products import ProductRefOrValue, RelatedPlaceRefOrValue
from chassis.types import Characteristic, EntityRef, Json, RelatedParty
from orders.inventory.domain import Product
from orders.ordering.domain import TRANSFEROR, customers_of
from orders.ordering.values import OrderItem, OrderItemAction
from orders.template.domain import (
    OrderTemplate,
    TemplateCharacteristic,
    TemplateItem,
    TemplateParameter,
    TemplateParameterKind,
)

_PHONE_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_CUSTOMER = "Customer"
LONGEST_TEXT = 500


@dataclass(frozen=True)
class Expanded:
    """What the template says of an order."""

    items: tuple[OrderItem, ...]
    related_party: tuple[RelatedParty, ...] = ()
    billing_account: EntityRef | None = None
    category: str | None = None
    requested_start_date: datetime | None = None
    requested_completion_date: datetime | None = None


@dataclass(frozen=True)
class Arguments:
    """The values of a template's parameters, by name; each is what its kind says."""

    template: OrderTemplate
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str | None) -> str | None:
        """The value of a parameter that is an id or a text; None: it isn't given, or isn't asked for."""
        return self.values.get(name) if name else None

    def instant(self, name: str | None) -> datetime | None:
        """The value of a parameter that is a date."""
        return self.values.get(name) if name else None

    def json(self, name: str) -> Json | None:
        """The value as a characteristic has it."""
        value = self.values.get(name)
        if isinstance(value, datetime):
            value = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if isinstance(value, RelatedPlaceRefOrValue):
            value = {key: told for key, told in (("id", value.id), ("name", value.name)) if told}
        return None if value is None else Json(json.dumps(value, ensure_ascii=False))

    @property
    def product_ids(self) -> tuple[str, ...]:
        """The products that the order is about."""
        named = (self.text(item.product) for item in self.template.item)
        return tuple(dict.fromkeys(key for key in named if key))


def arguments(template: OrderTemplate, given: Sequence[Characteristic]) -> Arguments:
    """The values as the template's parameters want them.

    Raises InvalidArgument TEMPLATE_PARAMETERS naming each that is missing, unknown, given twice or of another kind.
    """
    values: dict[str, Any] = {}
    wrong: list[Violation] = []
    known = {parameter.name: parameter for parameter in template.parameter}
    for number, argument in enumerate(given):
        path = f"parameter[{number}]"
        parameter = known.get(argument.name)
        if parameter is None:
            wrong.append(Violation(f"{path}.name", f"{template.name} has no parameter {argument.name!r}"))
        elif parameter.name in values:
            wrong.append(Violation(f"{path}.name", f"{argument.name} is given twice"))
        else:
            try:
                values[parameter.name or ""] = _value(parameter, argument.value)
            except ValueError as error:
                wrong.append(Violation(f"{path}.value", str(error)))
                values[parameter.name or ""] = None
    wrong += [
        Violation("parameter", f"{parameter.name} is needed: {parameter.description or parameter.kind}")
        for parameter in template.parameter
        if parameter.required and parameter.name not in values
    ]
    if wrong:
        raise InvalidArgument(
            "TEMPLATE_PARAMETERS", f"{template.name} can't be ordered with these parameters", violations=wrong
        )
    return Arguments(template, {name: value for name, value in values.items() if value is not None})


def expanded(told: Arguments, products: Mapping[str, Product], quantities: Mapping[str, int]) -> Expanded:
    """The order; `products`: those that it is about, `quantities`: how many each of them is.

    Raises InvalidArgument UNKNOWN_PRODUCT naming the parameter.
    """
    template = told.template
    for item in template.item:
        key = told.text(item.product)
        if key and key not in products:
            raise InvalidArgument(
                "UNKNOWN_PRODUCT",
                f"there is no product {key!r}",
                violations=[Violation("parameter", f"{item.product}: unknown product")],
            )
    ends = told.instant(template.requested_completion_date)
    begins = told.instant(template.requested_start_date)
    if begins is None and ends is not None:
        begins = ends - template.lead
    named = told.text(template.payer)
    # What is added beside a product is paid for as the product is.
    account = EntityRef(id=named) if named else next((one.billing_account for one in products.values()), None)
    return Expanded(
        items=tuple(_items(told, products, quantities)),
        related_party=tuple(_parties(told, products)),
        billing_account=account,
        category=template.category,
        requested_start_date=begins,
        requested_completion_date=ends,
    )


def _items(told: Arguments, products: Mapping[str, Product], quantities: Mapping[str, int]) -> Iterator[OrderItem]:
    for number, item in enumerate(told.template.item, start=1):
        held = products.get(told.text(item.product) or "")
        yield OrderItem(
            id=str(number),
            action=item.action,
            quantity=item.quantity or (quantities.get(held.id, 1) if held is not None else 1),
            product=_product(told, item, held),
            product_offering=_offering(told, item, held),
            order_template=told.template.name,
        )


def _offering(told: Arguments, item: TemplateItem, held: Product | None) -> EntityRef | None:
    """What the item is of: named by a parameter, always the same, or (so that it is priced anew) what is held."""
    named = told.text(item.product_offering) or item.product_offering_id
    if named:
        return EntityRef(id=named)
    if held is None or item.action is not OrderItemAction.MODIFY or held.product_offering is None:
        return None
    return EntityRef(id=held.product_offering.id, name=held.product_offering.name)


def _product(told: Arguments, item: TemplateItem, held: Product | None) -> ProductRefOrValue | None:
    stated = [made for one in item.characteristic if (made := _characteristic(told, one)) is not None]
    places = [_place(told, place.parameter, place.role) for place in item.place]
    product = ProductRefOrValue(
        id=held.id if held is not None else None,
        place=tuple(place for place in places if place is not None),
        product_characteristic=tuple(stated),
    )
    return product if product != ProductRefOrValue() else None


def _characteristic(told: Arguments, wanted: TemplateCharacteristic) -> Characteristic | None:
    value = told.json(wanted.parameter) if wanted.parameter else wanted.value
    return Characteristic(name=wanted.name, value=value) if value is not None else None


def _place(told: Arguments, name: str | None, role: str | None) -> RelatedPlaceRefOrValue | None:
    place = told.values.get(name or "")
    if not isinstance(place, RelatedPlaceRefOrValue):
        return None
    return RelatedPlaceRefOrValue(id=place.id, name=place.name, role=role)


def _parties(told: Arguments, products: Mapping[str, Product]) -> Iterator[RelatedParty]:
    """Who orders, and who gives away what it is about."""
    customer = told.text(told.template.customer)
    customers = [customer] if customer else []
    if not customers:
        customers = [key for held in products.values() for key in customers_of(held.related_party)]
    for key in dict.fromkeys(customers):
        yield RelatedParty(id=key, role="customer", at_referred_type=_CUSTOMER)
    transferor = told.text(told.template.transferor)
    if transferor:
        yield RelatedParty(id=transferor, role=TRANSFEROR, at_referred_type=_CUSTOMER)


# --- values ----------------------------------------------------------------------------------------------------------


def _value(parameter: TemplateParameter, value: Json | None) -> Any:
    """Raises ValueError saying what it should be."""
    told = json.loads(value.text) if value is not None else None
    if told is None:
        raise ValueError("has no value")
    read: Callable[[Any], Any] = _READERS.get(parameter.kind or TemplateParameterKind.TEXT, _text)
    return read(told)


def _text(told: Any) -> str:
    if not isinstance(told, str) or not 0 < len(told.strip()) <= LONGEST_TEXT:
        raise ValueError(f"must be a text of 1 to {LONGEST_TEXT} characters")
    return told.strip()


def _phone_number(told: Any) -> str:
    if not isinstance(told, str) or not _PHONE_NUMBER.fullmatch(told):
        raise ValueError("must be a telephone number in E.164, such as +996555123456")
    return told


def _instant(told: Any) -> datetime:
    try:
        at = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError("must be an instant with its zone, such as 2026-12-01T09:00:00Z")
    return at.astimezone(UTC)


def _place_value(told: Any) -> RelatedPlaceRefOrValue:
    if isinstance(told, str):
        told = {"id": told}
    if not isinstance(told, dict):
        raise ValueError("must be the id of a place, or an object with its id or name")
    stated = {key: told.get(key) for key in ("id", "name")}
    if not any(stated.values()) or any(text is not None and not isinstance(text, str) for text in stated.values()):
        raise ValueError("must have an id or a name")
    return RelatedPlaceRefOrValue(id=stated["id"], name=stated["name"])


_READERS: Mapping[TemplateParameterKind, Callable[[Any], Any]] = {
    TemplateParameterKind.PHONE_NUMBER: _phone_number,
    TemplateParameterKind.DATE_TIME: _instant,
    TemplateParameterKind.PLACE: _place_value,
}
