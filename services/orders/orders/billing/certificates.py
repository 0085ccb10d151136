"""Certificates of days in PostgreSQL: what they are made of, and what was made."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chassis.unit import Unit
from chassis.zones import BranchZones
from orders.billing.certificate import Part, Row
from orders.billing.tables import billing_certificate, billing_certificate_line, billing_day, billing_key

_BATCH = 5_000

# --- what a day is made of -------------------------------------------------------------------------------------------

_ROWS = """
    WITH charge AS (
        SELECT event.account, coalesce(event.epoch, %(epoch)s) AS epoch, event.type, event.sequence, event.hash,
            event.position IS NOT NULL AND event.sent_at IS NULL AS unsent,
            event.sequence IS NOT NULL AND (
                booked.epoch IS NULL OR (event.epoch, event.sequence) > (booked.epoch, booked.sequence)
            ) AS unacknowledged,
            -- Bytes that somebody has changed needn't be JSON any more.
            CASE
                WHEN event.draft IS NOT NULL THEN CAST(event.draft AS jsonb)
                WHEN event.hash = encode(sha256(convert_to(event.previous_hash, 'UTF8') || event.data), 'hex')
                    THEN CAST(convert_from(event.data, 'UTF8') AS jsonb)
            END -> 'amount' AS amount
        FROM charge_event AS event
        LEFT JOIN LATERAL (
            SELECT epoch, sequence FROM billing_acknowledgement WHERE account = event.account
            ORDER BY epoch DESC LIMIT 1
        ) AS booked ON true
        WHERE event.branch = %(branch)s AND event.occurred_at >= %(start)s AND event.occurred_at < %(end)s
    ), summed AS (
        SELECT account, epoch, type, amount ->> 'unit' AS unit, count(*) AS number,
            coalesce(sum(CAST(amount ->> 'value' AS numeric)), 0) AS value, count(sequence) AS sealed,
            min(sequence) AS first_sequence, max(sequence) AS last_sequence,
            (array_agg(hash ORDER BY sequence DESC NULLS LAST))[1] AS last_hash,
            count(*) FILTER (WHERE sequence IS NULL) AS unsealed, count(*) FILTER (WHERE unsent) AS unsent,
            count(*) FILTER (WHERE unacknowledged) AS unacknowledged
        FROM charge GROUP BY account, epoch, type, amount ->> 'unit'
    )
    SELECT account, epoch, CAST(sum(sealed) AS bigint), coalesce(min(first_sequence), 0),
        coalesce(max(last_sequence), 0),
        coalesce((array_agg(last_hash ORDER BY last_sequence DESC NULLS LAST))[1], ''),
        CAST(sum(unsealed) AS bigint), CAST(sum(unsent) AS bigint), CAST(sum(unacknowledged) AS bigint),
        array_agg(type ORDER BY type, unit), array_agg(coalesce(unit, '') ORDER BY type, unit),
        array_agg(number ORDER BY type, unit), array_agg(CAST(value AS text) ORDER BY type, unit)
    FROM summed GROUP BY account, epoch ORDER BY account COLLATE "C", epoch
"""


def rows_of(unit: Unit, branch: str, start: datetime, end: datetime, epoch: int) -> Iterator[Row]:
    """What was charged to each account of a branch between two instants, by account and epoch. What isn't sealed yet
    counts for the epoch that is given."""
    wanted = {"branch": branch, "start": start, "end": end, "epoch": epoch}
    with unit.connection().cursor("certificate_rows") as cursor:
        cursor.itersize = _BATCH
        for row in cursor.execute(_ROWS, wanted):
            sums = zip(row[9], row[10], row[11], map(Decimal, row[12]), strict=True)
            yield Row(
                account=row[0],
                epoch=row[1],
                count=row[2],
                first_sequence=row[3],
                last_sequence=row[4],
                last_hash=row[5],
                unsealed=row[6],
                unsent=row[7],
                unacknowledged=row[8],
                sums=list(sums),
            )


# --- the days of a branch --------------------------------------------------------------------------------------------

# One value after the other by the index, however many rows have each.
_BRANCHES = sa.text(
    """
    WITH RECURSIVE charged(branch) AS (
        (SELECT branch FROM charge_event ORDER BY branch LIMIT 1)
        UNION ALL
        SELECT (SELECT branch FROM charge_event WHERE branch > charged.branch ORDER BY branch LIMIT 1)
        FROM charged WHERE charged.branch IS NOT NULL
    ), ordered(branch) AS (
        (SELECT branch FROM product_order ORDER BY branch LIMIT 1)
        UNION ALL
        SELECT (SELECT branch FROM product_order WHERE branch > ordered.branch ORDER BY branch LIMIT 1)
        FROM ordered WHERE ordered.branch IS NOT NULL
    )
    SELECT branch FROM (SELECT branch FROM charged UNION SELECT branch FROM ordered) AS every
    WHERE branch IS NOT NULL AND NOT EXISTS (
        SELECT FROM timer WHERE timer.aggregate_id = every.branch AND timer.purpose = :purpose
    )
    ORDER BY branch
    """
)
_FIRST = sa.text(
    """
    SELECT least(
        (SELECT min(occurred_at) FROM charge_event WHERE branch = :branch),
        (SELECT min(order_date) FROM product_order WHERE branch = :branch)
    )
    """
)


def branches_without(session: Session, purpose: str) -> list[str]:
    """The branches with charges or orders that have no timer of the purpose."""
    return list(session.scalars(_BRANCHES, {"purpose": purpose}))


def open_days(unit: Unit, branch: str, zones: BranchZones, settle: timedelta) -> None:
    """Enters every day of the branch that isn't entered yet, today's included."""
    today = unit.at.astimezone(zones.zone(branch)).date()
    last = unit.session.scalar(sa.select(sa.func.max(billing_day.c.day)).where(billing_day.c.branch == branch))
    if last is None:
        first = unit.session.scalar(_FIRST, {"branch": branch})
        last = (first or unit.at).astimezone(zones.zone(branch)).date() - timedelta(days=1)
    days = []
    while last < today:
        last += timedelta(days=1)
        end = zones.bounds(branch, last)[1]
        days.append(
            {
                "branch": branch,
                "day": last,
                "revision": 0,
                "discrepancies": 0,
                "looked": 0,
                "look_at": end + settle,
                "ends_at": end,
            }
        )
    if days:
        unit.session.execute(insert(billing_day).on_conflict_do_nothing(), days)


def due(unit: Unit, branch: str) -> sa.Row[Any] | None:
    """The day of the branch that is to be looked at now, the earliest first; ours until the transaction ends."""
    table = billing_day
    return unit.session.execute(
        sa.select(table)
        .where(table.c.branch == branch, table.c.look_at <= unit.at)
        .order_by(table.c.look_at)
        .limit(1)
        .with_for_update()
    ).first()


def the_day(unit: Unit, branch: str, day: date) -> sa.Row[Any] | None:
    """An entered day; ours until the transaction ends."""
    table = billing_day
    return unit.session.execute(
        sa.select(table).where(table.c.branch == branch, table.c.day == day).with_for_update()
    ).first()


def next_look(session: Session, branch: str) -> datetime | None:
    """When the next day of the branch is to be looked at."""
    table = billing_day
    found: datetime | None = session.scalar(sa.select(sa.func.min(table.c.look_at)).where(table.c.branch == branch))
    return found


def looked(unit: Unit, branch: str, day: date, **values: Any) -> None:
    """Remembers what came of a look at a day."""
    table = billing_day
    unit.session.execute(sa.update(table).where(table.c.branch == branch, table.c.day == day).values(**values))


_STATE = sa.text(
    """
    SELECT
        (SELECT coalesce(sum(discrepancies), 0) FROM billing_day WHERE discrepancies > 0) AS discrepancies,
        (SELECT min(ends_at) FROM billing_day WHERE revision = 0 AND look_at IS NOT NULL) AS uncertified
    """
)


def state(session: Session) -> tuple[int, datetime | None]:
    """The discrepancies of all days in their latest revisions, and when the oldest day ended (or ends) that has no
    certificate."""
    row = session.execute(_STATE).one()
    return int(row.discrepancies), row.uncertified


# --- certificates ----------------------------------------------------------------------------------------------------


def latest(session: Session, branch: str, day: date, revision: int = 0) -> sa.Row[Any] | None:
    """A certificate of a day: the latest revision, or the one that is named."""
    table = billing_certificate
    statement = sa.select(table).where(table.c.branch == branch, table.c.day == day)
    if revision:
        statement = statement.where(table.c.revision == revision)
    return session.execute(statement.order_by(table.c.revision.desc()).limit(1)).first()


def of_branch(session: Session, branch: str, before: date | None, *, discrepant: bool, limit: int) -> list[sa.Row[Any]]:
    """The latest certificates of a branch's days, the latest day first."""
    table, day = billing_certificate, billing_day
    statement = (
        sa.select(table)
        .join(day, sa.and_(*(table.c[name] == day.c[name] for name in ("branch", "day", "revision"))))
        .where(table.c.branch == branch)
    )
    if before is not None:
        statement = statement.where(table.c.day < before)
    if discrepant:
        statement = statement.where(day.c.discrepancies > 0)
    return list(session.execute(statement.order_by(table.c.day.desc()).limit(limit)))


def lines(
    session: Session, branch: str, day: date, revision: int, part: Part, *, after: int = 0, limit: int = _BATCH
) -> list[str]:
    """Some lines of a certificate, those beyond the number `after`."""
    table = billing_certificate_line
    statement = (
        sa.select(table.c.line)
        .where(
            table.c.branch == branch,
            table.c.day == day,
            table.c.revision == revision,
            table.c.part == int(part),
            table.c.number > after,
        )
        .order_by(table.c.number)
        .limit(limit)
    )
    return list(session.scalars(statement))


def all_lines(session: Session, branch: str, day: date, revision: int, part: Part) -> Iterator[str]:
    """All lines of a part, page by page."""
    after = 0
    while page := lines(session, branch, day, revision, part, after=after):
        yield from page
        after += len(page)


def save_lines(unit: Unit, branch: str, day: date, revision: int, part: Part, texts: Iterable[str]) -> None:
    """Writes the lines of a part, as they come."""
    insertion = sa.insert(billing_certificate_line)
    place = {"branch": branch, "day": day, "revision": revision, "part": int(part)}
    numbered = enumerate(texts, start=1)
    while batch := list(islice(numbered, _BATCH)):
        unit.session.execute(insertion, [{**place, "number": number, "line": text} for number, text in batch])


def save(unit: Unit, **values: Any) -> None:
    """Writes a certificate."""
    unit.session.execute(sa.insert(billing_certificate), values)


def save_key(unit: Unit, kid: str, jwk: str) -> None:
    """Remembers a public key that something is signed with."""
    unit.session.execute(insert(billing_key).values(kid=kid, jwk=jwk, used_at=unit.at).on_conflict_do_nothing())


def keys(session: Session) -> Sequence[str]:
    """All public keys that something was signed with, the first first."""
    return list(session.scalars(sa.select(billing_key.c.jwk).order_by(billing_key.c.used_at, billing_key.c.kid)))
