"""Whether what orders and products say is owed, and what billing was told, is the same. Pure: no I/O, no clock.

It reads what happened from the log (an item was completed, a product became another) and knows nothing of the code that
writes charges: the two agree, or one of them is wrong. What it expects of what happened:

* an item that adds a product: its prices as it was completed, each once; what recurs as a start.
* an item that modifies one and names an offering: likewise, what recurs as a change; and a stop of each recurring price
  that the product had and the item hasn't.
* an item that deletes one: a stop of each recurring price that the product had.
* an item that gives one to another customer: a stop of each recurring price for the account that paid it, and for the
  one that pays from then on its prices as if it were added.
* a product that becomes another: of each recurring price that begins to rest or no longer does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

RECURRING = "recurring"
START, CHANGE, STOP = "RecurringChargeStartEvent", "RecurringChargeChangeEvent", "RecurringChargeStopEvent"
SUSPEND, RESUME = "RecurringChargeSuspendEvent", "RecurringChargeResumeEvent"
ONCE = "ChargeCreateEvent"
# Not of a product's change: each has a record of its own, by which it is known.
CREDITS = frozenset({"CreditCreateEvent", "DiscountCreateEvent", "PointsRedemptionEvent", "ChargeCorrectionEvent"})


class Fault(StrEnum):
    """What is wrong between a cause and its charge."""

    MISSING = "missing"
    DUPLICATE = "duplicate"
    ALTERED = "altered"
    # No order, product or credit asks for it.
    UNCAUSED = "uncaused"
    # Its bytes aren't those that its hash is of, or its chain has a hole before it.
    BROKEN = "broken"
    # The day is over and it has no place in a chain.
    UNSEALED = "unsealed"


@dataclass(frozen=True, slots=True)
class Price:
    """A price as the log has it: by what it is known, its kind and period, and its amount before tax."""

    id: str
    name: str
    kind: str
    period: str
    unit: str
    value: Decimal

    @property
    def key(self) -> str:
        """What makes two prices of a product the same."""
        return f"{self.id or self.name} {self.period}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """An item of an order that was completed, with the prices that its product had until then.

    `taker`: the account that pays from then on, where the product has become another customer's; None: it hasn't.
    """

    order_id: str
    item_id: str
    action: str
    product_id: str
    account: str
    priced: bool
    prices: Sequence[Price] = ()
    had: Sequence[Price] = ()
    taker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A product of which these prices rest from then on (or are charged again)."""

    product_id: str
    account: str
    resting: bool
    prices: Sequence[Price] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """A credit that somebody was promised."""

    cause: str
    account: str
    type: str
    product_id: str
    unit: str
    value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A charge as billing was told of it."""

    id: str
    type: str
    account: str
    product_id: str
    order_id: str = ""
    item_id: str = ""
    price_id: str = ""
    name: str = ""
    period: str = ""
    cause: str = ""
    unit: str = ""
    value: Decimal = Decimal()
    broken: str = ""
    sealed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """What is wrong, and where."""

    fault: Fault
    type: str
    account: str
    product_id: str
    order_id: str = ""
    item_id: str = ""
    price: str = ""
    charge_id: str = ""
    expected: str = ""
    found: str = ""

    def line(self) -> dict[str, str]:
        """What a certificate says of it; what there isn't is left out."""
        names = {
            "fault": self.fault.value,
            "type": self.type,
            "account": self.account,
            "productId": self.product_id,
            "productOrderId": self.order_id,
            "productOrderItemId": self.item_id,
            "price": self.price,
            "chargeId": self.charge_id,
            "expected": self.expected,
            "found": self.found,
        }
        return {name: value for name, value in names.items() if value}


@dataclass(frozen=True, slots=True)
class _Owed:
    """One charge that there has to be."""

    type: str
    account: str
    product_id: str
    order_id: str
    item_id: str
    price: str
    worth: str


Happened = Completed | Changed | Credited
_Place = tuple[str, str, str, str, str]


@dataclass
class Comparison:
    """Takes what happened and what was charged, in any order and number of parts, and tells what doesn't fit. What fits
    is forgotten part by part, so that a day needs the memory of its busiest part."""

    _owed: dict[_Place, list[_Owed]] = field(default_factory=dict)
    _charged: dict[_Place, list[Charged]] = field(default_factory=dict)
    _found: list[Discrepancy] = field(default_factory=list)
    compared: int = 0

    def part(self, happened: Iterable[Happened], charged: Iterable[Charged]) -> None:
        """Compares the happenings and charges of one part; what finds nothing there waits for the end."""
        # Where a charge has met its cause already: another one there is one too many.
        met: set[_Place] = set()
        owes: dict[_Place, list[_Owed]] = {}
        for one in happened:
            for owed in _owes(one):
                owes.setdefault(_place_owed(owed), []).append(owed)
        for charge in charged:
            self.compared += 1
            if charge.broken:
                self._found.append(_of(Fault.BROKEN, charge, found=charge.broken))
            elif not charge.sealed:
                self._found.append(_of(Fault.UNSEALED, charge))
            place = _place_charged(charge)
            owing = owes.get(place)
            if owing:
                met.add(place)
                owed = next((one for one in owing if one.worth == _worth(charge)), owing[0])
                owing.remove(owed)
                if not owing:
                    del owes[place]
                if owed.worth != _worth(charge) or owed.account not in ("", charge.account):
                    self._found.append(_altered(owed, charge))
            elif place in met:
                self._found.append(_of(Fault.DUPLICATE, charge))
            else:
                self._charged.setdefault(place, []).append(charge)
                met.add(place)
        for place, left in owes.items():
            self._owed.setdefault(place, []).extend(left)

    def discrepancies(self) -> list[Discrepancy]:
        """Everything that doesn't fit, by account, product and charge."""
        found = list(self._found)
        for place, charges in self._charged.items():
            owing = self._owed.pop(place, [])
            for number, charge in enumerate(charges):
                if number < len(owing):
                    # It was in another part: cause and charge are of one instant, so somebody has moved one.
                    found.append(_altered(owing[number], charge, moved=True))
                else:
                    found.append(_of(Fault.DUPLICATE if number else Fault.UNCAUSED, charge))
            found += [_missing(owed) for owed in owing[len(charges) :]]
        found += [_missing(owed) for owing in self._owed.values() for owed in owing]
        return sorted(found, key=lambda one: tuple(one.line().items()))


def _owes(happened: Happened) -> Iterator[_Owed]:
    if isinstance(happened, Credited):
        worth = _amount(-happened.value, happened.unit)
        yield _Owed(happened.type, happened.account, happened.product_id, "", "", happened.cause, worth)
        return
    if isinstance(happened, Changed):
        for price in happened.prices:
            kind = SUSPEND if happened.resting else RESUME
            yield _Owed(
                kind, happened.account, happened.product_id, "", "", price.key, _amount(price.value, price.unit)
            )
        return
    for account, kind, price in _of_item(happened):
        yield _Owed(
            kind,
            account,
            happened.product_id,
            happened.order_id,
            happened.item_id,
            price.key,
            _amount(price.value, price.unit),
        )


def _of_item(item: Completed) -> Iterator[tuple[str, str, Price]]:
    """Account, type and price of each charge that an item means."""
    recurring: Mapping[str, Price] = {price.key: price for price in item.had if price.kind == RECURRING}
    given = item.action == "modify" and item.taker is not None
    if item.action == "delete" or given:
        yield from ((item.account, STOP, price) for price in recurring.values())
    if item.action == "add" or given:
        account = item.account if item.taker is None else item.taker
        yield from ((account, START if price.kind == RECURRING else ONCE, price) for price in item.prices)
    elif item.action == "modify" and item.priced:
        kept = {price.key for price in item.prices}
        yield from ((item.account, STOP, price) for key, price in recurring.items() if key not in kept)
        yield from ((item.account, CHANGE if price.kind == RECURRING else ONCE, price) for price in item.prices)


def _place_owed(owed: _Owed) -> _Place:
    order, item = ("", "") if owed.type in (SUSPEND, RESUME) else (owed.order_id, owed.item_id)
    return owed.type, order, item, owed.product_id, owed.price


def _place_charged(charge: Charged) -> _Place:
    # What rests is of the product's change, whether or not an order asked for that.
    order, item = ("", "") if charge.type in (SUSPEND, RESUME) else (charge.order_id, charge.item_id)
    price = charge.cause if charge.type in CREDITS else f"{charge.price_id or charge.name} {charge.period}"
    return charge.type, order, item, charge.product_id, price


def _amount(value: Decimal, unit: str) -> str:
    # Two amounts are the same whatever zeros they end with.
    return f"{value.normalize():f} {unit}"


def _worth(charge: Charged) -> str:
    return _amount(charge.value, charge.unit)


def _missing(owed: _Owed) -> Discrepancy:
    return Discrepancy(
        fault=Fault.MISSING,
        type=owed.type,
        account=owed.account,
        product_id=owed.product_id,
        order_id=owed.order_id,
        item_id=owed.item_id,
        price=owed.price.strip(),
        expected=owed.worth,
    )


def _altered(owed: _Owed, charge: Charged, *, moved: bool = False) -> Discrepancy:
    expected = owed.worth if owed.account == charge.account else f"{owed.worth} of {owed.account}"
    found = _worth(charge) if owed.account == charge.account else f"{_worth(charge)} of {charge.account}"
    return Discrepancy(
        fault=Fault.ALTERED,
        type=owed.type,
        account=owed.account,
        product_id=owed.product_id,
        order_id=owed.order_id,
        item_id=owed.item_id,
        price=owed.price.strip(),
        charge_id=charge.id,
        expected=expected,
        found=f"{found} at another time" if moved else found,
    )


def _of(fault: Fault, charge: Charged, *, found: str = "") -> Discrepancy:
    return Discrepancy(
        fault=fault,
        type=charge.type,
        account=charge.account,
        product_id=charge.product_id,
        order_id=charge.order_id,
        item_id=charge.item_id,
        price=_place_charged(charge)[4].strip(),
        charge_id=charge.id,
        found=found or _worth(charge),
    )
