"""What customers does when something happens elsewhere: it learns who is ordered for and charged, and so must stay."""

from collections.abc import Iterator

from chassis.cloudevents import ReceivedEvent
from chassis.unit import Unit
from customers.party import store
from customers.value.events import product_changed
from customers.view.heard import heard
from svyaz.orders.v1 import inventory_pb2, orders_pb2


def _targets(message: orders_pb2.ProductOrder | inventory_pb2.Product) -> Iterator[str]:
    yield message.billing_account.id
    yield from (party.id for party in message.related_party)


def orders_changed(event: ReceivedEvent, unit: Unit) -> None:
    """Remembers the parties and accounts that an order, an item of it or a product refers to, and who has what, and
    shows it in the view."""
    heard(event, unit)
    targets: Iterator[str]
    if event.aggregate_type == "ProductOrder":
        targets = _targets(event.message(orders_pb2.ProductOrder))
    elif event.aggregate_type == "Product":
        targets = _targets(event.message(inventory_pb2.Product))
        product_changed(event, unit)
    elif event.aggregate_type == "ProductOrderItem":
        targets = iter((event.message(orders_pb2.OrderedItem).item.billing_account.id,))
    else:
        return
    gone = event.type == f"{event.aggregate_type}DeleteEvent"
    store.refer(
        unit,
        event.aggregate_id,
        event.aggregate_type,
        event.branch,
        () if gone else targets,
        new=event.first,
    )
