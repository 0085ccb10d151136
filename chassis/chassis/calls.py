"""Who is asking for what, until when: set once per call or piece of background work, readable everywhere below it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from chassis.auth import Principal

# What a call carries its purpose in, percent-encoded where it isn't ASCII; of longer ones this much is kept.
PURPOSE = "x-purpose"
_LONGEST_PURPOSE = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `deadline` is in seconds of `time.monotonic()`; None: no end. `unattended`: nobody waits for it.
    `purpose`: what the caller says he calls for, in his words; empty: he says nothing. `noted`: the records that he is
    already known to have read."""

    principal: Principal
    method: str
    deadline: float | None = None
    request_id: str = ""
    unattended: bool = False
    purpose: str = ""
    noted: set[str] = field(default_factory=set)

    @classmethod
    def background(
        cls, service: str, method: str, *, branches: tuple[str, ...], on_behalf_of: str | None = None
    ) -> "Call":
        """Work that nobody called for: the service acts as itself, limited to the branches."""
        return cls(principal=_service(service, branches, on_behalf_of), method=method, unattended=True)

    def as_service(self, service: str, *, branches: tuple[str, ...]) -> "Call":
        """The same call, in which the service does as itself what its caller may not: on behalf of him, and limited to
        the branches, of which he has made sure before."""
        caller = self.principal
        return replace(self, principal=_service(service, branches, caller.on_behalf_of or caller.subject))

    def remaining(self) -> float | None:
        """Seconds until the deadline, never negative; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


def stated_purpose(header: str) -> str:
    """The purpose that a header states: one line, of 200 characters at most."""
    return " ".join(unquote(header).replace("\0", "").split())[:_LONGEST_PURPOSE]


def purpose_header(purpose: str) -> str:
    """The purpose as a header carries it."""
    return quote(purpose, safe=" /:;,()+-_.")


def _service(service: str, branches: tuple[str, ...], on_behalf_of: str | None) -> Principal:
    return Principal(
        subject=f"service:{service}", roles=frozenset({"service"}), branches=branches, on_behalf_of=on_behalf_of
    )


_current: ContextVar[Call] = ContextVar("svyaz_call")


def current() -> Call:
    """The call that is being served; raises LookupError outside of one."""
    return _current.get()


def current_or_none() -> Call | None:
    """The call that is being served, if any."""
    return _current.get(None)


@contextmanager
def using(call: Call) -> Iterator[Call]:
    """Makes the call the current one inside the block."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)
