"""What a promotion's patterns mean: TMF671's criteria and actions, as rules and actions of the engine.

The file leaves open what a criterion can be about and what an action can do. What is understood here is in the tables
below; whatever else somebody writes is kept, but a promotion with it can't be released, and the attribute is named.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.pricing.money import minor_unit
from catalog.pricing.offers import canonical, charge_period, instant
from catalog.pricing.periods import understood
from catalog.product.domain import CHARGES, RECURRING, kind_of_price
from catalog.promotion.engine import (
    COMPARISONS,
    EQUALITIES,
    Action,
    Condition,
    Fact,
    Filter,
    Off,
    Pattern,
    Promotion,
    Rule,
)
from catalog.promotion.values import PromotionAction, PromotionCriteria, PromotionCriteriaGroup, PromotionPattern
from chassis.errors import Violation
from chassis.types import Duration, EntityRef, TimePeriod, decimal_of

# criteriaParameter, in small letters → what it is about.
PARAMETERS: Mapping[str, Fact] = {
    # How many things are ordered, each item by its quantity.
    "quantity": Fact.QUANTITY,
    "cartquantity": Fact.QUANTITY,
    # All charges of the order, each once, after the promotions before; in the promotion's currency.
    "total": Fact.TOTAL,
    "ordertotal": Fact.TOTAL,
    "itemtotal": Fact.TOTAL,
    # The id of an offering (or of its specification) in the order.
    "product": Fact.PRODUCT,
    "productoffering": Fact.PRODUCT,
    "containsproduct": Fact.PRODUCT,
    # The id of a category of which something is in the order.
    "category": Fact.CATEGORY,
    # The charges of offerings of the category that criteriaEntityRef names.
    "categorytotal": Fact.CATEGORY_TOTAL,
    # A segment that the customer is in.
    "segment": Fact.SEGMENT,
    "marketsegment": Fact.SEGMENT,
    "customergroup": Fact.SEGMENT,
    # 1: the customer's first order.
    "ordernumber": Fact.ORDER_NUMBER,
    "nthorder": Fact.ORDER_NUMBER,
    # The id of a place: address, town, region, country.
    "place": Fact.PLACE,
    "channel": Fact.CHANNEL,
    "branch": Fact.BRANCH,
    "agreement": Fact.AGREEMENT,
}
OPERATORS: Mapping[str, str] = {**{name: name for name in COMPARISONS}, "==": "=", "!=": "<>"}
# actionType, in small letters → what it takes something off, and whether by percentage.
ACTION_TYPES: Mapping[str, tuple[Off, bool]] = {
    "orderpercentage": (Off.ORDER, True),
    "orderamount": (Off.ORDER, False),
    "unitpercentage": (Off.UNIT, True),
    "unitamount": (Off.UNIT, False),
    "deliverypercentage": (Off.DELIVERY, True),
    "deliveryamount": (Off.DELIVERY, False),
}
# Before the decimal point and behind it: enough for any money, and calculations stay exact.
_MOST_DIGITS = 18
_LOGIC = {"": False, "and": False, "or": True}


@dataclass(frozen=True, slots=True)
class Terms:
    """A promotion as the engine knows it, and its canonical JSON: what a receipt quotes."""

    promotion: Promotion
    text: str

    def redeemed(self, at: datetime) -> "Terms":
        """The same for an order that redeemed a coupon for it at the instant."""
        return parse_terms({**json.loads(self.text), "redeemed_at": instant(at)})

    @property
    def by_category(self) -> bool:
        """Whether it matters what categories an offering is in."""
        return any(
            action.filter.categories for pattern in self.promotion.patterns for action in pattern.actions
        ) or any(condition.fact in (Fact.CATEGORY, Fact.CATEGORY_TOTAL) for condition in self.conditions())

    @property
    def by_order_number(self) -> bool:
        """Whether it matters how many orders the customer had before."""
        return any(condition.fact is Fact.ORDER_NUMBER for condition in self.conditions())

    def conditions(self) -> Iterable[Condition]:
        """All that is compared."""
        waiting: list[Rule | Condition] = [pattern.rule for pattern in self.promotion.patterns]
        while waiting:
            part = waiting.pop()
            if isinstance(part, Rule):
                waiting += part.conditions
            else:
                yield part


def parse_terms(data: Mapping[str, Any]) -> Terms:
    """Terms from their plain form: the only way that they are made, so that a receipt's are the same."""
    return Terms(
        Promotion(
            id=data["id"],
            name=data["name"],
            priority=data["priority"],
            patterns=tuple(
                Pattern(
                    _parse_rule(pattern["rule"]),
                    tuple(_parse_action(action) for action in pattern["actions"]),
                    _period(pattern["valid_for"]),
                )
                for pattern in data["patterns"]
            ),
            exclusive=data["exclusive"],
            exclusion_group=data["exclusion_group"],
            needs_coupon=data["needs_coupon"],
            applies_to_discounted=data["applies_to_discounted"],
            on_list_price=data["on_list_price"],
            currency=data["currency"],
            valid_for=_period(data["valid_for"]),
            redeemed_at=datetime.fromisoformat(data["redeemed_at"]) if "redeemed_at" in data else None,
        ),
        canonical(data),
    )


def _parse_rule(data: Mapping[str, Any]) -> Rule:
    return Rule(
        tuple(
            _parse_rule(part)
            if "conditions" in part
            else Condition(Fact(part["fact"]), part["operator"], part["value"], part["of"])
            for part in data["conditions"]
        ),
        data["any_of"],
    )


def _parse_action(data: Mapping[str, Any]) -> Action:
    return Action(
        off=Off(data["off"]),
        percentage=_decimal(data["percentage"]),
        amount=_decimal(data["amount"]),
        filter=Filter(
            products=frozenset(data["products"]),
            categories=frozenset(data["categories"]),
            price_min=_decimal(data["price_min"]),
            price_max=_decimal(data["price_max"]),
            kind=data["kind"],
            period=data["period"],
        ),
        floor=decimal_of(data["floor"]),
        duration=Duration(**data["duration"]) if data["duration"] else None,
    )


def _period(window: Sequence[str]) -> TimePeriod:
    start, end = (datetime.fromisoformat(text) if text else None for text in window)
    return TimePeriod(start_date_time=start, end_date_time=end)


def window(period: TimePeriod | None) -> list[str]:
    """A period as its two instants; empty: open."""
    return ["", ""] if period is None else [instant(period.start_date_time), instant(period.end_date_time)]


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else decimal_of(text)


class Reading:
    """Reads patterns into their plain form; what isn't understood is in `violations`, by its path."""

    def __init__(self, *, on_list_price: bool, currency: str) -> None:
        self.violations: list[Violation] = []
        self._on_list_price = on_list_price
        self._currency = currency

    def patterns(self, patterns: Sequence[PromotionPattern]) -> list[dict[str, Any]]:
        """The patterns, the smaller priority first."""
        if not patterns:
            self._fault("pattern", "it grants nothing")
        read = [
            (pattern.priority or 0, i, self._pattern(pattern, f"pattern[{i}]")) for i, pattern in enumerate(patterns)
        ]
        return [data for _, _, data in sorted(read, key=lambda one: one[:2])]

    def _fault(self, path: str, description: str) -> None:
        self.violations.append(Violation(path, description))

    def _pattern(self, pattern: PromotionPattern, path: str) -> dict[str, Any]:
        return {
            "rule": {
                "any_of": self._logic(
                    pattern.criteria_group_logical_relationship, f"{path}.criteria_group_logical_relationship"
                ),
                "conditions": [
                    self._group(group, f"{path}.criteria_group[{i}]") for i, group in enumerate(pattern.criteria_group)
                ],
            },
            "actions": [self._action(action, f"{path}.action[{i}]") for i, action in enumerate(pattern.action)],
            "valid_for": window(pattern.valid_for),
        }

    def _logic(self, word: str | None, path: str) -> bool:
        any_of = _LOGIC.get((word or "").lower())
        if any_of is None:
            self._fault(path, f"{word!r} is neither 'and' nor 'or'")
        return bool(any_of)

    def _group(self, group: PromotionCriteriaGroup, path: str) -> dict[str, Any]:
        return {
            "any_of": self._logic(group.criteria_logical_relationship, f"{path}.criteria_logical_relationship"),
            "conditions": [self._condition(one, f"{path}.criteria[{i}]") for i, one in enumerate(group.criteria)],
        }

    def _condition(self, criteria: PromotionCriteria, path: str) -> dict[str, Any]:
        fact = PARAMETERS.get(_letters(criteria.criteria_parameter))
        operator = OPERATORS.get(criteria.criteria_operator or "")
        value = criteria.criteria_value or ""
        of = (criteria.criteria_entity_ref.id or "") if criteria.criteria_entity_ref else ""
        if fact is None:
            self._fault(f"{path}.criteria_parameter", f"{criteria.criteria_parameter!r} is nothing that we can compare")
        elif operator is None or (not fact.numeric and operator not in EQUALITIES):
            self._fault(f"{path}.criteria_operator", f"{criteria.criteria_operator!r} doesn't compare a {fact}")
        elif fact.numeric and _number(value) is None:
            self._fault(f"{path}.criteria_value", f"{value!r} is no number")
        elif not value:
            self._fault(f"{path}.criteria_value", "it is compared with something")
        elif fact is Fact.CATEGORY_TOTAL and not of:
            self._fault(f"{path}.criteria_entity_ref", "a category's total is that of a category")
        elif fact in (Fact.TOTAL, Fact.CATEGORY_TOTAL) and not self._currency:
            self._fault("currency", "amounts are in a currency")
        elif self._on_list_price and fact.about_cart:
            self._fault(f"{path}.criteria_parameter", f"a list price doesn't depend on the {fact} of a cart")
        return {"fact": str(fact or ""), "operator": operator or "", "value": value, "of": of}

    def _action(self, action: PromotionAction, path: str) -> dict[str, Any]:
        off, by_percentage = ACTION_TYPES.get(_letters(action.action_type), (None, False))
        value = _number(action.action_value or "")
        if off is None:
            self._fault(f"{path}.action_type", f"{action.action_type!r} is nothing that we can grant")
        elif self._on_list_price and off is not Off.UNIT:
            self._fault(f"{path}.action_type", "a list price is that of a unit")
        if value is None or value <= 0 or (by_percentage and value > 100):
            self._fault(f"{path}.action_value", f"{action.action_value!r} is nothing to take off")
        kind = kind_of_price(action.price_type, None) if action.price_type else ""
        period = charge_period(action.recurring_charge_period, None)
        if off is not None and off is not Off.DELIVERY:
            self._check_charges(action, path, kind, by_percentage)
            if not by_percentage:
                self._check_amount(value, path, kind, period)
        elif off is Off.DELIVERY and not by_percentage:
            if not self._currency:
                self._fault("currency", "amounts are in a currency")
            self._check_amount(value, path, "", period)
        if action.minimum_unit_price is not None and action.minimum_unit_price < 0:
            self._fault(f"{path}.minimum_unit_price", "no unit is sold for less than nothing")
        products, categories = self._entities(action, path)
        return {
            "off": str(off or ""),
            "percentage": _text(value) if by_percentage else None,
            "amount": None if by_percentage else _text(value),
            "products": products,
            "categories": categories,
            "price_min": _text(action.unit_price_from),
            "price_max": _text(action.unit_price_to),
            "kind": kind,
            "period": period,
            "floor": _text(action.minimum_unit_price) or "0",
            "duration": self._duration(action.application_duration, f"{path}.application_duration"),
        }

    def _check_charges(self, action: PromotionAction, path: str, kind: str, by_percentage: bool) -> None:
        amounts = (action.unit_price_from, action.unit_price_to, action.minimum_unit_price)
        if not self._currency and (not by_percentage or any(amount is not None for amount in amounts)):
            self._fault("currency", "amounts are in a currency")
        if kind and kind not in CHARGES:
            self._fault(f"{path}.price_type", f"{action.price_type!r} isn't charged by being ordered")
        if not kind and not by_percentage:
            # Else it would be taken off what is paid once and off every month, or nobody would know which.
            self._fault(f"{path}.price_type", "an amount says whether it is off one-time or recurring charges")

    def _check_amount(self, amount: Decimal | None, path: str, kind: str, period: str) -> None:
        if amount is not None and self._currency and amount % minor_unit(self._currency):
            unit = f"{minor_unit(self._currency)} {self._currency}"
            self._fault(f"{path}.action_value", f"{amount:f} isn't a multiple of {unit}: nobody could pay it")
        if kind == RECURRING and not period:
            # Else it would be taken off what is paid every month, and off every year too.
            self._fault(f"{path}.recurring_charge_period", "an amount says off which charge period it is")

    def _entities(self, action: PromotionAction, path: str) -> tuple[list[str], list[str]]:
        products = [ref.id for ref in action.product_offering if ref.id]
        categories = [ref.id for ref in action.category if ref.id]
        entity = action.action_entity_ref
        if entity is not None and entity.id:
            kind = entity.at_referred_type or "ProductOffering"
            if kind == "ProductOffering":
                products.append(entity.id)
            elif kind == "Category":
                categories.append(entity.id)
            else:
                self._fault(f"{path}.action_entity_ref", f"nothing can be taken off a {kind}")
        return sorted(set(products)), sorted(set(categories))

    def _duration(self, duration: Duration | None, path: str) -> dict[str, Any] | None:
        if duration is None:
            return None
        if (duration.amount or 0) <= 0:
            self._fault(path, "it lasts for some time")
            return None
        # `2 quarters` are `6 month`, as of charges.
        number, _, unit = charge_period(duration.units or "period", duration.amount).rpartition(" ")
        read = Duration(amount=int(number or 1), units="" if unit == "period" else unit)
        if read.units and not understood(read):
            self._fault(path, f"nobody knows how long {duration.amount} {duration.units} are")
        return {"amount": read.amount, "units": read.units}


def entities(patterns: Iterable[PromotionPattern]) -> Iterable[tuple[str, EntityRef]]:
    """(path, reference) of every offering and category that the patterns' actions name."""
    for i, pattern in enumerate(patterns):
        for k, action in enumerate(pattern.action):
            path = f"pattern[{i}].action[{k}]"
            yield from ((f"{path}.product_offering[{n}]", ref) for n, ref in enumerate(action.product_offering))
            yield from ((f"{path}.category[{n}]", ref) for n, ref in enumerate(action.category))
            if action.action_entity_ref is not None:
                yield f"{path}.action_entity_ref", action.action_entity_ref


def _letters(text: str | None) -> str:
    return re.sub("[^a-z]", "", (text or "").lower())


def _number(text: str) -> Decimal | None:
    try:
        number = decimal_of(text)
    except ValueError:
        return None
    if number.adjusted() > _MOST_DIGITS or -int(number.as_tuple().exponent) > _MOST_DIGITS:
        return None
    return number


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")
