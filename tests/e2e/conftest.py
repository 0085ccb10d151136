"""The platform that the stories run on, with its spans kept, and a branch of each file's own at work on it."""

from collections.abc import Iterator

import pytest

from tests.e2e.branch import Branch
from tests.e2e.collector import Collector, collecting
from tests.platforms import RunningPlatform, running_platform


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """What keeps the platform's spans."""
    with collecting() as kept:
        yield kept


@pytest.fixture(scope="session")
def platform(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A whole platform without the demo operator; nothing is killed on it."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running_platform(tmp_path_factory.mktemp("platform"), environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def branch(platform: RunningPlatform, request: pytest.FixtureRequest) -> Iterator[Branch]:
    """A branch in which nobody else works: `story` of `test_story`."""
    own = Branch(platform, request.path.stem.removeprefix("test_"))
    yield own
    own.close()
