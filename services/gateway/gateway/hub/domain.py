"""Subscriptions: where events go, and when a callback is tried again or given up."""

import re
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit

from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate

# How long one event may fail before its subscription is suspended.
GIVE_UP_AFTER = timedelta(hours=24)
# How many subscriptions a branch may have to one API, and how many events may wait for one of them.
MAX_SUBSCRIPTIONS = 20
MAX_WAITING = 100_000
# How long events wait for a suspended subscription: as long as the streams remember.
KEPT_FOR = timedelta(days=14)

_FIRST_DELAY, _LAST_DELAY = 1.0, 900.0
_LONGEST_CALLBACK = 2_000
_PORTS = {"http": 80, "https": 443}
# What RFC 3986 allows in a URL: no blank and no control character ever gets into a request's first lines.
_URL = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_SECRET_BYTES = 32


class SubscriptionState(StrEnum):
    """Whether events are delivered or wait."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Target:
    """A callback's parts; `path` with the query."""

    scheme: str
    host: str
    port: int
    path: str


def target(callback: str) -> Target:
    """The parts of a callback URL; raises InvalidArgument BAD_CALLBACK for what can't or mustn't be called."""
    if len(callback) > _LONGEST_CALLBACK:
        raise bad_callback(f"is longer than {_LONGEST_CALLBACK} characters")
    if not _URL.fullmatch(callback):
        raise bad_callback("isn't a URL: other characters than those of RFC 3986 must be percent-encoded")
    try:
        parts = urlsplit(callback)
        port = parts.port
    except ValueError as error:
        raise bad_callback(f"isn't a URL: {error}") from None
    return _checked(parts, port)


def _checked(parts: SplitResult, port: int | None) -> Target:
    if parts.scheme not in _PORTS:
        raise bad_callback("must begin with http:// or https://")
    if not parts.hostname:
        raise bad_callback("names no host")
    if parts.username is not None or parts.password is not None:
        raise bad_callback("mustn't hold a user or a password: everybody who reads the subscription would see them")
    if parts.fragment:
        raise bad_callback("mustn't have a fragment")
    if port == 0:
        raise bad_callback("names port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path)


def bad_callback(why: str) -> InvalidArgument:
    """The refusal of a callback."""
    return InvalidArgument("BAD_CALLBACK", f"the callback {why}", violations=[Violation("callback", why)])


def new_secret() -> str:
    """A signing secret in the form of Standard Webhooks."""
    return "whsec_" + b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def delay(attempts: int, chance: float) -> float:
    """Seconds until the next attempt after so many failed ones: doubled up to 15 minutes, spread by `chance` (0 to 1)
    so that what failed together doesn't come back together."""
    return min(_FIRST_DELAY * 2.0 ** min(attempts - 1, 20), _LAST_DELAY) * (0.75 + chance / 2)


@dataclass(kw_only=True, eq=False)
class Subscription(Aggregate):
    """A callback, the events that it wants, and whether it gets them."""

    STATE: ClassVar[str | None] = "state"

    api: str = ""
    callback: str | None = None
    query: str | None = None
    state: SubscriptionState = SubscriptionState.ACTIVE
    state_reason: str | None = None
    suspended_at: datetime | None = None
    dropped_until: datetime | None = None
    lost_since: datetime | None = None
    # Not named like the field of the contract, so that neither answers nor the log ever hold it.
    signing_secret: str = field(default="", repr=False)

    def suspend(self, reason: str, at: datetime) -> None:
        """Stops the deliveries."""
        self.state = SubscriptionState.SUSPENDED
        self.state_reason = reason
        self.suspended_at = at

    def resume(self) -> None:
        """Delivers again. Raises FailedPrecondition NOT_SUSPENDED."""
        if self.state is not SubscriptionState.SUSPENDED:
            raise FailedPrecondition("NOT_SUSPENDED", f"subscription {self.id} isn't suspended")
        self.state = SubscriptionState.ACTIVE
        self.state_reason = None
        self.suspended_at = None

    def overflow(self, reason: str, at: datetime) -> None:
        """Stops the deliveries, and takes no more events on: too many wait."""
        if self.state is not SubscriptionState.SUSPENDED:
            self.suspend(reason, at)
        self.lost_since = self.lost_since or at

    def catch_up(self, at: datetime) -> None:
        """Takes events on again; what happened since it overflowed is lost."""
        self.lost_since = None
        self.drop(at)

    def drop(self, until: datetime) -> None:
        """Notes that events before the instant (not all, perhaps) will never be delivered."""
        if self.dropped_until is None or self.dropped_until < until:
            self.dropped_until = until
