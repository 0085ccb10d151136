"""Compiled offers in the database: they spare a book that begins the work, and never say what isn't so any more."""

import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import ModuleType
from typing import Any

import msgspec
import pytest

from catalog.pricing import compiled
from catalog.pricing.compiling import BATCH, Compiling
from catalog.pricing.domain import PriceList, TaxRate
from catalog.pricing.offers import Offer
from catalog.pricing.store import OfferBook
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.values import BundledProductOfferingPriceRelationship
from chassis import calls, convert, db, schema
from chassis.db import Database
from chassis.errors import Aborted
from chassis.types import Aggregate, new_id
from chassis.unit import Unit
from tests.catalog.things import a_discount, a_price, altered_by, an_offering, kgs, parts, refs


@pytest.fixture(autouse=True)
def acting() -> Iterator[None]:
    """As the catalog itself, in every branch."""
    with calls.using(calls.Call.background("catalog", "test", branches=("*",))):
        yield


@pytest.fixture
def compiling(database: Database) -> Compiling:
    return Compiling(database, OfferBook())


def add(database: Database, *items: Aggregate) -> None:
    with database.unit() as unit:
        for item in items:
            unit.add(item)


def change(database: Database, cls: type[Aggregate], key: str, **values: object) -> None:
    with database.unit() as unit:
        item = unit.get(cls, key)
        for name, value in values.items():
            setattr(item, name, value)


def kept(database: Database, *ids: str) -> dict[str, compiled.Compiled]:
    with database.unit() as unit:
        return compiled.stored(unit, ids)


def stale(database: Database) -> list[str]:
    with database.unit() as unit:
        return compiled.stale(unit, "", 1000)


def loaded(database: Database) -> OfferBook:
    book = OfferBook()
    book.load(database)
    return book


# A book that knows nothing, and one that has taken up what was kept.
BOOKS = [lambda database: OfferBook(), loaded]


def amounts(offer: Offer) -> list[str]:
    return sorted(f"{charge.amount} {len(charge.alterations)}" for charge in offer.charges)


@pytest.fixture
def sold(database: Database, compiling: Compiling) -> str:
    """An offering with a fee, a fee made of another, and a discount; all of it compiled."""
    key = new_id()
    add(
        database,
        a_price(f"{key}-inner", "5 KGS"),
        a_discount(f"{key}-off", "10"),
        a_price(f"{key}-fee", "100 KGS", pop_relationship=altered_by(f"{key}-off")),
        a_price(
            f"{key}-outer", None, bundled_pop_relationship=(BundledProductOfferingPriceRelationship(id=f"{key}-inner"),)
        ),
        an_offering(key, *refs(f"{key}-fee", f"{key}-outer", f"{key}-later")),
    )
    compiling.once()
    return key


def test_what_is_kept_is_what_would_be_compiled(database: Database, sold: str) -> None:
    before = kept(database, sold)[sold]
    with database.unit() as unit:
        anew = compiled.compiled(unit, [sold])[sold]
    assert (before.text, before.revisions, before.series) == (anew.text, anew.revisions, sold)
    assert before.offer == anew.offer
    assert before.offer.text == before.text
    assert stale(database) == []


@pytest.mark.parametrize("book", BOOKS)
def test_a_book_takes_what_is_kept(database: Database, sold: str, book: Callable[[Database], OfferBook]) -> None:
    # Nothing but a word of the kept text is another, so that one sees where an offer comes from.
    with database.unit() as unit:
        unit.cursor().execute("UPDATE compiled_offer SET text = replace(text, 'fee', 'FEE') WHERE id = %s", [sold])
    assert any("FEE" in charge.rule for charge in book(database).offers(database, [sold])[sold].charges)


@pytest.mark.parametrize("book", BOOKS)
def test_what_another_program_compiled_is_not_believed(
    database: Database, compiling: Compiling, sold: str, book: Callable[[Database], OfferBook]
) -> None:
    with database.unit() as unit:
        unit.cursor().execute("UPDATE compiled_offer SET compiler = 'other', text = '{}' WHERE id = %s", [sold])
    assert amounts(book(database).offers(database, [sold])[sold]) == ["100 1", "5 0"]
    assert stale(database) == [sold]
    assert compiling.once() == 1
    assert kept(database, sold)[sold].text != "{}"


def test_what_another_program_keeps_stays_while_it_is_there(
    database: Database, compiling: Compiling, sold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = compiled.COMPILER

    def of_all() -> int:
        with database.unit() as unit:
            return len(unit.cursor().execute("SELECT FROM compiled_offer WHERE id = %s", [sold]).fetchall())

    monkeypatch.setattr(compiled, "COMPILER", "other")
    assert stale(database) != []
    assert compiling.once() > 0
    for compiler in (ours, "other", ours):
        monkeypatch.setattr(compiled, "COMPILER", compiler)
        assert stale(database) == []
        assert compiling.once() == 0
    assert of_all() == 2
    # The last program of the other version has ended long ago.
    with database.unit() as unit:
        unit.cursor().execute("UPDATE offer_compiler SET seen_at = now() - interval '25 hours'")
    assert compiling.once() == 0
    assert of_all() == 1
    assert stale(database) == []


@pytest.mark.parametrize(
    ("module", "attribute"),
    [(schema, "__file__"), (convert, "__file__"), (db, "__file__"), (msgspec, "__version__")],
)
def test_what_makes_a_row_an_offering_is_part_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, attribute: str
) -> None:
    assert compiled.compiler_of_this_program() == compiled.COMPILER
    # Any other text, of a file too.
    monkeypatch.setattr(module, attribute, __file__)
    assert compiled.compiler_of_this_program() != compiled.COMPILER


CHANGES: dict[str, tuple[Callable[[Database, str], None], list[str]]] = {
    "its price": (lambda db, key: change(db, ProductOfferingPrice, f"{key}-fee", price=kgs("120")), ["120 1", "5 0"]),
    "a price in it": (
        lambda db, key: change(db, ProductOfferingPrice, f"{key}-inner", price=kgs("7")),
        ["100 1", "7 0"],
    ),
    "what alters it": (
        lambda db, key: change(db, ProductOfferingPrice, f"{key}-fee", pop_relationship=()),
        ["100 0", "5 0"],
    ),
    "itself": (
        lambda db, key: change(db, ProductOffering, key, product_offering_price=refs(f"{key}-inner")),
        ["5 0"],
    ),
    "a price that is made at last": (
        lambda db, key: add(db, a_price(f"{key}-later", "9 KGS")),
        ["100 1", "5 0", "9 0"],
    ),
    "a price that is gone": (
        lambda db, key: _delete(db, ProductOfferingPrice, f"{key}-inner"),
        ["100 1"],
    ),
}


def _delete(database: Database, cls: type[Aggregate], key: str) -> None:
    with database.unit() as unit:
        unit.delete(unit.get(cls, key))


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_since_is_compiled_anew(
    database: Database, compiling: Compiling, sold: str, book: Callable[[Database], OfferBook], what: str
) -> None:
    before = book(database)
    assert amounts(before.offers(database, [sold])[sold]) == ["100 1", "5 0"]
    make, expected = CHANGES[what]
    make(database, sold)
    # What is kept is of before: whoever would have renewed it may have been killed.
    assert amounts(kept(database, sold)[sold].offer) == ["100 1", "5 0"]
    for one in (before, book(database)):
        assert amounts(one.offers(database, [sold])[sold]) == expected
    assert stale(database) == [sold]
    assert compiling.once() == 1
    assert amounts(kept(database, sold)[sold].offer) == expected
    assert stale(database) == []
    assert amounts(book(database).offers(database, [sold])[sold]) == expected


@pytest.mark.parametrize("book", BOOKS)
def test_an_offering_that_is_gone_is_not_sold_from_what_was_kept(
    database: Database, sold: str, book: Callable[[Database], OfferBook]
) -> None:
    before = book(database)
    _delete(database, ProductOffering, sold)
    assert kept(database, sold) == {}
    assert before.offers(database, [sold]) == book(database).offers(database, [sold]) == {}


@pytest.mark.parametrize("book", BOOKS)
def test_parts_and_versions_come_with_it(
    database: Database, compiling: Compiling, sold: str, book: Callable[[Database], OfferBook]
) -> None:
    bundle = new_id()
    add(database, an_offering(bundle, bundled_product_offering=parts(**{sold: 1})))
    compiling.once()
    first = book(database)
    assert set(first.offers(database, [bundle])) == {bundle, sold}
    # A further version of the part, made where nobody has compiled it yet.
    version = new_id()
    add(database, an_offering(version, *refs(f"{sold}-fee"), series=sold, lifecycle_status=LifecycleStatus.LAUNCHED))
    for one in (first, book(database)):
        assert set(one.offers(database, [bundle])) == {bundle, sold, version}
    compiling.once()
    assert set(book(database).offers(database, [bundle])) == {bundle, sold, version}


@pytest.mark.parametrize("book", BOOKS)
def test_price_lists_and_taxes_come_with_it_and_change(
    database: Database, compiling: Compiling, book: Callable[[Database], OfferBook]
) -> None:
    key, names, category = new_id(), new_id(), new_id()
    add(
        database,
        PriceList(id=names, branch="*", name="before", lifecycle_status=LifecycleStatus.ACTIVE),
        TaxRate(id=new_id(), branch="*", tax_category=category, rate=Decimal(12)),
        a_price(f"{key}-fee", "100 KGS", price_list=names, tax_category=category),
        an_offering(key, *refs(f"{key}-fee")),
    )
    compiling.once()
    first = book(database)
    _, rules = first.read(database, [key])
    assert rules.price_lists[names].name == "before"
    assert [tax.rate for tax in rules.taxes[category]] == [12]
    change(database, PriceList, names, name="after")
    add(database, TaxRate(id=new_id(), branch="*", tax_category=category, rate=Decimal(14)))
    for one in (first, book(database)):
        _, rules = one.read(database, [key])
        assert rules.price_lists[names].name == "after"
        assert sorted(tax.rate for tax in rules.taxes[category]) == [12, 14]


def test_more_than_a_batch_is_compiled_and_loaded(database: Database, compiling: Compiling) -> None:
    compiling.once()
    ids = [new_id() for _ in range(BATCH + 3)]
    add(database, *(an_offering(key) for key in ids))
    assert compiling.once() == len(ids)
    assert stale(database) == []
    book = OfferBook()
    assert book.load(database) >= len(ids)
    assert set(book.offers(database, ids)) == set(ids)
    # A book takes no more than it has room for.
    assert OfferBook(most=10).load(database) == 10


def test_what_can_be_sold_is_loaded_first(database: Database, compiling: Compiling) -> None:
    compiling.once()
    retired, sold = "0-" + new_id(), "1-" + new_id()
    add(database, an_offering(retired, lifecycle_status=LifecycleStatus.RETIRED), an_offering(sold))
    compiling.once()
    with database.unit() as unit:
        everything = compiled.page(unit, "", 10_000, live=True)
        others = compiled.page(unit, "", 10_000, live=False)
    assert (sold in everything, sold in others, retired in everything, retired in others) == (True, False, False, True)
    book = OfferBook(most=len(everything))
    assert book.load(database) == len(everything)
    assert book._kept.keys() == everything.keys()
    assert OfferBook(most=len(everything) + 1).load(database) == len(everything) + 1


def test_what_changes_takes_no_room_and_a_full_book_forgets_a_little(database: Database) -> None:
    ids = [new_id() for _ in range(40)]
    add(database, *(an_offering(key) for key in ids))
    book = OfferBook(most=32)
    for key in ids[:32]:
        book.offers(database, [key])
    assert book._kept.keys() == set(ids[:32])
    # One that has changed takes the place that it had, and counts as new.
    change(database, ProductOffering, ids[0], name="other")
    book.offers(database, [ids[0]])
    assert book._kept.keys() == set(ids[:32])
    book.offers(database, [ids[32]])
    assert book._kept.keys() == {ids[0], *ids[3:33]}
    assert set(book.offers(database, ids)) == set(ids)
    assert len(book._kept.keys()) <= len(ids)


def test_what_does_not_exist_takes_no_room(database: Database) -> None:
    book = OfferBook()
    for _ in range(3):
        assert book.offers(database, [new_id()]) == {}
    assert not book._kept
    assert not book._versions


@pytest.mark.parametrize("changes", [1, 2, 1_000])
def test_an_offer_is_never_compiled_from_before_and_after_a_change(
    database: Database, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """Both its prices are read after a change that came when it had been read itself."""
    key = new_id()
    add(database, a_price(f"{key}-a", "0 KGS"), a_price(f"{key}-b", "0 KGS"), an_offering(key, *refs(f"{key}-a")))
    read, done = compiled._read, 0

    def between(unit: Unit, cls: type[Aggregate], condition: str, parameters: Mapping[str, Any]) -> Iterator[Aggregate]:
        nonlocal done
        if cls is ProductOfferingPrice and done < changes:
            done += 1
            other = f"{key}-{'ab'[done % 2]}"
            change(database, ProductOffering, key, product_offering_price=refs(other))
            for name in ("a", "b"):
                change(database, ProductOfferingPrice, f"{key}-{name}", price=kgs(str(done)))
        yield from read(unit, cls, condition, parameters)

    monkeypatch.setattr(compiled, "_read", between)
    book = OfferBook()
    if changes == 1_000:
        with pytest.raises(Aborted) as refusal:
            book.offers(database, [key])
        assert refusal.value.reason == "CATALOG_CHANGING"
        return
    (charge,) = book.offers(database, [key])[key].charges
    assert (charge.rule, charge.amount) == (f"{key}-{'ab'[changes % 2]}", Decimal(changes))


def test_only_one_replica_compiles_at_a_time(database: Database, compiling: Compiling, sold: str) -> None:
    change(database, ProductOfferingPrice, f"{sold}-fee", price=kgs("120"))
    with database.unit() as unit:
        assert compiled.alone(unit)
        assert compiling.once() == 0
    assert compiling.once() == 1


def test_what_is_compiled_while_it_changes_is_found_out(database: Database, sold: str) -> None:
    """A compiler that read before a change and writes after it: what it keeps is known to be old."""
    with database.unit() as unit:
        old = compiled.compiled(unit, [sold])
    change(database, ProductOfferingPrice, f"{sold}-fee", price=kgs("120"))
    with database.unit() as unit:
        compiled.keep(unit, old.values())
    assert stale(database) == [sold]
    assert amounts(loaded(database).offers(database, [sold])[sold]) == ["120 1", "5 0"]


def test_a_process_loads_what_is_kept_and_compiles_what_changes(database: Database, sold: str) -> None:
    with database.unit() as unit:
        unit.cursor().execute("UPDATE compiled_offer SET text = replace(text, 'fee', 'FEE') WHERE id = %s", [sold])
    book = OfferBook()
    running = Compiling(database, book)
    running.load()
    # From now on nothing can be taken from there.
    with database.unit() as unit:
        unit.cursor().execute("UPDATE compiled_offer SET text = '' WHERE id = %s", [sold])
    assert any("FEE" in charge.rule for charge in book.offers(database, [sold])[sold].charges)
    running.start()
    try:
        change(database, ProductOfferingPrice, f"{sold}-fee", price=kgs("130"))
        _eventually(lambda: kept(database, sold)[sold].text != "")
    finally:
        running.stop()
    assert amounts(kept(database, sold)[sold].offer) == ["130 1", "5 0"]


def _eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it didn't come true"
        time.sleep(0.05)
