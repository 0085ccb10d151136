"""What can be asked of tariff templates: to be kept, and what family follows from them, previewed or written."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa

from catalog.generation import store
from catalog.generation.domain import Cell, CellAction, Family, TariffTemplate
from catalog.generation.family import offering_of, prices_of
from catalog.generation.store import Member
from catalog.product import store as products
from catalog.product.api import Guards, check_among_others
from catalog.product.domain import CatalogItem, LifecycleStatus, ProductOffering, ProductOfferingPrice
from chassis import convert
from chassis.db import Database, Unit
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from chassis.types import COMMON, Money, new_id
from svyaz.catalog.v1 import catalog_pb2, generation_pb2

_FIRST = "1"
# What a thing is by itself, whatever the template says.
_OWN = frozenset({"id", "branch", "revision", "last_update", "lifecycle_status", "series", "version", "valid_for"})
_GONE = (LifecycleStatus.RETIRED, LifecycleStatus.OBSOLETE, LifecycleStatus.REJECTED)
_ACTIONS = {
    CellAction.CREATE: generation_pb2.CELL_ACTION_CREATE,
    CellAction.CHANGE: generation_pb2.CELL_ACTION_CHANGE,
    CellAction.NEW_VERSION: generation_pb2.CELL_ACTION_NEW_VERSION,
    CellAction.UNCHANGED: generation_pb2.CELL_ACTION_UNCHANGED,
    CellAction.PROPOSE_RETIREMENT: generation_pb2.CELL_ACTION_PROPOSE_RETIREMENT,
}


@dataclass(slots=True)
class _Step:
    """What is to be done with a cell; no `cell`: the grid no longer has it."""

    key: str
    action: CellAction
    cell: Cell | None = None
    digest: str = ""
    member: Member | None = None
    offering: ProductOffering | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Reckoned:
    """What a template comes to by itself: all of the work that needs nothing of the catalog."""

    template: TariffTemplate
    family: Family
    digests: Sequence[str]


@dataclass
class _Plan:
    """What is to be done with a family."""

    template: TariffTemplate
    steps: list[_Step] = field(default_factory=list)
    excluded: int = 0
    prices: Mapping[str, ProductOfferingPrice] = field(default_factory=dict)


def _deleting(unit: Unit, template: TariffTemplate) -> None:
    store.forget(unit, template.id)


class Generation(StandardMethods):
    """Tariff templates and their families."""

    def __init__(self, database: Database, guards: Guards) -> None:
        self._database = database
        self._guards = guards
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
            plan = _plan(unit, _reckoned(template))
        end = request.offset + request.limit if request.HasField("limit") else None
        return _message(plan, slice(max(0, request.offset), end))

    def GenerateTariffFamily(
        self, request: generation_pb2.GenerateTariffFamilyRequest, context: Any
    ) -> generation_pb2.TariffFamily:
        """Raises as the preview does, and Aborted STALE_ETAG when the template has changed since."""

        def work(unit: Unit) -> generation_pb2.TariffFamily:
            reckoned = _reckoned(unit.get(TariffTemplate, request.id, request.etag))
            # Who generates at the same time waits here, and then finds everything unchanged.
            lock_references(unit)
            store.check_unchanged(unit, reckoned.template)
            plan = _plan(unit, reckoned)
            return _message(_write(unit, plan, self._guards), slice(None))

        return self._database.transact(request, generation_pb2.TariffFamily, work)


# --- what is to be done ----------------------------------------------------------------------------------------------


def _reckoned(template: TariffTemplate) -> _Reckoned:
    family = template.family()
    return _Reckoned(template, family, [_digest(template, cell) for cell in family.cells])


def _plan(unit: Unit, reckoned: _Reckoned) -> _Plan:
    template, family = reckoned.template, reckoned.family
    known = store.members(unit, template.id) if template.id else {}
    offerings = _loaded(unit, ProductOffering, [member.offering_id for member in known.values()])
    prices = _loaded(unit, ProductOfferingPrice, [key for member in known.values() for key in member.prices.values()])
    plan = _Plan(template, excluded=len(family.excluded), prices=prices)
    for cell, digest in zip(family.cells, reckoned.digests, strict=True):
        member = known.get(cell.key)
        plan.steps.append(_step(cell, digest, member, offerings.get(member.offering_id) if member else None))
    there = {cell.key for cell in family.cells}
    for key, member in known.items():
        offering = offerings.get(member.offering_id)
        if key not in there and offering is not None and offering.status not in _GONE:
            reason = family.excluded.get(key) or "the grid no longer has it"
            plan.steps.append(
                _Step(key, CellAction.PROPOSE_RETIREMENT, member=member, offering=offering, reason=reason)
            )
    return plan


def _step(cell: Cell, digest: str, member: Member | None, offering: ProductOffering | None) -> _Step:
    if member is None or offering is None:
        reason = "" if member is None else "what was generated before has been deleted"
        return _Step(cell.key, CellAction.CREATE, cell, digest, None, None, reason)
    action, reason = CellAction.UNCHANGED, "it is in the grid again" if member.retirement_proposed else ""
    if digest != member.digest:
        if offering.status is LifecycleStatus.REJECTED:
            return _Step(cell.key, CellAction.CREATE, cell, digest, None, None, "what was generated before is Rejected")
        action = CellAction.NEW_VERSION if offering.status.released else CellAction.CHANGE
        reason = f"it is {offering.status}" if offering.status.released else ""
    return _Step(cell.key, action, cell, digest, member, offering, reason)


def _digest(template: TariffTemplate, cell: Cell) -> str:
    """Of everything that the template says of the cell."""
    prices = prices_of(template, cell, lambda one: str(one.index))
    hashed = hashlib.sha256()
    for price in prices:
        hashed.update(convert.to_message(price, catalog_pb2.ProductOfferingPrice).SerializeToString(deterministic=True))
    offering = offering_of(template, cell, cell.key, prices)
    hashed.update(convert.to_message(offering, catalog_pb2.ProductOffering).SerializeToString(deterministic=True))
    return hashed.hexdigest()


def _loaded(unit: Unit, cls: type[Any], ids: Sequence[str]) -> dict[str, Any]:
    table = products.RESOURCES[cls].table
    found = unit.session.scalars(sa.select(cls).where(table.c.id == products.any_of(ids))) if ids else ()
    return {item.id: item for item in found}


# --- writing ---------------------------------------------------------------------------------------------------------


def _write(unit: Unit, plan: _Plan, guards: Guards) -> _Plan:
    kept: dict[str, Member] = {}
    for step in plan.steps:
        if step.action is CellAction.PROPOSE_RETIREMENT or step.action is CellAction.UNCHANGED:
            assert step.member is not None
            proposed = step.action is CellAction.PROPOSE_RETIREMENT
            if step.member.retirement_proposed is not proposed:
                step.member.retirement_proposed = proposed
                kept[step.key] = step.member
        elif step.action is CellAction.CHANGE:
            kept[step.key] = _change(unit, plan, step, guards)
        else:
            kept[step.key] = _create(unit, plan, step, guards)
    store.keep(unit, plan.template.id, kept)
    return plan


def _create(unit: Unit, plan: _Plan, step: _Step, guards: Guards) -> Member:
    """A new offering, which continues the series of the one before if that was released."""
    assert step.cell is not None
    ids = {one.index: new_id() for one in step.cell.prices}
    prices = prices_of(plan.template, step.cell, lambda one: ids[one.index])
    offering = offering_of(plan.template, step.cell, new_id(), prices)
    offering.version = _FIRST
    if step.offering is not None:
        offering.series = step.offering.series or step.offering.id
        before = step.offering.version or ""
        offering.version = str(int(before) + 1) if before.isdigit() else f"{before}.{_FIRST}".lstrip(".")
    for item in (*prices, offering):
        _add(unit, item, guards)
    step.offering = offering
    return Member(offering.id, step.digest, ids)


def _add(unit: Unit, item: CatalogItem, guards: Guards) -> None:
    item.check(unit.at)
    guards.creating(unit, item)
    products.refer(unit, item, item.references(), new=True)
    unit.add(item)


def _change(unit: Unit, plan: _Plan, step: _Step, guards: Guards) -> Member:
    """The draft in place. A price that somebody has released already is followed by another."""
    assert step.cell is not None
    assert step.offering is not None
    assert step.member is not None
    ids: dict[int, str] = {}
    for one in step.cell.prices:
        before = plan.prices.get(step.member.prices.get(one.index, ""))
        ids[one.index] = before.id if before is not None and not before.status.released else new_id()
    prices = prices_of(plan.template, step.cell, lambda one: ids[one.index])
    for price in prices:
        draft = plan.prices.get(price.id)
        if draft is None:
            _add(unit, price, guards)
        else:
            _revise(unit, draft, price, guards)
    # Its references are looked at at once, and found among what is written.
    unit.flush()
    _revise(unit, step.offering, offering_of(plan.template, step.cell, step.offering.id, prices), guards)
    for key in set(step.member.prices.values()) - set(ids.values()):
        left = plan.prices.get(key)
        if left is not None and not left.status.released and not products.referrers(unit, left):
            products.refer(unit, left, ())
            unit.delete(left)
    return Member(step.offering.id, step.digest, ids)


def _revise(unit: Unit, item: CatalogItem, wanted: CatalogItem, guards: Guards) -> None:
    changes = {
        one.name: getattr(wanted, one.name)
        for one in fields(item)
        if one.name not in _OWN and getattr(item, one.name) != getattr(wanted, one.name)
    }
    if changes:
        item.revise(changes, unit.at)
        check_among_others(unit, item)
        guards.changed(unit, item)


# --- answers ---------------------------------------------------------------------------------------------------------


def _message(plan: _Plan, which: slice) -> generation_pb2.TariffFamily:
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
    )


def _cell(plan: _Plan, step: _Step) -> generation_pb2.TariffCell:
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


def _cell_price(plan: _Plan, index: int, name: str, exact: Any, amount: Any, before: str) -> generation_pb2.CellPrice:
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
