"""What orders does when something happens elsewhere: what customers has erased of a person goes here too."""

from chassis.cloudevents import ReceivedEvent
from chassis.erasures import carry_out
from chassis.unit import Unit
from orders.bulk import store as bulk
from orders.cart import store as carts
from orders.fulfilment import inbound
from orders.fulfilment import store as fulfilment
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.job import FulfilmentJob
from orders.fulfilment.refusal import RefusedFulfilmentReport
from orders.ordering import store
from orders.ordering.domain import CancelProductOrder, PriceReceipt
from orders.tracking.domain import PromisedDateChange
from orders.tracking.store import changes_of
from svyaz.customers.v1 import privacy_pb2


def person_erased(event: ReceivedEvent, unit: Unit) -> None:
    """Takes what is personal out of orders, products and carts; what they are, cost and have become stays, and so do
    charges, which hold ids only."""
    if event.aggregate_type != "Erasure":
        return
    erasure = event.message(privacy_pb2.Erasure)
    records = [(record.kind, record.id) for record in erasure.record]
    orders = [key for kind, key in records if kind == "ProductOrder"]
    records += [(CancelProductOrder.__name__, key) for key in store.cancellations_of(unit, orders)]
    records += [(PromisedDateChange.__name__, key) for key in changes_of(unit, orders)]
    records += [(PriceReceipt.__name__, key) for key in orders]
    tasks = fulfilment.ids_of(unit, orders)
    records += [(FulfilmentTask.__name__, key) for key in tasks]
    # What somebody said of a job may be of any of its tasks.
    records += [(FulfilmentJob.__name__, key) for key in fulfilment.jobs_about(unit, tasks)]
    records += [(RefusedFulfilmentReport.__name__, key) for key in fulfilment.refusals_about(unit, tasks)]
    records += [(inbound.REPORT, key) for key in inbound.parked_about(unit, tasks)]
    fulfilment.forget_reasons(unit, tasks)
    carry_out(unit, erasure.id, erasure.branch, records)
    carts.forget_receipts(unit, [key for kind, key in records if kind == "ShoppingCart"])
    bulk.erase(unit, list(erasure.subject_id))
