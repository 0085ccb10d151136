"""The table of products."""

from collections.abc import Mapping

from chassis.db import Resource, aggregate_table
from chassis.types import Aggregate
from orders.inventory.domain import Product
from orders.schema import metadata
from svyaz.orders.v1 import inventory_pb2

product = aggregate_table(metadata, "product", Product)

RESOURCES: Mapping[type[Aggregate], Resource] = {Product: Resource(inventory_pb2.Product, product)}
