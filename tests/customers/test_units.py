"""A unit on a real database: what several callers do in one transaction, and what a conflict leaves behind."""

import pytest
import sqlalchemy as sa

from chassis.db import Database
from chassis.errors import Aborted
from chassis.events import acting
from chassis.types import new_id
from customers.party.domain import Individual


def test_each_change_of_a_shared_transaction_is_logged_as_its_own_callers(database: Database) -> None:
    ids = [new_id(), new_id(), new_id()]
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        for caller, made in zip(("aida", "bek"), ids, strict=False):
            with acting("customers", "test", "bishkek", caller) as call, unit.on_behalf(call):
                unit.add(Individual(id=made, branch="bishkek", given_name=caller, family_name="Usenov"))
        with acting("customers", "test", "bishkek", "chyngyz") as call, unit.on_behalf(call):
            unit.get(Individual, ids[0]).given_name = "Aidana"
        unit.add(Individual(id=ids[2], branch="bishkek", given_name="nobody's", family_name="Usenov"))
    event = database.log.event
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        rows = unit.session.execute(
            sa.select(event.c.aggregate_id, event.c.version, event.c.on_behalf_of)
            .where(event.c.aggregate_id.in_(ids))
            .order_by(event.c.position)
        ).all()
    assert [tuple(row) for row in rows] == [
        (ids[0], 1, "aida"),
        (ids[1], 1, "bek"),
        (ids[0], 2, "chyngyz"),
        (ids[2], 1, None),
    ]


def test_a_unit_of_one_round_trip_writes_all_or_nothing(database: Database) -> None:
    first, second = new_id(), new_id()

    def add(*ids: str) -> None:
        with acting("customers", "test", "bishkek"), database.unit() as unit:
            for one in ids:
                unit.add(Individual(id=one, branch="bishkek", given_name="A", family_name="B"))

    add(first)
    with pytest.raises(Aborted, match="at the same time"):
        add(second, first)
    with acting("customers", "test", "bishkek"), database.unit() as unit:
        assert unit.find(Individual, first) is not None
        assert unit.find(Individual, second) is None
        logged = unit.session.scalar(
            sa.select(sa.func.count()).where(database.log.event.c.aggregate_id.in_([first, second]))
        )
    assert logged == 1
