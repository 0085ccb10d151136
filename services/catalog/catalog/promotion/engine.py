"""What promotions take off a cart of priced charges, and why: pure, exact, every step in words.

How it counts (the rules are those of Sylius' promotions, https://docs.sylius.com, which others have tested for years):

* A list-price promotion lowers the price of a unit before anything else; what it lowered counts as discounted. A unit
  price that was in whole minor units stays so; a finer one (0.0067 a message) isn't rounded, only what the line costs.
* Cart promotions come one after the other, the smallest priority number first, each judged by the cart as those before
  have left it. Two that could meet have different priorities: else nobody would know which is first, so it is refused.
* An exclusive promotion wins alone: the first one whose conditions the cart meets is the only one, even if nothing that
  it is for is in the cart (as in Sylius' PromotionProcessor). Of a group the first that takes something off is the only
  one. List prices don't depend on the cart: of them the first that lowers a line is the only one there, and a promotion
  of the cart isn't granted beside one of its group that has lowered any line.
* An amount or percentage off the order is taken from the charges of one basket (one currency, kind and charge period)
  together, each as it is quoted, with tax or without. It is split over their units in proportion to what they cost,
  exact to the minor unit by the largest remainder; what a charge can't bear, because its units may not fall below their
  floor, the others bear.
* An amount or percentage off a unit reckons from the price of a unit before cart promotions, so two of 10 % are 20 %.
* No unit ever falls below its floor, which is 0 unless it has another one; a charge that is a credit is left alone.
* Percentages are rounded to the minor unit, half away from zero: of a basket once, of a unit once a unit, or once a
  line where the unit's price is finer than that. Of an amount finer than the minor unit the rest isn't granted.
* What isn't known of the buyer meets no condition, not even that it isn't something.
* The cart is what is bought now. What is held already has what it was sold with (`held`), counts for no condition and
  is granted nothing: a promotion for newcomers doesn't lower what others pay.
* Delivery is charged and discounted apart: only what is off delivery touches it, and no total contains it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal, localcontext
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from catalog.pricing import periods
from catalog.pricing.money import EXACT, minor_unit, rounded, split
from chassis.types import Duration, TimePeriod

_ZERO, _HUNDRED = Decimal(0), Decimal(100)
_ALWAYS = TimePeriod()


# --- what promotions are ---------------------------------------------------------------------------------------------


class Fact(StrEnum):
    """What a condition can be about."""

    QUANTITY = "quantity"
    TOTAL = "total"
    PRODUCT = "product"
    CATEGORY = "category"
    CATEGORY_TOTAL = "categoryTotal"
    SEGMENT = "segment"
    ORDER_NUMBER = "orderNumber"
    PLACE = "place"
    CHANNEL = "channel"
    BRANCH = "branch"
    AGREEMENT = "agreement"

    @property
    def numeric(self) -> bool:
        """Whether it is compared as a number; the others are names, which are there or not."""
        return self in _NUMERIC

    @property
    def about_cart(self) -> bool:
        """Whether it is about what is in the cart, not about who buys, when and where."""
        return self in _ABOUT_CART


_NUMERIC = frozenset({Fact.QUANTITY, Fact.TOTAL, Fact.CATEGORY_TOTAL, Fact.ORDER_NUMBER})
_ABOUT_CART = frozenset({Fact.QUANTITY, Fact.TOTAL, Fact.PRODUCT, Fact.CATEGORY, Fact.CATEGORY_TOTAL})

COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "=": lambda one, other: one == other,
    "<>": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
EQUALITIES = frozenset({"=", "<>"})


@dataclass(frozen=True, slots=True)
class Condition:
    """A fact compared with a value; `of`: the category that a category's total is of."""

    fact: Fact
    operator: str
    value: str
    of: str = ""

    def __str__(self) -> str:
        return f"{self.fact}{f' of {self.of}' if self.of else ''} {self.operator} {self.value}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions of which all, or (`any_of`) one, must hold; a rule without any always holds."""

    conditions: "tuple[Condition | Rule, ...]" = ()
    any_of: bool = False


class Off(StrEnum):
    """What an action takes something off."""

    ORDER = "order"
    UNIT = "unit"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Filter:
    """The charges that an action is for: where several things are stated, a charge must fit each of them."""

    products: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    kind: str = ""
    period: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """An amount or a percentage off; of recurring charges for a `duration`, or (None) for as long as they run."""

    off: Off
    percentage: Decimal | None = None
    amount: Decimal | None = None
    filter: Filter = Filter()
    # Units don't fall below this by it.
    floor: Decimal = _ZERO
    duration: Duration | None = None

    @property
    def note(self) -> str:
        """For how long, in words."""
        return f"for {self.duration.amount} {self.duration.units or 'periods'}" if self.duration else ""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What is granted to carts that meet a rule, at certain times."""

    rule: Rule
    actions: tuple[Action, ...]
    valid_for: TimePeriod = _ALWAYS


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promotion as the engine knows it; the smaller priority comes first. `currency`: of its amounts, if any."""

    id: str
    name: str
    priority: int
    patterns: tuple[Pattern, ...]
    exclusive: bool = False
    # Of the promotions of one group the first that takes something off is the only one.
    exclusion_group: str = ""
    needs_coupon: bool = False
    # Whether it touches what a list-price promotion (or an alteration) has lowered already.
    applies_to_discounted: bool = True
    on_list_price: bool = False
    currency: str = ""
    valid_for: TimePeriod = _ALWAYS
    # When a coupon for it was redeemed for this very order: what was valid then is granted.
    redeemed_at: datetime | None = None


# --- what they are applied to ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A charge of the cart: `amount` for `quantity` units of `item`, in whole minor units, before promotions.

    `id` is what a receipt calls it by.
    """

    id: str
    item: str
    quantity: int
    amount: Decimal
    # The names by which rules and filters may mean it: offering, its series, its specification …
    products: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    kind: str = "oneTime"
    period: str = ""
    currency: str = "USD"
    floor: Decimal = _ZERO
    discounted: bool = False
    delivery: bool = False
    # What the charge is called.
    name: str = ""


@dataclass(frozen=True, slots=True)
class Coupon:
    """A coupon as it was entered; `refused` says why it can't be used, if it can't."""

    code: str
    promotion: str
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Cart:
    """What is bought, by whom, when and where; what isn't known of the buyer is left out."""

    lines: tuple[Line, ...]
    at: datetime
    coupons: tuple[Coupon, ...] = ()
    # How many things are bought; None: as many as the lines' items say.
    quantity: int | None = None
    segments: frozenset[str] = frozenset()
    # How many orders the customer placed before; None: unknown.
    orders_before: int | None = None
    places: frozenset[str] = frozenset()
    channel: str = ""
    branch: str = ""
    agreement: str = ""


# --- what comes of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done (or not), about a line or a promotion, by which promotion."""

    subject: str
    action: str
    rule: str
    before: str | None = None
    after: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """What one action of a promotion took off a line: a positive amount."""

    promotion: str
    pattern: int
    action: int
    amount: Decimal


@dataclass(slots=True)
class Promoted:
    """A line after promotions."""

    line: Line
    # What its units cost before cart promotions; list-price promotions have lowered it.
    unit_price: Decimal
    amount: Decimal
    discounted: bool
    cuts: list[Cut] = field(default_factory=list)

    def unit_cuts(self, promotion: str | None = None) -> list[Decimal]:
        """What was taken off each unit (by one promotion), the units that bear a minor unit more first."""
        total = sum((cut.amount for cut in self.cuts if promotion in (None, cut.promotion)), _ZERO)
        return split(total, [Decimal(1)] * self.line.quantity, minor_unit(self.line.currency))


@dataclass(slots=True)
class Outcome:
    """The cart after promotions: its lines in their order, and the promotions that took something off, in theirs."""

    lines: list[Promoted]
    applied: list[str]
    steps: list[Step]
    # Code → why it changed nothing; None: it did.
    coupons: dict[str, str | None]


class UnclearOrderError(ValueError):
    """Two promotions of one priority, so that nobody knows which comes first."""

    def __init__(self, one: Promotion, other: Promotion) -> None:
        super().__init__(f"promotions {one.id} and {other.id} both have the priority {one.priority}")
        self.promotions = (one.id, other.id)


def promote(cart: Cart, promotions: Iterable[Promotion]) -> Outcome:
    """What the promotions make of the cart. In whatever order they are given: the answer is the same.

    Of those of one priority the one that was valid first comes first.

    Raises UnclearOrderError for two of one priority that are valid at one time.
    """
    ordered = sorted(promotions, key=lambda one: (one.priority, periods.start_of(one.valid_for), one.id))
    for one, other in pairwise(ordered):
        end = one.valid_for.end_date_time
        if one.priority == other.priority and (end is None or periods.start_of(other.valid_for) < end):
            raise UnclearOrderError(one, other)
    with localcontext(EXACT):
        return _Promoter(cart, ordered).run()


class _Promoter:
    def __init__(self, cart: Cart, promotions: Sequence[Promotion]) -> None:
        self._cart = cart
        self._promotions = promotions
        self._lines = [Promoted(line, line.amount / line.quantity, line.amount, line.discounted) for line in cart.lines]
        self._applied: list[str] = []
        self._steps: list[Step] = []
        self._why_not: dict[str, str] = {}

    def run(self) -> Outcome:
        on_list: list[Promotion] = []
        on_cart: list[Promotion] = []
        for promotion in self._promotions:
            if not self._valid(promotion.valid_for, promotion):
                self._reject(promotion, "isn't valid at that time")
            elif promotion.needs_coupon and (reason := self._coupon_obstacle(promotion)):
                self._reject(promotion, reason)
            else:
                (on_list if promotion.on_list_price else on_cart).append(promotion)
        self._lower_list_prices(on_list)
        self._promote(on_cart)
        coupons = {
            coupon.code: coupon.refused
            or (
                None
                if coupon.promotion in self._applied
                else self._why_not.get(coupon.promotion, "its promotion isn't on offer")
            )
            for coupon in self._cart.coupons
        }
        return Outcome(self._lines, self._applied, self._steps, coupons)

    def _coupon_obstacle(self, promotion: Promotion) -> str | None:
        entered = [coupon for coupon in self._cart.coupons if coupon.promotion == promotion.id]
        if not entered:
            return "it needs a coupon"
        return None if any(coupon.refused is None for coupon in entered) else entered[0].refused

    def _valid(self, period: TimePeriod, promotion: Promotion) -> bool:
        """Whether it is on offer now, or was when the order redeemed its coupon."""
        return period.covers(promotion.redeemed_at or self._cart.at)

    def _reject(self, promotion: Promotion, reason: str) -> None:
        self._why_not[promotion.id] = reason
        self._steps.append(Step("", "PROMOTION_REJECTED", promotion.id, reason=f"{promotion.name}: {reason}"))

    # --- list prices ---

    def _lower_list_prices(self, promotions: Sequence[Promotion]) -> None:
        # An exclusive one is the only one for a line that it is for.
        ordered = [*(p for p in promotions if p.exclusive), *(p for p in promotions if not p.exclusive)]
        eligible = [(p, patterns) for p in ordered if (patterns := self._eligible(p))]
        for promoted in self._lines:
            alone = None
            groups: dict[str, str] = {}
            for promotion, patterns in eligible:
                actions = [
                    (i, k, action)
                    for i, pattern in patterns
                    for k, action in enumerate(pattern.actions)
                    if self._fits(promoted, action, promotion)
                ]
                if not actions:
                    continue
                group = promotion.exclusion_group
                if alone is not None or group in groups:
                    why = f"{groups[group]} excludes it" if alone is None else f"{alone} is exclusive"
                    reason = f"{promotion.name}: {why}"
                    self._steps.append(Step(promoted.line.id, "PROMOTION_REJECTED", promotion.id, reason=reason))
                    continue
                lowered = [self._lower_list_price(promoted, promotion, *one) for one in actions]
                if any(lowered):
                    alone = promotion.name if promotion.exclusive else None
                    if group:
                        groups[group] = promotion.name
        for promotion, _ in eligible:
            if promotion.id not in self._applied:
                self._reject(promotion, "nothing that it is for can be lowered")

    def _lower_list_price(
        self, promoted: Promoted, promotion: Promotion, pattern: int, index: int, action: Action
    ) -> bool:
        line = promoted.line
        floor = max(line.floor, action.floor)
        if promoted.unit_price <= floor:
            reason = f"{promotion.name}: it is at its minimum price"
            self._steps.append(Step(line.id, "PROMOTION_REJECTED", promotion.id, reason=reason))
            return False
        if action.percentage is not None:
            lowered = promoted.unit_price * (1 - action.percentage / _HUNDRED)
        else:
            lowered = promoted.unit_price - _whole(action.amount or _ZERO, line.currency)
        if _whole(promoted.unit_price, line.currency) == promoted.unit_price:
            lowered = rounded(lowered, line.currency)
        lowered = max(lowered, floor)
        taken = min(promoted.amount - rounded(lowered * line.quantity, line.currency), _room(promoted, action))
        if not self._cut(promoted, promotion, pattern, index, action, taken):
            return False
        promoted.unit_price, promoted.discounted = lowered, True
        return True

    # --- the cart ---

    def _promote(self, promotions: Sequence[Promotion]) -> None:
        groups = {p.exclusion_group: p.name for p in self._promotions if p.exclusion_group and p.id in self._applied}
        open_to = []
        for promotion in promotions:
            if promotion.exclusion_group in groups:
                self._reject(promotion, f"{groups[promotion.exclusion_group]} excludes it")
            else:
                open_to.append(promotion)
        exclusive = ((p, patterns) for p in open_to if p.exclusive and (patterns := self._eligible(p)))
        winner, patterns = next(exclusive, (None, []))
        if winner is not None:
            self._apply(winner, patterns)
        for promotion in open_to:
            if promotion is winner or promotion.id in self._why_not:
                continue
            if winner is not None:
                self._reject(promotion, f"{winner.name} is exclusive")
            elif promotion.exclusion_group in groups:
                self._reject(promotion, f"{groups[promotion.exclusion_group]} excludes it")
            elif (found := self._eligible(promotion)) and self._apply(promotion, found) and promotion.exclusion_group:
                groups[promotion.exclusion_group] = promotion.name

    def _eligible(self, promotion: Promotion) -> list[tuple[int, Pattern]]:
        """Its patterns whose conditions hold; none: it is rejected, and why is said."""
        found, reasons = [], []
        for i, pattern in enumerate(promotion.patterns):
            reason = None if self._valid(pattern.valid_for, promotion) else "isn't valid at that time"
            reason = reason or self._failing(pattern.rule, promotion)
            if reason is None:
                found.append((i, pattern))
            else:
                reasons.append(reason)
        if not found:
            self._reject(promotion, "; ".join(dict.fromkeys(reasons)) or "it grants nothing")
        return found

    def _failing(self, rule: Rule | Condition, promotion: Promotion) -> str | None:
        """Why a rule doesn't hold; None: it does."""
        if isinstance(rule, Condition):
            return self._unmet(rule, promotion)
        failing = [reason for part in rule.conditions if (reason := self._failing(part, promotion)) is not None]
        if rule.any_of and len(failing) < len(rule.conditions):
            return None
        return (" and " if rule.any_of else "; ").join(failing) or None

    def _unmet(self, condition: Condition, promotion: Promotion) -> str | None:
        if condition.fact.numeric:
            number = self._number(condition, promotion)
            if number is not None and COMPARISONS[condition.operator](number, Decimal(condition.value)):
                return None
            return f"{condition} doesn't hold: it is {'unknown' if number is None else f'{number:f}'}"
        names = self._names(condition.fact)
        if not (names or condition.fact.about_cart):
            return f"{condition} doesn't hold: it is unknown"
        present = condition.value in names
        return None if present == (condition.operator == "=") else f"{condition} doesn't hold"

    def _number(self, condition: Condition, promotion: Promotion) -> Decimal | None:
        items = [p for p in self._lines if not p.line.delivery]
        match condition.fact:
            case Fact.QUANTITY if self._cart.quantity is not None:
                return Decimal(self._cart.quantity)
            case Fact.QUANTITY:
                return Decimal(sum({p.line.item: p.line.quantity for p in items}.values()))
            case Fact.ORDER_NUMBER:
                before = self._cart.orders_before
                return None if before is None else Decimal(before + 1)
            case Fact.CATEGORY_TOTAL:
                items = [p for p in items if condition.of in p.line.categories]
        return sum((p.amount for p in items if promotion.currency in ("", p.line.currency)), _ZERO)

    def _names(self, fact: Fact) -> frozenset[str]:
        cart = self._cart
        items = [p.line for p in self._lines if not p.line.delivery]
        return {
            Fact.PRODUCT: lambda: frozenset[str]().union(*(line.products for line in items)),
            Fact.CATEGORY: lambda: frozenset[str]().union(*(line.categories for line in items)),
            Fact.SEGMENT: lambda: cart.segments,
            Fact.PLACE: lambda: cart.places,
            Fact.CHANNEL: lambda: frozenset(filter(None, (cart.channel,))),
            Fact.BRANCH: lambda: frozenset(filter(None, (cart.branch,))),
            Fact.AGREEMENT: lambda: frozenset(filter(None, (cart.agreement,))),
        }[fact]()

    def _apply(self, promotion: Promotion, patterns: Iterable[tuple[int, Pattern]]) -> bool:
        """Whether any of its actions took something off."""
        effect = False
        for i, pattern in patterns:
            for k, action in enumerate(pattern.actions):
                fitting = [promoted for promoted in self._lines if self._fits(promoted, action, promotion)]
                if action.off is Off.ORDER:
                    effect |= self._cut_baskets(fitting, promotion, i, k, action)
                else:
                    effect |= self._cut_units(fitting, promotion, i, k, action)
        if not effect:
            self._reject(promotion, "nothing that it is for can be lowered")
        return effect

    def _fits(self, promoted: Promoted, action: Action, promotion: Promotion) -> bool:
        line, wanted = promoted.line, action.filter
        return (
            line.delivery == (action.off is Off.DELIVERY)
            and (promotion.applies_to_discounted or not promoted.discounted)
            and promotion.currency in ("", line.currency)
            and (not wanted.products or not wanted.products.isdisjoint(line.products))
            and (not wanted.categories or not wanted.categories.isdisjoint(line.categories))
            and (wanted.price_min is None or promoted.unit_price >= wanted.price_min)
            and (wanted.price_max is None or promoted.unit_price <= wanted.price_max)
            and wanted.kind in ("", line.kind)
            and wanted.period in ("", line.period)
        )

    def _cut_units(
        self, fitting: Sequence[Promoted], promotion: Promotion, pattern: int, index: int, action: Action
    ) -> bool:
        effect = False
        for promoted in fitting:
            line = promoted.line
            if action.percentage is not None:
                each = promoted.unit_price * action.percentage / _HUNDRED
                if _whole(promoted.unit_price, line.currency) == promoted.unit_price:
                    each = rounded(each, line.currency)
            else:
                each = _whole(action.amount or _ZERO, line.currency)
            taken = min(rounded(each * line.quantity, line.currency), _room(promoted, action))
            effect |= self._cut(promoted, promotion, pattern, index, action, taken)
        return effect

    def _cut_baskets(
        self, fitting: Sequence[Promoted], promotion: Promotion, pattern: int, index: int, action: Action
    ) -> bool:
        baskets: dict[tuple[str, str, str], list[Promoted]] = {}
        for promoted in fitting:
            if promoted.amount > 0:
                line = promoted.line
                baskets.setdefault((line.currency, line.kind, line.period), []).append(promoted)
        effect = False
        for (currency, *_), basket in baskets.items():
            total = sum((promoted.amount for promoted in basket), _ZERO)
            if action.percentage is not None:
                wanted = rounded(total * action.percentage / _HUNDRED, currency)
            else:
                wanted = _whole(action.amount or _ZERO, currency)
            parts = [Share(p.amount, p.line.quantity, _room(p, action)) for p in basket]
            shares = spread(wanted, parts, minor_unit(currency))
            if len(basket) > 1 and any(shares):
                said = " + ".join(f"{share:f}" for share in shares)
                shared = f"{sum(shares, _ZERO):f} {currency}"
                self._steps.append(Step("", "DISCOUNT_SPLIT", promotion.id, None, shared, said))
            for promoted, share in zip(basket, shares, strict=True):
                effect |= self._cut(promoted, promotion, pattern, index, action, share)
        return effect

    def _cut(
        self, promoted: Promoted, promotion: Promotion, pattern: int, index: int, action: Action, amount: Decimal
    ) -> bool:
        if amount <= 0:
            return False
        before, promoted.amount = promoted.amount, rounded(promoted.amount - amount, promoted.line.currency)
        self._took(promoted, promotion, pattern, index, action, before)
        return True

    def _took(
        self, promoted: Promoted, promotion: Promotion, pattern: int, index: int, action: Action, before: Decimal
    ) -> None:
        promoted.cuts.append(Cut(promotion.id, pattern, index, before - promoted.amount))
        if promotion.id not in self._applied:
            self._applied.append(promotion.id)
        line = promoted.line
        self._steps.append(
            Step(
                line.id,
                "PROMOTION_APPLIED",
                promotion.id,
                f"{before:f} {line.currency}",
                f"{promoted.amount:f} {line.currency}",
                "; ".join(filter(None, (promotion.name, line.name, action.note))),
            )
        )


def _room(promoted: Promoted, action: Action) -> Decimal:
    """How much can still be taken off before a unit falls below its floor."""
    line = promoted.line
    floor = max(line.floor, action.floor) * line.quantity
    return max(_whole(promoted.amount - floor, line.currency), _ZERO)


def _whole(amount: Decimal, currency: str) -> Decimal:
    """As much of an amount as whole minor units make."""
    step = minor_unit(currency)
    return (amount / step).to_integral_value(ROUND_FLOOR) * step


@dataclass(frozen=True, slots=True)
class Share:
    """What bears a part of a total: equal units that weigh so much together, and how much they can bear."""

    weight: Decimal
    quantity: int
    room: Decimal


def spread(total: Decimal, over: Sequence[Share], step: Decimal) -> list[Decimal]:
    """The total, or as much of it as there is room for, in parts proportional to the weights, none beyond its room.

    All are multiples of `step`, none negative. It is split over the single units by the largest remainder, of equal
    remainders the earlier first, as if each were a part of its own; what a part has no room for goes to those that
    have, in proportion too.
    """
    shares = [0] * len(over)
    rooms = [int(part.room / step) for part in over]
    left = min(int(total / step), sum(rooms))
    open_to = [i for i, part in enumerate(over) if part.weight > 0 and rooms[i] > 0]
    while left > 0 and open_to:
        whole = sum(Fraction(over[i].weight) for i in open_to)
        # All units of a part bear the same, but for the minor units that are left over.
        each = {i: left * Fraction(over[i].weight) / over[i].quantity / whole for i in open_to}
        spare = left - sum(int(each[i]) * over[i].quantity for i in open_to)
        for i in sorted(open_to, key=lambda i: (int(each[i]) - each[i], i)):
            more = min(spare, over[i].quantity)
            spare -= more
            part = min(int(each[i]) * over[i].quantity + more, rooms[i] - shares[i])
            shares[i] += part
            left -= part
        open_to = [i for i in open_to if shares[i] < rooms[i]]
    return [share * step for share in shares]
