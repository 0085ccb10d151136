"""Everything that the service keeps: the tables of its sub-domains, mapped onto their classes."""

from collections.abc import Mapping

from chassis.bulk import stage_table
from chassis.schema import Resource, map_aggregate
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
from customers.privacy import store as privacy
from customers.privacy.accesses import access
from customers.role import store as role
from customers.schema import UnderErasure, UnderMerge, log, mapper, metadata, under_erasure, under_merge
from customers.task import store as task
from customers.value import store as value
from customers.view.store import view_item

__all__ = ["ISOLATED", "RESOURCES", "metadata"]

RESOURCES: Mapping[type[Aggregate], Resource] = {
    **identity.answered_by_survivors(party.RESOURCES),
    **account.RESOURCES,
    **value.RESOURCES,
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
    **privacy.RESOURCES,
}
# The tables that are under the policies of branches.
ISOLATED = (
    *(resource.table.name for resource in RESOURCES.values()),
    interaction.timeline_entry.name,
    *identity.ISOLATED,
    *value.ISOLATED,
    *permission.ISOLATED,
    *loyalty.ISOLATED,
    *matching.ISOLATED,
    *hierarchy.ISOLATED,
    *document.ISOLATED,
    "reference",
    "import_row",
    "event",
    view_item.name,
    *privacy.ISOLATED,
    access.name,
)

for _target in (
    *(RESOURCES[_cls].table for _cls in importing.STAGED),
    *matching.STAGED,
    party.references.table,
    log.event,
):
    _stage = stage_table(metadata, _target)
    under_merge(UnderMerge.NONE, _stage)
    # What an import has staged is gone with its last batch.
    under_erasure(UnderErasure.EXPIRES, _stage)

# Ledgers and figures hold ids, amounts, times and codes.
for _name in (
    "loyalty_lot",
    "loyalty_entry",
    "loyalty_posting",
    "loyalty_earning",
    "tier_change",
    "value_model_artefact",
    "valuation_progress",
    "financial_line",
    "customer_product",
    "customer_worth",
    "value_floor",
    # The words that names consist of, and nobody's name.
    "name_word",
    "unindexed",
):
    under_erasure(UnderErasure.KEPT, metadata.tables[_name])
# The spellings that a person is found by.
under_erasure(UnderErasure.DELETED, metadata.tables["party_key"], columns=("party_id", "source_id"))

for _cls, _resource in RESOURCES.items():
    map_aggregate(mapper, _cls, _resource.table)
