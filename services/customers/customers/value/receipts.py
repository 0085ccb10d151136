"""How a figure of the value's engines is written down: the steps that led to it and all that it rests on."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from chassis.errors import InvalidArgument, Violation
from chassis.receipts import Receipt, ReceiptStep


def written(engine: str, revision: str, inputs: Mapping[str, Any], steps: Sequence[ReceiptStep]) -> Receipt:
    """The receipt of a figure; the same inputs have the same text."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)
    return Receipt(engine=engine, revision=revision, inputs=text, step=tuple(steps))


def inputs_of(receipt: Receipt, engine: str, revision: str) -> dict[str, Any]:
    """What the receipt rests on. Raises InvalidArgument for one of another engine or revision, or that none wrote."""
    if (receipt.engine, receipt.revision) != (engine, revision):
        why = f"this is {engine} {revision}, not {receipt.engine} {receipt.revision}"
        raise InvalidArgument("OTHER_ENGINE", why, violations=[Violation("receipt.engine", why)])
    try:
        inputs = json.loads(receipt.inputs)
    except ValueError as error:
        raise malformed(str(error)) from error
    if not isinstance(inputs, dict):
        raise malformed("they aren't an object")
    return inputs


def malformed(why: str) -> InvalidArgument:
    """The error for inputs that no engine wrote."""
    return InvalidArgument("MALFORMED_RECEIPT", why, violations=[Violation("receipt.inputs", why)])


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value)}")
