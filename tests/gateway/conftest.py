"""Callers of the gateway that several of its tests are."""

from collections.abc import Callable

import pytest

from tests.running import Api


@pytest.fixture(scope="session")
def api(caller: Callable[..., Api]) -> Api:
    """An agent of the branch bishkek who manages the catalog too."""
    return caller(["agent", "catalog-manager"], ["bishkek"])


@pytest.fixture(scope="session")
def osh(caller: Callable[..., Api]) -> Api:
    """An agent of another branch."""
    return caller(["agent"], ["osh"])


@pytest.fixture(scope="session")
def office(caller: Callable[..., Api]) -> Api:
    """Somebody who sees every branch."""
    return caller(["admin"], ["*"])
