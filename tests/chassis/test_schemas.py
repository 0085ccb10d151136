"""What the code believes about its tables is what the migrations make."""

from collections.abc import Callable
from importlib import import_module

import pytest

from chassis import migrate
from tests.conftest import ServiceDatabase


@pytest.mark.parametrize(
    ("service", "store"),
    [
        ("catalog", "catalog.store"),
        ("customers", "customers.store"),
        ("orders", "orders.store"),
        ("hub", "gateway.hub.store"),
    ],
)
def test_the_metadata_is_what_the_migrations_make(
    database_for: Callable[..., ServiceDatabase], service: str, store: str
) -> None:
    assert migrate.differences(database_for(service).owner_url, import_module(store).metadata) == []
