"""The value objects of matching."""

from dataclasses import dataclass
from decimal import Decimal

from chassis.types import Extensible


@dataclass(frozen=True, kw_only=True, slots=True)
class DuplicateReason(Extensible):
    """The evidence of one field for two records being of one person, in bits."""

    field: str | None = None
    code: str | None = None
    weight: Decimal | None = None
