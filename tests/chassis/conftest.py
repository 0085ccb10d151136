"""A database and a bus for the tests of the chassis."""

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from chassis.db import Database
from tests.chassis import things
from tests.conftest import ServiceDatabase


@pytest.fixture
def service_database(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    """An own database with the chassis's tables."""
    made = database_for(things.SERVICE, package="")
    things.create(made)
    return made


@pytest.fixture
def database(service_database: ServiceDatabase) -> Iterator[Database]:
    """It, as the service's role."""
    connected = things.connect(service_database)
    yield connected
    connected.close()


@pytest.fixture
def told() -> Iterator[threading.Event]:
    """Set when the process is told to end."""
    event = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    yield event
    signal.signal(signal.SIGTERM, before)
