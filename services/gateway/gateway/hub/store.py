"""Tables of the hub: subscriptions, what waits to be delivered, and the lanes in which it waits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import registry

from chassis.erasures import erasure_table
from chassis.events import bus_tables
from chassis.schema import Resource, aggregate_table, log_tables, map_aggregate
from chassis.types import Aggregate
from chassis.unit import Unit
from gateway.hub.domain import Subscription, SubscriptionState
from svyaz.hub.v1 import hub_pb2

metadata = sa.MetaData()
mapper = registry(metadata=metadata)
log = log_tables(metadata)
bus = bus_tables(metadata)
erased_record = erasure_table(metadata)

subscription = aggregate_table(
    metadata, "subscription", Subscription, sa.Index("subscription_api_branch", "api", "branch")
)

_INSTANT = sa.TIMESTAMP(timezone=True)


# Deleted subscriptions, for which something may still wait: that is cleared away by and by, for it may be very much.
forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("subscription_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("deleted_at", _INSTANT, nullable=False),
)

# One for each subscription and ordering key that something waits for; the order inside is that of the deliveries.
lane = sa.Table(
    "lane",
    metadata,
    sa.Column("subscription_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("waiting", sa.BigInteger, nullable=False),
    # Not looked at before: a retry, or the time until which somebody has claimed it.
    sa.Column("not_before", _INSTANT, nullable=False),
    # Counts the claims: whoever delivers for an earlier one finds that it is no longer his.
    sa.Column("claim", sa.BigInteger, nullable=False),
    # Of the first delivery.
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("failing_since", _INSTANT),
    sa.Column("last_error", sa.Text),
    sa.Index("lane_subscription_id_not_before", "subscription_id", "not_before"),
)
delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("position", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("subscription_id", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("event_time", _INSTANT, nullable=False),
    # As it will be posted: the same bytes at every attempt.
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("delivery_subscription_id_key_position", "subscription_id", "key", "position"),
    sa.Index("delivery_subscription_id_event_time", "subscription_id", "event_time"),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {Subscription: Resource(hub_pb2.Subscription, subscription)}

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)


# --- what is wanted --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """What a subscription wants of an event."""

    id: str
    branch: str
    query: str


def wishes(unit: Unit, api: str, branch: str | None) -> Sequence[Wish]:
    """The subscriptions to an API's events in a branch (None: in every one), suspended ones included unless too much
    waits for them; looked up once in a transaction: an event that began to be handled in it is older than a
    subscription that it doesn't see."""
    known: Sequence[Wish] | None = unit.known.get((api, branch))
    if known is None:
        table = subscription.c
        where = [
            table.api == api,
            table.lost_since.is_(None),
            *([table.branch == branch] if branch is not None else []),
        ]
        rows = unit.session.execute(sa.select(table.id, table.branch, table.query).where(*where).order_by(table.id))
        known = unit.known[api, branch] = [Wish(row.id, row.branch, row.query or "") for row in rows]
    return known


@dataclass(frozen=True, slots=True)
class Parcel:
    """An event on its way to one subscription."""

    subscription_id: str
    branch: str
    key: str
    event_id: str
    event_time: datetime
    body: bytes


def send(unit: Unit, parcels: Iterable[Parcel]) -> None:
    """Puts the parcels at the end of their lanes."""
    for parcel in parcels:
        unit.session.execute(
            sa.insert(delivery).values(
                subscription_id=parcel.subscription_id,
                key=parcel.key,
                branch=parcel.branch,
                event_id=parcel.event_id,
                event_time=parcel.event_time,
                body=parcel.body,
            )
        )
        insert = postgresql.insert(lane).values(
            subscription_id=parcel.subscription_id,
            key=parcel.key,
            branch=parcel.branch,
            waiting=1,
            not_before=unit.at,
            claim=0,
            attempts=0,
        )
        # Waits for a delivery that is just ending in the lane, which may go away with it.
        unit.session.execute(
            insert.on_conflict_do_update(
                index_elements=[lane.c.subscription_id, lane.c.key], set_={"waiting": lane.c.waiting + 1}
            )
        )


# --- deliveries ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A lane that is ours for a while: as long as nobody has claimed it after us."""

    subscription_id: str
    key: str
    branch: str
    number: int


@dataclass(frozen=True, slots=True)
class Pending:
    """The first delivery of a lane, and where it goes."""

    position: int
    event_id: str
    body: bytes
    callback: str
    secret: str
    attempts: int
    failing_since: datetime | None


def due(unit: Unit) -> Sequence[str]:
    """The active subscriptions that something is to be delivered to now."""
    waiting = sa.exists().where(lane.c.subscription_id == subscription.c.id, lane.c.not_before <= unit.at)
    active = subscription.c.state == SubscriptionState.ACTIVE
    return unit.session.scalars(sa.select(subscription.c.id).where(active, waiting).order_by(subscription.c.id)).all()


def claim(unit: Unit, slots: Mapping[str, int], seconds: float) -> Sequence[Claim]:
    """Takes lanes that are due, at most so many of each subscription, out of everybody else's way for a while."""
    until = unit.at + timedelta(seconds=seconds)
    rows = unit.session.execute(
        _CLAIM, {"subscriptions": list(slots), "slots": list(slots.values()), "now": unit.at, "until": until}
    )
    return [Claim(row.subscription_id, row.key, row.branch, row.claim) for row in rows]


def _own(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        lane.c.subscription_id == claim.subscription_id,
        lane.c.key == claim.key,
        lane.c.claim == claim.number,
    )


def first(unit: Unit, claim: Claim) -> Pending | None:
    """The lane's first delivery; None when there is none, the lane isn't ours any more, or its subscription waits."""
    row = unit.session.execute(
        sa.select(
            delivery.c.position,
            delivery.c.event_id,
            delivery.c.body,
            subscription.c.callback,
            subscription.c.signing_secret,
            lane.c.attempts,
            lane.c.failing_since,
        )
        .join(lane, sa.and_(lane.c.subscription_id == delivery.c.subscription_id, lane.c.key == delivery.c.key))
        .join(subscription, subscription.c.id == delivery.c.subscription_id)
        .where(*_own(claim), subscription.c.state == SubscriptionState.ACTIVE)
        .order_by(delivery.c.position)
        .limit(1)
    ).first()
    return None if row is None else Pending(*row)


def delivered(unit: Unit, claim: Claim, pending: Pending) -> bool:
    """Takes the delivery out of the lane; False when somebody else has taken the lane over."""
    ours = unit.session.execute(
        sa.update(lane)
        .where(*_own(claim))
        .values(waiting=lane.c.waiting - 1, attempts=0, failing_since=None, last_error=None)
        .returning(lane.c.waiting)
    ).first()
    if ours is None:
        return False
    unit.session.execute(sa.delete(delivery).where(delivery.c.position == pending.position))
    if ours.waiting <= 0:
        unit.session.execute(sa.delete(lane).where(*_own(claim)))
    return True


def failed(unit: Unit, claim: Claim, error: str, not_before: datetime) -> datetime | None:
    """Puts the lane off; since when its first delivery fails, None when the lane isn't ours any more."""
    row = unit.session.execute(
        sa.update(lane)
        .where(*_own(claim))
        .values(
            attempts=lane.c.attempts + 1,
            failing_since=sa.func.coalesce(lane.c.failing_since, sa.literal(unit.at, _INSTANT)),
            last_error=error,
            not_before=not_before,
        )
        .returning(lane.c.failing_since)
    ).first()
    return None if row is None else row.failing_since


def release(unit: Unit, claim: Claim) -> None:
    """Gives the lane back: it is due at once."""
    unit.session.execute(sa.update(lane).where(*_own(claim)).values(not_before=unit.at))


# --- erasures --------------------------------------------------------------------------------------------------------


# Also what waits for deleted subscriptions, until it is cleared away.
_WAITING_FOR = """
    SELECT d.position, d.body FROM (SELECT id FROM subscription UNION SELECT subscription_id FROM forgotten) AS s (id)
    JOIN delivery d ON d.subscription_id = s.id AND d.key = ANY (%(keys)s)
"""


def waiting_for(unit: Unit, keys: Sequence[str]) -> Sequence[tuple[int, bytes]]:
    """Position and body of what waits with one of the ordering keys."""
    with unit.cursor() as cursor:
        return [(row[0], bytes(row[1])) for row in cursor.execute(_WAITING_FOR, {"keys": list(keys)})]


def say_less(unit: Unit, position: int, body: bytes) -> None:
    """The delivery has another body, if it hasn't been made yet."""
    unit.later(
        "UPDATE delivery SET body = %(body)s WHERE position = %(position)s", {"position": position, "body": body}
    )


# --- how many, and too many ------------------------------------------------------------------------------------------


def subscriptions(unit: Unit, api: str, branch: str) -> int:
    """How many subscriptions the branch has to the API; nobody else adds one before the end of the transaction."""
    unit.session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"{api} {branch}", 0))))
    where = (subscription.c.api == api, subscription.c.branch == branch)
    return int(unit.session.execute(sa.select(sa.func.count()).select_from(subscription).where(*where)).scalar_one())


def overflowing(unit: Unit, most: int) -> Sequence[tuple[str, str]]:
    """(id, branch) of the subscriptions for which more wait, and that still take events on."""
    rows = unit.session.execute(_waiting(subscription.c.lost_since.is_(None)).having(_total > most))
    return [(row.id, row.branch) for row in rows]


def relieved(unit: Unit, most: int) -> Sequence[tuple[str, str]]:
    """(id, branch) of the subscriptions that take no events on, though no more than this wait any longer."""
    rows = unit.session.execute(_waiting(subscription.c.lost_since.is_not(None)).having(_total <= most))
    return [(row.id, row.branch) for row in rows]


_total = sa.func.coalesce(sa.func.sum(lane.c.waiting), 0)


def _waiting(condition: sa.ColumnElement[bool]) -> sa.Select[tuple[str, str]]:
    return (
        sa.select(subscription.c.id, subscription.c.branch)
        .join(lane, lane.c.subscription_id == subscription.c.id, isouter=True)
        .where(condition)
        .group_by(subscription.c.id, subscription.c.branch)
    )


# --- deleted subscriptions -------------------------------------------------------------------------------------------


def forget(unit: Unit, subscription_id: str, branch: str) -> None:
    """Notes that what waits for the subscription, which is being deleted, is to be cleared away."""
    values = {"subscription_id": subscription_id, "branch": branch, "deleted_at": unit.at}
    unit.session.execute(sa.insert(forgotten).values(**values))


def clear(unit: Unit, most: int, before: datetime) -> int:
    """Clears away some of what waits for deleted subscriptions; how much that was.

    The note of a subscription that was deleted before the instant goes too, once nothing waits: until then an event
    whose handling began earlier may still bring something.
    """
    notes = unit.session.execute(
        sa.select(forgotten).order_by(forgotten.c.deleted_at).limit(10).with_for_update(skip_locked=True)
    ).all()
    cleared = 0
    for note in notes:
        for table, columns in ((delivery, (delivery.c.position,)), (lane, (lane.c.subscription_id, lane.c.key))):
            some = sa.select(*columns).where(table.c.subscription_id == note.subscription_id).limit(most - cleared)
            gone: Any = unit.session.execute(sa.delete(table).where(sa.tuple_(*columns).in_(some)))
            cleared += int(gone.rowcount)
            if cleared >= most:
                return cleared
        if note.deleted_at < before:
            unit.session.execute(sa.delete(forgotten).where(forgotten.c.subscription_id == note.subscription_id))
    return cleared


# --- suspended subscriptions -----------------------------------------------------------------------------------------


def begin_anew(unit: Unit, subscription_id: str) -> None:
    """Everything that waits for the subscription is due now, as if nothing had failed."""
    unit.session.execute(
        sa.update(lane)
        .where(lane.c.subscription_id == subscription_id)
        .values(not_before=unit.at, attempts=0, failing_since=None)
    )


def suspended(unit: Unit) -> int:
    """How many subscriptions are suspended."""
    where = subscription.c.state == SubscriptionState.SUSPENDED
    return int(unit.session.execute(sa.select(sa.func.count()).select_from(subscription).where(where)).scalar_one())


def outdated(unit: Unit, before: datetime) -> Sequence[tuple[str, str]]:
    """(id, branch) of the suspended subscriptions for which something from before the instant still waits."""
    old = sa.exists().where(delivery.c.subscription_id == subscription.c.id, delivery.c.event_time < before)
    where = (subscription.c.state == SubscriptionState.SUSPENDED, old)
    rows = unit.session.execute(sa.select(subscription.c.id, subscription.c.branch).where(*where))
    return [(row.id, row.branch) for row in rows]


def drop(unit: Unit, subscription_id: str, before: datetime) -> int:
    """Takes away what waits for the subscription from before the instant; how much that was."""
    return int(unit.session.execute(_DROP, {"subscription": subscription_id, "before": before}).scalar_one())


_CLAIM = sa.text(
    """
    UPDATE lane SET not_before = :until, claim = lane.claim + 1
    FROM (
        SELECT due.subscription_id, due.key
        FROM unnest(:subscriptions, :slots) AS wanted (subscription_id, slots)
        CROSS JOIN LATERAL (
            SELECT subscription_id, key FROM lane
            WHERE subscription_id = wanted.subscription_id AND not_before <= :now
            ORDER BY not_before LIMIT wanted.slots FOR UPDATE SKIP LOCKED
        ) due
    ) claimed
    WHERE lane.subscription_id = claimed.subscription_id AND lane.key = claimed.key
    RETURNING lane.subscription_id, lane.key, lane.branch, lane.claim
    """
).bindparams(
    sa.bindparam("subscriptions", type_=postgresql.ARRAY(sa.Text)),
    sa.bindparam("slots", type_=postgresql.ARRAY(sa.Integer)),
)
# Lanes first: a writer who adds to one holds it, and what he adds must be counted.
_DROP = sa.text(
    """
    WITH locked AS (
        SELECT key FROM lane WHERE subscription_id = :subscription ORDER BY key FOR UPDATE
    ), gone AS (
        DELETE FROM delivery WHERE subscription_id = :subscription AND event_time < :before
            AND key IN (SELECT key FROM locked)
        RETURNING key
    ), counted AS (
        SELECT key, count(*) AS number FROM gone GROUP BY key
    ), shortened AS (
        UPDATE lane SET waiting = lane.waiting - counted.number FROM counted
        WHERE lane.subscription_id = :subscription AND lane.key = counted.key AND lane.waiting > counted.number
    ), emptied AS (
        DELETE FROM lane USING counted
        WHERE lane.subscription_id = :subscription AND lane.key = counted.key AND lane.waiting <= counted.number
    )
    SELECT count(*) FROM gone
    """
)
