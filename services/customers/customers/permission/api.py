"""What can be asked about permissions to contact: one method, one use case, one transaction."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from google.protobuf.message import Message

from chassis.convert import from_message, to_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.receipts import Receipt
from chassis.resources import Collection, Conditions, Filters, StandardMethods
from chassis.types import Aggregate, new_id
from chassis.unit import Unit, missing
from customers.identity.store import same_customer
from customers.party.domain import Customer
from customers.permission import engine, media, points, reading, store
from customers.permission.domain import (
    ContactConsent,
    ContactDecision,
    ContactOptOut,
    DoNotCallEntry,
    DoNotCallRegistry,
    refuse,
    required,
)
from customers.permission.facts import Decision
from customers.permission.points import Points
from customers.permission.policy import PermissionPolicy
from customers.permission.reservation import Reservations
from customers.permission.values import DecisionState, MediumKind
from svyaz.customers.v1 import permission_pb2 as pb
from svyaz.type.v1 import receipt_pb2, requests_pb2

MAX_NUMBERS = 10_000
_DECISIONS, _MOST_DECISIONS = 100, 1_000

A = TypeVar("A", bound=Aggregate)
M = TypeVar("M", bound=Message)


class Permissions(StandardMethods):
    """Contact media, consents, opt-outs, do-not-call lists, policies; and the tokens that contacts are made with."""

    def __init__(self, database: Database, region_of: Callable[[str], str]) -> None:
        self._database = database
        # The country of a branch's numbers without one.
        self._region_of = region_of
        self._points = Points(database, region_of)
        self._reservations = Reservations(database, region_of)
        super().__init__(
            pb.DESCRIPTOR.services_by_name["PermissionService"],
            Collection(database, ContactConsent, pb.ContactConsent, elsewhere=_of_customer(store.contact_consent)),
            Collection(database, ContactOptOut, pb.ContactOptOut, elsewhere=_of_customer(store.contact_opt_out)),
            Collection(database, DoNotCallEntry, pb.DoNotCallEntry, elsewhere=_of_customer(store.do_not_call_entry)),
            Collection(database, DoNotCallRegistry, pb.DoNotCallRegistry),
            Collection(database, PermissionPolicy, pb.PermissionPolicy, creating=_numbered),
            Collection(database, ContactDecision, pb.ContactDecision),
        )

    # --- contact media ---

    def ListContactPoints(self, request: pb.ListContactPointsRequest, context: Any) -> pb.ListContactPointsResponse:
        """Raises NotFound."""
        return self._points.listed(request)

    def MarkContactPoint(self, request: pb.MarkContactPointRequest, context: Any) -> pb.ContactPoint:
        """Raises InvalidArgument, NotFound, FailedPrecondition NEEDS_VERIFICATION."""
        return self._points.mark(request)

    def VerifyContactPoint(self, request: pb.VerifyContactPointRequest, context: Any) -> pb.ContactPoint:
        """Raises InvalidArgument, NotFound."""
        return self._points.verify(request)

    def SetContactPreferences(self, request: pb.SetContactPreferencesRequest, context: Any) -> pb.ContactPoint:
        """Raises InvalidArgument, NotFound."""
        return self._points.prefer(request)

    # --- consents, opt-outs, do not call ---

    def GiveContactConsent(self, request: pb.GiveContactConsentRequest, context: Any) -> pb.ContactConsent:
        """Raises InvalidArgument NEEDS_PROOF, NotFound."""
        return self._said(request, request.contact_consent, ContactConsent, pb.ContactConsent)

    def WithdrawContactConsent(self, request: pb.WithdrawContactConsentRequest, context: Any) -> pb.ContactConsent:
        """Raises NotFound."""
        return self._changed(
            request, ContactConsent, pb.ContactConsent, lambda one, unit: one.withdraw(request.reason, unit.at)
        )

    def OptOutOfContact(self, request: pb.OptOutOfContactRequest, context: Any) -> pb.ContactOptOut:
        """Raises InvalidArgument, NotFound."""
        return self._said(request, request.contact_opt_out, ContactOptOut, pb.ContactOptOut)

    def LiftContactOptOut(self, request: pb.LiftContactOptOutRequest, context: Any) -> pb.ContactOptOut:
        """Raises InvalidArgument, NotFound."""
        return self._changed(
            request, ContactOptOut, pb.ContactOptOut, lambda one, unit: one.lift(request.reason, unit.at)
        )

    def AddDoNotCallEntry(self, request: pb.AddDoNotCallEntryRequest, context: Any) -> pb.DoNotCallEntry:
        """Raises InvalidArgument, NotFound."""
        body = request.do_not_call_entry
        if body.customer_id:
            return self._said(request, body, DoNotCallEntry, pb.DoNotCallEntry)

        def work(unit: Unit) -> pb.DoNotCallEntry:
            branch = self._database.branch_for_create(DoNotCallEntry, request.branch)
            entry = from_message(body, DoNotCallEntry, id=new_id(), branch=branch)
            entry.check(unit.at)
            entry.number = points.number_of(entry.number or "", self._region_of(branch))
            reading.lock_value(unit, branch, entry.number)
            unit.add(entry)
            return to_message(entry, pb.DoNotCallEntry)

        return self._database.transact(request, pb.DoNotCallEntry, work)

    def LiftDoNotCallEntry(self, request: pb.LiftDoNotCallEntryRequest, context: Any) -> pb.DoNotCallEntry:
        """Raises InvalidArgument, NotFound."""
        return self._changed(
            request, DoNotCallEntry, pb.DoNotCallEntry, lambda one, unit: one.lift(request.reason, unit.at)
        )

    def ImportDoNotCallRegistry(
        self, request: pb.ImportDoNotCallRegistryRequest, context: Any
    ) -> pb.ImportDoNotCallRegistryResponse:
        """Takes over a part of an edition; one after the other. Raises InvalidArgument."""
        refuse(required(name=request.name, edition=request.edition))
        if len(request.number) > MAX_NUMBERS:
            wrong = Violation("number", f"{len(request.number)} are more than {MAX_NUMBERS}")
            raise InvalidArgument("TOO_MANY", wrong.description, violations=[wrong])
        branch = self._database.branch_for_create(DoNotCallRegistry, request.branch)

        def work(unit: Unit) -> pb.ImportDoNotCallRegistryResponse:
            registry = store.registry(unit, branch, request.name)
            if registry is None:
                registry = DoNotCallRegistry(id=new_id(), branch=branch, name=request.name)
                unit.add(registry)
            registry.edition, registry.imported_at = request.edition, unit.at
            if request.complete:
                registry.complete_edition = request.edition
            region = self._region_of(branch)
            found = {text: media.normalised(MediumKind.PHONE, text, region) for text in request.number}
            numbers = [one.value for one in found.values() if one.well_formed]
            added, removed = store.take_numbers(unit, registry, numbers, complete=request.complete)
            unit.flush()
            return pb.ImportDoNotCallRegistryResponse(
                registry=to_message(registry, pb.DoNotCallRegistry),
                added=added,
                removed=removed,
                refused=[text for text, one in found.items() if not one.well_formed],
            )

        return self._database.transact(request, pb.ImportDoNotCallRegistryResponse, work)

    # --- tokens and decisions ---

    def ReserveContact(self, request: pb.ReserveContactRequest, context: Any) -> pb.ReserveContactResponse:
        """Raises InvalidArgument, NotFound."""
        return self._reservations.reserve(request)

    def SpendContact(self, request: pb.SpendContactRequest, context: Any) -> pb.SpendContactResponse:
        """Raises NotFound; FailedPrecondition ALREADY_SPENT, TOKEN_RELEASED, TOKEN_REVOKED, TOKEN_EXPIRED."""
        return self._reservations.spend(request)

    def ReleaseContact(self, request: pb.ReleaseContactRequest, context: Any) -> pb.ContactDecision:
        """Raises NotFound, FailedPrecondition ALREADY_SPENT."""
        return self._reservations.release(request)

    def ListContactDecisions(
        self, request: pb.ListContactDecisionsRequest, context: Any
    ) -> pb.ListContactDecisionsResponse:
        """Under all ids of the customer. Raises InvalidArgument."""
        refuse(required(customer_id=request.customer_id))
        limit = request.limit if request.HasField("limit") else _DECISIONS
        if not 0 <= limit <= _MOST_DECISIONS:
            wrong = Violation("limit", f"from 0 to {_MOST_DECISIONS}")
            raise InvalidArgument("INVALID_LIMIT", wrong.description, violations=[wrong])
        with self._database.unit() as unit:
            same = reading.same(unit, request.customer_id)
            found = store.decisions(unit, same.customers, request.before_id, limit)
            return pb.ListContactDecisionsResponse(items=[to_message(one, pb.ContactDecision) for one in found])

    def ReplayPermission(self, request: pb.ReplayPermissionRequest, context: Any) -> pb.ReplayPermissionResponse:
        """Raises NotFound, FailedPrecondition UNKNOWN_ENGINE."""
        with self._database.unit() as unit:
            decision = unit.get(ContactDecision, request.decision_id)
        response = pb.ReplayPermissionResponse(same=True)
        receipts = (("receipt", decision.receipt), ("spend_receipt", decision.spend_receipt))
        for field, receipt in receipts:
            if receipt is None:
                continue
            answer, again = _replayed(receipt)
            getattr(response, field).CopyFrom(to_message(again, receipt_pb2.Receipt))
            response.same &= again == receipt
        last = decision.spend_receipt or decision.receipt
        if last is not None and decision.state in (DecisionState.REFUSED, DecisionState.REVOKED):
            response.same &= answer.refusals == decision.refusal
        return response

    # --- what they share ---

    def _said(self, request: Any, body: Message, cls: type[A], message: type[M]) -> M:
        """Something new about a customer, in whose branch it is."""
        customer_id: str = getattr(body, "customer_id", "")
        refuse(required(customer_id=customer_id))

        def work(unit: Unit) -> M:
            same = reading.locked(unit, customer_id)
            branch = store.branch_of(unit, same.customers[0])
            if branch is None:
                raise missing(Customer, customer_id)
            made = from_message(body, cls, id=new_id(), branch=branch)
            # Never of an id that stands for another.
            made.customer_id = same.customers[0]  # type: ignore[attr-defined]
            made.check(unit.at)
            unit.add(made)
            return to_message(made, message)

        return self._database.transact(request, message, work)

    def _changed(self, request: Any, cls: type[A], message: type[M], change: Callable[[A, Unit], None]) -> M:
        """Something said before is otherwise now; whoever decides about the customer meanwhile is waited for."""

        def work(unit: Unit) -> M:
            found = unit.get(cls, request.id)
            customer_id = getattr(found, "customer_id", None)
            if customer_id:
                reading.locked(unit, customer_id)
            change(found, unit)
            unit.flush()
            return to_message(found, message)

        return self._database.transact(request, message, work)


def _numbered(unit: Unit, policy: PermissionPolicy) -> None:
    policy.version = store.next_version(unit, policy.branch)


def _of_customer(table: sa.Table) -> Callable[[Filters], tuple[Filters, Conditions]]:
    """Who asks for a customer's means him under all his ids."""

    def elsewhere(filters: Filters) -> tuple[Filters, Conditions]:
        own, where = [], []
        for one in filters:
            if one.path == "customer_id" and one.operator == requests_pb2.Filter.OPERATOR_EQ and one.value:
                where.append(sa.or_(*(same_customer(table.c.customer_id, value) for value in one.value)))
            else:
                own.append(one)
        return own, where

    return elsewhere


def _replayed(receipt: Receipt) -> tuple[Decision, Receipt]:
    try:
        return engine.replay(receipt)
    except msgspec.ValidationError as error:
        raise FailedPrecondition(
            "UNKNOWN_ENGINE", f"revision {receipt.revision} of {receipt.engine} wrote other inputs"
        ) from error
