"""What accounts can be asked to do."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.unit import Unit
from customers.account.domain import (
    Account,
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

_BILLING = "billing"


def only_billing_says_what_it_holds(unit: Unit, account: Account) -> None:
    """Raises InvalidArgument IMMUTABLE when anybody but billing changes an account's balance: in TMF666 nobody can, but
    somebody has to tell us of it."""
    state = sa.inspect(account)
    before = state.committed_state.get("account_balance", account.account_balance)
    if state.persistent and before != account.account_balance and _BILLING not in unit.call.principal.roles:
        raise InvalidArgument(
            "IMMUTABLE",
            "billing says what an account holds",
            violations=[Violation("account_balance", "billing says what an account holds")],
        )


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
            collection(
                database, PartyAccount, account_pb2.PartyAccount, kind, watchers, only_billing_says_what_it_holds
            ),
            collection(
                database, BillingAccount, account_pb2.BillingAccount, kind, watchers, only_billing_says_what_it_holds
            ),
            collection(
                database,
                SettlementAccount,
                account_pb2.SettlementAccount,
                kind,
                watchers,
                only_billing_says_what_it_holds,
            ),
            collection(database, FinancialAccount, account_pb2.FinancialAccount, kind, watchers),
            collection(database, BillFormat, account_pb2.BillFormat),
            collection(database, BillPresentationMedia, account_pb2.BillPresentationMedia),
            collection(database, BillingCycleSpecification, account_pb2.BillingCycleSpecification),
        )
