"""What a preview says of a product, and of many that are priced alike."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from catalog.holding.domain import SoldPrice
from chassis.types import Characteristic


class PreviewState(StrEnum):
    """How far a preview is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PreviewOutcome(StrEnum):
    """What becomes of what a subscriber pays."""

    MORE = "more"
    LESS = "less"
    SAME = "same"
    KEPT = "kept"
    REFUSED = "refused"
    # It has changed since: of listed products only.
    OUTDATED = "outdated"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What products that are priced alike have in common: all that their price rests on, and nothing else.

    `started_at` and `ordered_at` are those of one of them: the others are of an age at which the same holds.
    """

    branch: str
    product_offering_id: str
    quantity: int = 1
    characteristic: tuple[Characteristic, ...] = ()
    term: str = ""
    place: tuple[str, ...] = ()
    agreement_id: str = ""
    market_segment: tuple[str, ...] = ()
    customer_id: str = ""
    started_at: datetime | None = None
    # Since when it is charged as it is.
    ordered_at: datetime | None = None
    # With those of its parts, where it is a bundle.
    sold: tuple[SoldPrice, ...] = ()
    # Offering and number of each part.
    parts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Amount:
    """Without and with tax."""

    net: Decimal
    gross: Decimal


@dataclass(frozen=True, slots=True)
class Difference:
    """What is paid now and then, of one currency and charge period."""

    currency: str
    period: str
    before: Amount
    after: Amount

    @property
    def change(self) -> Decimal:
        """What is paid more (negative: less), with tax."""
        return self.after.gross - self.before.gross


@dataclass(frozen=True, slots=True)
class NeverApplied:
    """What of a change would never apply: the attribute of an offering, or of the request where it names none."""

    product_offering_id: str
    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Priced:
    """The outcome for products that are priced alike; `reason` and `description` say why they are refused."""

    outcome: PreviewOutcome
    difference: tuple[Difference, ...] = ()
    reason: str = ""
    description: str = ""
