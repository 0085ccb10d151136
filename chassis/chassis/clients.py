"""Calls to other services: the caller's deadline, token, request id and trace travel along."""

import time
from collections import namedtuple
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.propagate import inject

from chassis.auth import TokenSource
from chassis.calls import PURPOSE, current_or_none, purpose_header
from chassis.config import MAX_MESSAGE_BYTES
from chassis.errors import ERRORS_BY_STATUS, DomainError, Unavailable, Violation
from chassis.types import new_id

T = TypeVar("T")

DEFAULT_DEADLINE_SECONDS = 10.0
# Our callee's deadline comes before ours, so that there is time left to tell our caller.
_MARGIN_SECONDS = 0.05

_Details = namedtuple(  # noqa: PYI024 (grpc wants an object with exactly these attributes)
    "_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")
)


class _CallDetails(_Details, grpc.ClientCallDetails):
    pass


class _Travel(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, tokens: TokenSource | None) -> None:
        self._tokens = tokens

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = current_or_none()
        carrier: dict[str, str] = {key: str(value) for key, value in details.metadata or ()}
        timeout = details.timeout
        if call is not None:
            carrier.setdefault("authorization", f"Bearer {call.principal.token or self._own_token(call.principal)}")
            carrier.setdefault("x-request-id", call.request_id or new_id())
            if call.purpose:
                carrier.setdefault(PURPOSE, purpose_header(call.purpose))
            remaining = call.remaining()
            if remaining is not None:
                available = max(0.001, remaining - _MARGIN_SECONDS)
                timeout = available if timeout is None else min(timeout, available)
        inject(carrier)
        return continuation(
            _CallDetails(
                details.method,
                DEFAULT_DEADLINE_SECONDS if timeout is None else timeout,
                list(carrier.items()),
                details.credentials,
                details.wait_for_ready,
                details.compression,
            ),
            request,
        )

    def _own_token(self, principal: Any) -> str:
        if self._tokens is None:
            raise ValueError("this channel has no token source to act without a caller")
        return self._tokens.token(principal.branches, principal.on_behalf_of)


def channel(address: str, tokens: TokenSource | None = None) -> grpc.Channel:
    """A channel to a service, spread over the addresses that its name has. `tokens`: for work without a caller.

    Open it after a fork, never before.
    """
    plain = grpc.insecure_channel(
        address if "://" in address else f"dns:///{address}",
        options=[
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
    )
    intercepted: grpc.Channel = grpc.intercept_channel(plain, _Travel(tokens))
    return intercepted


def domain_error(error: Any) -> DomainError:
    """The refusal that a service answered with, as the error that it raised."""
    code, message = error.code(), error.details() or ""
    status = code.name
    reason, violations, metadata = status, [], {}
    detailed = rpc_status.from_call(error)
    for detail in detailed.details if detailed is not None else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = [Violation(v.field, v.description) for v in bad.field_violations]
    cls = ERRORS_BY_STATUS.get(status)
    if cls is None:
        result = DomainError(reason, message, violations=violations, metadata=metadata)
        result.status = status
        return result
    return cls(reason, message, violations=violations, metadata=metadata)


def call(method: Callable[..., T], request: Any, *, attempts: int = 3) -> T:
    """Calls a method that may be repeated (a read, or a mutation with a request id).

    Tried again, with back-off, while the callee is UNAVAILABLE; raises the callee's DomainError.
    """
    for attempt in range(attempts):
        try:
            return method(request)
        except grpc.RpcError as error:
            refusal = domain_error(error)
            if not isinstance(refusal, Unavailable) or attempt == attempts - 1:
                raise refusal from error
            time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")
