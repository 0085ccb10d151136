"""The merges that are in force, as customers tells them, and all ids of one who was merged."""

from collections.abc import Sequence

import sqlalchemy as sa

from chassis.cloudevents import ReceivedEvent
from chassis.unit import Unit
from orders.schema import metadata
from svyaz.customers.v1 import identity_pb2

# One row for each merge, and each kind of ids that it links. Merges of several tell of themselves in any order, so no
# row says who survives in the end: that is walked, a chain is short.
merge_link = sa.Table(
    "merge_link",
    metadata,
    sa.Column("merge_id", sa.Text, primary_key=True),
    sa.Column("absorbed_id", sa.Text, primary_key=True),
    sa.Column("survivor_id", sa.Text, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Index("merge_link_absorbed_id", "absorbed_id"),
    sa.Index("merge_link_survivor_id", "survivor_id"),
)

_FORGET = "DELETE FROM merge_link WHERE merge_id = %(merge)s"
_LINK = """
    INSERT INTO merge_link (merge_id, absorbed_id, survivor_id, branch)
    VALUES (%(merge)s, %(absorbed)s, %(survivor)s, %(branch)s)
    ON CONFLICT (merge_id, absorbed_id) DO UPDATE SET survivor_id = excluded.survivor_id, branch = excluded.branch
"""


def merges_changed(event: ReceivedEvent, unit: Unit) -> None:
    """Remembers who has been merged into whom, as long as they are."""
    if event.aggregate_type != "CustomerMerge":
        return
    merge = event.message(identity_pb2.CustomerMerge)
    unit.later(_FORGET, {"merge": merge.id})
    if event.type == "CustomerMergeDeleteEvent" or merge.state != identity_pb2.CUSTOMER_MERGE_STATE_ACTIVE:
        return
    for absorbed, survivor in (
        (merge.absorbed_id, merge.survivor_id),
        (merge.absorbed_party_id, merge.survivor_party_id),
    ):
        if absorbed and survivor:
            values = {"merge": merge.id, "absorbed": absorbed, "survivor": survivor, "branch": event.branch}
            unit.later(_LINK, values)


# Up to whom they were merged into, then down to all who were. UNION drops what has been met, so that it ends.
_SAME = """
    WITH RECURSIVE up (id) AS (
        SELECT unnest(%(ids)s::text[])
        UNION
        SELECT link.survivor_id FROM up JOIN merge_link link ON link.absorbed_id = up.id
    ), same (id) AS (
        SELECT id FROM up
        UNION
        SELECT link.absorbed_id FROM same JOIN merge_link link ON link.survivor_id = same.id
    )
    SELECT id FROM same ORDER BY id
"""


def same(unit: Unit, ids: Sequence[str]) -> list[str]:
    """The ids, and all others by which these customers or parties are known."""
    with unit.cursor() as cursor:
        return [str(row[0]) for row in cursor.execute(_SAME, {"ids": list(ids)})]
