"""What can be asked of tariff templates: to be kept, and what family follows from them, previewed or written."""

from typing import Any

from catalog.generation import store
from catalog.generation.domain import CellAction, GenerationState, TariffTemplate
from catalog.generation.job import BATCH, begin, running
from catalog.generation.plan import Plan, Step, plan_of, reckoned, write
from catalog.product.api import Guards
from chassis import convert
from chassis.db import Database
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from chassis.types import COMMON, Money
from chassis.unit import Unit
from svyaz.catalog.v1 import generation_pb2

_ACTIONS = {
    CellAction.CREATE: generation_pb2.CELL_ACTION_CREATE,
    CellAction.CHANGE: generation_pb2.CELL_ACTION_CHANGE,
    CellAction.NEW_VERSION: generation_pb2.CELL_ACTION_NEW_VERSION,
    CellAction.UNCHANGED: generation_pb2.CELL_ACTION_UNCHANGED,
    CellAction.PROPOSE_RETIREMENT: generation_pb2.CELL_ACTION_PROPOSE_RETIREMENT,
}
_STATES = {
    GenerationState.RUNNING: generation_pb2.TARIFF_GENERATION_STATE_RUNNING,
    GenerationState.SUCCEEDED: generation_pb2.TARIFF_GENERATION_STATE_SUCCEEDED,
    GenerationState.FAILED: generation_pb2.TARIFF_GENERATION_STATE_FAILED,
}


def _deleting(unit: Unit, template: TariffTemplate) -> None:
    store.forget(unit, template.id)


class Generation(StandardMethods):
    """Tariff templates and their families."""

    def __init__(self, database: Database, guards: Guards, *, batch: int = BATCH) -> None:
        """`batch`: so many cells are written at once, more by the steps of a timer (see `catalog.generation.job`)."""
        self._database = database
        self._guards = guards
        self._batch = batch
        super().__init__(
            generation_pb2.DESCRIPTOR.services_by_name["GenerationService"],
            Collection(database, TariffTemplate, generation_pb2.TariffTemplate, deleting=_deleting),
        )

    def PreviewTariffFamily(
        self, request: generation_pb2.PreviewTariffFamilyRequest, context: Any
    ) -> generation_pb2.TariffFamily:
        """Raises NotFound, InvalidArgument BAD_TEMPLATE or BAD_FORMULA."""
        with self._database.unit() as unit:
            if request.HasField("tariff_template"):
                template = convert.from_message(
                    request.tariff_template, TariffTemplate, id=request.id, branch=COMMON, revision=0
                )
            else:
                template = unit.get(TariffTemplate, request.id)
            plan = plan_of(unit, reckoned(template))
            made = _generation(store.generation(unit, template.id)) if template.id else None
        end = request.offset + request.limit if request.HasField("limit") else None
        return _message(plan, slice(max(0, request.offset), end), made)

    def GenerateTariffFamily(
        self, request: generation_pb2.GenerateTariffFamilyRequest, context: Any
    ) -> generation_pb2.TariffFamily:
        """Raises as the preview does, and Aborted STALE_ETAG when the template isn't at the etag any more."""

        def work(unit: Unit) -> generation_pb2.TariffFamily:
            made = reckoned(unit.get(TariffTemplate, request.id, request.etag))
            plan = plan_of(unit, made)
            by_steps = running(unit, made.template) or (begin(unit, plan) if plan.work > self._batch else None)
            if by_steps is not None:
                return _message(plan, slice(None), _generation(by_steps))
            # Who generates at the same time waits here, and then finds everything unchanged.
            lock_references(unit)
            store.check_unchanged(unit, made.template)
            plan = plan_of(unit, made)
            write(unit, plan, self._guards)
            return _message(plan, slice(None), None)

        return self._database.transact(request, generation_pb2.TariffFamily, work)


# --- answers ---------------------------------------------------------------------------------------------------------


def _generation(found: store.Generation | None) -> generation_pb2.TariffGeneration | None:
    if found is None:
        return None
    return generation_pb2.TariffGeneration(
        etag=str(found.revision),
        state=_STATES[found.state],
        requested_by=found.requested_by,
        total=found.total,
        done=found.done,
        error=found.error or "",
    )


def _message(plan: Plan, which: slice, made: generation_pb2.TariffGeneration | None) -> generation_pb2.TariffFamily:
    counts = {action: sum(step.action is action for step in plan.steps) for action in CellAction}
    return generation_pb2.TariffFamily(
        tariff_template_id=plan.template.id,
        etag=str(plan.template.revision),
        created=counts[CellAction.CREATE],
        changed=counts[CellAction.CHANGE],
        new_version=counts[CellAction.NEW_VERSION],
        unchanged=counts[CellAction.UNCHANGED],
        retirement_proposed=counts[CellAction.PROPOSE_RETIREMENT],
        excluded=plan.excluded,
        cell=[_cell(plan, step) for step in plan.steps[which]],
        generation=made,
    )


def _cell(plan: Plan, step: Step) -> generation_pb2.TariffCell:
    before = step.member.prices if step.member is not None else {}
    return generation_pb2.TariffCell(
        key=step.key,
        action=_ACTIONS[step.action],
        product_offering_id=step.offering.id if step.offering is not None else "",
        name=(step.cell.name if step.cell is not None else step.offering and step.offering.name) or "",
        reason=step.reason,
        price=[
            _cell_price(plan, one.index, one.name, one.exact, one.amount, before.get(one.index, ""))
            for one in (step.cell.prices if step.cell is not None else ())
        ],
    )


def _cell_price(plan: Plan, index: int, name: str, exact: Any, amount: Any, before: str) -> generation_pb2.CellPrice:
    stated = plan.template.price[index]
    known = plan.prices.get(before)
    found = generation_pb2.CellPrice(
        name=name,
        price_type=stated.price_type or "",
        recurring_charge_period_type=stated.recurring_charge_period_type or "",
        exact=format(exact, "f"),
        price=convert.to_money(Money(unit=stated.currency, value=amount)),
    )
    if known is not None and known.price is not None:
        found.before.CopyFrom(convert.to_money(known.price))
    return found
