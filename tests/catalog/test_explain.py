"""Receipts in words: every action that an engine takes has its sentence, in every language."""

import ast
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

import catalog
from catalog.pricing import explain as words
from catalog.pricing.explain import ACTIONS, LANGUAGES, english_form, explain, russian_form
from catalog.pricing.proration import Asked, prorate
from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.pricing.usage import UsageEvent, compile_price, rate_usage
from catalog.product.values import PriceTier, PricingModel, PricingModelType, RateStep, TimeBand, UsageRate
from chassis.errors import InvalidArgument
from chassis.types import Json, Quantity
from tests.catalog.test_usage import MARCH, per_unit, quantity, usage_price
from tests.catalog.things import a_discount, a_price, altered_by, an_offering, quote, refs, vat

GAP = "\N{NO-BREAK SPACE}"


def receipt(*steps: ReceiptStep, inputs: object = None, engine: str = "catalog.pricing") -> Receipt:
    return Receipt(engine, "1", Json(json.dumps(inputs or {})), steps)


def said(language: str, made: Receipt) -> list[str]:
    return [line.replace(GAP, " ") for line in explain(made, language)]


# --- completeness ----------------------------------------------------------------------------------------------------

# Where an action stands among the arguments of what writes a step down.
WRITERS = {"ReceiptStep": 1, "AmountStep": 1, "Step": 1, "TierStep": 0, "_note": 0, "_kept_between": 3}
CONSTANT = re.compile("[A-Z][A-Z_]+")
PROMOTIONS = {"PROMOTION_APPLIED", "PROMOTION_REJECTED", "DISCOUNT_SPLIT", "COUPON_ACCEPTED", "COUPON_REJECTED"}


def emitted() -> set[str]:
    """Every action in the sources of the engines: constants where steps are written, or that become one."""
    found: set[str] = set()
    root = Path(catalog.__file__).parent
    for module in [*(root / "pricing").glob("*.py"), *root.glob("promotion/*.py")]:
        if module.name == "explain.py":
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            name = ""
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            place = WRITERS.get(name)
            if place is None or not isinstance(node, ast.Call) or len(node.args) <= place:
                continue
            argument = node.args[place]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.add(argument.value)
            elif isinstance(argument, ast.IfExp):
                found |= {ast.literal_eval(part) for part in (argument.body, argument.orelse)}
            elif isinstance(argument, ast.Name):
                found |= chosen(module, argument.id)
    return {
        action
        for one in found
        for action in ((f"{one}_MINIMUM_APPLIED", f"{one}_MAXIMUM_APPLIED") if one in ("EVENT", "PERIOD") else (one,))
    }


def chosen(module: Path, variable: str) -> set[str]:
    """The constants that a variable of that name may hold in the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.For) else []
        names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        if variable in names and isinstance(node, ast.Assign | ast.For):
            value = node.value if isinstance(node, ast.Assign) else node.iter
            constants = [c.value for c in ast.walk(value) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
            found |= {text for text in constants if CONSTANT.fullmatch(text)}
    return found


def test_every_action_of_every_engine_has_its_sentence_in_every_language() -> None:
    actions = emitted()
    assert {"PRICE_FOUND", "UNITS_CHARGED", "EVENT_MINIMUM_APPLIED", "CREDITED", "REJECTED"} <= actions
    assert actions - ACTIONS == set()
    assert ACTIONS - actions - PROMOTIONS == set()
    sentences = [set(language.sentences) for language in words._LANGUAGES.values()]
    assert all(one == sentences[0] for one in sentences)
    phrases = [set(language.phrases) for language in words._LANGUAGES.values()]
    assert all(one == phrases[0] for one in phrases)


STEPS = (
    ReceiptStep("1", "PRICE_FOUND", "p", None, "1500.00 KGS", "tax included"),
    ReceiptStep("1", "PRICE_LISTED", "p", None, "2 KGS", "for each voice used"),
    ReceiptStep("1", "QUANTITY", "p", "10 KGS", "30 KGS", "× 3"),
    ReceiptStep("1", "VERSION_CHOSEN", "o2", "o", "o2", "version 2"),
    ReceiptStep("1", "ALTERATION_APPLIED", "d", "100 KGS", "90 KGS", "Welcome; for 3 month; not below zero"),
    ReceiptStep("1", "ALTERATION_APPLIED", "d", "100 KGS", "110 KGS", "Welcome"),
    ReceiptStep("1", "ALTERATION_APPLIED", "d", "0 KGS", "0 KGS", "Welcome"),
    ReceiptStep("1/o2", "BUNDLE_DISCOUNT", "o", "100 KGS", "90 KGS", "-10 % of 100 KGS"),
    ReceiptStep("1/p", "PROMOTION_APPLIED", "d", "100 KGS", "90 KGS", "Welcome; for 2 month"),
    ReceiptStep("", "PROMOTION_REJECTED", "d", reason="Welcome: it needs a coupon"),
    ReceiptStep("", "COUPON_ACCEPTED", "WELCOME"),
    ReceiptStep("", "COUPON_REJECTED", "WINTER", reason="it has expired"),
    ReceiptStep("", "DISCOUNT_SPLIT", "d", None, "10.00 KGS", "3.33 + 3.33 + 3.34"),
    ReceiptStep("1", "REJECTED", "p", reason="it is in USD"),
    ReceiptStep("1", "ROUNDED", "p", "3.1234567891 KGS", "3.12 KGS"),
    ReceiptStep("1", "TAX_ADDED", "p", "100.00 KGS", "112.00 KGS", "12 %"),
    ReceiptStep("1", "TIER_CHARGED", "p", "10 KGS", "63 KGS", "tier 2: 10 × 5 + 3"),
    ReceiptStep("1", "UNITS_CHARGED", "p", "0 KGS", "1 KGS", "21 min / 60 × 5"),
    ReceiptStep("1", "PACKAGES_CHARGED", "p", "0 KGS", "15 KGS", "3 packages of 100 MB: 3 × 5"),
    ReceiptStep("1", "PERCENTAGE_CHARGED", "p", "0 KGS", "6.10 KGS", "200 × 2.9 % + 0.30"),
    ReceiptStep("voice", "USAGE_SUMMED", "p", None, "61/60 min", "5"),
    ReceiptStep("a", "EVENT_ROUNDED", "p", "61 s", "2 min"),
    ReceiptStep("voice", "PERIOD_ROUNDED", "p", "1.5 GB", "2 GB"),
    ReceiptStep("voice", "ALLOWANCE_USED", "p", "124 min", "24 min", "100 min"),
    ReceiptStep("a", "EVENT_MINIMUM_APPLIED", "p", "1 KGS", "2 KGS"),
    ReceiptStep("a", "EVENT_MAXIMUM_APPLIED", "p", "3 KGS", "2 KGS"),
    ReceiptStep("voice", "PERIOD_MINIMUM_APPLIED", "p", "1 KGS", "2 KGS"),
    ReceiptStep("voice", "PERIOD_MAXIMUM_APPLIED", "p", "3 KGS", "2 KGS"),
    ReceiptStep("voice", "ALREADY_CHARGED", "p", "3 KGS", "2 KGS"),
    ReceiptStep("a", "RATE_FOUND", "p", None, "996", "rate 2: Kyrgyzstan"),
    ReceiptStep("a", "CONNECT_FEE_CHARGED", "p", "0 KGS", "0.5 KGS"),
    ReceiptStep("a", "INCREMENTS_CHARGED", "p", "0 KGS", "1/3 KGS", "2 × 10 / 60 × 1"),
    ReceiptStep("a", "RATE_MAXIMUM_APPLIED", "p", "3 KGS", "2 KGS"),
    ReceiptStep("2011-01-01/2011-01-15", "PERIOD_BILLED", "p", "310 KGS", "140.00 KGS", "14/31"),
    ReceiptStep("2011-01-01/2011-01-15", "CREDITED", "p", "310 KGS", "140.00 KGS", "14/31"),
    ReceiptStep("2011-01-01/2011-01-15", "CHARGED", "p", "310 KGS", "140.00 KGS", "1"),
)
FLOOR = "ниже нуля сумма не опускается"
INPUTS = {
    "items": [{"id": "1", "product_offering_id": "o"}],
    "offers": [
        {"id": "o", "name": "Internet 100", "charges": [{"rule": "p", "id": "p", "name": "Fee", "alterations": []}]},
        {"id": "o2", "name": "TV", "charges": [{"rule": "d", "name": "Welcome"}]},
    ],
}
ENGLISH = """
Internet 100, Fee: the price is 1,500.00 KGS, tax included.
Internet 100, Fee: 2 KGS, charged by what is used.
Internet 100, Fee: 30 KGS for a quantity of 3.
Internet 100, TV: the version on sale is “2”.
Internet 100: the discount “Welcome” takes off 10 KGS, which leaves 90 KGS; for 3 months; it doesn't fall below zero.
Internet 100: the surcharge “Welcome” adds 10 KGS, which makes 110 KGS.
Internet 100: “Welcome” changes nothing, it stays 0 KGS.
TV: as part of “Internet 100” it costs 10 KGS less: 90 KGS.
Fee: the promotion “Welcome” takes off 10 KGS, which leaves 90 KGS; for 2 months.
The promotion “Welcome” doesn't count: it needs a coupon.
The coupon “WELCOME” counts.
The coupon “WINTER” doesn't count: it has expired.
The discount of “Welcome”, 10.00 KGS, is split: 3.33 + 3.33 + 3.34.
Internet 100: “Fee” doesn't count: it is in USD.
Internet 100, Fee: ≈3.123457 KGS is rounded to 3.12 KGS.
Internet 100, Fee: 100.00 KGS without tax, 112.00 KGS with tax of 12 %.
Internet 100, Fee: tier 2, 10 × 5 plus 3; together 63 KGS.
Internet 100, Fee: 21 minutes × 5 for each 60 makes 1 KGS.
Internet 100, Fee: 3 packages of 100 MB, 3 × 5 makes 15 KGS.
Internet 100, Fee: 200 × 2.9 % plus 0.30 makes 6.10 KGS.
voice, Fee: ≈1.016667 minutes in 5 events.
a, Fee: 61 seconds counts as 2 minutes.
voice, Fee: 1.5 GB in the period counts as 2 GB.
voice, Fee: of 124 minutes, 100 minutes is included; 24 minutes is left to be charged.
a, Fee: 1 KGS is less than the minimum of 2 KGS that it costs at least.
a, Fee: instead of 3 KGS it costs 2 KGS, the most that one event may cost.
voice, Fee: 1 KGS is less than the period's minimum of 2 KGS.
voice, Fee: instead of 3 KGS it costs 2 KGS, the most for a period.
voice, Fee: of 3 KGS, 1 KGS was charged before; 2 KGS is left.
a, Fee: rate 2 counts (Kyrgyzstan).
a, Fee: the connect fee is 0.5 KGS; together 0.5 KGS.
a, Fee: 2 × 10 at 1 for 60; together ≈0.333333 KGS.
a, Fee: instead of 3 KGS it costs 2 KGS, the most by this rate.
From 2011-01-01 to 2011-01-15: 14/31 of 310 KGS, which is 140.00 KGS.
From 2011-01-01 to 2011-01-15: of the 310 KGS that were billed, 140.00 KGS is given back.
From 2011-01-01 to 2011-01-15: the whole of 310 KGS, which is 140.00 KGS, is charged anew.
"""
RUSSIAN = f"""
Internet 100, Fee: цена 1 500,00 KGS, включая налог.
Internet 100, Fee: 2 KGS, начисляется по фактическому использованию.
Internet 100, Fee: количество 3, всего 30 KGS.
Internet 100, TV: сейчас продаётся версия «2».
Internet 100: скидка «Welcome» уменьшает сумму на 10 KGS, остаётся 90 KGS; срок: 3 месяца; {FLOOR}.
Internet 100: надбавка «Welcome» увеличивает сумму на 10 KGS, получается 110 KGS.
Internet 100: «Welcome» ничего не меняет, сумма прежняя: 0 KGS.
TV: в составе пакета «Internet 100» дешевле на 10 KGS: 90 KGS.
Fee: акция «Welcome» уменьшает сумму на 10 KGS, остаётся 90 KGS; срок: 2 месяца.
Акция «Welcome» не действует: нужен купон.
Купон «WELCOME» принят.
Купон «WINTER» не принят: срок действия истёк.
Скидка акции «Welcome», 10,00 KGS, распределена: 3,33 + 3,33 + 3,34.
Internet 100: «Fee» не применяется: цена указана в валюте USD.
Internet 100, Fee: ≈3,123457 KGS округляется до 3,12 KGS.
Internet 100, Fee: без налога 100,00 KGS, с налогом 12 % — 112,00 KGS.
Internet 100, Fee: ступень 2, 10 × 5 плюс 3; всего 63 KGS.
Internet 100, Fee: 21 минута × 5 за 60 — получается 1 KGS.
Internet 100, Fee: 3 пакета по 100 МБ, 3 × 5 — получается 15 KGS.
Internet 100, Fee: 200 × 2,9 % плюс 0,30 — получается 6,10 KGS.
voice, Fee: использовано ≈1,016667 минуты, 5 событий.
a, Fee: 61 секунда засчитывается как 2 минуты.
voice, Fee: 1,5 ГБ за период засчитывается как 2 ГБ.
voice, Fee: использовано 124 минуты, включено в пакет 100 минут; к оплате 24 минуты.
a, Fee: 1 KGS меньше наименьшей платы, поэтому 2 KGS.
a, Fee: вместо 3 KGS — 2 KGS, наибольшая плата за одно событие.
voice, Fee: 1 KGS меньше наименьшей платы за период, поэтому 2 KGS.
voice, Fee: вместо 3 KGS — 2 KGS, наибольшая плата за период.
voice, Fee: из 3 KGS раньше начислено 1 KGS; остаётся 2 KGS.
a, Fee: действует тариф 2 (Kyrgyzstan).
a, Fee: плата за соединение 0,5 KGS; всего 0,5 KGS.
a, Fee: 2 × 10, цена 1 за 60; всего ≈0,333333 KGS.
a, Fee: вместо 3 KGS — 2 KGS, наибольшая плата по этому тарифу.
С 2011-01-01 по 2011-01-15 (не включая): 14/31 от 310 KGS, то есть 140,00 KGS.
С 2011-01-01 по 2011-01-15 (не включая): из начисленных 310 KGS возвращается 140,00 KGS.
С 2011-01-01 по 2011-01-15 (не включая): вся сумма от 310 KGS, то есть 140,00 KGS, начисляется заново.
"""


@pytest.mark.parametrize(("language", "expected"), [("en", ENGLISH), ("ru", RUSSIAN), ("ru-KG", RUSSIAN)])
def test_each_action_in_words(language: str, expected: str) -> None:
    assert {step.action for step in STEPS} == ACTIONS
    assert said(language, receipt(*STEPS, inputs=INPUTS)) == expected.strip().splitlines()


REASONS = {
    "is Retired": "снято с продажи",
    "is In design": "разрабатывается",
    "isn't valid at that time": "не действует на эту дату",
    "isn't sold by itself": "отдельно не продаётся",
    "usage isn't charged by being ordered": "начисляется не при заказе",
    "it has no amount": "сумма не указана",
    "it is for recurring charges": "относится к начислениям другого вида (recurring)",
    "price list VIP has a price for it": "действует цена из прайс-листа «VIP»",
    "its price list 42 isn't this customer's": "прайс-лист «42» не для этого клиента",
    "the prices of the bundle replace it": "вместо неё действует цена пакета услуг",
    "it is for another phase": "относится к другому этапу",
    "it is for the phase trial or start": "относится к этапу «trial или start»",
    "it is for the term 12 months": "действует при сроке обязательства «12 months»",
    "it was for 2 month": "срок действия истёк (2 месяца)",
    "it was for 5 month": "срок действия истёк (5 месяцев)",
    "no term was chosen": "срок обязательства не выбран",
    "the term year is over": "срок обязательства «year» истёк",
    "version 2 has begun later": "позже начала действовать версия 2",
    "half of the group g is better": "в группе «g» выгоднее «half»",
    "A of the group g is better: 5.00 KGS instead of 9 KGS": "в группе «g» выгоднее «A»: 5,00 KGS вместо 9 KGS",
    "rate 3 isn't for Mon 08:00:00": "тариф 3 не действует в это время (пн, 08:00:00)",
    "A is exclusive": "акция «A» не сочетается с другими",
    "A excludes it": "не сочетается с акцией «A»",
    "it grants nothing": "она ничего не даёт",
    "it is at its minimum price": "цена уже наименьшая",
    "nothing that it is for can be lowered": "нет цен, которые она могла бы снизить",
    "total > 100 doesn't hold: it is 90.00": "условие не выполнено: total > 100 (сейчас 90.00)",
    "orderNumber = 1 doesn't hold: it is unknown": "условие не выполнено: orderNumber = 1 (значение неизвестно)",
    "segment = vip doesn't hold": "условие не выполнено: segment = vip",
    "it is for marketSegment eq vip": "условие не выполнено: marketSegment eq vip",
    "there is no such coupon": "такого купона нет",
    "it isn't valid yet": "срок действия ещё не наступил",
    "it has been used 100 times": "он уже использован 100 раз",
    "the customer has used it 2 times": "клиент уже использовал его 2 раза",
    "its promotion isn't on offer": "акция не проводится",
    # What somebody else says stays as it was said.
    "the moon is full": "«the moon is full»",
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_in_words(reason: str) -> None:
    rejected = receipt(ReceiptStep("1", "REJECTED", "p", reason=reason), inputs=INPUTS)
    assert said("en", rejected) == [f"Internet 100: “Fee” doesn't count: {reason}."]
    assert said("ru", rejected) == [f"Internet 100: «Fee» не применяется: {REASONS[reason]}."]


# --- plural forms ----------------------------------------------------------------------------------------------------


def test_plural_forms_are_those_of_cldr() -> None:
    # The samples of plurals.xml.
    samples = {
        "one": "1 21 31 41 51 61 71 81 101 1001",
        "few": "2 3 4 22 23 24 32 33 34 62 102 1002",
        "many": "0 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 100 1000 10000 100000 1000000 111 112 114 211",
        "other": "0.0 0.1 1.5 10.0 100.0",
    }
    for form, numbers in samples.items():
        assert {russian_form(number) for number in numbers.split()} == {form}
    assert [english_form(number) for number in ("1", "0", "2", "21", "1.0", "1.5")] == ["one"] + ["other"] * 5


# --- real receipts ---------------------------------------------------------------------------------------------------


def test_real_receipts_are_explained_whole() -> None:
    fee = a_price("fee", "333.333 KGS", tax=vat("12"), pop_relationship=altered_by("d", "other"))
    pricing = quote(
        [an_offering("o", *refs("fee", "dollars"))],
        [fee, a_price("dollars", "5 USD"), a_discount("d", "10"), a_discount("other", amount="5 USD")],
        currency="KGS",
    )
    night = TimeBand(start="22:00", end="07:00")
    step = RateStep(amount=Decimal(1), per=Decimal(60), increment=Decimal(7))
    voice = PricingModel(
        model_type=PricingModelType.RATED,
        usage_type="voice",
        allowance=quantity("10", "s"),
        event_maximum=Decimal("1.05"),
        rate=(
            UsageRate(time_band=(night,), step=(step,)),
            UsageRate(step=(step,), connect_fee=Decimal("0.1"), maximum=Decimal(3)),
        ),
    )
    tiers = PricingModel(
        model_type=PricingModelType.GRADUATED,
        usage_type="data",
        tier=(PriceTier(up_to=Decimal(1), unit_amount=Decimal(2)), PriceTier(unit_amount=Decimal(1))),
        period_increment=Quantity(amount=Decimal(1)),
        period_minimum=Decimal(7),
    )
    prices = [
        usage_price("voice", voice),
        usage_price("data", tiers, unit="GB"),
        usage_price("sms", per_unit("0.333", "sms", event_increment=quantity("2")), tax=vat("12")),
    ]
    events = [
        UsageEvent("call", "voice", Decimal(600), "s", MARCH, "996"),
        UsageEvent("short", "voice", Decimal(5), "s", MARCH, "996"),
        UsageEvent("session", "data", Decimal(2000), "MB"),
        UsageEvent("messages", "sms", Decimal(3)),
    ]
    usage = rate_usage([compile_price(price) for price in prices], events, zone="UTC")
    months = prorate(
        Asked(
            "fee",
            Decimal(310),
            "KGS",
            "month",
            date(2011, 1, 1),
            None,
            date(2011, 2, 1),
            15,
            changed_at=date(2011, 2, 1),
            changed_to=Decimal(99),
        )
    )
    for made in (pricing.receipt, usage.receipt, months.receipt):
        for language in LANGUAGES:
            lines = explain(made, language)
            assert len(lines) == len(made.step)
            assert all(line.endswith(".") and "{" not in line for line in lines)
    assert {step.action for step in usage.receipt.step} >= {
        "REJECTED",
        "RATE_FOUND",
        "CONNECT_FEE_CHARGED",
        "INCREMENTS_CHARGED",
        "RATE_MAXIMUM_APPLIED",
        "ALLOWANCE_USED",
        "EVENT_MAXIMUM_APPLIED",
        "EVENT_ROUNDED",
        "USAGE_SUMMED",
        "PERIOD_ROUNDED",
        "PERIOD_MINIMUM_APPLIED",
        "TAX_ADDED",
    }


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "language", "reason"),
    [
        (receipt(), "ky", "UNSUPPORTED_LANGUAGE"),
        (receipt(), "", "UNSUPPORTED_LANGUAGE"),
        (receipt(engine="orders.assignment"), "en", "UNKNOWN_ENGINE"),
        (receipt(ReceiptStep("1", "SOMETHING_NEW", "p")), "en", "UNKNOWN_STEP"),
        (receipt(ReceiptStep("1", "ROUNDED", "p", "much", "more")), "en", "UNKNOWN_STEP"),
        (receipt(ReceiptStep("1", "ROUNDED", "p")), "ru", "UNKNOWN_STEP"),
        (receipt(ReceiptStep("1", "TIER_CHARGED", "p", "0 KGS", "1 KGS", "so be it")), "ru", "UNKNOWN_STEP"),
        (receipt(ReceiptStep("now", "PERIOD_BILLED", "p", "0 KGS", "1 KGS", "1")), "ru", "UNKNOWN_STEP"),
        (receipt(ReceiptStep("1", "ROUNDED", "p", "1/0 KGS", "1 KGS")), "ru", "UNKNOWN_STEP"),
    ],
)
def test_what_has_no_words_is_refused(made: Receipt, language: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        explain(made, language)
    assert refusal.value.reason == reason
