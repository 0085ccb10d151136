"""One person under all of his ids, and what is kept about him."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from google.protobuf.message import Message

from chassis.errors import NotFound
from chassis.personal import holds_personal
from chassis.unit import Unit
from customers.account.domain import Account, owners
from customers.identity.store import members_sql, party_members
from customers.party.domain import Individual
from customers.privacy.domain import Need, owed
from customers.schema import rule_under_merge
from customers.view.sections import SECTIONS

# What keeps a person, as long as it runs or is open.
_KEEPING = ("Product", "ProductOrder")
_ORDER = "ProductOrder"


@dataclass(frozen=True, slots=True)
class Person:
    """An individual (or an organization): the survivor's id, all ids, and those of the customers that it is."""

    id: str
    branch: str
    # The type of the aggregate.
    kind: str
    party_ids: tuple[str, ...]
    customer_ids: tuple[str, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All ids under which something is about the person."""
        return (*self.party_ids, *self.customer_ids)


# Also what was deleted: the log still tells of it. A customer's party is looked up by who asks.
_PARTY = """
    SELECT kind, id, branch FROM (
        SELECT 1 AS place, 'Individual' AS kind, id, branch FROM individual WHERE id = %(id)s
        UNION ALL SELECT 1, 'Organization', id, branch FROM organization WHERE id = %(id)s
        UNION ALL (
            SELECT 2, aggregate_type, aggregate_id, branch FROM event
            WHERE aggregate_id = %(id)s AND aggregate_type IN ('Individual', 'Organization') LIMIT 1
        )
    ) AS known ORDER BY place LIMIT 1
"""
_ENGAGED = "SELECT engaged_party ->> 'id', branch FROM customer WHERE id = %(id)s"
_CUSTOMERS = """
    SELECT c.id FROM reference r JOIN customer c ON c.id = r.referrer_id
    WHERE r.target_id = ANY (%(parties)s) AND r.referrer_type = 'Customer'
        AND c.engaged_party ->> 'id' = ANY (%(parties)s)
"""
_MEMBERS = f"SELECT unnest({members_sql('%(id)s::text')})"


def find(unit: Unit, id: str) -> Person:
    """The person of an individual's, organization's or customer's id. Raises NotFound."""
    party = _row(unit, _PARTY, id)
    if party is not None:
        kind, party_id, branch = party
        return _person(unit, party_id, branch, kind)
    engaged = _row(unit, _ENGAGED, id)
    if engaged is None:
        raise NotFound("NOT_FOUND", f"there is no person {id!r}", metadata={"resource": "Individual", "id": id})
    party_id, branch = engaged
    party = _row(unit, _PARTY, party_id) if party_id else None
    if party is None:
        # A customer whose party nobody has told us of.
        return Person(id, branch, "Customer", (), _members(unit, [id]))
    return _person(unit, party_id, branch, party[0], id)


def individual(unit: Unit, id: str) -> Person:
    """The person of an individual's id. Raises NotFound for what isn't one."""
    party = _row(unit, _PARTY, id)
    if party is None or party[0] != Individual.__name__:
        raise NotFound("NOT_FOUND", f"there is no Individual {id!r}", metadata={"resource": "Individual", "id": id})
    return _person(unit, id, party[2], party[0])


def _row(unit: Unit, query: str, id: str) -> Sequence[str] | None:
    with unit.cursor() as cursor:
        return cursor.execute(query, {"id": id}).fetchone()


def _person(unit: Unit, party_id: str, branch: str, kind: str, *customers: str) -> Person:
    parties = party_members(unit, party_id)
    with unit.cursor() as cursor:
        engaging = [str(row[0]) for row in cursor.execute(_CUSTOMERS, {"parties": list(parties)})]
    return Person(parties[0], branch, kind, parties, _members(unit, [*customers, *engaging]))


def _members(unit: Unit, customers: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for customer in customers:
        if customer not in found:
            with unit.cursor() as cursor:
                found |= dict.fromkeys(str(row[0]) for row in cursor.execute(_MEMBERS, {"id": customer}))
    return tuple(found)


_ABOUT = """
    WITH item AS (
        -- An organization that is somebody's household isn't his own.
        SELECT DISTINCT kind, item_id FROM view_item
        WHERE subject_id = ANY (%(ids)s) AND (kind <> 'Organization' OR item_id = subject_id)
    )
    SELECT kind, item_id FROM item
    UNION
    SELECT v.kind, v.item_id FROM item JOIN view_item v ON v.subject_id = item.item_id WHERE item.kind = %(order)s
"""
_REFERRING = """
    SELECT referrer_type, referrer_id FROM reference
    WHERE target_id = ANY (%(ids)s) AND referrer_type = ANY (%(accounts)s)
"""


def records(unit: Unit, person: Person) -> set[tuple[str, str]]:
    """Kind and id of all that is kept about the person, what is no more included; an account that is also somebody
    else's isn't his."""
    accounts = _account_kinds(unit)
    values = {"ids": list(person.subjects), "order": _ORDER, "accounts": list(accounts)}
    with unit.cursor() as cursor:
        found = {(str(row[0]), str(row[1])) for row in cursor.execute(_ABOUT, values)}
        # Also what the view hasn't heard of yet.
        found |= {(str(row[0]), str(row[1])) for row in cursor.execute(_REFERRING, values)}
    found |= set(_by_column(unit, person))
    found |= {(person.kind, party) for party in person.party_ids}
    found |= {("Customer", customer) for customer in person.customer_ids}
    others = {(type(account).__name__, account.id) for account in _accounts(unit, found) if not _owned(account, person)}
    return found - others


def _by_column(unit: Unit, person: Person) -> Iterator[tuple[str, str]]:
    """Those of our own things whose table says in which columns it names a customer or party."""
    for cls, resource in unit.database.resources.items():
        _, columns = rule_under_merge(resource.table) or (None, ())
        names = [name for name in columns if isinstance(resource.table.c[name].type, sa.Text)]
        if names and holds_personal(resource.message.DESCRIPTOR):
            for name in names:
                # Names of our own tables and columns.
                query = f"SELECT id FROM {resource.table.name} WHERE {name} = ANY (%(ids)s)"  # noqa: S608
                with unit.cursor() as cursor:
                    rows = cursor.execute(query, {"ids": list(person.subjects)}).fetchall()
                yield from ((cls.__name__, str(row[0])) for row in rows)


def _account_kinds(unit: Unit) -> dict[str, type[Account]]:
    return {cls.__name__: cls for cls in unit.database.resources if issubclass(cls, Account)}


def _accounts(unit: Unit, found: Iterable[tuple[str, str]]) -> Iterator[Account]:
    kinds = _account_kinds(unit)
    for name, cls in kinds.items():
        ids = sorted(key for kind, key in found if kind == name)
        if ids:
            yield from unit.load(cls, "id = ANY (%(ids)s)", {"ids": ids})


def _owned(account: Account, person: Person) -> bool:
    parties = owners(account.related_party) or [party.id for party in account.related_party if party.id]
    return set(parties) <= set(person.subjects)


_OPEN = """
    SELECT DISTINCT kind, item_id FROM view_item
    WHERE subject_id = ANY (%(ids)s) AND kind = ANY (%(kinds)s) AND open AND replaced_at IS NULL AND NOT deleted
    ORDER BY kind, item_id
"""


def needs(unit: Unit, person: Person, found: Iterable[tuple[str, str]]) -> list[Need]:
    """What keeps the person from being erased: products that run, open orders, accounts with debts."""
    with unit.cursor() as cursor:
        values = {"ids": list(person.subjects), "kinds": list(_KEEPING)}
        open_ones = [Need(str(row[0]), str(row[1])) for row in cursor.execute(_OPEN, values)]
    debts = [
        Need(f"the debt of {type(account).__name__}", account.id)
        for account in _accounts(unit, found)
        if owed((balance.balance_type or "", balance.amount) for balance in account.account_balance)
    ]
    return open_ones + debts


def message_class(unit: Unit, kind: str) -> type[Message] | None:
    """What the events and versions of a kind carry; None for one that isn't known here."""
    for cls, resource in unit.database.resources.items():
        if cls.__name__ == kind:
            return resource.message
    section = SECTIONS.get(kind)
    return section.message if section is not None else None
