"""Order templates: which parameters an order of some name needs, and what it consists of."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate, Duration, Extensible, Json
from orders.ordering.values import OrderItemAction

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_UNITS: Mapping[str, Callable[[int], timedelta]] = {
    "minute": lambda number: timedelta(minutes=number),
    "hour": lambda number: timedelta(hours=number),
    "day": lambda number: timedelta(days=number),
    "week": lambda number: timedelta(weeks=number),
}
# A year: who thinks further ahead orders later.
LONGEST_LEAD = timedelta(days=366)


class TemplateParameterKind(StrEnum):
    """What a parameter's value is."""

    PRODUCT = "product"
    CUSTOMER = "customer"
    BILLING_ACCOUNT = "billingAccount"
    PRODUCT_OFFERING = "productOffering"
    PLACE = "place"
    PHONE_NUMBER = "phoneNumber"
    DATE_TIME = "dateTime"
    TEXT = "text"


_K = TemplateParameterKind


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateParameter(Extensible):
    """What has to be known to order by the template."""

    name: str | None = None
    kind: TemplateParameterKind | None = None
    required: bool | None = None
    description: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplatePlace(Extensible):
    """Where it is to be: by a parameter."""

    parameter: str | None = None
    role: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateCharacteristic(Extensible):
    """A characteristic by a parameter, or with a value that is always the same."""

    name: str | None = None
    parameter: str | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateItem(Extensible):
    """One item of the order; `product` and `product_offering` name parameters."""

    action: OrderItemAction | None = None
    product: str | None = None
    product_offering: str | None = None
    product_offering_id: str | None = None
    place: tuple[TemplatePlace, ...] = ()
    characteristic: tuple[TemplateCharacteristic, ...] = ()
    quantity: int | None = None


@dataclass(kw_only=True, eq=False)
class OrderTemplate(Aggregate):
    """An order that has a name; `customer` and what follows it name parameters."""

    name: str | None = None
    description: str | None = None
    category: str | None = None
    parameter: tuple[TemplateParameter, ...] = ()
    item: tuple[TemplateItem, ...] = ()
    customer: str | None = None
    transferor: str | None = None
    payer: str | None = None
    requested_start_date: str | None = None
    requested_completion_date: str | None = None
    lead_time: Duration | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument INVALID_TEMPLATE naming every field that can't be."""
        violations = [
            *_named(self.name, "name"),
            *self._parameters(),
            *self._items(),
            *self._whole_order(),
        ]
        if violations:
            raise InvalidArgument("INVALID_TEMPLATE", "nothing can be ordered by this template", violations=violations)

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes; raises what `check` does."""
        super().revise(changes, at)
        self.check(at)

    @property
    def kinds(self) -> Mapping[str, TemplateParameterKind | None]:
        """The kind of each parameter, by its name."""
        return {parameter.name or "": parameter.kind for parameter in self.parameter}

    @property
    def lead(self) -> timedelta:
        """How long before the requested completion the order starts."""
        lead = self.lead_time
        if lead is None or lead.amount is None:
            return timedelta(0)
        return _UNITS[(lead.units or "").removesuffix("s")](lead.amount)

    def _parameters(self) -> Iterator[Violation]:
        seen: set[str] = set()
        for number, parameter in enumerate(self.parameter):
            path = f"parameter[{number}]"
            yield from _named(parameter.name, f"{path}.name")
            if parameter.name in seen:
                yield Violation(f"{path}.name", "not unique in the template")
            seen.add(parameter.name or "")
            if parameter.kind is None:
                yield Violation(f"{path}.kind", "required")

    def _items(self) -> Iterator[Violation]:
        if not self.item:
            yield Violation("item", "at least one is needed")
        for number, item in enumerate(self.item):
            yield from self._item(item, f"item[{number}]")

    def _item(self, item: TemplateItem, path: str) -> Iterator[Violation]:
        yield from self._subject(item, path)
        yield from self._refers(item.product_offering, f"{path}.product_offering", _K.PRODUCT_OFFERING)
        if item.quantity is not None and item.quantity < 1:
            yield Violation(f"{path}.quantity", "must be 1 or more")
        for number, place in enumerate(item.place):
            yield from self._refers(place.parameter, f"{path}.place[{number}].parameter", _K.PLACE, required=True)
            if not place.role:
                yield Violation(f"{path}.place[{number}].role", "required")
        for number, characteristic in enumerate(item.characteristic):
            where = f"{path}.characteristic[{number}]"
            if not characteristic.name:
                yield Violation(f"{where}.name", "required")
            if (characteristic.parameter is None) == (characteristic.value is None):
                yield Violation(f"{where}.parameter", "one of parameter and value")
            yield from self._refers(characteristic.parameter, f"{where}.parameter")

    def _subject(self, item: TemplateItem, path: str) -> Iterator[Violation]:
        if item.action in (OrderItemAction.MODIFY, OrderItemAction.DELETE):
            yield from self._refers(item.product, f"{path}.product", _K.PRODUCT, required=True)
            if item.product_offering_id:
                yield Violation(f"{path}.product_offering_id", "belongs to what is added")
        elif item.action is OrderItemAction.ADD:
            if item.product:
                yield Violation(f"{path}.product", "belongs to what is changed or ended")
            if bool(item.product_offering) == bool(item.product_offering_id):
                yield Violation(f"{path}.product_offering", "one of product_offering and product_offering_id")
        else:
            yield Violation(f"{path}.action", "must be add, modify or delete")
        if item.action is OrderItemAction.DELETE and item.product_offering:
            yield Violation(f"{path}.product_offering", "what ends becomes nothing else")

    def _whole_order(self) -> Iterator[Violation]:
        yield from self._refers(self.customer, "customer", _K.CUSTOMER)
        yield from self._refers(self.transferor, "transferor", _K.CUSTOMER)
        yield from self._refers(self.payer, "payer", _K.BILLING_ACCOUNT)
        for name in ("requested_start_date", "requested_completion_date"):
            yield from self._refers(getattr(self, name), name, _K.DATE_TIME)
        yield from self._given_away()
        if all(item.action is OrderItemAction.ADD for item in self.item) and not self.customer:
            yield Violation("customer", "required: what is added says nothing of who orders")
        if self.lead_time is not None:
            yield from self._leads()

    def _given_away(self) -> Iterator[Violation]:
        """What a change of owner needs: who takes it over and who pays from then on."""
        if not self.transferor:
            return
        for name in ("customer", "payer"):
            if not getattr(self, name):
                yield Violation(name, "required where a product goes from one to another")
        if self.transferor == self.customer:
            yield Violation("transferor", "is who orders")
        if not any(item.action is OrderItemAction.MODIFY for item in self.item):
            yield Violation("transferor", "nothing is changed that could be given away")

    def _leads(self) -> Iterator[Violation]:
        lead = self.lead_time
        assert lead is not None
        unit = (lead.units or "").removesuffix("s")
        if unit not in _UNITS:
            yield Violation("lead_time.units", f"one of {', '.join(_UNITS)}")
        elif lead.amount is None or not 0 <= lead.amount <= LONGEST_LEAD / _UNITS[unit](1):
            yield Violation("lead_time.amount", "from nothing to a year")
        if not self.requested_completion_date or self.requested_start_date:
            yield Violation("lead_time", "counts back from requested_completion_date, where no start is named")

    def _refers(
        self, name: str | None, path: str, kind: TemplateParameterKind | None = None, *, required: bool = False
    ) -> Iterable[Violation]:
        if not name:
            return [Violation(path, "required")] if required else []
        if name not in self.kinds:
            return [Violation(path, f"there is no parameter {name!r}")]
        if kind is not None and self.kinds[name] is not kind:
            return [Violation(path, f"parameter {name!r} is no {kind}")]
        return []


def _named(name: str | None, path: str) -> Iterable[Violation]:
    if _NAME.fullmatch(name or ""):
        return []
    return [Violation(path, "1 to 60 letters, digits and underscores, beginning with a letter")]
