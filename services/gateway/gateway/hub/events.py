"""From an event of a service to the deliveries that it causes: the whole resource in TM Forum's JSON, once for each
subscription that wants it, written in the transaction in which the event is handled."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.clients import call
from chassis.cloudevents import ReceivedEvent
from chassis.erasures import carry_out, erased
from chassis.errors import NotFound
from chassis.personal import holds_personal, redact
from chassis.scalars import encode_json, instant_out
from chassis.tmfjson import descriptor_of
from chassis.types import COMMON
from chassis.unit import Unit
from gateway.hub import store
from gateway.hub.matching import DIALECT, wanted
from gateway.resources import RESOURCES, Resource
from svyaz.customers.v1 import privacy_pb2
from svyaz.orders.v1 import orders_pb2, orders_pb2_grpc
from svyaz.type.v1 import requests_pb2

# Of a document whose person was erased.
_KEPT = ("id", "href", "state", "status", "@type", "@baseType")
# The streams whose events are told; each service's own.
SOURCES = ("catalog", "customers", "orders")

_BY_MESSAGE: Mapping[str, Resource] = {
    descriptor_of(resource.message_class).full_name: resource for resource in RESOURCES
}
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Deliveries:
    """Handles the events of the services. `wake` is called when something is to be delivered."""

    def __init__(self, orders: orders_pb2_grpc.OrderServiceStub, wake: Callable[[], None]) -> None:
        self._orders = orders
        self._wake = wake

    def __call__(self, event: ReceivedEvent, unit: Unit) -> None:
        """Puts the event into the lanes of the subscriptions that want it."""
        if event.aggregate_type == "Erasure":
            _erase(event.message(privacy_pb2.Erasure), unit)
        # Parts of a resource that change by themselves (an order's items) are nobody's resource.
        resource = _BY_MESSAGE.get(event.data_type)
        if resource is None:
            return
        branch = None if event.branch == COMMON else event.branch
        wishes = [
            (wish, found)
            for wish in store.wishes(unit, resource.api, branch)
            if (found := wanted(resource, wish.query)).type_matches(event.type)
        ]
        if not wishes:
            return
        message = self._whole(event)
        if holds_personal(message.DESCRIPTOR) and erased(unit, event.aggregate_type, event.aggregate_id):
            # It was on its way while its person was erased.
            redact(message)
        document = DIALECT.resource(message, f"{resource.path(DIALECT.version)}/{event.aggregate_id}")
        # As a receiver would read it: numbers and extensions are text until they are encoded.
        readable = json.loads(encode_json(document), parse_int=Decimal, parse_float=Decimal)
        parcels = [
            store.Parcel(
                subscription_id=wish.id,
                branch=wish.branch,
                key=event.key,
                event_id=event.id,
                event_time=event.time,
                body=encode_json(_envelope(event, resource, found.part(document))),
            )
            for wish, found in wishes
            if found.matches(readable)
        ]
        if parcels:
            store.send(unit, parcels)
            unit.after_commit(self._wake)

    def _whole(self, event: ReceivedEvent) -> Message:
        message = event.entity()
        if isinstance(message, orders_pb2.ProductOrder):
            message.product_order_item.extend(self._items(event))
        return message

    def _items(self, event: ReceivedEvent) -> list[orders_pb2.ProductOrderItem]:
        """The items of the order as they were at the event: they are aggregates with events of their own."""
        # A deleted order is shown as it last was.
        gone = event.type == f"{event.aggregate_type}DeleteEvent"
        at = _timestamp(event.time - timedelta(microseconds=1) if gone else event.time)
        try:
            order = call(self._orders.GetProductOrder, requests_pb2.GetRequest(id=event.aggregate_id, at=at))
        except NotFound:
            # The log doesn't reach back so far: the order itself is still told.
            return []
        return list(order.product_order_item)


def _erase(erasure: privacy_pb2.Erasure, unit: Unit) -> None:
    """Nothing that waits tells more of what was erased than that it is there, and what happened to it."""
    records = [(record.kind, record.id) for record in erasure.record]
    carry_out(unit, erasure.id, erasure.branch, records)
    ids = {key for _, key in records}
    # What is of a customer may wait in the customer's lane.
    for position, body in store.waiting_for(unit, [*ids, *erasure.subject_id]):
        envelope = json.loads(body, parse_float=Decimal)
        of_erased = False
        # Under whichever name the API has it, some of them twice.
        for content in (envelope[name] for name in _CONTENTS if name in envelope):
            for name, document in content.items():
                if document.get("id") in ids:
                    content[name] = {key: document[key] for key in _KEPT if key in document}
                    of_erased = True
        if of_erased:
            store.say_less(unit, position, encode_json(envelope))


# What TMF666 v4 calls the event's content; all other files, its own v5 too, call it `event`.
_OTHERWISE: Mapping[str, tuple[str, ...]] = {"accountManagement": ("payload",)}
_CONTENTS = ("event", *chain.from_iterable(_OTHERWISE.values()))


def _envelope(event: ReceivedEvent, resource: Resource, document: dict[str, Any]) -> dict[str, Any]:
    """TM Forum's event, v4; `timeOcurred` is its spelling."""
    trace = _TRACE.match(event.headers.get("traceparent", ""))
    time = instant_out(_timestamp(event.time))
    return {
        "eventId": event.id,
        "eventTime": time,
        "eventType": event.type,
        # What was caused by one request has one id.
        "correlationId": trace[1] if trace else event.id,
        "domain": resource.api,
        "title": event.type,
        "description": f"{_WORDS.sub(' ', event.type.removesuffix('Event'))}: {resource.name} {event.aggregate_id}",
        "priority": "1",
        "timeOcurred": time,
        **{name: {resource.name: document} for name in ("event", *_OTHERWISE.get(resource.api, ()))},
    }


def _timestamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made
