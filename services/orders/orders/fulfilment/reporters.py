"""Who may say of the tasks of a system how they ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis.auth import Principal
from chassis.errors import PermissionDenied

ANY = "*"


@dataclass(frozen=True)
class Reporters:
    """The subjects of the tokens that each system comes with; people with the role `admin` may speak for every one."""

    subjects: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Reporters":
        """Reads `network=svc-network|svc-network-2,credit=svc-credit`; `*` is every system that isn't named, or every
        subject. Raises ValueError naming what is malformed."""
        subjects: dict[str, frozenset[str]] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            system, _, named = part.partition("=")
            found = frozenset(filter(None, (one.strip() for one in named.split("|"))))
            if not system.strip() or not found or system.strip() in subjects:
                raise ValueError(f"FULFILMENT_SYSTEM_SUBJECTS: {part!r} isn't system=subject|subject, once per system")
            subjects[system.strip()] = found
        return cls(subjects)

    def require(self, principal: Principal, system: str) -> None:
        """Raises PermissionDenied OTHER_SYSTEM unless the caller speaks for the system."""
        named = self.subjects.get(system, self.subjects.get(ANY, frozenset()))
        if "admin" not in principal.roles and not named & {ANY, principal.subject}:
            raise PermissionDenied(
                "OTHER_SYSTEM", f"{principal.subject!r} doesn't speak for {system!r} (FULFILMENT_SYSTEM_SUBJECTS)"
            )
