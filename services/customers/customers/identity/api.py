"""How customers are merged and parted, and who an id stands for."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from chassis.types import decimal_of, new_id
from chassis.unit import Unit, missing
from customers.identity import store
from customers.identity.domain import CustomerMerge
from customers.identity.store import CUSTOMERS, PARTIES
from customers.identity.survival import choose
from customers.party.domain import Customer, Individual, Organization
from customers.party.store import remember
from svyaz.customers.v1 import customers_pb2, identity_pb2

# What is done about a customer who is more, or less, than he was: (unit, id, branch).
Changed = Callable[[Unit, str, str], None]

# Whoever is so many is a mistake that somebody should look at first.
MAX_MEMBERS = 1_000


class Identities(StandardMethods):
    """Merges: links between customers that are one, made and taken away again."""

    def __init__(self, database: Database, changed: Changed = lambda unit, customer_id, branch: None) -> None:
        self._database = database
        self._changed = changed
        super().__init__(
            identity_pb2.DESCRIPTOR.services_by_name["IdentityService"],
            Collection(database, CustomerMerge, identity_pb2.CustomerMerge),
        )

    def MergeCustomers(self, request: identity_pb2.MergeCustomersRequest, context: Any) -> identity_pb2.CustomerMerge:
        """Links two customers of one branch; see `merge`."""
        _check(request)

        def work(unit: Unit) -> identity_pb2.CustomerMerge:
            made = merge(
                unit,
                request.survivor_id,
                request.absorbed_id,
                reason=request.reason,
                score=decimal_of(request.score) if request.score else None,
                by_rule=request.by_rule,
                merge_parties=request.merge_parties,
                etags=(request.survivor_etag, request.absorbed_etag),
            )
            self._changed(unit, made.survivor_id or "", made.branch)
            return convert.to_message(made, identity_pb2.CustomerMerge)

        return self._database.transact(request, identity_pb2.CustomerMerge, work)

    def UnmergeCustomers(
        self, request: identity_pb2.UnmergeCustomersRequest, context: Any
    ) -> identity_pb2.CustomerMerge:
        """Takes a merge's links away; see `unmerge`."""

        def work(unit: Unit) -> identity_pb2.CustomerMerge:
            undone = unmerge(unit, request.merge_id, request.reason, request.etag)
            for customer_id in (undone.survivor_id, undone.absorbed_id):
                self._changed(unit, customer_id or "", undone.branch)
            unit.flush()
            return convert.to_message(undone, identity_pb2.CustomerMerge)

        return self._database.transact(request, identity_pb2.CustomerMerge, work)

    def ResolveCustomer(
        self, request: identity_pb2.ResolveCustomerRequest, context: Any
    ) -> identity_pb2.ResolvedCustomer:
        """Raises NotFound for an id that no customer has (had, at that instant)."""
        with self._database.unit() as unit:
            at = convert.from_timestamp(request.at) if request.HasField("at") else None
            ids = store.members(unit, request.id) if at is None else store.members_at(unit, request.id, at)
            merges = store.merges_among(unit, ids, at or unit.at)
            found = {one.id: one for one in unit.load(Customer, "id = ANY (%(ids)s)", {"ids": list(ids)})}
            records = [convert.to_message(found[one], customers_pb2.Customer) for one in ids if one in found]
            answer = identity_pb2.ResolvedCustomer(
                survivor_id=ids[0],
                member_id=ids,
                merge=[convert.to_message(one, identity_pb2.CustomerMerge) for one in merges],
            )
        if at is not None:
            past = (store.record_at(self._database, one, at) for one in ids)
            records = [record for record in past if record is not None]
        if not records:
            raise missing(Customer, request.id)
        answer.customer.extend(records)
        return answer


def merge(
    unit: Unit,
    survivor_id: str,
    absorbed_id: str,
    *,
    reason: str,
    score: Decimal | None = None,
    by_rule: bool = False,
    merge_parties: bool = False,
    etags: tuple[str, str] = ("", ""),
) -> CustomerMerge:
    """Makes one customer of two, from now on and until it is undone; for the API, and for who finds duplicates.

    Raises NotFound; InvalidArgument OTHER_BRANCH; FailedPrecondition SAME_CUSTOMER, ALREADY_MERGED, TOO_MANY_MEMBERS,
    PARTIES_DIFFER, PARTY_ALREADY_MERGED; Aborted STALE_ETAG.
    """
    _alone(unit)
    given = unit.get(Customer, survivor_id, etags[0])
    other = unit.get(Customer, absorbed_id, etags[1])
    _require_apart(unit, given, other)
    choice = choose(store.candidate(unit, given), store.candidate(unit, other), by_rule=by_rule)
    survivor, absorbed = (given, other) if choice.survivor_id == given.id else (other, given)
    principal = unit.call.principal
    made = CustomerMerge(
        id=new_id(),
        branch=survivor.branch,
        survivor_id=survivor.id,
        absorbed_id=absorbed.id,
        reason=reason or None,
        score=score,
        merged_by=principal.on_behalf_of or principal.subject,
        receipt=choice.receipt,
    )
    made.check(unit.at)
    if merge_parties:
        _link_parties(unit, made, survivor, absorbed)
    store.link(unit, CUSTOMERS, absorbed.id, survivor.id, made)
    made.member_id = store.members(unit, survivor.id)
    if len(made.member_id) > MAX_MEMBERS:
        raise FailedPrecondition(
            "TOO_MANY_MEMBERS", f"customer {survivor.id} would have more than {MAX_MEMBERS} ids: that can't be right"
        )
    remember(unit, made, new=True)
    unit.add(made)
    unit.flush()
    return made


def unmerge(unit: Unit, merge_id: str, reason: str, etag: str = "") -> CustomerMerge:
    """Makes two of one again: the absorbed customer goes by its own id, with whoever had been merged into it.

    Raises NotFound; InvalidArgument MALFORMED_MERGE; FailedPrecondition ALREADY_UNDONE; Aborted STALE_ETAG.
    """
    _alone(unit)
    undone = unit.get(CustomerMerge, merge_id, etag)
    undone.require_active()
    for links in (CUSTOMERS, PARTIES):
        store.part(unit, links, undone.id)
    principal = unit.call.principal
    remaining = store.members(unit, undone.survivor_id or "")
    parted = store.members(unit, undone.absorbed_id or "")
    undone.undo(principal.on_behalf_of or principal.subject, reason, remaining, parted, unit.at)
    remember(unit, undone)
    return undone


def _alone(unit: Unit) -> None:
    """Until the end of the transaction nobody else merges or parts, changes or deletes a customer; what they have done
    before is seen. The instant is the one from which on that is so, else histories of two merges could overlap."""
    lock_references(unit)
    unit.at = unit.database.clock.now()


def _check(request: identity_pb2.MergeCustomersRequest) -> None:
    wrong = [Violation(name, "required") for name in ("survivor_id", "absorbed_id") if not getattr(request, name)]
    if request.score:
        try:
            decimal_of(request.score)
        except ValueError as error:
            wrong.append(Violation("score", str(error)))
    if wrong:
        raise InvalidArgument("MALFORMED_MERGE", f"{wrong[0].field}: {wrong[0].description}", violations=wrong)


def _require_apart(unit: Unit, given: Customer, other: Customer) -> None:
    if given.id == other.id:
        raise FailedPrecondition("SAME_CUSTOMER", f"customer {given.id} can't be merged with itself")
    if given.branch != other.branch:
        raise InvalidArgument(
            "OTHER_BRANCH",
            "customers of two branches are never merged",
            violations=[Violation("absorbed_id", "of another branch than the survivor")],
        )
    for customer in (given, other):
        goes_by = store.survivor(unit, customer.id)
        if goes_by != customer.id:
            raise FailedPrecondition(
                "ALREADY_MERGED",
                f"customer {customer.id} has been merged into {goes_by}: merge that one, or part them first",
                metadata={"survivor": goes_by},
            )


def _link_parties(unit: Unit, made: CustomerMerge, survivor: Customer, absorbed: Customer) -> None:
    """Links the parties that the two engage; nothing is to be done when these are one already."""
    into, party = (
        customer.engaged_party.id if customer.engaged_party is not None else None for customer in (survivor, absorbed)
    )
    kinds = {_kind(unit, one) for one in (into, party)}
    if into is None or party is None or None in kinds or len(kinds) > 1:
        raise FailedPrecondition(
            "PARTIES_DIFFER", "both customers have to engage a known individual, or both a known organization"
        )
    goes_by = store.party_survivor(unit, party)
    if goes_by == store.party_survivor(unit, into):
        return
    if goes_by != party:
        raise FailedPrecondition(
            "PARTY_ALREADY_MERGED",
            f"party {party} has been merged into {goes_by}, by the merge of other customers",
            metadata={"survivor": goes_by},
        )
    made.survivor_party_id, made.absorbed_party_id = into, party
    store.link(unit, PARTIES, party, into, made)


def _kind(unit: Unit, party_id: str | None) -> type | None:
    if party_id is None:
        return None
    return next((cls for cls in (Individual, Organization) if unit.find(cls, party_id) is not None), None)
