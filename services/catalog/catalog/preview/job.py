"""Previews are worked out in the background, step by step.

Not by the call that asks for one: a base of a million products takes longer than a caller's deadline, or the life of a
pod, may be. First PostgreSQL groups the products, in one pass over the base as it is at one instant; then a timer's
turn prices some hundreds of groups after the other, each once for all branches, for a few seconds at most, and commits.
A preview that was interrupted goes on with its next step; how much memory a step takes doesn't depend on the number of
products.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from catalog.preview import store
from catalog.preview.ages import endings, sold_over, turning_points
from catalog.preview.change import Proposal, never_applied, planned
from catalog.preview.difference import Change, difference
from catalog.preview.domain import NeverApplied, PreviewState
from catalog.pricing.conditions import CHARACTERISTIC, Condition
from catalog.pricing.store import rules_of
from catalog.product.domain import LifecycleStatus, ProductOfferingPrice
from catalog.product.values import ConditionOperator as Operator
from catalog.product.values import ExistingSubscribers
from catalog.publication.store import price_lists, versions
from chassis import calls
from chassis.convert import from_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Violation
from chassis.timers import cancel_timer, set_timer
from chassis.types import COMMON
from chassis.unit import Unit
from svyaz.catalog.v1 import preview_pb2

_log = logging.getLogger(__name__)

# The purposes of our timers.
STEP, FORGET = "preview", "forget-preview"
KEPT_FOR = timedelta(days=7)
# A step ends with what it is at after so long.
STEP_SECONDS = 2.0
BATCH = 500
# A step that has failed so often won't succeed.
ATTEMPTS = 5
# Plans that are remembered between the steps.
_PLANS = 4
# Before every group.
_FIRST = ("", "", "")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a preview rests on, apart from the holdings; `digest` tells whether two are of the same catalog."""

    change: Change
    digest: str
    touched: set[str]
    # All that was compiled, and the revisions that it had with the rules.
    sources: frozenset[str]
    revisions: Mapping[str, int]
    never_applied: Sequence[NeverApplied]

    @property
    def kept(self) -> list[str]:
        """The offerings whose holders keep what they bought."""
        return [key for key, move in self.change.moves.items() if move.at is None]


class _Overtaken(Exception):
    """The preview became something else while its products were grouped."""

    def __init__(self, state: PreviewState) -> None:
        super().__init__(state)
        self.state = state


class Previews:
    """The steps of previews. They may be taken by any replica, one at a time for each preview."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._plans: dict[str, Plan] = {}
        self._lock = threading.Lock()

    def timers(self) -> Mapping[str, Callable[[str, Unit], None]]:
        """The handlers of our timers, by purpose."""
        return {STEP: self.step, FORGET: self.forget}

    def step(self, preview_id: str, unit: Unit) -> None:
        """Goes on with the preview for a while; one whose steps go on failing ends as failed, with the reason."""
        until = time.monotonic() + STEP_SECONDS
        with self._acting(preview_id) as branches:
            try:
                begun = self._begin(preview_id) if branches else None
                more = begun is not None
                while begun is not None and more and time.monotonic() < until:
                    more = self._go_on(preview_id, *begun)
            except Exception as error:
                if not self._given_up(preview_id, error):
                    raise
                _log.exception("preview %s has failed %d times", preview_id, ATTEMPTS)
                more = False
        if more:
            set_timer(unit, preview_id, STEP, unit.at, timer_branch(branches))

    def _given_up(self, preview_id: str, error: Exception) -> bool:
        """Counts the attempt; whether it was the last."""
        with self._database.unit() as unit:
            row = store.row_of(unit, preview_id, lock=True)
            last = bool(row.attempts + 1 >= ATTEMPTS)
            store.change_row(unit, preview_id, attempts=row.attempts + 1)
            if last and row.state is PreviewState.RUNNING:
                self._end(unit, preview_id, PreviewState.FAILED, f"given up after {ATTEMPTS} attempts: {error}"[:1000])
            return last

    def cancel(self, unit: Unit, preview_id: str) -> None:
        """Ends the preview: the step that is being taken ends without effect. Raises NotFound, PermissionDenied
        BRANCH_FORBIDDEN, FailedPrecondition NOT_RUNNING."""
        row = store.row_of(unit, preview_id, lock=True)
        principal = unit.call.principal
        if not principal.every_branch and not set(row.branches) <= set(principal.branches):
            raise PermissionDenied("BRANCH_FORBIDDEN", "the preview is of other branches too")
        if row.state is PreviewState.CANCELLED:
            return
        if row.state is not PreviewState.RUNNING:
            raise FailedPrecondition("NOT_RUNNING", f"the preview has ended: it is {row.state}")
        self._end(unit, preview_id, PreviewState.CANCELLED, None)
        cancel_timer(unit, preview_id, STEP)

    def forget(self, preview_id: str, unit: Unit) -> None:
        """Removes the preview."""
        with self._acting(preview_id) as branches, self._database.unit() as own:
            if branches:
                store.remove(own, preview_id)

    @contextmanager
    def _acting(self, preview_id: str) -> Iterator[tuple[str, ...]]:
        """As the service, in the preview's branches; none when it isn't there (any more)."""
        with self._database.unit() as unit:
            try:
                branches = tuple(store.row_of(unit, preview_id).branches)
            except NotFound:
                branches = ()
        with calls.using(calls.Call.background("catalog", STEP, branches=branches)):
            yield branches

    def _begin(self, preview_id: str) -> tuple[Plan, store.Looks] | None:
        """What the step goes by; None when there is nothing (more) to do. A preview whose catalog has changed since its
        last step begins anew, so that all of it says the same."""
        with self._database.unit() as unit:
            row = store.row_of(unit, preview_id, lock=True)
            if row.state is not PreviewState.RUNNING:
                return None
            try:
                plan = self.plan(unit, row)
            except InvalidArgument as error:
                # What it was about isn't there any more.
                self._end(unit, preview_id, PreviewState.FAILED, error.message)
                return None
            if row.digest == plan.digest:
                return plan, store.Looks.parse(row.looks)
            store.clear(unit, preview_id)
            # As the service in the preview's branches, once: what others see of the holdings gives other groups.
            looks = _looks(unit, plan.change)
            store.change_row(
                unit,
                preview_id,
                digest=plan.digest,
                looks=looks.text(),
                never_applied=store.never_applied_text(plan.never_applied),
                grouped=False,
                priced=None,
                attempts=0,
            )
            return plan, looks

    def _go_on(self, preview_id: str, plan: Plan, looks: store.Looks) -> bool:
        """One transaction's work; whether there is more."""
        with self._database.unit() as unit:
            # Two replicas can't take the same step.
            row = store.row_of(unit, preview_id, lock=True)
            if row.state is not PreviewState.RUNNING or row.digest != plan.digest:
                return row.state is PreviewState.RUNNING
            if row.grouped:
                return self._price(unit, row, plan, looks)
        return self._group(preview_id, plan, looks)

    def _group(self, preview_id: str, plan: Plan, looks: store.Looks) -> bool:
        """Groups all products; whether there is more. The preview isn't held meanwhile: it can be cancelled, and then
        what was found is given up."""
        moves = plan.change.moves
        try:
            with self._database.unit() as unit:
                store.group(unit, preview_id, moves, looks, plan.kept)
                row = store.row_of(unit, preview_id, lock=True)
                if row.state is not PreviewState.RUNNING or row.digest != plan.digest or row.grouped:
                    raise _Overtaken(row.state)
                store.change_row(unit, preview_id, grouped=True, attempts=0)
        except _Overtaken as overtaken:
            return overtaken.state is PreviewState.RUNNING
        return True

    def _price(self, unit: Unit, row: Any, plan: Plan, looks: store.Looks) -> bool:
        groups = store.unpriced(unit, row.id, looks, json.loads(row.priced) if row.priced else _FIRST, BATCH)
        if not groups:
            self._end(unit, row.id, PreviewState.DONE, None)
            return False
        store.write(unit, row.id, looks, [(group, difference(group.subscription, plan.change)) for group in groups])
        last = groups[-1]
        position = json.dumps([last.product_offering_id, last.alike, last.branch])
        store.change_row(unit, row.id, priced=position, attempts=0)
        return True

    def _end(self, unit: Unit, preview_id: str, state: PreviewState, error: str | None) -> None:
        store.change_row(unit, preview_id, state=state, ended_at=unit.at, error=error)

    # --- plans ---

    def plan(self, unit: Unit, row: Any) -> Plan:
        """What the preview rests on: kept as long as nothing of it has changed. Raises InvalidArgument as `planned`."""
        kept = self._plans.get(row.id)
        proposal = proposed(preview_pb2.PreviewChangeRequest.FromString(row.request), row.at)
        touched = store.touched(unit, sorted(proposal.versions), sorted(proposal.prices))
        if kept is not None and kept.touched == touched and kept.revisions == store.revisions(unit, kept.sources):
            return kept
        plan = compiled(unit, proposal, touched)
        # The same of the catalog may be proposed to become something else.
        plan = replace(plan, digest=hashlib.sha256(row.request + plan.digest.encode()).hexdigest())
        with self._lock:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[row.id] = plan
        return plan


def proposed(request: preview_pb2.PreviewChangeRequest, at: datetime) -> Proposal:
    """What the request proposes, for that instant. Raises InvalidArgument for a price that can't be."""
    prices: dict[str, ProductOfferingPrice] = {}
    for i, message in enumerate(request.product_offering_price):
        if not message.id or message.id in prices:
            why = "it replaces the price of its id" if not message.id else "it is proposed twice"
            raise InvalidArgument(
                "INVALID_ARGUMENT", why, violations=[Violation(f"product_offering_price[{i}].id", why)]
            )
        price = from_message(message, ProductOfferingPrice, id=message.id, branch=COMMON)
        price.lifecycle_status = LifecycleStatus.LAUNCHED
        price.check(at)
        prices[message.id] = price
    given = request.HasField("existing_subscribers")
    return Proposal(
        versions=tuple(dict.fromkeys(request.product_offering_id)),
        prices=prices,
        existing_subscribers=from_message(request.existing_subscribers, ExistingSubscribers) if given else None,
        at=at,
        charge_one_time=request.charge_one_time,
    )


def compiled(unit: Unit, proposal: Proposal, touched: set[str] | None = None) -> Plan:
    """What a preview of the proposal rests on. Raises InvalidArgument UNKNOWN_OFFERING, UNKNOWN_PRICE."""
    touched = touched or store.touched(unit, sorted(proposal.versions), sorted(proposal.prices))
    offerings = store.offerings(unit, touched)
    prices = store.prices_of(unit, offerings.values(), proposal.prices.values())
    for what, field, wanted, there in (
        ("OFFERING", "product_offering_id[{}]", proposal.versions, offerings),
        ("PRICE", "product_offering_price[{}].id", proposal.prices, prices),
    ):
        unknown = [(i, key) for i, key in enumerate(wanted) if key not in there]
        if unknown:
            wrong = [Violation(field.format(i), f"there is no {what.lower()} {key!r}") for i, key in unknown]
            raise InvalidArgument(f"UNKNOWN_{what}", wrong[0].description, violations=wrong)
    change = planned(proposal, offerings, prices, partial(rules_of, unit))
    series = {key: versions(unit, offerings[key]) for key in proposal.versions}
    lists = price_lists(unit, [*prices.values(), *proposal.prices.values()])
    idle = never_applied(proposal, offerings, prices, series, lists)
    sources = [one.id for one in (*offerings.values(), *prices.values())]
    revisions = store.revisions(unit, sources)
    stamp = hashlib.sha256(repr((proposal.at, sorted(touched), sorted(revisions.items()))).encode()).hexdigest()
    return Plan(change, stamp, touched, frozenset(sources), revisions, idle)


def _looks(unit: Unit, change: Change) -> store.Looks:
    """What the offers look at when a product is priced."""
    moving = {key: move.at for key, move in change.moves.items() if move.at is not None}
    if not moving:
        return store.Looks()
    offers = [*change.before.values(), *change.after.values()]
    conditions = [
        condition
        for offer in offers
        for charge in offer.charges
        for stated in (charge.conditions, *(alteration.conditions for alteration in charge.alterations))
        for condition in stated
    ]
    subjects = {condition.subject for condition in conditions}
    lists = change.rules.price_lists.values()
    turns: dict[tuple[datetime, Hashable], Callable[[datetime], bool]] = {
        (at, key): ended for at in set(moving.values()) for offer in offers for key, ended in endings(offer, at).items()
    }
    lasting = [duration.partition(" ") for duration in store.sold_durations(unit, moving)]
    return store.Looks(
        characteristics=sorted(
            subject.removeprefix(CHARACTERISTIC) for subject in subjects if subject.startswith(CHARACTERISTIC)
        ),
        places=_places(conditions, change),
        market_segment="marketSegment" in subjects or any(one.market_segment for one in lists),
        agreement="agreement" in subjects or any(one.agreement for one in lists),
        customer="customer" in subjects,
        branch="branch" in subjects or any(one.branch for one in lists),
        turns=_turns((at, ended) for (at, _), ended in turns.items()),
        sold_turns=_turns(
            (at, partial(_sold_over, int(amount), units, at))
            for at in set(moving.values())
            for amount, _, units in lasting
        ),
        bundles=frozenset(key for key in moving if change.before[key].parts or change.after[key].parts),
    )


_EQUALITY = {str(one) for one in (Operator.EQ, Operator.NE, Operator.IN, Operator.NOT_IN)}


def _texts(condition: Condition) -> bool:
    return all(isinstance(value, str) for value in condition.values)


def _places(conditions: Iterable[Condition], change: Change) -> Sequence[str] | None:
    """The places that are compared with; None: whether there is one at all may count."""
    compared = [condition for condition in conditions if condition.subject == "place"]
    if any(condition.operator not in _EQUALITY or not _texts(condition) for condition in compared):
        return None
    places = {str(value) for condition in compared for value in condition.values}
    return sorted(places | {tax.place for taxes in change.rules.taxes.values() for tax in taxes if tax.place})


def _sold_over(amount: int, units: str, at: datetime, since: datetime) -> bool:
    return sold_over(amount, units, since, at)


def _turns(ended: Iterable[tuple[datetime, Callable[[datetime], bool]]]) -> Sequence[datetime]:
    return sorted({point for at, one in ended for point in turning_points([one], at)})


def timer_branch(branches: tuple[str, ...]) -> str:
    """The branch in whose name a preview's timers are set: one that its maker may act in."""
    return branches[0]
