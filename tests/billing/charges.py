"""Charges and chains for the billing tests."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from chassis.types import Money
from orders.billing.domain import SOURCE, ChargeEvent, ChargeType, Head, Sealed, Unsealed, seal
from svyaz_cli.billing_chain import Event

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def charge(account: str, number: int = 0, *, branch: str = "bishkek", at: datetime = AT) -> ChargeEvent:
    """A monthly charge of the account."""
    return ChargeEvent(
        type=ChargeType.RECURRING_CHARGE_START,
        account=account,
        branch=branch,
        occurred_at=at,
        product_id=f"product-{number}",
        order_id=f"order-{number}",
        order_item_id="1",
        customer_id="customer-1",
        product_offering_id="offering-1",
        product_offering_price_id="price-1",
        amount=Money(unit="KGS", value=Decimal("499.00")),
        tax_rate=Decimal("12"),
        tax_included_amount=Money(unit="KGS", value=Decimal("558.88")),
        recurring_charge_period="month",
        receipt_digest="0" * 64,
    )


def event_of(sealed: Sealed, draft: ChargeEvent) -> Event:
    """A sealed charge as a consumer gets it."""
    return Event(
        id=draft.id,
        type=draft.type.value,
        source=SOURCE,
        account=sealed.account,
        epoch=sealed.epoch,
        sequence=sealed.sequence,
        previous_hash=sealed.previous_hash,
        hash=sealed.hash,
        data=sealed.data,
    )


def chain(account: str, count: int, *, epoch: int = 1, head: Head | None = None) -> list[Event]:
    """The next `count` events of an account's chain in an epoch, after `head`."""
    events = []
    for number in range(count):
        draft = charge(account, number)
        sealed = seal(Unsealed(number, account, draft.branch, draft.draft()), epoch=epoch, head=head)
        head = Head(epoch, sealed.sequence, sealed.hash)
        events.append(event_of(sealed, draft))
    return events


def head_of(events: Sequence[Event]) -> Head:
    """Where a chain ends."""
    return Head(events[-1].epoch, events[-1].sequence, events[-1].hash)


def corrupted(event: Event, chance: random.Random) -> Event:
    """The event with one byte of its data, one digit of its hash, or a part of its envelope changed."""
    match chance.randrange(5):
        case 0:
            place = chance.randrange(len(event.data))
            changed = bytes([event.data[place] ^ (1 << chance.randrange(8))])
            return replace(event, data=event.data[:place] + changed + event.data[place + 1 :])
        case 1:
            return replace(event, hash=hashlib.sha256(event.hash.encode()).hexdigest())
        case 2:
            return replace(event, previous_hash=hashlib.sha256(event.previous_hash.encode()).hexdigest())
        case 3:
            return replace(event, sequence=event.sequence + chance.randint(1, 3))
        case _:
            return replace(event, id=f"{event.id}x")
