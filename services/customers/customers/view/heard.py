"""What an event tells of a customer."""

from chassis.cloudevents import FIRST_EPOCH, ReceivedEvent
from chassis.convert import from_timestamp
from chassis.unit import Unit
from customers.view import store
from customers.view.sections import SECTIONS
from customers.view.store import Version
from svyaz.operations.v1 import operations_pb2


def heard(event: ReceivedEvent, unit: Unit) -> None:
    """Keeps what the event says of its entity from now on."""
    section = SECTIONS.get(event.aggregate_type)
    if section is None:
        return
    message = event.message(section.message)
    found = Version(
        kind=event.aggregate_type,
        item_id=event.aggregate_id,
        version=event.version,
        branch=event.branch,
        recorded_at=event.time,
        since=section.since(message),
        open=section.open(message),
        deleted=event.type == f"{event.aggregate_type}DeleteEvent",
        subjects=[*section.subjects(message), *section.shown_to(message)],
        refers=list(section.refers(message)),
        data=event.data,
    )
    store.keep(unit, found, epoch_began=event.epoch != FIRST_EPOCH)


def heard_again(event: operations_pb2.Event, unit: Unit) -> ReceivedEvent:
    """The same for an event as its service's log lists it; the event as it would have come.

    Raises ValueError when it carries another message than it says.
    """
    received = ReceivedEvent(
        id=event.id,
        source="",
        type=event.type,
        time=from_timestamp(event.time),
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        branch=event.branch,
        key=event.aggregate_id,
        actor=event.actor,
        on_behalf_of=event.on_behalf_of or None,
        schema_revision=event.schema_revision,
        data_type=event.data_type,
        data=event.data,
        subject="",
        headers={},
    )
    heard(received, unit)
    return received
