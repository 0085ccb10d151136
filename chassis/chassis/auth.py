"""Bearer tokens: verified here, at the gateway and again in every service; and the roles that methods allow."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import jwt
from google.protobuf.descriptor import MethodDescriptor

from chassis.config import Settings
from chassis.errors import PermissionDenied, Unauthenticated, Unavailable
from svyaz.type.v1 import options_pb2

log = logging.getLogger(__name__)

EVERY_BRANCH = "*"
ROLES = frozenset({"agent", "catalog-manager", "billing", "sre", "admin", "service"})

# Signatures cost 50 µs to check; a token is checked once and its expiry on every use.
_CACHED_TOKENS = 10_000
_LEEWAY_SECONDS = 5
# The issuer's keys: how long the issuer has to answer, how often it is asked at most, when keys are fetched anew, and
# how long they serve when they can't be.
_FETCH_SECONDS = 3.0
_RETRY_SECONDS = 5.0
_FRESH_SECONDS = 300.0
_KEPT_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who calls: a person, a system or one of our services."""

    subject: str
    roles: frozenset[str]
    branches: tuple[str, ...]
    token: str = ""
    on_behalf_of: str | None = None
    expires_at: float = float("inf")

    @property
    def every_branch(self) -> bool:
        """Whether no branch is closed to it."""
        return EVERY_BRANCH in self.branches

    @property
    def branch_setting(self) -> str:
        """The branches as the row-level security policies read them."""
        return EVERY_BRANCH if self.every_branch else ",".join(self.branches)

    def may_see(self, branch: str) -> bool:
        """Whether the branch is open to it."""
        return self.every_branch or branch in self.branches


class Verifier:
    """Verifies signature (algorithm pinned), issuer, audience and expiry against the issuer's published keys."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.oidc_issuer
        self._audience = settings.oidc_audience
        self._algorithm = settings.oidc_algorithm
        self._keys = _published_keys(settings.oidc_jwks_url)
        self._cache: dict[str, Principal] = {}
        self._lock = threading.Lock()

    def verify(self, token: str) -> Principal:
        """The token's principal. Raises Unauthenticated with a reason that says what is wrong with the token."""
        cached = self._cache.get(token)
        if cached is not None and time.time() < cached.expires_at:
            return cached
        principal = self._principal(token, self._claims(token))
        with self._lock:
            if len(self._cache) >= _CACHED_TOKENS:
                self._cache.clear()
            self._cache[token] = principal
        return principal

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            return jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise Unavailable("ISSUER_UNAVAILABLE", "the token issuer's keys can't be fetched") from error
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("TOKEN_EXPIRED", "the token has expired") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated("TOKEN_INVALID", f"the token isn't valid: {error}") from error

    def _principal(self, token: str, claims: Mapping[str, Any]) -> Principal:
        roles, branches = claims.get("roles"), claims.get("branches")
        for name, value in (("roles", roles), ("branches", branches)):
            if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
                raise Unauthenticated("TOKEN_INVALID", f"the token's claim {name!r} must be a list of strings")
        assert isinstance(roles, list)
        assert isinstance(branches, list)
        if any("," in branch or not branch.isprintable() for branch in branches):
            raise Unauthenticated(
                "TOKEN_INVALID", "a branch in the token has a comma or a control character in its name"
            )
        on_behalf_of = claims.get("on_behalf_of")
        return Principal(
            subject=str(claims["sub"]),
            roles=frozenset(roles) & ROLES,
            branches=tuple(branches),
            token=token,
            on_behalf_of=str(on_behalf_of) if on_behalf_of else None,
            expires_at=float(claims["exp"]) + _LEEWAY_SECONDS,
        )


class _KeysInFile:
    """The development issuer's keys: PyJWT itself only fetches by http, for fear of URLs that come from tokens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_signing_key_from_jwt(self, token: str) -> jwt.PyJWK:
        """The key that the token names; raises PyJWKClientError when it isn't published."""
        named = jwt.get_unverified_header(token).get("kid")
        for key in jwt.PyJWKSet.from_json(self._path.read_text()).keys:
            if key.key_id == named:
                return key
        raise jwt.PyJWKClientError("its key isn't published by the issuer")


class _KeysByHttp:
    """The issuer's published keys. Those that are known are used without waiting for the issuer: older ones are fetched
    anew in the background, and serve for a day when the issuer can't be reached."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        # Held by whoever fetches.
        self._lock = threading.Lock()

    def get_signing_key_from_jwt(self, token: str) -> jwt.PyJWK:
        """The key that the token names. Raises PyJWKClientError when it isn't published, PyJWKClientConnectionError
        when no key is known."""
        named = jwt.get_unverified_header(token).get("kid", "")
        key = self._known().get(named)
        if key is None:
            return self._asked_for(named)
        now = time.monotonic()
        due = now - self._fetched_at > _FRESH_SECONDS and now - self._tried_at > _RETRY_SECONDS
        if due and self._lock.acquire(blocking=False):
            threading.Thread(target=self._refresh, name="keys", daemon=True).start()
        return key

    def _known(self) -> Mapping[str, jwt.PyJWK]:
        return self._keys if time.monotonic() - self._fetched_at < _KEPT_SECONDS else {}

    def _asked_for(self, named: str) -> jwt.PyJWK:
        with self._lock:
            # Anybody can send a token that names any key: the issuer isn't asked for each.
            if named not in self._known() and time.monotonic() - self._tried_at > _RETRY_SECONDS:
                self._fetch()
        known = self._known()
        if not known:
            raise jwt.PyJWKClientConnectionError("no key of the issuer is known")
        if named not in known:
            raise jwt.PyJWKClientError("its key isn't published by the issuer")
        return known[named]

    def _refresh(self) -> None:
        try:
            self._fetch()
        finally:
            self._lock.release()

    def _fetch(self) -> None:
        # It takes a tenth of a service's start to import, and with a development issuer nothing is fetched.
        import httpx

        try:
            response = httpx.get(self._url, timeout=_FETCH_SECONDS).raise_for_status()
            published = jwt.PyJWKSet.from_dict(response.json()).keys
        except (httpx.HTTPError, ValueError, AttributeError, jwt.PyJWTError) as error:
            fields = {"error": str(error), "known": len(self._known())}
            log.warning("the issuer's keys can't be fetched", extra={"fields": fields})
        else:
            self._keys = {key.key_id: key for key in published if key.key_id and key.public_key_use in ("sig", None)}
            self._fetched_at = time.monotonic()
        self._tried_at = time.monotonic()


def _published_keys(url: str) -> _KeysByHttp | _KeysInFile:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _KeysInFile(Path(url2pathname(parts.path)))
    return _KeysByHttp(url)


def bearer(header: str | None) -> str:
    """The token of an `authorization` value. Raises Unauthenticated when there is none."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("TOKEN_MISSING", "a bearer token is needed")
    return token.strip()


def roles_of(method: MethodDescriptor) -> frozenset[str]:
    """The roles that a method's contract allows."""
    own = method.GetOptions().Extensions[options_pb2.roles]
    if not own:
        service = method.containing_service.GetOptions()
        reads = method.name.startswith(("Get", "List"))
        own = service.Extensions[options_pb2.read_roles if reads else options_pb2.write_roles]
    return frozenset(own.split())


def authorize(principal: Principal, allowed: frozenset[str], method: str) -> None:
    """Raises PermissionDenied unless one of the principal's roles is allowed."""
    if not principal.roles & allowed:
        raise PermissionDenied(
            "ROLE_REQUIRED",
            f"{method} needs one of the roles {', '.join(sorted(allowed))}",
            metadata={"method": method},
        )


class TokenSource(Protocol):
    """Where a service gets the tokens that it acts with when nobody has called it."""

    def token(self, branches: tuple[str, ...], on_behalf_of: str | None) -> str:
        """A token of this service limited to the branches."""


class SigningKey:
    """Signs the service's own tokens with the development issuer's key."""

    def __init__(self, settings: Settings, lifetime: float = 300.0) -> None:
        self._settings = settings
        # Read once: checking an RSA key takes fifty times as long as signing with it.
        algorithm = jwt.get_algorithm_by_name(settings.oidc_algorithm)
        self._key = algorithm.prepare_key(Path(settings.service_signing_key).read_bytes())
        self._lifetime = lifetime
        self._tokens = _Expiring(self._sign)

    def token(self, branches: tuple[str, ...], on_behalf_of: str | None) -> str:
        """A token that lives `lifetime` seconds (300 unless told)."""
        return self._tokens.get((branches, on_behalf_of))

    def _sign(self, key: tuple[tuple[str, ...], str | None]) -> tuple[str, float]:
        branches, on_behalf_of = key
        now = time.time()
        claims: dict[str, Any] = {
            "iss": self._settings.oidc_issuer,
            "aud": self._settings.oidc_audience,
            "sub": f"service:{self._settings.service}",
            "iat": int(now),
            "exp": int(now + self._lifetime),
            "jti": uuid.uuid4().hex,
            "roles": ["service"],
            "branches": list(branches),
        }
        if on_behalf_of:
            claims["on_behalf_of"] = on_behalf_of
        signed = jwt.encode(claims, self._key, algorithm=self._settings.oidc_algorithm, headers={"kid": "development"})
        return signed, now + self._lifetime


class ClientCredentials:
    """Fetches the service's tokens from the operator's OIDC issuer (RFC 6749 section 4.4).

    The issuer maps the client to the role `service` and every branch; who it acts for is known from the event log.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens = _Expiring(self._fetch)

    def token(self, branches: tuple[str, ...], on_behalf_of: str | None) -> str:
        """The client's token; raises Unavailable when the issuer doesn't answer."""
        return self._tokens.get(((EVERY_BRANCH,), None))

    def _fetch(self, _: tuple[tuple[str, ...], str | None]) -> tuple[str, float]:
        import httpx

        try:
            response = httpx.post(
                self._settings.service_token_url,
                data={"grant_type": "client_credentials", "audience": self._settings.oidc_audience},
                auth=(self._settings.service_client_id, self._settings.service_client_secret),
                timeout=5.0,
            )
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable("ISSUER_UNAVAILABLE", "the token issuer gives no service token") from error
        body = response.json()
        return str(body["access_token"]), time.time() + float(body.get("expires_in", 60))


class _Expiring:
    """Tokens kept until a minute (or a quarter of their life) before they expire."""

    def __init__(self, make: Callable[[tuple[tuple[str, ...], str | None]], tuple[str, float]]) -> None:
        self._make = make
        self._kept: dict[tuple[tuple[str, ...], str | None], tuple[str, float]] = {}

    def get(self, key: tuple[tuple[str, ...], str | None]) -> str:
        now = time.time()
        kept = self._kept.get(key)
        if kept is None or kept[1] <= now:
            token, expires_at = self._make(key)
            kept = (token, expires_at - min(60.0, (expires_at - now) / 4))
            if len(self._kept) >= _CACHED_TOKENS:
                self._kept.clear()
            self._kept[key] = kept
        return kept[0]


def token_source(settings: Settings) -> TokenSource:
    """The source that the settings name; raises ValueError when they name none."""
    if settings.service_signing_key:
        return SigningKey(settings)
    if settings.service_token_url:
        return ClientCredentials(settings)
    raise ValueError("set SERVICE_TOKEN_URL (production) or SERVICE_SIGNING_KEY (development)")
