"""Refusals as HTTP: each status of gRPC has one of HTTP, and nothing about our insides gets out."""

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Flask

from chassis.config import Settings
from chassis.errors import ERRORS_BY_STATUS, Aborted, DomainError, InvalidArgument, NotFound, Unavailable, Violation
from gateway import problems
from gateway.app import create_app
from gateway.collection import Collection
from svyaz_cli.issuer import Issuer

EXPECTED = {
    "CANCELLED": 500,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


def error(status: str, reason: str = "SOME_REASON", message: str = "why") -> DomainError:
    made = ERRORS_BY_STATUS.get(status, DomainError)(reason, message)
    made.status = status
    return made


@pytest.mark.parametrize("status", [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_has_one_of_http(status: str) -> None:
    answer = problems.refusal(error(status), str)
    assert answer.status_code == EXPECTED[status]
    body = answer.get_json()
    assert body["status"] == str(EXPECTED[status])
    assert body["@type"] == "Error"
    if EXPECTED[status] == 500:
        assert (body["code"], "why" in body["message"]) == ("INTERNAL", False)
    else:
        assert (body["code"], body["reason"], body["message"]) == ("SOME_REASON", "why", "why")
    assert ("Retry-After" in answer.headers) == (EXPECTED[status] in (429, 503))


def test_a_key_used_again_for_something_else_is_unprocessable() -> None:
    assert problems.refusal(InvalidArgument("IDEMPOTENCY_KEY_REUSED", "why"), str).status_code == 422


# Whatever anything of ours is aborted for, but for the etag that the request itself has stated.
FASTER = ("ACKNOWLEDGED_MEANWHILE", "CATALOG_CHANGING", "CONFLICT", "LEASE_LOST", "REPLAYED_ELSEWHERE")


@pytest.mark.parametrize("reason", FASTER)
def test_what_others_were_faster_with_is_a_failed_precondition_only_where_there_was_one(reason: str) -> None:
    conflict = Aborted(reason, "somebody else keeps changing the same thing")
    assert problems.refusal(conflict, str).status_code == 409
    assert problems.refusal(conflict, str, conditional=True).status_code == 412


def test_an_etag_that_is_not_it_any_more_is_a_failed_precondition_wherever_it_was_stated() -> None:
    assert problems.refusal(Aborted("STALE_ETAG", "why"), str).status_code == 412


def test_who_waited_for_a_lock_in_vain_has_not_seen_his_precondition_fail() -> None:
    assert problems.refusal(Aborted("LOCKED", "why"), str, conditional=True).status_code == 409


def test_every_reason_for_which_something_is_aborted_is_among_these() -> None:
    """One that is new is looked at by whoever adds it."""
    root = Path(__file__).parents[2]
    sources = [path.read_text() for part in ("chassis/chassis", "services") for path in (root / part).rglob("*.py")]
    found = {reason for source in sources for reason in re.findall(r'\bAborted\(\s*"(\w+)"', source)}
    assert found == {*FASTER, "LOCKED", "STALE_ETAG"}


@pytest.mark.parametrize(
    ("header", "status"),
    [(None, 409), ("*", 409), (" * ", 409), ("\t*", 409), ('"1"', 412), ('W/"1"', 412), ('"1", "2"', 412)],
)
def test_a_precondition_is_an_etag_in_the_header(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, header: str | None, status: int
) -> None:
    def busy(*_: Any, **__: Any) -> Any:
        raise Aborted("CONFLICT", "somebody else keeps changing the same thing")

    monkeypatch.setattr(Collection, "_call", busy)
    headers = {"Authorization": f"Bearer {issuer.token(['agent'], ['bishkek'])}"}
    if header is not None:
        headers["If-Match"] = header
    app = create_app(Settings.from_environment("gateway", issuer.environment))
    answer = app.test_client().patch("/tmf-api/customerManagement/v4/customer/1", json={}, headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (status, "CONFLICT")


def test_what_is_missing_is_named() -> None:
    refusal = NotFound("NOT_FOUND", "there is no Individual '7'", metadata={"resource": "Individual", "id": "7"})
    assert problems.refusal(refusal, str).get_json()["reason"] == "there is no Individual '7'"


def test_the_reason_names_attributes_as_the_caller_does() -> None:
    refusal = InvalidArgument("X", "order_date: it is bad", violations=[Violation("order_date", "it is bad")])
    assert problems.refusal(refusal, lambda path: "orderDate").get_json()["reason"] == "orderDate: it is bad"


def test_what_the_transport_says_stays_inside() -> None:
    inside = "failed to connect to all addresses; last error: ipv4:10.1.2.3:8082: Connection refused"
    for status in ERRORS_BY_STATUS:
        assert "10.1.2.3" not in problems.refusal(error(status, status, inside), str).get_data(as_text=True)


def test_offending_attributes_are_spelled_for_the_caller() -> None:
    refusal = InvalidArgument("X", "why", violations=[Violation("a_b", "is bad"), Violation("", "is odd")])
    body = problems.refusal(refusal, str.upper).get_json()
    assert body["details"] == [{"path": "A_B", "message": "is bad"}, {"path": "", "message": "is odd"}]
    assert body["message"] == "A_B: is bad; is odd"


def test_a_refused_token_says_how_to_come_in_and_breaks_no_header() -> None:
    answer = problems.answer(401, "TOKEN_INVALID", 'a "quoted"\r\nSet-Cookie: x=1 токен')
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="svyaz", error_description="a quotedSet-Cookie: x=1 "'


def test_a_busy_service_says_when_to_come_back() -> None:
    assert problems.refusal(Unavailable("DATABASE_BUSY", "why"), str).headers["Retry-After"] == "2"


@pytest.fixture
def broken(issuer: Issuer) -> Flask:
    app = create_app(Settings.from_environment("gateway", issuer.environment))
    app.add_url_rule("/broken", view_func=lambda: str(1 // 0))
    return app


def test_a_failure_of_ours_says_nothing_about_how(broken: Flask) -> None:
    answer = broken.test_client().get("/broken")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "INTERNAL")
    assert "ZeroDivision" not in answer.get_data(as_text=True)
