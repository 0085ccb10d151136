"""What happens elsewhere and moves a customer's value: products that begin and end, and the customer himself."""

from datetime import timedelta

from chassis.cloudevents import FIRST_EPOCH, ReceivedEvent
from chassis.convert import from_timestamp
from chassis.unit import Unit
from customers.party.domain import Referrer
from customers.value import store
from customers.value.features import HeldProduct
from customers.value.runs import revalue
from svyaz.orders.v1 import inventory_pb2

# An order moves its products several times in a few seconds, a household's orders more often still; his value after the
# last of these is what counts.
SETTLED = timedelta(minutes=1)
_RUNNING = frozenset(
    {
        inventory_pb2.PRODUCT_STATUS_ACTIVE,
        inventory_pb2.PRODUCT_STATUS_SUSPENDED,
        inventory_pb2.PRODUCT_STATUS_PENDING_TERMINATE,
    }
)


def product_changed(event: ReceivedEvent, unit: Unit) -> None:
    """Keeps since when and until when a customer has a product, and lets him be valued."""
    product = event.message(inventory_pb2.Product)
    customer_id = next(
        (party.id for party in product.related_party if "Customer" in (party.at_referred_type, party.role.title())), ""
    )
    if not customer_id:
        return
    epoch_began = event.epoch != FIRST_EPOCH
    if event.type == "ProductDeleteEvent":
        store.forget_product(unit, event.aggregate_id, event.version, epoch_began=epoch_began)
    else:
        held = _held(event, product)
        store.remember_product(unit, held, customer_id, event.branch, event.version, epoch_began=epoch_began)
        if event.type == "ProductCreateEvent" and held.started_at is None:
            # Ordered, not begun: worth nothing yet.
            return
    revalue(unit, customer_id, event.branch, within=SETTLED)


class CustomerWatcher:
    """Lets a customer be valued who isn't any more who he was."""

    def created(self, unit: Unit, aggregate: Referrer) -> None:
        """Nothing is known yet that he could be valued by."""

    def changed(self, unit: Unit, aggregate: Referrer) -> None:
        """In a while."""
        revalue(unit, aggregate.id, aggregate.branch, within=SETTLED)

    def deleted(self, unit: Unit, aggregate: Referrer) -> None:
        """What is known of his value goes with the customer's other rows."""


def _held(event: ReceivedEvent, product: inventory_pb2.Product) -> HeldProduct:
    started = from_timestamp(product.start_date) if product.HasField("start_date") else None
    ended = None
    if product.status == inventory_pb2.PRODUCT_STATUS_TERMINATED:
        ended = from_timestamp(product.termination_date) if product.HasField("termination_date") else event.time
    elif product.status in _RUNNING:
        started = started or event.time
    else:
        # Never begun, or given up before it had.
        started = None
    return HeldProduct(
        id=event.aggregate_id,
        started_at=started,
        ended_at=ended,
        suspended=product.status == inventory_pb2.PRODUCT_STATUS_SUSPENDED,
        offering_id=product.product_offering.id or None,
    )
