"""The table of amendments."""

from collections.abc import Mapping

import sqlalchemy as sa

from chassis.schema import Resource, aggregate_table
from chassis.types import Aggregate
from orders.amendment.domain import ProductOrderAmendment
from orders.schema import metadata
from svyaz.orders.v1 import amendment_pb2

product_order_amendment = aggregate_table(
    metadata,
    "product_order_amendment",
    ProductOrderAmendment,
    sa.Index("product_order_amendment_product_order_id", "product_order_id", "branch"),
)

RESOURCES: Mapping[type[Aggregate], Resource] = {
    ProductOrderAmendment: Resource(amendment_pb2.ProductOrderAmendment, product_order_amendment)
}
