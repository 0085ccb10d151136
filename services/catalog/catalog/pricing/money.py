"""Exact amounts: how they are rounded, and how one is split so that the parts sum to it."""

import re
from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from math import floor

# Amounts stay exact until they are rounded on purpose.
EXACT = Context(prec=60, rounding=ROUND_HALF_UP)
# For numbers of any length that are only written down.
_UNBOUNDED = Context(prec=1_000)
_ZERO = Decimal(0)
# A number as `number` writes it: no exponents, whose zeros would fill the memory.
_EXACT = re.compile(r"-?[0-9]+(?:\.[0-9]+|/([0-9]+))?")
_MOST_CHARACTERS = 2_000

# Decimals of the minor unit where they aren't two (ISO 4217 list one). Not from babel: CLDR says what people write
# (no decimals for the Iraqi dinar, say), which isn't what an amount is settled in.
_MINOR_UNITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_STEP = {code: Decimal(1).scaleb(-digits) for digits, codes in _MINOR_UNITS.items() for code in codes.split()}
_CENT = Decimal("0.01")


def minor_unit(currency: str) -> Decimal:
    """The smallest amount of the currency (ISO 4217): 0.01 for KGS, 1 for JPY."""
    return _STEP.get(currency, _CENT)


def rounded(amount: Decimal | Fraction, currency: str) -> Decimal:
    """The amount in whole minor units of its currency, half away from zero; never a negative zero."""
    if isinstance(amount, Fraction):
        step = minor_unit(currency)
        units = floor(abs(amount) / Fraction(step) + Fraction(1, 2))
        return EXACT.multiply(Decimal(-units if amount < 0 else units), step) + _ZERO
    return amount.quantize(minor_unit(currency), context=EXACT) + _ZERO


def split(total: Decimal, weights: Sequence[Decimal], step: Decimal) -> list[Decimal]:
    """The total in parts proportional to the weights, each a multiple of `step`, summing exactly.

    By the largest remainder (Hamilton's method); of equal remainders the earlier part gets more. The total must be a
    multiple of the step, weights aren't negative. All weights 0: they count as equal. No weights: no parts.

    Raises ValueError when a total that isn't 0 has no parts to go to, or isn't a multiple of the step.
    """
    units = EXACT.divide(abs(total), step)
    if units != units.to_integral_value():
        raise ValueError(f"{total} isn't a multiple of {step}")
    if not weights:
        if total:
            raise ValueError(f"nothing to split {total} over")
        return []
    whole = EXACT.create_decimal(sum(weights, _ZERO))
    shares = [EXACT.divide(EXACT.multiply(units, w if whole else Decimal(1)), whole or len(weights)) for w in weights]
    counts = [share.to_integral_value(ROUND_FLOOR) for share in shares]
    by_remainder = sorted(range(len(weights)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: int(units - sum(counts, _ZERO))]:
        counts[i] += 1
    sign = -1 if total < 0 else 1
    return [EXACT.multiply(count * sign, step) + _ZERO for count in counts]


def exact_of(text: str) -> Fraction:
    """The number that `number` has written. Raises ValueError for anything else, and for what is too long to read."""
    match = _EXACT.fullmatch(text)
    if match is None or len(text) > _MOST_CHARACTERS or (match[1] and not int(match[1])):
        raise ValueError(f"{text[:40]!r} isn't an exact number of at most {_MOST_CHARACTERS} characters")
    return Fraction(text)


def number(value: Decimal | Fraction) -> str:
    """The number as a receipt states it, exactly: `12.50`, or `1/3` for what no decimals can say."""
    if isinstance(value, Decimal):
        return format(value, "f")
    left, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while left % prime == 0:
            left //= prime
            count += 1
        places = max(places, count)
    if left != 1:
        return f"{value.numerator}/{value.denominator}"
    return format(Decimal((value * 10**places).numerator).scaleb(-places, context=_UNBOUNDED), "f")
