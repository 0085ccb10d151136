"""What has been imported, and what can be."""

from collections.abc import Sequence

import sqlalchemy as sa

from chassis.types import Aggregate
from customers.account.domain import BillingAccount
from customers.party.domain import Customer, Individual, Organization
from customers.schema import UnderErasure, UnderMerge, metadata, under_erasure, under_merge

# Which line of which source has become which customer, and which keys a dataset's rows have (hashed: they may name a
# person): what has a row here is never imported again. Where several sources have one key, the row is the last one's.
import_row = sa.Table(
    "import_row",
    metadata,
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("line", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("key_hash", sa.LargeBinary),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("imported_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Index("import_row_branch_dataset_key_hash", "branch", "dataset", "key_hash", unique=True),
)
# Which customer a line became stays what it was.
under_merge(UnderMerge.OWN, import_row, columns=("customer_id",))
under_erasure(UnderErasure.KEPT, import_row)

# What can be imported in bulk.
STAGED: Sequence[type[Aggregate]] = (Individual, Organization, Customer, BillingAccount)
