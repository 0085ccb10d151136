"""Which numbers can be reckoned with: enough digits for any money, and few enough that amounts stay exact."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

from chassis.errors import Violation
from chassis.types import Money

# Before the decimal point and behind it.
MOST_DIGITS = 18


def reckonable(value: Decimal) -> bool:
    """Whether it has at most 18 digits before the decimal point and 18 behind it."""
    return value.is_finite() and value.adjusted() < MOST_DIGITS and -int(value.as_tuple().exponent) <= MOST_DIGITS


def excessive(path: str, value: Any) -> Iterable[Violation]:
    """The fields with too many digits: the number itself, or those of a value object, by their paths.

    An amount of money has as many as its message holds.
    """
    if isinstance(value, Decimal):
        if not reckonable(value):
            why = f"it has more than {MOST_DIGITS} digits before the decimal point or behind it"
            yield Violation(path, why)
    elif isinstance(value, tuple):
        for i, one in enumerate(value):
            yield from excessive(f"{path}[{i}]", one)
    elif is_dataclass(value) and not isinstance(value, Money):
        for field in fields(value):
            yield from excessive(f"{path}.{field.name}", getattr(value, field.name))
