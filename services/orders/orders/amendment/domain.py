"""What becomes of orders that are amended."""

from dataclasses import dataclass
from datetime import datetime

from chassis.types import Aggregate, Money


@dataclass(kw_only=True, eq=False)
class ProductOrderAmendment(Aggregate):
    """One change of an order while it was carried out; it stays as it is."""

    product_order_id: str
    # Ids of the order's items.
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    undone: int = 0
    done_again: int = 0
    undo_cost: tuple[Money, ...] = ()
    requested_by: str | None = None
    amended_at: datetime | None = None

    @property
    def ordering_key(self) -> str:
        """Its order's: consumers see both in one sequence."""
        return self.product_order_id
