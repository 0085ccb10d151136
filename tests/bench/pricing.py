"""Prices: lines per second with their receipts, the same through SQLAlchemy row by row, the RPC beside an echo, and
what `pricing_catalog` measures: how large a catalog and a base may be."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import grpc
from sqlalchemy.orm import Session

from catalog.pricing.messages import response
from catalog.pricing.offers import Offer, compile_offer
from catalog.pricing.pricing import Item, Pricing, PricingContext, price
from catalog.pricing.store import OfferBook
from catalog.product.domain import LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    BundledProductOffering,
    ProductOfferingPriceRefOrValue,
    ProductOfferingPriceRelationship,
)
from catalog.store import RESOURCES, metadata
from chassis.auth import Principal
from chassis.calls import Call, using
from chassis.clock import Clock
from chassis.convert import to_message
from chassis.db import Database
from chassis.types import Money, TaxItem
from svyaz.catalog.v1 import catalog_pb2, catalog_pb2_grpc, pricing_pb2, pricing_pb2_grpc
from tests.bench.echo import METHOD
from tests.bench.figures import report, taking_turns
from tests.bench.orders import admin
from tests.bench.pricing_catalog import catalog_figures, with_products
from tests.bench.rpc import echo
from tests.platforms import RunningPlatform, running_platform

LINES, COMPONENTS, DISCOUNTS = 20, 3, 2
LINES_GOAL, ROWS_GOAL, ECHO_GOAL = 20_000, 10, 0.35
_CENT = Decimal("0.01")


# --- the quote -------------------------------------------------------------------------------------------------------


@dataclass
class Catalog:
    """A bundle of 20 offerings with 3 prices each, every one of which 2 discounts alter and a tax is on."""

    offerings: list[ProductOffering]
    prices: list[ProductOfferingPrice]

    @property
    def bundle(self) -> str:
        """The id of the bundle."""
        return self.offerings[-1].id

    def compiled(self) -> dict[str, Offer]:
        """As pricing wants it."""
        prices = {one.id: one for one in self.prices}
        return {offering.id: compile_offer(offering, prices) for offering in self.offerings}


def a_catalog() -> Catalog:
    """Every line has amounts of its own, so that no line's price is another's."""
    discounts = [
        ProductOfferingPrice(
            id=f"discount-{n}",
            branch="*",
            name=f"Discount {n}",
            lifecycle_status=LifecycleStatus.LAUNCHED,
            price_type="discount",
            priority=n,
            percentage=Decimal(10) if n == 0 else None,
            price=None if n == 0 else Money(unit="KGS", value=Decimal("5.25")),
        )
        for n in range(DISCOUNTS)
    ]
    links = tuple(ProductOfferingPriceRelationship(id=d.id, relationship_type="discountedBy") for d in discounts)
    prices: list[ProductOfferingPrice] = list(discounts)
    offerings: list[ProductOffering] = []
    for line in range(LINES):
        own = [
            ProductOfferingPrice(
                id=f"price-{line}-{component}",
                branch="*",
                name=f"Charge {component}",
                lifecycle_status=LifecycleStatus.LAUNCHED,
                price_type="recurring" if component else "oneTime",
                recurring_charge_period_type="month" if component else None,
                price=Money(unit="KGS", value=Decimal(f"{100 + 7 * line + component}.99")),
                tax=(TaxItem(tax_category="VAT", tax_rate=Decimal(12)),),
                pop_relationship=links,
            )
            for component in range(COMPONENTS)
        ]
        prices += own
        references = tuple(ProductOfferingPriceRefOrValue(id=one.id) for one in own)
        offerings.append(_offering(f"offering-{line}", product_offering_price=references))
    parts = tuple(BundledProductOffering(id=offering.id) for offering in offerings)
    offerings.append(_offering("bundle", is_bundle=True, bundled_product_offering=parts))
    return Catalog(offerings, prices)


def _offering(id: str, **more: Any) -> ProductOffering:
    return ProductOffering(id=id, branch="*", name=id, lifecycle_status=LifecycleStatus.LAUNCHED, **more)


def per_cpu_second(work: Callable[[], object], seconds: float = 2.0, rounds: int = 5) -> float:
    """The median of how often one core gets it done in a second of its own time."""
    rates = []
    for _ in range(rounds):
        count, begun = 0, time.process_time()
        while (spent := time.process_time() - begun) < seconds / rounds:
            work()
            count += 1
        rates.append(count / spent)
    return sorted(rates)[rounds // 2]


def lines() -> bool:
    """Lines priced in a second by one core: with receipt objects, and serialised."""
    catalog = a_catalog()
    offers, context = catalog.compiled(), PricingContext(at=datetime.now(UTC))
    items = [Item("1", catalog.bundle)]
    first = price(items, offers, context)
    assert sum(len(part.component) for part in first.item[0].bundled_item) == LINES * COMPONENTS
    with_receipt = LINES * per_cpu_second(lambda: price(items, offers, context))
    serialised = LINES * per_cpu_second(lambda: response(price(items, offers, context)).SerializeToString())
    good = report("lines with receipts", with_receipt, "lines/s of a core", goal=LINES_GOAL)
    # Reported apart: how large a receipt is when it is written out is a matter of the catalog's texts.
    report("lines with serialised receipts", serialised, "lines/s of a core", goal=0)
    return good


# --- row by row ------------------------------------------------------------------------------------------------------


def row_by_row(session: Session, bundle: str, at: datetime) -> dict[str, Decimal]:
    """The same quote as a straightforward service computes it: each thing read when it is needed, no receipt."""
    totals: dict[str, Decimal] = {}
    whole = session.get_one(ProductOffering, bundle)
    for part in whole.bundled_product_offering:
        offering = session.get_one(ProductOffering, part.id)
        for reference in offering.product_offering_price:
            charge = session.get_one(ProductOfferingPrice, reference.id)
            assert charge.price is not None
            assert charge.price.value is not None
            amount = charge.price.value * part.default_number
            alterations = [session.get_one(ProductOfferingPrice, link.id) for link in charge.pop_relationship]
            for alteration in sorted(alterations, key=lambda one: one.priority or 0):
                if alteration.valid_for is not None and not alteration.valid_for.covers(at):
                    continue
                if alteration.percentage is not None:
                    amount -= amount * alteration.percentage / 100
                elif alteration.price is not None and alteration.price.value is not None:
                    amount -= alteration.price.value * part.default_number
            net = max(amount, Decimal()).quantize(_CENT, ROUND_HALF_UP)
            rate = sum((tax.tax_rate or Decimal() for tax in charge.tax), Decimal())
            key = charge.price_type or ""
            totals[key] = totals.get(key, Decimal()) + (net * (1 + rate / 100)).quantize(_CENT, ROUND_HALF_UP)
    return totals


# --- on a platform ---------------------------------------------------------------------------------------------------


class Sold:
    """The catalog on a running platform, where it got ids of its own."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.platform = platform
        self._token = (("authorization", f"Bearer {platform.token('admin', 'bishkek')}"),)
        catalog = a_catalog()
        ids: dict[str, str] = {}
        with grpc.insecure_channel(platform.address("catalog")) as channel:
            stub = catalog_pb2_grpc.CatalogServiceStub(channel)
            for one in catalog.prices:
                links = tuple(replace(link, id=ids[link.id or ""]) for link in one.pop_relationship)
                message = to_message(replace(one, pop_relationship=links), catalog_pb2.ProductOfferingPrice)
                wanted = catalog_pb2.CreateProductOfferingPriceRequest(product_offering_price=message)
                ids[one.id] = stub.CreateProductOfferingPrice(wanted, metadata=self._token).id
            for offering in catalog.offerings:
                whole = replace(
                    offering,
                    product_offering_price=tuple(
                        replace(reference, id=ids[reference.id or ""]) for reference in offering.product_offering_price
                    ),
                    bundled_product_offering=tuple(
                        replace(part, id=ids[part.id or ""]) for part in offering.bundled_product_offering
                    ),
                )
                sent = catalog_pb2.CreateProductOfferingRequest(
                    product_offering=to_message(whole, catalog_pb2.ProductOffering)
                )
                ids[offering.id] = stub.CreateProductOffering(sent, metadata=self._token).id
        self.bundle, self.single = ids[catalog.bundle], ids[catalog.offerings[0].id]

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The catalog's database, from this process."""
        database = Database(admin(self.platform, "catalog"), clock=Clock(), metadata=metadata, resources=RESOURCES)
        try:
            yield database
        finally:
            database.close()


def against_rows(sold: Sold) -> bool:
    """The quote as the service computes it, asking whether what it keeps is current, beside the one row by row."""
    with sold.database() as database:
        book, items, at = OfferBook(), [Item("1", sold.bundle)], database.clock.now()

        def ours() -> Pricing:
            # In whichever thread it is measured.
            with using(Call(Principal("bench", frozenset({"service"}), ("*",)), "bench")):
                offers, rules = book.read(database, {sold.bundle})
            return price(items, offers, PricingContext(at=at), rules)

        def theirs() -> dict[str, Decimal]:
            with Session(database.engine) as session:
                return row_by_row(session, sold.bundle, at)

        assert {total.price_type: total.tax_included_amount.value for total in ours().total} == theirs()
        value, baseline = taking_turns(ours, theirs, seconds=2.0, rounds=3, threads=1)
    return report("a quote of 20 lines", value, "quotes/s", baseline=baseline, goal=ROWS_GOAL)


def against_an_echo(sold: Sold) -> bool:
    """A Price call of one line beside a bare echo of its answer."""
    token = (("authorization", f"Bearer {sold.platform.token('agent', 'bishkek')}"),)
    request = pricing_pb2.PriceRequest(item=[pricing_pb2.PriceRequestItem(id="1", product_offering_id=sold.single)])
    with grpc.insecure_channel(sold.platform.address("catalog")) as channel, echo() as bare:
        stub = pricing_pb2_grpc.PricingServiceStub(channel)
        answer = stub.Price(request, metadata=token).SerializeToString()
        with grpc.insecure_channel(bare) as plain:
            call: Any = plain.unary_unary(METHOD)
            value, baseline = taking_turns(
                lambda: stub.Price(request, metadata=token), lambda: call(answer, metadata=token)
            )
    return report("Price of one line", value, "calls/s", baseline=baseline, goal=ECHO_GOAL)


# What needs nothing but a core, and what is measured on a platform that has the catalog above.
ALONE: Sequence[Callable[[], bool]] = (lines,)
ON_A_PLATFORM: Sequence[Callable[[Sold], bool]] = (against_rows, against_an_echo)


def main() -> int:
    """1 when a goal is missed."""
    given = with_products(argparse.ArgumentParser(description=__doc__)).parse_args()
    good = [figure() for figure in ALONE]
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform:
        sold = Sold(platform)
        good += [figure(sold) for figure in ON_A_PLATFORM]
    good.append(catalog_figures(given.products))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
