"""Tariff templates: a specification, a grid and price formulas; and the family of offerings that follows from them."""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from catalog.generation.formula import EXACT, Formula, FormulaError, Value, parse, rounded_to
from catalog.pricing.money import minor_unit
from catalog.product.domain import ONE_TIME, RECURRING, kind_of_price
from catalog.product.values import ExistingSubscribers
from chassis.errors import InvalidArgument, Violation
from chassis.types import Aggregate, EntityRef, Extensible, Json, ProductSpecificationRef

MAX_CELLS = 2_000
# Of a whole family: what is reckoned for a caller who waits, in the process that also prices, and then written while
# nobody else writes to the catalog. A million parts are reckoned in about a second.
MAX_PRICES, MAX_PARTS = 10_000, 1_000_000
_MAX_VALUES = 500
# Of a template's axes, constants, prices and exclusions each; characters of a value and a pattern; digits of a number.
_MAX_STATED, _MAX_CHARACTERS, _MAX_DIGITS = 100, 1_000, 100
# An amount has 64 bits of whole units.
_LARGEST = Decimal(10**15)
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")
_WORD = re.compile(r"[\w.+/-]+")
_HOLE = re.compile(r"\{([^{}]*)\}")
_CURRENCY = re.compile("[A-Z]{3}")
_RESERVED = frozenset(
    {"and", "or", "not", "in", "if", "else", "is", "True", "False", "None", "lambda", "for", "min", "max", "abs",
     "ceil", "floor"}
)  # fmt: skip


_A_VALUE = f"is a number, a text, true or false, of at most {_MAX_CHARACTERS} characters and {_MAX_DIGITS} digits"


class AxisKind(StrEnum):
    """What a value of an axis means for the offering."""

    CHARACTERISTIC = "characteristic"
    TERM = "term"
    MARKET_SEGMENT = "marketSegment"
    PARAMETER = "parameter"


class RoundingMode(StrEnum):
    """Which of the two amounts around it an amount becomes."""

    HALF_UP = "halfUp"
    UP = "up"
    DOWN = "down"


class CellAction(StrEnum):
    """What generating does, or would do, with a cell."""

    CREATE = "create"
    CHANGE = "change"
    NEW_VERSION = "newVersion"
    UNCHANGED = "unchanged"
    PROPOSE_RETIREMENT = "proposeRetirement"


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateAxis(Extensible):
    """A dimension of the grid."""

    name: str | None = None
    kind: AxisKind | None = None
    characteristic: str | None = None
    unit: str | None = None
    value: tuple[Json, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateConstant(Extensible):
    """A name for a value that formulas use."""

    name: str | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateExclusion(Extensible):
    """Cells that aren't made."""

    when: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateRounding(Extensible):
    """The amounts that a price may have: ending + n × step."""

    step: Decimal | None = None
    ending: Decimal | None = None
    mode: RoundingMode | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplatePrice(Extensible):
    """A price of every cell, or of those for which `when` is true."""

    name_pattern: str | None = None
    price_type: str | None = None
    recurring_charge_period_type: str | None = None
    recurring_charge_period_length: int | None = None
    formula: str | None = None
    currency: str | None = None
    rounding: TemplateRounding | None = None
    when: str | None = None
    tax_category: str | None = None
    tax_included: bool | None = None
    charge: str | None = None


@dataclass(frozen=True, slots=True)
class CellPrice:
    """What a price of a cell comes to; `index`: of the template's price."""

    index: int
    name: str
    exact: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the grid, with what follows for it."""

    key: str
    values: Mapping[str, Value]
    name: str
    description: str | None
    prices: tuple[CellPrice, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """All cells, and those that were excluded with why."""

    cells: tuple[Cell, ...]
    excluded: Mapping[str, str]


class GenerationState(StrEnum):
    """How the writing of a family stands that takes several steps."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(kw_only=True, eq=False)
class TariffTemplate(Aggregate):
    """What a family of tariffs is generated from."""

    name: str | None = None
    description: str | None = None
    product_specification: ProductSpecificationRef | None = None
    category: tuple[EntityRef, ...] = ()
    channel: tuple[EntityRef, ...] = ()
    place: tuple[EntityRef, ...] = ()
    eligible_branch: tuple[str, ...] = ()
    axis: tuple[TemplateAxis, ...] = ()
    constant: tuple[TemplateConstant, ...] = ()
    price: tuple[TemplatePrice, ...] = ()
    exclusion: tuple[TemplateExclusion, ...] = ()
    name_pattern: str | None = None
    description_pattern: str | None = None
    cell_limit: int | None = None
    existing_subscribers: ExistingSubscribers | None = None

    def check(self, at: datetime) -> None:
        """Raises InvalidArgument BAD_TEMPLATE naming everything that is wrong."""
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        super().revise(changes, at)
        self._check()

    def family(self) -> Family:
        """Every cell with its prices. Raises InvalidArgument BAD_TEMPLATE, or BAD_FORMULA naming the cells."""
        self._check()
        return _Generator(self).family()

    def _check(self) -> None:
        wrong = list(_faults(self))
        if wrong:
            raise InvalidArgument("BAD_TEMPLATE", f"{wrong[0].field}: {wrong[0].description}", violations=wrong)


def read_value(value: Json | None) -> Value | None:
    """A number, a text or a truth; None: it is none of them, or too long to be written for each cell."""
    if value is None or len(value.text) > _MAX_CHARACTERS:
        return None
    try:
        found = json.loads(value.text, parse_float=Decimal, parse_int=Decimal, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, Decimal) and abs(found.adjusted()) > _MAX_DIGITS:
        return None
    return found if isinstance(found, Decimal | str | bool) else None


def shown(value: Value) -> str:
    """A value in a name or key: 100 and 100.0 are the same."""
    if isinstance(value, Decimal):
        text = format(value.normalize(), "f")
        return text if text != "-0" else "0"
    return str(value).lower() if isinstance(value, bool) else value


# --- what is wrong with a template -----------------------------------------------------------------------------------


def _faults(template: TariffTemplate) -> Iterable[Violation]:
    for name in ("axis", "constant", "exclusion", "price"):
        if len(getattr(template, name)) > _MAX_STATED:
            yield Violation(name, f"more than {_MAX_STATED}")
            return
    wrong = list(_wrongly_stated(template))
    yield from wrong or _too_much(template)


def _too_much(template: TariffTemplate) -> Iterable[Violation]:
    """Whether the family would be too much to reckon at once, for a template that is right otherwise."""
    cells = math.prod(len(axis.value) for axis in template.axis)
    prices = cells * len(template.price)
    if prices > MAX_PRICES:
        yield Violation("price", f"the family has {prices} prices, {MAX_PRICES} are the most: split the template")
    formulas = [one.when for one in template.exclusion]
    formulas += [text for price in template.price for text in (price.formula, price.when)]
    patterns = [template.name_pattern, template.description_pattern, *(price.name_pattern for price in template.price)]
    parts = sum(parse(text).parts for text in formulas if text)
    parts += sum(1 + pattern.count("{") for pattern in patterns if pattern)
    if cells * parts > MAX_PARTS:
        reason = f"{cells} cells with {parts} parts of formulas each are more than {MAX_PARTS}: split the template"
        yield Violation("price", reason)


def _wrongly_stated(template: TariffTemplate) -> Iterable[Violation]:
    names: set[str] = set()
    cells = 1
    for i, axis in enumerate(template.axis):
        yield from _bad_axis(f"axis[{i}]", axis, names)
        cells *= max(1, len(axis.value))
    limit = MAX_CELLS if template.cell_limit is None else template.cell_limit
    if not 1 <= limit <= MAX_CELLS:
        yield Violation("cell_limit", f"is between 1 and {MAX_CELLS}")
    elif cells > limit:
        yield Violation("axis", f"the grid has {cells} cells, {limit} are the most: split the template")
    for i, constant in enumerate(template.constant):
        yield from _bad_name(f"constant[{i}].name", constant.name, names)
        if read_value(constant.value) is None:
            yield Violation(f"constant[{i}].value", _A_VALUE)
    for i, exclusion in enumerate(template.exclusion):
        yield from _bad_formula(f"exclusion[{i}].when", exclusion.when, names)
    for i, price in enumerate(template.price):
        yield from _bad_price(f"price[{i}]", price, names)
    yield from _bad_pattern("name_pattern", template.name_pattern, names)
    yield from _bad_pattern("description_pattern", template.description_pattern, names)


def _bad_axis(path: str, axis: TemplateAxis, names: set[str]) -> Iterable[Violation]:
    yield from _bad_name(f"{path}.name", axis.name, names)
    if not axis.value:
        yield Violation(f"{path}.value", "an axis has values")
    if len(axis.value) > _MAX_VALUES:
        yield Violation(f"{path}.value", f"more than {_MAX_VALUES}")
        return
    seen: set[str] = set()
    for k, text in enumerate(axis.value):
        value = read_value(text)
        if value is None:
            yield Violation(f"{path}.value[{k}]", _A_VALUE)
            continue
        if shown(value) in seen:
            yield Violation(f"{path}.value[{k}]", f"{shown(value)} is there twice")
        seen.add(shown(value))
        if axis.kind is AxisKind.TERM and not _term(value):
            yield Violation(f"{path}.value[{k}]", "a term is a whole number, 0 for none")


def _term(value: Value) -> bool:
    return isinstance(value, Decimal) and value >= 0 and value == value.to_integral_value() and value < 1_000


def _bad_name(path: str, name: str | None, names: set[str]) -> Iterable[Violation]:
    if not name or not _NAME.fullmatch(name) or name in _RESERVED:
        yield Violation(path, "is a name of letters, digits and underscores that means nothing else in a formula")
    elif name in names:
        yield Violation(path, f"{name} is there twice")
    else:
        names.add(name)


def _bad_formula(path: str, text: str | None, names: set[str]) -> Iterable[Violation]:
    if not text or not text.strip():
        yield Violation(path, "required")
        return
    try:
        formula = parse(text)
    except FormulaError as error:
        yield Violation(path, str(error))
        return
    for name in sorted(formula.names - names):
        yield Violation(path, f"{name} is neither an axis nor a constant")


def _bad_price(path: str, price: TemplatePrice, names: set[str]) -> Iterable[Violation]:
    yield from _bad_formula(f"{path}.formula", price.formula, names)
    if price.when is not None:
        yield from _bad_formula(f"{path}.when", price.when, names)
    yield from _bad_pattern(f"{path}.name_pattern", price.name_pattern, names)
    if not price.currency or not _CURRENCY.fullmatch(price.currency):
        yield Violation(f"{path}.currency", "an amount is in a currency of ISO 4217, such as KGS")
    kind = kind_of_price(price.price_type, price.recurring_charge_period_type)
    if kind not in (ONE_TIME, RECURRING):
        yield Violation(f"{path}.price_type", f"is {ONE_TIME} or {RECURRING}")
    elif kind == RECURRING and not price.recurring_charge_period_type:
        yield Violation(f"{path}.recurring_charge_period_type", "a recurring price says how often it recurs")
    if price.rounding is not None:
        step, ending = steps(price)
        if step <= 0:
            yield Violation(f"{path}.rounding.step", "is more than 0")
        elif not 0 <= ending < step:
            yield Violation(f"{path}.rounding.ending", f"is at least 0 and less than the step, {step}")
        elif price.currency and any(part % minor_unit(price.currency) for part in (step, ending)):
            yield Violation(
                f"{path}.rounding", f"{price.currency} has no amounts finer than {minor_unit(price.currency)}"
            )


def _bad_pattern(path: str, pattern: str | None, names: set[str]) -> Iterable[Violation]:
    if pattern and len(pattern) > _MAX_CHARACTERS:
        yield Violation(path, f"has more than {_MAX_CHARACTERS} characters")
        return
    for name in _HOLE.findall(pattern or ""):
        if name not in names:
            yield Violation(path, f"{{{name}}} is neither an axis nor a constant")
    if any(brace in _HOLE.sub("", pattern or "") for brace in "{}"):
        yield Violation(path, "has a brace that isn't one of a pair")


def steps(price: TemplatePrice) -> tuple[Decimal, Decimal]:
    """Step and ending of the price's rounding."""
    rounding = price.rounding or TemplateRounding()
    ending = rounding.ending or Decimal(0)
    step = rounding.step
    if step is None:
        step = Decimal(1) if rounding.ending is not None else minor_unit(price.currency or "")
    return step, ending


# --- the family ------------------------------------------------------------------------------------------------------


class _Generator:
    """Reckons the cells of a template that has been checked."""

    def __init__(self, template: TariffTemplate) -> None:
        self._template = template
        self._constants = _values((one.name, one.value) for one in template.constant)
        self._exclusions = [(parse(one.when or ""), one.reason) for one in template.exclusion]
        self._prices = [
            (parse(one.formula or ""), parse(one.when) if one.when is not None else None) for one in template.price
        ]
        self._wrong: list[Violation] = []

    def family(self) -> Family:
        """Raises InvalidArgument BAD_FORMULA with every cell (the first 100) that can't be reckoned."""
        cells: list[Cell] = []
        excluded: dict[str, str] = {}
        axes = [(axis.name or "", [read_value(value) for value in axis.value]) for axis in self._template.axis]
        for chosen in itertools.product(*(values for _, values in axes)):
            grid = {name: value for (name, _), value in zip(axes, chosen, strict=True) if value is not None}
            key = key_of(grid)
            variables = {**self._constants, **grid}
            reason = self._excluded(key, variables)
            if reason is not None:
                excluded[key] = reason
                continue
            prices = tuple(self._price(i, key, variables) for i in range(len(self._prices)))
            cells.append(
                Cell(
                    key,
                    grid,
                    self._named(self._template.name_pattern, variables) or f"{self._template.name} {key}".strip(),
                    self._named(self._template.description_pattern, variables),
                    tuple(price for price in prices if price is not None),
                )
            )
        if self._wrong:
            first = self._wrong[0]
            raise InvalidArgument("BAD_FORMULA", f"{first.field}: {first.description}", violations=self._wrong[:100])
        return Family(tuple(cells), excluded)

    def _excluded(self, key: str, variables: Mapping[str, Value]) -> str | None:
        for i, (formula, reason) in enumerate(self._exclusions):
            if self._reckoned(f"exclusion[{i}].when", key, lambda f=formula: f.holds(variables)):  # type: ignore[misc]
                return reason or formula.text
        return None

    def _price(self, index: int, key: str, variables: Mapping[str, Value]) -> CellPrice | None:
        price = self._template.price[index]
        formula, when = self._prices[index]
        if when is not None and not self._reckoned(f"price[{index}].when", key, lambda: when.holds(variables)):
            return None
        exact = self._reckoned(f"price[{index}].formula", key, lambda: _not_negative(formula, variables))
        if exact is None:
            return None
        step, ending = steps(price)
        mode = price.rounding.mode if price.rounding is not None and price.rounding.mode else RoundingMode.HALF_UP
        amount = rounded_to(exact, step, ending, mode)
        if amount < 0:
            self._wrong.append(Violation(f"price[{index}].rounding", f"{key}: {exact} would become {amount}"))
            return None
        amount = amount.quantize(minor_unit(price.currency or ""), context=EXACT)
        name = self._named(price.name_pattern, variables)
        return CellPrice(index, name or formula.text[:100], exact, amount)

    def _reckoned(self, path: str, key: str, reckon: Callable[[], Any]) -> Any:
        """What the formula gives for the cell; None (and a fault that names the cell) when it gives nothing."""
        try:
            return reckon()
        except FormulaError as error:
            self._wrong.append(Violation(path, f"{key or 'the cell'}: {error}"))
            return None

    @staticmethod
    def _named(pattern: str | None, variables: Mapping[str, Value]) -> str | None:
        return None if not pattern else _HOLE.sub(lambda hole: shown(variables[hole[1]]), pattern)


def _not_negative(formula: Formula, variables: Mapping[str, Value]) -> Decimal:
    found = formula.amount(variables)
    if not 0 <= found < _LARGEST:
        raise FormulaError(f"gives {found}: a price is from 0 to less than {_LARGEST:,}")
    return found


def _values(pairs: Iterable[tuple[str | None, Json | None]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, text in pairs:
        value = read_value(text)
        if name and value is not None:
            found[name] = value
    return found


def key_of(values: Mapping[str, Value]) -> str:
    """What tells a cell from the others, whatever the order of the axes."""
    return " ".join(f"{name}={_quoted(shown(value))}" for name, value in sorted(values.items()))


def _quoted(text: str) -> str:
    # So that no text can look like another name's value.
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def parts_of(template: TariffTemplate, cell: Cell) -> Sequence[tuple[TemplateAxis, Value]]:
    """Each axis with the cell's value."""
    return [(axis, cell.values[axis.name]) for axis in template.axis if axis.name and axis.name in cell.values]
