"""What the view can be asked: all of a customer at once, now or at any instant."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from chassis import calls
from chassis.cloudevents import ReceivedEvent
from chassis.convert import from_timestamp, to_timestamp
from chassis.db import Database
from chassis.errors import InvalidArgument, PermissionDenied, Violation
from chassis.reading import Note
from chassis.unit import Unit, missing
from customers.party.domain import Customer
from customers.view import store
from customers.view.heard import heard_again
from customers.view.sections import BY_NAME, REFERRING, SECTIONS, section_of, varint
from customers.view.store import CUSTOMER, Item, Kinds
from svyaz.customers.v1 import view_pb2, view_pb2_grpc

# One more than is shown tells that there is more.
_KINDS = Kinds(SECTIONS, REFERRING, max(section.most for section in BY_NAME.values()) + 1)


# What else is done with an event that is heard once more.
Afterwards = Callable[[ReceivedEvent, Unit], None]


def _nothing_more(event: ReceivedEvent, unit: Unit) -> None:
    pass


class Customers360(view_pb2_grpc.CustomerViewServiceServicer):
    """All that is known about a customer."""

    def __init__(self, database: Database, *, afterwards: Afterwards = _nothing_more, note: Note | None = None) -> None:
        self._database = database
        self._note = note
        self._afterwards = afterwards

    def GetCustomer360(self, request: view_pb2.GetCustomer360Request, context: Any) -> view_pb2.Customer360:
        """What is known now, or what was at the instant. Raises NotFound, InvalidArgument AT_IN_FUTURE."""
        now = self._database.clock.now()
        if request.HasField("at"):
            return self._then(request, now)
        found = store.latest(self._database, request.customer_id, _KINDS, self._note)
        if not any(item.kind == CUSTOMER for item in found):
            # So new that its event isn't heard of yet.
            profile = self._database.read(Customer, request.customer_id).SerializeToString()
            found.append(Item(CUSTOMER, request.customer_id, False, now, profile, own=True))
        return _view(request.customer_id, now, found)

    def _then(self, request: view_pb2.GetCustomer360Request, now: datetime) -> view_pb2.Customer360:
        at = from_timestamp(request.at)
        if at > now:
            raise InvalidArgument(
                "AT_IN_FUTURE", "nobody knows yet what will be", violations=[Violation("at", "in the future")]
            )
        with self._database.unit() as unit:
            found = store.then(unit, request.customer_id, _KINDS, at, as_known_then=request.as_known_then)
        if not any(item.kind == CUSTOMER for item in found):
            raise missing(Customer, request.customer_id)
        return _view(request.customer_id, at, found)

    def RebuildCustomer360(
        self, request: view_pb2.RebuildCustomer360Request, context: Any
    ) -> view_pb2.RebuildCustomer360Response:
        """Hears the events once more. Raises PermissionDenied for who may not act in every branch."""
        if not calls.current().principal.every_branch:
            raise PermissionDenied("BRANCH_FORBIDDEN", "the view is rebuilt for all branches together")
        with self._database.unit() as unit:
            for event in request.event:
                self._afterwards(heard_again(event, unit), unit)
            unit.flush()
            forgotten = 0
            if request.HasField("forget_unseen_since"):
                forgotten = store.forget_unseen(unit, from_timestamp(request.forget_unseen_since))
            return view_pb2.RebuildCustomer360Response(began_at=to_timestamp(store.began(unit)), forgotten=forgotten)


def _view(id: str, at: datetime, found: Iterable[Item]) -> view_pb2.Customer360:
    """The items are messages in their encoding already: what is between them is written, and they aren't read."""
    sections: defaultdict[str, list[Item]] = defaultdict(list)
    for item in found:
        sections[section_of(item.kind, own=item.own).name].append(item)
    parts: list[bytes] = []
    more = []
    for name, items in sections.items():
        section = BY_NAME[name]
        shown = _first(items, section.most)
        if len(shown) < len(items):
            more.append(name)
        for item in shown:
            parts += (section.tag, varint(len(item.data)), item.data)
    view = view_pb2.Customer360.FromString(b"".join(parts))
    view.id = id
    view.at.CopyFrom(to_timestamp(at))
    view.more.extend(sorted(more))
    return view


def _first(items: Collection[Item], most: int) -> Sequence[Item]:
    return sorted(items, key=lambda item: (item.open, item.since, item.id), reverse=True)[:most]
