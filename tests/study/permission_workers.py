"""As `test_permission_workers`, for a month: `pytest tests/study/permission_workers.py -s -p no:cacheprovider`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ServiceDatabase
from tests.customers.conftest import agent, caller_of, channel, database, place
from tests.customers.test_permission_workers import work
from tests.serving import Caller

__all__ = ["agent", "caller_of", "channel", "database", "place"]


@pytest.mark.timeout(1800)
def test_a_month_of_contacts(
    place: ServiceDatabase,
    tmp_path: Path,
    agent: Caller,
    caller_of: Callable[..., Caller],
) -> None:
    print(work(place, tmp_path, agent, caller_of("bishkek", role="admin"), workers=8, attempts=7_200))
