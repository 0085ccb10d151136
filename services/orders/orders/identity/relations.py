"""Whose things are, whatever their role: found by an index, in spite of row-level security."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from chassis.aliases import EQUALS
from svyaz.type.v1 import requests_pb2

PATH = "related_party.id"
_IDS = "jsonb_path_query_array(related_party, '$[*].id')"
# Of one customer there are a few; the planner would reckon with a thousand.
_ROWS = 20


def index(table: str) -> sa.Index:
    """The index of all ids in the column `related_party` of a table."""
    return sa.Index(f"{table}_related_party", sa.text(_IDS), postgresql_using="gin")


def statements(table: str) -> Iterator[str]:
    """What makes the index, and the function that looks into it. Used by migrations."""
    yield f"CREATE INDEX {table}_related_party ON {table} USING gin (({_IDS}))"
    yield f"CREATE POLICY related ON {table} FOR SELECT TO CURRENT_USER USING (true)"
    # With its owner's rights, which a policy lets read every branch: under the callers' policies no such index may
    # serve, since its operator could tell of what it compares. It tells ids, and only of the branches that the
    # transaction has named.
    yield f"""
        CREATE FUNCTION {table}_related_to(parties text[]) RETURNS SETOF text
        LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS {_ROWS} SET search_path = public, pg_temp AS $$
        DECLARE
            setting text := coalesce(current_setting('svyaz.branches', true), '');
        BEGIN
            RETURN QUERY SELECT id FROM {table}
            WHERE {_IDS} ?| parties AND (setting = '*' OR branch = ANY (string_to_array(setting, ',')));
        END $$
    """  # noqa: S608 (a table of our own)


def conditions(table: sa.Table, filters: Sequence[requests_pb2.Filter]) -> list[sa.ColumnElement[bool]]:
    """That a thing is one of those whose related parties are asked for: beside the filters, which say it exactly."""
    found: list[sa.ColumnElement[bool]] = []
    for one in filters:
        if one.path == PATH and one.operator in EQUALS and one.value and "\0" not in "".join(one.value):
            related = sa.func.__getattr__(f"{table.name}_related_to")(sa.cast(list(one.value), ARRAY(sa.Text)))
            found.append(table.c.id.in_(sa.select(related.column_valued("related_id"))))
    return found
