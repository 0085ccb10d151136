"""What is read of a customer for a decision, while nobody else decides about him."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from chassis.unit import Unit
from customers.identity.store import members_sql
from customers.matching.keys import Kind
from customers.permission.facts import Consent, Contact, OptOut
from customers.permission.media import Owner, Said

# Contacts farther from the one that is asked for are in no cap with it.
_NEAR = timedelta(days=33)


# Some number that no other lock of ours is seeded with.
_SEED = 7_200_411_974
# In one order everywhere: two who want the same two don't wait for each other. What is read under the lock is looked up
# by ids and values, the same way whatever these are: to plan it anew each time costs several times what it does itself.
LOCK = f"""
    SELECT
        pg_advisory_xact_lock(hashtextextended(id, {_SEED})),
        set_config('plan_cache_mode', 'force_generic_plan', true)
    FROM (SELECT DISTINCT unnest(%(ids)s::text[]) AS id ORDER BY 1) AS wanted
"""  # noqa: S608 (a number of our own)


# Whose media a customer's are: his under all his ids, and those of the parties that he is, under all of theirs. Of a
# party's id: its own. (OFFSET: the members are looked up once, not wherever the statement names them.)
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
    FROM (SELECT {members_sql("%(id)s::text")} AS members OFFSET 0) AS same
"""  # noqa: S608 (parts of our own)


@dataclass(frozen=True, slots=True)
class Same:
    """All ids of a customer (the survivor's first), and those of whom his media are; of a party, its own."""

    customers: tuple[str, ...]
    owners: tuple[str, ...]


def same(unit: Unit, id: str) -> Same:
    """Who else a customer is."""
    row = unit.begin(_SAME, {"id": id})
    assert row is not None
    return _same(row)


def locked(unit: Unit, id: str) -> Same:
    """`same`, and until the end of the transaction nobody else decides about this customer, or changes what is decided
    by, under whichever id."""
    ids = [id]
    while True:
        # A statement of its own, so that it sees what was committed while the lock was waited for.
        _, (row,) = unit.begin_all((LOCK, {"ids": ids}), (_SAME, {"id": id}))
        found = _same(row)
        if set(found.customers) <= set(ids):
            return found
        ids = sorted({*ids, *found.customers})


def _same(row: tuple[Any, ...]) -> Same:
    return Same(tuple(row[0]), tuple(filter(None, row[1])))


# --- what a decision is taken by -------------------------------------------------------------------------------------

# The characteristic by which a customer or party says by which clock he lives.
_TIME_ZONE = "timeZone"


def _owners_of(table: str, characteristic: str, owners: str) -> str:
    return f"""
        SELECT id, branch, coalesce(contact_medium, '[]') AS contact_medium, ARRAY(
            SELECT one ->> 'value' FROM jsonb_array_elements({characteristic}) AS one
            WHERE one ->> 'name' = '{_TIME_ZONE}' AND jsonb_typeof(one -> 'value') = 'string'
        ) AS time_zone
        FROM {table} WHERE id = ANY ({owners})
    """  # noqa: S608 (names of our own)


def _media(owners: str) -> dict[str, str]:
    """What the owners list, and what was said of it."""
    tables = (
        ("customer", "characteristic"),
        ("individual", "party_characteristic"),
        ("organization", "party_characteristic"),
    )
    return {
        "owners": " UNION ALL ".join(_owners_of(table, name, owners) for table, name in tables),
        "points": f"""
            SELECT id, kind, value, state, state_at, coalesce(purpose, '[]') AS purpose,
                coalesce(best_time, '[]') AS best_time
            FROM contact_point WHERE owner_id = ANY ({owners}) ORDER BY id
        """,  # noqa: S608 (a parameter, or a query of our own)
    }


# Of the customer that is asked for, as `_SAME` finds who he is.
_MEMBERS, _OWNERS = "(SELECT members FROM same)::text[]", "(SELECT owners FROM same)::text[]"
# Also those that come into force while locks are waited for.
_POLICIES = f"""
    SELECT id, revision, effective_from FROM permission_policy
    WHERE branch = (SELECT branch FROM customer WHERE id = ({_MEMBERS})[1])
        AND effective_from <= %(at)s + interval '1 minute'
    ORDER BY effective_from DESC, version DESC LIMIT 5
"""  # noqa: S608 (a query of our own)
_CONSENTS = f"""
    SELECT id, channel, given_at, valid_until, withdrawn_at FROM contact_consent
    WHERE customer_id = ANY ({_MEMBERS}) AND purpose = %(purpose)s
    ORDER BY coalesce(withdrawn_at, given_at) DESC, id LIMIT 200
"""  # noqa: S608 (a query of our own)
_OPT_OUTS = f"""
    SELECT id, channel, purpose FROM contact_opt_out
    WHERE customer_id = ANY ({_MEMBERS}) AND lifted_at IS NULL
        AND (channel IS NULL OR channel = %(channel)s) AND (purpose IS NULL OR purpose = %(purpose)s)
    ORDER BY id LIMIT 20
"""  # noqa: S608 (a query of our own)
_DO_NOT_CALL = f"""
    SELECT id FROM do_not_call_entry
    WHERE customer_id = ANY ({_MEMBERS}) AND lifted_at IS NULL AND (until IS NULL OR until > %(at)s)
    ORDER BY id LIMIT 1
"""  # noqa: S608 (a query of our own)
# Of each purpose and channel, on either side of the instant, as many of the nearest as the largest cap may count.
_CONTACTS = f"""
    SELECT contact_at AS at, channel, purpose, CASE WHEN state = 'reserved' THEN expires_at END AS expires_at
    FROM (
        SELECT id, contact_at, channel, purpose, state, expires_at, row_number() OVER (
            PARTITION BY purpose, channel, contact_at <= %(at)s
            ORDER BY abs(extract(epoch FROM contact_at - %(at)s))
        ) AS place
        FROM contact_decision
        WHERE customer_id = ANY ({_MEMBERS}) AND state IN ('reserved', 'spent') AND id <> %(own)s
            AND contact_at BETWEEN %(since)s AND %(until)s AND (state = 'spent' OR expires_at > %(now)s)
    ) AS near
    WHERE place <= %(most)s ORDER BY contact_at, id
"""  # noqa: S608 (a query of our own)


def _list(name: str, query: str) -> str:
    return f"'{name}', (SELECT coalesce(json_agg(one), '[]') FROM ({query}) AS one)"  # noqa: S608 (queries of our own)


def _all_of(lists: Mapping[str, str], more: str = "") -> str:
    return f"json_build_object({', '.join(_list(name, query) for name, query in lists.items())}{more})::text"


# One statement: each of its own costs the driver more than all of them together cost the server.
_KNOWN = f"""
    WITH same (members, owners) AS MATERIALIZED ({_SAME})
    SELECT {
    _all_of(
        {
            **_media(_OWNERS),
            "policies": _POLICIES,
            "consents": _CONSENTS,
            "opt_outs": _OPT_OUTS,
            "do_not_call": _DO_NOT_CALL,
            "contacts": _CONTACTS,
        },
        ", 'customers', (SELECT to_json(members) FROM same)",
    )
}
"""  # noqa: S608 (queries of our own)
_LISTED = f"SELECT {_all_of(_media('%(owners)s::text[]'))}"
# By value: what lists it as not to be called, and since when it is known not to exist. On the list is a number of its
# own, and one that belongs to a customer who is.
_OF_VALUES = f"""
    SELECT number AS value, id AS entry, NULL::timestamptz AS missing FROM do_not_call_entry
    WHERE branch = %(branch)s AND number = ANY (%(values)s::text[]) AND lifted_at IS NULL
        AND (until IS NULL OR until > %(at)s)
    UNION ALL
    SELECT number, registry_id, NULL FROM do_not_call_number
    WHERE branch = %(branch)s AND number = ANY (%(values)s::text[])
    UNION ALL
    SELECT value, NULL, state_at FROM contact_point
    WHERE branch = %(branch)s AND value = ANY (%(values)s::text[]) AND state = 'doesNotExist'
    UNION ALL
    SELECT filed.value, entry.id, NULL FROM (
        SELECT value, source_id AS customer_id FROM party_key
        WHERE value = ANY (%(values)s::text[]) AND kind = {Kind.PHONE:d} AND branch = %(branch)s
        UNION
        SELECT key.value, engaging.referrer_id FROM party_key key JOIN reference engaging
            ON engaging.target_id = key.party_id AND engaging.referrer_type = 'Customer'
        WHERE key.value = ANY (%(values)s::text[]) AND key.kind = {Kind.PHONE:d} AND key.branch = %(branch)s
    ) AS filed JOIN do_not_call_entry entry ON entry.customer_id = filed.customer_id
    WHERE entry.lifted_at IS NULL AND (entry.until IS NULL OR entry.until > %(at)s)
"""  # noqa: S608 (a number of our own)
# Of those who are made to other customers by a medium that this one has too, as many as of his own.
_SHARED = """
    SELECT medium, contact_at AS at, channel, purpose, CASE WHEN state = 'reserved' THEN expires_at END AS expires_at
    FROM (
        SELECT id, medium_value AS medium, contact_at, channel, purpose, state, expires_at, row_number() OVER (
            PARTITION BY medium_value, purpose, channel, contact_at <= %(at)s
            ORDER BY abs(extract(epoch FROM contact_at - %(at)s))
        ) AS place
        FROM contact_decision
        WHERE branch = %(branch)s AND medium_value = ANY (%(values)s::text[]) AND customer_id <> ALL (%(ids)s::text[])
            AND state IN ('reserved', 'spent') AND id <> %(own)s AND contact_at BETWEEN %(since)s AND %(until)s
            AND (state = 'spent' OR expires_at > %(now)s)
    ) AS near
    WHERE place <= %(most)s ORDER BY contact_at, id
"""
_READ_VALUES = f"SELECT {_all_of({'values': _OF_VALUES})}"
_READ_SHARED = f"SELECT {_all_of({'values': _OF_VALUES, 'contacts': _SHARED})}"


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know of a customer, for about when, and the decision (his own) that isn't counted."""

    customer: str
    channel: str
    purpose: str
    at: datetime
    now: datetime
    own: str = ""
    # How many contacts the largest cap may count.
    most: int = 1_000

    @property
    def parameters(self) -> dict[str, Any]:
        """As the statements name them."""
        return {
            "id": self.customer,
            "channel": self.channel,
            "purpose": self.purpose,
            "at": self.at,
            "now": self.now,
            "own": self.own,
            "since": self.at - _NEAR,
            "until": self.at + _NEAR,
            "most": self.most,
        }


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy in one of its states, and from when it is in force."""

    id: str
    revision: int
    effective_from: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A do-not-call entry."""

    id: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows for an answer: of all ids of the customer, the survivor's first; of policies the last to
    come into force first; of entries there is one or none."""

    owners: tuple[Owner, ...]
    points: tuple[Said, ...]
    customers: tuple[str, ...] = ()
    policies: tuple[InForce, ...] = ()
    consents: tuple[Consent, ...] = ()
    opt_outs: tuple[OptOut, ...] = ()
    do_not_call: tuple[Entry, ...] = ()
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class _OfValue:
    """What is known of a value, whosever it is: an entry by which it isn't called, or since when it doesn't exist."""

    value: str
    entry: str | None = None
    missing: datetime | None = None


@dataclass(frozen=True, slots=True)
class OfValues:
    """What is known of the values of media: value → entry, value → since when it is known not to exist; and the
    contacts with others by these values."""

    blocked: Mapping[str, str]
    missing: Mapping[str, datetime]
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class _Values:
    values: tuple[_OfValue, ...]
    contacts: tuple[Contact, ...] = ()


_read = msgspec.json.Decoder(Known).decode
_read_values = msgspec.json.Decoder(_Values).decode


def known(unit: Unit, question: Question) -> Known:
    """Everything that a decision needs and that is found by the customer's ids; until the end of the transaction nobody
    else decides about him, or changes what is decided by, under whichever id."""
    ids = [question.customer]
    while True:
        found = _read(_locked(unit, ids, _KNOWN, question.parameters))
        if set(found.customers) <= set(ids):
            return found
        # They are one with others: few are.
        ids = sorted({*ids, *found.customers})


def shared(unit: Unit, branch: str, values: Iterable[str], question: Question, customers: Sequence[str]) -> OfValues:
    """What is known of the values of the customer's media, and the contacts with others by them; until the end of the
    transaction nobody else decides about who has one of them. Who holds this lock waits for no customer's."""
    wanted = sorted(set(values))
    if not wanted:
        return OfValues({}, {})
    parameters = {**question.parameters, "branch": branch, "values": wanted, "ids": list(customers)}
    return _of_values(_locked(unit, [_lock_of(branch, value) for value in wanted], _READ_SHARED, parameters))


def lock_value(unit: Unit, branch: str, value: str) -> None:
    """Until the end of the transaction nobody decides about a customer who has the medium."""
    unit.cursor().execute(LOCK, {"ids": [_lock_of(branch, value)]})


def _lock_of(branch: str, value: str) -> str:
    return f"medium {branch} {value}"


def _locked(unit: Unit, ids: Sequence[str], statement: str, parameters: Mapping[str, Any]) -> str:
    """The only value of the statement's only row, read once the locks are held, in one round trip."""
    # A statement of its own, so that it sees what was committed while the lock was waited for.
    _, ((value,),) = unit.begin_all((LOCK, {"ids": list(ids)}), (statement, parameters))
    return str(value)


def owners(unit: Unit, ids: Sequence[str]) -> Known:
    """Customers or parties with the media that they list, and what was said of media of theirs; nothing else."""
    row = unit.cursor().execute(_LISTED, {"owners": list(ids)}).fetchone()
    assert row is not None
    return _read(row[0])


def of_values(unit: Unit, branch: str, values: Iterable[str], at: datetime) -> OfValues:
    """What is known of the values, without the contacts."""
    wanted = sorted(set(values))
    if not wanted:
        return OfValues({}, {})
    row = unit.cursor().execute(_READ_VALUES, {"branch": branch, "values": wanted, "at": at}).fetchone()
    assert row is not None
    return _of_values(row[0])


def _of_values(text: str) -> OfValues:
    found = _read_values(text)
    blocked: dict[str, str] = {}
    missing: dict[str, datetime] = {}
    for one in found.values:
        if one.entry is not None:
            blocked[one.value] = min(one.entry, blocked.get(one.value, one.entry))
        elif one.missing is not None:
            missing[one.value] = max(one.missing, missing.get(one.value, one.missing))
    return OfValues(blocked, missing, found.contacts)
