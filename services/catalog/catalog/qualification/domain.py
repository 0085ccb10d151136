"""Questions what a customer can have, and their answers (TMF679)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, ClassVar

import msgspec

from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.qualification.eligibility import (
    Book,
    Held,
    Reason,
    Relation,
    Restrictions,
    Situation,
    Verdict,
    judge,
    relation_of,
)
from catalog.qualification.values import (
    AlternateProductOfferingProposal,
    EligibilityUnavailabilityReason,
    ProductAction,
    ProductOfferingQualificationItem,
    QualificationState,
    TerminationError,
)
from chassis.errors import InvalidArgument, Violation
from chassis.products import RelatedPlaceRefOrValue
from chassis.types import Aggregate, EntityRef, Json, Note, RelatedParty, require_transition

ENGINE = "catalog.eligibility"
REVISION = "2"

# An answer is an event, and an event has its limit.
MOST_ITEMS = 200
_MOST_ALTERNATIVES = 3
# What was true then may not be any more: an answer to which nothing else sets an end holds so long.
_HOLDS = timedelta(days=14)
# How long a question waits for what it takes to answer it, where its asker doesn't say by when he needs the answer.
_WAITS = timedelta(days=14)
# And at most, where he does.
_WAITS_AT_MOST = timedelta(days=90)

QUALIFIED, UNQUALIFIED, ALTERNATE = "qualified", "unqualified", "alternate"

_S = QualificationState
TRANSITIONS: Mapping[QualificationState, frozenset[QualificationState]] = {
    _S.ACKNOWLEDGED: frozenset({_S.IN_PROGRESS, _S.DONE, _S.TERMINATED_WITH_ERROR}),
    _S.IN_PROGRESS: frozenset({_S.DONE, _S.TERMINATED_WITH_ERROR}),
    _S.DONE: frozenset(),
    _S.TERMINATED_WITH_ERROR: frozenset(),
}

# What is answered; whatever a caller says that it is doesn't count.
ANSWERED = frozenset(
    {
        "effective_qualification_date",
        "expected_poq_completion_date",
        "expiration_date",
        "product_offering_qualification_date",
        "qualification_result",
        "receipt",
    }
)
# A change of these is another question.
ASKED = frozenset(
    {
        "category",
        "channel",
        "market_segment",
        "place",
        "product_offering_qualification_item",
        "provide_alternative",
        "provide_only_available",
        "provide_unavailability_reason",
        "related_party",
    }
)
# As long as there is no answer, a change of these may be the end of waiting for it.
_BY_WHEN = frozenset({"instant_sync_qualification", "requested_poq_completion_date"})


@dataclass(kw_only=True, eq=False)
class ProductOfferingQualification(Aggregate):
    """Whether a customer can have some offerings at a place, and why not."""

    STATE: ClassVar[str | None] = "state"

    description: str | None = None
    effective_qualification_date: datetime | None = None
    expected_poq_completion_date: datetime | None = None
    expiration_date: datetime | None = None
    instant_sync_qualification: bool | None = None
    product_offering_qualification_date: datetime | None = None
    provide_alternative: bool | None = None
    provide_only_available: bool | None = None
    provide_unavailability_reason: bool | None = None
    qualification_result: str | None = None
    requested_poq_completion_date: datetime | None = None
    category: EntityRef | None = None
    channel: EntityRef | None = None
    note: tuple[Note, ...] = ()
    place: tuple[RelatedPlaceRefOrValue, ...] = ()
    product_offering_qualification_item: tuple[ProductOfferingQualificationItem, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    state: QualificationState | None = None
    market_segment: tuple[EntityRef, ...] = ()
    receipt: Receipt | None = None
    # The question's own items: those of the answer may be fewer, or more.
    asked_item: tuple[ProductOfferingQualificationItem, ...] = ()

    def check(self, at: datetime) -> None:
        """A question begins without its answer. Raises InvalidArgument BAD_INITIAL_STATE, DUPLICATE_ITEM,
        DATE_OUT_OF_RANGE.
        """
        if self.state not in (None, QualificationState.ACKNOWLEDGED):
            raise InvalidArgument(
                "BAD_INITIAL_STATE",
                "a qualification begins as 'acknowledged'",
                violations=[Violation("state", "not initial")],
            )
        self.state = QualificationState.ACKNOWLEDGED
        for name in ANSWERED:
            setattr(self, name, None)
        self.product_offering_qualification_date = at
        self._ask(self.product_offering_qualification_item, found=())
        self._check_deadline()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes a caller's changes, of which neither the state nor the answer can be one. Another question has no
        answer yet: its receipt is gone.

        Raises FailedPrecondition BAD_TRANSITION, InvalidArgument DUPLICATE_ITEM, DATE_OUT_OF_RANGE.
        """
        wanted = changes.get("state")
        if wanted is not None and wanted is not self.state:
            assert self.state is not None
            require_transition("a qualification", TRANSITIONS, self.state, wanted)
        news = {k: v for k, v in changes.items() if k not in ANSWERED and k != "state" and getattr(self, k) != v}
        found = {item.id or "" for item in self.product_offering_qualification_item if item.found_in_category}
        super().revise(news, at)
        if "product_offering_qualification_item" in news:
            self._ask(self.product_offering_qualification_item, found)
        if "requested_poq_completion_date" in news:
            self._check_deadline()
        if ASKED & news.keys() or (self.open and _BY_WHEN & news.keys()):
            self.receipt = None

    def _ask(self, items: Sequence[ProductOfferingQualificationItem], found: Collection[str]) -> None:
        """Makes these the question's items. What was `found` in a category and is sent back still excludes nothing that
        was found beside it."""
        seen: set[str] = set()
        wrong = []
        for i, item in enumerate(items):
            if item.id in seen:
                wrong.append(
                    Violation(f"product_offering_qualification_item[{i}].id", f"another item is called {item.id!r}")
                )
            seen.add(item.id or "")
        if wrong:
            raise InvalidArgument("DUPLICATE_ITEM", wrong[0].description, violations=wrong)
        self.asked_item = tuple(
            replace(item, found_in_category=(item.found_in_category and item.id in found) or None) for item in items
        )

    def _check_deadline(self) -> None:
        asked_at, wanted = self.product_offering_qualification_date, self.requested_poq_completion_date
        assert asked_at is not None
        if wanted is not None and wanted > asked_at + _WAITS_AT_MOST:
            why = f"a question waits for at most {_WAITS_AT_MOST.days} days"
            raise InvalidArgument(
                "DATE_OUT_OF_RANGE", why, violations=[Violation("requested_poq_completion_date", why)]
            )

    @property
    def customer_id(self) -> str:
        """The customer whom it is about; empty: nobody in particular."""
        return customer_among(self.related_party)

    @property
    def offering_ids(self) -> list[str]:
        """The offerings that it asks about by name."""
        return [
            item.product_offering.id for item in self.asked_item if item.product_offering and item.product_offering.id
        ]

    @property
    def whole_categories(self) -> list[str]:
        """The categories all of whose offerings it asks about; an empty id: everything."""
        own = self.category.id or "" if self.category is not None else ""
        if not self.asked_item:
            return [own]
        return [_category(item, own) for item in self.asked_item if _asks_for_a_category(item)]

    @property
    def open(self) -> bool:
        """Whether it is still to be answered."""
        return self.state in (QualificationState.ACKNOWLEDGED, QualificationState.IN_PROGRESS)

    @property
    def deadline(self) -> datetime:
        """Until when it waits for what it takes to answer it."""
        assert self.product_offering_qualification_date is not None
        return self.requested_poq_completion_date or self.product_offering_qualification_date + _WAITS

    def answer(self, book: Book, shelves: Mapping[str, Sequence[str]], held: Sequence[Held], at: datetime) -> None:
        """Answers from what the catalog has (`shelves`: category → its offerings, all under "") and what is held.

        What can't be answered for lack of information waits for it, unless the answer is wanted at once, was given
        already or is due. Raises InvalidArgument TOO_MANY_ITEMS.
        """
        waits = not self.instant_sync_qualification and self.open and self.deadline > at
        work = _Answering(self, book, held, at, waits=waits)
        items = list(work.items(shelves))
        failed = bool(items) and all(item.state is QualificationState.TERMINATED_WITH_ERROR for item in items)
        waiting = any(item.state is QualificationState.IN_PROGRESS for item in items)
        if self.provide_only_available:
            # What isn't answered yet may be.
            items = [
                item
                for item in items
                if item.qualification_item_result == QUALIFIED or item.state is QualificationState.IN_PROGRESS
            ]
        self.product_offering_qualification_item = tuple(items)
        self.receipt = work.receipt()
        if waiting:
            self.qualification_result = self.effective_qualification_date = self.expiration_date = None
            self.expected_poq_completion_date = self.deadline
            self.state = QualificationState.IN_PROGRESS
            return
        results = {item.qualification_item_result for item in items}
        if results <= {QUALIFIED} and results:
            self.qualification_result = "green"
        else:
            self.qualification_result = "yellow" if results & {QUALIFIED, ALTERNATE} else "red"
        self.effective_qualification_date = at
        self.expected_poq_completion_date = at
        self.expiration_date = min([at + _HOLDS, *work.ends])
        self.state = QualificationState.TERMINATED_WITH_ERROR if failed else QualificationState.DONE

    def fail(self, code: str, why: str, at: datetime) -> None:
        """Ends without an answer: each item says why."""
        error = TerminationError(id="1", value=why)
        self.product_offering_qualification_item = tuple(
            replace(item, state=QualificationState.TERMINATED_WITH_ERROR, termination_error=(error,))
            for item in self.asked_item or (ProductOfferingQualificationItem(id="1"),)
        )
        self.receipt = Receipt(ENGINE, REVISION, Json("{}"), (ReceiptStep("", code, "", reason=why),))
        self.qualification_result = "red"
        self.effective_qualification_date = self.expected_poq_completion_date = at
        self.expiration_date = None
        self.state = QualificationState.TERMINATED_WITH_ERROR


def customer_among(parties: Iterable[RelatedParty]) -> str:
    """The id of the party that is the customer; empty: none is."""
    known = [party for party in parties if party.id]
    by_role = [party for party in known if (party.role or "").lower() == "customer"]
    by_type = [party for party in known if party.at_referred_type == "Customer"]
    return next((party.id or "" for party in (*by_role, *by_type)), "")


def names_of(references: Iterable[EntityRef | RelatedPlaceRefOrValue]) -> tuple[str, ...]:
    """Ids and names, by either of which something may be met."""
    return tuple(dict.fromkeys(text for reference in references for text in (reference.id, reference.name) if text))


def _asks_for_a_category(item: ProductOfferingQualificationItem) -> bool:
    # An item about a product that somebody has names that instead.
    return item.product_offering is None and item.product is None


def _category(item: ProductOfferingQualificationItem, own: str) -> str:
    return (item.category.id or "") if item.category is not None else own


def kept_json(value: Any) -> Json:
    """The value as JSON in the order of keys in which PostgreSQL keeps it, so that it is the same when it is read."""
    return Json(msgspec.json.encode(_in_kept_order(msgspec.to_builtins(value))).decode())


def _in_kept_order(value: Any) -> Any:
    if isinstance(value, dict):
        # https://www.postgresql.org/docs/current/datatype-json.html: by length, then by bytes.
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _in_kept_order(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_in_kept_order(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class _Inputs:
    situation: Situation
    held: tuple[Held, ...]
    item: tuple[tuple[str, str], ...]
    offering: tuple[Restrictions, ...]


@dataclass(slots=True)
class _Answering:
    question: ProductOfferingQualification
    book: Book
    held: Sequence[Held]
    at: datetime
    waits: bool
    steps: list[ReceiptStep] = field(default_factory=list)
    judged: dict[str, str] = field(default_factory=dict)
    ends: list[datetime] = field(default_factory=list)

    @property
    def situation(self) -> Situation:
        asked = self.question
        return Situation(
            at=self.at,
            branch=asked.branch,
            channel=names_of([asked.channel] if asked.channel is not None else []),
            place=names_of(asked.place),
            market_segment=names_of(asked.market_segment),
        )

    def items(self, shelves: Mapping[str, Sequence[str]]) -> Iterator[ProductOfferingQualificationItem]:
        asked = self.question.asked_item
        taken = {item.id for item in asked}
        own = self.question.category.id or "" if self.question.category is not None else ""
        room = MOST_ITEMS
        for item in asked or (ProductOfferingQualificationItem(id=""),):
            found = [item]
            if _asks_for_a_category(item):
                prefix = f"{item.id}." if item.id else ""
                free = (own_id for own_id in (f"{prefix}{n}" for n in count(1)) if own_id not in taken)
                found = [
                    replace(item, id=own_id, product_offering=self._reference(key), found_in_category=True)
                    for own_id, key in zip(free, shelves.get(_category(item, own), ()), strict=False)
                ]
            room -= len(found)
            if room < 0:
                why = f"it would take more than {MOST_ITEMS} items: name a category, or offerings"
                raise InvalidArgument(
                    "TOO_MANY_ITEMS", why, violations=[Violation("product_offering_qualification_item", why)]
                )
            for one in found:
                yield self._answered(one)

    def _reference(self, key: str) -> EntityRef:
        offering = self.book.get(key)
        return EntityRef(id=key, name=(offering.name or None) if offering is not None else None)

    def _answered(self, item: ProductOfferingQualificationItem) -> ProductOfferingQualificationItem:
        blank = replace(
            item,
            qualification_item_result=None,
            alternate_product_offering_proposal=(),
            eligibility_unavailability_reason=(),
            termination_error=(),
            unknown=(),
            replaced_product=(),
            information_required=(),
        )
        offering = item.product_offering
        if item.action in (ProductAction.DELETE, ProductAction.NO_CHANGE):
            # Nothing new is had.
            return replace(blank, qualification_item_result=QUALIFIED, state=QualificationState.DONE)
        if offering is None or not offering.id:
            error = TerminationError(id="1", value="the item names no offering")
            return replace(blank, termination_error=(error,), state=QualificationState.TERMINATED_WITH_ERROR)
        if offering.id not in self.book:
            error = TerminationError(id="1", value=f"there is no offering {offering.id}")
            return replace(blank, termination_error=(error,), state=QualificationState.TERMINATED_WITH_ERROR)
        verdict = self._judge(offering.id, item)
        unknown = (*verdict.unknown, *(() if self.question.customer_id else ("customer",)))
        required = self._required(item, verdict)
        self._explain(item.id or "", verdict, required)
        if required:
            undecided = replace(blank, unknown=unknown, information_required=required)
            if self.waits:
                return replace(undecided, state=QualificationState.IN_PROGRESS)
            errors = tuple(
                TerminationError(id=str(n), value=f"Unable to proceed to qualification: {what} is required")
                for n, what in enumerate(required, 1)
            )
            return replace(undecided, termination_error=errors, state=QualificationState.TERMINATED_WITH_ERROR)
        proposals = self._alternatives(offering.id, item) if self.question.provide_alternative else []
        result = QUALIFIED if verdict.eligible else ALTERNATE if proposals else UNQUALIFIED
        if verdict.eligible:
            period = self.book[offering.id].valid_for
            self.ends += [period.end_date_time] if period is not None and period.end_date_time is not None else []
        told = not verdict.eligible and self.question.provide_unavailability_reason is not False
        return replace(
            blank,
            qualification_item_result=result,
            alternate_product_offering_proposal=() if verdict.eligible else tuple(proposals),
            eligibility_unavailability_reason=tuple(map(_told, verdict.reasons)) if told else (),
            unknown=unknown,
            replaced_product=tuple(EntityRef(id=key, at_referred_type="Product") for key in verdict.replaces),
            state=QualificationState.DONE,
        )

    def _required(self, item: ProductOfferingQualificationItem, verdict: Verdict) -> tuple[str, ...]:
        """What has to be known before it can be said whether the offering can be had: what it is restricted by, and
        whose product it is that changes. What can't be had whatever it is needs none of it."""
        if not verdict.eligible:
            return ()
        nobodys = item.action is ProductAction.MODIFY and not self.question.customer_id
        return (*verdict.unknown, *(("relatedParty",) if nobodys else ()))

    def _judge(self, key: str, item: ProductOfferingQualificationItem) -> Verdict:
        self.judged[item.id or ""] = key
        # Of what was found in a category nobody asked to have it beside the rest.
        others = () if item.found_in_category else self.question.asked_item
        beside = [
            other.product_offering.id
            for other in others
            if other.id != item.id
            and not other.found_in_category
            and other.product_offering is not None
            and other.product_offering.id
            and other.action not in (ProductAction.DELETE, ProductAction.NO_CHANGE)
        ]
        leaving = {
            other.product.id
            for other in self.question.asked_item
            if other.product is not None and other.action in (ProductAction.DELETE, ProductAction.MODIFY)
        }
        staying = [one for one in self.held if one.product_id not in leaving]
        return judge(key, self.book, self.situation, staying, beside)

    def _alternatives(
        self, key: str, item: ProductOfferingQualificationItem
    ) -> Iterator[AlternateProductOfferingProposal]:
        wanted = self.book[key]
        number = 0
        for other in sorted(self.book.values(), key=lambda o: (not _succeeds(o, wanted, self.book), o.name, o.id)):
            alike = wanted.specification_id and other.specification_id == wanted.specification_id
            if other.line == wanted.line or not (alike or _succeeds(other, wanted, self.book)):
                continue
            if number < _MOST_ALTERNATIVES and judge(other.id, self.book, self.situation, self.held).eligible:
                number += 1
                yield AlternateProductOfferingProposal(
                    id=str(number),
                    alternate_activation_date=item.expected_activation_date,
                    alternate_product_offering=self._reference(other.id),
                )

    def _explain(self, subject: str, verdict: Verdict, required: Sequence[str]) -> None:
        key = verdict.product_offering_id
        self.steps += [
            ReceiptStep(subject, reason.code, reason.product_offering_id, reason=reason.label())
            for reason in verdict.reasons
        ]
        self.steps += [ReceiptStep(subject, "UNKNOWN", key, reason=what) for what in verdict.unknown]
        if required:
            self.steps.append(ReceiptStep(subject, "INFORMATION_REQUIRED", key, reason=", ".join(required)))
        else:
            self.steps.append(ReceiptStep(subject, "ELIGIBLE" if verdict.eligible else "NOT_ELIGIBLE", key))

    def receipt(self) -> Receipt:
        used = sorted(set(self.judged.values()))
        inputs = _Inputs(
            self.situation, tuple(self.held), tuple(self.judged.items()), tuple(self.book[key] for key in used)
        )
        return Receipt(ENGINE, REVISION, kept_json(inputs), tuple(self.steps))


def _succeeds(other: Restrictions, wanted: Restrictions, book: Book) -> bool:
    """Whether the other offering was made to take the wanted one's place."""
    for relationship in other.relationship:
        target = book.get(relationship.id or "")
        line = target.line if target is not None else relationship.id
        if line == wanted.line and relation_of(relationship) in (Relation.REPLACES, Relation.UPGRADES):
            return True
    return False


def _told(reason: Reason) -> EligibilityUnavailabilityReason:
    return EligibilityUnavailabilityReason(code=reason.code, label=reason.label(), label_ru=reason.label("ru"))
