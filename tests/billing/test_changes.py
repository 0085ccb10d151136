"""Which charges a change of a product means, and that what is compared with them says the same."""

import random
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import FailedPrecondition
from chassis.products import PriceAlteration, ProductPrice, ProductStatus
from chassis.types import Characteristic, EntityRef, Json, Money, Price
from orders.billing.changes import Cause, Held, charges_of
from orders.billing.domain import ChargeEvent, ChargeType
from orders.billing.reconciliation import Changed, Charged, Comparison, Completed, Fault, Happened
from orders.billing.reconciliation import Price as Known
from tests.billing.charges import AT

S, C = ProductStatus, ChargeType


def price(key: str, value: str = "100", *, recurring: bool = True) -> ProductPrice:
    return ProductPrice(
        name=f"price {key}",
        price_type="recurring" if recurring else "oneTime",
        recurring_charge_period="month" if recurring else None,
        price=Price(duty_free_amount=Money(unit="KGS", value=Decimal(value)), tax_rate=Decimal(12)),
        product_offering_price=EntityRef(id=key),
    )


def cause(order: str = "o1") -> Cause:
    return Cause(account="a", branch="osh", at=AT, product_id="p", order_id=order, order_item_id="1")


def held(status: ProductStatus | None, *prices: ProductPrice, goes_on: str = "") -> Held:
    named = (Characteristic(name="chargedWhileSuspended", value=Json(goes_on)),) if goes_on else ()
    return Held(status=status, prices=prices, offering_id="offer", characteristics=named)


def told(charges: list[ChargeEvent]) -> list[tuple[ChargeType, str]]:
    return [(charge.type, charge.product_offering_price_id) for charge in charges]


def test_a_product_that_becomes_active_is_charged_for_each_of_its_prices() -> None:
    new = held(S.ACTIVE, price("once", recurring=False), price("monthly"))
    charges = charges_of(held(S.PENDING_ACTIVE, *new.prices), new, cause())
    assert told(charges) == [(C.CHARGE_CREATE, "once"), (C.RECURRING_CHARGE_START, "monthly")]
    assert charges[1].amount == Money(unit="KGS", value=Decimal(100))
    assert (charges[1].name, charges[1].recurring_charge_period) == ("price monthly", "month")


def test_what_falls_away_stops_and_what_stays_is_told_again_when_it_is_priced_anew() -> None:
    before = held(S.ACTIVE, price("a"), price("b"))
    after = held(S.ACTIVE, price("b", "120"), price("c"), price("once", recurring=False))
    assert told(charges_of(before, after, cause(), priced=True)) == [
        (C.RECURRING_CHARGE_STOP, "a"),
        (C.RECURRING_CHARGE_CHANGE, "b"),
        (C.RECURRING_CHARGE_CHANGE, "c"),
        (C.CHARGE_CREATE, "once"),
    ]
    # Characteristics that cost nothing.
    assert charges_of(before, before, cause()) == []


@pytest.mark.parametrize(
    ("goes_on", "resting"),
    [("", ["a", "b"]), ("false", ["a", "b"]), ("true", []), ('"b"', ["a"]), ('["price a", "b"]', [])],
)
def test_a_suspended_product_rests_but_for_what_it_was_sold_to_go_on_with(goes_on: str, resting: list[str]) -> None:
    prices = (price("a"), price("b"), price("once", recurring=False))
    active, suspended = held(S.ACTIVE, *prices, goes_on=goes_on), held(S.SUSPENDED, *prices, goes_on=goes_on)
    assert told(charges_of(active, suspended, cause())) == [(C.RECURRING_CHARGE_SUSPEND, key) for key in resting]
    assert told(charges_of(suspended, active, cause())) == [(C.RECURRING_CHARGE_RESUME, key) for key in resting]
    assert told(charges_of(suspended, replace(active, status=S.TERMINATED), cause())) == [
        (C.RECURRING_CHARGE_STOP, "a"),
        (C.RECURRING_CHARGE_STOP, "b"),
    ]


def test_a_price_that_is_new_while_the_product_is_suspended_begins_with_resting() -> None:
    before, after = held(S.SUSPENDED, price("a")), held(S.SUSPENDED, price("a"), price("b"))
    assert told(charges_of(before, after, cause(), priced=True)) == [
        (C.RECURRING_CHARGE_CHANGE, "a"),
        (C.RECURRING_CHARGE_CHANGE, "b"),
        (C.RECURRING_CHARGE_SUSPEND, "b"),
    ]


def test_what_was_never_active_costs_nothing() -> None:
    for status in (S.CANCELLED, S.ABORTED, S.PENDING_ACTIVE):
        assert charges_of(held(S.PENDING_ACTIVE, price("a")), held(status, price("a")), cause()) == []


def test_a_price_without_an_amount_is_refused_where_it_begins_and_has_nothing_to_stop() -> None:
    unpriced = replace(price("a"), price=Price(tax_included_amount=Money(unit="KGS", value=Decimal(112))))
    with pytest.raises(FailedPrecondition, match="no amount before tax"):
        charges_of(held(S.PENDING_ACTIVE), held(S.ACTIVE, unpriced), cause())
    assert charges_of(held(S.ACTIVE, unpriced), held(S.TERMINATED, unpriced), cause()) == []


def test_a_discount_is_in_the_charge_that_begins_with_it_and_not_in_its_stop() -> None:
    off = PriceAlteration(
        name="autumn",
        price=Price(duty_free_amount=Money(unit="KGS", value=Decimal(-20))),
        product_offering_price=EntityRef(id="promo", at_referred_type="Promotion"),
        application_duration=3,
    )
    one = replace(price("a", "80"), product_price_alteration=(off,))
    (start,) = charges_of(held(S.PENDING_ACTIVE), held(S.ACTIVE, one), cause())
    assert (start.list_amount, start.alteration[0].promotion_id) == (Money(unit="KGS", value=Decimal(100)), "promo")
    assert start.alteration[0].units == "month"
    (stop,) = charges_of(held(S.ACTIVE, one), held(S.TERMINATED, one), cause())
    assert (stop.list_amount, stop.alteration) == (None, ())


# --- what happened, and what is compared with it ---------------------------------------------------------------------


def known(prices: tuple[ProductPrice, ...]) -> list[Known]:
    found = []
    for one in prices:
        assert one.price is not None
        assert one.price.duty_free_amount is not None
        assert one.price.duty_free_amount.value is not None
        key = one.product_offering_price.id if one.product_offering_price is not None else ""
        amount = one.price.duty_free_amount.value
        found.append(
            Known(key or "", one.name or "", one.price_type or "", one.recurring_charge_period or "", "KGS", amount)
        )
    return found


def charged(charge: ChargeEvent) -> Charged:
    assert charge.amount.value is not None
    return Charged(
        id=charge.id,
        type=charge.type.value,
        account=charge.account,
        product_id=charge.product_id,
        order_id=charge.order_id,
        item_id=charge.order_item_id,
        price_id=charge.product_offering_price_id,
        name=charge.name or "",
        period=charge.recurring_charge_period or "",
        cause=charge.cause or "",
        unit=charge.amount.unit or "",
        value=charge.amount.value,
    )


@dataclass
class Life:
    """A product's life: what the log says of it, and what was charged for it."""

    seed: int
    happened: list[Happened] = field(default_factory=list)
    charges: list[Charged] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        goes_on = chance.choice(["", "true", '"a"', '["a", "b"]'])
        now = held(S.PENDING_ACTIVE, *self._prices(chance), goes_on=goes_on)
        self._step(now, replace(now, status=S.ACTIVE), "add", number=0)
        now = replace(now, status=S.ACTIVE)
        for number in range(1, chance.randrange(2, 9)):
            match chance.choice(["modify", "modify", "configure", "flip", "delete"]):
                case "modify":
                    after = replace(now, prices=self._prices(chance))
                    self._step(now, after, "modify", number)
                case "configure":
                    after = now
                    self._step(now, after, "modify", number, priced=False)
                case "flip":
                    after = replace(now, status=S.ACTIVE if now.status is S.SUSPENDED else S.SUSPENDED)
                    self._flip(now, after, number)
                case _:
                    self._step(now, replace(now, status=S.TERMINATED), "delete", number)
                    return
            now = after

    def _prices(self, chance: random.Random) -> tuple[ProductPrice, ...]:
        keys = chance.sample("abcd", chance.randrange(1, 4))
        return tuple(price(key, str(chance.randrange(1, 500)), recurring=key != "d") for key in keys)

    def _step(self, before: Held, after: Held, action: str, number: int, *, priced: bool = True) -> None:
        why = replace(cause(f"o{number}"), product_id=f"p{self.seed}", account=f"a{self.seed % 3}")
        self.charges += map(charged, charges_of(before, after, why, priced=priced and action == "modify"))
        self.happened.append(
            Completed(
                order_id=why.order_id,
                item_id="1",
                action=action,
                product_id=why.product_id,
                account=why.account,
                priced=priced and action != "delete",
                prices=known(tuple(after.prices)),
                had=known(tuple(before.prices)) if action != "add" else (),
            )
        )
        if before.status is S.SUSPENDED and after.status is S.SUSPENDED and priced:
            rested = {one.key for one in self._resting(before)}
            resting = [one for one in self._resting(after) if one.key not in rested]
            self.happened.append(Changed(product_id=why.product_id, account=why.account, resting=True, prices=resting))

    def _flip(self, before: Held, after: Held, number: int) -> None:
        why = replace(cause(""), product_id=f"p{self.seed}", account=f"a{self.seed % 3}", order_item_id="")
        self.charges += map(charged, charges_of(before, after, why))
        suspended = after.status is S.SUSPENDED
        prices = self._resting(after if suspended else before)
        self.happened.append(Changed(product_id=why.product_id, account=why.account, resting=suspended, prices=prices))

    def _resting(self, product: Held) -> list[Known]:
        text = product.characteristics[0].value.text if product.characteristics else '""'  # type: ignore[union-attr]
        return [
            one
            for one in known(tuple(product.prices))
            if one.kind == "recurring" and text != "true" and f'"{one.id}"' not in text
        ]


def compared(happened: list[Happened], charges: list[Charged]) -> Comparison:
    comparison = Comparison()
    comparison.part(happened, charges)
    return comparison


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=4, unique=True), st.randoms(use_true_random=False))
def test_what_is_charged_is_what_happened_and_every_fault_is_named_by_its_kind(
    seeds: list[int], chance: random.Random
) -> None:
    lives = [Life(seed) for seed in seeds]
    happened = [one for life in lives for one in life.happened]
    charges = [one for life in lives for one in life.charges]
    assert compared(happened, charges).discrepancies() == []
    chance.shuffle(charges)
    assert compared(happened, charges).discrepancies() == []
    for kind in (Fault.MISSING, Fault.DUPLICATE, Fault.ALTERED, Fault.UNCAUSED):
        place = chance.randrange(len(charges))
        victim, rest = charges[place], [*charges[:place], *charges[place + 1 :]]
        match kind:
            case Fault.MISSING:
                wrong = rest
            case Fault.DUPLICATE:
                wrong = [*charges, replace(victim, id="copy")]
            case Fault.ALTERED:
                wrong = [*rest, replace(victim, value=victim.value + 1)]
            case _:
                wrong = [*charges, replace(victim, id="odd", product_id="another")]
        (found,) = compared(happened, wrong).discrepancies()
        assert found.fault is kind, found
        assert found.type == victim.type
        if victim.type not in ("RecurringChargeSuspendEvent", "RecurringChargeResumeEvent"):
            assert (found.order_id, found.item_id) == (victim.order_id, victim.item_id)
        assert found.product_id == ("another" if kind is Fault.UNCAUSED else victim.product_id)


def test_a_charge_at_another_time_than_its_cause_is_named() -> None:
    life = Life(1)
    comparison = Comparison()
    comparison.part(life.happened, life.charges[1:])
    comparison.part([], life.charges[:1])
    (found,) = comparison.discrepancies()
    assert (found.fault, found.charge_id) == (Fault.ALTERED, life.charges[0].id)
    assert "another time" in found.found


def test_a_charge_of_another_account_is_altered() -> None:
    life = Life(1)
    (found,) = compared(life.happened, [replace(life.charges[0], account="thief"), *life.charges[1:]]).discrepancies()
    assert (found.fault, found.found) == (Fault.ALTERED, f"{found.expected.split(' of ')[0]} of thief")
