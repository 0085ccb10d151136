"""Kill Bill catalogs: the XML as plain values, and everything that is wrong with it.

Elements are those of Kill Bill's catalog schema. A catalog is taken over whole or, when anything is wrong, not at all;
then every error is told, as Kill Bill's own validation would. What is odd but allowed is only reported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from catalog.transfer.domain import Content, ContentError, File

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element as Node

UNLIMITED = "UNLIMITED"
NO_PERIOD = "NO_BILLING_PERIOD"
DEFAULT_LIST = "DEFAULT"

_CATEGORIES = ("BASE", "ADD_ON", "STANDALONE")
_PHASES = ("TRIAL", "DISCOUNT", "FIXEDTERM", "EVERGREEN")
_UNITS = ("DAYS", "WEEKS", "MONTHS", "YEARS", UNLIMITED)
_MODES = ("IN_ADVANCE", "IN_ARREAR")
_USAGES = ("CONSUMABLE", "CAPACITY")
_TIERS = ("ALL_TIERS", "TOP_TIER")
_BLOCKS = ("VANILLA", "TOP_UP")
# Period → length and unit.
PERIODS = {
    "DAILY": (1, "day"),
    "WEEKLY": (1, "week"),
    "BIWEEKLY": (2, "week"),
    "THIRTY_DAYS": (30, "day"),
    "THIRTY_ONE_DAYS": (31, "day"),
    "SIXTY_DAYS": (60, "day"),
    "NINETY_DAYS": (90, "day"),
    "MONTHLY": (1, "month"),
    "BIMESTRIAL": (2, "month"),
    "QUARTERLY": (3, "month"),
    "TRIANNUAL": (4, "month"),
    "BIANNUAL": (6, "month"),
    "ANNUAL": (1, "year"),
    "SESQUIENNIAL": (18, "month"),
    "BIENNIAL": (2, "year"),
    "TRIENNIAL": (3, "year"),
}
_POLICIES = ("IMMEDIATE", "START_OF_TERM", "END_OF_TERM", "ILLEGAL")

# Kind of rule → what its cases give, out of what; and whether one case must be for everything.
RULES: dict[str, tuple[str, Sequence[str], bool]] = {
    "changePolicy": ("policy", _POLICIES, True),
    "changeAlignment": (
        "alignment", ("START_OF_BUNDLE", "START_OF_SUBSCRIPTION", "CHANGE_OF_PLAN", "CHANGE_OF_PRICELIST"), False
    ),
    "cancelPolicy": ("policy", _POLICIES, True),
    "createAlignment": ("alignment", ("START_OF_BUNDLE", "START_OF_SUBSCRIPTION"), False),
    "billingAlignment": ("alignment", ("ACCOUNT", "BUNDLE", "SUBSCRIPTION"), False),
    "priceList": ("toPriceList", (), False),
}  # fmt: skip
# What a case may ask for, and what that names.
_NAMES = {"product": "product", "fromProduct": "product", "toProduct": "product",
          "priceList": "price list", "fromPriceList": "price list", "toPriceList": "price list"}  # fmt: skip
_CHOICES = {
    "phaseType": _PHASES,
    "productCategory": _CATEGORIES, "fromProductCategory": _CATEGORIES, "toProductCategory": _CATEGORIES,
    "billingPeriod": (*PERIODS, NO_PERIOD), "fromBillingPeriod": (*PERIODS, NO_PERIOD),
    "toBillingPeriod": (*PERIODS, NO_PERIOD),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Duration:
    """A stretch of time; no number: without end."""

    unit: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Amounts:
    """A price in several currencies; `empty`: nothing was stated, which means 0 in each."""

    values: dict[str, Decimal]
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a unit: at most, at least."""

    unit: str
    maximum: Decimal | None
    minimum: Decimal | None


@dataclass(frozen=True, slots=True)
class Block:
    """So many units for a price; `maximum`: so many blocks at most, None: any number."""

    unit: str
    size: Decimal
    prices: Amounts
    maximum: Decimal | None
    kind: str
    minimum_credit: Decimal | None


@dataclass(frozen=True, slots=True)
class Tier:
    """What counts as far as its limits or blocks go."""

    limits: tuple[Limit, ...]
    blocks: tuple[Block, ...]
    fixed: Amounts | None
    recurring: Amounts | None


@dataclass(frozen=True, slots=True)
class Usage:
    """A section about what is used."""

    name: str
    title: str | None
    mode: str
    kind: str
    tier_policy: str
    period: str
    limits: tuple[Limit, ...]
    blocks: tuple[Block, ...]
    tiers: tuple[Tier, ...]
    fixed: Amounts | None
    recurring: Amounts | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a subscription."""

    kind: str
    title: str | None
    duration: Duration
    fixed: Amounts | None
    period: str
    recurring: Amounts | None
    usages: tuple[Usage, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is subscribed to."""

    name: str
    title: str | None
    product: str
    existing_from: datetime | None
    mode: str | None
    phases: tuple[Phase, ...]
    in_bundle: int | None


@dataclass(frozen=True, slots=True)
class Product:
    """What plans are of."""

    name: str
    title: str | None
    category: str
    included: tuple[str, ...]
    available: tuple[str, ...]
    limits: tuple[Limit, ...]


@dataclass
class Catalog:
    """One version of a catalog."""

    file: str
    name: str = ""
    effective: datetime | None = None
    mode: str = ""
    currencies: list[str] = field(default_factory=list)
    units: dict[str, str | None] = field(default_factory=dict)
    products: dict[str, Product] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    # Name → title and plans; the default list is the first.
    price_lists: dict[str, tuple[str | None, list[str]]] = field(default_factory=dict)
    default_list: str = ""
    # Kind → cases in their order, of which the first that fits counts.
    rules: dict[str, list[dict[str, str]]] = field(default_factory=dict)


def parse(file: File, content: Content) -> Catalog:
    """The catalog that the file holds; what is wrong with it becomes findings. Raises ContentError for what isn't XML,
    or isn't such a catalog at all."""
    try:
        root = fromstring(file.data, forbid_dtd=True)
    except ParseError as error:
        raise ContentError(f"{file.name}:{error.position[0]} isn't XML: {error}") from error
    except (DefusedXmlException, ValueError, LookupError) as error:
        raise ContentError(f"{file.name} isn't read: {error}") from error
    if root.tag != "catalog":
        raise ContentError(f"{file.name} isn't a Kill Bill catalog: it is a {root.tag}")
    return _Reader(file.name, root, content).catalog


class _Reader:
    """One file."""

    def __init__(self, name: str, root: "Node", content: Content) -> None:
        self.content = content
        self.catalog = Catalog(name)
        content.rows_read += sum(1 for _ in root.iter())
        self._seen: set[int] = {id(root)}
        self._head(root)
        # Names come first: everything else refers to them.
        for node in self._each(root, "products", "product"):
            self._product(node)
        for node in self._each(root, "plans", "plan"):
            self._plan(node)
        self._price_lists(root)
        self._product_references()
        self._plan_references()
        self._rules(root)
        self._unknown(root, "catalog")

    # --- reading nodes ---

    def _error(self, path: str, reason: str, code: str = "INVALID", element: str = "") -> None:
        self.content.refuse(code, reason, place=f"{self.catalog.file}#{path}", element=element)

    def _note(self, path: str, reason: str, code: str) -> None:
        self.content.report(code, reason, place=f"{self.catalog.file}#{path}")

    def _child(self, node: "Node", name: str) -> "Node | None":
        found = node.findall(name)
        for one in found:
            self._seen.add(id(one))
        if len(found) > 1:
            self._error(f"{node.tag}/{name}", "is there more than once")
        return found[0] if found else None

    def _each(self, node: "Node", name: str, each: str) -> "list[Node]":
        wrapper = self._child(node, name)
        found = [] if wrapper is None else wrapper.findall(each)
        self._seen.update(id(one) for one in found)
        return found

    def _text(self, node: "Node", name: str) -> str:
        child = self._child(node, name)
        return "" if child is None else (child.text or "").strip()

    def _choice(self, node: "Node", name: str, path: str, values: Sequence[str], default: str | None = None) -> str:
        return self._chosen(self._text(node, name), name, path, values, default)

    def _chosen(self, text: str, name: str, path: str, values: Sequence[str], default: str | None = None) -> str:
        if not text and default is not None:
            return default
        if text not in values:
            self._error(f"{path}/{name}", f"{text!r} isn't one of {', '.join(values)}" if text else "required")
        return text

    def _number(self, node: "Node", name: str, path: str) -> Decimal | None:
        text = self._text(node, name)
        if not text:
            return None
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or abs(value.adjusted()) > 15 or len(value.as_tuple().digits) > 30:
            self._error(f"{path}/{name}", f"{text!r} isn't a number")
            return None
        return value

    def _instant(self, node: "Node", name: str, path: str) -> datetime | None:
        text = self._text(node, name)
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self._error(f"{path}/{name}", f"{text!r} isn't a date with a time (ISO 8601)")
            return None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)

    def _unknown(self, node: "Node", path: str) -> None:
        """Names what nobody has looked at: it isn't taken over."""
        for child in node:
            where = f"{path}/{child.tag}"
            if id(child) in self._seen or child.tag in _WRAPPERS:
                self._unknown(child, where)
            else:
                self._note(where, "isn't known here, so it isn't taken over", "UNKNOWN_ELEMENT")

    def _name(self, node: "Node", kind: str, taken: Iterable[str]) -> str:
        name = node.get("name", "").strip()
        if not name:
            self._error(f"{kind}s/{kind}", "has no name", "REQUIRED")
        elif name in taken:
            self._error(f"{kind}s/{kind}", f"another {kind} has the same name", "DUPLICATE", name)
        return name

    # --- head ---

    def _head(self, root: "Node") -> None:
        known = self.catalog
        known.name = self._text(root, "catalogName")
        if not known.name:
            self._error("catalogName", "required", "REQUIRED")
        known.effective = self._instant(root, "effectiveDate", "catalog")
        if known.effective is None and not self._text(root, "effectiveDate"):
            self._error("effectiveDate", "required", "REQUIRED")
        known.mode = self._choice(root, "recurringBillingMode", "catalog", _MODES, "IN_ADVANCE")
        for node in self._each(root, "currencies", "currency"):
            currency = (node.text or "").strip()
            if not (len(currency) == 3 and currency.isascii() and currency.isalpha() and currency.isupper()):
                self._error("currencies", f"{currency!r} isn't a currency of three letters")
            elif currency in known.currencies:
                self._error("currencies", f"{currency} is there twice", "DUPLICATE")
            else:
                known.currencies.append(currency)
        if not known.currencies:
            self._error("currencies", "a catalog has at least one currency", "REQUIRED")
        for node in self._each(root, "units", "unit"):
            name = self._name(node, "unit", known.units)
            known.units[name] = node.get("prettyName")

    # --- products ---

    def _product(self, node: "Node") -> None:
        name = self._name(node, "product", self.catalog.products)
        path = f"products/{name}"
        self.catalog.products[name] = Product(
            name,
            node.get("prettyName"),
            self._choice(node, "category", path, _CATEGORIES),
            self._addons(node, "included"),
            self._addons(node, "available"),
            self._limits(node, path),
        )

    def _addons(self, node: "Node", section: str) -> tuple[str, ...]:
        return tuple((one.text or "").strip() for one in self._each(node, section, "addonProduct"))

    def _product_references(self) -> None:
        products = self.catalog.products
        for product in products.values():
            for section, names in (("included", product.included), ("available", product.available)):
                path = f"products/{product.name}/{section}"
                for name in dict.fromkeys(names):
                    if name == product.name:
                        self._error(path, "a product can't have itself as an add-on", "SELF_REFERENCE", product.name)
                    elif name not in products:
                        self._error(path, f"there is no product {name!r}", "UNKNOWN_PRODUCT", product.name)
                    elif products[name].category != "ADD_ON":
                        self._note(path, f"{name} isn't an ADD_ON but {products[name].category}", "NOT_AN_ADD_ON")
                if len(set(names)) < len(names):
                    self._note(path, "an add-on is named twice", "REPEATED")
            for name in sorted(set(product.included) & set(product.available) - {product.name}):
                self._note(f"products/{product.name}", f"{name} is both included and available", "REPEATED")

    def _limits(self, node: "Node", path: str) -> tuple[Limit, ...]:
        return tuple(self._limit(one, f"{path}/limits") for one in self._each(node, "limits", "limit"))

    def _limit(self, node: "Node", path: str) -> Limit:
        unit = self._unit(node, path)
        maximum, minimum = self._number(node, "max", path), self._number(node, "min", path)
        # −1 stands for as much as anybody likes.
        maximum = None if maximum == -1 else maximum
        minimum = None if minimum == -1 else minimum
        if maximum is not None and minimum is not None and maximum < minimum:
            self._error(path, f"the most of {unit} is less than the least")
        return Limit(unit, maximum, minimum)

    def _unit(self, node: "Node", path: str) -> str:
        name = self._text(node, "unit")
        if name not in self.catalog.units:
            self._error(f"{path}/unit", f"there is no unit {name!r}", "UNKNOWN_UNIT")
        return name

    # --- plans ---

    def _plan(self, node: "Node") -> None:
        name = self._name(node, "plan", self.catalog.plans)
        path = f"plans/{name}"
        known = self.catalog
        existing = self._instant(node, "effectiveDateForExistingSubscriptions", path)
        if existing is not None and known.effective is not None and existing < known.effective:
            reason = f"{existing.isoformat()} is before the catalog's own {known.effective.isoformat()}"
            self._error(f"{path}/effectiveDateForExistingSubscriptions", reason, "TOO_EARLY", name)
        mode = self._choice(node, "recurringBillingMode", path, _MODES, "")
        product = self._text(node, "product")
        phases = [self._phase(one, path, "initial") for one in self._each(node, "initialPhases", "phase")]
        final = self._child(node, "finalPhase")
        if final is None:
            self._error(f"{path}/finalPhase", "a plan has a final phase", "REQUIRED", name)
        else:
            phases.append(self._phase(final, path, "final"))
        number = self._number(node, "plansAllowedInBundle", path)
        if number is not None and (number != int(number) or (number < 1 and number != -1)):
            self._error(f"{path}/plansAllowedInBundle", "is a number from 1, or -1 for any number")
            number = None
        in_bundle = None if number is None else int(number)
        known.plans[name] = Plan(
            name, node.get("prettyName"), product, existing, mode or None, tuple(phases), in_bundle
        )

    def _plan_references(self) -> None:
        listed = {plan for _, plans in self.catalog.price_lists.values() for plan in plans}
        for plan in self.catalog.plans.values():
            if plan.product not in self.catalog.products:
                self._error(
                    f"plans/{plan.name}/product", f"there is no product {plan.product!r}", "UNKNOWN_PRODUCT", plan.name
                )
            if plan.name not in listed:
                self._note(f"plans/{plan.name}", "no price list has it, so nobody could choose it", "UNLISTED_PLAN")

    def _phase(self, node: "Node", path: str, position: str) -> Phase:
        kind = self._chosen(node.get("type", "").strip(), "type", f"{path}/{position}Phase", _PHASES)
        path = f"{path}/{kind}"
        if position == "initial" and kind in ("EVERGREEN",):
            self._error(path, f"a first phase can't be {kind}: nothing would come after it", "PHASE_ORDER")
        if position == "final" and kind in ("TRIAL", "DISCOUNT"):
            self._error(path, f"the last phase can't be a {kind}", "PHASE_ORDER")
        duration = self._duration(node, path)
        if position == "initial" and kind != "EVERGREEN" and duration.unit == UNLIMITED:
            self._error(f"{path}/duration", "a phase that isn't the last one ends", "PHASE_ORDER")
        fixed, recurring = self._child(node, "fixed"), self._child(node, "recurring")
        usages = self._each(node, "usages", "usage")
        if fixed is None and recurring is None and not usages:
            self._error(path, "a phase has a fixed, a recurring or a usage section", "NO_PRICE")
        period, amounts = NO_PERIOD, None
        if recurring is not None:
            period, amounts = self._recurring(recurring, f"{path}/recurring")
        return Phase(
            kind,
            node.get("prettyName"),
            duration,
            None if fixed is None else self._amounts(fixed, "fixedPrice", f"{path}/fixed"),
            period,
            amounts,
            tuple(self._usage(one, path) for one in usages),
        )

    def _duration(self, node: "Node", path: str) -> Duration:
        child = self._child(node, "duration")
        path = f"{path}/duration"
        if child is None:
            self._error(path, "a phase has a duration", "REQUIRED")
            return Duration(UNLIMITED, None)
        unit = self._choice(child, "unit", path, _UNITS)
        number = self._number(child, "number", path)
        number = None if number == -1 else number
        if number is not None and (number != int(number) or number < 1):
            self._error(path, f"{number} isn't a number of whole units from 1", "BAD_DURATION")
        elif unit == UNLIMITED and number is not None:
            self._error(path, "what is UNLIMITED has no number", "BAD_DURATION")
        elif unit != UNLIMITED and number is None:
            self._error(path, f"a number of {unit} is missing", "BAD_DURATION")
        return Duration(unit, None if number is None else int(number))

    def _recurring(self, node: "Node", path: str) -> tuple[str, Amounts | None]:
        period = self._choice(node, "billingPeriod", path, (*PERIODS, NO_PERIOD))
        stated = self._child(node, "recurringPrice") is not None
        amounts = self._amounts(node, "recurringPrice", path) if stated else None
        if period == NO_PERIOD and amounts is not None and any(amounts.values.values()):
            self._error(path, "a recurring price needs a billing period", "NO_PERIOD")
        if period != NO_PERIOD and amounts is None:
            self._error(path, "a billing period needs a recurring price", "NO_PRICE")
        return period, amounts

    # --- amounts ---

    def _amounts(self, node: "Node", name: str, path: str) -> Amounts:
        section = self._child(node, name)
        return Amounts({}, empty=True) if section is None else self._prices(section, f"{path}/{name}")

    def _prices(self, section: "Node", path: str) -> Amounts:
        found: dict[str, Decimal] = {}
        nodes = section.findall("price")
        self._seen.update(id(one) for one in nodes)
        for node in nodes:
            currency = self._text(node, "currency")
            value = self._number(node, "value", path)
            if currency not in self.catalog.currencies:
                self._error(path, f"{currency!r} isn't a currency of this catalog", "UNKNOWN_CURRENCY")
            elif currency in found:
                self._error(path, f"there are two prices in {currency}", "DUPLICATE")
            elif value is None:
                if not self._text(node, "value"):
                    self._error(path, f"the price in {currency} has no value", "REQUIRED")
            elif value < 0:
                self._error(path, f"the price in {currency} is negative", "NEGATIVE_PRICE")
            else:
                found[currency] = value
        missing = [currency for currency in self.catalog.currencies if currency not in found]
        if nodes and missing and found:
            self._note(path, f"there is no price in {', '.join(missing)}", "MISSING_CURRENCY")
        return Amounts(found, empty=not nodes)

    # --- usage ---

    def _usage(self, node: "Node", path: str) -> Usage:
        name = node.get("name", "").strip()
        if not name:
            self._error(f"{path}/usage", "has no name", "REQUIRED")
        path = f"{path}/{name}"

        def chosen(attribute: str, values: Sequence[str], default: str | None = None) -> str:
            return self._chosen(node.get(attribute, "").strip(), attribute, path, values, default)

        mode, kind = chosen("billingMode", _MODES), chosen("usageType", _USAGES)
        usage = Usage(
            name,
            node.get("prettyName"),
            mode,
            kind,
            chosen("tierBlockPolicy", _TIERS, "ALL_TIERS"),
            self._choice(node, "billingPeriod", path, (*PERIODS, NO_PERIOD)),
            self._limits(node, path),
            tuple(self._block(one, f"{path}/blocks") for one in self._each(node, "blocks", "block")),
            tuple(self._tier(one, f"{path}/tiers") for one in self._each(node, "tiers", "tier")),
            self._optional(node, "fixedPrice", path),
            self._optional(node, "recurringPrice", path),
        )
        self._check_usage(usage, path)
        return usage

    def _check_usage(self, usage: Usage, path: str) -> None:
        """What each kind of usage needs."""
        if usage.mode == "IN_ARREAR" and not usage.tiers:
            self._error(path, "usage in arrear is priced by tiers", "NO_PRICE")
        elif usage.mode == "IN_ADVANCE" and usage.kind == "CONSUMABLE" and not usage.blocks:
            self._error(path, "units bought in advance come in blocks", "NO_PRICE")
        elif usage.mode == "IN_ADVANCE" and usage.kind == "CAPACITY" and not usage.limits:
            self._error(path, "a capacity bought in advance has limits", "NO_PRICE")
        for number, tier in enumerate(usage.tiers):
            if usage.kind == "CONSUMABLE" and not tier.blocks:
                self._error(f"{path}/tiers[{number}]", "a tier of consumables has blocks", "NO_PRICE")
            if usage.kind == "CAPACITY" and not tier.limits:
                self._error(f"{path}/tiers[{number}]", "a tier of a capacity has limits", "NO_PRICE")
            units = [block.unit for block in tier.blocks]
            if len(set(units)) < len(units):
                self._error(f"{path}/tiers[{number}]", "two blocks are of one unit", "DUPLICATE")
        for unit in dict.fromkeys(block.unit for tier in usage.tiers for block in tier.blocks):
            widths = [block.maximum for tier in usage.tiers for block in tier.blocks if block.unit == unit]
            if None in widths[:-1]:
                self._error(path, f"a tier of {unit} without end isn't the last one", "TIER_ORDER")

    def _optional(self, node: "Node", name: str, path: str) -> Amounts | None:
        return None if self._child(node, name) is None else self._amounts(node, name, path)

    def _tier(self, node: "Node", path: str) -> Tier:
        return Tier(
            self._limits(node, path),
            tuple(self._block(one, f"{path}/blocks") for one in self._each(node, "blocks", "tieredBlock")),
            self._optional(node, "fixedPrice", path),
            self._optional(node, "recurringPrice", path),
        )

    def _block(self, node: "Node", path: str) -> Block:
        unit = self._unit(node, path)
        size = self._number(node, "size", path)
        if size is None or size <= 0:
            self._error(f"{path}/size", "a block has a size above 0")
            size = Decimal(1)
        maximum = self._number(node, "max", path)
        if node.tag == "tieredBlock" and maximum is None and not self._text(node, "max"):
            self._error(f"{path}/max", "a tier says how many blocks it has; -1: any number", "REQUIRED")
        if maximum is not None and maximum != -1 and maximum <= 0:
            self._error(f"{path}/max", "a tier has room, or -1 for any number")
        kind = self._chosen(node.get("type", "").strip(), "type", path, _BLOCKS, "VANILLA")
        credit = self._number(node, "minTopUpCredit", path)
        if kind == "TOP_UP" and credit is None:
            self._error(f"{path}/minTopUpCredit", "what is topped up says at which credit", "REQUIRED")
        if kind != "TOP_UP" and credit is not None:
            self._error(f"{path}/minTopUpCredit", "is for blocks that are topped up")
        prices = self._amounts(node, "prices", path)
        return Block(unit, size, prices, None if maximum in (None, Decimal(-1)) else maximum, kind, credit)

    # --- price lists ---

    def _price_lists(self, root: "Node") -> None:
        section = self._child(root, "priceLists")
        default = None if section is None else self._child(section, "defaultPriceList")
        if section is None or default is None:
            self._error("priceLists", "a catalog has a default price list", "REQUIRED")
            return
        children = section.findall("childPriceList")
        self._seen.update(id(one) for one in children)
        for node in (default, *children):
            name = self._name(node, "priceList", self.catalog.price_lists)
            if node is default:
                self.catalog.default_list = name
                if name != DEFAULT_LIST:
                    self._error("priceLists", f"the default list is called {DEFAULT_LIST}, not {name!r}", "BAD_NAME")
            elif name == DEFAULT_LIST:
                self._error("priceLists", f"only the default list is called {DEFAULT_LIST}", "BAD_NAME")
            plans = [(one.text or "").strip() for one in self._each(node, "plans", "plan")]
            path = f"priceLists/{name}"
            for plan in dict.fromkeys(plans):
                if plan not in self.catalog.plans:
                    self._error(path, f"there is no plan {plan!r}", "UNKNOWN_PLAN", name)
                if plans.count(plan) > 1:
                    self._error(path, f"the plan {plan} is there twice", "DUPLICATE", name)
            self._alike(name, plans)
            self.catalog.price_lists[name] = (node.get("prettyName"), list(dict.fromkeys(plans)))

    def _alike(self, name: str, plans: Sequence[str]) -> None:
        """Kill Bill also looks a plan up by product and period: two answers are none."""
        found: dict[tuple[str, str], list[str]] = {}
        for plan in dict.fromkeys(plans):
            known = self.catalog.plans.get(plan)
            if known is not None and known.phases:
                found.setdefault((known.product, known.phases[-1].period), []).append(plan)
        for (product, period), several in found.items():
            if len(several) > 1:
                reason = f"{', '.join(several)} are all of {product} and {period}: only their names tell them apart"
                self._note(f"priceLists/{name}", reason, "AMBIGUOUS_PLAN")

    # --- rules ---

    def _rules(self, root: "Node") -> None:
        section = self._child(root, "rules")
        if section is None:
            self._error("rules", "a catalog has rules", "REQUIRED")
            return
        for kind, (result, values, needs_default) in RULES.items():
            cases = [
                self._case(node, f"rules/{kind}", result, values) for node in self._each(section, kind, f"{kind}Case")
            ]
            self.catalog.rules[kind] = cases
            self._check_cases(kind, result, cases, needs_default)

    def _case(self, node: "Node", path: str, result: str, values: Sequence[str]) -> dict[str, str]:
        case = {}
        for child in node:
            name, text = child.tag, (child.text or "").strip()
            self._seen.add(id(child))
            if not text:
                continue
            case[name] = text
            if name == result and values:
                self._chosen(text, name, path, values)
            elif name in _CHOICES:
                self._chosen(text, name, path, _CHOICES[name])
            elif name in _NAMES:
                known: Any = self.catalog.products if _NAMES[name] == "product" else self.catalog.price_lists
                if text not in known:
                    code = "UNKNOWN_PRODUCT" if _NAMES[name] == "product" else "UNKNOWN_PRICE_LIST"
                    self._error(f"{path}/{name}", f"there is no {_NAMES[name]} {text!r}", code)
            elif name != result:
                self._error(f"{path}/{name}", "isn't something that a rule asks for")
        if result not in case:
            self._error(path, f"a case without {result} decides nothing", "REQUIRED")
        return case

    def _check_cases(self, kind: str, result: str, cases: Sequence[dict[str, str]], needs_default: bool) -> None:
        path = f"rules/{kind}"
        seen: list[dict[str, str]] = []
        asked: list[dict[str, str]] = []
        default = None
        for number, case in enumerate(cases):
            when = {name: value for name, value in case.items() if name != result}
            if case in seen:
                self._error(path, f"the same case is there twice: {_told(case)}", "DUPLICATE_RULE")
            elif default is not None:
                self._note(path, f"never applies, after a case for everything: {_told(case)}", "UNREACHABLE_RULE")
            elif when in asked:
                self._note(path, f"never applies, after another for the same: {_told(case)}", "UNREACHABLE_RULE")
            seen.append(case)
            asked.append(when)
            if not when and default is None:
                default = number
        if needs_default and default is None:
            self._error(path, "no case is for everything else", "MISSING_DEFAULT_RULE")


# Elements whose children are looked at one by one.
_WRAPPERS = frozenset(
    {"products", "plans", "plan", "currencies", "units", "included", "available", "initialPhases", "usages", "limits",
     "blocks", "tiers", "rules", *RULES}
)  # fmt: skip


def _told(case: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in case.items())


def catalogs(files: Sequence[File], content: Content) -> list[Catalog]:
    """The versions that the files hold, oldest first. Raises ContentError with every error of all of them."""
    found = [parse(file, content) for file in files]
    _check_versions(found, content)
    refused = [finding for finding in content.findings if finding.kind == "refused"]
    if refused:
        raise ContentError(f"the catalog has {len(refused)} errors", content.findings)
    return sorted(found, key=_effective)


def _effective(version: Catalog) -> datetime:
    return version.effective or datetime.min.replace(tzinfo=UTC)


def _check_versions(found: Sequence[Catalog], content: Content) -> None:
    names = list(dict.fromkeys(one.name for one in found if one.name))
    if len(names) > 1:
        content.refuse("SEVERAL_CATALOGS", f"the files are of several catalogs: {', '.join(names)}")
    seen: dict[datetime, str] = {}
    for one in found:
        if one.effective is not None:
            if one.effective in seen:
                reason = f"{seen[one.effective]} takes effect at the same time"
                content.refuse("DUPLICATE", reason, place=one.file, field="effectiveDate")
            seen[one.effective] = one.file
