"""What is to be done with a family of tariffs, and doing it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from catalog.generation import store
from catalog.generation.domain import Cell, CellAction, Family, TariffTemplate
from catalog.generation.family import offering_of, prices_of
from catalog.generation.store import Member
from catalog.product import store as products
from catalog.product.api import Guards, check_among_others
from catalog.product.domain import CatalogItem, LifecycleStatus, ProductOffering, ProductOfferingPrice
from chassis import convert
from chassis.types import new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2

_FIRST = "1"
# What a thing is by itself, whatever the template says.
_OWN = frozenset({"id", "branch", "revision", "last_update", "lifecycle_status", "series", "version", "valid_for"})
_GONE = (LifecycleStatus.RETIRED, LifecycleStatus.OBSOLETE, LifecycleStatus.REJECTED)


@dataclass(slots=True)
class Step:
    """What is to be done with a cell; no `cell`: the grid no longer has it."""

    key: str
    action: CellAction
    cell: Cell | None = None
    digest: str = ""
    member: Member | None = None
    offering: ProductOffering | None = None
    reason: str = ""

    @property
    def needed(self) -> bool:
        """Whether anything is to be written."""
        if self.action in (CellAction.CREATE, CellAction.CHANGE, CellAction.NEW_VERSION):
            return True
        proposed = self.action is CellAction.PROPOSE_RETIREMENT
        return self.member is not None and self.member.retirement_proposed is not proposed


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What a template comes to by itself: all of the work that needs nothing of the catalog."""

    template: TariffTemplate
    family: Family
    digests: Sequence[str]
    keys: frozenset[str]


@dataclass
class Plan:
    """What is to be done with a family."""

    template: TariffTemplate
    steps: list[Step] = field(default_factory=list)
    excluded: int = 0
    prices: Mapping[str, ProductOfferingPrice] = field(default_factory=dict)

    @property
    def work(self) -> int:
        """How many cells something is to be written of."""
        return sum(step.needed for step in self.steps)


# --- what is to be done ----------------------------------------------------------------------------------------------


def reckoned(template: TariffTemplate) -> Reckoned:
    family = template.family()
    keys = frozenset(cell.key for cell in family.cells)
    return Reckoned(template, family, [_digest(template, cell) for cell in family.cells], keys)


def order(unit: Unit, made: Reckoned) -> list[str]:
    """The keys of all cells: those of the grid, then those that were in it once. The same for as long as the template
    is: what is written to one doesn't move another."""
    grid = [cell.key for cell in made.family.cells]
    there = set(grid)
    return [*grid, *(key for key in store.keys(unit, made.template.id) if key not in there)]


def plan_of(unit: Unit, made: Reckoned, keys: Sequence[str] | None = None) -> Plan:
    """What is to be done with the cells of these keys; None: with all of them."""
    template, family = made.template, made.family
    known = store.members(unit, template.id, keys) if template.id else {}
    offerings = _loaded(unit, ProductOffering, [member.offering_id for member in known.values()])
    prices = _loaded(unit, ProductOfferingPrice, [key for member in known.values() for key in member.prices.values()])
    plan = Plan(template, excluded=len(family.excluded), prices=prices)
    wanted = None if keys is None else set(keys)
    for cell, digest in zip(family.cells, made.digests, strict=True):
        if wanted is None or cell.key in wanted:
            member = known.get(cell.key)
            plan.steps.append(_step(cell, digest, member, offerings.get(member.offering_id) if member else None))
    for key, member in known.items():
        offering = offerings.get(member.offering_id)
        if key not in made.keys and offering is not None and offering.status not in _GONE:
            reason = family.excluded.get(key) or "the grid no longer has it"
            plan.steps.append(Step(key, CellAction.PROPOSE_RETIREMENT, member=member, offering=offering, reason=reason))
    return plan


def _step(cell: Cell, digest: str, member: Member | None, offering: ProductOffering | None) -> Step:
    if member is None or offering is None:
        reason = "" if member is None else "what was generated before has been deleted"
        return Step(cell.key, CellAction.CREATE, cell, digest, None, None, reason)
    action, reason = CellAction.UNCHANGED, "it is in the grid again" if member.retirement_proposed else ""
    if digest != member.digest:
        if offering.status is LifecycleStatus.REJECTED:
            return Step(cell.key, CellAction.CREATE, cell, digest, None, None, "what was generated before is Rejected")
        action = CellAction.NEW_VERSION if offering.status.released else CellAction.CHANGE
        reason = f"it is {offering.status}" if offering.status.released else ""
    return Step(cell.key, action, cell, digest, member, offering, reason)


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
    found = unit.load(cls, "id = ANY (%(ids)s)", {"ids": list(ids)}) if ids else ()
    return {item.id: item for item in found}


# --- writing ---------------------------------------------------------------------------------------------------------


def write(unit: Unit, plan: Plan, guards: Guards) -> None:
    """Does it."""
    kept: dict[str, Member] = {}
    for step in plan.steps:
        if step.action is CellAction.PROPOSE_RETIREMENT or step.action is CellAction.UNCHANGED:
            assert step.member is not None
            if step.needed:
                step.member.retirement_proposed = step.action is CellAction.PROPOSE_RETIREMENT
                kept[step.key] = step.member
        elif step.action is CellAction.CHANGE:
            kept[step.key] = _change(unit, plan, step, guards)
        else:
            kept[step.key] = _create(unit, plan, step, guards)
    store.keep(unit, plan.template.id, kept)


def _create(unit: Unit, plan: Plan, step: Step, guards: Guards) -> Member:
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


def _change(unit: Unit, plan: Plan, step: Step, guards: Guards) -> Member:
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
