"""What billing's stream tells that points may be earned for: a charge is made, a recurring one begins.

The stream BILLING is the sound source: orders tell prices, billing's chain tells each charge once. An account's charges
are numbered without a gap, so the inbox counts by these numbers; and a charge's own id is in the event's, so that it
earns once even if somebody reports it, too. What recurs is charged by billing, period by period: it reports that.
"""

from datetime import datetime
from decimal import Decimal

import msgspec

from chassis.cloudevents import ReceivedEvent
from chassis.unit import Unit
from customers.loyalty.books import Books
from customers.loyalty.earning import happened
from customers.loyalty.values import CHARGE_CREATED, CHARGE_STARTED

_KINDS = {"ChargeCreateEvent": CHARGE_CREATED, "RecurringChargeStartEvent": CHARGE_STARTED}


class _Money(msgspec.Struct):
    unit: str
    # A decimal as text: exact.
    value: str


class _Charge(msgspec.Struct, rename="camel"):
    """What we read of a charge; its other members are billing's."""

    id: str
    account: str
    amount: _Money
    occurred_at: datetime
    customer_id: str = ""
    tax_included_amount: _Money | None = None
    recurring_charge_period: str = ""
    product_id: str = ""
    product_order_id: str = ""
    product_offering_id: str = ""
    product_offering_price_id: str = ""


_CHARGE = msgspec.json.Decoder(_Charge)


class Charges:
    """Counts charges for the members whose they are."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def charged(self, event: ReceivedEvent, unit: Unit) -> None:
        """Counts one event of a chain; raises ValueError for what isn't a charge."""
        kind = _KINDS.get(event.type)
        if kind is None:
            return
        charge = _CHARGE.decode(event.data)
        if not charge.customer_id:
            return
        paid = charge.tax_included_amount or charge.amount
        facts = {
            "amount": Decimal(paid.value),
            "duty_free_amount": Decimal(charge.amount.value),
            "currency": paid.unit,
            "account": charge.account,
            "order_id": charge.product_order_id,
            "product_id": charge.product_id,
            "offering_id": charge.product_offering_id,
            "price_id": charge.product_offering_price_id,
            "period": charge.recurring_charge_period,
        }
        self._books.heard(unit, charge.customer_id, happened(charge.occurred_at, kind, f"charge/{charge.id}", facts))
