"""Servers that somebody else runs (DATABASE_URL, NATS_URL): whether they will do, before anything stands on them."""

import asyncio

import nats.errors
import psycopg
from nats.aio.client import Client
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from svyaz_cli.embedded import StartError

OLDEST_POSTGRES = 15
# What a service opens at most is DATABASE_CONNECTIONS in each of three pools: for callers' transactions, for reads of
# single rows, and for what it does by itself.
_POOLS = 3
_MOST_CONNECTIONS = 16
_FEWEST_CONNECTIONS = 4
# For migrations, and for whoever looks at what is wrong.
_SPARE_CONNECTIONS = 8
_PATIENCE_SECONDS = 5
_PROBE = """
    SELECT current_setting('server_version_num')::int / 10000, rolsuper OR (rolcreatedb AND rolcreaterole),
        (
            SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)::int FROM pg_settings
            WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
        )
    FROM pg_roles WHERE rolname = current_user
"""


def check_postgres(url: str, services: int) -> int:
    """How many connections a pool of each of so many services may hold.

    Raises StartError when the server can't be reached, is too old or too small, or its user may not do what we need.
    """
    try:
        make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StartError("DATABASE_URL must be postgresql://user:password@host:port/database, of one host") from error
    try:
        with psycopg.connect(url, connect_timeout=_PATIENCE_SECONDS) as connection:
            version, mighty, connections = connection.execute(_PROBE).fetchone() or (0, False, 0)
    except psycopg.Error as error:
        raise StartError(f"the PostgreSQL of DATABASE_URL can't be used: {error}") from error
    if version < OLDEST_POSTGRES:
        raise StartError(f"the PostgreSQL of DATABASE_URL is {version}: {OLDEST_POSTGRES} or later is needed")
    if not mighty:
        raise StartError("the user of DATABASE_URL must be a superuser, or have CREATEDB and CREATEROLE")
    each = (connections - _SPARE_CONNECTIONS) // (_POOLS * services)
    if each < _FEWEST_CONNECTIONS:
        needed = _FEWEST_CONNECTIONS * _POOLS * services + _SPARE_CONNECTIONS
        raise StartError(f"the PostgreSQL of DATABASE_URL takes {connections} connections: {needed} are needed")
    return int(min(each, _MOST_CONNECTIONS))


def check_nats(url: str) -> None:
    """Raises StartError when the server can't be reached or has no JetStream."""
    refusals: list[Exception] = []
    try:
        asyncio.run(_ask_jetstream(url, refusals))
    except (OSError, ValueError, TimeoutError, nats.errors.Error) as error:
        # What the server said tells more than that it hung up.
        said = [refusal for refusal in refusals if isinstance(refusal, nats.errors.Error)]
        why = repr((said or refusals or [error])[-1])
        raise StartError(f"the NATS of NATS_URL can't be used (it needs JetStream): {why}") from error


async def _ask_jetstream(url: str, refusals: list[Exception]) -> None:
    async def remember(error: Exception) -> None:
        refusals.append(error)

    # The client itself would go on trying for two minutes.
    async with asyncio.timeout(_PATIENCE_SECONDS):
        client = Client()
        try:
            await client.connect(url, allow_reconnect=False, error_cb=remember)
            await client.jetstream().account_info()
        finally:
            await client.close()
