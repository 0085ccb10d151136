"""The errors of a domain, one class per canonical gRPC status (https://grpc.io/docs/guides/status-codes/)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with one field of a request; `field` is a path such as `product_order_item[0].quantity`."""

    field: str
    description: str


class DomainError(Exception):
    """A refusal with a message for people and a stable UPPER_SNAKE reason for programs."""

    status = "UNKNOWN"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})


class InvalidArgument(DomainError):
    """The request is wrong whatever the state of the system."""

    status = "INVALID_ARGUMENT"


class NotFound(DomainError):
    """There is no such thing, or none that the caller may see."""

    status = "NOT_FOUND"


class AlreadyExists(DomainError):
    """There is such a thing already."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(DomainError):
    """The thing is in a state that forbids this."""

    status = "FAILED_PRECONDITION"


class Aborted(DomainError):
    """Somebody else was faster: read again and decide anew."""

    status = "ABORTED"


class PermissionDenied(DomainError):
    """The caller is known but may not do this."""

    status = "PERMISSION_DENIED"


class Unauthenticated(DomainError):
    """The caller isn't known."""

    status = "UNAUTHENTICATED"


class ResourceExhausted(DomainError):
    """Too much at once: try again later."""

    status = "RESOURCE_EXHAUSTED"


class Unavailable(DomainError):
    """Something that is needed doesn't answer: try again later."""

    status = "UNAVAILABLE"


class DeadlineExceeded(DomainError):
    """The caller's time ran out first."""

    status = "DEADLINE_EXCEEDED"


ERRORS_BY_STATUS: Mapping[str, type[DomainError]] = {
    error.status: error
    for error in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
    )
}
