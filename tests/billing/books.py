"""The orders database as the billing tests see it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from chassis import calls
from chassis.clock import Clock
from chassis.db import Database
from chassis.unit import Unit
from orders.billing import store
from orders.billing.domain import ZERO_HASH, ChargeEvent
from orders.schema import metadata
from tests.conftest import ServiceDatabase


def connected(url: str, *, connections: int = 16, clock: Clock | None = None) -> Database:
    """The database, entered as the service."""
    return Database(url, clock=clock or Clock(), metadata=metadata, resources={}, connections=connections)


@contextmanager
def acting(database: Database, branch: str = "*") -> Iterator[Unit]:
    """A transaction of the service for a branch."""
    with calls.using(calls.Call.background("orders", "test", branches=(branch,))), database.unit() as unit:
        yield unit


def write(database: Database, charges: Sequence[ChargeEvent]) -> None:
    """What an order's transaction does."""
    with acting(database, charges[0].branch) as unit:
        store.add_charges(unit, charges)
        unit.after_commit(database.wake)


def superuser(place: ServiceDatabase) -> str:
    """A URL of the database that no policy holds back."""
    return sa.make_url(place.admin_url).set(database=place.name).render_as_string(hide_password=False)


def check_chains(admin_url: str) -> dict[tuple[str, int], int]:
    """Verifies every chain with nothing but SQL and SHA-256: (account, epoch) -> length. Nothing may be unsealed."""
    lengths: dict[tuple[str, int], int] = {}
    ends: dict[tuple[str, int], str] = {}
    with psycopg.connect(admin_url) as connection:
        assert connection.execute("SELECT count(*) AS n FROM charge_event WHERE sequence IS NULL").fetchone() == (0,)
        rows = connection.execute(
            "SELECT account, epoch, sequence, previous_hash, hash, data, event_id FROM charge_event ORDER BY 1, 2, 3"
        )
        for account, epoch, sequence, previous_hash, hash_, data, event_id in rows:
            chain = (account, epoch)
            expected = lengths.get(chain, 0) + 1
            assert sequence == expected
            assert previous_hash == ends.get(chain, ZERO_HASH)
            assert hash_ == hashlib.sha256(previous_hash.encode() + data).hexdigest()
            content = json.loads(data)
            assert (content["account"], content["epoch"], content["sequence"]) == (*chain, expected)
            assert content["id"] == event_id
            lengths[chain], ends[chain] = expected, hash_
        heads = connection.execute(
            "SELECT account, epoch, last_sequence, last_hash, count FROM billing_chain"
        ).fetchall()
    assert sorted(heads) == sorted((*chain, length, ends[chain], length) for chain, length in lengths.items())
    return lengths
