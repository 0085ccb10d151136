"""Whatever is done while customers are merged, both histories are right when they are parted again.

Beside the service a model keeps every customer as it would be if nobody had ever been merged, and who stands for whom
as a forest of its own. Whatever happens they have to agree; in the end all merges are undone, and nothing may be left
of them but that they were.
"""

import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from chassis.db import Database
from chassis.errors import FailedPrecondition
from customers import store as everything
from customers.schema import UnderMerge, rule_under_merge
from customers.value.runs import ONE
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import values_pb2
from tests.conftest import ServiceDatabase
from tests.customers.conftest import ACCOUNT, CUSTOMER, PARTY
from tests.customers.test_merge import account_of, got, known, listed, members, merged, parted, plain, renamed
from tests.customers.test_references import heard
from tests.serving import Caller

_COUNT = 4
ANYBODY = st.integers(0, _COUNT - 1)

# What a merge may write: its own links, the log of events with what is still to be sent of it, what was answered and
# to whom.
_WRITTEN = ("event", "outbox", "idempotency", "access")
# What else of a table is its own: that it is referred to by what was merged, and that who was merged is valued anew.
_OURS = {"reference": "referrer_type = 'CustomerMerge'", "timer": f"purpose = '{ONE}'"}


def _untouched() -> str:
    """A statement for a digest of every other table."""
    parts = []
    for table in everything.metadata.sorted_tables:
        said = rule_under_merge(table)
        if table.name in _WRITTEN or said is None or said[0] is UnderMerge.LINK:
            continue
        where = f" WHERE NOT ({_OURS[table.name]})" if table.name in _OURS else ""
        parts.append(
            f"SELECT '{table.name}', md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table.name} AS t{where}"  # noqa: S608
        )
    return " UNION ALL ".join(parts)


class Merging(RuleBasedStateMachine):
    """Customers who are merged, parted, and go on living."""

    def __init__(self, agent: Caller, database: Database, admin: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.agent, self.database, self.admin = agent, database, admin
        self.ids: list[str] = []
        # As if nobody had ever been merged: each id's own record, accounts with their balances, products.
        self.records: dict[str, Any] = {}
        self.parties: dict[str, Any] = {}
        self.accounts: dict[str, dict[str, int]] = {}
        self.products: dict[str, list[str]] = {}
        # Absorbed → what it was merged into; the merge by the absorbed one's id.
        self.into: dict[str, str] = {}
        self.merges: dict[str, Any] = {}
        # Instants, with who stood for whom and what everybody was called.
        self.past: list[tuple[datetime, dict[str, str], dict[str, str]]] = []

    def survivor(self, customer: str) -> str:
        while customer in self.into:
            customer = self.into[customer]
        return customer

    def group(self, customer: str) -> list[str]:
        first = self.survivor(customer)
        return [first, *sorted(one for one in self.ids if one != first and self.survivor(one) == first)]

    @initialize(chain=st.integers(0, _COUNT - 1), with_parties=st.booleans())
    def several_customers(self, chain: int, with_parties: bool) -> None:
        """Of whom some have been merged one into the next."""
        for number in range(_COUNT):
            made = known(self.agent, f"Customer {number}")
            self.ids.append(made.id)
            self.records[made.id] = made
            self.parties[made.id] = self.agent(f"{PARTY}GetIndividual", id=made.engaged_party.id)
            self.accounts[made.id], self.products[made.id] = {}, []
        for number in range(chain):
            self._merge(self.ids[number], self.ids[number + 1], with_parties)

    def _look_back(self) -> None:
        survivors = {one: self.survivor(one) for one in self.ids}
        self.past.append((datetime.now(UTC), survivors, {one: self.records[one].name for one in self.ids}))
        # The next thing happens at a later microsecond.
        time.sleep(0.001)

    @property
    def apart(self) -> list[str]:
        """Those who go by their own id."""
        return [one for one in self.ids if one not in self.into]

    @precondition(lambda self: self.into)
    @rule(data=st.data(), one=ANYBODY)
    def merge_whom_it_cannot_be(self, data: st.DataObject, one: int) -> None:
        absorbed, other = data.draw(st.sampled_from(sorted(self.into, key=self.ids.index))), self.ids[one]
        before = self.digest()
        for pair in ((absorbed, other), (other, absorbed)):
            with pytest.raises(FailedPrecondition):
                merged(self.agent, *pair)
        assert self.digest() == before

    @precondition(lambda self: len(self.apart) > 1)
    @rule(data=st.data(), with_parties=st.booleans())
    def merge(self, data: st.DataObject, with_parties: bool) -> None:
        absorbed, survivor = data.draw(st.permutations(self.apart))[:2]
        self._merge(absorbed, survivor, with_parties)

    def _merge(self, absorbed: str, survivor: str, with_parties: bool) -> None:
        before = self.digest()
        made = merged(self.agent, absorbed, survivor, merge_parties=with_parties)
        self.into[absorbed], self.merges[absorbed] = survivor, made
        assert list(made.member_id) == self.group(survivor)
        assert self.digest() == before
        self._look_back()

    @precondition(lambda self: self.merges)
    @rule(data=st.data())
    def part(self, data: st.DataObject) -> None:
        self._part(data.draw(st.sampled_from(sorted(self.merges, key=self.ids.index))))

    def _part(self, absorbed: str) -> None:
        before = self.digest()
        into = self.into.pop(absorbed)
        undone = parted(self.agent, self.merges.pop(absorbed).id)
        assert (list(undone.member_id), list(undone.parted_id)) == (self.group(into), self.group(absorbed))
        assert self.digest() == before
        self._look_back()

    @rule(one=ANYBODY, name=st.text(st.characters(categories=["L"]), min_size=1, max_size=5))
    def rename(self, one: int, name: str) -> None:
        customer = self.ids[one]
        if customer in self.into:
            with pytest.raises(FailedPrecondition) as refusal:
                renamed(self.agent, customer, f"{name} renamed")
            assert refusal.value.metadata["survivor"] == self.survivor(customer)
        else:
            self.records[customer] = renamed(self.agent, customer, f"{name} renamed")
        self._look_back()

    @rule(one=ANYBODY, som=st.integers(-1_000, 1_000))
    def open_an_account(self, one: int, som: int) -> None:
        """Under any of his ids: who has an old one goes on using it."""
        customer = self.ids[one]
        self.accounts[customer][account_of(self.agent, customer, som).id] = som

    @rule(one=ANYBODY)
    def hold_a_product(self, one: int) -> None:
        """Orders and the inventory go on under the id that they have."""
        customer = self.ids[one]
        product = f"product-{len(self.products[customer])}-of-{customer}"
        party = values_pb2.RelatedParty(id=customer, role="customer", at_referred_type="Customer")
        heard(self.database, inventory_pb2.Product(id=product, related_party=[party]), 1, "Create")
        self.products[customer].append(product)

    @rule(one=ANYBODY)
    def delete(self, one: int) -> None:
        """Nobody whom a merge has to do with is deleted, or who has anything."""
        customer = self.ids[one]
        if customer in self.into or customer in self.into.values() or self.accounts[customer]:
            with pytest.raises(FailedPrecondition):
                self.agent(f"{CUSTOMER}DeleteCustomer", id=customer)

    @rule(one=ANYBODY)
    def look(self, one: int) -> None:
        customer = self.ids[one]
        group = self.group(customer)
        resolved = self.agent("svyaz.customers.v1.IdentityService/ResolveCustomer", id=customer)
        assert list(resolved.member_id) == group
        assert list(resolved.customer) == [self.records[each] for each in group]
        shown = got(self.agent, customer)
        assert plain(shown) == self.records[group[0]]
        assert shown.merged_from == ("" if group[0] == customer else customer)

    def teardown(self) -> None:
        if not self.ids:
            return
        roots = sorted({self.survivor(one) for one in self.ids})
        # Everything of everybody is found once, under whoever they go by now.
        assert self.balances(roots) == {
            account: som for accounts in self.accounts.values() for account, som in accounts.items()
        }
        page = listed(self.agent, id=self.ids)
        assert (sorted(one.id for one in page.items), page.page.total_size) == (roots, len(roots))
        self.check_the_past()
        for absorbed in sorted(self.merges, key=self.ids.index):
            self._part(absorbed)
        self.check_all_are_apart()
        self.check_the_past()

    def balances(self, customers: list[str]) -> dict[str, int]:
        found = [
            (account.id, account.account_balance[0].amount.units)
            for customer in customers
            for account in listed(self.agent, f"{ACCOUNT}ListBillingAccounts", **{"related_party.id": customer}).items
        ]
        assert len(dict(found)) == len(found)
        return dict(found)

    def check_the_past(self) -> None:
        for at, survivors, names in self.past[-6:]:
            for customer in self.ids:
                was = got(self.agent, customer, at)
                assert (was.id, was.name) == (survivors[customer], names[survivors[customer]])

    def check_all_are_apart(self) -> None:
        """Each is what it would be if nobody had been merged, its history without a gap, and nothing points nowhere."""
        for customer in self.ids:
            assert got(self.agent, customer) == self.records[customer]
            assert members(self.agent, customer) == [customer]
            party = self.parties[customer]
            assert self.agent(f"{PARTY}GetIndividual", id=party.id) == party
            assert self.balances([customer]) == self.accounts[customer]
            versions = self.admin.execute(
                "SELECT version FROM event WHERE aggregate_id = %s ORDER BY version", (customer,)
            ).fetchall()
            assert [version for (version,) in versions] == list(range(1, int(self.records[customer].etag) + 1))
            referrers = self.admin.execute("SELECT referrer_id FROM reference WHERE target_id = %s", (customer,))
            assert {referrer for (referrer,) in referrers} == {*self.accounts[customer], *self.products[customer]}
        links = self.admin.execute(
            "SELECT count(*) FROM merged_customer FULL JOIN merged_party USING (merge_id)"
            " WHERE merged_customer.absorbed_id = ANY (%s)",
            (self.ids,),
        ).fetchone()
        assert links == (0,)

    def digest(self) -> dict[str, Any]:
        """By table: in which order these are answered is the server's affair."""
        return dict(self.admin.execute(_untouched()).fetchall())


def test_both_histories_are_right_after_a_merge_is_undone(
    agent: Caller, database: Database, place: ServiceDatabase
) -> None:
    with psycopg.connect(place.admin_url, autocommit=True) as admin:
        run_state_machine_as_test(
            # It may be anything that makes one.
            lambda: Merging(agent, database, admin),  # type: ignore[arg-type]
            settings=settings(
                max_examples=5,
                stateful_step_count=14,
                # A failure is a few steps long already, and finding a shorter one takes minutes.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
