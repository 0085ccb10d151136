"""The keys of parties and customers are written with them; of those that came in bulk, a moment later.

A bulk import is as fast as a fifth of a raw COPY, and writing nine keys for each row would take half of that. So it
leaves the ids, in its own transaction, and a timer's turn files them, portion by portion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from chassis.bulk import copy_insert
from chassis.timers import TimerHandler, set_timer
from chassis.types import new_id
from chassis.unit import Unit
from customers.matching import store
from customers.matching.keys import keys_of
from customers.matching.phones import BranchRegions
from customers.party.domain import Customer, Individual, Organization, Referrer

# The purposes of our timers.
INDEX, LOOK_FOR_DUPLICATES = "index-parties", "find-duplicates"

_LEAVE = """
    INSERT INTO unindexed (id, branch, source_id, left_at) VALUES (%(id)s, %(branch)s, %(sources)s, %(at)s)
"""
# So that who changes one of them meanwhile comes before or after, never between.
_OURS = "id = ANY (%(ids)s) ORDER BY id FOR SHARE"
_CLASSES: Sequence[type[Referrer]] = (Individual, Organization, Customer)


class Indexing:
    """Watches parties and customers (`party.references.Watcher`)."""

    def __init__(self, regions: BranchRegions) -> None:
        self._regions = regions

    def timers(self) -> Mapping[str, TimerHandler]:
        """The handlers of our timers, by purpose."""
        return {INDEX: self.index}

    def created(self, unit: Unit, aggregate: Referrer) -> None:
        """Files a new one, and has it compared with the others."""
        self._file(unit, aggregate, new=True)

    def changed(self, unit: Unit, aggregate: Referrer) -> None:
        """Files it as it is now."""
        self._file(unit, aggregate, new=False)

    def deleted(self, unit: Unit, aggregate: Referrer) -> None:
        """Nobody finds it any more."""
        store.forget(unit, aggregate.id)

    def _file(self, unit: Unit, aggregate: Referrer, *, new: bool) -> None:
        if not isinstance(aggregate, tuple(_CLASSES)):
            return
        store.file_keys(unit, aggregate, keys_of(aggregate, self._regions.region(aggregate.branch)), new=new)
        if isinstance(aggregate, Individual):
            set_timer(unit, aggregate.id, LOOK_FOR_DUPLICATES, unit.at, aggregate.branch)

    def index(self, portion: str, unit: Unit) -> None:
        """Files what came in bulk."""
        table = store.unindexed
        row = unit.session.execute(
            sa.delete(table).where(table.c.id == portion).returning(table.c.branch, table.c.source_id)
        ).first()
        if row is None:
            return
        branch, sources = row
        region = self._regions.region(branch)
        rows: list[tuple[Any, ...]] = []
        words: set[str] = set()
        for cls in _CLASSES:
            for aggregate in unit.load(cls, _OURS, {"ids": sources}):
                keys = keys_of(aggregate, region)
                words.update(keys.words)
                rows += [(value, int(kind), branch, keys.party_id, aggregate.id) for kind, value in keys.key]
                unit.session.expunge(aggregate)
        # Filed already, where it was changed since.
        unit.later(store.FORGET, {"sources": sources})
        store.VOCABULARY.file(unit, branch, words)
        unit.flush()
        copy_insert(unit, store.party_key.name, store.KEY_COLUMNS, sorted(rows))


def leave_unindexed(unit: Unit, branch: str, ids: Sequence[str]) -> None:
    """Leaves what has been written in bulk to be filed, in the unit's transaction."""
    if ids:
        portion = new_id()
        unit.later(_LEAVE, {"id": portion, "branch": branch, "sources": list(ids), "at": unit.at})
        set_timer(unit, portion, INDEX, unit.at, branch)
