"""The value objects inside the catalog's resources; names and meanings are TMF620's (v4.1)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from chassis.types import (
    Duration,
    EntityRef,
    Extensible,
    Json,
    Money,
    ProductSpecificationRef,
    Quantity,
    TimePeriod,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledProductSpecification(Extensible):
    """A specification that another one is made of."""

    id: str | None = None
    href: str | None = None
    lifecycle_status: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductSpecificationCharacteristicRelationship(Extensible):
    """How one characteristic depends on another."""

    id: str | None = None
    href: str | None = None
    char_spec_seq: int | None = None
    name: str | None = None
    relationship_type: str | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacteristicValueSpecification(Extensible):
    """A value, or a range of values, that a characteristic may take."""

    is_default: bool | None = None
    range_interval: str | None = None
    regex: str | None = None
    unit_of_measure: str | None = None
    value_from: int | None = None
    value_to: int | None = None
    value_type: str | None = None
    valid_for: TimePeriod | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductSpecificationCharacteristic(Extensible):
    """A property of the products that a specification describes."""

    id: str | None = None
    configurable: bool | None = None
    description: str | None = None
    extensible: bool | None = None
    is_unique: bool | None = None
    max_cardinality: int | None = None
    min_cardinality: int | None = None
    name: str | None = None
    regex: str | None = None
    value_type: str | None = None
    product_spec_char_relationship: tuple[ProductSpecificationCharacteristicRelationship, ...] = ()
    product_spec_characteristic_value: tuple[CharacteristicValueSpecification, ...] = ()
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductSpecificationRelationship(Extensible):
    """How one specification stands to another: dependency, exclusivity, substitution …"""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    relationship_type: str | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledProductOfferingOption(Extensible):
    """How many of an offering a bundle holds: unless asked otherwise, at least, at most."""

    number_rel_offer_default: int | None = None
    number_rel_offer_lower_limit: int | None = None
    number_rel_offer_upper_limit: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledProductOffering(Extensible):
    """An offering that a bundle is made of."""

    id: str | None = None
    href: str | None = None
    lifecycle_status: str | None = None
    name: str | None = None
    bundled_product_offering_option: BundledProductOfferingOption | None = None

    @property
    def default_number(self) -> int:
        """How many belong to one bundle unless asked otherwise; 1 when the bundle doesn't say."""
        option = self.bundled_product_offering_option
        number = option.number_rel_offer_default if option else None
        return 1 if number is None else number


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductSpecificationCharacteristicValueUse(Extensible):
    """The part of a characteristic's values that an offering or a price is for."""

    id: str | None = None
    description: str | None = None
    max_cardinality: int | None = None
    min_cardinality: int | None = None
    name: str | None = None
    value_type: str | None = None
    product_spec_characteristic_value: tuple[CharacteristicValueSpecification, ...] = ()
    product_specification: ProductSpecificationRef | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductPriceValue(Extensible):
    """An amount without tax, with tax, or a percentage; rate and percentage in percent."""

    percentage: Decimal | None = None
    tax_category: str | None = None
    tax_rate: Decimal | None = None
    duty_free_amount: Money | None = None
    tax_included_amount: Money | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class POPAlteration(Extensible):
    """A discount on (or, with price type `surcharge`, an addition to) the price that it is written into."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    name: str | None = None
    price_type: str | None = None
    priority: int | None = None
    recurring_charge_period: str | None = None
    application_duration: Duration | None = None
    price: ProductPriceValue | None = None
    unit_of_measure: Quantity | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfferingPriceRefOrValue(Extensible):
    """A price of an offering: the id of a ProductOfferingPrice, or (with `price`) a price of its own."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    last_update: datetime | None = None
    lifecycle_status: str | None = None
    name: str | None = None
    price_type: str | None = None
    recurring_charge_period: str | None = None
    recurring_charge_period_length: int | None = None
    version: str | None = None
    constraint: tuple[EntityRef, ...] = ()
    price: ProductPriceValue | None = None
    price_alteration: tuple[POPAlteration, ...] = ()
    unit_of_measure: Quantity | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfferingRelationship(Extensible):
    """How one offering stands to another: requires, excludes, replaces …"""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    relationship_type: str | None = None
    role: str | None = None
    valid_for: TimePeriod | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfferingTerm(Extensible):
    """A commitment under which an offering or a price is had."""

    description: str | None = None
    name: str | None = None
    duration: Duration | None = None
    valid_for: TimePeriod | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledProductOfferingPriceRelationship(Extensible):
    """A price that another one is made of."""

    id: str | None = None
    href: str | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductOfferingPriceRelationship(Extensible):
    """How another price alters this one (`discountedBy`, `alteredBy` …) or stands to it otherwise."""

    id: str | None = None
    href: str | None = None
    name: str | None = None
    relationship_type: str | None = None
    role: str | None = None
    at_referred_type: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PricingLogicAlgorithm(Extensible):
    """The algorithm that an outside system rates by."""

    id: str | None = None
    href: str | None = None
    description: str | None = None
    name: str | None = None
    pla_spec_id: str | None = None
    valid_for: TimePeriod | None = None


class ConditionOperator(StrEnum):
    """How a value is compared with what a condition states; `set` doesn't compare but gives the value."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NOT_IN = "notIn"
    PRESENT = "present"
    ABSENT = "absent"
    SET = "set"


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacteristicCondition(Extensible):
    """What holds, must hold or is made to hold of one characteristic."""

    characteristic: str | None = None
    operator: ConditionOperator | None = None
    value: Json | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigurationRule(Extensible):
    """When all of `when` hold, all of `then` must."""

    name: str | None = None
    description: str | None = None
    when: tuple[CharacteristicCondition, ...] = ()
    then: tuple[CharacteristicCondition, ...] = ()


class ExistingSubscribersPolicy(StrEnum):
    """What becomes of those who hold an older version."""

    KEEP = "keep"
    MIGRATE = "migrate"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExistingSubscribers(Extensible):
    """What becomes of those who hold an older version, and when; no date: at the launch."""

    policy: ExistingSubscribersPolicy | None = None
    effective_date: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceCondition(Extensible):
    """Something that must be so of customer, place or item for a price to count; see the contract for the subjects."""

    subject: str | None = None
    operator: ConditionOperator | None = None
    value: Json | None = None


class PhaseType(StrEnum):
    """What a phase of an offering is for (Kill Bill's four)."""

    TRIAL = "trial"
    DISCOUNT = "discount"
    FIXED_TERM = "fixedTerm"
    EVERGREEN = "evergreen"


@dataclass(frozen=True, kw_only=True, slots=True)
class OfferingPhase(Extensible):
    """A stretch of a holder's time with prices of its own; the last one may have no end."""

    name: str | None = None
    phase_type: PhaseType | None = None
    duration: Duration | None = None


class BundlePricingMode(StrEnum):
    """How a bundle's price follows from those of its parts."""

    SUM = "sum"
    OVERRIDE = "override"
    DISCOUNT = "discount"


@dataclass(frozen=True, kw_only=True, slots=True)
class BundlePricing(Extensible):
    """How a bundle's price follows from those of its parts; `percentage`: off every charge of theirs."""

    mode: BundlePricingMode | None = None
    percentage: Decimal | None = None


class PricingModelType(StrEnum):
    """How a quantity becomes an amount."""

    PER_UNIT = "perUnit"
    PACKAGE = "package"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PERCENTAGE = "percentage"
    GRADUATED_PERCENTAGE = "graduatedPercentage"
    RATED = "rated"


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceTier(Extensible):
    """From where the tier before ended (excluded) up to `up_to` (included; None: without end)."""

    up_to: Decimal | None = None
    unit_amount: Decimal | None = None
    flat_amount: Decimal | None = None
    percentage: Decimal | None = None


class RateMaximumStrategy(StrEnum):
    """What happens when an event reaches the maximum of its rate."""

    CAP = "cap"
    WHOLE_INCREMENT = "wholeIncrement"
    DISCONNECT = "disconnect"


class RoundingMethod(StrEnum):
    """How an amount becomes one of fewer decimals; `middle`: half away from zero."""

    UP = "up"
    MIDDLE = "middle"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeBand(Extensible):
    """Hours of some days, local: HH:MM[:SS]; an end before the start is on the next day."""

    day: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    month_day: tuple[int, ...] = ()
    month: tuple[int, ...] = ()
    year: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RateStep(Extensible):
    """From so many units on: `amount` for every `per` units, in whole increments that are begun."""

    start: Decimal | None = None
    amount: Decimal | None = None
    per: Decimal | None = None
    increment: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageRate(Extensible):
    """What an event to these destinations (longest prefix) at these times costs."""

    prefix: tuple[str, ...] = ()
    destination: str | None = None
    time_band: tuple[TimeBand, ...] = ()
    connect_fee: Decimal | None = None
    step: tuple[RateStep, ...] = ()
    maximum: Decimal | None = None
    rated_by_start: bool | None = None
    maximum_strategy: RateMaximumStrategy | None = None
    rounding_method: RoundingMethod | None = None
    rounding_decimals: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PricingModel(Extensible):
    """How a quantity becomes an amount; amounts are in the price's currency."""

    model_type: PricingModelType | None = None
    tier: tuple[PriceTier, ...] = ()
    package_size: Decimal | None = None
    usage_type: str | None = None
    allowance: Quantity | None = None
    event_increment: Quantity | None = None
    period_increment: Quantity | None = None
    event_minimum: Decimal | None = None
    event_maximum: Decimal | None = None
    period_minimum: Decimal | None = None
    period_maximum: Decimal | None = None
    rate: tuple[UsageRate, ...] = ()
    free_events: int | None = None
