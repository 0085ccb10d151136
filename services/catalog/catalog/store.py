"""Everything that the catalog keeps: the tables of its sub-domains, mapped onto their classes."""

from collections.abc import Mapping

from catalog.generation import store as generation
from catalog.holding import store as holding
from catalog.preview import store as preview
from catalog.pricing import store as pricing
from catalog.product import store as product
from catalog.promotion import store as promotion
from catalog.publication import store as publication
from catalog.qualification import store as qualification
from catalog.recommendation import store as recommendation
from catalog.schema import mapper, metadata
from catalog.transfer import store as transfer
from chassis.schema import Resource, map_aggregate
from chassis.types import Aggregate

__all__ = ["AUTHORSHIP", "ISOLATED", "PREVIEWS", "PROJECTIONS", "RESOURCES", "metadata"]

RESOURCES: Mapping[type[Aggregate], Resource] = {
    **product.RESOURCES,
    **pricing.RESOURCES,
    **qualification.RESOURCES,
    **recommendation.RESOURCES,
    **transfer.RESOURCES,
    **generation.RESOURCES,
    **promotion.RESOURCES,
}
# What isn't ours but learned from others' events.
PROJECTIONS = (holding.holding,)
PREVIEWS = (preview.preview, preview.preview_group, preview.preview_difference)
# Of what is sold: who changed and who approved it.
AUTHORSHIP = publication.authorship
# The tables that are under the policies of branches, beside the log.
ISOLATED = promotion.ISOLATED

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)
