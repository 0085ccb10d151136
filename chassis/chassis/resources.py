"""The standard methods (Get, List, Create, Update, Delete) of one kind of aggregate."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chassis import convert, queries
from chassis.config import MAX_PAGE_BYTES
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate, new_id
from chassis.unit import Unit
from svyaz.type.v1 import options_pb2, requests_pb2

A = TypeVar("A", bound=Aggregate)
M = TypeVar("M", bound=Message)


def _no_hook(unit: Unit, aggregate: Any) -> None:
    pass


Filters = Sequence[requests_pb2.Filter]
Conditions = list[sa.ColumnElement[bool]]


def _all_our_own(filters: Filters) -> tuple[Filters, Conditions]:
    return filters, []


def fitting(messages: Sequence[Message], most_bytes: int = MAX_PAGE_BYTES) -> int:
    """How many of the first messages make a page; one is enough, whatever its size."""
    size = 0
    for number, message in enumerate(messages):
        size += message.ByteSize()
        if number and size > most_bytes:
            return number
    return len(messages)


class Collection(Generic[A, M]):
    """All aggregates of one class, seen through a caller's eyes.

    `creating`, `changed` and `deleting` are where a service asks what an aggregate can't know by itself, inside the
    transaction; they refuse by raising. `replies` makes messages of a resource that is more than one aggregate;
    `elsewhere` takes those filters that are about its other aggregates, and answers the rest with conditions.
    """

    def __init__(
        self,
        database: Database,
        cls: type[A],
        message: type[M],
        *,
        creating: Callable[[Unit, A], None] = _no_hook,
        changed: Callable[[Unit, A], None] = _no_hook,
        deleting: Callable[[Unit, A], None] = _no_hook,
        replies: Callable[[Unit, Sequence[A]], Sequence[M]] | None = None,
        elsewhere: Callable[[Filters], tuple[Filters, Conditions]] = _all_our_own,
    ) -> None:
        self.database = database
        self.cls = cls
        self.message = message
        self._field = "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(cls.__name__))
        self._creating = creating
        self._changed = changed
        self._deleting = deleting
        self._elsewhere = elsewhere
        self._composed = replies is not None
        self._replies = replies or self._plain_replies
        self._required = [
            field.name for field in message.DESCRIPTOR.fields if field.GetOptions().Extensions[options_pb2.required]
        ]

    def _plain_replies(self, unit: Unit, aggregates: Sequence[A]) -> Sequence[M]:
        return [convert.to_message(aggregate, self.message) for aggregate in aggregates]

    def reply(self, unit: Unit, aggregate: A) -> M:
        """The message of one aggregate as it will be committed, its new version included."""
        if not unit.adds(aggregate):
            unit.flush()
        return self._replies(unit, [aggregate])[0]

    def get(self, request: requests_pb2.GetRequest) -> M:
        """The resource, as it is or as it was `at` an instant; raises NotFound."""
        if request.HasField("at"):
            past = self.database.history(self.cls, request.id, convert.from_timestamp(request.at))
            assert isinstance(past, self.message)
            return past
        if self._composed:
            with self.database.unit() as unit:
                return self.reply(unit, unit.get(self.cls, request.id))
        present = self.database.read(self.cls, request.id)
        assert isinstance(present, self.message)
        return present

    def list(self, request: requests_pb2.ListRequest, response: type[Any]) -> Any:
        """A page of what matches the filters, of 8 MB at most; raises InvalidArgument for a malformed filter, sort,
        offset or limit."""
        table = self.database.resources[self.cls].table
        own, where = self._elsewhere(request.filter)
        where = [*queries.conditions(table, self.message, own), *where]
        order = queries.order(table, self.message, request.sort)
        window = queries.window(request)
        with queries.naming(request.filter), self.database.unit() as unit:
            principal = unit.call.principal
            if not principal.every_branch and not self.database.resources[self.cls].common:
                # The policy decides; this only lets an index serve a branch that is small among large ones.
                where.append(table.c.branch.in_(principal.branches))
            page = queries.count(unit.session.execute, table, where)
            items = unit.session.scalars(
                sa.select(self.cls).where(*where).order_by(*order).offset(window.offset).limit(window.limit)
            ).all()
            messages = self._replies(unit, items)
        number = fitting(messages)
        page.truncated = number < len(messages)
        return response(items=messages[:number], page=page)

    def create(self, request: Any) -> M:
        """Saves a new resource with an id of ours. `request` has request_id, branch and the resource."""
        body = getattr(request, self._field)
        self.require(body, self._required)

        def work(unit: Unit) -> M:
            branch = self.database.branch_for_create(self.cls, request.branch)
            aggregate = convert.from_message(body, self.cls, id=new_id(), branch=branch)
            aggregate.check(unit.at)
            self._creating(unit, aggregate)
            unit.add(aggregate)
            return self.reply(unit, aggregate)

        return self.database.transact(request, self.message, work)

    def update(self, request: Any) -> M:
        """Changes what the update mask names, if the etag still fits. `request` has request_id, the resource, both."""
        body = getattr(request, self._field)
        paths = list(request.update_mask.paths)
        self.require(body, [path for path in paths if path in self._required])

        def work(unit: Unit) -> M:
            aggregate = unit.get(self.cls, body.id, request.etag)
            changes = convert.changes(body, paths, aggregate)
            if changes:
                aggregate.revise(changes, unit.at)
                self._changed(unit, aggregate)
            return self.reply(unit, aggregate)

        return self.database.transact(request, self.message, work)

    def delete(self, request: requests_pb2.DeleteRequest) -> Empty:
        """Deletes the resource, if the etag still fits and nothing needs it."""

        def work(unit: Unit) -> Empty:
            aggregate = unit.get(self.cls, request.id, request.etag)
            self._deleting(unit, aggregate)
            unit.delete(aggregate)
            return Empty()

        return self.database.transact(request, Empty, work)

    def require(self, body: Message, names: Sequence[str]) -> None:
        """Raises InvalidArgument REQUIRED naming those fields that are missing; the gateway checks the same earlier."""
        present = {field.name for field, _ in body.ListFields()}
        absent = [f"{self._field}.{name}" for name in names if name not in present]
        if absent:
            raise InvalidArgument(
                "REQUIRED", "required fields are missing", violations=[Violation(path, "required") for path in absent]
            )


class StandardMethods:
    """A servicer whose Get, List, Create, Update and Delete methods are those of its collections.

    Methods that its contract has and no collection serves are written out in the subclass.
    """

    def __init__(self, contract: Any, *collections: Collection[Any, Any]) -> None:
        by_name = {collection.cls.__name__: collection for collection in collections}
        for method in contract.methods:
            handler = self._standard(method, by_name)
            if handler is not None and not hasattr(self, method.name):
                setattr(self, method.name, handler)

    @staticmethod
    def _standard(method: Any, collections: dict[str, Collection[Any, Any]]) -> Callable[[Any, Any], Message] | None:
        for verb in ("Get", "Create", "Update", "Delete"):
            collection = collections.get(method.name.removeprefix(verb)) if method.name.startswith(verb) else None
            if collection is not None:
                serve: Callable[[Any], Message] = getattr(collection, verb.lower())
                return lambda request, context: serve(request)
        items = method.output_type.fields_by_name.get("items")
        if method.name.startswith("List") and items is not None and items.message_type.name in collections:
            listed = collections[items.message_type.name]
            response = GetMessageClass(method.output_type)
            return lambda request, context: listed.list(request, response)
        return None
