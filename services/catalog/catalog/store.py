"""Everything that the catalog keeps: the tables of its sub-domains, mapped onto their classes."""

from collections.abc import Mapping

from catalog.generation import store as generation
from catalog.product import store as product
from catalog.schema import mapper, metadata
from catalog.transfer import store as transfer
from chassis.db import Resource, map_aggregate
from chassis.types import Aggregate

__all__ = ["RESOURCES", "metadata"]

RESOURCES: Mapping[type[Aggregate], Resource] = {**product.RESOURCES, **transfer.RESOURCES, **generation.RESOURCES}

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)
