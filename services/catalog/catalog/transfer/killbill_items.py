"""Kill Bill catalogs as things of ours: products are specifications, plans offerings, price lists categories.

Versions of one catalog become versions of its offerings: each plan of each version is an offering of the plan's series,
valid from the version's effective date. Who holds an older one is moved at `effectiveDateForExistingSubscriptions` or,
without that, keeps what there is. Rules and alignments, for which TM Forum has no attribute, are kept in their order as
the extension `planRules` of the catalog.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from decimal import Context, Decimal
from typing import Any

from catalog.product.domain import (
    ONE_TIME,
    RECURRING,
    Catalog,
    Category,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
)
from catalog.product.values import (
    BundledProductOffering,
    BundledProductOfferingOption,
    BundlePricing,
    BundlePricingMode,
    ExistingSubscribers,
    ExistingSubscribersPolicy,
    OfferingPhase,
    PhaseType,
    PriceTier,
    PricingModel,
    PricingModelType,
    ProductOfferingPriceRefOrValue,
    ProductOfferingRelationship,
    ProductSpecificationRelationship,
)
from catalog.transfer import killbill
from catalog.transfer.domain import Content, Element, File, as_text, extensions
from catalog.transfer.killbill import PERIODS, UNLIMITED, Amounts, Block, Limit, Phase, Plan, Product, Usage
from chassis.types import COMMON, Duration, EntityRef, Money, ProductSpecificationRef, Quantity, TimePeriod

_PHASES = {
    "TRIAL": PhaseType.TRIAL,
    "DISCOUNT": PhaseType.DISCOUNT,
    "FIXEDTERM": PhaseType.FIXED_TERM,
    "EVERGREEN": PhaseType.EVERGREEN,
}
_UNITS = {"DAYS": "day", "WEEKS": "week", "MONTHS": "month", "YEARS": "year"}
_ZERO = Decimal(0)
_EXACT = Context(prec=60)
# The base that an add-on needs; one of several is enough.
BASE = "base"
INCLUDES, OFFERS = "includes", "offers"


def read(files: Sequence[File]) -> Content:
    """Raises ContentError with every error of the catalog, of which nothing is taken over then."""
    content = Content("", complete=True)
    versions = killbill.catalogs(files, content)
    content.source = versions[0].name if versions else "killBill"
    specifications: dict[str, Element] = {}
    for number, version in enumerate(versions):
        later = versions[number + 1 :]
        _Version(version, later, content).write(specifications)
    content.elements += specifications.values()
    return content


class _Version:
    """One version of a catalog."""

    def __init__(self, version: killbill.Catalog, later: Sequence[killbill.Catalog], content: Content) -> None:
        self._version = version
        self._later = later
        self._content = content
        assert version.effective is not None
        self._from = version.effective
        self._stamp = version.effective.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def write(self, specifications: dict[str, Element]) -> None:
        """Adds the version's elements; of a specification that several versions have, the newest counts."""
        for product in self._version.products.values():
            specifications[product.name] = self._specification(product)
        for plan in self._version.plans.values():
            self._offering(plan)
        for name, (title, plans) in self._version.price_lists.items():
            self._add(
                Category(
                    id=self._key(name),
                    branch=COMMON,
                    name=title or name,
                    version=self._stamp,
                    is_root=True,
                    product_offering=tuple(EntityRef(id=self._key(plan), name=plan) for plan in plans),
                    extensions=_text(priceList=name, default=name == self._version.default_list),
                ),
                f"priceLists/{name}",
            )
        self._catalog()

    def _key(self, name: str) -> str:
        return f"{name}@{self._stamp}"

    def _add(self, item: Any, path: str) -> None:
        self._content.elements.append(Element(item, f"{self._version.file}#{path}"))

    def _report(self, code: str, reason: str, path: str, element: str) -> None:
        self._content.report(code, reason, place=f"{self._version.file}#{path}", element=element)

    def _catalog(self) -> None:
        version = self._version
        self._add(
            Catalog(
                id=self._key(version.name),
                branch=COMMON,
                name=version.name,
                version=self._stamp,
                catalog_type="killBill",
                valid_for=TimePeriod(
                    start_date_time=self._from, end_date_time=self._later[0].effective if self._later else None
                ),
                category=tuple(EntityRef(id=self._key(name), name=name) for name in version.price_lists),
                extensions=_text(
                    recurringBillingMode=version.mode,
                    currencies=version.currencies,
                    units=[_known(name=name, prettyName=title) for name, title in version.units.items()],
                    planRules={kind: cases for kind, cases in version.rules.items() if cases},
                ),
            ),
            "catalog",
        )

    # --- products ---

    def _specification(self, product: Product) -> Element:
        relations = [(INCLUDES, name) for name in product.included] + [(OFFERS, name) for name in product.available]
        item = ProductSpecification(
            id=product.name,
            branch=COMMON,
            name=product.title or product.name,
            product_number=product.name,
            product_specification_relationship=tuple(
                ProductSpecificationRelationship(
                    id=name, name=name, relationship_type=kind, at_referred_type="ProductSpecification"
                )
                for kind, name in relations
            ),
            extensions=_text(productCategory=product.category, limits=[_limit(one) for one in product.limits]),
        )
        return Element(item, f"{self._version.file}#products/{product.name}")

    # --- plans ---

    def _offering(self, plan: Plan) -> None:
        product = self._version.products[plan.product]
        path = f"plans/{plan.name}"
        phases, charges = self._phases(plan, path)
        parts = self._included(product, path, plan)
        lists = [name for name, (_, plans) in self._version.price_lists.items() if plan.name in plans]
        gone = next((one.effective for one in self._later if plan.name not in one.plans), None)
        policy = ExistingSubscribersPolicy.KEEP if plan.existing_from is None else ExistingSubscribersPolicy.MIGRATE
        self._add(
            ProductOffering(
                id=self._key(plan.name),
                branch=COMMON,
                name=plan.title or plan.name,
                version=self._stamp,
                # Whichever version comes first gives the series its id.
                series=plan.name,
                valid_for=TimePeriod(start_date_time=self._from, end_date_time=gone),
                existing_subscribers=ExistingSubscribers(policy=policy, effective_date=plan.existing_from),
                is_sellable=True,
                is_bundle=bool(parts),
                bundled_product_offering=parts,
                bundle_pricing=BundlePricing(mode=BundlePricingMode.OVERRIDE) if parts else None,
                product_specification=ProductSpecificationRef(id=product.name, name=product.title or product.name),
                product_offering_price=tuple(
                    ProductOfferingPriceRefOrValue(id=one.id, name=one.name) for one in charges
                ),
                product_offering_relationship=self._bases(product),
                category=tuple(EntityRef(id=self._key(name), name=name) for name in lists),
                phase=phases,
                extensions=_text(
                    planName=plan.name,
                    productCategory=product.category,
                    priceLists=lists,
                    recurringBillingMode=plan.mode,
                    plansAllowedInBundle=plan.in_bundle,
                ),
            ),
            path,
        )
        # In a list of its own, a price is for the customers of that list.
        only = lists[0] if lists and self._version.default_list not in lists else None
        for charge in charges:
            charge.price_list = only
            self._add(charge, path)

    def _included(self, product: Product, path: str, plan: Plan) -> tuple[BundledProductOffering, ...]:
        """What comes with the product, at no price of its own: the add-on's first plan in the default list."""
        found = []
        for name in dict.fromkeys(product.included):
            part = self._plan_of(name)
            if part is None:
                reason = f"{name} is included, but no plan is of it"
                self._report("NO_PLAN", reason, path, plan.name)
                continue
            option = BundledProductOfferingOption(
                number_rel_offer_default=1, number_rel_offer_lower_limit=1, number_rel_offer_upper_limit=1
            )
            found.append(BundledProductOffering(id=self._key(part), name=part, bundled_product_offering_option=option))
        return tuple(found)

    def _plan_of(self, product: str) -> str | None:
        listed = [plan for _, plans in self._version.price_lists.values() for plan in plans]
        of_it = [name for name, plan in self._version.plans.items() if plan.product == product]
        return next((name for name in (*listed, *of_it) if name in of_it), None)

    def _bases(self, product: Product) -> tuple[ProductOfferingRelationship, ...]:
        """An add-on is had beside any plan of a product that it is available or included for."""
        if product.category != "ADD_ON":
            return ()
        bases = {
            one.name for one in self._version.products.values() if product.name in (*one.included, *one.available)
        } - {product.name}
        return tuple(
            ProductOfferingRelationship(
                id=self._key(name),
                name=name,
                relationship_type="requires",
                role=BASE,
                at_referred_type="ProductOffering",
            )
            for name, plan in self._version.plans.items()
            if plan.product in bases
        )

    # --- phases and prices ---

    def _phases(self, plan: Plan, path: str) -> tuple[tuple[OfferingPhase, ...], list[ProductOfferingPrice]]:
        phases: list[OfferingPhase] = []
        charges: list[ProductOfferingPrice] = []
        for phase in plan.phases:
            name = f"{plan.name}-{phase.kind.lower()}"
            if any(one.name == name for one in phases):
                name = f"{name}-{len(phases) + 1}"
            phases.append(
                OfferingPhase(
                    name=name,
                    phase_type=_PHASES[phase.kind],
                    duration=_duration(phase.duration),
                    extensions=_text(prettyName=phase.title),
                )
            )
            charges += self._charges(phase, name, path)
        return tuple(phases), charges

    def _charges(self, phase: Phase, name: str, path: str) -> Iterable[ProductOfferingPrice]:
        if phase.fixed is not None:
            yield from self._each(phase.fixed, f"{name}/fixed", name, price_type=ONE_TIME)
        if phase.recurring is not None and phase.period in PERIODS:
            yield from self._each(phase.recurring, f"{name}/recurring", name, **_recurring(phase.period))
        for usage in phase.usages:
            yield from self._usage(usage, f"{name}/{usage.name}", name, path)

    def _each(self, amounts: Amounts, key: str, phase: str, **more: Any) -> Iterable[ProductOfferingPrice]:
        """A price in each currency; nothing stated means 0 in all of them."""
        values = dict.fromkeys(self._version.currencies, _ZERO) if amounts.empty else amounts.values
        for currency, value in values.items():
            yield self._price(key, currency, phase, price=Money(unit=currency, value=value), **more)

    def _price(self, key: str, currency: str, phase: str, **more: Any) -> ProductOfferingPrice:
        return ProductOfferingPrice(
            id=self._key(f"{key}/{currency}"),
            branch=COMMON,
            name=f"{key} {currency}",
            version=self._stamp,
            phase=(phase,),
            **more,
        )

    # --- usage ---

    def _usage(self, usage: Usage, key: str, phase: str, path: str) -> Iterable[ProductOfferingPrice]:
        kept = {"usage": _usage_text(usage)}
        if usage.mode == "IN_ADVANCE":
            yield from self._in_advance(usage, key, phase, kept)
        elif usage.kind == "CONSUMABLE":
            yield from self._consumable(usage, key, phase, path, kept)
        else:
            yield from self._capacity(usage, key, phase, path, kept)

    def _in_advance(
        self, usage: Usage, key: str, phase: str, kept: Mapping[str, Any]
    ) -> Iterable[ProductOfferingPrice]:
        """Blocks, or a capacity, paid for before they are used: once, or every period."""
        kind = _recurring(usage.period) if usage.period in PERIODS else {"price_type": ONE_TIME}
        for number, block in enumerate(usage.blocks):
            amount = Quantity(amount=block.size, units=block.unit)
            yield from self._each(
                block.prices, f"{key}/{number + 1}", phase, unit_of_measure=amount, extensions=_text(**kept), **kind
            )
        if usage.fixed is not None:
            yield from self._each(usage.fixed, f"{key}/fixed", phase, price_type=ONE_TIME, extensions=_text(**kept))
        if usage.recurring is not None:
            yield from self._each(usage.recurring, f"{key}/recurring", phase, extensions=_text(**kept), **kind)

    def _consumable(
        self, usage: Usage, key: str, phase: str, path: str, kept: Mapping[str, Any]
    ) -> Iterable[ProductOfferingPrice]:
        """A price for each unit that the tiers have blocks of, in each currency."""
        units = list(dict.fromkeys(block.unit for tier in usage.tiers for block in tier.blocks))
        for unit in units:
            blocks = [block for tier in usage.tiers for block in tier.blocks if block.unit == unit]
            for currency in self._currencies([block.prices for block in blocks]):
                model, why = _blocks_model(usage.tier_policy, unit, blocks, currency)
                where = f"{key}/{unit}"
                if why:
                    self._report("NOT_MAPPABLE", f"{where} in {currency}: {why}", path, where)
                yield self._usage_price(usage, where, currency, phase, unit, model, kept)

    def _capacity(
        self, usage: Usage, key: str, phase: str, path: str, kept: Mapping[str, Any]
    ) -> Iterable[ProductOfferingPrice]:
        """The tier that the peak lies in costs its price: of one unit a model, of several together none."""
        units = list(dict.fromkeys(limit.unit for tier in usage.tiers for limit in tier.limits))
        for part in ("recurring", "fixed"):
            stated = [getattr(tier, part) for tier in usage.tiers]
            if not any(one is not None for one in stated):
                continue
            for currency in self._currencies([one for one in stated if one is not None]):
                where = f"{key}/{part}"
                model, why = _limits_model(usage, units, stated, currency)
                if why:
                    self._report("NOT_MAPPABLE", f"{where} in {currency}: {why}", path, where)
                yield self._usage_price(usage, where, currency, phase, units[0] if units else "", model, kept)

    def _currencies(self, amounts: Sequence[Amounts]) -> list[str]:
        if any(one.empty for one in amounts):
            return list(self._version.currencies)
        return [currency for currency in self._version.currencies if any(currency in one.values for one in amounts)]

    def _usage_price(
        self,
        usage: Usage,
        key: str,
        currency: str,
        phase: str,
        unit: str,
        model: PricingModel | None,
        kept: Mapping[str, Any],
    ) -> ProductOfferingPrice:
        period = {k: v for k, v in _recurring(usage.period).items() if k != "price_type"}
        return self._price(
            key,
            currency,
            phase,
            price_type="usage",
            # The currency of the model's amounts.
            price=Money(unit=currency) if model is not None else None,
            unit_of_measure=Quantity(amount=Decimal(1), units=unit) if unit else None,
            pricing_model=model,
            charge=key,
            extensions=_text(**kept),
            **period,
        )


def _recurring(period: str) -> dict[str, Any]:
    length, unit = PERIODS.get(period, (None, None))
    return {
        "price_type": RECURRING,
        "recurring_charge_period_type": unit,
        "recurring_charge_period_length": None if length == 1 else length,
    }


def _duration(duration: killbill.Duration) -> Duration | None:
    return None if duration.unit == UNLIMITED else Duration(amount=duration.number, units=_UNITS[duration.unit])


def _amount(amounts: Amounts, currency: str) -> Decimal | None:
    return _ZERO if amounts.empty else amounts.values.get(currency)


def _blocks_model(policy: str, unit: str, blocks: Sequence[Block], currency: str) -> tuple[PricingModel | None, str]:
    """How many units cost how much; or why no model says that exactly.

    A tier's `max` counts its blocks, and a block that is begun is charged whole.
    """
    prices = [_amount(block.prices, currency) for block in blocks]
    if None in prices:
        return None, "not every tier has a price"
    if len(blocks) == 1:
        block, price = blocks[0], prices[0]
        ends = None if block.maximum is None else block.maximum * block.size
        tier = PriceTier(up_to=ends, unit_amount=price)
        model = PricingModel(
            model_type=PricingModelType.PACKAGE, package_size=block.size, tier=(tier,), usage_type=unit
        )
        return model, ""
    sizes = {block.size for block in blocks}
    if len(sizes) > 1:
        return None, "its tiers have blocks of several sizes"
    size = sizes.pop()
    tiers, reached = [], _ZERO
    for block, price in zip(blocks, prices, strict=True):
        assert price is not None
        each = _EXACT.divide(price, size)
        if _EXACT.multiply(each, size) != price:
            return None, f"{price} for {size} isn't an exact price for one"
        reached = reached if block.maximum is None else reached + block.maximum * size
        tiers.append(PriceTier(up_to=None if block.maximum is None else reached, unit_amount=each))
    kind = PricingModelType.VOLUME if policy == "TOP_TIER" else PricingModelType.GRADUATED
    whole = None if size == 1 else Quantity(amount=size, units=unit)
    return PricingModel(model_type=kind, tier=tuple(tiers), usage_type=unit, period_increment=whole), ""


def _limits_model(
    usage: Usage, units: Sequence[str], stated: Sequence[Amounts | None], currency: str
) -> tuple[PricingModel | None, str]:
    if len(units) != 1:
        return None, f"its tiers are told apart by {len(units)} units together ({', '.join(units)})"
    tiers = []
    for tier, amounts in zip(usage.tiers, stated, strict=True):
        amount = None if amounts is None else _amount(amounts, currency)
        if amount is None:
            return None, "not every tier has a price"
        tiers.append(PriceTier(up_to=tier.limits[0].maximum, flat_amount=amount, unit_amount=_ZERO))
    return PricingModel(model_type=PricingModelType.VOLUME, tier=tuple(tiers), usage_type=units[0]), ""


# --- what is kept as text --------------------------------------------------------------------------------------------


def _limit(limit: Limit) -> dict[str, Any]:
    return _known(unit=limit.unit, max=limit.maximum, min=limit.minimum)


def _usage_text(usage: Usage) -> dict[str, Any]:
    """Everything that the section says, for those who want it as it was."""
    return _known(
        name=usage.name,
        prettyName=usage.title,
        billingMode=usage.mode,
        usageType=usage.kind,
        tierBlockPolicy=usage.tier_policy,
        billingPeriod=usage.period,
        limits=[_limit(one) for one in usage.limits],
        blocks=[_block(one) for one in usage.blocks],
        tiers=[
            _known(
                limits=[_limit(one) for one in tier.limits],
                blocks=[_block(one) for one in tier.blocks],
                fixedPrice=tier.fixed and tier.fixed.values,
                recurringPrice=tier.recurring and tier.recurring.values,
            )
            for tier in usage.tiers
        ],
    )


def _block(block: Block) -> dict[str, Any]:
    return _known(
        unit=block.unit,
        size=block.size,
        prices=block.prices.values,
        max=block.maximum,
        type=block.kind,
        minTopUpCredit=block.minimum_credit,
    )


def _known(**values: Any) -> dict[str, Any]:
    return extensions(**values)


def _text(**values: Any) -> str | None:
    return as_text(_known(**values))
