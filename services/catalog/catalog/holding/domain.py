"""A product that a customer holds, as far as the catalog needs to know it: to price it again, to count its holders."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from chassis.types import Json


class HoldingStatus(StrEnum):
    """Where a product is in its life (TMF637); the blank in the last one is TM Forum's."""

    CREATED = "created"
    PENDING_ACTIVE = "pendingActive"
    CANCELLED = "cancelled"
    ACTIVE = "active"
    PENDING_TERMINATE = "pendingTerminate"
    TERMINATED = "terminated"
    SUSPENDED = "suspended"
    ABORTED = "aborted "

    @property
    def live(self) -> bool:
        """Whether its offering is still needed: it is held, or about to be."""
        return self in _LIVE


_LIVE = frozenset(
    {
        HoldingStatus.CREATED,
        HoldingStatus.PENDING_ACTIVE,
        HoldingStatus.ACTIVE,
        HoldingStatus.SUSPENDED,
        HoldingStatus.PENDING_TERMINATE,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SoldAlteration:
    """A discount (negative) or surcharge that is part of a price as sold; `duration` in `units`, from when the price
    began, or `until` an instant, where it was there before and an order has carried it over; neither: for ever."""

    price_id: str = ""
    net: Decimal | None = None
    duration: int | None = None
    units: str = ""
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SoldPrice:
    """A price as it was sold, for the whole quantity and with its alterations: it stays what it was, whatever the
    catalog says by now. Net and gross as far as they were stated; `tax_rate` in percent; `period` as `month`."""

    price_id: str = ""
    price_type: str = ""
    period: str = ""
    currency: str = ""
    net: Decimal | None = None
    gross: Decimal | None = None
    tax_rate: Decimal | None = None
    alteration: tuple[SoldAlteration, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """A product, with all that it would be priced by if it were sold again.

    `version`: of the product in the inventory; `bundle_id`: the product that it is a part of; `place`: ids, in the
    product's order; `market_segment`: ids and names, where the inventory knows them.
    """

    id: str
    branch: str
    version: int
    status: HoldingStatus
    # An object: the value of each by its name.
    characteristic: Json
    customer_id: str | None = None
    billing_account_id: str | None = None
    product_offering_id: str | None = None
    product_specification_id: str | None = None
    bundle_id: str | None = None
    started_at: datetime | None = None
    # By the order that sold it as it is; a product itself doesn't say.
    quantity: int = 1
    ordered_at: datetime | None = None
    term: str = ""
    place: tuple[str, ...] = ()
    agreement_id: str | None = None
    market_segment: tuple[str, ...] = ()
    sold: tuple[SoldPrice, ...] = ()
