"""Whether what was chosen of an offering can be, and what follows from it: pure, with a receipt.

How it counts:

* Only what is chosen counts as chosen. A characteristic that wasn't gets, in this order, what the rules set, its
  default, or the one value that it must have.
* What the rules set is found in rounds: in each, all rules whose premises hold set at once, so that their order can't
  matter. It ends when a round changes nothing. Rules that set one characteristic differently are a conflict (where
  several values are permitted, it gets all of them); rules that never come to rest are refused by name.
* A value that was chosen is never replaced: a rule that would set another leaves it, and only what the rules demand
  (their conclusions other than `set`) can be violated.
* A characteristic that isn't configurable keeps what follows without being chosen; to choose just that is no fault.
* An offering narrows its specification by `prodSpecCharValueUse`: a value must be permitted by both.
* A part of a bundle comes in its default number unless another was chosen within its limits; a part that states no
  numbers comes exactly once, a lower limit that isn't stated is 0, an upper one isn't there. What was chosen of a part
  holds for each of its number. A part in number 0 has no configuration.
* Completing is idempotent: what comes out, chosen again, gives the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from catalog.pricing.receipts import Receipt, ReceiptStep
from catalog.product.characteristics import (
    UNLIMITED,
    Choice,
    Kind,
    Rule,
    choice_of,
    narrowed,
    parse,
)
from catalog.product.consistency import rule_of
from catalog.product.domain import ProductOffering, ProductSpecification
from catalog.product.values import (
    BundledProductOffering,
    ConditionOperator,
    ConfigurationRule,
    ProductSpecificationCharacteristic,
    ProductSpecificationCharacteristicValueUse,
)
from chassis.errors import InvalidArgument, Violation
from chassis.types import Characteristic, EntityRef, Json

ENGINE = "catalog.configuration"
REVISION = "1"
# Rules that need more rounds than this are taken to go on for ever.
_MOST_ROUNDS = 1_000
_MOST_PARTS = 1_000


# --- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Configurable:
    """All that counts of an offering and its specification."""

    id: str
    name: str = ""
    characteristic: tuple[ProductSpecificationCharacteristic, ...] = ()
    rule: tuple[ConfigurationRule, ...] = ()
    use: tuple[ProductSpecificationCharacteristicValueUse, ...] = ()
    part: tuple[BundledProductOffering, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What was chosen of an offering, and of its parts; `number` None: the default one."""

    product_offering_id: str
    number: int | None = None
    characteristic: tuple[Characteristic, ...] = ()
    bundled: tuple["Selection", ...] = ()


def configurable(offering: ProductOffering, specification: ProductSpecification | None) -> Configurable:
    """What counts of the offering; `specification`: its own, if it has one."""
    return Configurable(
        id=offering.id,
        name=offering.name or "",
        characteristic=specification.product_spec_characteristic if specification is not None else (),
        rule=specification.configuration_rule if specification is not None else (),
        use=offering.prod_spec_char_value_use,
        part=offering.bundled_product_offering,
    )


# --- what is answered ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigurationViolation:
    """A rule that what was chosen breaks: `rule` is its name, empty for those that no specification states."""

    path: str
    code: str
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class ConfiguredOffering:
    """An offering with all that was chosen of it and follows from that."""

    product_offering: EntityRef
    number: int
    characteristic: tuple[Characteristic, ...]
    bundled: tuple["ConfiguredOffering", ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The answer and its receipt."""

    valid: bool
    violation: tuple[ConfigurationViolation, ...]
    configuration: ConfiguredOffering
    receipt: Receipt


# --- the configurator ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    offerings: Mapping[str, Configurable]
    at: datetime
    violations: list[ConfigurationViolation] = field(default_factory=list)
    steps: list[ReceiptStep] = field(default_factory=list)
    used: dict[str, Configurable] = field(default_factory=dict)
    room: int = _MOST_PARTS

    def broken(self, path: str, code: str, message: str, rule: str = "") -> None:
        self.violations.append(ConfigurationViolation(path, code, rule, message))
        self.steps.append(ReceiptStep(path, "VIOLATED", rule or code, reason=message))


def configure(selection: Selection, offerings: Mapping[str, Configurable], at: datetime) -> Configuration:
    """Completes what was chosen of an offering, or says what it breaks; `offerings` has all its parts too.

    Raises InvalidArgument UNKNOWN_OFFERING when the offering itself isn't there, TOO_MANY_PARTS.
    """
    if selection.product_offering_id not in offerings:
        why = f"there is no offering {selection.product_offering_id!r}"
        raise InvalidArgument("UNKNOWN_OFFERING", why, violations=[Violation("product_offering_id", why)])
    work = _Work(offerings, at)
    number = 1 if selection.number is None else selection.number
    configured = _configured(work, selection, number, "", ())
    return Configuration(
        valid=not work.violations,
        violation=tuple(work.violations),
        configuration=configured,
        receipt=Receipt(ENGINE, REVISION, Json(_inputs(selection, work)), tuple(work.steps)),
    )


def replay(receipt: Receipt) -> Configuration:
    """The same answer again, from nothing but the receipt. Raises InvalidArgument for one of another engine."""
    if (receipt.engine, receipt.revision) != (ENGINE, REVISION):
        raise InvalidArgument("UNKNOWN_ENGINE", f"{receipt.engine} {receipt.revision} isn't {ENGINE} {REVISION}")
    inputs = _DECODER.decode(receipt.inputs.text)
    return configure(inputs.selection, {offering.id: offering for offering in inputs.offering}, inputs.at)


def _configured(
    work: _Work, selection: Selection, number: int, above: str, within: tuple[str, ...]
) -> ConfiguredOffering:
    offering = work.offerings[selection.product_offering_id]
    work.used[offering.id] = offering
    work.room -= 1
    if work.room < 0:
        raise InvalidArgument("TOO_MANY_PARTS", f"more than {_MOST_PARTS} parts")
    choices = _choices(work, offering, above)
    rules = _rules(offering, choices)
    chosen, given = _chosen(work, selection.characteristic, choices, above)
    values = _completed(work, chosen, choices, rules, above)
    _check_values(work, values, given, choices, rules, above)
    return ConfiguredOffering(
        EntityRef(id=offering.id, name=offering.name or None, at_referred_type=ProductOffering.__name__),
        number,
        tuple(_characteristic(choices[name], values[name]) for name in choices if values.get(name)),
        tuple(_parts(work, offering, selection, above, (*within, offering.id))),
    )


def _choices(work: _Work, offering: Configurable, above: str) -> dict[str, Choice]:
    choices = {c.name or "": choice_of(c, work.at) for c in offering.characteristic}
    choices.pop("", None)
    for use in offering.use:
        if use.valid_for is not None and not use.valid_for.covers(work.at):
            continue
        name = use.name or ""
        if name in choices:
            choices[name] = narrowed(choices[name], use, work.at)
        else:
            reason = f"the specification has no characteristic {name!r}"
            work.steps.append(ReceiptStep(f"{above}characteristic[{name}]", "IGNORED", offering.id, reason=reason))
    return choices


def _rules(offering: Configurable, choices: Mapping[str, Choice]) -> list[Rule]:
    kinds = {name: choice.kind for name, choice in choices.items()}
    return [rule_of(rule, i, kinds) for i, rule in enumerate(offering.rule)]


_Chosen = dict[str, tuple[Any, ...]]


def _chosen(
    work: _Work, characteristics: Iterable[Characteristic], choices: Mapping[str, Choice], above: str
) -> tuple[_Chosen, _Chosen]:
    """What was chosen of the configurable characteristics, and of the others."""
    chosen: _Chosen = {}
    given: _Chosen = {}
    for characteristic in characteristics:
        name = characteristic.name or ""
        path = f"{above}characteristic[{name}]"
        choice = choices.get(name)
        if choice is None:
            work.broken(path, "UNKNOWN_CHARACTERISTIC", f"there is no characteristic {name!r}")
            continue
        if (fault := _wrong_unit(characteristic, choice)) is not None:
            work.broken(path, "UNIT", fault)
        try:
            values = _read(choice, characteristic.value)
        except ValueError as error:
            work.broken(path, "VALUE_TYPE", str(error))
            continue
        if values:
            into = chosen if choice.configurable else given
            into[name] = (*into.get(name, ()), *values)
    return (
        {name: chosen[name] for name in choices if name in chosen},
        {name: given[name] for name in choices if name in given},
    )


def _read(choice: Choice, value: Json | None) -> tuple[Any, ...]:
    if value is None:
        return ()
    stated = parse(value.text)
    if stated is None:
        return ()
    if choice.most != 1 and isinstance(stated, list):
        # Several values of one characteristic; beside that, each may come by itself.
        return tuple(choice.kind.read(Kind.ANY.write(one)) for one in stated)
    return (choice.kind.read(value.text),)


def _wrong_unit(characteristic: Characteristic, choice: Choice) -> str | None:
    if not characteristic.extensions or choice.unit is None:
        return None
    unit = parse(characteristic.extensions).get("unitOfMeasure")
    return None if unit in (None, choice.unit) else f"it is stated in {choice.unit}, not in {unit}"


def _completed(
    work: _Work, chosen: _Chosen, choices: Mapping[str, Choice], rules: Sequence[Rule], above: str
) -> _Chosen:
    """What was chosen with what follows from it."""
    free = [choice for name, choice in choices.items() if name not in chosen]
    values = chosen | {choice.name: choice.settled for choice in free if choice.settled}
    seen = [values]
    while True:
        settings = _settings(rules, values, chosen)
        values = dict(chosen)
        for choice in free:
            found = list(settings.get(choice.name, {}))
            if len(found) > 1 and choice.most == 1:
                found = []
            if found:
                values[choice.name] = tuple(sorted(found, key=choice.kind.write))
            elif choice.settled:
                values[choice.name] = choice.settled
        if values == seen[-1]:
            break
        if values in seen or len(seen) > _MOST_ROUNDS:
            names = ", ".join(sorted({name for by in settings.values() for name in _flat(by.values())}))
            work.broken(f"{above}characteristic", "UNSTABLE", f"{names} never come to rest", names)
            break
        seen.append(values)
    _explain(work, values, chosen, choices, settings, above)
    return {name: values[name] for name in choices if name in values}


def _settings(rules: Sequence[Rule], values: _Chosen, chosen: _Chosen) -> dict[str, dict[Any, list[str]]]:
    """What the rules set now: characteristic → value → the rules that set it so."""
    result: dict[str, dict[Any, list[str]]] = {}
    for rule in rules:
        setting = [c for c in rule.then if c.operator is ConditionOperator.SET and c.characteristic not in chosen]
        if setting and rule.fires(values):
            for condition in setting:
                by = result.setdefault(condition.characteristic, {}).setdefault(condition.operands[0], [])
                by.append(rule.name)
    return result


def _flat(lists: Iterable[list[str]]) -> Iterator[str]:
    for names in lists:
        yield from names


def _explain(
    work: _Work,
    values: _Chosen,
    chosen: _Chosen,
    choices: Mapping[str, Choice],
    settings: Mapping[str, Mapping[Any, list[str]]],
    above: str,
) -> None:
    for name, choice in choices.items():
        path = f"{above}characteristic[{name}]"
        by = settings.get(name, {})
        if len(by) > 1 and choice.most == 1:
            rules = ", ".join(sorted(set(_flat(by.values()))))
            ways = " or ".join(sorted(map(choice.kind.write, by)))
            work.broken(path, "CONFLICT", f"{rules} would set it to {ways}", rules)
        elif name in values:
            after = ", ".join(map(choice.kind.write, values[name]))
            if name in chosen:
                work.steps.append(ReceiptStep(path, "CHOSEN", "", after=after))
            elif by:
                work.steps.append(ReceiptStep(path, "SET", ", ".join(sorted(set(_flat(by.values())))), after=after))
            else:
                action = "DEFAULT" if choice.defaults else "ONLY_VALUE"
                work.steps.append(ReceiptStep(path, action, "", after=after))


def _check_values(
    work: _Work, values: _Chosen, given: _Chosen, choices: Mapping[str, Choice], rules: Sequence[Rule], above: str
) -> None:
    for name, choice in choices.items():
        path = f"{above}characteristic[{name}]"
        had = values.get(name, ())
        if name in given and sorted(map(choice.kind.write, given[name])) != sorted(map(choice.kind.write, had)):
            is_now = ", ".join(map(choice.kind.write, had)) or "nothing"
            work.broken(path, "NOT_CONFIGURABLE", f"it can't be chosen; it is {is_now}")
        for value in had:
            if (why := choice.why_not(value)) is not None:
                work.broken(path, "VALUE_NOT_PERMITTED", why)
        if len(had) < choice.least:
            work.broken(path, "CARDINALITY", f"it has {len(had)} values; at least {choice.least} are needed")
        if choice.most != UNLIMITED and len(had) > choice.most:
            work.broken(path, "CARDINALITY", f"it has {len(had)} values; at most {choice.most} are possible")
        if len(set(had)) < len(had):
            work.broken(path, "CARDINALITY", "a value is there twice")
    for rule in sorted(rules, key=lambda rule: rule.name):
        for condition in rule.broken(values):
            message = rule.message or f"{condition} doesn't hold"
            work.broken(f"{above}characteristic[{condition.characteristic}]", "RULE", message, rule.name)


def _characteristic(choice: Choice, values: tuple[Any, ...]) -> Characteristic:
    texts = [choice.kind.write(value) if choice.kind is not Kind.ANY else value for value in values]
    text = texts[0] if choice.most == 1 and len(texts) == 1 else f"[{','.join(texts)}]"
    return Characteristic(
        name=choice.name,
        value_type=choice.kind.value if choice.kind is not Kind.ANY else None,
        value=Json(text),
        extensions=msgspec.json.encode({"unitOfMeasure": choice.unit}).decode() if choice.unit else None,
    )


def _parts(
    work: _Work, offering: Configurable, selection: Selection, above: str, within: tuple[str, ...]
) -> Iterator[ConfiguredOffering]:
    wanted: dict[str, Selection] = {}
    known = {part.id for part in offering.part}
    for part_selection in selection.bundled:
        key = part_selection.product_offering_id
        path = f"{above}bundled[{key}]"
        if key not in known:
            work.broken(path, "UNKNOWN_PART", f"offering {offering.id} has no part {key!r}")
        elif key in wanted:
            work.broken(path, "DUPLICATE_PART", "it was chosen twice")
        else:
            wanted[key] = part_selection
    for part in offering.part:
        key = part.id or ""
        path = f"{above}bundled[{key}]"
        chosen = wanted.get(key, Selection(product_offering_id=key))
        least, most = limits(part)
        number = part.default_number if chosen.number is None else chosen.number
        if number < least or (most is not None and number > most):
            upper = "" if most is None else f" and at most {most}"
            work.broken(f"{path}.number", "NUMBER_OF_PARTS", f"{number} of it; at least {least}{upper} belong to one")
        work.steps.append(
            ReceiptStep(path, "NUMBER" if chosen.number is not None else "DEFAULT_NUMBER", "", after=str(number))
        )
        if key not in work.offerings or key in within:
            work.broken(path, "UNKNOWN_PART", f"there is no offering {key!r}")
        elif number > 0:
            yield _configured(work, chosen, number, f"{path}.", within)


def limits(part: BundledProductOffering) -> tuple[int, int | None]:
    """The least and the most of a part that may belong to one bundle; None: as many as one likes."""
    option = part.bundled_product_offering_option
    if option is None:
        return 1, 1
    return option.number_rel_offer_lower_limit or 0, option.number_rel_offer_upper_limit


# --- receipts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Inputs:
    at: datetime
    selection: Selection
    offering: tuple[Configurable, ...]


def _encoded(value: Any) -> Any:
    if isinstance(value, Json):
        try:
            return msgspec.Raw(Kind.ANY.write(parse(value.text)).encode())
        except ValueError:
            return msgspec.Raw(value.text.encode())
    raise TypeError(f"no JSON form for {type(value)}")


def _decoded(kind: type, value: Any) -> Any:
    if kind is Json:
        return Json(_ENCODER.encode(value).decode())
    raise TypeError(f"no JSON form for {kind}")


_ENCODER = msgspec.json.Encoder(enc_hook=_encoded, decimal_format="number")
_DECODER = msgspec.json.Decoder(_Inputs, dec_hook=_decoded, float_hook=Decimal)


def _inputs(selection: Selection, work: _Work) -> str:
    used = tuple(work.used[key] for key in sorted(work.used))
    return _ENCODER.encode(_Inputs(work.at, selection, used)).decode()
