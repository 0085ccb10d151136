"""Who calls when the contract is tested, and what it says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.specs import FILES, Spec, spec_of
from tests.running import Api


@pytest.fixture(scope="session")
def api(caller: Callable[..., Api]) -> Api:
    """An agent of Bishkek who manages the catalog too, and takes things over into it as an admin."""
    return caller(["agent", "catalog-manager", "admin"], ["bishkek"])


@pytest.fixture(scope="session")
def specs(shared: Path) -> dict[str, Spec]:
    """TM Forum's files by the API's name in paths."""
    return {name: spec_of(shared / "tmf" / "specs", name) for name in FILES}
