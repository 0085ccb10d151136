"""The database as a service uses it: what it waits for, what it gives up, and what it says of bad input."""

from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from chassis.db import Database
from chassis.events import acting
from tests.chassis import things


def test_a_pool_without_a_free_connection_is_not_ready_and_does_not_raise(database: Database) -> None:
    with ExitStack() as held:
        for _ in range(16):
            held.enter_context(database.engine.connect())
        assert database.ready() is False
    assert database.ready() is True
