"""Loyalty over gRPC on a real database: members, cards, earning, spending, and what happens by itself."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest

from chassis.cloudevents import ReceivedEvent, received
from chassis.db import Database
from chassis.errors import Aborted, DomainError, FailedPrecondition, InvalidArgument, NotFound
from chassis.events import acting
from chassis.receipts import Receipt, ReceiptStep
from chassis.types import Money, new_id
from customers.loyalty import earning, ledger_store, tiers
from customers.loyalty.books import POINTS, TIER
from customers.loyalty.charges import Charges
from customers.loyalty.entries import Book
from customers.loyalty.events import Earnings
from orders.billing.domain import SOURCE, ChargeEvent, ChargeType, Unsealed, seal_all
from svyaz.customers.v1 import loyalty_pb2
from svyaz.orders.v1 import inventory_pb2, orders_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.conftest import ServiceDatabase
from tests.customers.conftest import CUSTOMER
from tests.serving import Caller, loyalty_books

LOYALTY = "svyaz.customers.v1.LoyaltyService/"
PROGRAM = "svyaz.customers.v1.LoyaltyProgramService/"
BRANCH = "bishkek"
Call = Callable[..., Any]


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def hands(database: Database) -> Iterator[Hands]:
    """The service's clock, put back afterwards."""
    before, hands = database.clock, Hands()
    database.clock = hands  # type: ignore[assignment]
    yield hands
    database.clock = before


@pytest.fixture(scope="module")
def admin(caller_of: Callable[..., Caller]) -> Caller:
    return caller_of(BRANCH, role="admin")


@pytest.fixture(scope="module")
def call(admin: Caller) -> Call:
    """Calls a method of loyalty: `call("ReservePoints", member_id=…)`."""

    def made(method: str, **fields: Any) -> Any:
        return admin(f"{LOYALTY}{method}", **fields)

    return made


def a_program(admin: Caller, **terms: Any) -> str:
    made = admin(
        f"{PROGRAM}CreateLoyaltyProgramProductSpec",
        loyalty_program_product_spec={"name": "Club", "product_number": "C1", "life_cycle_status": "active"},
    )
    admin(f"{PROGRAM}CreateLoyaltyTerms", loyalty_terms={"program_id": made.id, "unit": "points", **terms})
    return str(made.id)


def a_rule(admin: Caller, program: str, **more: Any) -> Any:
    rule = {
        "program_id": program,
        "code": "PAID",
        "event_type": "paid",
        "formula": {"basis": "amount", "rate": "1"},
        "state": loyalty_pb2.EARN_RULE_STATE_ACTIVE,
        **more,
    }
    return admin(f"{PROGRAM}CreateEarnRule", earn_rule=rule)


def a_customer(admin: Caller, name: str = "Aigul") -> str:
    made = admin(f"{CUSTOMER}CreateCustomer", customer={"name": name, "engaged_party": {"id": "500"}})
    return str(made.id)


def a_member(admin: Caller, program: str, customer: str = "") -> Any:
    return admin(
        f"{LOYALTY}CreateLoyaltyProgramMember",
        loyalty_program_member={
            "name": "Aigul",
            "customer": {"id": customer or a_customer(admin)},
            "loyalty_program_product_spec": {"id": program},
        },
    )


def pays(admin: Caller, member: Any, amount: str, event: str = "", **more: Any) -> Any:
    """The earning of a payment."""
    answer = admin(
        f"{LOYALTY}ReportLoyaltyEvent",
        event_id=event or new_id(),
        event_type="paid",
        customer_id=member.customer.id,
        facts=f'{{"amount": {amount}, "currency": "KGS"}}'.encode(),
        **more,
    )
    (earned,) = answer.earning
    return earned


def kept(call: Call, member: Any) -> dict[str, Decimal]:
    balance = call("GetLoyaltyBalance", id=member.loyalty_balance.id)
    available = Decimal(balance.quantity.units) + Decimal(balance.quantity.nanos) / 10**9
    return {"available": available} | {
        name: Decimal(getattr(balance, name)) for name in ("pending", "reserved", "owed")
    }


def prove(database: Database, call: Call, member: Any) -> dict[str, Decimal]:
    """The kept figures, which are what all postings come to, as each lot's are; whatever has happened."""
    figures = kept(call, member)
    with acting("customers", "test", BRANCH), database.unit() as unit:
        sums = ledger_store.sums_of_postings(unit, member.loyalty_balance.id)
        lots = (
            unit.cursor()
            .execute(
                "SELECT lot.id, pending, available, reserved, expired,"
                " ARRAY(SELECT coalesce(sum(amount) FILTER (WHERE posting.book = wanted), 0)"
                "   FROM unnest(ARRAY['pending', 'available', 'reserved', 'expired'])"
                "   WITH ORDINALITY AS w (wanted, place)"
                "   LEFT JOIN loyalty_posting posting ON posting.lot_id = lot.id GROUP BY wanted, place ORDER BY place)"
                " FROM loyalty_lot lot WHERE balance_id = %s",
                (member.loyalty_balance.id,),
            )
            .fetchall()
        )
    zero = Decimal(0)
    assert figures == {
        "available": sums.get(Book.AVAILABLE, zero),
        "pending": sums.get(Book.PENDING, zero),
        "reserved": sums.get(Book.RESERVED, zero),
        "owed": -sums.get(Book.OWED, zero),
    }
    assert sum(sums.values(), zero) == 0
    for _, *of_lot, posted in lots:
        assert list(of_lot) == list(posted)
    assert sum((row[2] for row in lots), zero) == figures["available"]
    assert all(figure >= 0 for figure in figures.values())
    return figures


def refused(why: str, call: Callable[[], Any], kind: type[DomainError] = FailedPrecondition) -> DomainError:
    with pytest.raises(kind) as error:
        call()
    assert error.value.reason == why
    return error.value


# --- members and cards -----------------------------------------------------------------------------------------------


def test_a_member_gets_an_account_a_balance_and_the_lowest_tier(admin: Caller, call: Call) -> None:
    program = a_program(admin, tier=[{"code": "basic", "threshold": "0"}, {"code": "gold", "threshold": "100"}])
    member = a_member(admin, program)
    assert (member.tier, member.HasField("enrolled_at")) == ("basic", True)
    account = call("GetLoyaltyAccount", id=member.loyalty_account.id)
    balance = call("GetLoyaltyBalance", id=member.loyalty_balance.id)
    assert account.loyalty_program_member.id == balance.loyalty_program_member.id == member.id
    assert balance.loyalty_account.id == account.id
    assert balance.loyalty_program_member.href == f"/tmf-api/loyalty/v4/loyaltyProgramMember/{member.id}"
    assert (balance.quantity.unit, balance.quantity.units) == ("points", 0)
    assert [change.reason for change in call("ListTierChanges", member_id=member.id).change] == ["ENROLLED"]


def test_a_customer_is_a_member_of_a_programme_once_and_stays_while_it_is(admin: Caller, call: Call) -> None:
    program, customer = a_program(admin), a_customer(admin)
    member = a_member(admin, program, customer)
    refused("ALREADY_ENROLLED", lambda: a_member(admin, program, customer))
    assert a_member(admin, a_program(admin), customer).id
    refused("UNKNOWN_CUSTOMER", lambda: a_member(admin, program, "nobody"), InvalidArgument)
    refused("UNKNOWN_PROGRAM", lambda: a_member(admin, "nothing"), InvalidArgument)
    refused("REFERENCED", lambda: admin(f"{CUSTOMER}DeleteCustomer", id=customer))
    refused("REFERENCED", lambda: admin(f"{PROGRAM}DeleteLoyaltyProgramProductSpec", id=program))
    other = {"id": member.id, "customer": {"id": a_customer(admin)}}
    mask = {"paths": ["customer"]}
    refused(
        "IMMUTABLE",
        lambda: call("UpdateLoyaltyProgramMember", loyalty_program_member=other, update_mask=mask),
        InvalidArgument,
    )


def test_a_programme_may_be_named_later_and_a_closed_one_enrols_nobody(admin: Caller, call: Call) -> None:
    program = a_program(admin)
    bare = call("CreateLoyaltyProgramMember", loyalty_program_member={"name": "Bek"})
    assert not bare.HasField("loyalty_balance")
    refused("MEMBER_NOT_ACTIVE", lambda: call("ReservePoints", member_id=bare.id, points="1"))
    named = {"id": bare.id, "loyalty_program_product_spec": {"id": program}}
    mask = {"paths": ["loyalty_program_product_spec"]}
    changed = call("UpdateLoyaltyProgramMember", loyalty_program_member=named, update_mask=mask)
    assert changed.loyalty_balance.id
    admin(
        f"{PROGRAM}UpdateLoyaltyProgramProductSpec",
        loyalty_program_product_spec={"id": program, "life_cycle_status": "retired"},
        update_mask={"paths": ["life_cycle_status"]},
    )
    refused("PROGRAM_CLOSED", lambda: a_member(admin, program))


def test_a_member_whose_points_were_moved_isnt_deleted(admin: Caller, call: Call) -> None:
    program = a_program(admin)
    a_rule(admin, program)
    member, empty = a_member(admin, program), a_member(admin, program)
    pays(admin, member, "5")
    refused("HAS_LEDGER", lambda: call("DeleteLoyaltyProgramMember", id=member.id))
    call("DeleteLoyaltyProgramMember", id=empty.id)
    for method, gone in (
        ("GetLoyaltyBalance", empty.loyalty_balance.id),
        ("GetLoyaltyAccount", empty.loyalty_account.id),
    ):
        with pytest.raises(NotFound):
            call(method, id=gone)
    admin(f"{CUSTOMER}DeleteCustomer", id=empty.customer.id)


def test_a_card_is_issued_activated_blocked_and_replaced(admin: Caller, call: Call) -> None:
    member = a_member(admin, a_program(admin))
    card = call("IssueClubCard", member_id=member.id, request_id=new_id())
    assert len(card.number) == 13
    refused("HAS_CARD", lambda: call("IssueClubCard", member_id=member.id))
    active, blocked = loyalty_pb2.CLUB_CARD_STATE_ACTIVE, loyalty_pb2.CLUB_CARD_STATE_BLOCKED
    assert call("ChangeClubCardState", number=card.number, state=active).state == active
    assert call("ChangeClubCardState", number=card.number, state=blocked, reason="LOST").state_reason == "LOST"
    mistyped = card.number[:-1] + str((int(card.number[-1]) + 1) % 10)
    refused("BAD_CARD_NUMBER", lambda: call("ChangeClubCardState", number=mistyped, state=active), InvalidArgument)
    new = call("ReplaceClubCard", number=card.number, reason="LOST")
    old = call("GetClubCard", id=card.id)
    assert (old.state, old.replaced_by) == (loyalty_pb2.CLUB_CARD_STATE_REPLACED, new.number)
    refused("BAD_TRANSITION", lambda: call("ReplaceClubCard", number=card.number))
    (shown,) = call("GetCustomerLoyalty", customer_id=member.customer.id).program
    assert {one.number for one in shown.card} == {card.number, new.number}


# --- earning ---------------------------------------------------------------------------------------------------------


def test_an_event_earns_once_however_often_it_is_reported_and_says_why(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(admin)
    rule = a_rule(admin, program, condition="event.amount > 10.0", reason="THANKS")
    member = a_member(admin, program)
    first = pays(admin, member, "120.75", "e1")
    again = [pays(admin, member, amount, "e1") for amount in ("120.75", "999")]
    assert first.points == "120"
    assert [one.points for one in again] == ["120", "120"]
    assert prove(database, call, member)["available"] == 120
    (entry,) = call("ListLoyaltyEntries", member_id=member.id).entry
    assert (entry.reason, entry.points, entry.event_id, entry.rule_id) == ("THANKS", "120", "e1", rule.id)
    assert [(posting.book, posting.amount) for posting in entry.posting] == [
        (loyalty_pb2.LOYALTY_BOOK_ISSUED, "-120"),
        (loyalty_pb2.LOYALTY_BOOK_AVAILABLE, "120"),
    ]
    nothing = pays(admin, member, "10", "e2")
    assert (nothing.points, nothing.receipt.step[0].reason) == ("0", "CONDITION_NOT_MET")
    for event in ("e1", "e2"):
        shown = call("GetEarning", member_id=member.id, event_id=event).receipt
        kept = Receipt(
            engine=shown.engine,
            revision=shown.revision,
            inputs=shown.inputs.decode(),
            step=tuple(_step(step) for step in shown.step),
        )
        assert earning.replay(kept)[1] == kept


def _step(step: Any) -> ReceiptStep:
    optional = {name: getattr(step, name) if step.HasField(name) else None for name in ("before", "after", "reason")}
    return ReceiptStep(subject=step.subject, action=step.action, rule=step.rule, **optional)


def test_one_event_told_by_eight_at_a_time_earns_once(admin: Caller, call: Call, database: Database) -> None:
    program = a_program(admin)
    a_rule(admin, program)
    member = a_member(admin, program)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: pays(admin, member, "7", "same").points, range(16)))
    assert told == ["7"] * 16
    assert prove(database, call, member)["available"] == 7


def test_the_latest_active_version_earns_and_caps_hold_over_versions(admin: Caller, call: Call) -> None:
    program = a_program(admin)
    cap = [{"period": loyalty_pb2.POINTS_CAP_PERIOD_DAY, "points": "100"}]
    first = a_rule(admin, program, cap=cap)
    member = a_member(admin, program)
    assert pays(admin, member, "70").points == "70"
    second = a_rule(admin, program, cap=cap, formula={"basis": "amount", "rate": "2"})
    assert (first.rule_version, second.rule_version) == (1, 2)
    retired = admin(f"{PROGRAM}GetEarnRule", id=first.id)
    assert retired.state == loyalty_pb2.EARN_RULE_STATE_RETIRED
    assert pays(admin, member, "70").points == "30"
    assert pays(admin, member, "70").points == "0"


def test_what_is_told_late_counts_in_the_period_in_which_it_happened(admin: Caller, call: Call) -> None:
    program = a_program(admin)
    cap = [{"period": loyalty_pb2.POINTS_CAP_PERIOD_MONTH, "points": "100"}]
    a_rule(admin, program, cap=cap)
    member = a_member(admin, program)
    assert pays(admin, member, "100").points == "100"
    last_month = datetime.now(UTC).replace(day=1) - timedelta(days=5)
    for amount, points in (("70", "70"), ("70", "30"), ("70", "0")):
        assert pays(admin, member, amount, time=last_month).points == points
    assert pays(admin, member, "1").points == "0"


def test_what_is_ordered_becomes_active_and_is_charged_is_spent_once(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(
        admin,
        tier=[{"code": "basic", "threshold": "0"}, {"code": "gold", "threshold": "500"}],
        tier_basis=loyalty_pb2.TIER_BASIS_SPEND,
        tier_currency="KGS",
    )
    member = a_member(admin, program)
    order = orders_pb2.ProductOrder(id=new_id(), state=orders_pb2.PRODUCT_ORDER_STATE_COMPLETED)
    order.related_party.add(id=member.customer.id, role="Customer")
    product = inventory_pb2.Product(id=new_id(), status=inventory_pb2.PRODUCT_STATUS_ACTIVE)
    product.related_party.add(id=member.customer.id, role="Customer")
    for prices in (order.order_total_price, product.product_price):
        price = prices.add(price_type="oneTime")
        price.price.tax_included_amount.unit, price.price.tax_included_amount.units = "KGS", 300
    for message in (order, product):
        with acting("customers", "test", BRANCH), database.unit() as unit:
            Earnings(loyalty_books()).orders_changed(_received(message, 1), unit)
    pays(admin, member, "300")
    assert call("GetLoyaltyProgramMember", id=member.id).tier == "basic"
    pays(admin, member, "200")
    assert call("GetLoyaltyProgramMember", id=member.id).tier == "gold"


def test_who_is_suspended_earns_and_spends_nothing(admin: Caller, call: Call) -> None:
    program = a_program(admin)
    a_rule(admin, program)
    member = a_member(admin, program)
    pays(admin, member, "10")
    call(
        "UpdateLoyaltyProgramMember",
        loyalty_program_member={"id": member.id, "status": "Suspended"},
        update_mask={"paths": ["status"]},
    )
    told = pays(admin, member, "10")
    assert (told.points, told.receipt.step[0].reason) == ("0", "MEMBER_NOT_ACTIVE")
    refused("MEMBER_NOT_ACTIVE", lambda: call("ReservePoints", member_id=member.id, points="1"))


def test_orders_and_products_earn_when_they_reach_the_state_and_once(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(admin)
    a_rule(admin, program, event_type="order.completed", condition="'shop' in event.channel")
    a_rule(
        admin, program, code="NEW", event_type="product.activated", formula={"fixed": "50"},
        condition="event.offering_id == 'o1'",
    )  # fmt: skip
    member = a_member(admin, program)
    handler = Earnings(loyalty_books())
    order = orders_pb2.ProductOrder(id="order", state=orders_pb2.PRODUCT_ORDER_STATE_COMPLETED)
    order.related_party.add(id=member.customer.id, role="Customer")
    order.channel.add(id="1", name="shop")
    price = order.order_total_price.add(price_type="oneTime")
    price.price.tax_included_amount.unit, price.price.tax_included_amount.units = "KGS", 300
    product = inventory_pb2.Product(id="product", status=inventory_pb2.PRODUCT_STATUS_ACTIVE)
    product.related_party.add(id=member.customer.id, at_referred_type="Customer")
    product.product_offering.id = "o1"
    waiting = orders_pb2.ProductOrder(id="other", state=orders_pb2.PRODUCT_ORDER_STATE_PENDING)
    waiting.related_party.extend(order.related_party)
    for version in (1, 2):
        for message in (order, product, waiting):
            with acting("customers", "test", BRANCH), database.unit() as unit:
                handler.orders_changed(_received(message, version), unit)
    entries = call("ListLoyaltyEntries", member_id=member.id).entry
    assert {(entry.event_id, entry.points) for entry in entries} == {
        ("order.completed/order", "300"),
        ("product.activated/product", "50"),
    }


def a_charge(customer: str, amount: str, type: ChargeType = ChargeType.CHARGE_CREATE, **more: Any) -> ChargeEvent:
    values: dict[str, Any] = {
        "account": "a1", "branch": BRANCH, "occurred_at": datetime.now(UTC), "product_id": "p", "order_id": "o",
        "order_item_id": "1", "product_offering_id": "tariff", "product_offering_price_id": "fee",
        "tax_included_amount": Money(unit="KGS", value=Decimal(amount)), **more,
    }  # fmt: skip
    net = (Decimal(amount) / Decimal("1.12")).quantize(Decimal("0.01"))
    return ChargeEvent(type=type, customer_id=customer, amount=Money(unit="KGS", value=net), **values)


def told(*charges: ChargeEvent) -> list[ReceivedEvent]:
    """The charges as the stream BILLING has them."""
    drafts = [Unsealed(number, one.account, one.branch, one.draft()) for number, one in enumerate(charges)]
    sealed, _ = seal_all(drafts, epoch=1, heads={})
    return [
        received(
            f"svyaz.billing.v1.00.{one.type}",
            {
                "ce-id": one.id, "ce-source": SOURCE, "ce-type": one.type.value, "ce-time": one.occurred_at.isoformat(),
                "ce-subject": f"account/{link.account}", "ce-branch": one.branch, "ce-partitionkey": link.account,
                "ce-epoch": str(link.epoch), "ce-sequence": str(link.sequence),
            },
            link.data,
            number,
        )
        for number, (one, link) in enumerate(zip(charges, sealed, strict=True), start=1)
    ]  # fmt: skip


def test_charges_of_billings_stream_earn_by_themselves_once_and_are_taken_back(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(
        admin,
        tier=[{"code": "basic", "threshold": "0"}, {"code": "gold", "threshold": "500"}],
        tier_basis=loyalty_pb2.TIER_BASIS_SPEND,
        tier_currency="KGS",
    )
    rule = {"event_type": "charge.created", "condition": "event.offering_id == 'tariff' && event.currency == 'KGS'"}
    a_rule(admin, program, **rule)
    before = datetime.now(UTC) - timedelta(hours=1)
    member = a_member(admin, program)
    one = a_charge(member.customer.id, "499.99")
    events = told(
        a_charge(member.customer.id, "70", occurred_at=before),
        one,
        a_charge(member.customer.id, "900", ChargeType.RECURRING_CHARGE_START, recurring_charge_period="month"),
        a_charge(member.customer.id, "900", ChargeType.RECURRING_CHARGE_STOP, recurring_charge_period="month"),
        a_charge(member.customer.id, "-30"),
    )
    # By its number an account's chain is read as versions are: nothing twice, nothing left out.
    assert [(event.aggregate_id, event.version) for event in events] == [("a1", n) for n in range(1, 6)]
    for event in (*events, *events):
        with acting("customers", "test", BRANCH), database.unit() as unit:
            Charges(loyalty_books()).charged(event, unit)
    (entry,) = call("ListLoyaltyEntries", member_id=member.id).entry
    assert (entry.event_id, entry.points) == (f"charge/{one.id}", "499")
    # Only what was charged counts as spent, to the last digit, and what it was credited by.
    assert call("GetLoyaltyProgramMember", id=member.id).tier == "basic"
    pays(admin, member, "30", f"charge/{one.id}")
    pays(admin, member, "30")
    assert call("GetLoyaltyProgramMember", id=member.id).tier == "basic"
    pays(admin, member, "0.01")
    assert call("GetLoyaltyProgramMember", id=member.id).tier == "gold"
    # Billing credits it: it knows the charge and the customer.
    (taken,) = call("ReverseEarning", customer_id=member.customer.id, event_id=f"charge/{one.id}").entry
    assert (taken.points, taken.member_id) == ("-499", member.id)
    again = lambda: call("ReverseEarning", customer_id=member.customer.id, event_id=f"charge/{one.id}")  # noqa: E731
    refused("ALREADY_REVERSED", again)
    refused("REQUIRED", lambda: call("ReverseEarning", event_id="x"), InvalidArgument)
    assert prove(database, call, member)["available"] == 0


def _received(message: Any, version: int) -> ReceivedEvent:
    kind = message.DESCRIPTOR.name
    return ReceivedEvent(
        id=new_id(), source="svyaz/orders", type=f"{kind}StateChangeEvent", time=datetime.now(UTC),
        aggregate_type=kind, aggregate_id=message.id, version=version, branch=BRANCH, key=message.id, actor="x",
        on_behalf_of=None, schema_revision=1, data_type=message.DESCRIPTOR.full_name, data=message.SerializeToString(),
        subject="", headers={},
    )  # fmt: skip


# --- what happens by itself ------------------------------------------------------------------------------------------


def due(database: Database, subject: str, purpose: str) -> datetime | None:
    """When the timer is due."""
    with acting("customers", "test", BRANCH), database.unit() as unit:
        row = (
            unit.cursor()
            .execute("SELECT due FROM timer WHERE aggregate_id = %s AND purpose = %s", (subject, purpose))
            .fetchone()
        )
    return row[0] if row is not None else None


def fire(database: Database, subject: str, purpose: str) -> None:
    with acting("customers", "test", BRANCH), database.unit() as unit:
        loyalty_books().timers()[purpose](subject, unit)


def test_points_become_spendable_and_expire_by_their_timer_and_only_once(
    admin: Caller, call: Call, database: Database, hands: Hands
) -> None:
    lot = {
        "pending": loyalty_pb2.PENDING_MODE_DURATION,
        "pending_days": 2,
        "pending_rounding": loyalty_pb2.DAY_ROUNDING_END_OF_DAY,
        "validity_days": 10,
    }
    program = a_program(admin, lot=lot)
    a_rule(admin, program)
    member = a_member(admin, program)
    pays(admin, member, "40")
    balance = member.loyalty_balance.id
    assert prove(database, call, member) == {"available": 0, "pending": 40, "reserved": 0, "owed": 0}
    activation = due(database, balance, POINTS)
    assert activation is not None
    # The end of a day in Bishkek.
    assert (activation.astimezone(UTC).hour, activation.minute) == (18, 0)
    fire(database, balance, POINTS)
    assert kept(call, member)["pending"] == 40
    hands.ahead = activation - datetime.now(UTC) + timedelta(minutes=1)
    for _ in range(2):
        fire(database, balance, POINTS)
    assert prove(database, call, member)["available"] == 40
    call("ConfirmPoints", reservation_id=call("ReservePoints", member_id=member.id, points="15").id)
    assert due(database, balance, POINTS) == activation + timedelta(days=10)
    hands.ahead += timedelta(days=11)
    for _ in range(2):
        fire(database, balance, POINTS)
    assert prove(database, call, member) == {"available": 0, "pending": 0, "reserved": 0, "owed": 0}
    reasons = [(entry.reason, entry.points) for entry in call("ListLoyaltyEntries", member_id=member.id).entry]
    assert reasons == [("EXPIRED", "-25"), ("SPENT", "0"), ("RESERVED", "-15"), ("ACTIVATED", "40"), ("EARNED", "0")]
    assert due(database, balance, POINTS) is None


def test_points_wait_for_an_action(admin: Caller, call: Call, database: Database) -> None:
    program = a_program(admin)
    lot = {
        "pending": loyalty_pb2.PENDING_MODE_ACTION,
        "pending_action": "product.activated",
        "validity_days": 5,
        "lapse_days": 30,
    }
    a_rule(admin, program, lot=lot)
    member = a_member(admin, program)
    pays(admin, member, "40")
    (waiting,) = call("ListPointsLots", member_id=member.id).lot
    assert (waiting.awaits, waiting.HasField("active_at"), waiting.HasField("expires_at")) == (
        "product.activated", False, False,
    )  # fmt: skip
    admin(
        f"{LOYALTY}ReportLoyaltyEvent",
        event_id=new_id(), event_type="product.activated", customer_id=member.customer.id,
    )  # fmt: skip
    (ready,) = call("ListPointsLots", member_id=member.id).lot
    assert ready.expires_at.seconds - ready.active_at.seconds == 5 * 86_400
    assert prove(database, call, member)["available"] == 40


def test_tiers_go_up_at_once_multiply_and_go_down_after_review_and_grace(
    admin: Caller, call: Call, database: Database, hands: Hands
) -> None:
    program = a_program(
        admin,
        tier=[{"code": "basic", "threshold": "0"}, {"code": "gold", "threshold": "1000", "multiplier": "1.5"}],
        tier_basis=loyalty_pb2.TIER_BASIS_SPEND,
        tier_currency="KGS",
        tier_period_months=12,
        tier_grace_days=14,
    )
    a_rule(admin, program, formula={"basis": "amount", "rate": "0.1", "tier_multiplied": True})
    member = a_member(admin, program)
    assert pays(admin, member, "1000").points == "100"
    shown = call("GetLoyaltyProgramMember", id=member.id)
    assert shown.tier == "gold"
    assert pays(admin, member, "100").points == "15"
    review = due(database, member.id, TIER)
    assert review == shown.tier_review_at.ToDatetime(UTC)
    hands.ahead = review - datetime.now(UTC) + timedelta(days=1)
    fire(database, member.id, TIER)
    graced = call("GetLoyaltyProgramMember", id=member.id)
    assert (graced.tier, graced.HasField("tier_grace_until")) == ("gold", True)
    fire(database, member.id, TIER)
    hands.ahead += timedelta(days=15)
    fire(database, member.id, TIER)
    assert call("GetLoyaltyProgramMember", id=member.id).tier == "basic"
    changes = call("ListTierChanges", member_id=member.id).change
    assert [change.reason for change in changes] == ["NOT_QUALIFIED", "GRACE", "QUALIFIED", "ENROLLED"]
    for change in changes:
        kept = Receipt(
            engine=change.receipt.engine, revision=change.receipt.revision, inputs=change.receipt.inputs.decode()
        )
        assert tiers.replay(kept).standing.tier == change.tier_after


# --- spending --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rich(admin: Caller) -> Any:
    """A member with 100 points."""
    program = a_program(admin, point_value={"unit": "KGS", "units": 0, "nanos": 500_000_000})
    a_rule(admin, program)
    member = a_member(admin, program)
    pays(admin, member, "100", "first")
    return member


def test_points_are_set_aside_spent_given_back_and_refunded(call: Call, database: Database, rich: Any) -> None:
    first = call("ReservePoints", member_id=rich.id, points="60", reference="order 1")
    assert (first.value.nanos, first.value.units) == (0, 30)
    assert call("ReservePoints", member_id=rich.id, points="60", reference="order 1") == first
    refused("REFERENCE_TAKEN", lambda: call("ReservePoints", member_id=rich.id, points="1", reference="order 1"))
    short = refused("INSUFFICIENT_POINTS", lambda: call("ReservePoints", member_id=rich.id, points="41"))
    assert short.metadata["available"] == "40"
    assert prove(database, call, rich) == {"available": 40, "pending": 0, "reserved": 60, "owed": 0}
    for _ in range(2):
        spent = call("ConfirmPoints", reservation_id=first.id)
        assert spent.state == loyalty_pb2.POINTS_RESERVATION_STATE_CONFIRMED
    refused("BAD_TRANSITION", lambda: call("ReleasePoints", reservation_id=first.id))
    second = call("ReservePoints", member_id=rich.id, points="40")
    for _ in range(2):
        assert call("ReleasePoints", reservation_id=second.id).state == loyalty_pb2.POINTS_RESERVATION_STATE_RELEASED
    refused("BAD_TRANSITION", lambda: call("ConfirmPoints", reservation_id=second.id))
    refused("NOT_SPENT", lambda: call("RefundPoints", reservation_id=second.id))
    part = call("RefundPoints", reservation_id=first.id, points="10")
    assert (part.state, part.refunded) == (loyalty_pb2.POINTS_RESERVATION_STATE_CONFIRMED, "10")
    refused("TOO_MUCH", lambda: call("RefundPoints", reservation_id=first.id, points="51"), InvalidArgument)
    whole = call("RefundPoints", reservation_id=first.id)
    assert (whole.state, whole.refunded) == (loyalty_pb2.POINTS_RESERVATION_STATE_REFUNDED, "60")
    assert prove(database, call, rich) == {"available": 100, "pending": 0, "reserved": 0, "owed": 0}


def test_a_reservation_that_isnt_confirmed_in_time_is_given_back(
    call: Call, database: Database, rich: Any, hands: Hands
) -> None:
    made = call("ReservePoints", member_id=rich.id, points="60")
    hands.ahead = timedelta(minutes=31)
    refused("BAD_TRANSITION", lambda: call("ConfirmPoints", reservation_id=made.id))
    fire(database, rich.loyalty_balance.id, POINTS)
    assert call("GetPointsReservation", id=made.id).state == loyalty_pb2.POINTS_RESERVATION_STATE_EXPIRED
    assert prove(database, call, rich)["available"] == 100


def test_what_was_given_back_can_be_set_aside_for_the_same_thing_again(
    call: Call, database: Database, rich: Any, hands: Hands
) -> None:
    late = call("ReservePoints", member_id=rich.id, points="60", reference="order 1")
    hands.ahead = timedelta(minutes=31)
    # Nobody has looked since: the timer will find nothing to do.
    again = call("ReservePoints", member_id=rich.id, points="70", reference="order 1")
    assert again.id != late.id
    assert call("GetPointsReservation", id=late.id).state == loyalty_pb2.POINTS_RESERVATION_STATE_EXPIRED
    assert prove(database, call, rich) == {"available": 30, "pending": 0, "reserved": 70, "owed": 0}
    call("ReleasePoints", reservation_id=again.id)
    last = call("ReservePoints", member_id=rich.id, points="100", reference="order 1")
    call("ConfirmPoints", reservation_id=last.id)
    # What was paid for stays so, also when it was refunded.
    for _ in range(2):
        assert call("ReservePoints", member_id=rich.id, points="100", reference="order 1").id == last.id
        call("RefundPoints", reservation_id=last.id) if not call("GetPointsReservation", id=last.id).refunded else None
    assert prove(database, call, rich)["available"] == 100


def test_what_was_spent_of_an_earning_that_is_taken_back_is_owed(
    admin: Caller, call: Call, database: Database, rich: Any
) -> None:
    call("ConfirmPoints", reservation_id=call("ReservePoints", member_id=rich.id, points="70").id)
    (entry,) = call("ReverseEarning", member_id=rich.id, event_id="first", note="returned").entry
    assert (entry.reason, entry.points, entry.note) == ("EARNING_REVERSED", "-30", "returned")
    assert prove(database, call, rich) == {"available": 0, "pending": 0, "reserved": 0, "owed": 70}
    refused("ALREADY_REVERSED", lambda: call("ReverseEarning", member_id=rich.id, event_id="first"))
    with pytest.raises(NotFound):
        call("ReverseEarning", member_id=rich.id, event_id="never")
    pays(admin, rich, "90")
    assert prove(database, call, rich) == {"available": 20, "pending": 0, "reserved": 0, "owed": 0}
    assert call("GetEarning", member_id=rich.id, event_id="first").HasField("reversed_at")


def test_corrections_are_entries_more_and_the_books_are_never_changed(
    call: Call, database: Database, place: ServiceDatabase, rich: Any
) -> None:
    taken = call("AdjustPoints", member_id=rich.id, points="-30", reason="CORRECTION", note="twice")
    given = call("AdjustPoints", member_id=rich.id, points="5", reason="GOODWILL")
    assert (taken.points, given.points, given.reason) == ("-30", "5", "GOODWILL")
    refused("INSUFFICIENT_POINTS", lambda: call("AdjustPoints", member_id=rich.id, points="-76", reason="CORRECTION"))
    assert prove(database, call, rich)["available"] == 75
    with psycopg.connect(place.owner_url, autocommit=True) as connection:
        connection.execute("SELECT set_config('svyaz.branches', '*', false)")
        for statement in (
            "UPDATE loyalty_posting SET amount = 1000 WHERE amount > 0",
            "DELETE FROM loyalty_posting",
            "UPDATE loyalty_entry SET reason = 'x'",
            "DELETE FROM loyalty_entry",
        ):
            with pytest.raises(psycopg.errors.RaiseException), connection.transaction():
                connection.execute(statement)
        with pytest.raises(psycopg.errors.RaiseException, match="not balanced"), connection.transaction():
            connection.execute(
                "INSERT INTO loyalty_posting (entry_id, line, branch, book, lot_id, amount)"
                " VALUES (%s, 9, 'bishkek', 'available', 'x', 1)",
                (taken.id,),
            )


def test_burns_at_a_time_never_spend_more_than_there_is_and_lose_nothing(
    admin: Caller, call: Call, database: Database, rich: Any
) -> None:
    """Eight at a time reserve, confirm and release while points are earned."""
    ready, spent, earned = threading.Barrier(8), [0] * 8, [0] * 8

    def work(number: int) -> None:
        ready.wait()
        for turn in range(5):
            try:
                points = 7 + number
                made = call("ReservePoints", member_id=rich.id, points=str(points))
                if (turn + number) % 3:
                    call("ConfirmPoints", reservation_id=made.id)
                    spent[number] += points
                else:
                    call("ReleasePoints", reservation_id=made.id)
            except FailedPrecondition as error:
                assert error.reason == "INSUFFICIENT_POINTS"  # noqa: PT017
            except Aborted:
                # Told to try again: nothing has happened.
                continue
            if turn == 2:
                pays(admin, rich, "9")
                earned[number] += 9

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    figures = prove(database, call, rich)
    assert figures["available"] + figures["reserved"] == 100 + sum(earned) - sum(spent)
    assert sum(spent) > 0


def test_whatever_happens_at_a_time_the_balance_is_the_sum_of_the_entries(
    admin: Caller, call: Call, database: Database
) -> None:
    """Eight at a time do anything to the two members that one customer is, and tell each event again and again."""
    program = a_program(admin)
    a_rule(admin, program, lot={"validity_days": 30})
    both = one, other = a_member(admin, program), a_member(admin, program)
    merged(database, other.customer.id, one.customer.id)
    for member in both:
        pays(admin, member, "60", f"e-{member.id}")
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        chance = random.Random(number)
        made: list[str] = []
        ready.wait()
        for _ in range(8):
            member = chance.choice(both)
            # Of few events, so that they meet.
            event = f"e{chance.randrange(6)}"
            whose, reserve = member.id, partial(call, "ReservePoints")
            something: list[Callable[[], Any]] = [
                partial(pays, admin, member, "20", f"{event}-{whose}"),
                partial(call, "ReverseEarning", customer_id=member.customer.id, event_id=f"{event}-{whose}"),
                partial(reserve, customer_id=one.customer.id, program_id=program, points="45"),
                partial(reserve, member_id=whose, points="15"),
                partial(call, "AdjustPoints", member_id=whose, points="-3", reason="CORRECTION"),
                partial(fire, database, member.loyalty_balance.id, POINTS),
            ]
            if made:
                ending = chance.choice(["ConfirmPoints", "ReleasePoints", "RefundPoints"])
                something += [partial(call, ending, reservation_id=chance.choice(made))] * 3
            # What is refused, or lost to another, has done nothing; what has broken is no DomainError.
            with suppress(FailedPrecondition, NotFound, Aborted):
                answer = chance.choice(something)()
                if isinstance(answer, loyalty_pb2.PointsReservation):
                    made.append(answer.id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for member in both:
        prove(database, call, member)
        earned = [entry.event_id for entry in call("ListLoyaltyEntries", member_id=member.id, limit=1000).entry
                  if entry.kind == loyalty_pb2.LOYALTY_ENTRY_KIND_EARN]  # fmt: skip
        assert len(earned) == len(set(earned)) > 1


# --- whose they are --------------------------------------------------------------------------------------------------


def test_over_merged_customers_balances_add_up_and_each_ledger_stays_its_own(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(admin)
    a_rule(admin, program)
    kept_one, absorbed, bare = a_member(admin, program), a_member(admin, program), a_customer(admin)
    pays(admin, kept_one, "10")
    pays(admin, absorbed, "32")
    links = [(absorbed.customer.id, kept_one.customer.id), (bare, kept_one.customer.id)]
    with acting("customers", "test", BRANCH), database.unit() as unit:
        for gone, survivor in links:
            unit.cursor().execute(
                "INSERT INTO merged_customer (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)"
                " VALUES (%s, 'bishkek', %s, %s, %s, now())",
                (gone, survivor, survivor, new_id()),
            )
    for asked in (kept_one.customer.id, absorbed.customer.id, bare):
        shown = call("GetCustomerLoyalty", customer_id=asked)
        assert (shown.customer_id, len(shown.merged_id)) == (kept_one.customer.id, 2)
        (sums,) = shown.program
        assert (sums.available, len(sums.member)) == ("42", 2)
    # What is told of an id counts for its own member, else for the survivor's.
    pays(admin, absorbed, "1")
    bare_member = loyalty_pb2.LoyaltyProgramMember(customer=values_pb2.EntityRef(id=bare))
    pays(admin, bare_member, "2")
    assert [int(kept(call, one)["available"]) for one in (kept_one, absorbed)] == [12, 33]
    refused("ALREADY_ENROLLED", lambda: a_member(admin, program, bare))


def test_what_an_event_has_earned_several_members_of_a_customer_is_taken_back_from_all(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(admin)
    a_rule(admin, program)
    both = one, other = a_member(admin, program), a_member(admin, program)
    for member in both:
        pays(admin, member, "7", "told of each")
    merged(database, other.customer.id, one.customer.id)
    call("ReverseEarning", member_id=one.id, event_id="told of each")
    (rest,) = call("ReverseEarning", customer_id=one.customer.id, event_id="told of each").entry
    assert (rest.member_id, rest.points) == (other.id, "-7")


def merged(database: Database, absorbed: str, survivor: str) -> None:
    with acting("customers", "test", BRANCH), database.unit() as unit:
        unit.cursor().execute(
            "INSERT INTO merged_customer (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)"
            " VALUES (%s, 'bishkek', %s, %s, %s, now())",
            (absorbed, survivor, survivor, new_id()),
        )


def test_a_merged_customer_spends_the_points_of_all_his_members_at_once(
    admin: Caller, call: Call, database: Database
) -> None:
    program = a_program(admin, point_value={"unit": "KGS", "units": 1})
    a_rule(admin, program)
    a_rule(admin, program, code="SOON", event_type="soon", lot={"validity_days": 3})
    both = one, other = a_member(admin, program), a_member(admin, program)
    pays(admin, one, "50")
    pays(admin, other, "30")
    told = admin(
        f"{LOYALTY}ReportLoyaltyEvent",
        event_id=new_id(), event_type="soon", customer_id=other.customer.id, facts=b'{"amount": 10}',
    )  # fmt: skip
    assert told.earning[0].points == "10"
    customer = {"customer_id": other.customer.id, "program_id": program}
    refused("INSUFFICIENT_POINTS", lambda: call("ReservePoints", points="70", **customer))
    merged(database, other.customer.id, one.customer.id)

    def there() -> list[Decimal]:
        return [prove(database, call, member)["available"] for member in both]

    first = call("ReservePoints", points="55", reference="order", **customer)
    assert call("ReservePoints", points="55", reference="order", **customer) == first
    refused("REFERENCE_TAKEN", lambda: call("ReservePoints", points="60", reference="order", **customer))
    # What expires first, whose ever it is; then what came first.
    assert there() == [5, 30]
    short = refused("INSUFFICIENT_POINTS", lambda: call("ReservePoints", points="36", **customer))
    assert short.metadata["available"] == "35"
    ours = requests_pb2.Filter(path="group_id", value=[first.group_id])
    parts = call("ListPointsReservations", filter=[ours]).items
    assert {part.member_id: part.points for part in parts} == {one.id: "45", other.id: "10"}
    assert sum(part.value.units for part in parts) == 55
    # The customers are parted: what they have set aside together they still spend together, each his own.
    with acting("customers", "test", BRANCH), database.unit() as unit:
        unit.cursor().execute("DELETE FROM merged_customer WHERE absorbed_id = %s", (other.customer.id,))
    for part in parts:
        call("ConfirmPoints", reservation_id=part.id)
    assert there() == [5, 30]
    call("RefundPoints", reservation_id=first.id, points="30")
    assert sum(there()) == 65
    refused("TOO_MUCH", lambda: call("RefundPoints", reservation_id=first.id, points="26"), InvalidArgument)
    call("RefundPoints", reservation_id=first.id)
    assert there() == [50, 40]
    refused("NOT_SPENT", lambda: call("RefundPoints", reservation_id=first.id))
    refused("REQUIRED", lambda: call("ReservePoints", points="1", customer_id=one.customer.id), InvalidArgument)
    with pytest.raises(NotFound):
        call("ReservePoints", points="1", customer_id=a_customer(admin), program_id=program)


def test_another_branch_sees_and_moves_nothing(caller_of: Callable[..., Caller], rich: Any) -> None:
    osh = caller_of("osh", role="admin")
    for method in ("ReservePoints", "ListLoyaltyEntries", "ListPointsLots", "IssueClubCard"):
        fields = {"points": "1"} if method == "ReservePoints" else {}
        with pytest.raises(NotFound):
            osh(f"{LOYALTY}{method}", member_id=rich.id, **fields)
    assert not osh(f"{LOYALTY}GetCustomerLoyalty", customer_id=rich.customer.id).program


def test_a_customer_reads_why_in_his_language(admin: Caller, call: Call) -> None:
    program = a_program(admin)
    a_rule(admin, program, name="Двойные баллы")
    member = a_member(admin, program)
    pays(admin, member, "10")
    call("AdjustPoints", member_id=member.id, points="5", reason="BIRTHDAY")
    made = call("ReservePoints", member_id=member.id, points="3")
    call("ReleasePoints", reservation_id=made.id)

    def read(language: str) -> list[str]:
        entries = call("ListLoyaltyEntries", member_id=member.id, language=language).entry
        return [entry.description for entry in reversed(entries)]

    assert read("ru-KG") == [
        "Начислены баллы: Двойные баллы",
        "Исправление сотрудником",
        "Баллы отложены для покупки",
        "Отложенные баллы возвращены",
    ]
    assert read("")[2] == "Points set aside for a purchase"
    refused("UNSUPPORTED_LANGUAGE", lambda: read("tlh"), InvalidArgument)


def test_a_page_of_entries_goes_on_where_the_last_ended(admin: Caller, call: Call, rich: Any) -> None:
    for _ in range(4):
        pays(admin, rich, "1")
    seen, before = [], 0
    while True:
        page = call("ListLoyaltyEntries", member_id=rich.id, limit=2, before=before)
        seen += [entry.sequence for entry in page.entry]
        before = page.next_before
        if not before:
            break
    assert seen == [5, 4, 3, 2, 1]
