"""Formulas over the variables of a grid: a part of Python's expressions, reckoned in exact decimals.

Numbers, texts in quotes, names, + - * / // % **, comparisons, `and or not`, `a if b else c`, `in (…)`, and the
functions min, max, abs, ceil and floor. Nothing else is understood: no attributes, no subscripts, no calls of anything
else. A number is what its digits say; 0.1 never becomes a float.
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Clamped, Context, Decimal, DecimalException, Inexact, Rounded, Subnormal
from functools import lru_cache
from typing import Any

MAX_LENGTH = 1_000
MAX_NODES = 200
_MAX_EXPONENT = 32

Value = Decimal | str | bool

# 60 digits are enough for any price; what has no end is rounded there, and the price once more, by its own rule.
EXACT = Context(prec=60, Emin=-999, Emax=999)
for _signal in (Inexact, Rounded, Subnormal, Clamped):
    EXACT.traps[_signal] = False


# What a part of a formula comes to for these variables.
_Reckon = Callable[[Mapping[str, Value]], Any]


class FormulaError(Exception):
    """A formula that can't be understood or reckoned; says why."""


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression that has been looked through; `names` are the variables that it needs, `parts` how much there is to
    reckon."""

    text: str
    names: frozenset[str]
    parts: int
    _reckon: _Reckon

    def value(self, variables: Mapping[str, Value]) -> Value:
        """Raises FormulaError."""
        try:
            found: Value = self._reckon(variables)
            return found
        except DecimalException as error:
            raise FormulaError(_SAID.get(type(error).__name__, "can't be reckoned")) from error
        except RecursionError:
            raise FormulaError("is nested too deeply") from None

    def amount(self, variables: Mapping[str, Value]) -> Decimal:
        """A number. Raises FormulaError."""
        found = self.value(variables)
        if isinstance(found, bool) or not isinstance(found, Decimal):
            raise FormulaError(f"gives {_shown(found)}, not a number")
        return found

    def holds(self, variables: Mapping[str, Value]) -> bool:
        """True or false. Raises FormulaError."""
        found = self.value(variables)
        if not isinstance(found, bool):
            raise FormulaError(f"gives {_shown(found)}, neither true nor false")
        return found


_SAID = {"DivisionByZero": "divides by zero", "DivisionUndefined": "divides by zero", "Overflow": "is too large"}


@lru_cache(256)
def parse(text: str) -> Formula:
    """Raises FormulaError."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"has more than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "is nested too deeply"
        raise FormulaError(f"isn't a formula: {reason}") from None
    names: set[str] = set()
    called: set[int] = set()
    number = 0
    for number, node in enumerate(ast.walk(tree), 1):
        if number > MAX_NODES:
            raise FormulaError(f"has more than {MAX_NODES} parts")
        _look(node, text.strip(), names, called)
    try:
        return Formula(text.strip(), frozenset(names), number, _compiled(tree, text.strip()))
    except RecursionError:
        raise FormulaError("is nested too deeply") from None


def _look(node: ast.AST, text: str, names: set[str], called: set[int]) -> None:
    """Notes the names of a node that is allowed. Raises FormulaError for one that isn't."""
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS or node.keywords:
            raise FormulaError(f"calls what isn't one of {', '.join(_FUNCTIONS)}")
        called.add(id(node.func))
    elif isinstance(node, ast.Name):
        if id(node) not in called:
            names.add(node.id)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool | str):
            return
        if isinstance(node.value, complex | bytes) or not isinstance(node.value, int | float):
            raise FormulaError(f"{_source(node, text)} isn't a number")
        _number(node, text)
    elif not isinstance(node, _ALLOWED):
        raise FormulaError(f"{_source(node, text) or type(node).__name__!r} isn't something that a formula has")


_ALLOWED = (
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Tuple, ast.Load,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd, ast.Not, ast.And, ast.Or,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
)  # fmt: skip


def _source(node: ast.AST, text: str) -> str:
    return (ast.get_source_segment(text, node) or "")[:40]


def _number(node: ast.Constant, text: str) -> Decimal:
    """The number as it is written: the parser has made a float of it."""
    written = (ast.get_source_segment(text, node) or "").replace("_", "")
    try:
        return EXACT.create_decimal(written)
    except DecimalException:
        raise FormulaError(f"{written[:40]!r} isn't a decimal number") from None


def _shown(value: Value) -> str:
    return repr(value) if isinstance(value, str) else str(value)


# --- reckoning -------------------------------------------------------------------------------------------------------


def _compiled(node: ast.expr, text: str) -> _Reckon:
    """The part as a function: a formula is understood once, and reckoned for every cell of a grid."""
    return _COMPILERS[type(node)](node, text)


def _constant(node: Any, text: str) -> _Reckon:
    stated: Value = node.value if isinstance(node.value, bool | str) else _number(node, text)
    return lambda variables: stated


def _name(node: Any, _: str) -> _Reckon:
    name: str = node.id

    def reckon(variables: Mapping[str, Value]) -> Value:
        try:
            return variables[name]
        except KeyError:
            raise FormulaError(f"there is no {name}") from None

    return reckon


def _binary(node: Any, text: str) -> _Reckon:
    left, right, work = _operand(node.left, text), _operand(node.right, text), _OPERATORS[type(node.op)]
    return lambda variables: work(left(variables), right(variables))


def _power(left: Decimal, right: Decimal) -> Decimal:
    if right != right.to_integral_value() or abs(right) > _MAX_EXPONENT:
        raise FormulaError(f"{right} isn't a whole exponent up to {_MAX_EXPONENT}")
    return EXACT.power(left, right)


def _floor_divided(left: Decimal, right: Decimal) -> Decimal:
    # Decimal's own // rounds towards zero, which no price list means.
    return EXACT.divide(left, right).to_integral_value(ROUND_FLOOR)


def _modulo(left: Decimal, right: Decimal) -> Decimal:
    return EXACT.subtract(left, EXACT.multiply(right, _floor_divided(left, right)))


_OPERATORS: Mapping[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: EXACT.add,
    ast.Sub: EXACT.subtract,
    ast.Mult: EXACT.multiply,
    ast.Div: EXACT.divide,
    ast.FloorDiv: _floor_divided,
    ast.Mod: _modulo,
    ast.Pow: _power,
}


def _operand(node: ast.expr, text: str) -> Callable[[Mapping[str, Value]], Decimal]:
    """A part that is a number."""
    part, source = _compiled(node, text), _source(node, text)

    def reckon(variables: Mapping[str, Value]) -> Decimal:
        found = part(variables)
        if not isinstance(found, Decimal):
            raise FormulaError(f"{source} isn't a number")
        return found

    return reckon


def _unary(node: Any, text: str) -> _Reckon:
    if isinstance(node.op, ast.Not):
        denied = _truth(node.operand, text)
        return lambda variables: not denied(variables)
    operand = _operand(node.operand, text)
    if isinstance(node.op, ast.USub):
        return lambda variables: EXACT.minus(operand(variables))
    return operand


def _truth(node: ast.expr, text: str) -> Callable[[Mapping[str, Value]], bool]:
    """A part that is true or false."""
    part, source = _compiled(node, text), _source(node, text)

    def reckon(variables: Mapping[str, Value]) -> bool:
        found = part(variables)
        if not isinstance(found, bool):
            raise FormulaError(f"{source} is neither true nor false")
        return found

    return reckon


def _boolean(node: Any, text: str) -> _Reckon:
    parts = [_truth(part, text) for part in node.values]
    decided = all if isinstance(node.op, ast.And) else any
    return lambda variables: decided(part(variables) for part in parts)


def _choice(node: Any, text: str) -> _Reckon:
    test, chosen, other = _truth(node.test, text), _compiled(node.body, text), _compiled(node.orelse, text)
    return lambda variables: chosen(variables) if test(variables) else other(variables)


def _tuple(node: Any, text: str) -> _Reckon:
    parts = [_compiled(part, text) for part in node.elts]
    return lambda variables: tuple(part(variables) for part in parts)


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, several: one in several,
    ast.NotIn: lambda one, several: one not in several,
}


def _comparison(node: Any, text: str) -> _Reckon:
    first = _compiled(node.left, text)
    others = [
        (isinstance(kind, ast.In | ast.NotIn), _COMPARISONS[type(kind)], _compiled(part, text), _source(part, text))
        for kind, part in zip(node.ops, node.comparators, strict=True)
    ]

    def reckon(variables: Mapping[str, Value]) -> bool:
        left = first(variables)
        for inside, compare, part, source in others:
            right = part(variables)
            if inside and not isinstance(right, tuple):
                raise FormulaError(f"{source} isn't a list in brackets")
            if not inside and type(left) is not type(right):
                raise FormulaError(f"{_shown(left)} can't be compared with {_shown(right)}")
            if not compare(left, right):
                return False
            left = right
        return True

    return reckon


def _call(node: Any, text: str) -> _Reckon:
    arguments = [_operand(part, text) for part in node.args]
    least, function = _FUNCTIONS[node.func.id]
    if len(arguments) < least or (least == 1 and len(arguments) > 1):
        raise FormulaError(f"{node.func.id} takes {'one number' if least == 1 else 'two numbers or more'}")
    return lambda variables: function([part(variables) for part in arguments])


_FUNCTIONS: Mapping[str, tuple[int, Callable[[Sequence[Decimal]], Decimal]]] = {
    "min": (2, min),
    "max": (2, max),
    "abs": (1, lambda numbers: EXACT.abs(numbers[0])),
    "ceil": (1, lambda numbers: numbers[0].to_integral_value(ROUND_CEILING)),
    "floor": (1, lambda numbers: numbers[0].to_integral_value(ROUND_FLOOR)),
}
_COMPILERS: Mapping[type[ast.expr], Callable[[Any, str], _Reckon]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.IfExp: _choice,
    ast.Tuple: _tuple,
    ast.Compare: _comparison,
    ast.Call: _call,
}


# --- rounding --------------------------------------------------------------------------------------------------------


def rounded_to(amount: Decimal, step: Decimal, ending: Decimal, mode: str) -> Decimal:
    """The nearest ending + n × step, n a whole number: `halfUp` from the middle up, `up` never less, `down` never
    more."""
    count = EXACT.divide(EXACT.subtract(amount, ending), step)
    if mode == "up":
        whole = count.to_integral_value(ROUND_CEILING)
    elif mode == "down":
        whole = count.to_integral_value(ROUND_FLOOR)
    else:
        whole = EXACT.add(count, Decimal("0.5")).to_integral_value(ROUND_FLOOR)
    return EXACT.add(EXACT.multiply(whole, step), ending)
