"""Usage rated and charges prorated over gRPC."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.convert import to_timestamp
from chassis.errors import DomainError
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2, rating_pb2
from svyaz.type.v1 import values_pb2
from tests.catalog.conftest import Client

ACTIVE, LAUNCHED = catalog_pb2.LIFECYCLE_STATUS_ACTIVE, catalog_pb2.LIFECYCLE_STATUS_LAUNCHED
NIGHT = datetime(2026, 3, 2, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def agent(client_for: Callable[[Sequence[str]], Client]) -> Client:
    return client_for(["agent"])


def kgs(units: int, nanos: int = 0) -> values_pb2.Money:
    return values_pb2.Money(unit="KGS", units=units, nanos=nanos)


def a_usage_price(name: str, model: catalog_pb2.PricingModel, unit: str = "", **more: Any) -> Any:
    return catalog_pb2.ProductOfferingPrice(
        name=name,
        price_type="usage",
        lifecycle_status=ACTIVE,
        price=values_pb2.Money(unit="KGS"),
        pricing_model=model,
        unit_of_measure=values_pb2.Quantity(amount="1", units=unit) if unit else None,
        **more,
    )


@pytest.fixture(scope="module")
def plan(manager: Client) -> Any:
    """A plan with a fee, 100 minutes and then 1.50 a minute (half of it at night to our own), and data by packages."""
    fee = manager.create(
        catalog_pb2.ProductOfferingPrice(
            name="fee",
            price_type="recurring",
            recurring_charge_period_type="month",
            price=kgs(310),
            lifecycle_status=ACTIVE,
        )
    )
    step = catalog_pb2.RateStep(start="0", amount="1.5", per="60", increment="60")
    voice = manager.create(
        a_usage_price(
            "voice",
            catalog_pb2.PricingModel(
                model_type=catalog_pb2.PRICING_MODEL_TYPE_RATED,
                usage_type="voice",
                allowance=values_pb2.Quantity(amount="100", units="min"),
                rate=[
                    catalog_pb2.UsageRate(
                        prefix=["99655"],
                        destination="ours",
                        time_band=[catalog_pb2.TimeBand(start="22:00", end="07:00")],
                        step=[catalog_pb2.RateStep(start="0", amount="0.75", per="60", increment="60")],
                    ),
                    catalog_pb2.UsageRate(destination="others", step=[step]),
                ],
            ),
            tax=[values_pb2.TaxItem(tax_category="VAT", tax_rate="12")],
        )
    )
    data = manager.create(
        a_usage_price(
            "data",
            catalog_pb2.PricingModel(
                model_type=catalog_pb2.PRICING_MODEL_TYPE_PACKAGE,
                usage_type="data",
                package_size="100",
                tier=[catalog_pb2.PriceTier(unit_amount="20")],
            ),
            "MB",
        )
    )
    prices = [catalog_pb2.ProductOfferingPriceRefOrValue(id=price.id) for price in (fee, voice, data)]
    offering = manager.create(
        catalog_pb2.ProductOffering(name="plan", lifecycle_status=LAUNCHED, product_offering_price=prices)
    )
    return {"offering": offering.id, "fee": fee.id, "voice": voice.id, "data": data.id}


def events(*rows: tuple[str, str, str, str]) -> list[rating_pb2.UsageEvent]:
    return [
        rating_pb2.UsageEvent(
            id=f"{kind}-{i}", usage_type=kind, amount=amount, units=units, at=to_timestamp(NIGHT), destination=to
        )
        for i, (kind, amount, units, to) in enumerate(rows)
    ]


def request(plan: Any, *rows: tuple[str, str, str, str], **more: Any) -> rating_pb2.RateUsageRequest:
    if "item" not in more:
        more["item"] = pricing_pb2.PriceRequestItem(product_offering_id=plan["offering"])
    more.setdefault("zone", "Asia/Bishkek")
    return rating_pb2.RateUsageRequest(event=events(*rows), **more)


def refusal(client: Client, name: str, message: Any) -> tuple[str, list[str]]:
    with pytest.raises(DomainError) as refused:
        client.call(name, message)
    return refused.value.reason, [violation.field for violation in refused.value.violations]


ROWS = (
    ("voice", "90", "min", "+996700000001"),
    ("voice", "15.5", "min", "+996555000001"),
    ("data", "0.2", "GB", ""),
)


def test_the_usage_of_an_offering_is_rated_with_receipts_and_totals(agent: Client, plan: Any) -> None:
    answer = agent.call("RateUsage", request(plan, *ROWS))
    first, second, third = answer.event
    assert (first.quantity, first.free, first.amount.units) == ("5400", "5400", 0)
    # 10 of its minutes are left free; 5.5 are charged as 6, at night to our own numbers.
    assert (second.quantity, second.free, second.units, second.destination) == ("930", "600", "s", "ours")
    assert second.amount == kgs(4, 500_000_000)
    assert (third.quantity, third.units, third.HasField("amount")) == ("204.8", "MB", False)
    voice, data = answer.charge
    assert (voice.amount, voice.tax_included_amount, voice.tax_rate) == (
        kgs(4, 500_000_000),
        kgs(5, 40_000_000),
        "12",
    )
    assert (data.amount, data.charged) == (kgs(60), "204.8")
    assert "PACKAGES_CHARGED" in {step.action for step in answer.receipt.step}
    replayed = agent.call("ReplayUsage", rating_pb2.ReplayUsageRequest(receipt=answer.receipt))
    assert replayed.SerializeToString(deterministic=True) == answer.SerializeToString(deterministic=True)


def test_a_receipt_is_explained(agent: Client, plan: Any) -> None:
    receipts = [
        agent.call("RateUsage", request(plan, *ROWS)).receipt,
        agent.price(pricing_pb2.PriceRequestItem(id="1", product_offering_id=plan["offering"])).receipt,
        agent.call(
            "Prorate",
            rating_pb2.ProrateRequest(
                amount=kgs(70), recurring_charge_period="week", start="2026-03-04", target="2026-03-04"
            ),
        ).receipt,
    ]
    for receipt in receipts:
        for language, word in (("en", "[a-z]{4}"), ("ru-KG", "[а-я]")):
            asked = pricing_pb2.ExplainPriceRequest(receipt=receipt, language=language)
            lines = agent.call("ExplainPrice", asked).line
            assert len(lines) == len(receipt.step)
            assert any(re.search(word, line) for line in lines)
    unsupported = pricing_pb2.ExplainPriceRequest(receipt=receipts[0], language="fr")
    assert refusal(agent, "ExplainPrice", unsupported) == ("UNSUPPORTED_LANGUAGE", ["language"])
    receipts[0].step[0].action = "NOBODY_KNOWS"
    unknown = pricing_pb2.ExplainPriceRequest(receipt=receipts[0], language="ru")
    assert refusal(agent, "ExplainPrice", unknown) == ("UNKNOWN_STEP", ["receipt.step[0]"])
    receipts[0].inputs = b"{"
    malformed = pricing_pb2.ExplainPriceRequest(receipt=receipts[0], language="ru")
    assert refusal(agent, "ExplainPrice", malformed)[0].startswith("MALFORMED")


def test_a_period_is_rated_call_by_call_and_by_prices_as_they_were_sold(agent: Client, plan: Any) -> None:
    sold = [plan["voice"], plan["data"]]
    whole = agent.call("RateUsage", request(plan, *ROWS, item=None, product_offering_price_id=sold))
    states: list[Any] = []
    amounts = [0.0, 0.0]
    for row in ROWS:
        part = agent.call("RateUsage", request(plan, row, item=None, product_offering_price_id=sold, before=states))
        states = [charge.state for charge in part.charge]
        amounts = [a + c.amount.units + c.amount.nanos / 1e9 for a, c in zip(amounts, part.charge, strict=True)]
    assert amounts == [c.amount.units + c.amount.nanos / 1e9 for c in whole.charge]
    assert states == [charge.state for charge in whole.charge]


def test_a_discount_on_usage_counts_and_is_replayed(agent: Client, manager: Client) -> None:
    half = manager.create(
        catalog_pb2.ProductOfferingPrice(name="half", price_type="discount", percentage="50", lifecycle_status=ACTIVE)
    )
    model = catalog_pb2.PricingModel(
        model_type=catalog_pb2.PRICING_MODEL_TYPE_PER_UNIT,
        usage_type="sms",
        tier=[catalog_pb2.PriceTier(unit_amount="1.5")],
    )
    relation = catalog_pb2.ProductOfferingPriceRelationship(id=half.id, relationship_type="discountedBy")
    sms = manager.create(a_usage_price("sms", model, pop_relationship=[relation]))
    offering = manager.create(
        catalog_pb2.ProductOffering(
            name="messages",
            lifecycle_status=LAUNCHED,
            product_offering_price=[catalog_pb2.ProductOfferingPriceRefOrValue(id=sms.id)],
        )
    )
    item = pricing_pb2.PriceRequestItem(product_offering_id=offering.id)
    answer = agent.call("RateUsage", request(None, ("sms", "5", "", ""), item=item))
    assert answer.charge[0].amount == kgs(3, 750_000_000)
    assert [step.action for step in answer.receipt.step] == ["UNITS_CHARGED", "ALTERATION_APPLIED"]
    assert agent.call("ReplayUsage", rating_pb2.ReplayUsageRequest(receipt=answer.receipt)) == answer


def test_prices_by_id_cost_what_they_do_in_their_bundles(agent: Client, manager: Client) -> None:
    model = catalog_pb2.PricingModel(
        model_type=catalog_pb2.PRICING_MODEL_TYPE_PER_UNIT,
        usage_type="sms",
        tier=[catalog_pb2.PriceTier(unit_amount="1.5")],
    )
    sms = manager.create(a_usage_price("sms", model))

    def offering(**more: Any) -> str:
        made = manager.create(catalog_pb2.ProductOffering(name="o", lifecycle_status=LAUNCHED, **more))
        return str(made.id)

    def bundle(percentage: str, of: str) -> str:
        part = catalog_pb2.BundledProductOffering(id=of)
        off = catalog_pb2.BundlePricing(mode=catalog_pb2.BUNDLE_PRICING_MODE_DISCOUNT, percentage=percentage)
        return offering(is_bundle=True, bundled_product_offering=[part], bundle_pricing=off)

    inner = bundle("50", offering(product_offering_price=[catalog_pb2.ProductOfferingPriceRefOrValue(id=sms.id)]))
    outer = bundle("10", inner)
    sent = ("sms", "100", "", "")
    item = pricing_pb2.PriceRequestItem(product_offering_id=outer)
    whole = agent.call("RateUsage", request(None, sent, item=item))
    by_id: dict[str, Any] = {"item": None, "product_offering_price_id": [sms.id]}
    sold = agent.call("RateUsage", request(None, sent, **by_id, bundle_product_offering_id=[inner, outer]))
    assert sold.charge == whole.charge
    assert sold.charge[0].amount == kgs(67, 500_000_000)
    assert agent.call("ReplayUsage", rating_pb2.ReplayUsageRequest(receipt=sold.receipt)) == sold
    assert agent.call("RateUsage", request(None, sent, **by_id)).charge[0].amount == kgs(150)
    for wrong, more, reason, field in (
        (["x"], by_id, "UNKNOWN_OFFERING", "bundle_product_offering_id[0]"),
        ([outer, inner], by_id, "UNKNOWN_OFFERING", "bundle_product_offering_id[1]"),
        ([outer], {"item": item}, "BUNDLE_OF_OFFERING", "bundle_product_offering_id"),
    ):
        asked = request(None, sent, **more, bundle_product_offering_id=wrong)
        assert refusal(agent, "RateUsage", asked) == (reason, [field])


def test_prices_by_id_are_altered_by_what_is_known_of_the_holder(agent: Client, manager: Client) -> None:
    half = manager.create(
        catalog_pb2.ProductOfferingPrice(
            name="half for a month",
            price_type="discount",
            percentage="50",
            application_duration=values_pb2.Duration(amount=1, units="month"),
            lifecycle_status=ACTIVE,
        )
    )
    model = catalog_pb2.PricingModel(
        model_type=catalog_pb2.PRICING_MODEL_TYPE_PER_UNIT,
        usage_type="sms",
        tier=[catalog_pb2.PriceTier(unit_amount="1.5")],
    )
    relation = catalog_pb2.ProductOfferingPriceRelationship(id=half.id, relationship_type="discountedBy")
    sms = manager.create(a_usage_price("sms", model, pop_relationship=[relation]))
    item = pricing_pb2.PriceRequestItem(started_at=to_timestamp(NIGHT))
    for at, due in ((NIGHT, kgs(3, 750_000_000)), (NIGHT.replace(month=5), kgs(7, 500_000_000))):
        context = pricing_pb2.PricingContext(at=to_timestamp(at))
        asked = request(None, ("sms", "5", "", ""), item=item, product_offering_price_id=[sms.id], context=context)
        answer = agent.call("RateUsage", asked)
        assert answer.charge[0].amount == due
        assert agent.call("ReplayUsage", rating_pb2.ReplayUsageRequest(receipt=answer.receipt)) == answer


def test_what_cannot_be_rated_is_named(agent: Client, plan: Any) -> None:
    sms = ("sms", "1", "", "")
    assert refusal(agent, "RateUsage", request(plan, ROWS[0], sms)) == (
        "UNKNOWN_USAGE_TYPE",
        ["event[1].usage_type"],
    )
    for message, reason, fields in (
        (request(plan, *ROWS, product_offering_price_id=[plan["voice"]]), "OFFERING_OR_PRICES", ["item"]),
        (
            request(plan, *ROWS, item=pricing_pb2.PriceRequestItem(product_offering_id="x")),
            "UNKNOWN_OFFERING",
            ["item.product_offering_id"],
        ),
        (
            request(plan, *ROWS, item=None, product_offering_price_id=["x"]),
            "UNKNOWN_PRICE",
            ["product_offering_price_id[0]"],
        ),
        (request(plan, *ROWS, zone="Nowhere/At_All"), "UNKNOWN_ZONE", ["zone"]),
        (request(plan, *ROWS, holiday=["8 March"]), "INVALID_DATE", ["holiday[0]"]),
        (
            request(plan, *ROWS, before=[rating_pb2.UsageState(product_offering_price_id="x")]),
            "UNKNOWN_PRICE",
            ["before[0].product_offering_price_id"],
        ),
        (
            request(
                plan, *ROWS, before=[rating_pb2.UsageState(product_offering_price_id=plan["data"], quantity="1/0")]
            ),
            "MALFORMED_STATE",
            ["before[0]"],
        ),
        (request(plan, ("voice", "-1", "s", "1")), "INVALID_QUANTITY", ["event[0].amount"]),
        (request(plan, ROWS[0], ("voice", "1e18", "s", "1")), "INVALID_QUANTITY", ["event[1].amount"]),
        (request(plan, ROWS[0], ("voice", "1e-19", "s", "1")), "INVALID_QUANTITY", ["event[1].amount"]),
        (request(plan, ("voice", "much", "s", "1")), "MALFORMED_DECIMAL", ["event[0].amount"]),
        (request(plan, ROWS[0], ("voice", "1e999999", "s", "1")), "MALFORMED_DECIMAL", ["event[1].amount"]),
        (request(plan, ("voice", "1e-400", "s", "1")), "MALFORMED_DECIMAL", ["event[0].amount"]),
        (
            request(
                plan, *ROWS, before=[rating_pb2.UsageState(product_offering_price_id=plan["data"], amount="1e999999")]
            ),
            "MALFORMED_STATE",
            ["before[0]"],
        ),
        (request(plan, *ROWS, item=None, product_offering_price_id=[plan["fee"]]), "USAGE_TYPE_MISSING", []),
    ):
        assert refusal(agent, "RateUsage", message) == (reason, fields)


def test_a_recurring_price_is_prorated_with_a_change_in_mid_period(agent: Client, plan: Any) -> None:
    asked = rating_pb2.ProrateRequest(
        product_offering_price_id=plan["fee"],
        billing_day=15,
        start="2011-01-01",
        end="2011-02-27",
        target="2011-12-31",
        changed_at="2011-02-01",
        changed_to=kgs(620),
    )
    answer = agent.call("Prorate", asked)
    assert [(p.start, p.end, p.fraction, p.amount) for p in answer.period] == [
        ("2011-01-01", "2011-01-15", "14/31", kgs(140)),
        ("2011-01-15", "2011-02-15", "1", kgs(310)),
        ("2011-02-15", "2011-02-27", "3/7", kgs(132, 860_000_000)),
    ]
    assert answer.amount == kgs(582, 860_000_000)
    change = answer.change
    # The rest of the period in which it is, 14/31, and the last one.
    assert (change.fraction, change.used) == ("191/217", kgs(170))
    assert (change.credit, change.charge) == (kgs(272, 860_000_000), kgs(545, 710_000_000))
    replayed = agent.call("ReplayProration", rating_pb2.ReplayProrationRequest(receipt=answer.receipt))
    assert replayed.SerializeToString(deterministic=True) == answer.SerializeToString(deterministic=True)


def test_an_amount_is_prorated_in_arrears_and_nonsense_is_refused(agent: Client, plan: Any) -> None:
    asked = rating_pb2.ProrateRequest(
        amount=kgs(70),
        recurring_charge_period="weekly",
        mode=rating_pb2.BILLING_MODE_IN_ARREARS,
        start="2026-03-04",
        target="2026-03-18",
    )
    assert [p.end for p in agent.call("Prorate", asked).period] == ["2026-03-11", "2026-03-18"]
    for changes, reason, fields in (
        ({"start": "soon"}, "INVALID_DATE", ["start"]),
        ({"target": ""}, "INVALID_DATE", ["target"]),
        ({"end": "2026-03-03"}, "PERIOD_REVERSED", ["end"]),
        ({"recurring_charge_period": "sometimes"}, "UNKNOWN_PERIOD", []),
        ({"recurring_charge_period": "month", "billing_day": 32}, "INVALID_BILLING_DAY", ["billing_day"]),
        ({"product_offering_price_id": plan["fee"]}, "PRICE_OR_AMOUNT", ["amount"]),
        ({"changed_at": "2026-03-05"}, "REQUIRED", ["changed_to"]),
        ({"changed_at": "2026-05-05", "changed_to": kgs(1)}, "OUTSIDE_PERIOD", ["changed_at"]),
        (
            {"changed_at": "2026-03-05", "changed_to": values_pb2.Money(unit="USD", units=1)},
            "CURRENCIES_DIFFER",
            ["changed_to.unit"],
        ),
    ):
        wrong = rating_pb2.ProrateRequest()
        wrong.CopyFrom(asked)
        wrong.MergeFrom(rating_pb2.ProrateRequest(**changes))
        if changes == {"target": ""}:
            wrong.ClearField("target")
        assert refusal(agent, "Prorate", wrong) == (reason, fields)
    voice = rating_pb2.ProrateRequest(product_offering_price_id=plan["voice"], start="2026-01-01", target="2026-01-01")
    assert refusal(agent, "Prorate", voice)[0] == "NOT_RECURRING"
