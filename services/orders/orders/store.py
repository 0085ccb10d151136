"""Everything that orders keeps: the tables of its sub-domains, mapped onto their classes."""

from collections.abc import Mapping

from chassis.schema import Resource, map_aggregate
from chassis.types import Aggregate
from orders.amendment import store as amendment
from orders.billing import store as billing
from orders.billing import tables as billing_tables
from orders.bulk import store as bulk
from orders.cart import store as cart
from orders.fulfilment import store as fulfilment
from orders.identity import store as identity
from orders.inventory import store as inventory
from orders.migration import store as migration
from orders.ordering import store as ordering
from orders.schema import mapper, metadata
from orders.template import store as template
from orders.tracking import store as tracking

__all__ = ["RESOURCES", "billing", "billing_tables", "identity", "metadata"]

RESOURCES: Mapping[type[Aggregate], Resource] = {
    **ordering.RESOURCES,
    **fulfilment.RESOURCES,
    **inventory.RESOURCES,
    **migration.RESOURCES,
    **template.RESOURCES,
    **tracking.RESOURCES,
    **amendment.RESOURCES,
    **cart.RESOURCES,
    **bulk.RESOURCES,
}

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)
