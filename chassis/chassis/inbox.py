"""The inbox: which version of each aggregate a handler has seen, kept in the handler's own transaction."""

import enum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from chassis.cloudevents import ReceivedEvent
from chassis.db import Database, Unit
from chassis.errors import Aborted
from chassis.events import bus_tables
from chassis.leases import Lease


class Verdict(enum.Enum):
    """What is to be done with an event."""

    # It is the next one, and from now on the last one seen.
    HANDLE = enum.auto()
    # It was handled before.
    SKIP = enum.auto()
    # An earlier version is missing.
    GAP = enum.auto()
    # Its key waits for a person.
    PARKED = enum.auto()


class Inbox:
    """The inbox of one handler; its rows outlive streams, positions and how partitions are split."""

    def __init__(self, database: Database, handler: str) -> None:
        self._handler = handler
        tables = bus_tables(database.metadata)
        self._table = tables.inbox
        lease, inbox, parked = tables.lease, tables.inbox, tables.parked_key
        self._look = sa.select(
            sa.select(lease.c.epoch).where(lease.c.name == sa.bindparam("lease")).scalar_subquery().label("epoch"),
            sa.select(inbox.c.last_version)
            .where(inbox.c.handler == handler, inbox.c.aggregate_id == sa.bindparam("aggregate"))
            .scalar_subquery()
            .label("last"),
            sa.exists().where(parked.c.consumer == handler, parked.c.key == sa.bindparam("key")).label("parked"),
        )
        insert = postgresql.insert(inbox).values(
            handler=handler, aggregate_id=sa.bindparam("aggregate"), last_version=sa.bindparam("version")
        )
        self._claim = insert.on_conflict_do_update(
            index_elements=[inbox.c.handler, inbox.c.aggregate_id],
            set_={"last_version": insert.excluded.last_version},
            # Nobody else has moved it since we looked.
            where=inbox.c.last_version == sa.bindparam("seen"),
        ).returning(inbox.c.last_version)

    def admit(
        self,
        event: ReceivedEvent,
        unit: Unit,
        *,
        lease: Lease | None = None,
        epoch: int = 0,
        beginning_known: bool = True,
        gaps: bool = False,
    ) -> Verdict:
        """Decides about the event; HANDLE is noted in the unit's transaction, so that it is once in effect.

        `beginning_known`: whether the stream still has the first version of everything; otherwise an aggregate may be
        first seen at any version. `gaps`: whether a missing version is accepted anyhow, and the key may be parked.
        With a lease, raises Aborted LEASE_LOST when it has gone to another holder since `epoch`.
        """
        found = unit.session.execute(
            self._look, {"lease": lease.name if lease else "", "aggregate": event.aggregate_id, "key": event.key}
        ).one()
        if lease is not None and found.epoch != epoch:
            raise Aborted("LEASE_LOST", f"the lease {lease.name} has gone to another holder")
        if found.last is not None and event.version <= found.last:
            return Verdict.SKIP
        if not gaps:
            if found.parked:
                return Verdict.PARKED
            expected = 1 if found.last is None else found.last + 1
            if event.version != expected and (found.last is not None or beginning_known):
                return Verdict.GAP
        claimed = unit.session.execute(
            self._claim,
            {"aggregate": event.aggregate_id, "version": event.version, "seen": found.last},
        ).first()
        if claimed is None:
            raise Aborted("HANDLED_ELSEWHERE", "somebody else handles the same event")
        return Verdict.HANDLE
