"""Formulas of tariff templates: what they give exactly, what they refuse, and how amounts are rounded."""

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.generation.formula import EXACT, MAX_LENGTH, FormulaError, Value, parse, rounded_to

VARIABLES: dict[str, Value] = {"speed": Decimal(100), "term": Decimal(12), "segment": "business", "fast": True}
NUMBERS = st.decimals(-1_000_000, 1_000_000, allow_nan=False, allow_infinity=False, places=4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("300 + 0.5 * speed", "350.0"),
        ("speed * (0.9 if term >= 12 else 1)", "90.0"),
        ("10 if segment == 'business' else 5", "10"),
        ("10 if segment in ('private', 'business') and fast else 5", "10"),
        ("10 if not fast or segment != 'business' else 5", "5"),
        ("min(speed, 50, 70) + max(1, 2)", "52"),
        ("ceil(7 / 2) - floor(7 / 2) + abs(-3)", "4"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2 ** 10", "1024"),
        ("1 if 1 < 2 < 3 else 0", "1"),
        ("1_000.50", "1000.50"),
        ("0.1234567890123456789012345678901234567890", "0.1234567890123456789012345678901234567890"),
    ],
)
def test_a_formula_gives_an_exact_number(text: str, value: str) -> None:
    assert parse(text).amount(VARIABLES) == Decimal(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "isn't a formula"),
        ("1 +", "isn't a formula"),
        ("__import__('os')", "calls what isn't"),
        ("().__class__", "isn't something"),
        ("speed.real", "isn't something"),
        ("[1][0]", "isn't something"),
        ("(lambda: 1)()", "calls what isn't"),
        ("min(1, 2, key=3)", "calls what isn't"),
        ("1 if (x := 2) else 3", "isn't something"),
        ("f'{speed}'", "isn't something"),
        ("0x10", "isn't a decimal"),
        ("1j", "isn't a number"),
        ("b'a'", "isn't a number"),
        ("1 | 2", "isn't something"),
        ("1" * (MAX_LENGTH + 1), "more than"),
        ("+".join(["1"] * 150), "more than"),
        ("(" * 300 + "1" + ")" * 300, "formula"),
    ],
)
def test_what_isnt_a_formula_is_refused(text: str, why: str) -> None:
    with pytest.raises(FormulaError, match=why):
        parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / 0", "divides by zero"),
        ("1 // 0", "divides by zero"),
        ("1 % 0", "divides by zero"),
        ("unknown + 1", "there is no unknown"),
        ("segment + 1", "segment isn't a number"),
        ("fast + 1", "fast isn't a number"),
        ("speed > 'a'", "can't be compared"),
        ("segment", "not a number"),
        ("speed > 1", "not a number"),
        ("2 ** 33", "exponent"),
        ("2 ** 0.5", "exponent"),
        ("9 ** 32 ** 1 * 9 ** 32 * 1e900 * 1e900", "is too large"),
        ("1 if 5 else 2", "neither true nor false"),
        ("min(1)", "two numbers"),
        ("ceil(1, 2)", "one number"),
        ("1 if speed in speed else 2", "isn't a list"),
    ],
)
def test_what_cant_be_reckoned_says_why(text: str, why: str) -> None:
    with pytest.raises(FormulaError, match=why):
        parse(text).amount(VARIABLES)


@given(NUMBERS, NUMBERS, st.sampled_from("+-*"))
def test_what_is_reckoned_is_exact(left: Decimal, right: Decimal, sign: str) -> None:
    found = parse(f"({left:f}) {sign} b").amount({"b": right})
    exact = {
        "+": Fraction(left) + Fraction(right),
        "-": Fraction(left) - Fraction(right),
        "*": Fraction(left) * Fraction(right),
    }
    assert Fraction(found) == exact[sign]


@given(st.text(max_size=60))
def test_no_text_does_anything_but_give_a_value_or_a_formula_error(text: str) -> None:
    with suppress(FormulaError):
        parse(text).value({})


@given(
    st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=6),
    st.sampled_from(
        [("0.01", "0"), ("1", "0.90"), ("10", "9"), ("10", "9.90"), ("1", "0"), ("0.05", "0"), ("100", "99")]
    ),
)
def test_an_amount_is_rounded_to_its_endings(amount: Decimal, rule: tuple[str, str]) -> None:
    step, ending = map(Decimal, rule)
    up, down, near = (rounded_to(amount, step, ending, mode) for mode in ("up", "down", "halfUp"))
    for found in (up, down, near):
        assert EXACT.remainder(EXACT.subtract(found, ending), step) == 0
    assert down <= amount <= up
    assert up - down in (0, step)
    assert near in (up, down)
    assert abs(near - amount) <= step / 2
    if abs(near - amount) == step / 2:
        assert near == up
