"""Which versions, parts, prices and alterations count for what was asked, and why the others don't."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from catalog.pricing import periods
from catalog.pricing.conditions import CHARACTERISTIC, SUBJECTS, Condition, Facts, Value, known_of, unmet
from catalog.pricing.offers import (
    TERMINATION,
    USAGE,
    Alteration,
    Charge,
    Level,
    Offer,
    Part,
    Term,
)
from catalog.pricing.receipts import ReceiptStep
from catalog.pricing.rules import Rules
from catalog.pricing.usage import needs_events
from catalog.pricing.values import Item, PricingContext, Stage
from catalog.product.domain import CHARGES, DRAFTS, LifecycleStatus, sale_obstacle
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Duration, TimePeriod

MAX_LINES = 1_000
_MAX_NUMBER = 2**31 - 1
# A charge, the phase that it is in, and its alterations by priority if they don't depend on anything.
Held = tuple[Charge, Stage | None, tuple[Level, ...] | None]
# What prices compete for: a kind of charge in a phase; None: in an offering without phases.
_Slot = tuple[str, Stage | None]


@dataclass(slots=True)
class Line:
    """An offering in its place: below its bundle, in its number, with the charges that count."""

    offer: Offer
    item: Item
    index: int
    subject: str
    quantity: int
    held: Sequence[Held]
    # What each kind of charge has a price in.
    currencies: Sequence[frozenset[str]]
    notes: list[ReceiptStep]
    bundled: "list[Line]"
    # The phases that are listed.
    stages: Sequence[Stage] = ()

    def all(self) -> Iterable["Line"]:
        """Itself and all below it."""
        yield self
        for line in self.bundled:
            yield from line.all()


class _NotSellableError(Exception):
    def __init__(self, offer: Offer, why: str) -> None:
        super().__init__(why)
        self.offer = offer
        self.why = why


class _UnstatedError(Exception):
    """Prices depend on something that the request doesn't say."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(violations[0].description)
        self.violations = violations


@dataclass
class Selection:
    """The choice for one request. `first_rules`: by the rules of receipts of revision 1, which knew no usage."""

    offers: Mapping[str, Offer]
    rules: Rules
    context: PricingContext
    first_rules: bool = False
    # By the rules of receipts of revisions 1 and 2: bundles override and discount what their parts' use costs as other
    # charges, and when limited alterations end isn't stated.
    second_rules: bool = False
    # Beside the offers of the lines: every version that could have been chosen where there was a choice, and the parts
    # that aren't taken, by id.
    considered: dict[str, Offer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._room = MAX_LINES
        self._versions: dict[str, list[Offer]] = {}
        for offer in self.offers.values():
            if offer.series != offer.id:
                self._versions.setdefault(offer.series, []).append(offer)
        self._ranks: dict[str, tuple[int, int, int, int] | None] = {}
        # The version that was chosen for each item.
        self._tops: dict[int, Offer] = {}
        asked = self.context
        known: dict[str, Sequence[Value]] = {
            "marketSegment": asked.market_segment,
            "agreement": (asked.agreement_id,) if asked.agreement_id else (),
            "customer": (asked.customer_id,) if asked.customer_id else (),
        }
        # Where and how one buys is always somewhere and somehow: what isn't stated isn't known.
        stated = {"branch": asked.branch, "channel": asked.channel}
        known |= {subject: (value,) for subject, value in stated.items() if value}
        if asked.place:
            known["place"] = asked.place
        self._known = known

    # --- lines -------------------------------------------------------------------------------------------------------

    def lines(self, items: Sequence[Item]) -> list[Line]:
        """What is priced for each item. Raises what `catalog.pricing.pricing.price` says of its offerings."""
        lines: list[Line] = []
        unsold: list[Violation] = []
        unstated: list[Violation] = []
        metadata: dict[str, str] = {}
        for i, item in enumerate(items):
            try:
                lines.append(self._top(i, item))
            except _NotSellableError as error:
                unsold.append(Violation(field_of(i), error.why))
                metadata = metadata or {
                    "product_offering_id": error.offer.id,
                    "lifecycle_status": error.offer.status,
                }
            except _UnstatedError as error:
                unstated += error.violations
        if unsold:
            raise FailedPrecondition(
                "OFFERING_NOT_SELLABLE", unsold[0].description, violations=unsold, metadata=metadata
            )
        if unstated:
            raise InvalidArgument("PRICE_DEPENDS", unstated[0].description, violations=unstated)
        return lines

    def _top(self, index: int, item: Item) -> Line:
        subject = item.id or f"item[{index}]"
        notes: list[ReceiptStep] = []
        offer = self._tops[index] = self._version(self.offers[item.product_offering_id], item, subject, notes)
        if item.term:
            self._check_term(index, offer, item)
        line = self._line(offer, item, index, subject, item.quantity, (), notes, replaced=None)
        if item.bundled:
            self._check_bundled(line, item)
        if item.usage:
            self._check_usage(line, item)
        return line

    def _line(
        self,
        offer: Offer,
        item: Item,
        index: int,
        subject: str,
        quantity: int,
        above: tuple[str, ...],
        notes: list[ReceiptStep],
        *,
        replaced: frozenset[str] | None,
    ) -> Line:
        """`replaced`: a bundle around it overrides its prices, those too of the use that is named; None: none does."""
        self._room -= 1
        if self._room < 0 or quantity > _MAX_NUMBER:
            raise InvalidArgument("TOO_MANY_LINES", f"more than {MAX_LINES} lines, or 2³¹ of one offering")
        why = self._unsold(offer, item, alone=not above)
        if why is not None:
            raise _NotSellableError(offer, f"offering {offer.id} {why}")
        stages: Mapping[str, Stage] = {}
        held: Sequence[Held]
        currencies: Sequence[frozenset[str]]
        if replaced is not None:
            kept = [] if self.second_rules else [c for c in offer.charges if _kept(c, replaced)]
            gone = [charge for charge in offer.charges if charge not in kept]
            notes += [_rejected(subject, charge.rule, "the prices of the bundle replace it") for charge in gone]
            held, currencies = (), ()
            if kept:
                stages = self._stages(offer, item)
                own = replace(offer, charges=tuple(kept))
                held = self._held(own, item, index, subject, quantity, stages, notes, optional=True)
                currencies = _currencies(held, stages.values())
        elif offer.currencies is not None:
            held, currencies = [(charge, None, charge.levels) for charge in offer.charges], offer.currencies
        else:
            stages = self._stages(offer, item)
            held = self._held(offer, item, index, subject, quantity, stages, notes)
            currencies = _currencies(held, stages.values())
        line = Line(offer, item, index, subject, quantity, held, currencies, notes, [], tuple(stages.values()))
        if offer.parts:
            if offer.overrides or replaced is not None:
                replaced = (replaced or frozenset()).union(charge.usage_type for charge, _, _ in held)
            for part in offer.parts:
                self._add_part(line, part, above, replaced=replaced)
        return line

    def _add_part(self, line: Line, part: Part, above: tuple[str, ...], *, replaced: frozenset[str] | None) -> None:
        offer, subject = line.offer, f"{line.subject}/{part.id}"
        if part.id in self.offers and (part.id in above or part.id == offer.id):
            raise _NotSellableError(offer, f"offering {offer.id} bundles {part.id!r}, which bundles it")
        notes: list[ReceiptStep] = []
        version, number = self._taken(offer, part, line.item, subject, notes)
        if not number:
            # It was looked up all the same, and will be by a replay.
            self.considered[version.id] = version
            return
        below = (*above, offer.id)
        line.bundled.append(
            self._line(version, line.item, line.index, subject, line.quantity * number, below, notes, replaced=replaced)
        )

    def _taken(
        self, bundle: Offer, part: Part, item: Item, subject: str, notes: list[ReceiptStep]
    ) -> tuple[Offer, int]:
        """The version of a part, and how many of it."""
        found = self.offers.get(part.id)
        if found is None:
            raise _NotSellableError(bundle, f"offering {bundle.id} bundles {part.id!r}, which isn't there")
        version = self._version(found, item, subject, notes)
        for key in (part.id, version.id):
            for choice in item.bundled:
                if choice.product_offering_id == key:
                    return version, choice.number
        return version, part.number

    def _unsold(self, offer: Offer, item: Item, *, alone: bool) -> str | None:
        """Why it can't be had; None: it can."""
        if item.exact_version:
            # Who holds it goes on holding it, whether or not it is still sold.
            why = f"is {offer.status}" if offer.status in _NOT_HELD else None
        else:
            sellable = offer.is_sellable or not alone
            # By the first rules what is Active was sold too.
            on_the_market = alone and not self.first_rules
            why = sale_obstacle(offer.status, offer.valid_for, self.context.at, sellable, alone=on_the_market)
        return f"isn't complete: {offer.broken[0]}" if why is None and offer.broken else why

    def _version(self, asked: Offer, item: Item, subject: str, notes: list[ReceiptStep]) -> Offer:
        """The version of the series that is sold at the time: of several the one that began last."""
        further = self._versions.get(asked.series)
        if further is None or item.exact_version:
            return asked
        first = self.offers.get(asked.series)
        sold = [
            version
            for version in ([first] if first is not None else []) + further
            # One that is only approved takes nobody's place; asked for itself, it may be a part of something.
            if sale_obstacle(version.status, version.valid_for, self.context.at, alone=version is not asked) is None
        ]
        self.considered |= {version.id: version for version in (asked, *sold)}
        if not sold:
            # It will be refused, with the reason.
            return asked
        best = max(sold, key=lambda version: (periods.start_of(version.valid_for), version.id))
        later = f"{_name_of(best)} has begun later"
        notes += [_rejected(subject, version.id, later) for version in sold if version is not best]
        if best is not asked:
            notes.append(ReceiptStep(subject, "VERSION_CHOSEN", best.id, asked.id, best.id, _name_of(best)))
        return best

    def _check_term(self, index: int, offer: Offer, item: Item) -> None:
        """Raises InvalidArgument UNKNOWN_TERM (with those that there are, if any) unless the offering, or one that it
        bundles, is sold with the term."""
        waiting, seen, sold = [offer], set[str](), set[str]()
        while waiting:
            one = waiting.pop()
            if one.id in seen:
                continue
            seen.add(one.id)
            if self._term(one, item.term) is not None:
                return
            sold |= {term.name for term in one.terms}
            parts = [self._taken(one, part, item, "", []) for part in one.parts]
            waiting += [version for version, number in parts if number]
        why = f"offering {offer.id} isn't sold with a term {item.term!r} at that time"
        raise InvalidArgument(
            "UNKNOWN_TERM",
            why,
            violations=[Violation(f"item[{index}].term", why)],
            metadata={"terms": ", ".join(sorted(sold))} if sold else {},
        )

    @staticmethod
    def _check_usage(top: Line, item: Item) -> None:
        """Raises InvalidArgument USAGE_NOT_PRICED unless exactly one product prices what was used, and by its sum."""
        wrong: list[Violation] = []
        for k, used in enumerate(item.usage):
            products, by_event = 0, False
            for line in top.all():
                models = [charge.model for charge, _, _ in line.held if charge.usage_type == used.usage_type]
                products += line.quantity * any(model is not None for model in models)
                by_event = by_event or any(model is not None and needs_events(model) for model in models)
            if products != 1:
                why = f"{products} products of offering {top.offer.id} have a price for {used.usage_type!r}, not one"
            elif by_event:
                why = f"{used.usage_type!r} is rated by event: its sum has no price"
            else:
                continue
            wrong.append(Violation(f"item[{top.index}].usage[{k}].usage_type", why))
        if wrong:
            raise InvalidArgument("USAGE_NOT_PRICED", wrong[0].description, violations=wrong)

    def _check_bundled(self, top: Line, item: Item) -> None:
        """Raises InvalidArgument BUNDLED_SELECTION naming each number that isn't allowed."""
        wrong: list[Violation] = []
        found: dict[str, list[Part]] = {}
        for line in top.all():
            for part in line.offer.parts:
                version = self._version(self.offers[part.id], item, "", [])
                for key in {part.id, version.id}:
                    found.setdefault(key, []).append(part)
        seen: set[str] = set()
        for k, choice in enumerate(item.bundled):
            path, key, number = f"item[{top.index}].bundled[{k}]", choice.product_offering_id, choice.number
            if key in seen:
                wrong.append(Violation(f"{path}.product_offering_id", f"another number of {key!r} was chosen before"))
            elif key not in found:
                wrong.append(Violation(f"{path}.product_offering_id", f"{top.offer.id} isn't made of {key!r}"))
            for part in found.get(key, ()):
                if number < part.least or (part.most is not None and number > part.most):
                    limits = f"from {part.least}" + (f" to {part.most}" if part.most is not None else "")
                    wrong.append(Violation(f"{path}.number", f"there may be {limits} of {key}, not {number}"))
                    break
            seen.add(key)
        if wrong:
            raise InvalidArgument("BUNDLED_SELECTION", wrong[0].description, violations=wrong)

    # --- charges -----------------------------------------------------------------------------------------------------

    def _held(
        self,
        offer: Offer,
        item: Item,
        index: int,
        subject: str,
        quantity: int,
        stages: Mapping[str, Stage],
        notes: list[ReceiptStep],
        *,
        optional: bool = False,
    ) -> Sequence[Held]:
        """The charges that count; unless `optional` there is one."""
        draft = next((charge for charge in offer.charges if charge.status in DRAFTS), None)
        if draft is not None:
            # Left out, it would be sold for less than it is meant to cost.
            raise _NotSellableError(offer, f"offering {offer.id} has a price {draft.rule} that is {draft.status}")
        facts = self.facts(item, quantity)
        held: list[Held] = []
        undecided: dict[_Slot, list[Condition]] = {}
        for charge in offer.charges:
            reason, unstated = self._idle(charge, offer, item, facts, self._tops[index])
            if unstated is not None:
                for slot in _slots(charge, [stages[name] for name in charge.phases if name in stages], stages.values()):
                    undecided.setdefault(slot, []).append(unstated)
            if reason is not None:
                notes.append(_rejected(subject, charge.rule, reason))
            elif not charge.phases:
                held.append((charge, None, charge.levels))
            else:
                there = [stages[name] for name in charge.phases if name in stages]
                held += [(charge, stage, charge.levels) for stage in there]
                if not there:
                    notes.append(_rejected(subject, charge.rule, "it is for another phase"))
        priced = {slot for one in held for slot in _slots_of(one, stages.values())}
        alone = all(charge.kind == TERMINATION for charge, _, _ in held)
        missing = [
            condition
            for slot, conditions in undecided.items()
            if slot not in priced
            # What one characteristic alone decides is an option that wasn't chosen.
            and (len(conditions) > 1 or alone or not conditions[0].subject.startswith(CHARACTERISTIC))
            for condition in conditions
        ]
        if missing:
            raise _UnstatedError([_unstated(index, offer, condition) for condition in dict.fromkeys(missing)])
        if offer.charges and not held and not optional:
            raise _NotSellableError(offer, f"offering {offer.id} has no price that holds at that time")
        return held

    def _idle(
        self, charge: Charge, offer: Offer, item: Item, facts: Facts, top: Offer
    ) -> tuple[str | None, Condition | None]:
        """Why a charge doesn't count, and the condition that nobody can decide, if it is one."""
        if charge.kind not in CHARGES and (self.first_rules or charge.kind not in (USAGE, TERMINATION)):
            return f"{charge.kind} isn't charged by being ordered", None
        if charge.amount is None and charge.model is None:
            return "it has no amount", None
        reason = self._lapsed(charge, item)
        if reason is None and charge.terms and item.term not in charge.terms:
            reason = f"it is for the term {' or '.join(charge.terms)}"
        if reason is None and charge.kind == TERMINATION:
            reason = self._uncommitted(offer, item, top)
        if reason is None and charge.price_list and self.rank(charge.price_list) is None:
            reason = f"its price list {charge.price_list} isn't this customer's"
        if reason is not None or not charge.conditions:
            return reason, None
        failed = unmet(charge.conditions, facts)
        if failed is None:
            return None, None
        condition, unstated = failed
        return f"it is for {condition}", condition if unstated else None

    def _lapsed(self, thing: Charge | Alteration, item: Item) -> str | None:
        if not item.exact_version:
            return sale_obstacle(thing.status, thing.valid_for, self.context.at)
        if thing.status in _NOT_HELD:
            return f"is {thing.status}"
        return None if thing.valid_for.covers(self.context.at) else "isn't valid at that time"

    def _uncommitted(self, offer: Offer, item: Item, top: Offer) -> str | None:
        """Why nothing is due for leaving early."""
        if not item.term:
            return "no term was chosen"
        term = self._term(offer, item.term) or self._term(top, item.term)
        if term is None or term.duration is None or item.started_at is None:
            return None
        over = periods.after(item.started_at, term.duration) <= self.context.at
        return f"the term {term.name} is over" if over else None

    def _term(self, offer: Offer, name: str) -> Term | None:
        at = self.context.at
        return next((term for term in offer.terms if term.name == name and term.valid_for.covers(at)), None)

    def rank(self, price_list: str) -> tuple[int, int, int, int] | None:
        """How much a price list is this customer's own; None: it isn't."""
        if price_list not in self._ranks:
            terms = self.rules.price_lists.get(price_list)
            self._ranks[price_list] = terms.rank(self.context) if terms is not None else None
        return self._ranks[price_list]

    def among(self, line: Line, currency: str) -> Iterable[tuple[Held, str | None]]:
        """The charges with why they aren't charged in the currency; None: they are.

        For each charge the customer's most specific price list wins, phase by phase: a price without phases competes in
        all of them, and stays where it isn't beaten.
        """
        lists: dict[_Slot, set[str]] = {}
        if line.offer.currencies is None:
            for held in line.held:
                if held[0].currency == currency:
                    for slot in _slots_of(held, line.stages):
                        lists.setdefault(slot, set()).add(held[0].price_list)
        best = {slot: max(among, key=self._precedence) for slot, among in lists.items() if len(among) > 1}
        for held in line.held:
            charge, _, levels = held
            if charge.currency != currency:
                yield held, f"it is in {charge.currency}"
                continue
            slots = _slots_of(held, line.stages) if best else []
            lost = [slot for slot in slots if best.get(slot, charge.price_list) != charge.price_list]
            if not lost:
                yield held, None
                continue
            yield held, f"price list {self._list_name(best[lost[0]])} has a price for it"
            yield from (((charge, slot[1], levels), None) for slot in slots if slot not in lost)

    def _precedence(self, price_list: str) -> tuple[bool, tuple[int, int, int, int], list[int]]:
        # The general list last; of equal ones always the same, the one whose id comes first.
        rank = self.rank(price_list) if price_list else None
        return bool(price_list), rank or (0, 0, 0, 0), [-ord(letter) for letter in price_list]

    def _list_name(self, price_list: str) -> str:
        return self.rules.price_lists[price_list].name or price_list

    # --- phases ------------------------------------------------------------------------------------------------------

    def _stages(self, offer: Offer, item: Item) -> Mapping[str, Stage]:
        """The phases to be listed: all of a new product's, or the one that a product is in."""
        if not offer.phases:
            return {}
        began, at = item.started_at or self.context.at, self.context.at
        stages: dict[str, Stage] = {}
        starts = list(periods.starts(began, [phase.duration for phase in offer.phases]))
        for k, (phase, start) in enumerate(zip(offer.phases, starts, strict=False)):
            begins = began if start is None else periods.after(began, start)
            following = starts[k + 1] if k + 1 < len(starts) else None
            in_force = following is None or at < periods.after(began, following)
            if item.started_at is None or in_force:
                stages[phase.name] = Stage(phase.name, start, phase.duration, start is not None and begins > at)
            if item.started_at is not None and in_force:
                break
        return stages

    # --- alterations -------------------------------------------------------------------------------------------------

    def levels(
        self, line: Line, charge: Charge, stage: Stage | None
    ) -> tuple[Sequence[Level], Sequence[tuple[Alteration, str]]]:
        """The alterations that count by priority, and those before the first of them that don't."""
        facts = self.facts(line.item, line.quantity) if any(a.conditions for a in charge.alterations) else {}
        begun = self._begun(line, stage)
        first: list[tuple[Alteration, str]] = []
        levels: list[tuple[list[Alteration], list[tuple[Alteration, str]]]] = []
        for alteration in charge.alterations:
            reason = self._inapplicable(alteration, charge, line.item, stage, facts, begun)
            if reason is not None:
                (levels[-1][1] if levels else first).append((alteration, reason))
            elif levels and levels[-1][0][0].priority == alteration.priority:
                levels[-1][0].append(alteration)
            else:
                levels.append(([alteration], []))
        return levels, first

    def _inapplicable(
        self,
        alteration: Alteration,
        charge: Charge,
        item: Item,
        stage: Stage | None,
        facts: Facts,
        begun: datetime | None,
    ) -> str | None:
        reason = self._lapsed(alteration, item)
        if reason is None and alteration.kind and alteration.kind != charge.kind:
            reason = f"it is for {alteration.kind} charges"
        if reason is None and alteration.percentage is None and alteration.currency != charge.currency:
            reason = f"it is in {alteration.currency}" if alteration.currency else "it has no amount"
        if reason is None and alteration.phases and (stage is None or stage.name not in alteration.phases):
            reason = f"it is for the phase {' or '.join(alteration.phases)}"
        if reason is None and alteration.terms and item.term not in alteration.terms:
            reason = f"it is for the term {' or '.join(alteration.terms)}"
        if reason is None and alteration.duration is not None and begun is not None:
            lasting = periods.lasting(alteration.duration, charge.period)
            if lasting is not None and periods.after(begun, lasting) <= self.context.at:
                reason = f"it was {alteration.note}"
        if reason is None and alteration.conditions:
            failed = unmet(alteration.conditions, facts)
            reason = f"it is for {failed[0]}" if failed is not None else None
        return reason

    def _begun(self, line: Line, stage: Stage | None) -> datetime | None:
        """Since when the charge has run; None: it begins now."""
        return begun(line.item.started_at, stage)

    def lasts(self, alteration: Alteration, charge: Charge, line: Line, stage: Stage | None) -> TimePeriod | None:
        """When a limited alteration of what is held began and ends; None: it isn't limited, or begins now."""
        since = None if alteration.duration is None or self.second_rules else self._begun(line, stage)
        return None if since is None else lasts(since, alteration.duration, charge.period)

    def facts(self, item: Item, quantity: int) -> Facts:
        """What is known of who buys, where, and what."""
        facts: dict[str, Sequence[Value]] = {
            **self._known,
            "term": (item.term,) if item.term else (),
            "quantity": (Decimal(quantity),),
        }
        for characteristic in item.characteristic:
            name = f"{CHARACTERISTIC}{characteristic.name}"
            value = known_of(characteristic.value.text) if characteristic.value is not None else ()
            facts[name] = (*facts.get(name, ()), *value)
        return facts


def begun(started_at: datetime | None, stage: Stage | None) -> datetime | None:
    """Since when a charge has run of what was begun then; None: it begins now."""
    if started_at is None or stage is None or stage.start is None:
        return started_at
    return periods.after(started_at, stage.start)


def lasts(since: datetime, duration: Duration | None, period: str) -> TimePeriod | None:
    """From when until when a duration runs, which may count the charge's periods; None: nobody can tell."""
    lasting = periods.lasting(duration, period) if duration is not None else None
    if lasting is None:
        return None
    return TimePeriod(start_date_time=since, end_date_time=periods.after(since, lasting))


def _kept(charge: Charge, replaced: frozenset[str]) -> bool:
    """Whether a bundle that overrides its parts' prices leaves this one: use that it has no price for itself."""
    return charge.kind == USAGE and bool(charge.usage_type) and charge.usage_type not in replaced


def _slots(charge: Charge, there: Iterable[Stage], stages: Iterable[Stage]) -> Sequence[_Slot]:
    """What a charge is for: in the phases `there`, or in all that there are if it names none."""
    if charge.phases:
        return [(charge.key, stage) for stage in there]
    return [(charge.key, stage) for stage in stages] or [(charge.key, None)]


def _slots_of(held: Held, stages: Iterable[Stage]) -> Sequence[_Slot]:
    charge, stage, _ = held
    return _slots(charge, [] if stage is None else [stage], stages)


def _currencies(held: Iterable[Held], stages: Collection[Stage]) -> Sequence[frozenset[str]]:
    """What each kind of charge has a price in, phase by phase: lest one phase be sold for nothing."""
    kinds: dict[_Slot, set[str]] = {}
    for one in held:
        for slot in _slots_of(one, stages):
            kinds.setdefault(slot, set()).add(one[0].currency)
    return [frozenset(currencies) for currencies in kinds.values()]


# What nobody holds (any more).
_NOT_HELD = DRAFTS | {LifecycleStatus.OBSOLETE.value}


def field_of(index: int) -> str:
    """Where the request names the offering of an item."""
    return f"item[{index}].product_offering_id"


def _unstated(index: int, offer: Offer, condition: Condition) -> Violation:
    subject = condition.subject
    if subject.startswith(CHARACTERISTIC):
        field = f"item[{index}].characteristic"
    else:
        field = SUBJECTS[subject] if SUBJECTS[subject].startswith("context.") else f"item[{index}].{SUBJECTS[subject]}"
    return Violation(field, f"the price of offering {offer.id} depends on {subject}, which isn't stated")


def _rejected(subject: str, rule: str, reason: str) -> ReceiptStep:
    return ReceiptStep(subject, "REJECTED", rule, reason=reason)


def _name_of(version: Offer) -> str:
    return f"version {version.ref.version or version.id}"
