"""Who sends a request, and until when the answer is of use to them."""

import re
import time
import uuid

from werkzeug.datastructures import Headers

from chassis.auth import Verifier, bearer
from chassis.calls import PURPOSE, Call, stated_purpose
from chassis.clients import DEFAULT_DEADLINE_SECONDS
from gateway.query import bad_parameter

_LONGEST_SECONDS = 60.0
_TIMEOUT = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}", re.ASCII)


class Door:
    """Verifies bearer tokens; the services verify them again."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def call(self, headers: Headers, method: str, request_id: str) -> Call:
        """The call that a request makes. Raises Unauthenticated, or InvalidArgument for a bad X-Request-Timeout."""
        principal = self._verifier.verify(bearer(headers.get("Authorization")))
        purpose = stated_purpose(headers.get(PURPOSE, ""))
        return Call(principal, method, time.monotonic() + timeout(headers), request_id, purpose=purpose)


def timeout(headers: Headers) -> float:
    """The seconds that the caller waits at most: X-Request-Timeout, 10 unless stated, never above 60."""
    stated = headers.get("X-Request-Timeout", "")
    if not stated:
        return DEFAULT_DEADLINE_SECONDS
    if not _TIMEOUT.fullmatch(stated) or float(stated) <= 0:
        raise bad_parameter("X-Request-Timeout", "must be a number of seconds above 0")
    return min(float(stated), _LONGEST_SECONDS)


def request_id(headers: Headers) -> str:
    """The caller's name for the request when it sent a usable one, else a new one."""
    stated = headers.get("X-Request-ID", "")
    return stated if _REQUEST_ID.fullmatch(stated) else str(uuid.uuid4())
