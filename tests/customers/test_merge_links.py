"""Who is the same: the links that a merge makes, and what every table says of them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from chassis.db import Database
from chassis.events import acting
from chassis.unit import Unit
from customers import store as everything
from customers.identity import store
from customers.schema import UnderMerge, rule_under_merge
from tests.conftest import ServiceDatabase
from tests.serving import customers_database

_LINK = """
    INSERT INTO merged_customer (absorbed_id, branch, into_id, survivor_id, merge_id, merged_at)
    VALUES (%s, %s, %s, %s, 'merge of ' || %s, now())
"""


@pytest.fixture(scope="module")
def linked(database_for: Callable[..., ServiceDatabase]) -> Iterator[tuple[ServiceDatabase, Database]]:
    """Where A was merged into B and B into C; D is another customer, and Z has been merged in another branch."""
    place = database_for("customers")
    with psycopg.connect(place.admin_url) as connection:
        for absorbed, branch, into, survivor in (
            ("A", "bishkek", "B", "C"),
            ("B", "bishkek", "C", "C"),
            ("Z", "osh", "Y", "Y"),
        ):
            connection.execute(_LINK, (absorbed, branch, into, survivor, absorbed))
    database = customers_database(place.url)
    yield place, database
    database.close()


@pytest.fixture
def unit(linked: tuple[ServiceDatabase, Database]) -> Iterator[Unit]:
    with acting("customers", "test", "bishkek"), linked[1].unit() as opened:
        yield opened


@pytest.mark.parametrize("asked", ["A", "B", "C"])
def test_whichever_id_is_asked_for_the_customer_is_the_same(unit: Unit, asked: str) -> None:
    assert (store.survivor(unit, asked), store.members(unit, asked)) == ("C", ("C", "A", "B"))


@pytest.mark.parametrize("asked", ["D", "Z", "Y", ""])
def test_who_was_not_merged_or_in_another_branch_is_nobody_else(unit: Unit, asked: str) -> None:
    assert (store.survivor(unit, asked), store.members(unit, asked)) == (asked, (asked,))
    assert (store.party_survivor(unit, asked), store.party_members(unit, asked)) == (asked, (asked,))


def test_statements_find_the_same_ids(unit: Unit) -> None:
    asked = sa.column("asked", sa.Text)
    among = sa.select(asked).select_from(sa.values(asked, name="v").data([("A",), ("B",), ("C",), ("D",), ("Z",)]))
    for customer in "ABCD":
        found = set(unit.session.scalars(among.where(store.same_customer(asked, customer))))
        assert found == set(store.members(unit, customer))
        with unit.cursor() as cursor:
            statement = f"SELECT {store.members_sql('%(id)s')}"
            row: Any = cursor.execute(statement, {"id": customer}).fetchone()
            assert sorted(row[0]) == sorted(store.members(unit, customer))
    with unit.cursor() as cursor:
        grouped = cursor.execute(
            f"SELECT {store.survivor_sql('v.id')}, count(*) FROM unnest(%(ids)s::text[]) AS v (id)"  # noqa: S608
            " GROUP BY 1 ORDER BY 1",
            {"ids": list("ABCDZ")},
        ).fetchall()
    assert grouped == [("C", 3), ("D", 1), ("Z", 1)]


def test_look_ups_go_by_the_indexes_under_the_policy(
    linked: tuple[ServiceDatabase, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the store asks, of ten million links it looks at those that it needs."""
    asked: list[str] = []
    explained = psycopg.Cursor.execute

    def explain(cursor: Any, statement: Any, parameters: Any = None, **more: Any) -> Any:
        explained(cursor, "SET LOCAL enable_seqscan = off")
        rows = explained(cursor, f"EXPLAIN {statement}", parameters, **more).fetchall()
        asked.append("\n".join(str(line) for (line,) in rows))
        return explained(cursor, statement, parameters, **more)

    now = datetime.now(UTC)
    with acting("customers", "test", "bishkek"), linked[1].unit() as unit:
        unit.connection()
        monkeypatch.setattr(psycopg.Cursor, "execute", explain)
        for customer in "AD":
            store.members(unit, customer)
            store.survivor(unit, customer)
            store.party_members(unit, customer)
            store.every_member(unit, [customer])
            for links in (store.CUSTOMERS, store.PARTIES):
                store.survivors(unit, links, [customer])
                store.into(unit, links, [customer])
                store.survivor_at(unit, links, customer, now)
                store.part(unit, links, f"merge of {customer}")
            store.members_at(unit, customer, now)
            statement = f"SELECT * FROM event WHERE aggregate_id = ANY ({store.members_sql('%(id)s')})"  # noqa: S608
            unit.cursor().execute(statement, {"id": customer})
        monkeypatch.undo()
        unit.close()
    assert len(asked) > 25
    for plan in asked:
        assert "Seq Scan" not in plan, plan
        lines = plan.splitlines()
        # Nor is an index read from one end to the other.
        scans = [i for i, line in enumerate(lines) if "Scan using" in line or "Bitmap Index Scan" in line]
        assert all("Index Cond" in lines[i + 1] for i in scans), plan


# --- what a merge means for every table -----------------------------------------------------------------------------

# What columns are called that name a customer or a party.
_NAMES = ("customer", "party", "individual", "organization", "owner", "member_id", "engaged")


@pytest.mark.parametrize("table", everything.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_table_says_what_a_merge_means_for_it(table: sa.Table) -> None:
    """Nothing of a customer is lost or misread by a merge: who adds a table says how it is read
    (`customers.schema.under_merge`)."""
    said = rule_under_merge(table)
    assert said is not None, f"{table.name}: call under_merge(UnderMerge.…, {table.name}) where it is defined"
    rule, columns = said
    if table.name.startswith("stage_"):
        return
    # A number names nobody: it counts.
    texts = [column.name for column in table.columns if not isinstance(column.type, sa.Integer)]
    naming = {name for name in texts if any(word in name for word in _NAMES)}
    if rule is UnderMerge.NONE:
        assert naming == set(), f"{table.name} names a customer or a party: that isn't nothing"
    elif rule is UnderMerge.BY_MEMBERS:
        assert set(columns) <= set(table.c.keys())
        assert columns
