"""The platform that the contract is tested on, with callers of two branches."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.specs import FILES, Spec, spec_of
from tests.gateway.conftest import Api
from tests.platforms import RunningPlatform, running_platform


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A whole platform without the demo operator."""
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(scope="package")
def api(platform: RunningPlatform) -> Iterator[Api]:
    """An agent of Bishkek who manages the catalog too, and takes things over into it as an admin."""
    made = Api(platform.gateway_url, platform.home.issuer().token(["agent", "catalog-manager", "admin"], ["bishkek"]))
    yield made
    made.client.close()


@pytest.fixture(scope="session")
def specs(shared: Path) -> dict[str, Spec]:
    """TM Forum's files by the API's name in paths."""
    return {name: spec_of(shared / "tmf" / "specs", name) for name in FILES}
