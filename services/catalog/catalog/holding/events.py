"""What the catalog does when something happens in the inventory: it learns what is held."""

from catalog.holding import store
from catalog.holding.heard import ITEM, PRODUCT, count, holding_of
from chassis.cloudevents import FIRST_EPOCH, ReceivedEvent
from chassis.unit import Unit
from svyaz.orders.v1 import inventory_pb2, orders_pb2


def orders_changed(event: ReceivedEvent, unit: Unit) -> None:
    """Keeps what a product is now, and how many the item that orders or changes it says that it is."""
    epoch_began = event.epoch != FIRST_EPOCH
    if event.aggregate_type == PRODUCT:
        product = event.message(inventory_pb2.Product)
        if event.type == "ProductDeleteEvent":
            store.forget(unit, event.aggregate_id, event.version, epoch_began=epoch_began)
        else:
            held = holding_of(product, event.aggregate_id, event.branch, event.version)
            store.remember(unit, held, epoch_began=epoch_began)
    elif event.aggregate_type == ITEM:
        count(unit, event.message(orders_pb2.OrderedItem), event.branch, event.time)
