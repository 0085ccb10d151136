"""Everything that the catalog keeps: the tables of its sub-domains, mapped onto their classes."""

from collections.abc import Mapping

from catalog.pricing import store as pricing
from catalog.product import store as product
from catalog.promotion import store as promotion
from catalog.schema import mapper, metadata
from chassis.db import Resource, map_aggregate
from chassis.types import Aggregate

__all__ = ["ISOLATED", "RESOURCES", "metadata"]

RESOURCES: Mapping[type[Aggregate], Resource] = {**product.RESOURCES, **pricing.RESOURCES, **promotion.RESOURCES}
# The tables that are under the policies of branches, beside the log.
ISOLATED = promotion.ISOLATED

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)
