"""Tariff templates: what family follows, what is previewed and written, and what happens to what is sold."""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.generation import api
from catalog.generation.domain import (
    MAX_PRICES,
    AxisKind,
    RoundingMode,
    TariffTemplate,
    TemplateAxis,
    TemplateConstant,
    TemplateExclusion,
    TemplatePrice,
    TemplateRounding,
)
from catalog.generation.job import Families
from catalog.publication.guards import Guards
from chassis import convert
from chassis.db import Database
from chassis.errors import Aborted, InvalidArgument, PermissionDenied
from chassis.events import acting
from chassis.references import lock_references
from chassis.types import Json
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2, generation_pb2
from svyaz.type.v1 import requests_pb2
from tests.catalog.conftest import Client

CREATE, CHANGE, NEW_VERSION, UNCHANGED, RETIRE = (
    generation_pb2.CELL_ACTION_CREATE,
    generation_pb2.CELL_ACTION_CHANGE,
    generation_pb2.CELL_ACTION_NEW_VERSION,
    generation_pb2.CELL_ACTION_UNCHANGED,
    generation_pb2.CELL_ACTION_PROPOSE_RETIREMENT,
)


def axis(name: str, *values: Any, kind: AxisKind = AxisKind.PARAMETER, **more: Any) -> TemplateAxis:
    return TemplateAxis(name=name, kind=kind, value=tuple(Json(json.dumps(value)) for value in values), **more)


def price(formula: str = "base + 2 * speed", **more: Any) -> TemplatePrice:
    given: dict[str, Any] = {
        "name_pattern": "Monthly, {speed} Mbit/s",
        "price_type": "recurring",
        "recurring_charge_period_type": "month",
        "currency": "KGS",
        "rounding": TemplateRounding(step=Decimal(10), ending=Decimal(9), mode=RoundingMode.UP),
    }
    return TemplatePrice(formula=formula, **{**given, **more})


def template(**more: Any) -> TariffTemplate:
    given: dict[str, Any] = {
        "name": "Home",
        "axis": (
            axis("speed", 50, 100, 200, kind=AxisKind.CHARACTERISTIC, characteristic="downstream", unit="Mbit/s"),
            axis("term", 0, 12, kind=AxisKind.TERM),
            axis("segment", "private", "business", kind=AxisKind.MARKET_SEGMENT),
        ),
        "constant": (TemplateConstant(name="base", value=Json("300.50")),),
        "price": (
            price("(base + 2 * speed) * (0.9 if term >= 12 else 1)"),
            price("500", price_type="oneTime", recurring_charge_period_type=None, rounding=None, when="term == 0"),
        ),
        "exclusion": (TemplateExclusion(when="segment == 'business' and speed < 100", reason="too slow"),),
        "name_pattern": "Home {speed} {segment} {term}",
    }
    return TariffTemplate(id="t", branch="*", **{**given, **more})


def grid(speeds: int, terms: int) -> tuple[TemplateAxis, ...]:
    return axis("speed", *range(1, speeds + 1)), axis("term", *range(terms)), axis("segment", "private")


def message(**more: Any) -> generation_pb2.TariffTemplate:
    made = convert.to_message(template(**more), generation_pb2.TariffTemplate)
    made.ClearField("id")
    return made


# --- the family ------------------------------------------------------------------------------------------------------


def test_every_cell_that_isnt_excluded_has_its_prices() -> None:
    family = template().family()
    assert len(family.cells) == 3 * 2 * 2 - 2
    assert set(family.excluded.values()) == {"too slow"}
    cells = {cell.key: cell for cell in family.cells}
    cell = cells["segment=private speed=100 term=0"]
    assert cell.name == "Home 100 private 0"
    assert [(one.name, str(one.exact), str(one.amount)) for one in cell.prices] == [
        ("Monthly, 100 Mbit/s", "500.50", "509.00"),
        ("Monthly, 100 Mbit/s", "500", "500.00"),
    ]
    (monthly,) = cells["segment=private speed=100 term=12"].prices
    assert (str(monthly.exact), str(monthly.amount)) == ("450.450", "459.00")


def test_the_order_of_the_axes_names_the_same_cells() -> None:
    turned = template(axis=tuple(reversed(template().axis)))
    assert {cell.key for cell in turned.family().cells} == {cell.key for cell in template().family().cells}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"axis": (axis("speed", *range(300)), axis("other", *range(10)))}, "axis"),
        ({"cell_limit": 11}, "axis"),
        ({"axis": grid(101, 10), "price": (price(),) * 10}, "price"),
        ({"axis": grid(100, 10), "price": (price("+".join(["speed"] * 25)),) * 10}, "price"),
        ({"axis": tuple(axis(f"a{i}", 1) for i in range(101))}, "axis"),
        ({"price": (price(),) * 101}, "price"),
        ({"axis": (axis("speed", "x" * 1_000),)}, "axis[0].value[0]"),
        ({"axis": (TemplateAxis(name="speed", value=(Json("1e999999999"),)),)}, "axis[0].value[0]"),
        ({"name_pattern": "x" * 1_001}, "name_pattern"),
        ({"cell_limit": 0}, "cell_limit"),
        ({"axis": (axis("speed", 1, 1.0),)}, "axis[0].value[1]"),
        ({"axis": (axis("speed"),)}, "axis[0].value"),
        ({"axis": (axis("speed", [1]),)}, "axis[0].value[0]"),
        ({"axis": (axis("min", 1),)}, "axis[0].name"),
        ({"axis": (axis("speed", 1), axis("speed", 2))}, "axis[1].name"),
        ({"axis": (axis("speed", 1), axis("term", 1.5, kind=AxisKind.TERM))}, "axis[1].value[0]"),
        ({"price": (price("base +"),)}, "price[0].formula"),
        ({"price": (price("volume * 2"),)}, "price[0].formula"),
        ({"price": (price(currency="som"),)}, "price[0].currency"),
        ({"price": (price(price_type="usage"),)}, "price[0].price_type"),
        ({"price": (price(recurring_charge_period_type=None),)}, "price[0].recurring_charge_period_type"),
        ({"price": (price(rounding=TemplateRounding(step=Decimal(0))),)}, "price[0].rounding.step"),
        ({"price": (price(rounding=TemplateRounding(ending=Decimal(1))),)}, "price[0].rounding.ending"),
        ({"price": (price(rounding=TemplateRounding(step=Decimal("0.001"))),)}, "price[0].rounding"),
        ({"price": (price(when="speed"),), "exclusion": ()}, "price[0].when"),
        ({"exclusion": (TemplateExclusion(when="spee < 5"),)}, "exclusion[0].when"),
        ({"name_pattern": "Home {volume}"}, "name_pattern"),
        ({"name_pattern": "Home {speed"}, "name_pattern"),
    ],
)
def test_what_is_wrong_with_a_template_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        template(**change).family()
    assert field in [violation.field for violation in refused.value.violations]


def test_the_largest_family_is_reckoned_in_seconds() -> None:
    begun = time.process_time()
    family = template(axis=grid(200, 10), price=(price("+".join(["speed"] * 24)),) * 5, exclusion=())
    assert sum(len(cell.prices) for cell in family.family().cells) == MAX_PRICES
    # Far from what it takes by itself, about a second.
    assert time.process_time() - begun < 10


def test_a_formula_that_fails_names_the_cells() -> None:
    with pytest.raises(InvalidArgument) as refused:
        template(price=(price("base / (speed - 100)"),), exclusion=()).family()
    assert refused.value.reason == "BAD_FORMULA"
    # 50 Mbit/s would be negative, 100 divides by zero; each in 2 terms and 2 segments.
    assert len(refused.value.violations) == 8
    assert {fault.field for fault in refused.value.violations} == {"price[0].formula"}
    assert any("speed=100" in fault.description and "zero" in fault.description for fault in refused.value.violations)


@given(
    st.lists(st.integers(1, 1_000), min_size=1, max_size=8, unique=True),
    st.lists(st.integers(0, 36), min_size=1, max_size=4, unique=True),
    st.integers(0, 1_000),
)
def test_a_family_is_the_whole_grid_and_its_prices_grow_with_the_speed(
    speeds: list[int], terms: list[int], least: int
) -> None:
    family = template(
        axis=(axis("speed", *speeds), axis("term", *terms, kind=AxisKind.TERM)),
        price=(price(),),
        exclusion=(TemplateExclusion(when=f"speed < {least}"),),
        name_pattern=None,
    ).family()
    assert len(family.cells) + len(family.excluded) == len(speeds) * len(terms)
    assert len({cell.key for cell in family.cells}) == len(family.cells)
    amounts = [
        cell.prices[0].amount for cell in sorted(family.cells, key=lambda cell: Decimal(str(cell.values["speed"])))
    ]
    assert amounts == sorted(amounts)
    assert all(amount % 10 == 9 for amount in amounts)
    assert (
        family
        == template(
            axis=(axis("speed", *speeds), axis("term", *terms, kind=AxisKind.TERM)),
            price=(price(),),
            exclusion=(TemplateExclusion(when=f"speed < {least}"),),
            name_pattern=None,
        ).family()
    )


# --- written ---------------------------------------------------------------------------------------------------------


class Family:
    """A template that is kept, and its family."""

    def __init__(self, manager: Client, **more: Any) -> None:
        self.manager = manager
        self.template = manager.call(
            "CreateTariffTemplate", generation_pb2.CreateTariffTemplateRequest(tariff_template=message(**more))
        )

    def change(self, *paths: str, **more: Any) -> None:
        changed = message(**more)
        changed.id = self.template.id
        request = generation_pb2.UpdateTariffTemplateRequest(tariff_template=changed)
        request.update_mask.paths.extend(paths)
        self.template = self.manager.call("UpdateTariffTemplate", request)

    def preview(self) -> Any:
        return self.manager.call("PreviewTariffFamily", generation_pb2.PreviewTariffFamilyRequest(id=self.template.id))

    def generate(self, **more: Any) -> Any:
        return self.manager.call(
            "GenerateTariffFamily", generation_pb2.GenerateTariffFamilyRequest(id=self.template.id, **more)
        )

    def offering(self, cell: Any) -> catalog_pb2.ProductOffering:
        found = self.manager.get(catalog_pb2.ProductOffering(id=cell.product_offering_id))
        assert isinstance(found, catalog_pb2.ProductOffering)
        return found

    def release(self, cell: Any) -> catalog_pb2.ProductOffering:
        offering = self.offering(cell)
        test, active = catalog_pb2.LIFECYCLE_STATUS_IN_TEST, catalog_pb2.LIFECYCLE_STATUS_ACTIVE
        for one in offering.product_offering_price:
            self.manager.move(catalog_pb2.ProductOfferingPrice(id=one.id), test, active)
        released = self.manager.move(offering, test, active)
        assert isinstance(released, catalog_pb2.ProductOffering)
        return released


def counts(family: Any) -> Sequence[int]:
    return (family.created, family.changed, family.new_version, family.unchanged, family.retirement_proposed)


def cells(family: Any) -> dict[str, Any]:
    return {cell.key: cell for cell in family.cell}


def test_a_family_is_previewed_then_written_as_drafts_and_not_twice(manager: Client) -> None:
    family = Family(manager)
    previewed = family.preview()
    assert counts(previewed) == (10, 0, 0, 0, 0)
    assert previewed.excluded == 2
    assert {cell.product_offering_id for cell in previewed.cell} == {""}
    written = family.generate(etag=previewed.etag)
    assert counts(written) == (10, 0, 0, 0, 0)
    assert [(cell.key, cell.price[0].price) for cell in written.cell] == [
        (cell.key, cell.price[0].price) for cell in previewed.cell
    ]
    offering = family.offering(cells(written)["segment=private speed=100 term=12"])
    assert (offering.name, offering.version) == ("Home 100 private 12", "1")
    assert offering.lifecycle_status == catalog_pb2.LIFECYCLE_STATUS_IN_DESIGN
    (use,) = offering.prod_spec_char_value_use
    assert (use.name, use.product_spec_characteristic_value[0].value) == ("downstream", b"100")
    assert offering.product_offering_term[0].duration.amount == 12
    assert offering.market_segment[0].id == "private"
    assert counts(family.generate()) == (0, 0, 0, 10, 0)
    assert counts(family.preview()) == (0, 0, 0, 10, 0)


LARGE, LARGE_GRID = 210, grid(15, 14)
DEARER = (TemplateConstant(name="base", value=Json("400.50")),)


class Killed(BaseException):
    """As the end of a process: nobody catches it."""


def steps(database: Database, template_id: str, *, kill: bool = False, batch: int = 50) -> None:
    """Takes one step, as a process that has just begun."""
    families = Families(Guards(), batch=batch)
    with acting("catalog", "test"), contextlib.suppress(Killed), database.unit() as unit:
        families.step(template_id, unit)
        unit.flush()
        if kill:
            raise Killed


def written(database: Database, template_id: str) -> tuple[int, int, set[str]]:
    """Offerings and prices of the family, and the statuses of what there is."""
    with acting("catalog", "test"), database.unit() as unit:
        rows = unit.cursor().execute(
            "SELECT 1, lifecycle_status FROM product_offering WHERE extensions LIKE %(of)s"
            " UNION ALL SELECT 2, price.lifecycle_status FROM product_offering_price AS price"
            " JOIN reference ON target_id = price.id JOIN product_offering AS offering ON offering.id = referrer_id"
            " WHERE offering.extensions LIKE %(of)s AND field = 'product_offering_price'",
            {"of": f"%{template_id}%"},
        )
        found = rows.fetchall()
    return sum(kind == 1 for kind, _ in found), sum(kind == 2 for kind, _ in found), {status for _, status in found}


def test_a_large_family_is_written_by_steps_of_which_each_may_die(manager: Client, database: Database) -> None:
    family = Family(manager, axis=LARGE_GRID, exclusion=())
    answer = family.generate()
    assert counts(answer) == (LARGE, 0, 0, 0, 0)
    running = generation_pb2.TARIFF_GENERATION_STATE_RUNNING
    assert (answer.generation.state, answer.generation.total, answer.generation.done) == (running, LARGE, 0)
    assert answer.generation.requested_by == "developer"
    # Nothing of it is there before the first step, and of a step that dies nothing.
    for done in (0, 50, 100, 150, 200):
        assert written(database, family.template.id)[0] == done
        steps(database, family.template.id, kill=True)
        assert written(database, family.template.id)[0] == done
        assert family.preview().generation.done == done
        # Asked for again it goes on where it is.
        assert family.generate().generation.done == done
        steps(database, family.template.id)
    found = family.preview()
    assert counts(found) == (0, 0, 0, LARGE, 0)
    assert found.generation.state == generation_pb2.TARIFF_GENERATION_STATE_SUCCEEDED
    offerings, prices, statuses = written(database, family.template.id)
    assert (offerings, statuses) == (LARGE, {"In design"})
    assert prices == sum(len(cell.price) for cell in found.cell)
    # There is nothing more to do, and doing it again does nothing.
    steps(database, family.template.id)
    assert counts(family.generate()) == (0, 0, 0, LARGE, 0)
    assert written(database, family.template.id)[0] == LARGE


def test_a_large_family_written_anew_leaves_what_is_released(manager: Client, database: Database) -> None:
    family = Family(manager, axis=LARGE_GRID, exclusion=())
    family.generate()
    for _ in range(5):
        steps(database, family.template.id)
    one = family.preview().cell[0]
    released = family.release(one)
    family.change("constant", axis=LARGE_GRID, exclusion=(), constant=DEARER)
    before = family.generate()
    assert counts(before) == (0, LARGE - 1, 1, 0, 0)
    steps(database, family.template.id, batch=100)
    # Half of it: what is released is as it was, and one further version of it is a draft.
    assert family.offering(one) == released
    steps(database, family.template.id, batch=100, kill=True)
    for _ in range(2):
        steps(database, family.template.id, batch=100)
    assert counts(family.preview()) == (0, 0, 0, LARGE, 0)
    assert family.offering(one) == released
    assert written(database, family.template.id)[0] == LARGE + 1


def test_a_template_that_changes_ends_the_steps(manager: Client, database: Database) -> None:
    family = Family(manager, axis=LARGE_GRID, exclusion=())
    family.generate()
    steps(database, family.template.id)
    family.change("constant", axis=LARGE_GRID, exclusion=(), constant=DEARER)
    steps(database, family.template.id)
    found = family.preview().generation
    assert (found.state, found.done) == (generation_pb2.TARIFF_GENERATION_STATE_FAILED, 50)
    assert "changed" in found.error
    # Generated again, what was written of the one before is changed in place.
    assert counts(family.generate()) == (LARGE - 50, 50, 0, 0, 0)
    for _ in range(5):
        steps(database, family.template.id)
    assert counts(family.preview()) == (0, 0, 0, LARGE, 0)
    assert written(database, family.template.id)[0] == LARGE


@pytest.mark.parametrize("kill", [False, True])
def test_a_template_deleted_during_a_step_leaves_no_family(manager: Client, database: Database, kill: bool) -> None:
    family = Family(manager, axis=LARGE_GRID, exclusion=())
    family.generate()
    key = family.template.id
    steps(database, key)
    with ThreadPoolExecutor(1) as elsewhere:
        with acting("catalog", "test"), contextlib.suppress(Killed), database.unit() as unit:
            Families(Guards(), batch=50).step(key, unit)
            unit.flush()
            deleted = elsewhere.submit(manager.call, "DeleteTariffTemplate", requests_pb2.DeleteRequest(id=key))
            # It waits for the step, whatever becomes of that.
            with pytest.raises(TimeoutError):
                deleted.result(1)
            if kill:
                raise Killed
        deleted.result(30)
    with acting("catalog", "test"), database.unit() as unit:
        left = unit.cursor().execute(
            "SELECT template_id FROM generated_offering WHERE template_id = %(of)s"
            " UNION ALL SELECT template_id FROM tariff_generation WHERE template_id = %(of)s",
            {"of": key},
        )
        assert left.fetchall() == []
    # Its drafts stay what they are.
    assert written(database, key)[0] == (50 if kill else 100)
    steps(database, key)
    assert written(database, key)[0] == (50 if kill else 100)


def test_drafts_are_changed_in_place_and_what_was_released_gets_another_version(manager: Client) -> None:
    family = Family(manager)
    before = cells(family.generate())
    sold = family.release(before["segment=private speed=100 term=0"])
    family.change("constant", constant=DEARER)
    previewed = family.preview()
    assert counts(previewed) == (0, 9, 1, 0, 0)
    shown = cells(previewed)["segment=private speed=100 term=0"]
    assert (shown.action, shown.price[0].before.units, shown.price[0].price.units) == (NEW_VERSION, 509, 609)
    after = cells(family.generate())
    for key, cell in after.items():
        offering = family.offering(cell)
        if key == "segment=private speed=100 term=0":
            assert offering.id != sold.id
            assert (offering.series, offering.version) == (sold.id, "2")
        else:
            assert cell.product_offering_id == before[key].product_offering_id
            assert len(offering.product_offering_price) == len(cell.price)
    # What is sold is what it was.
    unchanged = manager.get(sold)
    assert unchanged == sold
    assert manager.get(catalog_pb2.ProductOfferingPrice(id=sold.product_offering_price[0].id)).price.units == 509
    assert counts(family.generate()) == (0, 0, 0, 10, 0)
    family.change("constant")
    assert counts(family.generate()) == (0, 10, 0, 0, 0)


def test_a_price_that_the_template_lost_goes_with_the_draft_that_had_it(manager: Client) -> None:
    family = Family(manager)
    cell = cells(family.generate())["segment=private speed=100 term=0"]
    kept, lost = family.offering(cell).product_offering_price
    family.change("price", price=template().price[:1])
    family.generate()
    assert [one.id for one in family.offering(cell).product_offering_price] == [kept.id]
    listed = manager.call(
        "ListProductOfferingPrices",
        requests_pb2.ListRequest(
            filter=[requests_pb2.Filter(path="id", operator=requests_pb2.Filter.OPERATOR_EQ, value=[lost.id])]
        ),
    )
    assert not listed.items


def test_what_vanishes_from_the_grid_is_proposed_for_retirement_and_stays(manager: Client) -> None:
    family = Family(manager)
    before = cells(family.generate())
    smaller = (axis("speed", 50, 100, kind=AxisKind.CHARACTERISTIC, characteristic="downstream", unit="Mbit/s"),)
    family.change("axis", axis=(*smaller, *template().axis[1:]))
    written = family.generate()
    assert counts(written) == (0, 0, 0, 6, 4)
    proposed = [cell for cell in written.cell if cell.action == RETIRE]
    assert {"speed=200" in cell.key for cell in proposed} == {True}
    assert all(family.offering(cell).id == before[cell.key].product_offering_id for cell in proposed)
    family.change("axis")
    again = family.generate()
    assert counts(again) == (0, 0, 0, 10, 0)
    assert {cell.product_offering_id for cell in again.cell} == {c.product_offering_id for c in before.values()}


def test_a_template_that_changed_since_the_preview_isnt_generated(manager: Client) -> None:
    family = Family(manager)
    previewed = family.preview()
    family.change("description", description="another")
    with pytest.raises(Aborted, match="changed"):
        family.generate(etag=previewed.etag)


def test_a_template_that_changes_while_it_is_generated_is_generated_as_it_is_then(
    manager: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Family(manager)
    changes = iter(["meanwhile", "meanwhile too"])

    def meanwhile(unit: Unit) -> None:
        if change := next(changes, None):
            family.change("description", description=change)
        lock_references(unit)

    monkeypatch.setattr(api, "lock_references", meanwhile)
    assert counts(family.generate())[0] > 0
    assert next(changes, None) is None
    # Who has stated which one he means is told that it isn't that any more.
    etag, changes = family.preview().etag, iter(["once more"])
    with pytest.raises(Aborted) as refusal:
        family.generate(etag=etag)
    assert refusal.value.reason == "STALE_ETAG"


def test_a_template_can_be_previewed_before_it_is_kept(manager: Client) -> None:
    request = generation_pb2.PreviewTariffFamilyRequest(tariff_template=message(), offset=2, limit=3)
    previewed = manager.call("PreviewTariffFamily", request)
    assert (previewed.created, len(previewed.cell)) == (10, 3)


def test_a_bad_template_isnt_kept_and_agents_have_no_say(
    manager: Client, client_for: Callable[[Sequence[str]], Client]
) -> None:
    bad = generation_pb2.CreateTariffTemplateRequest(tariff_template=message(name_pattern="{nothing}"))
    with pytest.raises(InvalidArgument, match="nothing"):
        manager.call("CreateTariffTemplate", bad)
    with pytest.raises(PermissionDenied):
        client_for(["agent"]).call("PreviewTariffFamily", generation_pb2.PreviewTariffFamilyRequest(id="x"))
