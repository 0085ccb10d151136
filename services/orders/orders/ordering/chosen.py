"""What was chosen of an offering: by the item that orders it, or by the product that the item changes."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chassis import clients, convert
from chassis.products import AgreementItemRef, ProductRefOrValue
from chassis.types import Characteristic, EntityRef
from orders.inventory.domain import RUNNING, Product
from orders.ordering.values import OrderItem
from svyaz.catalog.v1 import catalog_pb2, catalog_pb2_grpc, pricing_pb2
from svyaz.type.v1 import requests_pb2

# Where the inventory knows what segment a product was sold to: an attribute that TMF637 lacks, named as in TMF620.
_MARKET_SEGMENT = "marketSegment"

# Products by id: those that an order's items name, with what these bundle.
Products = Mapping[str, Product]


def held_product(item: OrderItem, products: Products) -> Product | None:
    """The product that the item changes or ends."""
    return products.get(item.product.id or "") if item.product is not None else None


def holds(item: OrderItem, products: Products) -> bool:
    """Whether the item changes a product within its offering: it stays with the version that was bought."""
    product = held_product(item, products)
    wanted = item.product_offering.id if item.product_offering is not None else None
    return product is not None and wanted is not None and offering_id(product) == wanted


def offering_id(product: Product) -> str | None:
    """What the product is of."""
    return product.product_offering.id if product.product_offering is not None else None


def characteristics(item: OrderItem, product: Product | None) -> Sequence[Characteristic]:
    """Those that the product has once the item has been carried out."""
    stated = item.product.product_characteristic if item.product is not None else ()
    return configured(product.product_characteristic, stated) if product is not None else stated


def configured(held: Sequence[Characteristic], stated: Sequence[Characteristic]) -> tuple[Characteristic, ...]:
    """What a product has when an item that changes it states some: all that it had and that isn't named, then these.

    So that what its tasks have given back (a number, a card) stays. One that is named without a value, or with the JSON
    `null`, is taken away.
    """
    names = {one.name for one in stated}
    kept = (one for one in held if one.name not in names)
    return (*kept, *(one for one in stated if one.value is not None and one.value.text != "null"))


def stated_term(item: OrderItem) -> str:
    """The name of the commitment that the item asks for; empty: none."""
    terms = item.product.product_term if item.product is not None else ()
    return next((term.name for term in terms if term.name), "")


def held_term(product: Product | None) -> str:
    """The name of the commitment that the product has been sold with; empty: none."""
    return next((term.name for term in product.product_term if term.name), "") if product is not None else ""


def agreement(product: ProductRefOrValue | Product | None) -> str:
    """The frame contract that a product names, the first of which counts; empty: none."""
    named = product.agreement if product is not None else ()
    return next((one.id for one in named if one.id), "")


def market_segments(product: ProductRefOrValue | Product | None) -> tuple[str, ...]:
    """The segments that the product was sold to, by name and id."""
    extensions = json.loads(product.extensions) if product is not None and product.extensions else {}
    found = extensions.get(_MARKET_SEGMENT)
    named = []
    for one in found if isinstance(found, list) else [found]:
        named += [one.get("id"), one.get("name")] if isinstance(one, dict) else [one]
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str) and name))


def in_common(stated: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """What all say that say anything; nothing when they differ."""
    said = {one for one in stated if one}
    return said.pop() if len(said) == 1 else ()


@dataclass(frozen=True)
class Buyer:
    """What somebody is to the catalog beside a customer: in these segments, by this frame contract."""

    market_segment: tuple[EntityRef, ...] = ()
    agreement_id: str = ""
    # All ids of the customer; none: nobody has said that there are others than the order's.
    ids: tuple[str, ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments by id and name, either of which prices may go by."""
        return tuple(dict.fromkeys(name for one in self.market_segment for name in (one.id, one.name) if name))

    def bought(self, product: ProductRefOrValue | None, held: Product | None = None) -> ProductRefOrValue | None:
        """The product with what its price has gone by, so that it can be told, and priced again, later; of one that is
        held only what it hasn't yet."""
        bought = product or ProductRefOrValue()
        by_agreement = self.agreement_id and not bought.agreement and self.agreement_id != agreement(held)
        known = json.loads(bought.extensions) if bought.extensions else {}
        by_segment = self.market_segment and _MARKET_SEGMENT not in known and self.segments != market_segments(held)
        if by_agreement:
            bought = replace(bought, agreement=(AgreementItemRef(id=self.agreement_id),))
        if by_segment:
            # Put into the text that is there, so that no digit of it changes.
            named = [
                {key: value for key, value in (("id", s.id), ("name", s.name)) if value} for s in self.market_segment
            ]
            first = f'{{"{_MARKET_SEGMENT}":{json.dumps(named, ensure_ascii=False)}'
            rest = f",{bought.extensions.strip()[1:]}" if bought.extensions and known else "}"
            bought = replace(bought, extensions=first + rest)
        return bought if by_agreement or by_segment else product


def unsegmented(extensions: str | None) -> str | None:
    """The attributes without the segment."""
    return convert.merge_json(extensions, json.dumps({_MARKET_SEGMENT: None}))


# --- parts of a bundle -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldBundle:
    """A product of several with its running parts, and how many of each; `offering_id`: what it is to become."""

    product: Product
    offering_id: str
    parts: Sequence[Product]
    quantities: Mapping[str, int]

    def number(self, series: Mapping[str, str]) -> dict[str, int]:
        """How many of each series one of the bundle has."""
        found: dict[str, int] = {}
        for part in self.parts:
            key = _in_series(_offering_of(part), series)
            found[key] = found.get(key, 0) + self.quantities.get(part.id, 1)
        bundles = self.quantities.get(self.product.id, 1)
        return {key: max(1, number // bundles) for key, number in found.items()}


@dataclass(frozen=True)
class Selections:
    """How many of each part are wanted, by the bundle's product; with the series of the offerings that are parts."""

    bundled: Mapping[str, Sequence[pricing_pb2.BundledSelection]] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)


def running_parts(product: Product, products: Mapping[str, Product], apart: Collection[str]) -> Iterator[Product]:
    """All that is inside a product, but for what is ordered by itself."""
    for key in product.part_ids:
        part = products.get(key)
        if part is not None and part.status in RUNNING and key not in apart:
            yield part
            yield from running_parts(part, products, apart)


def selections(catalog: catalog_pb2_grpc.CatalogServiceStub, bundles: Sequence[HeldBundle]) -> Selections:
    """What the bundles are to be made of, so that who has a part goes on having it, in its new version: as many of each
    part as are held of its series; of one that could have been had with the old offering and wasn't, none."""
    wholes = _offerings(catalog, {key for one in bundles for key in (one.offering_id, _offering_of(one.product))})
    inside = {part.id for whole in wholes.values() for part in whole.bundled_product_offering}
    known = _offerings(catalog, inside | {_offering_of(part) for one in bundles for part in one.parts})
    series = {key: offering.series or key for key, offering in known.items()}
    return Selections({one.product.id: _selected(one, wholes, series) for one in bundles}, series)


def _selected(
    held: HeldBundle, wholes: Mapping[str, catalog_pb2.ProductOffering], series: Mapping[str, str]
) -> list[pricing_pb2.BundledSelection]:
    old, new = wholes.get(_offering_of(held.product)), wholes.get(held.offering_id)
    numbers = held.number(series)
    before = {_in_series(part.id, series) for part in old.bundled_product_offering} if old is not None else set()
    found = []
    for part in new.bundled_product_offering if new is not None else ():
        line = _in_series(part.id, series)
        spurned = line in before and _optional(part.bundled_product_offering_option)
        if line in numbers or spurned:
            found.append(pricing_pb2.BundledSelection(product_offering_id=part.id, number=numbers.get(line, 0)))
    return found


def _optional(option: catalog_pb2.BundledProductOfferingOption) -> bool:
    """Whether there may be none; without limits there are always as many."""
    limited = option.HasField("number_rel_offer_lower_limit") or option.HasField("number_rel_offer_upper_limit")
    return limited and not option.number_rel_offer_lower_limit


def _offerings(
    catalog: catalog_pb2_grpc.CatalogServiceStub, ids: Collection[str]
) -> dict[str, catalog_pb2.ProductOffering]:
    wanted = sorted(filter(None, ids))
    if not wanted:
        return {}
    by_id = requests_pb2.Filter(path="id", operator=requests_pb2.Filter.OPERATOR_EQ, value=wanted)
    found = clients.call(
        catalog.ListProductOfferings, requests_pb2.ListRequest(filter=[by_id], limit=min(1000, len(wanted)))
    )
    return {offering.id: offering for offering in found.items}


def _offering_of(product: Product) -> str:
    return (product.product_offering.id or "") if product.product_offering is not None else ""


def _in_series(key: str, series: Mapping[str, str]) -> str:
    return series.get(key, key)
