"""What is read of a customer for a decision, while nobody else decides about him."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from chassis.db import Unit
from customers.identity.store import members_sql
from customers.permission.facts import Consent, Contact, OptOut
from customers.permission.media import Owner, Said

# Contacts farther from the one that is asked for are in no cap with it.
_NEAR = timedelta(days=33)


# Some number that no other lock of ours is seeded with.
_SEED = 7_200_411_974
# In one order everywhere: two who want the same two don't wait for each other.
LOCK = f"""
    SELECT pg_advisory_xact_lock(hashtextextended(id, {_SEED}))
    FROM (SELECT DISTINCT unnest(%(ids)s::text[]) AS id ORDER BY 1) AS wanted
"""  # noqa: S608 (a number of our own)


# Whose media a customer's are: his under all his ids, and those of the parties that he is, under all of theirs. Of a
# party's id: its own.
_SAME = f"""
    SELECT members, ARRAY(
        WITH named AS (
            SELECT unnest(members) AS id
            UNION SELECT engaged_party ->> 'id' FROM customer WHERE id = ANY (members)
        ), roots AS (
            SELECT coalesce(survivor_id, id) AS id FROM named LEFT JOIN merged_party ON absorbed_id = named.id
        )
        SELECT id FROM named UNION SELECT id FROM roots
        UNION SELECT absorbed_id FROM merged_party JOIN roots ON survivor_id = roots.id
    )
    FROM (SELECT {members_sql("%(id)s::text")} AS members) AS same
"""  # noqa: S608 (parts of our own)


@dataclass(frozen=True, slots=True)
class Same:
    """All ids of a customer (the survivor's first), and those of whom his media are; of a party, its own."""

    customers: tuple[str, ...]
    owners: tuple[str, ...]


def same(unit: Unit, id: str) -> Same:
    """Who else a customer is."""
    return _same(unit.cursor().execute(_SAME, {"id": id}))


def locked(unit: Unit, id: str) -> Same:
    """`same`, and until the end of the transaction nobody else decides about this customer, or changes what is decided
    by, under whichever id."""
    ids = [id]
    while True:
        with unit.connection().pipeline(), unit.cursor() as lock, unit.cursor() as cursor:
            lock.execute(LOCK, {"ids": ids})
            # A statement of its own, so that it sees what was committed while the lock was waited for.
            found = _same(cursor.execute(_SAME, {"id": id}))
        if set(found.customers) <= set(ids):
            return found
        ids = sorted({*ids, *found.customers})


def _same(cursor: Any) -> Same:
    row = cursor.fetchone()
    assert row is not None
    return Same(tuple(row[0]), tuple(filter(None, row[1])))


# --- what a decision is taken by -------------------------------------------------------------------------------------

# The characteristic by which a customer or party says by which clock he lives.
_TIME_ZONE = "timeZone"


def _owners_of(table: str, characteristic: str) -> str:
    return f"""
        SELECT id, branch, coalesce(contact_medium, '[]') AS contact_medium, ARRAY(
            SELECT one ->> 'value' FROM jsonb_array_elements({characteristic}) AS one
            WHERE one ->> 'name' = '{_TIME_ZONE}' AND jsonb_typeof(one -> 'value') = 'string'
        ) AS time_zone
        FROM {table} WHERE id = ANY (%(owners)s::text[])
    """  # noqa: S608 (names of our own)


_OWNERS = " UNION ALL ".join(
    (
        _owners_of("customer", "characteristic"),
        _owners_of("individual", "party_characteristic"),
        _owners_of("organization", "party_characteristic"),
    )
)
_POINTS = """
    SELECT id, kind, value, state, state_at, coalesce(purpose, '[]') AS purpose, coalesce(best_time, '[]') AS best_time
    FROM contact_point WHERE owner_id = ANY (%(owners)s::text[]) ORDER BY id
"""
_POLICY = """
    SELECT id, revision FROM permission_policy
    WHERE branch = (SELECT branch FROM customer WHERE id = %(id)s) AND effective_from <= %(at)s
    ORDER BY effective_from DESC, version DESC LIMIT 1
"""
_CONSENTS = """
    SELECT id, channel, given_at, valid_until, withdrawn_at FROM contact_consent
    WHERE customer_id = ANY (%(ids)s::text[]) AND purpose = %(purpose)s
    ORDER BY coalesce(withdrawn_at, given_at) DESC, id LIMIT 200
"""
_OPT_OUTS = """
    SELECT id, channel, purpose FROM contact_opt_out
    WHERE customer_id = ANY (%(ids)s::text[]) AND lifted_at IS NULL
        AND (channel IS NULL OR channel = %(channel)s) AND (purpose IS NULL OR purpose = %(purpose)s)
    ORDER BY id LIMIT 20
"""
_DO_NOT_CALL = """
    SELECT id FROM do_not_call_entry
    WHERE customer_id = ANY (%(ids)s::text[]) AND lifted_at IS NULL AND (until IS NULL OR until > %(at)s)
    ORDER BY id LIMIT 1
"""
# Of each purpose and channel, on either side of the instant, as many of the nearest as the largest cap may count.
_CONTACTS = """
    SELECT contact_at AS at, channel, purpose, CASE WHEN state = 'reserved' THEN expires_at END AS expires_at
    FROM (
        SELECT id, contact_at, channel, purpose, state, expires_at, row_number() OVER (
            PARTITION BY purpose, channel, contact_at <= %(at)s
            ORDER BY abs(extract(epoch FROM contact_at - %(at)s))
        ) AS place
        FROM contact_decision
        WHERE customer_id = ANY (%(ids)s::text[]) AND state IN ('reserved', 'spent') AND id <> %(own)s
            AND contact_at BETWEEN %(since)s AND %(until)s AND (state = 'spent' OR expires_at > %(now)s)
    ) AS near
    WHERE place <= %(most)s ORDER BY contact_at, id
"""


def _list(name: str, query: str) -> str:
    return f"'{name}', (SELECT coalesce(json_agg(one), '[]') FROM ({query}) AS one)"  # noqa: S608 (queries of our own)


# One statement: each of its own costs the driver more than all of them together cost the server.
_KNOWN = f"""
    SELECT json_build_object(
        {_list("owners", _OWNERS)}, {_list("points", _POINTS)}, {_list("policy", _POLICY)},
        {_list("consents", _CONSENTS)}, {_list("opt_outs", _OPT_OUTS)}, {_list("do_not_call", _DO_NOT_CALL)},
        {_list("contacts", _CONTACTS)}
    )::text
"""
_LISTED = f"SELECT json_build_object({_list('owners', _OWNERS)}, {_list('points', _POINTS)})::text"
# By value: what lists it as not to be called, and since when it is known not to exist.
_READ_VALUES = """
    SELECT number, id, NULL::timestamptz FROM do_not_call_entry
    WHERE branch = %(branch)s AND number = ANY (%(values)s::text[]) AND lifted_at IS NULL
        AND (until IS NULL OR until > %(at)s)
    UNION ALL
    SELECT number, registry_id, NULL FROM do_not_call_number
    WHERE branch = %(branch)s AND number = ANY (%(values)s::text[])
    UNION ALL
    SELECT value, NULL, state_at FROM contact_point
    WHERE branch = %(branch)s AND value = ANY (%(values)s::text[]) AND state = 'doesNotExist'
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know, and the decision (his own) that isn't counted."""

    same: Same
    channel: str
    purpose: str
    at: datetime
    now: datetime
    own: str = ""
    # How many contacts the largest cap may count.
    most: int = 1_000


@dataclass(frozen=True, slots=True)
class InForce:
    """Which policy is in force, in which state."""

    id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A do-not-call entry."""

    id: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows for an answer; of policies and entries there is one or none."""

    owners: tuple[Owner, ...]
    points: tuple[Said, ...]
    policy: tuple[InForce, ...] = ()
    consents: tuple[Consent, ...] = ()
    opt_outs: tuple[OptOut, ...] = ()
    do_not_call: tuple[Entry, ...] = ()
    contacts: tuple[Contact, ...] = ()


_read = msgspec.json.Decoder(Known).decode


def known(unit: Unit, question: Question) -> Known:
    """Everything that a decision needs and that is found by the customer's ids."""
    parameters = {
        "ids": list(question.same.customers),
        "id": question.same.customers[0],
        "owners": list(question.same.owners),
        "channel": question.channel,
        "purpose": question.purpose,
        "at": question.at,
        "now": question.now,
        "own": question.own,
        "since": question.at - _NEAR,
        "until": question.at + _NEAR,
        "most": question.most,
    }
    return _found(unit, _KNOWN, parameters)


def _found(unit: Unit, statement: str, parameters: Mapping[str, Any]) -> Known:
    row = unit.cursor().execute(statement, parameters).fetchone()
    assert row is not None
    return _read(row[0])


def owners(unit: Unit, ids: Sequence[str]) -> Known:
    """Customers or parties with the media that they list, and what was said of media of theirs; nothing else."""
    return _found(unit, _LISTED, {"owners": list(ids)})


def of_values(
    unit: Unit, branch: str, values: Iterable[str], at: datetime
) -> tuple[Mapping[str, str], Mapping[str, datetime]]:
    """Value → the entry or registry by which it isn't called; value → since when it is known not to exist."""
    wanted = sorted(set(values))
    blocked: dict[str, str] = {}
    missing: dict[str, datetime] = {}
    if wanted:
        parameters = {"branch": branch, "values": wanted, "at": at}
        for value, entry, since in unit.cursor().execute(_READ_VALUES, parameters):
            if entry is not None:
                blocked[value] = min(entry, blocked.get(value, entry))
            elif since is not None:
                missing[value] = max(since, missing.get(value, since))
    return blocked, missing
