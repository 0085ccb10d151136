"""Prices as messages. Written out: the general codec needs several times as long for an answer of a thousand parts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from catalog.pricing.receipts import PriceReceipt, Receipt, plain
from catalog.pricing.values import (
    AppliedAlteration,
    BundledSelection,
    HeldCharge,
    Item,
    PriceComponent,
    PricedItem,
    PriceTotal,
    Pricing,
    PricingContext,
    Stage,
    UsageQuantity,
)
from chassis.convert import at, from_message, from_timestamp, to_message
from chassis.errors import InvalidArgument, Violation
from chassis.types import Characteristic, Duration, EntityRef, Money
from svyaz.catalog.v1 import pricing_pb2
from svyaz.type.v1 import values_pb2

_NANOS = 1_000_000_000
_LARGEST = _NANOS << 63


def item_of(asked: pricing_pb2.PriceRequestItem, path: str) -> Item:
    """What is asked for. Raises InvalidArgument naming the field whose value isn't of its type."""
    quantity = asked.quantity if asked.HasField("quantity") else 1
    return Item(
        asked.id,
        asked.product_offering_id,
        quantity,
        characteristic=tuple(
            at(_characteristic, one, f"{path}.characteristic[{k}]") for k, one in enumerate(asked.characteristic)
        ),
        term=asked.term,
        exact_version=asked.exact_version,
        bundled=tuple(BundledSelection(one.product_offering_id, one.number) for one in asked.bundled),
        usage=tuple(
            at(lambda message: from_message(message, UsageQuantity), one, f"{path}.usage[{k}]")
            for k, one in enumerate(asked.usage)
        ),
        started_at=from_timestamp(asked.started_at) if asked.HasField("started_at") else None,
    )


def _characteristic(message: values_pb2.Characteristic) -> Characteristic:
    """A blank name or type says as much as none: so receipts quote it."""
    stated = from_message(message, Characteristic)
    if stated.value is not None:
        try:
            json.loads(stated.value.text)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(
                "MALFORMED_JSON", "its value isn't JSON", violations=[Violation("value", "isn't JSON")]
            ) from error
    return replace(
        stated,
        name=stated.name or None,
        value_type=stated.value_type or None,
        extensions=stated.extensions or None,
    )


def context_of(asked: pricing_pb2.PricingContext, now: datetime) -> PricingContext:
    """For whom, where and when: now unless said otherwise."""
    return PricingContext(
        at=from_timestamp(asked.at) if asked.HasField("at") else now,
        currency=asked.currency,
        branch=asked.branch,
        customer_id=asked.customer_id,
        market_segment=tuple(asked.market_segment),
        channel=asked.channel,
        place=tuple(asked.place),
        agreement_id=asked.agreement_id,
        coupon=tuple(asked.coupon),
        orders_before=asked.orders_before if asked.HasField("orders_before") else None,
        order_id=asked.order_id,
        held_charge=tuple(
            at(lambda message: from_message(message, HeldCharge), one, f"context.held_charge[{k}]")
            for k, one in enumerate(asked.held_charge)
        ),
        same_customer_id=tuple(asked.same_customer_id),
    )


def customers_of(asked: pricing_pb2.PricingContext) -> tuple[str, ...]:
    """All ids of the customer for whom it is; none for nobody in particular."""
    return tuple(dict.fromkeys((asked.customer_id, *asked.same_customer_id))) if asked.customer_id else ()


def response(pricing: Pricing) -> pricing_pb2.PriceResponse:
    """The answer as a message. Raises InvalidArgument AMOUNT_OUT_OF_RANGE naming the item or the total."""
    # Parts as dicts: a message made by itself would be copied into the one around it.
    parts: dict[str, Any] = {
        "item": [at(_item, item, f"item[{i}]") for i, item in enumerate(pricing.item)],
        "total": [at(_total, total, f"total[{i}]") for i, total in enumerate(pricing.total)],
        "receipt": receipt(pricing.receipt),
        "orders_before_compared": pricing.orders_before_compared,
    }
    return pricing_pb2.PriceResponse(**parts)


def _total(total: PriceTotal) -> dict[str, Any]:
    return {
        "price_type": total.price_type,
        "recurring_charge_period": total.recurring_charge_period,
        "amount": money(total.amount),
        "tax_included_amount": money(total.tax_included_amount),
    }


def receipt(made: Receipt | PriceReceipt) -> Any:
    """The receipt as a message takes it."""
    return {
        "engine": made.engine,
        "revision": made.revision,
        "inputs": made.inputs.text.encode(),
        "step": [
            {
                "subject": step.subject,
                "action": step.action,
                "rule": step.rule,
                "before": step.before,
                "after": step.after,
                "reason": step.reason,
            }
            for step in made.step
        ],
    }


def _item(item: PricedItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "product_offering": _ref(item.product_offering),
        "product_specification": _ref(item.product_specification),
        "quantity": item.quantity,
        "is_bundle": item.is_bundle,
        "component": [_component(component) for component in item.component],
        "bundled_item": [_item(part) for part in item.bundled_item],
        "characteristic": [to_message(one, values_pb2.Characteristic) for one in item.characteristic],
        "term": item.term,
    }


def _component(component: PriceComponent) -> dict[str, Any]:
    currency = component.currency
    message = {
        "product_offering_price": _ref(component.product_offering_price),
        "name": component.name,
        "price_type": component.price_type,
        "recurring_charge_period": component.recurring_charge_period,
        "list_amount": _amount(component.listed, currency),
        "amount": _amount(component.net, currency),
        "tax_rate": _text(component.tax_rate),
        "tax_included_amount": _amount(component.gross, currency),
        "alteration": [_alteration(alteration) for alteration in component.alteration],
        "usage_type": component.usage_type,
    }
    return message if component.stage is None else message | _stage(component.stage)


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "phase": stage.name,
        # Of a phase that a holder is in already, when it began is no condition any more.
        "phase_start": _duration(stage.start) if stage.later else None,
        "phase_duration": _duration(stage.duration),
    }


def _alteration(alteration: AppliedAlteration) -> dict[str, Any]:
    return {
        "product_offering_price": _ref(alteration.product_offering_price),
        "name": alteration.name,
        "priority": alteration.priority,
        "percentage": _text(alteration.percentage),
        "amount": _amount(alteration.value, alteration.currency),
        "application_duration": _duration(alteration.application_duration),
        "valid_for": None if alteration.valid_for is None else to_message(alteration.valid_for, values_pb2.TimePeriod),
        "tax_included_amount": None if alteration.gross is None else _amount(alteration.gross, alteration.currency),
    }


def _ref(reference: EntityRef | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {
        "id": reference.id,
        "name": reference.name,
        "version": reference.version,
        "at_referred_type": reference.at_referred_type,
    }


def _duration(duration: Duration | None) -> dict[str, Any] | None:
    return None if duration is None else {"amount": duration.amount, "units": duration.units}


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def money(amount: Money) -> Mapping[str, Any]:
    """An amount of at most nine decimals as a message takes it. Raises InvalidArgument AMOUNT_OUT_OF_RANGE."""
    return _amount(amount.value or Decimal(), amount.unit or "")


@lru_cache(maxsize=4096)
def _amount(value: Decimal, currency: str) -> Mapping[str, Any]:
    """An amount that has been rounded to its minor unit, which nanos always hold.

    The same ones come again and again: to look one up takes a sixth of the time. Whoever gets it mustn't change it.
    """
    scaled = int(value.scaleb(9))
    if not -_LARGEST < scaled < _LARGEST:
        raise InvalidArgument("AMOUNT_OUT_OF_RANGE", f"the amount {value} doesn't fit units and nanos")
    if scaled < 0:
        units, nanos = divmod(-scaled, _NANOS)
        return {"unit": currency, "units": -units, "nanos": -nanos}
    units, nanos = divmod(scaled, _NANOS)
    return {"unit": currency, "units": units, "nanos": nanos}


def items_of(asked: Iterable[pricing_pb2.PriceRequestItem]) -> list[Item]:
    """See `item_of`."""
    return [item_of(item, f"item[{i}]") for i, item in enumerate(asked)]
