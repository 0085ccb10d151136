"""How large a catalog and a base may be: 10,000 offerings against 100, and a change previewed for 1,000,000 products.

A process that begins takes up what was compiled before (`Compiling.load`), and can price any offering then; it is also
shown how long it takes to have proved every one current and parsed it, and to compile all of them where nothing is
kept. Then random offerings are priced in turns, out of these 10,000 and out of a catalog of 100 that has a database and
a book of its own; each call is given what a call of the service is given. The base is written into `holding` as the
consumer would have filled it: 20 offerings, 12 branches, a characteristic that has a price, terms, quantities, prices
as sold of several ages, discounts for a time and a serial number that nobody shares. The preview runs in a process of
its own, whose memory is looked at while it works; 1,000 random products are then priced singly.
"""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from catalog.holding.domain import SoldAlteration, SoldPrice
from catalog.preview import store as previews
from catalog.preview.difference import difference
from catalog.preview.domain import Subscription
from catalog.preview.job import STEP, Previews
from catalog.pricing import compiled
from catalog.pricing.offers import Offer
from catalog.pricing.pricing import Item, PricingContext, price
from catalog.pricing.rules import Rules
from catalog.pricing.store import OfferBook
from catalog.store import RESOURCES, metadata
from chassis import calls, migrate
from chassis.clock import Clock
from chassis.db import Database
from chassis.schema import TypedJson
from chassis.timers import cancel_timer
from chassis.types import Characteristic, Json
from svyaz.catalog.v1 import catalog_pb2, preview_pb2
from svyaz_cli.embedded import Postgres, free_port
from svyaz_cli.secrets import Secrets
from tests.bench.figures import report, taking_turns

OFFERINGS, FEW = 10_000, 100
PRODUCTS, FEWER = 1_000_000, 100_000
LOAD_SECONDS, PREVIEW_SECONDS = 2.0, 60.0
# What happens once, beside the calls, when a program is replaced by another that compiles otherwise.
COMPILED_SECONDS = 20.0
# Of a catalog of 10,000 beside one of 100: processors' caches hold the one and not the other, and that is all.
PRICED_GOAL = 0.8
# Peak memory at ten times the products.
MEMORY_GOAL = 1.15
SINGLY = 1_000

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BRANCHES = [f"branch-{number}" for number in range(12)]
HELD = 20
_SOLD = TypedJson(SoldPrice, True)


# --- a catalog -------------------------------------------------------------------------------------------------------

# Of every offering: a connection fee, a monthly fee that a discount is taken off, and a fee for one value of a
# characteristic.
_PRICES = """
    INSERT INTO product_offering_price (id, branch, revision, name, lifecycle_status, price_type, percentage, priority,
        recurring_charge_period_type, price, tax, pop_relationship, condition)
    SELECT kind || '-' || n, '*', 1, kind, 'Launched',
        CASE kind WHEN 'connection' THEN 'oneTime' WHEN 'discount' THEN 'discount' ELSE 'recurring' END,
        CASE kind WHEN 'discount' THEN 10 END, 1,
        CASE WHEN kind IN ('fee', 'speed') THEN 'month' END,
        CASE WHEN kind <> 'discount' THEN jsonb_build_object('unit', 'KGS', 'value', 100 + n %% 900) END,
        CASE WHEN kind <> 'discount' THEN '[{"tax_category": "VAT", "tax_rate": 12}]'::jsonb END,
        CASE kind WHEN 'fee' THEN jsonb_build_array(
            jsonb_build_object('id', 'discount-' || n, 'relationship_type', 'discountedBy')) END,
        CASE kind WHEN 'speed' THEN
            '[{"subject": "characteristic.speed", "operator": "gte", "value": 100}]'::jsonb END
    FROM generate_series(0, %(count)s - 1) AS n, unnest(ARRAY['connection', 'fee', 'discount', 'speed']) AS kind
"""
_OFFERINGS = """
    INSERT INTO product_offering (id, branch, revision, name, version, lifecycle_status, series, existing_subscribers,
        product_offering_price, product_offering_term)
    SELECT 'offering-' || n, '*', 1, 'Offering ' || n, '1', 'Launched', NULL, NULL, jsonb_build_array(
        jsonb_build_object('id', 'connection-' || n), jsonb_build_object('id', 'fee-' || n),
        jsonb_build_object('id', 'speed-' || n)), '[{"name": "12 months"}]'::jsonb
    FROM generate_series(0, %(count)s - 1) AS n
"""
_REFERENCES = """
    INSERT INTO reference (referrer_id, field, target_id, referrer_type, target_type, part)
    SELECT 'offering-' || n, 'product_offering_price', kind || '-' || n, 'ProductOffering', 'ProductOfferingPrice', true
    FROM generate_series(0, %(count)s - 1) AS n, unnest(ARRAY['connection', 'fee', 'speed']) AS kind
"""
# The next versions of what is held, with fees of their own.
_DRAFTS = """
    INSERT INTO product_offering (id, branch, revision, name, version, lifecycle_status, series, existing_subscribers,
        product_offering_price, product_offering_term)
    SELECT 'draft-' || n, '*', 1, name, '2', 'In design', id, '{"policy": "migrate"}'::jsonb,
        jsonb_build_array(jsonb_build_object('id', 'fee-' || (n + 37)), jsonb_build_object('id', 'speed-' || (n + 11))),
        product_offering_term
    FROM product_offering JOIN generate_series(0, %(count)s - 1) AS n ON id = 'offering-' || n
"""


def fill_catalog(url: str, offerings: int, drafts: int = 0) -> None:
    """So many offerings with four prices each, and drafts of next versions of the first ones."""
    with psycopg.connect(url) as connection:
        for statement, count in (
            (_PRICES, offerings),
            (_OFFERINGS, offerings),
            (_REFERENCES, offerings),
            (_DRAFTS, drafts),
        ):
            connection.execute(statement, {"count": count})
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def catalog_database(url: str) -> Database:
    """The catalog service's own view of its database."""
    return Database(url, clock=Clock(), metadata=metadata, resources=RESOURCES, connections=4)


@contextmanager
def as_service() -> Iterator[None]:
    """As the catalog itself, in every branch."""
    with calls.using(calls.Call.background("catalog", "bench", branches=("*",))):
        yield


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of this process's CPU that the work takes: others may be busy on the same machine."""
    begun = time.process_time()
    with as_service():
        work()
    return time.process_time() - begun


def compile_all(database: Database) -> None:
    """Compiles what isn't kept yet."""
    with as_service(), database.unit() as unit:
        while found := compiled.stale(unit, "", OFFERINGS):
            compiled.keep(unit, compiled.compiled(unit, found).values())
            unit.flush()


def load(database: Database) -> bool:
    """Whether a catalog of 10,000 offerings loads in time."""
    ids = [f"offering-{number}" for number in range(OFFERINGS)]

    def read(book: OfferBook, keys: Sequence[str] = ids) -> None:
        assert len(book.offers(database, keys)) >= len(keys)

    def begin() -> None:
        """What a process does before it can price any of them, and the first of them."""
        book = OfferBook()
        assert book.load(database) >= OFFERINGS
        read(book, ids[:1])

    with as_service():
        read(OfferBook(), ids[:FEW])
    good = report(
        f"{OFFERINGS:,} offerings of which nothing is kept are compiled",
        seconds_of(lambda: read(OfferBook())),
        "s of CPU",
        goal=COMPILED_SECONDS,
        lower=True,
    )
    compile_all(database)
    begun = time.perf_counter()
    with as_service():
        begin()
    good &= report(f"{OFFERINGS:,} offerings load", time.perf_counter() - begun, "s", goal=LOAD_SECONDS, lower=True)

    def everything() -> None:
        book = OfferBook()
        book.load(database)
        read(book)

    for name, work in (("load", begin), ("load and are proved current and parsed, each", everything)):
        figure = min(seconds_of(work) for _ in range(3))
        good &= report(f"{OFFERINGS:,} offerings {name}", figure, "s of CPU", goal=LOAD_SECONDS, lower=True)
    return good


class Market:
    """A catalog of so many offerings with a book that has all of them, from which random ones are priced."""

    def __init__(self, database: Database, offerings: int) -> None:
        self._database = database
        self._ids = [f"offering-{number}" for number in range(offerings)]
        self._book = OfferBook()
        with as_service():
            found, self._rules = self._book.read(database, self._ids)
            # What reading one of them gives: it and its further versions, for nothing is bundled.
            self._closures: dict[str, dict[str, Offer]] = {}
            for offer in found.values():
                self._closures.setdefault(offer.series, {})[offer.id] = offer
            for key in (self._ids[0], self._ids[-1]):
                assert self._book.offers(database, [key]) == self._closures[key]
        self._chance = random.Random(1)

    def price(self) -> None:
        """Prices one that has been read."""
        key = self._chance.choice(self._ids)
        self._price(key, self._closures[key], self._rules)

    def read_and_price(self) -> None:
        """Asks first, as every call does, whether what the book has of it is current."""
        key = self._chance.choice(self._ids)
        with as_service():
            offers, rules = self._book.read(self._database, [key])
        self._price(key, offers, rules)

    @staticmethod
    def _price(key: str, offers: Mapping[str, Offer], rules: Rules) -> None:
        fast = (Characteristic(name="speed", value=Json("100")),)
        price([Item("1", key, 2, fast)], offers, PricingContext(NOW, branch=BRANCHES[0]), rules)


def price_of_many(database: Database, of_few: Database) -> bool:
    """Whether 10,000 offerings are priced as fast as the 100 of another database."""
    many, few = Market(database, OFFERINGS), Market(of_few, FEW)
    rates = taking_turns(many.price, few.price, seconds=2.0, threads=1)
    good = report(f"priced of {OFFERINGS:,}", rates[0], "items/s", baseline=rates[1], goal=PRICED_GOAL)
    rates = taking_turns(many.read_and_price, few.read_and_price, seconds=2.0, threads=1)
    return good & report(f"read and priced of {OFFERINGS:,}", rates[0], "items/s", baseline=rates[1], goal=PRICED_GOAL)


# --- a base ----------------------------------------------------------------------------------------------------------


def _sold(net: int, discounted: int) -> str:
    alteration = (SoldAlteration(price_id="discount", net=-net / 10, duration=discounted, units="month"),)  # type: ignore[arg-type]
    prices = (
        SoldPrice(
            price_id="fee",
            price_type="recurring",
            period="month",
            currency="KGS",
            net=net,  # type: ignore[arg-type]
            tax_rate=12,  # type: ignore[arg-type]
            alteration=alteration if discounted else (),
        ),
    )
    text = _SOLD.encode(prices)
    assert text is not None
    return text


_HOLDINGS = """
    INSERT INTO holding (id, branch, version, status, live, customer_id, billing_account_id, product_offering_id,
        started_at, ordered_at, characteristic, quantity, term, place, market_segment, sold, sold_durations, seen_at)
    SELECT md5('product' || n)::uuid::text, %(branches)s::text[][1 + n %% {branches}], 1, 'active', true,
        md5('customer' || n / 3)::uuid::text, md5('account' || n / 3)::uuid::text,
        'offering-' || (n * 7 %% {held}), started, started,
        jsonb_build_object('speed', (ARRAY[50, 100, 200, 500])[1 + n / 13 %% 4], 'serial', 'S' || n),
        CASE WHEN n %% 11 = 0 THEN 3 ELSE 1 END, CASE WHEN n %% 5 = 0 THEN '12 months' ELSE '' END,
        ARRAY['house-' || n], ARRAY[CASE WHEN n %% 4 = 0 THEN 'business' ELSE 'home' END],
        (%(sold)s::jsonb[])[1 + n / 17 %% {sold}], CASE WHEN n / 17 %% {sold} %% 2 = 1 THEN ARRAY['12 month']
            ELSE '{{}}'::text[] END, %(now)s
    FROM (
        SELECT n, %(now)s::timestamptz - (n * 7919 %% 94608000) * interval '1 second' AS started
        FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    ) AS made
"""


def fill_base(url: str, first: int, last: int) -> None:
    """The products from one number to another; a superuser isn't held up by policies."""
    sold = [_sold(net, discounted) for net in (300, 450, 600, 900) for discounted in (0, 12)]
    statement = _HOLDINGS.format(branches=len(BRANCHES), held=HELD, sold=len(sold))
    statement = statement.replace("%(branches)s::text[][", "(%(branches)s::text[])[")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(
            statement, {"branches": BRANCHES, "sold": sold, "now": NOW, "first": first, "last": last - 1}
        )
        connection.execute("VACUUM (ANALYZE) holding")


def request_of(drafts: int = HELD) -> preview_pb2.PreviewChangeRequest:
    """All drafts at once."""
    request = preview_pb2.PreviewChangeRequest(product_offering_id=[f"draft-{number}" for number in range(drafts)])
    request.existing_subscribers.policy = catalog_pb2.EXISTING_SUBSCRIBERS_POLICY_MIGRATE
    return request


def begin(database: Database, preview_id: str) -> None:
    """A preview that waits for its first step."""
    with as_service(), database.unit() as unit:
        previews.add(unit, preview_id, ["*"], request_of().SerializeToString(), NOW)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a preview took: seconds, of them processor seconds of the service's process and of PostgreSQL, and the peak
    memory of the former in MB."""

    seconds: float
    processor: float
    of_postgres: float
    memory: float


def _processor(database: Database) -> float:
    """Processor seconds of the server's processes so far."""
    with as_service(), database.unit() as unit:
        (backend,) = unit.cursor().execute("SELECT pg_backend_pid()").fetchone() or (0,)
    spent = 0.0
    for process in psutil.Process(backend).parent().children():  # type: ignore[union-attr]
        # What ends meanwhile isn't one of ours.
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


def work(url: str, preview_id: str) -> Spent:
    """Takes all steps of the preview, in a process of its own, and tells what that took."""
    database = catalog_database(url)
    steps, process, peak = Previews(database), psutil.Process(), [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    of_postgres = _processor(database)
    begun, processor = time.perf_counter(), time.process_time()
    running = True
    while running:
        with as_service(), database.unit() as unit:
            steps.step(preview_id, unit)
            # We take the next step at once.
            cancel_timer(unit, preview_id, STEP)
        with as_service(), database.unit() as unit:
            running = previews.row_of(unit, preview_id).ended_at is None
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    of_postgres = _processor(database) - of_postgres
    over.set()
    watching.join()
    database.close()
    return Spent(seconds, processor, of_postgres, peak[0] / 2**20)


def previewed(url: str, preview_id: str) -> Spent:
    """What a preview of what is there takes."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
        return apart.submit(work, url, preview_id).result()


def agrees(database: Database, preview_id: str, count: int = SINGLY) -> bool:
    """Whether random products priced singly, with all that is known of them, come to what the preview says."""
    chance = random.Random(2)
    with as_service(), database.unit() as unit:
        made = previews.row_of(unit, preview_id)
        plan, looks = Previews(database).plan(unit, made), previews.Looks.parse(made.looks)
        found = unit.cursor().execute(
            "SELECT id, branch, product_offering_id, quantity, characteristic::text, term, place, market_segment,"
            " sold::text, started_at, ordered_at FROM holding TABLESAMPLE BERNOULLI (1) LIMIT 20000"
        )
        for row in chance.sample(found.fetchall(), count):
            key, branch, offering, quantity, characteristic, term, place, segment, sold, started, ordered = row
            held = Subscription(
                branch=branch,
                product_offering_id=offering,
                quantity=quantity,
                characteristic=tuple(
                    Characteristic(name=name, value=Json(json.dumps(value)))
                    for name, value in json.loads(characteristic).items()
                ),
                term=term,
                place=tuple(place),
                market_segment=tuple(segment),
                sold=tuple(_SOLD.decode(sold)),
                started_at=started,
                ordered_at=ordered,
            )
            expected = difference(held, plan.change)
            (shown,) = previews.listed(unit, preview_id, (offering, branch), looks, plan.kept, key[:-1], 1)
            told = previews.differences(unit, [shown[4]]).get(shown[4], [])
            if (shown[0], shown[5], tuple(told)) != (key, str(expected.outcome), expected.difference):
                print(f"{key}: {shown} {told} is not {expected}", file=sys.stderr)
                return False
    return True


def preview_base(database: Database, place: Any, products: int = PRODUCTS) -> bool:
    """Whether a change is previewed in time, with flat memory, and rightly."""
    peaks = []
    filled = 0
    for count in (min(FEWER, products), products):
        fill_base(place.admin_url, filled, count)
        filled = count
        preview_id = f"preview-{count}"
        begin(database, preview_id)
        spent = previewed(place.url, preview_id)
        peaks.append(spent.memory)
        with as_service(), database.unit() as unit:
            outcomes = previews.outcomes(unit, preview_id)
        assert sum(int(one.products) for one in outcomes) == count
        groups = sum(one.groups for one in outcomes)
        told = ", ".join(f"{one.outcome}: {int(one.products):,}" for one in outcomes)
        print(f"{count:,} products in {groups:,} groups; {told}", file=sys.stderr)
    good = report(f"PreviewChange of {products:,} products", spent.seconds, "s", goal=PREVIEW_SECONDS, lower=True)
    # What a loaded machine can't make worse than it is.
    for whose, seconds in (("its processor time", spent.processor), ("PostgreSQL's for it", spent.of_postgres)):
        good &= report(f"{whose}, {products:,} products", seconds, "s", goal=PREVIEW_SECONDS, lower=True)
    good &= report(
        f"its memory at {products:,} products", peaks[1], "MB", baseline=peaks[0], goal=MEMORY_GOAL, lower=True
    )
    right = agrees(database, f"preview-{products}")
    return good & report(f"{SINGLY:,} products priced singly agree", float(right), "", goal=1.0)


# --- a server --------------------------------------------------------------------------------------------------------


class Place:
    """A migrated database of the catalog: as the service's role, and as its superuser."""

    def __init__(self, admin_url: str, name: str = "catalog") -> None:
        migrate.provision(admin_url, "catalog", password="bench", owner_password="bench", database=name)
        owner = migrate.login_url(admin_url, user="catalog_owner", password="bench", database=name)
        migrate.upgrade("catalog", owner, "catalog")
        self.url = migrate.login_url(admin_url, user="catalog", password="bench", database=name)
        self.admin_url = migrate.database_url(admin_url, name)

    def beside(self, name: str) -> "Place":
        """Another one on the same server."""
        return Place(self.admin_url, name)


@contextmanager
def catalog_place() -> Iterator[Place]:
    """A PostgreSQL of its own, as the embedded profile starts it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        postgres = Postgres(directory / "postgres", free_port(), Secrets(directory), notes=directory / "run")
        postgres.launch()
        try:
            postgres.wait()
            yield Place(postgres.admin_url)
        finally:
            postgres.stop()


def catalog_figures(products: int = PRODUCTS, only: str = "") -> bool:
    """All of it, or `only` the catalog's or the preview's; whether every goal is met."""
    with catalog_place() as place, ExitStack() as stack:
        fill_catalog(place.admin_url, OFFERINGS, drafts=HELD)
        database = stack.enter_context(closing(catalog_database(place.url)))
        good = True
        if only != "preview":
            good &= load(database)
            small = place.beside("few")
            fill_catalog(small.admin_url, FEW)
            good &= price_of_many(database, stack.enter_context(closing(catalog_database(small.url))))
        if only != "catalog":
            good &= preview_base(database, place, products)
        return good


def with_products(arguments: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The arguments with the one that says of how many products a change is previewed."""
    arguments.add_argument("--products", type=int, default=PRODUCTS)
    return arguments


def main() -> int:
    """1 when a goal is missed."""
    arguments = with_products(argparse.ArgumentParser())
    arguments.add_argument("--only", choices=["catalog", "preview"], default="")
    given = arguments.parse_args()
    return 0 if catalog_figures(given.products, given.only) else 1


if __name__ == "__main__":
    sys.exit(main())
