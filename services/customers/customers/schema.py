"""The metadata that the tables of the sub-domains share, with the log and the bus, and what a merge of customers and
the erasure of a person mean for each of them."""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import registry

from chassis.events import bus_tables
from chassis.schema import log_tables

metadata = sa.MetaData()
mapper = registry(metadata=metadata)
log = log_tables(metadata)
bus = bus_tables(metadata)


class UnderMerge(StrEnum):
    """What becomes of a table's rows when two customers (or parties) are found to be the same one. None of them is ever
    rewritten: this says how they are read."""

    # Found by the customer's or party's id: a question about a customer is one about all of `identity.store.members`.
    BY_MEMBERS = "by members"
    # The record of an id itself, or its history: it is that id's for ever, and an id that was merged shows the
    # survivor's instead.
    OWN = "own"
    # Says who is whose: it is written by merging.
    LINK = "link"
    # Says nothing of any one customer or party.
    NONE = "none"


_UNDER_MERGE = "under_merge"


def under_merge(rule: UnderMerge, *tables: sa.Table, columns: tuple[str, ...] = ()) -> None:
    """Declares what a merge means for the tables; every table has to say. `columns` name where the ids of customers or
    parties stand; for BY_MEMBERS they must be given."""
    for table in tables:
        if rule is UnderMerge.BY_MEMBERS and not columns:
            raise ValueError(f"{table.name}: by which column is it read?")
        missing = [name for name in columns if name not in table.c]
        if missing:
            raise ValueError(f"{table.name} has no {', '.join(missing)}")
        table.info[_UNDER_MERGE] = (rule, columns)


def rule_under_merge(table: sa.Table) -> tuple[UnderMerge, tuple[str, ...]] | None:
    """What a merge means for the table, and the columns in which it names customers or parties; None when it doesn't
    say."""
    rule: tuple[UnderMerge, tuple[str, ...]] | None = table.info.get(_UNDER_MERGE)
    return rule


class UnderErasure(StrEnum):
    """What becomes of a table's rows when a person is erased. The tables of aggregates need not say: what their
    contract marks `personal` is taken out of their rows, events and versions in the view."""

    # What was worked out of a person's records, to be found by: the rows go, by the columns that name these records.
    DELETED = "deleted"
    # Everything personal is taken out of them, by the erasure's own steps.
    REDACTED = "redacted"
    # They go by themselves within some days.
    EXPIRES = "expires"
    # They hold ids, amounts and times only.
    KEPT = "kept"


_UNDER_ERASURE = "under_erasure"


def under_erasure(rule: UnderErasure, *tables: sa.Table, columns: tuple[str, ...] = ()) -> None:
    """Declares what an erasure means for tables that aren't aggregates'. `columns` name where ids of records (of
    parties, customers or of what hangs on them) stand; for DELETED they must be given."""
    for table in tables:
        if rule is UnderErasure.DELETED and not columns:
            raise ValueError(f"{table.name}: by which column do its rows go?")
        missing = [name for name in columns if name not in table.c]
        if missing:
            raise ValueError(f"{table.name} has no {', '.join(missing)}")
        table.info[_UNDER_ERASURE] = (rule, columns)


def rule_under_erasure(table: sa.Table) -> tuple[UnderErasure, tuple[str, ...]] | None:
    """What an erasure means for the table, and the columns that name records; None when it doesn't say."""
    rule: tuple[UnderErasure, tuple[str, ...]] | None = table.info.get(_UNDER_ERASURE)
    return rule


# Events are the history of what they are about; the others are the machinery's.
under_merge(UnderMerge.OWN, log.event)
under_merge(
    UnderMerge.NONE,
    *(table for table in metadata.tables.values() if table is not log.event),
)
under_erasure(UnderErasure.REDACTED, log.event, log.idempotency, bus.parked_event)
under_erasure(
    UnderErasure.KEPT,
    *(table for table in metadata.tables.values() if rule_under_erasure(table) is None),
)
