"""A receipt in words for a customer, one sentence for each step, in English or Russian.

Engines state figures, names and a small set of reasons; the words around them are here. A step that nobody put into
words is an error, never left out. Numbers and plural forms follow CLDR (common/supplemental/plurals.xml, main/en.xml,
main/ru.xml; https://cldr.unicode.org).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from catalog.pricing.money import number
from catalog.pricing.receipts import PriceReceipt, Receipt, Step
from chassis.errors import InvalidArgument, Violation

ENGINES = frozenset({"catalog.pricing", "catalog.usage", "catalog.proration"})

_MONEY = re.compile(r"(-?[0-9.]+(?:/[0-9]+)?) ([A-Z]{3})")
_COUNTED = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?(?:/[0-9]+)?)(?: ([A-Za-z]+))?")
_DECIMALS = 6
_NARROW = "\N{NO-BREAK SPACE}"


def _decimal(text: str) -> tuple[Decimal, bool]:
    """A number of a receipt to six decimals, and whether that is all of it. Raises ValueError for what is no number."""
    exact = Fraction(text)
    if "/" not in text and -int(Decimal(text).as_tuple().exponent) <= _DECIMALS:
        return Decimal(text), True
    units = round(exact * 10**_DECIMALS)
    return Decimal(units).scaleb(-_DECIMALS), Fraction(units, 10**_DECIMALS) == exact


# --- plural forms ----------------------------------------------------------------------------------------------------


def english_form(number: str) -> str:
    """`one` or `other`. CLDR: one where i = 1 and v = 0."""
    return "one" if number == "1" else "other"


def russian_form(number: str) -> str:
    """`one`, `few`, `many` or `other`. CLDR: with decimals (v ≠ 0) other; else by the last digits, 11 … 14 are many."""
    if not number.isdigit():
        return "other"
    last, last_two = int(number) % 10, int(number) % 100
    if last == 1 and last_two != 11:
        return "one"
    return "few" if 2 <= last <= 4 and not 12 <= last_two <= 14 else "many"


_ENGLISH_UNITS = {
    **{name: {"one": name, "other": f"{name}s"} for name in ("day", "week", "month", "year", "package", "event")},
    "unit": {"one": "unit", "other": "units"},
    "s": {"one": "second", "other": "seconds"},
    "min": {"one": "minute", "other": "minutes"},
    "h": {"one": "hour", "other": "hours"},
}
_RUSSIAN_UNITS = {
    unit: dict(zip(("one", "few", "many", "other"), forms.split(), strict=True))
    for unit, forms in {
        "day": "день дня дней дня",
        "week": "неделя недели недель недели",
        "month": "месяц месяца месяцев месяца",
        "year": "год года лет года",
        "package": "пакет пакета пакетов пакета",
        "event": "событие события событий события",
        "unit": "единица единицы единиц единицы",
        "time": "раз раза раз раза",
        "s": "секунда секунды секунд секунды",
        "min": "минута минуты минут минуты",
        "h": "час часа часов часа",
        "B": "байт байта байт байта",
        "KB": "КБ КБ КБ КБ",
        "MB": "МБ МБ МБ МБ",
        "GB": "ГБ ГБ ГБ ГБ",
        "TB": "ТБ ТБ ТБ ТБ",
    }.items()
}


# --- languages -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Language:
    form: Callable[[str], str]
    units: Mapping[str, Mapping[str, str]]
    decimal_point: str
    grouping: str
    quotes: str
    # Action → sentence; see `_Sentence.fields` for what it may name.
    sentences: Mapping[str, str]
    # What may stand beside an amount.
    phrases: Mapping[str, str]
    # Reasons that are words: pattern → the same in this language.
    reasons: Sequence[tuple[re.Pattern[str], str]]

    def number(self, text: str) -> str:
        """A number of a receipt as the language writes it; beyond six decimals, or without an end (1/3), about it."""
        value, exact = _decimal(text)
        written = f"{value:,f}".replace(",", "\0").replace(".", self.decimal_point).replace("\0", self.grouping)
        return written if exact else f"≈{written}"

    def counted(self, number: str, unit: str) -> str:
        """`5 месяцев`; a unit that the language has no forms for stays as it is."""
        forms = self.units.get(unit)
        word = unit if forms is None else forms[self.form(number)]
        return f"{self.number(number)}{_NARROW}{word}".rstrip(_NARROW)

    def quoted(self, name: str) -> str:
        """A name in quotation marks."""
        return f"{self.quotes[0]}{name}{self.quotes[1]}"


_STATUSES = {
    "In study": "изучается",
    "In design": "разрабатывается",
    "In test": "проверяется",
    "Rejected": "отклонено",
    "Active": "ещё не в продаже",
    "Launched": "в продаже",
    "Retired": "снято с продажи",
    "Obsolete": "больше не предоставляется",
}
_WEEKDAYS = {"Mon": "пн", "Tue": "вт", "Wed": "ср", "Thu": "чт", "Fri": "пт", "Sat": "сб", "Sun": "вс"}

_RUSSIAN_REASONS = [
    (r"is (?P<status>In \w+|[A-Z]\w+)", "{status}"),
    (r"isn't valid at that time", "не действует на эту дату"),
    (r"isn't sold by itself", "отдельно не продаётся"),
    (r"(?:.+) isn't charged by being ordered", "начисляется не при заказе"),
    (r"it has no amount", "сумма не указана"),
    (r"it is in (?P<code>[A-Z]{3})", "цена указана в валюте {code}"),
    (r"it is for (?P<code>\w+) charges", "относится к начислениям другого вида ({code})"),
    (r"price list (?P<name>.+) has a price for it", "действует цена из прайс-листа {name}"),
    (r"its price list (?P<name>.+) isn't this customer's", "прайс-лист {name} не для этого клиента"),
    (r"the prices of the bundle replace it", "вместо неё действует цена пакета услуг"),
    (r"it is for another phase", "относится к другому этапу"),
    (r"it is for the phase (?P<name>.+)", "относится к этапу {name}"),
    (r"it is for the term (?P<name>.+)", "действует при сроке обязательства {name}"),
    (r"it was for (?P<span>\d+ \w+)", "срок действия истёк ({span})"),
    (r"no term was chosen", "срок обязательства не выбран"),
    (r"the term (?P<name>.+) is over", "срок обязательства {name} истёк"),
    (r"version (?P<code>.+) has begun later", "позже начала действовать версия {code}"),
    (r"(?P<name>.+) of the group (?P<other>.+) is better", "в группе {other} выгоднее {name}"),
    (
        r"(?P<name>.+) of the group (?P<other>.+) is better: (?P<money>.+ [A-Z]{3}) instead of (?P<rival>.+ [A-Z]{3})",
        "в группе {other} выгоднее {name}: {money} вместо {rival}",
    ),
    (
        r"rate (?P<code>\d+) isn't for (?P<day>\w{3}) (?P<time>[\d:]+)",
        "тариф {code} не действует в это время ({day}, {time})",
    ),
    (r"it needs a coupon", "нужен купон"),
    (r"(?P<name>.+) is exclusive", "акция {name} не сочетается с другими"),
    (r"(?P<name>.+) excludes it", "не сочетается с акцией {name}"),
    (r"it grants nothing", "она ничего не даёт"),
    (r"it is at its minimum price", "цена уже наименьшая"),
    (r"nothing that it is for can be lowered", "нет цен, которые она могла бы снизить"),
    (r"its promotion isn't on offer", "акция не проводится"),
    (r"there is no such coupon", "такого купона нет"),
    (r"it has expired", "срок действия истёк"),
    (r"it isn't valid yet", "срок действия ещё не наступил"),
    (r"it has been used (?P<times>\d+) times", "он уже использован {times}"),
    (r"the customer has used it (?P<times>\d+) times", "клиент уже использовал его {times}"),
    (r"(?P<condition>.+) doesn't hold: it is unknown", "условие не выполнено: {condition} (значение неизвестно)"),
    (r"(?P<condition>.+) doesn't hold: it is (?P<code>.+)", "условие не выполнено: {condition} (сейчас {code})"),
    (r"(?P<condition>.+) doesn't hold", "условие не выполнено: {condition}"),
    (r"it is for (?P<condition>.+)", "условие не выполнено: {condition}"),
]

_ENGLISH = _Language(
    english_form,
    _ENGLISH_UNITS,
    ".",
    ",",
    "“”",
    {
        "PRICE_FOUND": "{label}: the price is {after}{note}.",
        "PRICE_LISTED": "{label}: {after}, charged by what is used.",
        "QUANTITY": "{label}: {after} for a quantity of {count}.",
        "VERSION_CHOSEN": "{label}: the version on sale is {version}.",
        "ALTERATION_DOWN": "{label}: the discount {name} takes off {change}, which leaves {after}{note}.",
        "ALTERATION_UP": "{label}: the surcharge {name} adds {change}, which makes {after}{note}.",
        "ALTERATION_NONE": "{label}: {name} changes nothing, it stays {after}{note}.",
        "BUNDLE_DISCOUNT": "{label}: as part of {name} it costs {change} less: {after}.",
        "PROMOTION_APPLIED": "{label}: the promotion {name} takes off {change}, which leaves {after}{note}.",
        "PROMOTION_REJECTED": "The promotion {name} doesn't count: {why}.",
        "COUPON_ACCEPTED": "The coupon {name} counts.",
        "COUPON_REJECTED": "The coupon {name} doesn't count: {why}.",
        "DISCOUNT_SPLIT": "The discount of {name}, {after}, is split: {shares}.",
        "REJECTED": "{label}: {name} doesn't count: {why}.",
        "ROUNDED": "{label}: {before} is rounded to {after}.",
        "TAX_ADDED": "{label}: {before} without tax, {after} with tax of {rate}.",
        "TIER_CHARGED": "{label}: tier {tier}, {figures}; together {after}.",
        "UNITS_CHARGED": "{label}: {figures} makes {after}.",
        "PACKAGES_CHARGED": "{label}: {packages} of {size}, {figures} makes {after}.",
        "PERCENTAGE_CHARGED": "{label}: {figures} makes {after}.",
        "USAGE_SUMMED": "{label}: {quantity} in {events}.",
        "EVENT_ROUNDED": "{label}: {used} counts as {quantity}.",
        "PERIOD_ROUNDED": "{label}: {used} in the period counts as {quantity}.",
        "ALLOWANCE_USED": "{label}: of {used}, {free} is included; {quantity} is left to be charged.",
        "EVENT_MINIMUM_APPLIED": "{label}: {before} is less than the minimum of {after} that it costs at least.",
        "EVENT_MAXIMUM_APPLIED": "{label}: instead of {before} it costs {after}, the most that one event may cost.",
        "PERIOD_MINIMUM_APPLIED": "{label}: {before} is less than the period's minimum of {after}.",
        "PERIOD_MAXIMUM_APPLIED": "{label}: instead of {before} it costs {after}, the most for a period.",
        "ALREADY_CHARGED": "{label}: of {before}, {change} was charged before; {after} is left.",
        "RATE_FOUND": "{label}: rate {rate_number} counts{destination}.",
        "CONNECT_FEE_CHARGED": "{label}: the connect fee is {change}; together {after}.",
        "INCREMENTS_CHARGED": "{label}: {increments}; together {after}.",
        "RATE_MAXIMUM_APPLIED": "{label}: instead of {before} it costs {after}, the most by this rate.",
        "PERIOD_BILLED": "From {start} to {end}: {fraction} of {before}, which is {after}.",
        "CREDITED": "From {start} to {end}: of the {before} that were billed, {after} is given back.",
        "CHARGED": "From {start} to {end}: {fraction} of {before}, which is {after}, is charged anew.",
    },
    {
        "gross": ", tax included",
        "lasting": "; for {span}",
        "floor": "; it doesn't fall below zero",
        "whole": "the whole",
        "destination": " ({name})",
        "increments": "{count} × {increment} at {price} for {per}",
        "flat": " plus {flat}",
        "for": " for each {per}",
    },
    (),
)

_RUSSIAN = _Language(
    russian_form,
    _RUSSIAN_UNITS,
    ",",
    "\N{NO-BREAK SPACE}",
    "«»",
    {
        "PRICE_FOUND": "{label}: цена {after}{note}.",
        "PRICE_LISTED": "{label}: {after}, начисляется по фактическому использованию.",
        "QUANTITY": "{label}: количество {count}, всего {after}.",
        "VERSION_CHOSEN": "{label}: сейчас продаётся версия {version}.",
        "ALTERATION_DOWN": "{label}: скидка {name} уменьшает сумму на {change}, остаётся {after}{note}.",
        "ALTERATION_UP": "{label}: надбавка {name} увеличивает сумму на {change}, получается {after}{note}.",
        "ALTERATION_NONE": "{label}: {name} ничего не меняет, сумма прежняя: {after}{note}.",
        "BUNDLE_DISCOUNT": "{label}: в составе пакета {name} дешевле на {change}: {after}.",
        "PROMOTION_APPLIED": "{label}: акция {name} уменьшает сумму на {change}, остаётся {after}{note}.",
        "PROMOTION_REJECTED": "Акция {name} не действует: {why}.",
        "COUPON_ACCEPTED": "Купон {name} принят.",
        "COUPON_REJECTED": "Купон {name} не принят: {why}.",
        "DISCOUNT_SPLIT": "Скидка акции {name}, {after}, распределена: {shares}.",
        "REJECTED": "{label}: {name} не применяется: {why}.",
        "ROUNDED": "{label}: {before} округляется до {after}.",
        "TAX_ADDED": "{label}: без налога {before}, с налогом {rate} — {after}.",
        "TIER_CHARGED": "{label}: ступень {tier}, {figures}; всего {after}.",
        "UNITS_CHARGED": "{label}: {figures} — получается {after}.",
        "PACKAGES_CHARGED": "{label}: {packages} по {size}, {figures} — получается {after}.",
        "PERCENTAGE_CHARGED": "{label}: {figures} — получается {after}.",
        "USAGE_SUMMED": "{label}: использовано {quantity}, {events}.",
        "EVENT_ROUNDED": "{label}: {used} засчитывается как {quantity}.",
        "PERIOD_ROUNDED": "{label}: {used} за период засчитывается как {quantity}.",
        "ALLOWANCE_USED": "{label}: использовано {used}, включено в пакет {free}; к оплате {quantity}.",
        "EVENT_MINIMUM_APPLIED": "{label}: {before} меньше наименьшей платы, поэтому {after}.",
        "EVENT_MAXIMUM_APPLIED": "{label}: вместо {before} — {after}, наибольшая плата за одно событие.",
        "PERIOD_MINIMUM_APPLIED": "{label}: {before} меньше наименьшей платы за период, поэтому {after}.",
        "PERIOD_MAXIMUM_APPLIED": "{label}: вместо {before} — {after}, наибольшая плата за период.",
        "ALREADY_CHARGED": "{label}: из {before} раньше начислено {change}; остаётся {after}.",
        "RATE_FOUND": "{label}: действует тариф {rate_number}{destination}.",
        "CONNECT_FEE_CHARGED": "{label}: плата за соединение {change}; всего {after}.",
        "INCREMENTS_CHARGED": "{label}: {increments}; всего {after}.",
        "RATE_MAXIMUM_APPLIED": "{label}: вместо {before} — {after}, наибольшая плата по этому тарифу.",
        "PERIOD_BILLED": "С {start} по {end} (не включая): {fraction} от {before}, то есть {after}.",
        "CREDITED": "С {start} по {end} (не включая): из начисленных {before} возвращается {after}.",
        "CHARGED": "С {start} по {end} (не включая): {fraction} от {before}, то есть {after}, начисляется заново.",
    },
    {
        "gross": ", включая налог",
        "lasting": "; срок: {span}",
        "floor": "; ниже нуля сумма не опускается",
        "whole": "вся сумма",
        "destination": " ({name})",
        "increments": "{count} × {increment}, цена {price} за {per}",
        "flat": " плюс {flat}",
        "for": " за {per}",
    },
    [(re.compile(pattern), text) for pattern, text in _RUSSIAN_REASONS],
)

_LANGUAGES = {"en": _ENGLISH, "ru": _RUSSIAN}
LANGUAGES = tuple(sorted(_LANGUAGES))
# Every action that a sentence is known for, as the engines name it.
ACTIONS = frozenset(_ENGLISH.sentences) - {"ALTERATION_DOWN", "ALTERATION_UP", "ALTERATION_NONE"} | {
    "ALTERATION_APPLIED"
}


def explain(receipt: Receipt | PriceReceipt, language: str) -> list[str]:
    """The receipt's steps in words, in their order.

    Raises InvalidArgument UNSUPPORTED_LANGUAGE; UNKNOWN_ENGINE for a receipt that isn't of the catalog;
    MALFORMED_RECEIPT; UNKNOWN_STEP naming the steps that there are no words for, or that don't state what their action
    does.
    """
    found = _LANGUAGES.get(re.split("[-_]", language.lower())[0])
    if found is None:
        why = f"{language!r} is none of {', '.join(LANGUAGES)}"
        raise InvalidArgument("UNSUPPORTED_LANGUAGE", why, violations=[Violation("language", why)])
    if receipt.engine not in ENGINES:
        raise InvalidArgument("UNKNOWN_ENGINE", f"{receipt.engine!r} isn't one of {', '.join(sorted(ENGINES))}")
    names = _Names(receipt)
    lines, wrong = [], []
    for i, step in enumerate(receipt.step):
        try:
            lines.append(_Sentence(found, names, step).text())
        except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
            why = f"{step.action} {step.reason or ''}".strip()
            wrong.append(Violation(f"receipt.step[{i}]", f"there are no words for {why} ({error})"))
    if wrong:
        raise InvalidArgument("UNKNOWN_STEP", wrong[0].description, violations=wrong)
    return lines


class _Names:
    """What the ids in a receipt are called, as far as its inputs say."""

    def __init__(self, receipt: Receipt | PriceReceipt) -> None:
        self._names: dict[str, str] = {}
        self._items: dict[str, str] = {}
        try:
            inputs = json.loads(receipt.inputs.text)
        except ValueError as error:
            why = "what it rests on isn't JSON"
            raise InvalidArgument("MALFORMED_RECEIPT", why, violations=[Violation("receipt.inputs", why)]) from error
        self._collect(inputs)
        items = inputs.get("items") if isinstance(inputs, dict) else None
        for i, item in enumerate(items if isinstance(items, list) else ()):
            offering = item.get("product_offering_id") if isinstance(item, dict) else None
            if isinstance(offering, str):
                self._items[str(item.get("id") or f"item[{i}]")] = self._names.get(offering, offering)

    def _collect(self, data: Any) -> None:
        if isinstance(data, dict):
            name = data.get("name")
            if isinstance(name, str) and name:
                for key in (data.get("rule"), data.get("id")):
                    if isinstance(key, str) and key:
                        self._names.setdefault(key, name)
            for value in data.values():
                self._collect(value)
        elif isinstance(data, list):
            for value in data:
                self._collect(value)

    def rule(self, id: str) -> str:
        """The name of a rule; its id where it has none."""
        return self._names.get(id, id)

    def subject(self, path: str) -> str:
        """What a step is about: an item by its offering, a part of it by its own."""
        if path in self._items:
            return self._items[path]
        return self.rule(path.rsplit("/", 1)[-1])


class _Sentence:
    """One step in words."""

    def __init__(self, language: _Language, names: _Names, step: Step) -> None:
        self._language = language
        self._names = names
        self._step = step
        self._reason = step.reason or ""

    def text(self) -> str:
        """The sentence. Raises KeyError or ValueError when there are no words for the step."""
        action = self._step.action
        if action == "ALTERATION_APPLIED":
            change = self._change()
            action = f"ALTERATION_{'DOWN' if change < 0 else 'UP' if change else 'NONE'}"
        return self._language.sentences[action].format_map(self)

    def __getitem__(self, field: str) -> str:
        """A field of a sentence, made when one asks for it."""
        make: Callable[[], str] | None = getattr(self, f"_say_{field}", None)
        if make is None:
            raise KeyError(field)
        return make()

    # --- fields of sentences -----------------------------------------------------------------------------------------

    def _say_label(self) -> str:
        subject = self._names.subject(self._step.subject)
        named_apart = self._step.action in ("REJECTED", "ALTERATION_APPLIED", "BUNDLE_DISCOUNT", "PROMOTION_APPLIED")
        rule = "" if named_apart else self._names.rule(self._step.rule)
        return ", ".join(dict.fromkeys(filter(None, (subject, rule)))) or self._say_name()

    def _say_name(self) -> str:
        return self._language.quoted(self._names.rule(self._step.rule) or self._reason)

    def _say_before(self) -> str:
        return self._money(self._step.before)

    def _say_after(self) -> str:
        return self._money(self._step.after)

    def _say_change(self) -> str:
        return self._money(f"{number(abs(self._change()))} {self._amount(self._step.after)[1]}")

    def _say_note(self) -> str:
        phrases, said = self._language.phrases, ""
        if self._reason == "tax included":
            said += phrases["gross"]
        for part in self._reason.split("; "):
            if lasting := re.fullmatch(r"for (\d+ \w+)", part):
                said += phrases["lasting"].format(span=self._counted(lasting[1]))
        if self._reason.endswith("not below zero"):
            said += phrases["floor"]
        return said

    def _say_why(self) -> str:
        reason = self._reason
        if self._step.action == "PROMOTION_REJECTED":
            reason = reason.removeprefix(f"{self._names.rule(self._step.rule)}: ")
            reason = reason.split(": ", 1)[1] if reason == self._reason and ": " in reason else reason
        return "; ".join(self._translated(part) for part in reason.split("; "))

    def _say_version(self) -> str:
        return self._language.quoted(self._reason.removeprefix("version "))

    def _say_count(self) -> str:
        return self._language.number(self._matched(r"× (\d+)")[1])

    def _say_rate(self) -> str:
        return f"{self._language.number(self._matched(r'(-?[0-9.]+) %')[1])}{_NARROW}%"

    def _say_shares(self) -> str:
        return " + ".join(self._language.number(share) for share in self._reason.split(" + "))

    def _say_tier(self) -> str:
        return self._matched(r"tier (\d+): .+")[1]

    def _say_packages(self) -> str:
        return self._language.counted(self._matched(r"(\d+) packages of .+")[1], "package")

    def _say_size(self) -> str:
        return self._counted(self._matched(r"\d+ packages of ([^:]+): .+")[1])

    def _say_figures(self) -> str:
        """`10 min × 5 + 3`, the calculation after the tier or the packages."""
        figures = self._reason.split(": ", 1)[-1]
        match = re.fullmatch(r"(.+?)(?: / (\S+))? × (\S+)( %)?(?: \+ (\S+))?", figures)
        if match is None:
            raise ValueError(f"no figures in {self._reason!r}")
        counted, per, price, percent, flat = match.groups()
        said = f"{self._counted(counted)} × {self._language.number(price)}{_NARROW + '%' if percent else ''}"
        if per:
            said += self._language.phrases["for"].format(per=self._language.number(per))
        return said + (self._language.phrases["flat"].format(flat=self._language.number(flat)) if flat else "")

    def _say_used(self) -> str:
        return self._counted(self._step.before or "")

    def _say_quantity(self) -> str:
        return self._counted(self._step.after or "")

    def _say_free(self) -> str:
        return self._counted(self._reason)

    def _say_events(self) -> str:
        return self._language.counted(self._matched(r"(\d+)")[1], "event")

    def _say_rate_number(self) -> str:
        return self._matched(r"rate (\d+)(?:: .+)?")[1]

    def _say_destination(self) -> str:
        name = self._matched(r"rate \d+(?:: (.+))?")[1]
        return self._language.phrases["destination"].format(name=name) if name else ""

    def _say_increments(self) -> str:
        count, increment, per, price = self._matched(r"(\d+) × (\S+) / (\S+) × (\S+)").groups()
        said = (self._language.number(text) for text in (count, increment, per, price))
        return self._language.phrases["increments"].format_map(
            dict(zip(("count", "increment", "per", "price"), said, strict=True))
        )

    def _say_start(self) -> str:
        return self._step.subject.split("/")[0]

    def _say_end(self) -> str:
        return self._step.subject.split("/")[1]

    def _say_fraction(self) -> str:
        return self._language.phrases["whole"] if self._reason == "1" else self._reason

    # --- parts -------------------------------------------------------------------------------------------------------

    def _matched(self, pattern: str) -> re.Match[str]:
        match = re.fullmatch(pattern, self._reason)
        if match is None:
            raise ValueError(f"{self._reason!r} isn't like {pattern}")
        return match

    def _amount(self, text: str | None) -> tuple[str, str]:
        match = _MONEY.fullmatch(text or "")
        if match is None:
            raise ValueError(f"{text!r} is no amount")
        return match[1], match[2]

    def _money(self, text: str | None) -> str:
        amount, unit = self._amount(text)
        return f"{self._language.number(amount)}{_NARROW}{unit}"

    def _change(self) -> Fraction:
        """What was added to the amount; negative: taken off."""
        return Fraction(self._amount(self._step.after)[0]) - Fraction(self._amount(self._step.before)[0])

    def _counted(self, text: str) -> str:
        match = _COUNTED.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no quantity")
        return self._language.counted(match[1], match[2] or "")

    def _translated(self, reason: str) -> str:
        """A reason in the language; what has no pattern (a condition of somebody's own) in quotation marks."""
        if not self._language.reasons:
            return reason
        for pattern, text in self._language.reasons:
            match = pattern.fullmatch(reason)
            if match is not None:
                return text.format(**{name: self._part(name, value) for name, value in match.groupdict().items()})
        return self._language.quoted(reason)

    def _part(self, name: str, value: str) -> str:
        if name in ("name", "other"):
            return self._language.quoted(value.replace(" or ", " или "))
        if name in ("money", "rival"):
            return self._money(value)
        if name in ("span", "times"):
            return self._counted(value if name == "span" else f"{value} time")
        words: Mapping[str, Mapping[str, str]] = {"status": _STATUSES, "day": _WEEKDAYS}
        return words.get(name, {}).get(value, value)
