"""What can be asked of qualifications and of the configurator."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from catalog.pricing.messages import customers_of
from catalog.pricing.store import Current
from catalog.qualification import store
from catalog.qualification.configuration import Selection, configure
from catalog.qualification.domain import ProductOfferingQualification
from catalog.qualification.eligibility import Situation, current_versions, judge
from catalog.qualification.values import QualificationState
from chassis.convert import from_message, from_timestamp, to_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.resources import Collection, StandardMethods
from chassis.timers import cancel_timer, set_timer
from chassis.types import new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import pricing_pb2, qualification_pb2

_Message = qualification_pb2.ProductOfferingQualification
# The purpose of our timers: to a question that still waits for information there is an answer without it.
OVERDUE = "qualification-overdue"


def answer(unit: Unit, question: ProductOfferingQualification) -> None:
    """Answers a question from what is for sale and what its customer holds now, or says what it takes to answer it."""
    waited = question.state is QualificationState.IN_PROGRESS
    held = store.held(unit, question.customer_id)
    categories = question.whole_categories
    book = store.restrictions(unit, [*question.offering_ids, *(one.product_offering_id for one in held)])
    shelves: dict[str, Sequence[str]] = {}
    if categories or question.provide_alternative:
        book = store.every_restriction(unit) | book
        now = {offering.id for offering in current_versions(book.values(), unit.at).values()}
        for category in categories:
            there = now & store.shelf(unit, category) if category else now
            shelves[category] = sorted(
                (key for key in there if book[key].is_sellable), key=lambda key: (book[key].name, key)
            )
    question.answer(book, shelves, held, unit.at)
    if question.state is QualificationState.IN_PROGRESS:
        unit.announce(question, "InformationRequired")
        set_timer(unit, question.id, OVERDUE, question.deadline, question.branch)
    elif waited:
        cancel_timer(unit, question.id, OVERDUE)


def overdue(question_id: str, unit: Unit) -> None:
    """Ends a question that nobody has told what it takes to answer it; also one that can't be answered any more, since
    its categories have grown beyond what an answer holds."""
    question = unit.find(ProductOfferingQualification, question_id)
    if question is None or question.state is not QualificationState.IN_PROGRESS or question.deadline > unit.at:
        return
    try:
        answer(unit, question)
    except InvalidArgument as error:
        question.fail(error.reason, error.message, unit.at)


def timers() -> Mapping[str, Callable[[str, Unit], None]]:
    """The handlers of our timers, by purpose."""
    return {OVERDUE: overdue}


def _changed(unit: Unit, question: ProductOfferingQualification) -> None:
    if question.receipt is None:
        answer(unit, question)


class Qualifications(StandardMethods):
    """TMF679, and the configurator."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._questions = Collection(database, ProductOfferingQualification, _Message, changed=_changed)
        super().__init__(
            qualification_pb2.DESCRIPTOR.services_by_name["QualificationService"],
            self._questions,
        )

    def CreateProductOfferingQualification(
        self, request: qualification_pb2.CreateProductOfferingQualificationRequest, context: Any
    ) -> qualification_pb2.ProductOfferingQualification:
        """Takes a question and answers it; one that needn't be answered at once is acknowledged first, as an event."""
        branch = self._database.branch_for_create(ProductOfferingQualification, request.branch)

        def work(unit: Unit) -> qualification_pb2.ProductOfferingQualification:
            question = from_message(
                request.product_offering_qualification, ProductOfferingQualification, id=new_id(), branch=branch
            )
            question.check(unit.at)
            if question.instant_sync_qualification:
                answer(unit, question)
                unit.add(question)
            else:
                unit.add(question)
                unit.flush()
                answer(unit, question)
            return self._questions.reply(unit, question)

        return self._database.transact(request, _Message, work)

    def Configure(
        self, request: qualification_pb2.ConfigureRequest, context: Any
    ) -> qualification_pb2.ConfigureResponse:
        """See `catalog.qualification.configuration.configure`."""
        at = from_timestamp(request.at) if request.HasField("at") else self._database.clock.now()
        with self._database.unit() as unit:
            offerings = store.configurables(unit, request.product_offering_id)
        selection = from_message(_selected(request), Selection)
        return to_message(configure(selection, offerings, at), qualification_pb2.ConfigureResponse)


def _selected(request: qualification_pb2.ConfigureRequest) -> qualification_pb2.PartSelection:
    return qualification_pb2.PartSelection(
        product_offering_id=request.product_offering_id,
        characteristic=request.characteristic,
        bundled=request.bundled,
    )


class SaleGuard:
    """Refuses the sale of what the customer can't have."""

    beside = store.HELD

    def __init__(self, database: Database) -> None:
        self._database = database
        self._book = store.RestrictionBook()

    def __call__(
        self,
        items: Sequence[pricing_pb2.PriceRequestItem],
        ids: Sequence[str],
        asked: pricing_pb2.PricingContext,
        at: datetime,
        current: Current | None,
    ) -> None:
        """Raises FailedPrecondition OFFERING_NOT_ELIGIBLE with the violated rule of each item.

        What the request doesn't say (place, segment, channel) refuses nothing; the other items count as held. What of
        the customer's isn't named in `leaving_product` stays, so that nothing replaces it by itself. Lifecycle and
        validity are the pricing's to judge.
        """
        book, has = self._book.read(self._database, ids, customers_of(asked), current)
        leaving = set(asked.leaving_product)
        held = [one for one in has if one.product_id not in leaving]
        situation = Situation(
            at=at,
            branch=asked.branch,
            channel=(asked.channel,) if asked.channel else (),
            place=tuple(asked.place),
            market_segment=tuple(asked.market_segment),
        )
        wrong: list[Violation] = []
        codes: list[str] = []
        for i, item in enumerate(items):
            verdict = judge(
                ids[i],
                book,
                situation,
                held,
                [*ids[:i], *ids[i + 1 :]],
                term=item.term,
                on_sale=False,
                in_place_of_what_is_held=False,
            )
            wrong += [
                Violation(f"item[{i}].product_offering_id", f"{reason.code}: {reason.label()}")
                for reason in verdict.reasons
            ]
            codes += [reason.code for reason in verdict.reasons]
        if wrong:
            raise FailedPrecondition(
                "OFFERING_NOT_ELIGIBLE",
                wrong[0].description,
                violations=wrong,
                metadata={"rules": ", ".join(dict.fromkeys(codes))},
            )
