"""The value objects inside the catalog's resources; names and meanings are TMF620's (v4.1)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

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
