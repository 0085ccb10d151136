"""Everything that the service keeps: the tables of its sub-domains, mapped onto their classes."""

from collections.abc import Mapping

from chassis.bulk import stage_table
from chassis.db import Resource, map_aggregate
from chassis.types import Aggregate
from customers.account import store as account
from customers.agreement import store as agreement
from customers.document import store as document
from customers.identity import store as identity
from customers.importing import store as importing
from customers.interaction import ownership_store as ownership
from customers.interaction import store as interaction
from customers.loyalty import store as loyalty
from customers.matching import store as matching
from customers.party import hierarchy
from customers.party import store as party
from customers.permission import store as permission
from customers.role import store as role
from customers.schema import UnderMerge, log, mapper, metadata, under_merge
from customers.task import store as task
from customers.view.store import view_item

__all__ = ["ISOLATED", "RESOURCES", "metadata"]

RESOURCES: Mapping[type[Aggregate], Resource] = {
    **identity.answered_by_survivors(party.RESOURCES),
    **account.RESOURCES,
    **identity.RESOURCES,
    **matching.RESOURCES,
    **role.RESOURCES,
    **document.RESOURCES,
    **agreement.RESOURCES,
    **task.RESOURCES,
    **interaction.RESOURCES,
    **ownership.RESOURCES,
    **permission.RESOURCES,
    **loyalty.RESOURCES,
}
# The tables that are under the policies of branches.
ISOLATED = (
    *(resource.table.name for resource in RESOURCES.values()),
    interaction.timeline_entry.name,
    *identity.ISOLATED,
    *permission.ISOLATED,
    *loyalty.ISOLATED,
    *matching.ISOLATED,
    *hierarchy.ISOLATED,
    *document.ISOLATED,
    "reference",
    "import_row",
    "event",
    view_item.name,
)

for _target in (
    *(RESOURCES[_cls].table for _cls in importing.STAGED),
    *matching.STAGED,
    party.references.table,
    log.event,
):
    under_merge(UnderMerge.NONE, stage_table(metadata, _target))

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)
