"""A cell of a template's grid as an offering with its prices."""

import json
from collections.abc import Callable
from decimal import Decimal

from catalog.generation.domain import AxisKind, Cell, CellPrice, TariffTemplate, parts_of, shown
from catalog.product.domain import ProductOffering, ProductOfferingPrice
from catalog.product.values import (
    CharacteristicValueSpecification,
    ProductOfferingPriceRefOrValue,
    ProductOfferingTerm,
    ProductSpecificationCharacteristicValueUse,
)
from chassis.types import COMMON, Duration, EntityRef, Json, Money

MONTH = "month"


def offering_of(template: TariffTemplate, cell: Cell, id: str, prices: list[ProductOfferingPrice]) -> ProductOffering:
    """The offering of the cell, at these prices."""
    uses, terms, segments = [], [], []
    for axis, value in parts_of(template, cell):
        if axis.kind is AxisKind.CHARACTERISTIC or axis.kind is None:
            number = isinstance(value, Decimal)
            stated = CharacteristicValueSpecification(
                value=Json(shown(value) if number else json.dumps(value, ensure_ascii=False)),
                unit_of_measure=axis.unit,
                value_type="number" if number else "boolean" if isinstance(value, bool) else "string",
                is_default=True,
            )
            uses.append(
                ProductSpecificationCharacteristicValueUse(
                    name=axis.characteristic or axis.name,
                    product_spec_characteristic_value=(stated,),
                    product_specification=template.product_specification,
                )
            )
        elif axis.kind is AxisKind.TERM and value:
            unit = axis.unit or MONTH
            duration = Duration(amount=int(value) if isinstance(value, Decimal) else None, units=unit)
            terms.append(ProductOfferingTerm(name=f"{shown(value)} {unit}", duration=duration))
        elif axis.kind is AxisKind.MARKET_SEGMENT:
            segments.append(EntityRef(id=shown(value), name=shown(value)))
    return ProductOffering(
        id=id,
        branch=COMMON,
        name=cell.name,
        description=cell.description,
        is_bundle=False,
        product_specification=template.product_specification,
        category=template.category,
        channel=template.channel,
        place=template.place,
        eligible_branch=template.eligible_branch,
        market_segment=tuple(segments),
        prod_spec_char_value_use=tuple(uses),
        product_offering_term=tuple(terms),
        product_offering_price=tuple(ProductOfferingPriceRefOrValue(id=price.id, name=price.name) for price in prices),
        existing_subscribers=template.existing_subscribers,
        extensions=json.dumps(
            {"generatedFrom": {"tariffTemplate": template.id, "cell": cell.key}},
            ensure_ascii=False,
            separators=(",", ":"),
        ),
    )


def prices_of(template: TariffTemplate, cell: Cell, id_of: Callable[[CellPrice], str]) -> list[ProductOfferingPrice]:
    """The prices of the cell."""
    return [_price(template, one, id_of(one)) for one in cell.prices]


def _price(template: TariffTemplate, one: CellPrice, id: str) -> ProductOfferingPrice:
    stated = template.price[one.index]
    return ProductOfferingPrice(
        id=id,
        branch=COMMON,
        name=one.name,
        price_type=stated.price_type,
        recurring_charge_period_type=stated.recurring_charge_period_type,
        recurring_charge_period_length=stated.recurring_charge_period_length,
        price=Money(unit=stated.currency, value=one.amount),
        tax_category=stated.tax_category,
        tax_included=stated.tax_included,
        charge=stated.charge,
    )
