"""The platform that the stories run on: one per module, with a branch at work."""

from collections.abc import Iterator

import pytest

from tests.e2e.branch import Branch
from tests.platforms import RunningPlatform, running_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A whole platform without the demo operator."""
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(scope="module")
def branch(platform: RunningPlatform) -> Iterator[Branch]:
    """The branch of Bishkek."""
    bishkek = Branch(platform)
    yield bishkek
    bishkek.close()
