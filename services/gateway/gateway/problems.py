"""Refusals as HTTP: which status, and the error body that TM Forum describes (TMF630, `Error`)."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from flask import Response

from chassis.errors import DomainError
from chassis.scalars import encode_json

JSON = "application/json"

STATUSES: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_STATUS_BY_REASON = {"IDEMPOTENCY_KEY_REUSED": 422}
_INTERNAL = "something went wrong on our side; it has been logged"
# A status without a reason comes from the transport; its text names our hosts and ports.
_BARE = {
    "RESOURCE_EXHAUSTED": "too many requests at once; try again shortly",
    "UNAVAILABLE": "a service that this needs doesn't answer; try again shortly",
    "DEADLINE_EXCEEDED": "it took longer than the time that was given",
}
_RETRY_AFTER_SECONDS = {429: "1", 503: "2"}


def answer(
    status: int, code: str, message: str, details: list[dict[str, str]] | None = None, headers: Mapping[str, str] = {}
) -> Response:
    """An error answer; `code` is the stable UPPER_SNAKE reason, `details` name the offending attributes."""
    response = Response(error_body(status, code, message, details), status, headers, content_type=JSON)
    if status in _RETRY_AFTER_SECONDS:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS[status]
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = f'Bearer realm="svyaz", error_description="{_quotable(message)}"'
    return response


def error_body(status: int, code: str, message: str, details: list[dict[str, str]] | None = None) -> bytes:
    """TM Forum's `Error` as JSON."""
    body: dict[str, Any] = {
        "code": code,
        "reason": message,
        "message": "; ".join(f"{d['path']}: {d['message']}" if d["path"] else d["message"] for d in details or ())
        or message,
        "status": str(int(status)),
        "@type": "Error",
    }
    if details:
        body["details"] = details
    return encode_json(body)


def refusal(error: DomainError, attribute_path: Callable[[str], str], *, conditional: bool = False) -> Response:
    """The answer for a refusal, ours or a service's; `attribute_path` respells the paths of fields. `conditional`:
    whether its headers stated a precondition, which has failed where others were faster."""
    status = _STATUS_BY_REASON.get(error.reason) or STATUSES.get(error.status, 500)
    if error.status == "ABORTED" and (error.reason == "STALE_ETAG" or (conditional and error.reason != "LOCKED")):
        # An action states its etag in the body. Who was held up by a lock doesn't know yet whether anything changed.
        status = HTTPStatus.PRECONDITION_FAILED
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal()
    # What is missing is named by its service; the transport names nothing.
    bare = error.reason == error.status and not error.metadata
    message = _BARE.get(error.status, error.status) if bare else error.message
    details = []
    for violation in error.violations:
        path = attribute_path(violation.field)
        details.append({"path": path, "message": violation.description})
        if "_" in violation.field:
            message = message.replace(violation.field, path)
    return answer(status, error.reason, message, details)


def internal() -> Response:
    """The answer when we failed: nothing about how."""
    return answer(500, "INTERNAL", _INTERNAL)


def _quotable(message: str) -> str:
    return "".join(c for c in message if " " <= c <= "~" and c not in '"\\')
