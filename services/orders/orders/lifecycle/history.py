"""What has happened to a product, version by version: what changed, by whom, by which order. Pure: no I/O, no clock."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from chassis.products import ProductStatus
from orders.inventory.domain import Product

# An order's category says whose idea it was.
MIGRATION, LIFECYCLE = "migration", "lifecycle"
_OF_THE_VERSION = frozenset({"revision", "branch", "id"})
# What TerminateProduct and its like write themselves.
_LIFECYCLE = frozenset({"suspension", "status_order_id", "termination_order_id"})


class ProductChangeCause(StrEnum):
    """Why a product changed."""

    ORDER = "order"
    MIGRATION = "migration"
    LIFECYCLE = "lifecycle"
    MANUAL = "manual"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A product as an event tells of it."""

    number: int
    at: datetime
    type: str
    actor: str
    on_behalf_of: str
    product: Product


@dataclass(frozen=True, kw_only=True)
class ProductChange:
    """What became of a product in one version."""

    version: int
    at: datetime
    type: str
    status: ProductStatus | None
    cause: ProductChangeCause
    actor: str
    on_behalf_of: str
    product_order_id: str
    attribute: tuple[str, ...]


def orders_in(versions: Sequence[Version]) -> set[str]:
    """The orders that any of the versions speaks of."""
    return {order for version in versions for order in _orders(version.product)}


def changes(
    before: Product | None, versions: Sequence[Version], categories: Mapping[str, str]
) -> Iterator[ProductChange]:
    """What each version changed, `before` the first of them; `categories`: of orders, by id, where they have one."""
    for version in versions:
        changed = tuple(_differing(before, version.product))
        order_id = _order(before, version.product, changed)
        yield ProductChange(
            version=version.number,
            at=version.at,
            type=version.type,
            status=version.product.status,
            cause=_cause(order_id, changed, categories),
            actor=version.actor,
            on_behalf_of=version.on_behalf_of,
            product_order_id=order_id,
            attribute=changed,
        )
        before = version.product


def _differing(before: Product | None, after: Product) -> Iterator[str]:
    for field in fields(Product):
        name = field.name
        if name in _OF_THE_VERSION:
            continue
        old = getattr(before, name) if before is not None else field.default
        if getattr(after, name) != old:
            yield name


def _orders(product: Product) -> list[str]:
    return [one.product_order_id for one in product.product_order_item if one.product_order_id]


def _order(before: Product | None, after: Product, changed: Sequence[str]) -> str:
    """The order by which it came about; empty: none."""
    known = _orders(before) if before is not None else []
    new = [order for order in _orders(after) if order not in known]
    if new:
        return new[-1]
    if before is not None and before.status_order_id and not after.status_order_id:
        return before.status_order_id
    if "status_order_id" in changed and after.status_order_id:
        return after.status_order_id
    if "termination_order_id" in changed and after.termination_order_id:
        return after.termination_order_id
    # Only an order activates what it has begun, prices it, or gives it up.
    if known and not _LIFECYCLE.intersection(changed) and {"status", "product_price"}.intersection(changed):
        return known[-1]
    return ""


def _cause(order_id: str, changed: Sequence[str], categories: Mapping[str, str]) -> ProductChangeCause:
    category = categories.get(order_id)
    if category == MIGRATION:
        return ProductChangeCause.MIGRATION
    if category == LIFECYCLE or _LIFECYCLE.intersection(changed):
        return ProductChangeCause.LIFECYCLE
    return ProductChangeCause.ORDER if order_id else ProductChangeCause.MANUAL
