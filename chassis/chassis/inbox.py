"""The inbox: which version of each aggregate a handler has seen, kept in the handler's own transaction.

A version counts within an epoch of its log: in a later one, which begins after a restore from a backup, any version is
the next of its aggregate, even one that an event had which was lost.
"""

import enum
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from chassis.cloudevents import ReceivedEvent
from chassis.db import Database
from chassis.errors import Unavailable
from chassis.events import bus_tables
from chassis.unit import Unit


class Verdict(enum.Enum):
    """What is to be done with an event."""

    # It is the next one, and from now on the last one seen.
    HANDLE = enum.auto()
    # It was handled before.
    SKIP = enum.auto()
    # An earlier version is missing, of this aggregate or of another of its key.
    GAP = enum.auto()
    # Its key waits for a person.
    PARKED = enum.auto()


@dataclass(frozen=True, slots=True)
class Reader:
    """On whose behalf events are read: the holder of a lease since `epoch`."""

    lease: str
    epoch: int
    # Whether the stream still has the first version of everything; otherwise an aggregate may be first seen at any.
    beginning_known: bool = True


_LOOK = """
    SELECT
        (SELECT epoch FROM lease WHERE name = %(lease)s),
        ARRAY(
            SELECT aggregate_id FROM inbox
            WHERE handler = %(handler)s AND aggregate_id = ANY (%(aggregates)s::text[]) ORDER BY aggregate_id
        ),
        ARRAY(
            SELECT epoch FROM inbox
            WHERE handler = %(handler)s AND aggregate_id = ANY (%(aggregates)s::text[]) ORDER BY aggregate_id
        ),
        ARRAY(
            SELECT last_version FROM inbox
            WHERE handler = %(handler)s AND aggregate_id = ANY (%(aggregates)s::text[]) ORDER BY aggregate_id
        ),
        ARRAY(SELECT key FROM parked_key WHERE consumer = %(handler)s AND key = ANY (%(keys)s::text[]))
"""
_FIRST = """
    INSERT INTO inbox (handler, aggregate_id, epoch, last_version)
    SELECT %(handler)s, * FROM unnest(%(aggregates)s::text[], %(epochs)s::int[], %(versions)s::bigint[])
    ON CONFLICT DO NOTHING RETURNING 1
"""
# Nobody else has moved it since we looked.
_NEXT = """
    UPDATE inbox SET epoch = claimed.epoch, last_version = claimed.version
    FROM unnest(
        %(aggregates)s::text[], %(epochs)s::int[], %(versions)s::bigint[], %(seen_epochs)s::int[], %(seen)s::bigint[]
    ) AS claimed (aggregate_id, epoch, version, seen_epoch, seen)
    WHERE handler = %(handler)s AND inbox.aggregate_id = claimed.aggregate_id
        AND inbox.epoch = claimed.seen_epoch AND last_version = claimed.seen
    RETURNING 1
"""

# Epoch and version.
_Place = tuple[int, int]


class Inbox:
    """The inbox of one handler; its rows outlive streams, positions and how partitions are split."""

    def __init__(self, database: Database, handler: str) -> None:
        self._handler = handler
        bus_tables(database.metadata)

    def admit(
        self, events: Sequence[ReceivedEvent], unit: Unit, reader: Reader | None = None, *, gaps: bool = False
    ) -> list[Verdict]:
        """Decides about each event; HANDLE is noted in the unit's transaction, so that it is once in effect.

        Behind a GAP everything of its key is a GAP. `gaps`: whether a missing version is accepted anyhow, and the key
        may be parked. What is noted is written with what the unit writes next: when somebody else has handled the same
        events meanwhile, that is a conflict, or whatever the handler makes of finding its work done. Raises Unavailable
        LEASE_LOST when the reader's lease has gone to another holder.
        """
        seen, parked = self._look(unit, events, reader)
        verdicts, last = self._judge(events, seen, parked, reader, gaps=gaps)
        self._claim(unit, seen, last)
        return verdicts

    def is_handled(self, event: ReceivedEvent, unit: Unit, reader: Reader) -> bool:
        """Whether somebody has handled the event already. Raises Unavailable LEASE_LOST as `admit` does."""
        seen, parked = self._look(unit, [event], reader)
        return self._judge([event], seen, parked, reader, gaps=False)[0] == [Verdict.SKIP]

    @staticmethod
    def _judge(
        events: Sequence[ReceivedEvent],
        seen: Mapping[str, _Place],
        parked: Container[str],
        reader: Reader | None,
        *,
        gaps: bool,
    ) -> tuple[list[Verdict], dict[str, _Place]]:
        """The verdicts, and the places in which they leave the aggregates."""
        last = dict(seen)
        beginning_known = reader is None or reader.beginning_known
        verdicts: list[Verdict] = []
        behind_gap: set[str] = set()
        for event in events:
            before, place = last.get(event.aggregate_id), (event.epoch, event.version)
            if before is not None and place <= before:
                verdict = Verdict.SKIP
            elif not gaps and event.key in parked:
                verdict = Verdict.PARKED
            elif not gaps and (event.key in behind_gap or _missing(place, before, beginning_known)):
                verdict = Verdict.GAP
                behind_gap.add(event.key)
            else:
                verdict = Verdict.HANDLE
                last[event.aggregate_id] = place
            verdicts.append(verdict)
        return verdicts, last

    def _look(
        self, unit: Unit, events: Sequence[ReceivedEvent], reader: Reader | None
    ) -> tuple[dict[str, _Place], set[str]]:
        row = unit.begin(
            _LOOK,
            {
                "lease": reader.lease if reader else "",
                "handler": self._handler,
                "aggregates": list({event.aggregate_id for event in events}),
                "keys": list({event.key for event in events}),
            },
        )
        assert row is not None
        lease_epoch, aggregates, epochs, versions, parked = row
        if reader is not None and lease_epoch != reader.epoch:
            raise Unavailable("LEASE_LOST", f"the lease {reader.lease} has gone to another holder")
        return dict(zip(aggregates, zip(epochs, versions, strict=True), strict=True)), set(parked)

    def _claim(self, unit: Unit, seen: dict[str, _Place], last: dict[str, _Place]) -> None:
        # In one order everywhere, so that two who claim the same don't wait for each other.
        moved = sorted(aggregate for aggregate, place in last.items() if seen.get(aggregate) != place)
        for statement, aggregates in (
            (_FIRST, [aggregate for aggregate in moved if aggregate not in seen]),
            (_NEXT, [aggregate for aggregate in moved if aggregate in seen]),
        ):
            if not aggregates:
                continue
            unit.later_meeting(
                len(aggregates),
                statement,
                {
                    "handler": self._handler,
                    "aggregates": aggregates,
                    "epochs": [last[aggregate][0] for aggregate in aggregates],
                    "versions": [last[aggregate][1] for aggregate in aggregates],
                    "seen_epochs": [seen[aggregate][0] for aggregate in aggregates if aggregate in seen],
                    "seen": [seen[aggregate][1] for aggregate in aggregates if aggregate in seen],
                },
            )


def _missing(place: _Place, before: _Place | None, beginning_known: bool) -> bool:
    epoch, version = place
    if before is None:
        return version != 1 and beginning_known
    return epoch == before[0] and version != before[1] + 1
