"""Tokens for contacts: reserved, spent once or given back, while nobody else decides about the customer."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.errors import InvalidArgument, NotFound, Violation
from chassis.receipts import Receipt
from chassis.types import new_id
from chassis.unit import Unit, missing
from customers.party.domain import Customer
from customers.permission import engine, media, reading, store
from customers.permission.domain import ContactDecision, refuse, required
from customers.permission.facts import Decision, Facts, Rules
from customers.permission.policy import PermissionPolicy, PolicyTerms
from customers.permission.values import DecisionState
from svyaz.customers.v1 import permission_pb2

# How far ahead a contact is reserved: nobody knows what the policy will be later.
FARTHEST = timedelta(days=31)
# Clocks differ.
_TOLERANCE = timedelta(minutes=1)
_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A contact that somebody wants to make."""

    channel: str
    purpose: str
    roles: Sequence[str]
    has_reason: bool
    # However it is spelt; empty: any.
    medium: str
    # The decision by which it was reserved.
    own: str = ""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A decision, what it was taken by, when, and for when."""

    customer: str
    branch: str
    now: datetime
    at: datetime
    terms: PolicyTerms | None
    decision: Decision
    receipt: Receipt


class Reservations:
    """What ReserveContact, SpendContact and ReleaseContact do."""

    def __init__(self, database: Database, region_of: Callable[[str], str]) -> None:
        self._database = database
        self._region_of = region_of
        # The oldest goes first.
        self._terms: OrderedDict[reading.InForce, PolicyTerms] = OrderedDict()

    def reserve(self, request: permission_pb2.ReserveContactRequest) -> permission_pb2.ReserveContactResponse:
        """Answers and keeps the answer. Raises InvalidArgument, NotFound."""
        named = {name: getattr(request, name) for name in ("customer_id", "channel", "purpose")}
        refuse(required(**named))

        def work(unit: Unit) -> permission_pb2.ReserveContactResponse:
            principal = unit.call.principal
            wanted = _Wanted(
                request.channel, request.purpose, sorted(principal.roles), bool(request.reason.strip()), request.medium
            )
            judged = self._judge(unit, request.customer_id, wanted, partial(_instant, request))
            answer, at = judged.decision, judged.at
            token = secrets.token_urlsafe(24) if answer.allowed else ""
            decision = ContactDecision(
                id=new_id(),
                branch=judged.branch,
                customer_id=judged.customer,
                channel=request.channel,
                purpose=request.purpose,
                state=DecisionState.RESERVED if answer.allowed else DecisionState.REFUSED,
                requested_by=principal.on_behalf_of or principal.subject,
                reason=request.reason or None,
                decided_at=judged.now,
                contact_at=at,
                refusal=answer.refusals,
                policy_id=judged.terms.id if judged.terms is not None else None,
                policy_version=judged.terms.version if judged.terms is not None else None,
                receipt=judged.receipt,
            )
            if answer.medium is not None and judged.terms is not None:
                decision.medium_kind, decision.medium_value = answer.medium.kind, answer.medium.value
                decision.expires_at, decision.token_hash = at + judged.terms.reservation, _hash(token)
            unit.add(decision)
            response = permission_pb2.ReserveContactResponse(token=token, decision=_message(decision))
            _stamp(response, "retry_at", answer.retry_at)
            return response

        return self._database.transact(request, permission_pb2.ReserveContactResponse, work)

    def spend(self, request: permission_pb2.SpendContactRequest) -> permission_pb2.SpendContactResponse:
        """The contact takes place, if nothing has come in the way since it was reserved.

        Raises NotFound; FailedPrecondition ALREADY_SPENT, TOKEN_RELEASED, TOKEN_REVOKED, TOKEN_EXPIRED.
        """

        def work(unit: Unit) -> permission_pb2.SpendContactResponse:
            decision = self._decision(unit, request.token)
            decision.require_open(self._database.clock.now())
            assert decision.receipt is not None
            before = engine.read(decision.receipt).facts
            wanted = _Wanted(
                decision.channel,
                decision.purpose,
                before.roles,
                before.has_reason,
                decision.medium_value or "",
                decision.id,
            )
            # Two who spend the same meet at the decision itself: the second finds that it has moved on.
            judged = self._judge(unit, decision.customer_id, wanted, lambda now: now)
            now = judged.now
            decision.require_open(now)
            if judged.decision.allowed:
                decision.spend(judged.receipt, now)
            else:
                decision.revoke(judged.decision.refusals, judged.receipt, now)
            unit.flush()
            response = permission_pb2.SpendContactResponse(spent=judged.decision.allowed, decision=_message(decision))
            _stamp(response, "contact_before", judged.decision.before)
            _stamp(response, "retry_at", judged.decision.retry_at)
            return response

        return self._database.transact(request, permission_pb2.SpendContactResponse, work)

    def release(self, request: permission_pb2.ReleaseContactRequest) -> permission_pb2.ContactDecision:
        """The contact doesn't take place. Raises NotFound, FailedPrecondition ALREADY_SPENT."""

        def work(unit: Unit) -> permission_pb2.ContactDecision:
            decision = self._decision(unit, request.token)
            decision.release(self._database.clock.now())
            unit.flush()
            return _message(decision)

        return self._database.transact(request, permission_pb2.ContactDecision, work)

    # --- what they share ---

    def _decision(self, unit: Unit, token: str) -> ContactDecision:
        """The decision of a token. Raises NotFound."""
        found = store.decision_of(unit, _hash(token)) if token else None
        if found is None:
            raise NotFound("TOKEN_UNKNOWN", "there is no such token")
        return found

    def _judge(self, unit: Unit, customer_id: str, wanted: _Wanted, instant: Callable[[datetime], datetime]) -> _Judged:
        """What may be done at the instant that is made of now, when nobody else decides about the customer, or about
        whoever shares a medium with him."""
        asked = self._database.clock.now()
        question = reading.Question(customer_id, wanted.channel, wanted.purpose, instant(asked), asked, wanted.own)
        known = reading.known(unit, question)
        branch = next((owner.branch for owner in known.owners if owner.id == known.customers[0]), None)
        if branch is None:
            raise missing(Customer, known.customers[0])
        region = self._region_of(branch)
        named = list(media.listed(known.owners, region, question.at))
        values = {one.value for one in named} | {point.value for point in known.points}
        shared = reading.shared(unit, branch, values, question, known.customers)
        # Not the transaction's beginning: the locks may have been waited for.
        now = self._database.clock.now()
        at = instant(now)
        terms = self._policy(unit, next((one for one in known.policies if one.effective_from <= at), None))
        rules = terms.rules(wanted.channel, wanted.purpose) if terms is not None else Rules()
        zones, zones_by = media.zones(known.owners, terms.region_zone if terms is not None else ())
        kind = rules.channel.kind if rules.channel is not None else None
        facts = Facts(
            customer=known.customers[0],
            channel=wanted.channel,
            purpose=wanted.purpose,
            medium=media.normalised(kind, wanted.medium, region).value if kind and wanted.medium else wanted.medium,
            roles=tuple(wanted.roles),
            has_reason=wanted.has_reason,
            now=now,
            zones=zones,
            zones_by=zones_by,
            media=media.media(named, known.points, shared.missing, shared.blocked),
            consents=known.consents,
            opt_outs=known.opt_outs,
            do_not_call=known.do_not_call[0].id if known.do_not_call else None,
            contacts=(*known.contacts, *shared.contacts),
        )
        decision, receipt = engine.decide(facts, rules, at)
        return _Judged(known.customers[0], branch, now, at, terms, decision, receipt)

    def _policy(self, unit: Unit, found: reading.InForce | None) -> PolicyTerms | None:
        if found is None:
            return None
        terms = self._terms.get(found)
        if terms is None:
            terms = self._terms[found] = unit.get(PermissionPolicy, found.id).terms()
            while len(self._terms) > _KEPT:
                self._terms.popitem(last=False)
        return terms


def _instant(request: permission_pb2.ReserveContactRequest, now: datetime) -> datetime:
    """When the contact is to be made. Raises InvalidArgument."""
    if not request.HasField("at"):
        return now
    at = convert.from_timestamp(request.at)
    if not now - _TOLERANCE <= at <= now + FARTHEST:
        raise InvalidArgument(
            "AT_OUT_OF_RANGE",
            f"a contact is reserved for now or the next {FARTHEST.days} days",
            violations=[Violation("at", at.isoformat())],
        )
    return max(at, now)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _message(decision: ContactDecision) -> permission_pb2.ContactDecision:
    return convert.to_message(decision, permission_pb2.ContactDecision)


def _stamp(response: Any, field: str, at: datetime | None) -> None:
    if at is not None:
        getattr(response, field).CopyFrom(convert.to_timestamp(at))
