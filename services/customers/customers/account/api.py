"""What accounts can be asked to do."""

from collections.abc import Callable, Sequence
from typing import Any

from chassis.db import Database
from chassis.resources import Collection, StandardMethods
from customers.account.domain import (
    BillFormat,
    BillingAccount,
    BillingCycleSpecification,
    BillPresentationMedia,
    FinancialAccount,
    PartyAccount,
    SettlementAccount,
)
from customers.party.references import Watcher, collection
from svyaz.customers.v1 import account_pb2


class Accounts(StandardMethods):
    """TMF666."""

    def __init__(
        self,
        database: Database,
        kind: Callable[..., Collection[Any, Any]] = Collection,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        super().__init__(
            account_pb2.DESCRIPTOR.services_by_name["AccountService"],
            collection(database, PartyAccount, account_pb2.PartyAccount, kind, watchers),
            collection(database, BillingAccount, account_pb2.BillingAccount, kind, watchers),
            collection(database, SettlementAccount, account_pb2.SettlementAccount, kind, watchers),
            collection(database, FinancialAccount, account_pb2.FinancialAccount, kind, watchers),
            collection(database, BillFormat, account_pb2.BillFormat),
            collection(database, BillPresentationMedia, account_pb2.BillPresentationMedia),
            collection(database, BillingCycleSpecification, account_pb2.BillingCycleSpecification),
        )
