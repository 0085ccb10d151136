"""The standard methods of what may have been merged, and of what belongs to it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message

from chassis import convert
from chassis.aliases import EQUALS, AliasedCollection, asking
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import rely
from chassis.resources import Collection, Conditions, Filters
from chassis.types import Aggregate
from chassis.unit import Unit
from customers.identity import store
from customers.identity.store import CUSTOMERS, PARTIES, Links
from customers.party.domain import Customer
from customers.schema import metadata
from svyaz.type.v1 import requests_pb2

A = TypeVar("A", bound=Aggregate)
M = TypeVar("M", bound=Message)

Hook = Callable[[Unit, Any], None]

MERGED = "MERGED"
# A filter by this shows those who have been merged; without one a list is of those who go by their own id.
MERGED_INTO = "merged_into"


class MergedCollection(Collection[A, M]):
    """Customers, individuals or organizations: an id that was merged is answered with the survivor, is listed on
    request only, and is neither changed nor deleted."""

    def __init__(
        self, database: Database, cls: type[A], message: type[M], *, creating: Hook, changed: Hook, deleting: Hook
    ) -> None:
        self._links = CUSTOMERS if cls is Customer else PARTIES
        self._merged = metadata.tables[self._links.table]

        def change(unit: Unit, aggregate: A) -> None:
            _refuse_merged(unit, self._links, aggregate)
            changed(unit, aggregate)

        def delete(unit: Unit, aggregate: A) -> None:
            _refuse_merged(unit, self._links, aggregate)
            deleting(unit, aggregate)

        super().__init__(
            database, cls, message, creating=creating, changed=change, deleting=delete, elsewhere=self._unmerged
        )

    def get(self, request: requests_pb2.GetRequest) -> M:
        """The record that the id stands for, now or `at` an instant; `merged_from` says when it is another's."""
        asked = request.id
        if request.HasField("at"):
            with self.database.unit() as unit:
                current = store.survivor_at(unit, self._links, asked, convert.from_timestamp(request.at))
            request = requests_pb2.GetRequest(id=current, at=request.at)
        found: Any = super().get(request)
        if found.id != asked:
            found.merged_from = asked
        return found  # type: ignore[no-any-return]

    def list(self, request: requests_pb2.ListRequest, response: type[Any]) -> Any:
        """A page of survivors; a filter by `id` finds them by any of their ids, unless `merged_into` asks for those who
        were merged."""
        if any(one.path == MERGED_INTO for one in request.filter):
            page = super().list(request, response)
            with self.database.unit() as unit:
                into = store.into(unit, self._links, [item.id for item in page.items])
            for item in page.items:
                item.merged_into = into.get(item.id, "")
            return page
        if any(one.path == "id" and one.operator in EQUALS for one in request.filter):
            request = asking(request, ("id",), self._survivors)
        return super().list(request, response)

    def _survivors(self, ids: Sequence[str]) -> Sequence[str]:
        with self.database.unit() as unit:
            return store.survivors(unit, self._links, ids)

    def _unmerged(self, filters: Filters) -> tuple[Filters, Conditions]:
        links, own = self._merged.c, self.database.resources[self.cls].table.c.id
        asked = [one for one in filters if one.path == MERGED_INTO]
        if not asked:
            return filters, [~sa.exists(sa.select(links.absorbed_id).where(links.absorbed_id == own))]
        conditions: Conditions = [
            sa.exists(sa.select(links.absorbed_id).where(links.absorbed_id == own, _among(links.survivor_id, one)))
            for one in asked
        ]
        return [one for one in filters if one.path != MERGED_INTO], conditions


def _among(column: sa.ColumnElement[str], condition: requests_pb2.Filter) -> sa.ColumnElement[bool]:
    if condition.operator in EQUALS:
        return column.in_(condition.value)
    if condition.operator == requests_pb2.Filter.OPERATOR_NE:
        return column.not_in(condition.value)
    why = "it is one of these ids, or none of them"
    raise InvalidArgument("INVALID_FILTER", f"{condition.path}: {why}", violations=[Violation(condition.path, why)])


def _refuse_merged(unit: Unit, links: Links, aggregate: Aggregate) -> None:
    """Raises FailedPrecondition MERGED naming the survivor. Nobody merges it before the end of the transaction."""
    rows = rely(unit, f"SELECT survivor_id FROM {links.table} WHERE absorbed_id = %(id)s", {"id": aggregate.id})  # noqa: S608
    if rows:
        survivor = str(rows[0][0])
        raise FailedPrecondition(
            MERGED,
            f"{type(aggregate).__name__} {aggregate.id} has been merged into {survivor}: change that one",
            metadata={"survivor": survivor},
        )


class MembersCollection(AliasedCollection[A, M]):
    """What belongs to customers or parties: whoever asks for what is one's is shown what is under any of his ids."""

    def __init__(
        self,
        database: Database,
        cls: type[A],
        message: type[M],
        *,
        by: Sequence[str] = ("related_party.id",),
        **hooks: Any,
    ) -> None:
        super().__init__(database, cls, message, aliases=store.every_member, by=by, **hooks)
