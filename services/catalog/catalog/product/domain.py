"""What the operator sells: the resources of TMF620, their lifecycle and what has to hold before they are sold."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from catalog.product import consistency, pricing_models
from catalog.product.numbers import excessive
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingPriceRelationship,
    BundledProductSpecification,
    BundlePricing,
    ConfigurationRule,
    ExistingSubscribers,
    OfferingPhase,
    PriceCondition,
    PricingLogicAlgorithm,
    PricingModel,
    ProductOfferingPriceRefOrValue,
    ProductOfferingPriceRelationship,
    ProductOfferingRelationship,
    ProductOfferingTerm,
    ProductPriceValue,
    ProductSpecificationCharacteristic,
    ProductSpecificationCharacteristicValueUse,
    ProductSpecificationRelationship,
)
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import (
    Aggregate,
    Attachment,
    Duration,
    EntityRef,
    Extensible,
    Money,
    ProductSpecificationRef,
    Quantity,
    RelatedParty,
    TargetProductSchema,
    TaxItem,
    TimePeriod,
    require_transition,
)

_CURRENCY = re.compile("[A-Z]{3}")


class LifecycleStatus(StrEnum):
    """Where a thing of the catalog stands between an idea and oblivion."""

    IN_STUDY = "In study"
    IN_DESIGN = "In design"
    IN_TEST = "In test"
    REJECTED = "Rejected"
    ACTIVE = "Active"
    LAUNCHED = "Launched"
    RETIRED = "Retired"
    OBSOLETE = "Obsolete"

    @property
    def live(self) -> bool:
        """Whether it is for sale (or part of what is)."""
        return self in _LIVE

    @property
    def released(self) -> bool:
        """Whether it is, or was, approved: its drafts are behind it."""
        return self in _RELEASED

    @property
    def published(self) -> bool:
        """Whether it is, or may have been, on the market."""
        return self in _PUBLISHED


_S = LifecycleStatus
_LIVE = frozenset({_S.ACTIVE, _S.LAUNCHED})
_RELEASED = frozenset({_S.ACTIVE, _S.LAUNCHED, _S.RETIRED, _S.OBSOLETE})
_PUBLISHED = frozenset({_S.LAUNCHED, _S.RETIRED, _S.OBSOLETE})
DRAFTS: frozenset[str] = frozenset(set(_S) - _RELEASED)

# What was released never becomes a draft again, since it may have been sold as it was.
TRANSITIONS: Mapping[LifecycleStatus, frozenset[LifecycleStatus]] = {
    _S.IN_STUDY: frozenset({_S.IN_DESIGN}),
    _S.IN_DESIGN: frozenset({_S.IN_TEST}),
    _S.IN_TEST: frozenset({_S.ACTIVE, _S.REJECTED, _S.IN_DESIGN, _S.IN_STUDY}),
    _S.REJECTED: frozenset(),
    _S.ACTIVE: frozenset({_S.LAUNCHED, _S.RETIRED}),
    _S.LAUNCHED: frozenset({_S.RETIRED}),
    _S.RETIRED: frozenset({_S.OBSOLETE}),
    _S.OBSOLETE: frozenset(),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTransition(Extensible):
    """A change of status to come; `refused`: why it didn't take place when its time came."""

    lifecycle_status: LifecycleStatus | None = None
    at: datetime | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """What a field of a thing refers to; `part`: the thing is made of it, and can't be sold without."""

    field: str
    cls: "type[CatalogItem]"
    id: str
    index: int | None = None
    part: bool = False

    @property
    def path(self) -> str:
        """The field, with its place in the list if it is one."""
        return self.field if self.index is None else f"{self.field}[{self.index}]"


@dataclass(kw_only=True, eq=False)
class CatalogItem(Aggregate):
    """What everything in the catalog has: a name, a lifecycle, a period of validity."""

    STATE: ClassVar[str | None] = "lifecycle_status"
    # What may still change of it once it is published; None: everything, since nobody buys it.
    CHANGEABLE: ClassVar[frozenset[str] | None] = None
    # What to do instead of changing anything else.
    INSTEAD: ClassVar[str] = "make a new version of the offering, with prices of its own"

    description: str | None = None
    last_update: datetime | None = None
    lifecycle_status: LifecycleStatus | None = None
    name: str | None = None
    version: str | None = None
    valid_for: TimePeriod | None = None

    @property
    def status(self) -> LifecycleStatus:
        """Where it stands; in design unless said otherwise."""
        return self.lifecycle_status or LifecycleStatus.IN_DESIGN

    @property
    def fixed(self) -> bool:
        """Whether nothing but what is CHANGEABLE may change, whatever it is part of."""
        return self.status.published

    def check(self, at: datetime) -> None:
        """Gives a new thing its first status (it may name any) and its stamp.

        Raises InvalidArgument for values that contradict each other, FailedPrecondition INCOMPLETE.
        """
        self.lifecycle_status = self.status
        self.last_update = at
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes and stamps them with their instant.

        Raises FailedPrecondition BAD_TRANSITION, INCOMPLETE, PUBLISHED; InvalidArgument for values that contradict
        each other.
        """
        # The time of the last update is ours: whatever a caller thinks that it was doesn't count.
        news = {
            name: value for name, value in changes.items() if name != "last_update" and getattr(self, name) != value
        }
        if not news:
            return
        if "lifecycle_status" in news:
            if news["lifecycle_status"] is None:
                raise InvalidArgument(
                    "REQUIRED", "a status can't be taken away", violations=[Violation("lifecycle_status", "required")]
                )
            require_transition(
                f"{type(self).__name__} {self.id}",
                TRANSITIONS,
                self.status,
                news["lifecycle_status"],
                attribute="lifecycle_status",
            )
        if self.fixed:
            check_unchanged(self, {name: getattr(self, name) for name in news}, news)
        super().revise(news, at)
        self._check()
        self.last_update = at

    def references(self) -> Iterable[Reference]:
        """What it refers to in the catalog."""
        return ()

    def parts(self) -> list[Reference]:
        """What it is made of; each must be released before this can go live."""
        return [reference for reference in self.references() if reference.part]

    def _check(self) -> None:
        wrong = list(self._contradictions())
        if wrong:
            raise InvalidArgument("CONTRADICTION", wrong[0].description, violations=wrong)
        missing = list(self._omissions()) if self.status.live else []
        if missing:
            raise FailedPrecondition(
                "INCOMPLETE", f"it can't be {self.status} yet: {missing[0].description}", violations=missing
            )

    def _contradictions(self) -> Iterable[Violation]:
        """What can't be true at any time, in design either."""
        yield from _reversed_period("valid_for", self.valid_for)

    def _omissions(self) -> Iterable[Violation]:
        """What may be left out in design but not when it is sold."""
        return ()


# Attributes of every sold thing that say nothing of what is sold.
UNSOLD = frozenset({"description", "last_update", "lifecycle_status", "extensions"})


@dataclass(kw_only=True, eq=False)
class Catalog(CatalogItem):
    """A tree of categories for some purpose or audience."""

    catalog_type: str | None = None
    category: tuple[EntityRef, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()

    def references(self) -> Iterable[Reference]:
        return _references("category", Category, (category.id for category in self.category))


@dataclass(kw_only=True, eq=False)
class Category(CatalogItem):
    """A shelf for offerings, and for further shelves."""

    is_root: bool | None = None
    parent_id: str | None = None
    product_offering: tuple[EntityRef, ...] = ()
    sub_category: tuple[EntityRef, ...] = ()

    def references(self) -> Iterable[Reference]:
        yield from _references("product_offering", ProductOffering, (offering.id for offering in self.product_offering))
        yield from _references("sub_category", Category, (category.id for category in self.sub_category))
        if self.parent_id:
            yield Reference("parent_id", Category, self.parent_id)


@dataclass(kw_only=True, eq=False)
class ProductSpecification(CatalogItem):
    """What a product is, whoever it is offered to and at whatever price."""

    CHANGEABLE: ClassVar[frozenset[str] | None] = UNSOLD | {"attachment"}
    INSTEAD: ClassVar[str] = "make another specification, for a new version of the offering"

    brand: str | None = None
    is_bundle: bool | None = None
    product_number: str | None = None
    attachment: tuple[Attachment, ...] = ()
    bundled_product_specification: tuple[BundledProductSpecification, ...] = ()
    product_spec_characteristic: tuple[ProductSpecificationCharacteristic, ...] = ()
    product_specification_relationship: tuple[ProductSpecificationRelationship, ...] = ()
    related_party: tuple[RelatedParty, ...] = ()
    resource_specification: tuple[EntityRef, ...] = ()
    service_specification: tuple[EntityRef, ...] = ()
    target_product_schema: TargetProductSchema | None = None
    configuration_rule: tuple[ConfigurationRule, ...] = ()

    @property
    def fixed(self) -> bool:
        """Never by itself: nobody buys it but by an offering."""
        return False

    def _contradictions(self) -> Iterable[Violation]:
        yield from super()._contradictions()
        yield from consistency.faults(self.product_spec_characteristic, self.configuration_rule)

    def references(self) -> Iterable[Reference]:
        parts = (part.id for part in self.bundled_product_specification)
        yield from _references("bundled_product_specification", ProductSpecification, parts, part=True)
        others = (relation.id for relation in self.product_specification_relationship)
        yield from _references("product_specification_relationship", ProductSpecification, others)


@dataclass(kw_only=True, eq=False)
class ProductOfferingPrice(CatalogItem):
    """A charge, or an alteration of charges; `price` without tax, `percentage` and tax rates in percent."""

    # Not even its end: without it, or with one that had ended, the same offering would cost something else.
    CHANGEABLE: ClassVar[frozenset[str] | None] = UNSOLD

    is_bundle: bool | None = None
    percentage: Decimal | None = None
    price_type: str | None = None
    recurring_charge_period_length: int | None = None
    recurring_charge_period_type: str | None = None
    bundled_pop_relationship: tuple[BundledProductOfferingPriceRelationship, ...] = ()
    constraint: tuple[EntityRef, ...] = ()
    place: tuple[EntityRef, ...] = ()
    pop_relationship: tuple[ProductOfferingPriceRelationship, ...] = ()
    price: Money | None = None
    pricing_logic_algorithm: tuple[PricingLogicAlgorithm, ...] = ()
    prod_spec_char_value_use: tuple[ProductSpecificationCharacteristicValueUse, ...] = ()
    product_offering_term: tuple[ProductOfferingTerm, ...] = ()
    tax: tuple[TaxItem, ...] = ()
    unit_of_measure: Quantity | None = None
    pricing_model: PricingModel | None = None
    phase: tuple[str, ...] = ()
    condition: tuple[PriceCondition, ...] = ()
    priority: int | None = None
    exclusivity_group: str | None = None
    tax_category: str | None = None
    tax_included: bool | None = None
    price_list: str | None = None
    charge: str | None = None
    may_be_negative: bool | None = None
    application_duration: Duration | None = None

    @property
    def kind(self) -> str:
        """See `kind_of_price`."""
        return kind_of_price(self.price_type, self.recurring_charge_period_type)

    def references(self) -> Iterable[Reference]:
        parts = (part.id for part in self.bundled_pop_relationship)
        yield from _references("bundled_pop_relationship", ProductOfferingPrice, parts, part=True)
        for i, relation in enumerate(self.pop_relationship):
            yield Reference("pop_relationship", ProductOfferingPrice, relation.id or "", i, part=alters(relation))

    def _contradictions(self) -> Iterable[Violation]:
        yield from super()._contradictions()
        # TM Forum's own example states an amount and 0 per cent: nothing is said by that.
        if self.price is not None and self.price.value is not None and self.percentage:
            yield Violation("percentage", "a price is an amount or a percentage, not both")
        for name in ("percentage", "tax", "unit_of_measure", "pricing_model"):
            yield from excessive(name, getattr(self, name))
        for i, tax in enumerate(self.tax):
            yield from _negative(f"tax[{i}].tax_rate", tax.tax_rate)
        if self.pricing_model is not None:
            yield from pricing_models.contradictions(self.pricing_model, "pricing_model")

    def _omissions(self) -> Iterable[Violation]:
        if self.pricing_model is not None:
            # The model may say how much; the currency is the price's in any case.
            money = self.price or Money()
            yield from _unclear_currency("price", money)
            yield from pricing_models.omissions(
                self.pricing_model,
                "pricing_model",
                amount=money.value is not None,
                percentage=bool(self.percentage),
            )
        elif self.price is not None:
            yield from _unclear_money("price", self.price)
        elif not (self.kind not in CHARGES or self.percentage or self.bundled_pop_relationship):
            yield Violation("price", "it has neither an amount nor a percentage")
        if self.kind == RECURRING and self.price is not None and not self.recurring_charge_period_type:
            yield Violation("recurring_charge_period_type", "a recurring price says how often it recurs")
        if self.recurring_charge_period_length is not None and self.recurring_charge_period_length < 1:
            yield Violation("recurring_charge_period_length", "a price recurs after one period or more")
        for i, tax in enumerate(self.tax):
            if tax.tax_rate is None:
                yield Violation(f"tax[{i}].tax_rate", "a tax is charged by its rate")


@dataclass(kw_only=True, eq=False)
class ProductOffering(CatalogItem):
    """A product as it is sold: at these prices, to these people, in these places and times."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"series"})
    # Of its validity, only the end.
    CHANGEABLE: ClassVar[frozenset[str] | None] = UNSOLD | {
        "attachment", "category", "planned_transition", "status_reason", "valid_for",
    }  # fmt: skip

    is_bundle: bool | None = None
    is_sellable: bool | None = None
    status_reason: str | None = None
    agreement: tuple[EntityRef, ...] = ()
    attachment: tuple[Attachment, ...] = ()
    bundled_product_offering: tuple[BundledProductOffering, ...] = ()
    category: tuple[EntityRef, ...] = ()
    channel: tuple[EntityRef, ...] = ()
    market_segment: tuple[EntityRef, ...] = ()
    place: tuple[EntityRef, ...] = ()
    prod_spec_char_value_use: tuple[ProductSpecificationCharacteristicValueUse, ...] = ()
    product_offering_price: tuple[ProductOfferingPriceRefOrValue, ...] = ()
    product_offering_relationship: tuple[ProductOfferingRelationship, ...] = ()
    product_offering_term: tuple[ProductOfferingTerm, ...] = ()
    product_specification: ProductSpecificationRef | None = None
    resource_candidate: EntityRef | None = None
    service_candidate: EntityRef | None = None
    service_level_agreement: EntityRef | None = None
    series: str | None = None
    existing_subscribers: ExistingSubscribers | None = None
    planned_transition: tuple[PlannedTransition, ...] = ()
    eligible_branch: tuple[str, ...] = ()
    exclusion_group: tuple[str, ...] = ()
    phase: tuple[OfferingPhase, ...] = ()
    bundle_pricing: BundlePricing | None = None

    def sellable(self, at: datetime) -> bool:
        """Whether it can be sold by itself at the instant, as far as it knows."""
        return sale_obstacle(self.status, self.valid_for, at, self.is_sellable is not False, alone=True) is None

    def references(self) -> Iterable[Reference]:
        spec = self.product_specification
        if spec is not None:
            yield Reference("product_specification", ProductSpecification, spec.id or "", part=True)
        for i, price in enumerate(self.product_offering_price):
            if price.price is None:
                yield Reference("product_offering_price", ProductOfferingPrice, price.id or "", i, part=True)
        parts = (part.id for part in self.bundled_product_offering)
        yield from _references("bundled_product_offering", ProductOffering, parts, part=True)
        yield from _references("category", Category, (category.id for category in self.category))
        others = (relation.id for relation in self.product_offering_relationship)
        yield from _references("product_offering_relationship", ProductOffering, others)
        if self.series:
            yield Reference("series", ProductOffering, self.series)

    def _contradictions(self) -> Iterable[Violation]:
        yield from super()._contradictions()
        yield from excessive("bundle_pricing", self.bundle_pricing)
        for i, price in enumerate(self.product_offering_price):
            path = f"product_offering_price[{i}]"
            yield from _reversed_period(f"{path}.valid_for", price.valid_for)
            if price.price is not None:
                yield from _impossible_value(f"{path}.price", price.price)
            for k, alteration in enumerate(price.price_alteration):
                if alteration.price is not None:
                    yield from _impossible_value(f"{path}.price_alteration[{k}].price", alteration.price)
        for i, bundled in enumerate(self.bundled_product_offering):
            option = bundled.bundled_product_offering_option
            low = (option.number_rel_offer_lower_limit if option else None) or 0
            high = option.number_rel_offer_upper_limit if option else None
            if low < 0 or bundled.default_number < low or (high is not None and bundled.default_number > high):
                yield Violation(
                    f"bundled_product_offering[{i}].bundled_product_offering_option",
                    f"the default number {bundled.default_number} lies outside its limits",
                )

    def _omissions(self) -> Iterable[Violation]:
        if self.is_bundle and not self.bundled_product_offering:
            yield Violation("bundled_product_offering", "a bundle says what it is made of")
        for i, price in enumerate(self.product_offering_price):
            path = f"product_offering_price[{i}]"
            if price.price is not None:
                yield from _unclear_value(f"{path}.price", price.price)
                kind = kind_of_price(price.price_type, price.recurring_charge_period)
                if kind == RECURRING and not price.recurring_charge_period:
                    yield Violation(f"{path}.recurring_charge_period", "a recurring price says how often it recurs")
            for k, alteration in enumerate(price.price_alteration):
                if alteration.price is None:
                    yield Violation(f"{path}.price_alteration[{k}].price", "an alteration says by how much")
                else:
                    yield from _unclear_value(f"{path}.price_alteration[{k}].price", alteration.price)


def _references(
    field: str, cls: type[CatalogItem], ids: Iterable[str | None], *, part: bool = False
) -> Iterable[Reference]:
    return (Reference(field, cls, key or "", index, part) for index, key in enumerate(ids))


ONE_TIME, RECURRING = "oneTime", "recurring"
# The kinds of price that are charged by being ordered; usage, say, is charged by being used.
CHARGES = (ONE_TIME, RECURRING)


def kind_of_price(price_type: str | None, period: str | None) -> str:
    """`oneTime`, `recurring`, or another price type in small letters; the files leave the spelling open."""
    letters = re.sub("[^a-z]", "", (price_type or "").lower())
    if letters.startswith(("onetime", "nonrecurring")) or (not letters and not period):
        return ONE_TIME
    if letters.startswith("recurring") or not letters:
        return RECURRING
    return letters


def alters(relation: ProductOfferingPriceRelationship) -> bool:
    """Whether the related price changes this one (TM Forum's example calls that `discountedBy`)."""
    return relation.at_referred_type == "ProductOfferingPriceAlteration" or (
        (relation.relationship_type or "").lower().startswith(("discount", "alter", "surcharge"))
    )


def sale_obstacle(
    status: str | None, valid_for: TimePeriod | None, at: datetime, sellable: bool = True, *, alone: bool = False
) -> str | None:
    """Why a thing of that status and validity can't be sold at the instant; None: it can.

    What is sold `alone` is on the market, Launched; what is sold as a part of something may be Active.
    """
    if status not in _LIVE or (alone and status != LifecycleStatus.LAUNCHED):
        return f"is {status}"
    if not sellable:
        return "isn't sold by itself"
    if valid_for is not None and not valid_for.covers(at):
        return "isn't valid at that time"
    return None


def check_unchanged(item: CatalogItem, before: Mapping[str, Any], after: Mapping[str, Any], why: str = "") -> None:
    """Lets nothing that was sold change in place; of an offering's validity only the end may. `why` it counts as that.

    Raises FailedPrecondition PUBLISHED naming the attributes.
    """
    if item.CHANGEABLE is None:
        return
    names = [name for name in after if name not in item.CHANGEABLE and before[name] != after[name]]
    may_end = "valid_for" in item.CHANGEABLE
    if may_end and "valid_for" in after and _start(before["valid_for"]) != _start(after["valid_for"]):
        names.append("valid_for.start_date_time")
    if names:
        raise FailedPrecondition(
            "PUBLISHED",
            f"{type(item).__name__} {item.id} is {why or item.status}: {', '.join(names)} can't change any more; "
            + item.INSTEAD,
            violations=[Violation(name, "published: change it in a new version") for name in names],
        )


def _start(period: TimePeriod | None) -> datetime | None:
    return period.start_date_time if period is not None else None


def check_parts(item: CatalogItem, found: Mapping[tuple[type[CatalogItem], str], LifecycleStatus | None]) -> None:
    """Lets a thing be live only when all that it is made of is there, and launched only when none of that is a draft.

    `found` has the status of every part that exists. Raises FailedPrecondition UNRESOLVED_REFERENCE naming the fields.
    """
    if not item.status.live:
        return
    wrong = []
    for part in item.parts():
        kind = part.cls.__name__
        if (part.cls, part.id) not in found:
            wrong.append(Violation(part.path, f"there is no {kind} {part.id!r}"))
        elif item.status is not LifecycleStatus.LAUNCHED:
            # Approved, not yet on the market: its parts may still be on their way. Pricing refuses what isn't whole.
            continue
        elif not (status := found[part.cls, part.id] or LifecycleStatus.IN_DESIGN).released:
            wrong.append(Violation(part.path, f"{kind} {part.id} is {status}"))
    if wrong:
        raise FailedPrecondition(
            "UNRESOLVED_REFERENCE", f"it can't be {item.status} yet: {wrong[0].description}", violations=wrong
        )


def check_narrowing(offering: ProductOffering, specification: ProductSpecification | None) -> None:
    """Lets an offering be live only with characteristics and values that its specification has.

    Raises FailedPrecondition NOT_IN_SPECIFICATION naming the fields.
    """
    if specification is None or not offering.status.live:
        return
    characteristics = specification.product_spec_characteristic
    wrong = list(consistency.narrowing_faults(offering.prod_spec_char_value_use, characteristics))
    if wrong:
        raise FailedPrecondition(
            "NOT_IN_SPECIFICATION", f"it can't be {offering.status} yet: {wrong[0].description}", violations=wrong
        )


def check_narrowed(specification: ProductSpecification, offerings: Iterable[ProductOffering]) -> None:
    """Lets a specification lose nothing that live offerings take of it.

    Raises FailedPrecondition NOT_IN_SPECIFICATION naming them.
    """
    characteristics = specification.product_spec_characteristic
    wrong = []
    for offering in offerings:
        uses = offering.prod_spec_char_value_use
        faults = [fault.description for fault in consistency.narrowing_faults(uses, characteristics)]
        if uses and not characteristics:
            faults = ["the specification has no characteristics"]
        wrong += [Violation("product_spec_characteristic", f"ProductOffering {offering.id}: {why}") for why in faults]
    if wrong:
        raise FailedPrecondition(
            "NOT_IN_SPECIFICATION", f"something live needs what it had: {wrong[0].description}", violations=wrong
        )


# The fields by which a thing says what it contains, or (`parent_id`) what contains it.
PARENT = "parent_id"
CONTAINMENT = (
    "sub_category",
    "bundled_product_specification",
    "bundled_product_offering",
    "bundled_pop_relationship",
    PARENT,
)


def check_acyclic(field: str, start: str, children: Mapping[str, Iterable[str]]) -> None:
    """Refuses a thing that contains itself, however deep. Raises FailedPrecondition CYCLE naming the way round."""
    reached_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        parent = waiting.pop()
        for child in children.get(parent, ()):
            if child == start:
                way = [start]
                while parent != start:
                    way.append(parent)
                    parent = reached_from[parent]
                way.append(start)
                raise FailedPrecondition(
                    "CYCLE",
                    f"it would contain itself: {' → '.join(reversed(way))}",
                    violations=[Violation(field, "a cycle")],
                )
            if child not in reached_from:
                reached_from[child] = parent
                waiting.append(child)


def check_deletable(item: CatalogItem, referrers: Iterable[tuple[str, str]]) -> None:
    """Refuses to delete what something refers to (type and id of each), or what may have been sold.

    Raises FailedPrecondition REFERENCED, or WAS_RELEASED.
    """
    names = [f"{kind} {key}" for kind, key in referrers]
    if names:
        raise FailedPrecondition(
            "REFERENCED",
            f"{type(item).__name__} {item.id} is referred to by {', '.join(names)}",
            metadata={"referrers": ", ".join(names)},
        )
    if isinstance(item, ProductOffering | ProductOfferingPrice) and item.status.released:
        raise FailedPrecondition(
            "WAS_RELEASED",
            f"{type(item).__name__} {item.id} is {item.status}: it may have been sold; retire it instead",
            metadata={"lifecycle_status": item.status.value},
        )


def check_retirable(item: CatalogItem, at: datetime, live_referrers: Iterable[tuple[str, str]]) -> None:
    """Keeps what something live is made of from leaving; an offering may once its validity has ended.

    Otherwise a bundle would lose a part, or an offering a price, and be sold for less; a bundle whose part has ended
    isn't sold at all. Raises FailedPrecondition REFERENCED naming who needs it.
    """
    if item.status.live or not item.status.released:
        return
    end = item.valid_for.end_date_time if item.valid_for is not None else None
    ended = isinstance(item, ProductOffering) and end is not None and end <= at
    names = [] if ended else [f"{kind} {key}" for kind, key in live_referrers]
    if names:
        raise FailedPrecondition(
            "REFERENCED",
            f"{type(item).__name__} {item.id} can't be {item.status}: it is part of {', '.join(names)}",
            violations=[Violation("lifecycle_status", f"it is part of {', '.join(names)}")],
            metadata={"referrers": ", ".join(names)},
        )


def _reversed_period(path: str, period: TimePeriod | None) -> Iterable[Violation]:
    if (
        period is not None
        and period.start_date_time is not None
        and period.end_date_time is not None
        and period.end_date_time < period.start_date_time
    ):
        yield Violation(path, "it ends before it starts")


def _impossible_value(path: str, value: ProductPriceValue) -> Iterable[Violation]:
    if value.percentage and (value.duty_free_amount is not None or value.tax_included_amount is not None):
        yield Violation(path, "a price is an amount or a percentage, not both")
    yield from excessive(path, value)
    yield from _negative(f"{path}.tax_rate", value.tax_rate)


def _negative(path: str, rate: Decimal | None) -> Iterable[Violation]:
    if rate is not None and rate < 0:
        yield Violation(path, "a tax rate isn't negative")


def _unclear_money(path: str, money: Money) -> Iterable[Violation]:
    if money.value is None:
        yield Violation(f"{path}.value", "an amount has a value")
    yield from _unclear_currency(path, money)


def _unclear_currency(path: str, money: Money) -> Iterable[Violation]:
    if money.unit is None or not _CURRENCY.fullmatch(money.unit):
        yield Violation(f"{path}.unit", "an amount is in a currency of ISO 4217, such as KGS")


def _unclear_value(path: str, value: ProductPriceValue) -> Iterable[Violation]:
    free, included = value.duty_free_amount, value.tax_included_amount
    if free is not None:
        yield from _unclear_money(f"{path}.duty_free_amount", free)
    if included is not None:
        yield from _unclear_money(f"{path}.tax_included_amount", included)
    if free is None and included is None and not value.percentage:
        yield Violation(path, "it has neither an amount nor a percentage")
    if free is not None and included is not None:
        if free.unit != included.unit:
            yield Violation(f"{path}.tax_included_amount.unit", "both amounts are in one currency")
        if value.tax_rate is None and free.value != included.value:
            yield Violation(f"{path}.tax_rate", "amounts with and without tax need its rate")
