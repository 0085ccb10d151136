"""`svyaz duplicates` asks the service, waits and tells."""

from typing import Any

import pytest

from svyaz.customers.v1 import matching_pb2
from svyaz_cli.duplicates import find_duplicates


class Service:
    """Answers with one state after the other."""

    def __init__(self, *answers: matching_pb2.DuplicateSearch) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, method: str, request: Any) -> matching_pb2.DuplicateSearch:
        self.asked.append(method)
        return self._answers.pop(0)


def test_a_search_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service(
        matching_pb2.DuplicateSearch(id="s", state=matching_pb2.DUPLICATE_SEARCH_STATE_ACKNOWLEDGED),
        matching_pb2.DuplicateSearch(id="s", state=matching_pb2.DUPLICATE_SEARCH_STATE_RUNNING),
        matching_pb2.DuplicateSearch(id="s", state=matching_pb2.DUPLICATE_SEARCH_STATE_DONE, compared=31, found=2),
    )
    assert find_duplicates(service, "bishkek", "0.5", pause=0.0) == 0
    assert service.asked == ["CreateDuplicateSearch", "GetDuplicateSearch", "GetDuplicateSearch"]
    assert "31 individuals compared, 2 pairs" in capsys.readouterr().out


def test_a_search_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    failed = matching_pb2.DuplicateSearch(id="s", state=matching_pb2.DUPLICATE_SEARCH_STATE_FAILED, error="no memory")
    assert find_duplicates(Service(failed), "bishkek", "0.5", pause=0.0) == 1
    assert "no memory" in capsys.readouterr().err
