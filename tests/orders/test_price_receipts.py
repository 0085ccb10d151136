"""Why an order costs what it costs: kept beside it, and told in the log."""

import hashlib
from typing import Any

import sqlalchemy as sa

from chassis.events import acting
from chassis.types import new_id
from chassis.unit import MAX_EVENT_BYTES
from orders.ordering.domain import PriceReceipt
from orders.schema import log
from svyaz.catalog.v1 import pricing_pb2
from svyaz.orders.v1 import orders_pb2
from svyaz.type.v1 import receipt_pb2
from tests.orders.conftest import ORDER, Shop, item


def told(shop: Shop, order_id: str) -> list[tuple[str, orders_pb2.PriceReceipt]]:
    """The events of an order's receipt: what happened, and the receipt."""
    event = log.event
    with acting("orders", "test"), shop.database.unit() as unit:
        rows = unit.session.execute(
            sa.select(event.c.type, event.c.data)
            .where(event.c.aggregate_id == order_id, event.c.aggregate_type == "PriceReceipt")
            .order_by(event.c.version)
        ).all()
    return [(row.type, orders_pb2.PriceReceipt.FromString(row.data)) for row in rows]


def replayed(shop: Shop, receipt: receipt_pb2.Receipt) -> Any:
    return shop.world.manager.call("ReplayPrice", pricing_pb2.ReplayPriceRequest(receipt=receipt)).receipt


def test_the_log_tells_why_an_order_costs_what_it_costs(shop: Shop) -> None:
    customer, account = shop.customer()
    order = shop.order(customer, account, item("1", "ADD", shop.offering(shop.price(500))))
    ((kind, receipt),) = told(shop, order.id)
    assert kind == "PriceReceiptCreateEvent"
    assert receipt.receipt == shop.agent(ORDER + "GetProductOrderReceipt", id=order.id)
    assert replayed(shop, receipt.receipt) == receipt.receipt
    shop.work()
    (charge,) = shop.charges(account)
    assert charge["receiptDigest"] == receipt.digest
    assert receipt.digest == hashlib.sha256(receipt.receipt.SerializeToString()).hexdigest()


def test_what_is_priced_anew_is_told_anew_and_goes_with_its_order(shop: Shop) -> None:
    (customer, account), (other, other_account) = shop.customer(), shop.customer()
    offering = shop.offering(shop.price(500))
    order = shop.order(customer, account, item("1", "ADD", offering))
    shop.change(order.id, related_party=[{"id": other, "role": "customer"}], billing_account={"id": other_account})
    assert [kind for kind, _ in told(shop, order.id)] == [
        "PriceReceiptCreateEvent",
        "PriceReceiptAttributeValueChangeEvent",
    ]
    before, after = (receipt for _, receipt in told(shop, order.id))
    assert before.digest != after.digest
    assert after.receipt == shop.agent(ORDER + "GetProductOrderReceipt", id=order.id)
    shop.agent(ORDER + "DeleteProductOrder", id=order.id)
    assert told(shop, order.id)[-1][0] == "PriceReceiptDeleteEvent"


def test_a_receipt_too_large_for_an_event_is_told_by_its_digest(shop: Shop) -> None:
    steps = [receipt_pb2.ReceiptStep(subject="1", action="PRICE_FOUND", reason="x" * 1024)] * (MAX_EVENT_BYTES // 1024)
    large = receipt_pb2.Receipt(engine="pricing", step=steps).SerializeToString()
    kept = PriceReceipt(id=new_id(), branch="bishkek", digest=hashlib.sha256(large).hexdigest(), receipt=large)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        unit.add(kept)
    ((_, receipt),) = told(shop, kept.id)
    assert (receipt.digest, receipt.HasField("receipt")) == (kept.digest, False)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        assert unit.get(PriceReceipt, kept.id).receipt == large
