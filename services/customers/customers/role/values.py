"""The value objects of roles (TMF669)."""

from dataclasses import dataclass

from chassis.types import Extensible


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleAccountRef(Extensible):
    """A reference to an account of whoever is in the role."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    description: str | None = None
    at_referred_type: str | None = None
