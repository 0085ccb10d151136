"""A shop: ordering with its catalog and customers, all on real databases, with time and timers in the test's hands."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

import catalog.store
from catalog.pricing.api import Prices, PricingRules
from catalog.product.api import CatalogItems
from catalog.promotion.api import Promotions, PromotionsOnPrices
from catalog.promotion.domain import ApprovalThresholds
from catalog.publication.guards import Guards
from catalog.qualification.api import Qualifications, SaleGuard
from chassis import clients
from chassis.auth import TokenSource, token_source
from chassis.clock import Clock
from chassis.config import Settings
from chassis.convert import to_timestamp
from chassis.db import Database
from chassis.events import acting
from chassis.server import Registration
from chassis.timers import Timers, turns
from orders.amendment.api import Amendments
from orders.billing.store import charge_event
from orders.bulk.api import BulkOrders
from orders.bulk.steps import Bulk
from orders.cart import steps as carts
from orders.cart.api import Carts
from orders.cart.valuation import Valuation
from orders.fulfilment.adapters import Adapter, NullProvisioning
from orders.fulfilment.api import Fulfilments
from orders.fulfilment.queue import Jobs
from orders.fulfilment.reporters import Reporters
from orders.fulfilment.steps import Systems
from orders.inventory.api import Inventory
from orders.inventory.characteristics import Configurator
from orders.lifecycle.api import ProductLifecycle
from orders.migration.api import Migrations
from orders.migration.steps import Migrating
from orders.ordering import statuses
from orders.ordering.api import Orders
from orders.ordering.capture import Capture
from orders.ordering.coupons import Coupons
from orders.ordering.fulfilment import Fulfilment
from orders.store import RESOURCES, metadata
from orders.template.api import OrderTemplates
from orders.tracking.api import Tracking
from svyaz.catalog.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    pricing_pb2_grpc,
    pricing_rules_pb2_grpc,
    promotion_pb2_grpc,
    qualification_pb2_grpc,
)
from svyaz.customers.v1 import customers_pb2_grpc
from svyaz.orders.v1 import (
    amendment_pb2_grpc,
    bulk_pb2_grpc,
    cart_pb2_grpc,
    fulfilment_pb2_grpc,
    inventory_pb2_grpc,
    lifecycle_pb2_grpc,
    migration_pb2_grpc,
    orders_pb2,
    orders_pb2_grpc,
    template_pb2_grpc,
    tracking_pb2_grpc,
)
from svyaz.type.v1 import values_pb2
from svyaz_cli.issuer import Issuer
from tests.catalog.conftest import Client
from tests.conftest import ServiceDatabase
from tests.serving import Caller, customers_database, customers_registrations, serving

ORDER = "svyaz.orders.v1.OrderService/"
PRODUCT = "svyaz.orders.v1.InventoryService/"
LIFECYCLE = "svyaz.orders.v1.ProductLifecycleService/"
CUSTOMER = "svyaz.customers.v1.CustomerService/"
ACCOUNT = "svyaz.customers.v1.AccountService/"
ACTIVE = catalog_pb2.LIFECYCLE_STATUS_ACTIVE


@dataclass
class World:
    """What a shop asks: the catalog and the customers."""

    manager: Client
    customers: str
    callers: Callable[[str, str], Caller]
    settings: Settings
    # With which ordering asks them.
    tokens: TokenSource


@dataclass
class Shop:
    """Ordering, as an agent of Bishkek and the clock see it."""

    world: World
    database: Database
    offset: Path
    provisioning: NullProvisioning
    agent: Caller
    # A manager of the catalog in Bishkek, and people who are managers and agents: of all branches, and of Osh.
    manager: Caller
    # Another manager, of all branches.
    reviewer: Caller
    head_office: Caller
    osh: Caller
    fulfilment: Fulfilment
    migrating: Migrating
    timers: Timers
    # The systems by their names, which a test may change.
    adapters: dict[str, Adapter]
    admin: Caller
    # An external system of Bishkek.
    system: Caller
    # The superuser's, who writes past the service.
    admin_url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # --- the world around -------------------------------------------------------------------------------------------

    def customer(self, currency: str = "KGS", branch: str = "bishkek") -> tuple[str, str]:
        """A customer with an account; the ids of both."""
        tell = self.world.callers("customers", branch)
        customer = tell(CUSTOMER + "CreateCustomer", customer={"name": "c", "engaged_party": {"id": "p"}}).id
        return customer, self.account(customer, currency, branch)

    def account(self, owner: str | None, currency: str = "KGS", branch: str = "bishkek") -> str:
        """A billing account of a customer, or one that names no customer."""
        party = {"id": owner, "role": "owner"} if owner else {"id": "accountant", "role": "contact"}
        body = {"name": "a", "credit_limit": {"unit": currency, "units": 1000}, "related_party": [party]}
        tell = self.world.callers("customers", branch)
        return str(tell(ACCOUNT + "CreateBillingAccount", billing_account=body).id)

    def price(self, som: int, *, recurring: bool = True, discount: tuple[str, int] | None = None) -> Any:
        """A price by value or, when a limited discount (percent, months) is on it, inside the offering."""
        if discount is not None:
            percent, months = discount
            alteration = catalog_pb2.POPAlteration(
                name="Welcome",
                price_type="recurring",
                price=catalog_pb2.ProductPriceValue(percentage=percent),
                application_duration=values_pb2.Duration(amount=months, units="months"),
            )
            return catalog_pb2.ProductOfferingPriceRefOrValue(
                name="fee",
                price_type="recurring",
                recurring_charge_period="month",
                price=catalog_pb2.ProductPriceValue(duty_free_amount=values_pb2.Money(unit="KGS", units=som)),
                price_alteration=[alteration],
            )
        made = self.world.manager.create(
            catalog_pb2.ProductOfferingPrice(
                name="fee",
                lifecycle_status=ACTIVE,
                price_type="recurring" if recurring else "oneTime",
                price=values_pb2.Money(unit="KGS", units=som),
                recurring_charge_period_type="month" if recurring else None,
            )
        )
        return catalog_pb2.ProductOfferingPriceRefOrValue(id=made.id, name="fee")

    def offering(self, *prices: Any, bundles: Iterable[str] = ()) -> str:
        """An offering on sale."""
        made = self.world.manager.create(
            catalog_pb2.ProductOffering(
                name=f"offering {next(self._numbers)}",
                lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_LAUNCHED,
                is_bundle=bool(bundles),
                product_offering_price=prices,
                bundled_product_offering=[catalog_pb2.BundledProductOffering(id=part) for part in bundles],
            )
        )
        return str(made.id)

    # --- what an agent does -----------------------------------------------------------------------------------------

    def order(
        self, customer: str | None, account: str | None, *items: dict[str, Any], **more: Any
    ) -> orders_pb2.ProductOrder:
        """Takes an order."""
        body: dict[str, Any] = {"product_order_item": items, **more}
        if customer:
            body["related_party"] = [{"id": customer, "role": "customer", "at_referred_type": "Customer"}]
        if account:
            body["billing_account"] = {"id": account}
        made = self.agent(ORDER + "CreateProductOrder", product_order=body)
        assert isinstance(made, orders_pb2.ProductOrder)
        return made

    def completed(self, customer: str, account: str, *items: dict[str, Any]) -> orders_pb2.ProductOrder:
        """An order that has been carried out."""
        order = self.order(customer, account, *items)
        self.work()
        done = self.get(order.id)
        assert state_of(done) == "COMPLETED", done.note
        return done

    def change(self, order_id: str, **body: Any) -> orders_pb2.ProductOrder:
        """Changes an order's attributes."""
        request = {"product_order": {"id": order_id, **body}, "update_mask": {"paths": list(body)}}
        made = self.agent(ORDER + "UpdateProductOrder", **request)
        assert isinstance(made, orders_pb2.ProductOrder)
        return made

    def get(self, order_id: str) -> orders_pb2.ProductOrder:
        """The order as it is now."""
        made = self.agent(ORDER + "GetProductOrder", id=order_id)
        assert isinstance(made, orders_pb2.ProductOrder)
        return made

    def product(self, **body: Any) -> str:
        """A product that no order has made."""
        return str(self.agent(PRODUCT + "CreateProduct", product=body).id)

    def products(self, *order_ids: str) -> dict[str, Any]:
        """The products of these orders, by their offering."""
        found = self.agent(PRODUCT + "ListProducts", limit=1000).items
        return {
            product.product_offering.id: product
            for product in found
            if {item.product_order_id for item in product.product_order_item} & set(order_ids)
        }

    def at(self, delta: timedelta) -> Any:
        """So much later than now."""
        return to_timestamp(self.database.clock.now() + delta)

    # --- what goes on by itself -------------------------------------------------------------------------------------

    def later(self, delta: timedelta) -> None:
        """So much time goes by; what is due then is done."""
        before = float(self.offset.read_text()) if self.offset.exists() else 0.0
        self.offset.write_text(str(before + delta.total_seconds()))
        self.work()

    def work(self) -> None:
        """Runs what is due until nothing is; what a timer raises is raised here."""
        while True:
            claims, _ = self.timers._claim(100)
            if not claims:
                return
            for turn in map(list, turns(claims)):
                while turn:
                    del turn[: self.timers._in_transaction(turn)]

    def due(self, aggregate_id: str, purpose: str) -> timedelta | None:
        """In how much time the timer is due."""
        with acting("orders", "test"), self.database.unit() as unit:
            timer = metadata.tables["timer"]
            at = unit.session.scalar(
                sa.select(timer.c.due).where(timer.c.aggregate_id == aggregate_id, timer.c.purpose == purpose)
            )
            return None if at is None else at - unit.at

    def charges(self, account: str) -> list[dict[str, Any]]:
        """What billing will be told of the account, in order."""
        with acting("orders", "test"), self.database.unit() as unit:
            drafts = unit.session.scalars(
                sa.select(charge_event.c.draft).where(charge_event.c.account == account).order_by(charge_event.c.id)
            )
            return [json.loads(draft) for draft in drafts if draft]

    def told(self, account: str) -> list[tuple[str, str]]:
        """The same in short: what happened to which amount."""
        return [
            (charge["type"].removesuffix("Event"), f"{float(charge['amount']['value']):g}")
            for charge in self.charges(account)
        ]


def state_of(thing: Any) -> str:
    """The state of an order, an item or a cancellation, as it is named in the contract."""
    described = thing.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[thing.state].name
    return str(described).split("_STATE_")[1]


def item(id: str, action: str, offering: str | None = None, product: str | None = None, **more: Any) -> dict[str, Any]:
    """An item of an order."""
    body: dict[str, Any] = {"id": id, "action": f"ORDER_ITEM_ACTION_{action}", **more}
    if offering:
        body["product_offering"] = {"id": offering}
    if product:
        body["product"] = {"id": product}
    return body


@pytest.fixture(scope="module")
def world(database_for: Callable[..., ServiceDatabase], issuer: Issuer) -> Iterator[World]:
    with ExitStack() as stack:
        wares = Database(
            database_for("catalog").url,
            clock=Clock(),
            metadata=catalog.store.metadata,
            resources=catalog.store.RESOURCES,
        )
        stack.callback(wares.close)
        people = customers_database(database_for("customers").url)
        stack.callback(people.close)
        prices = Prices(wares, SaleGuard(wares), PromotionsOnPrices(wares))
        catalog_address = stack.enter_context(
            serving(
                "catalog",
                [
                    (catalog_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogItems(wares, Guards())),
                    (pricing_pb2_grpc.add_PricingServiceServicer_to_server, prices),
                    (
                        pricing_rules_pb2_grpc.add_PricingRulesServiceServicer_to_server,
                        PricingRules(wares, Guards()),
                    ),
                    (
                        qualification_pb2_grpc.add_QualificationServiceServicer_to_server,
                        Qualifications(wares),
                    ),
                    (
                        promotion_pb2_grpc.add_PromotionServiceServicer_to_server,
                        Promotions(wares, ApprovalThresholds(Decimal(100), {"KGS": Decimal(1000)})),
                    ),
                ],
                issuer,
            )
        )
        customers_address = stack.enter_context(serving("customers", customers_registrations(people), issuer))
        addresses = {"catalog": catalog_address, "customers": customers_address}
        channels = {name: stack.enter_context(grpc.insecure_channel(at)) for name, at in addresses.items()}
        environment = {**issuer.environment, **{f"{name.upper()}_ADDRESS": at for name, at in addresses.items()}}
        settings = Settings.from_environment("orders", environment)
        yield World(
            Client(channels["catalog"], issuer.token(["admin"], ["bishkek"])),
            customers_address,
            lambda service, branch: Caller(channels[service], issuer.token(["agent"], [branch])),
            settings,
            token_source(settings),
        )


@pytest.fixture
def shop(world: World, database_for: Callable[..., ServiceDatabase], issuer: Issuer, tmp_path: Path) -> Iterator[Shop]:
    offset = tmp_path / "offset"
    place = database_for("orders")
    database = Database(place.url, clock=Clock(str(offset)), metadata=metadata, resources=RESOURCES)
    to_catalog = clients.channel(world.settings.addresses["catalog"], world.tokens)
    to_customers = clients.channel(world.settings.addresses["customers"], world.tokens)
    offerings = catalog_pb2_grpc.CatalogServiceStub(to_catalog)
    configurator = Configurator(offerings, qualification_pb2_grpc.QualificationServiceStub(to_catalog))
    capture = Capture(
        pricing_pb2_grpc.PricingServiceStub(to_catalog),
        offerings,
        customers_pb2_grpc.CustomerServiceStub(to_customers),
        configurator,
    )
    provisioning = NullProvisioning()
    coupons = Coupons(promotion_pb2_grpc.PromotionServiceStub(to_catalog))
    names = ("provisioning", "resource", "credit", "billing", "delivery")
    adapters: dict[str, Adapter] = dict.fromkeys(names, provisioning)
    systems = Systems(adapters)
    fulfilment = Fulfilment(capture, coupons, systems)
    jobs = Jobs(database)
    migrating = Migrating(capture, offerings)
    orders = Orders(database, capture, coupons)
    registrations: list[Registration] = [
        (orders_pb2_grpc.add_OrderServiceServicer_to_server, orders),
        (template_pb2_grpc.add_OrderTemplateServiceServicer_to_server, OrderTemplates(database, orders)),
        (amendment_pb2_grpc.add_AmendmentServiceServicer_to_server, Amendments(database, orders)),
        (tracking_pb2_grpc.add_OrderTrackingServiceServicer_to_server, Tracking(database)),
        (inventory_pb2_grpc.add_InventoryServiceServicer_to_server, Inventory(database, configurator)),
        (lifecycle_pb2_grpc.add_ProductLifecycleServiceServicer_to_server, ProductLifecycle(database)),
        (migration_pb2_grpc.add_MigrationServiceServicer_to_server, Migrations(database, offerings)),
        (bulk_pb2_grpc.add_BulkOrderServiceServicer_to_server, BulkOrders(database)),
        (
            cart_pb2_grpc.add_ShoppingCartServiceServicer_to_server,
            Carts(database, Valuation(database, capture), coupons),
        ),
        (
            fulfilment_pb2_grpc.add_FulfilmentServiceServicer_to_server,
            Fulfilments(database, systems.names, jobs, Reporters.parse("*=network")),
        ),
    ]
    timers = Timers(
        database,
        {
            **fulfilment.timers(),
            **migrating.timers(),
            **statuses.timers(),
            **jobs.timers(),
            **carts.timers(),
            **Bulk(capture).timers(),
        },
        service="orders",
        read_ahead=fulfilment.read_ahead,
    )
    with serving("orders", registrations, issuer) as address, grpc.insecure_channel(address) as channel:
        agent = Caller(channel, issuer.token(["agent"], ["bishkek"]))
        people = {
            branch: Caller(channel, issuer.token(["catalog-manager", "agent"], [branch])) for branch in ("osh", "*")
        }
        manager = Caller(channel, issuer.token(["catalog-manager"], ["bishkek"]))
        yield Shop(
            world,
            database,
            offset,
            provisioning,
            agent,
            manager,
            Caller(channel, issuer.token(["catalog-manager"], ["*"], subject="reviewer")),
            people["*"],
            people["osh"],
            fulfilment,
            migrating,
            timers,
            adapters,
            Caller(channel, issuer.token(["admin"], ["bishkek"], subject="admin")),
            Caller(channel, issuer.token(["service"], ["bishkek"], subject="network")),
            place.admin_url,
        )
    to_catalog.close()
    to_customers.close()
    database.close()
