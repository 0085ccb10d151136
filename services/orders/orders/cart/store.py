"""The tables of carts."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from chassis.unit import Unit
from orders.cart.domain import ShoppingCart
from orders.schema import metadata
from svyaz.orders.v1 import cart_pb2
from svyaz.type.v1 import receipt_pb2

shopping_cart = aggregate_table(metadata, "shopping_cart", ShoppingCart)
# Why a cart costs what it costs.
cart_receipt = sa.Table(
    "cart_receipt",
    metadata,
    sa.Column("shopping_cart_id", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {ShoppingCart: Resource(cart_pb2.ShoppingCart, shopping_cart)}

_KEEP = """
    INSERT INTO cart_receipt (shopping_cart_id, branch, receipt) VALUES (%(cart)s, %(branch)s, %(receipt)s)
    ON CONFLICT (shopping_cart_id) DO UPDATE SET receipt = excluded.receipt
"""


def keep_receipt(unit: Unit, cart: ShoppingCart, receipt: receipt_pb2.Receipt | None) -> None:
    """Keeps the pricing receipt of a cart in the place of an earlier one; None: nothing is priced in it any more."""
    if receipt is None:
        forget_receipts(unit, [cart.id])
    else:
        unit.later(_KEEP, {"cart": cart.id, "branch": cart.branch, "receipt": receipt.SerializeToString()})


def receipt_of(unit: Unit, cart_id: str) -> bytes | None:
    """The pricing receipt of a cart, if there is one."""
    found: bytes | None = unit.session.scalar(
        sa.select(cart_receipt.c.receipt).where(cart_receipt.c.shopping_cart_id == cart_id)
    )
    return found


def forget_receipts(unit: Unit, cart_ids: Sequence[str]) -> None:
    """Why these carts cost what they cost isn't known any more: what was asked for is in it."""
    unit.later("DELETE FROM cart_receipt WHERE shopping_cart_id = ANY (%(carts)s)", {"carts": list(cart_ids)})
