"""A database and a bus for the tests of the chassis."""

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
