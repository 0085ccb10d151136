"""What can be asked of entitlements to discounts."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from catalog.pricing.messages import customers_of
from catalog.promotion.domain import Promotion
from catalog.qualification import store as qualification_store
from catalog.recommendation import store
from catalog.recommendation.domain import DiscountEntitlement
from catalog.recommendation.entitlement import Active, entitled
from catalog.recommendation.values import EntitledDiscount
from chassis.convert import to_message
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from chassis.types import TimePeriod
from chassis.unit import Unit
from svyaz.catalog.v1 import entitlement_pb2, pricing_pb2


class Entitlements(StandardMethods):
    """Rules of who is entitled to a discount, and the reminder of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        super().__init__(
            entitlement_pb2.DESCRIPTOR.services_by_name["EntitlementService"],
            Collection(
                database,
                DiscountEntitlement,
                entitlement_pb2.DiscountEntitlement,
                creating=_check_named,
                changed=_check_named,
                deleting=store.forget,
            ),
        )

    def RemindOfDiscounts(
        self, request: entitlement_pb2.RemindOfDiscountsRequest, context: Any
    ) -> entitlement_pb2.RemindOfDiscountsResponse:
        """See `catalog.recommendation.entitlement.entitled`."""
        customers = [request.customer_id] if request.customer_id else []
        found = self.of(customers, request.market_segment, self._database.clock.now())
        return entitlement_pb2.RemindOfDiscountsResponse(entitled_discount=_messages(found))

    def with_a_price(
        self, context: pricing_pb2.PricingContext, at: datetime
    ) -> Iterable[entitlement_pb2.EntitledDiscount]:
        """What an agent is reminded of who asks for a price."""
        return _messages(self.of(customers_of(context), context.market_segment, at))

    def of(self, customer_ids: Sequence[str], segments: Iterable[str], at: datetime) -> list[EntitledDiscount]:
        """What a customer of the caller's branches, of these ids, is entitled to at the instant."""
        if not customer_ids:
            return []
        with self._database.unit() as unit:
            rules = [one for one in store.entitlements(unit) if _on_offer(unit, one, at)]
            products = store.active(unit, customer_ids, at) if rules else []
            named = {one.id or "" for rule in rules for one in rule.product_offering}
            # Versions only matter to rules that name offerings.
            known = {*named, *(offering for offering, _ in products)} if named else set()
            book = qualification_store.restrictions(unit, sorted(known)) if known else {}
        lines = {key: offering.line for key, offering in book.items()}
        return entitled(
            [rule.rule(lines) for rule in rules],
            [Active(lines.get(offering, offering), since) for offering, since in products],
            segments,
            at,
        )


def _messages(found: Iterable[EntitledDiscount]) -> list[entitlement_pb2.EntitledDiscount]:
    return [to_message(one, entitlement_pb2.EntitledDiscount) for one in found]


def _check_named(unit: Unit, entitlement: DiscountEntitlement) -> None:
    """Raises InvalidArgument UNKNOWN_OFFERING, UNKNOWN_PROMOTION, and CONTRADICTION when the promotion grants another
    percentage."""
    # Nobody deletes it meanwhile.
    lock_references(unit)
    offerings = [
        Violation(f"product_offering[{i}].id", f"there is no offering {entitlement.product_offering[i].id!r}")
        for i in store.unknown_offerings(unit, entitlement)
    ]
    if offerings:
        raise InvalidArgument("UNKNOWN_OFFERING", offerings[0].description, violations=offerings)
    named = entitlement.promotion
    if named is not None:
        promotion = unit.find(Promotion, named.id) if named.id else None
        if promotion is None:
            wrong = Violation("promotion.id", f"there is no promotion {named.id!r}")
            raise InvalidArgument("UNKNOWN_PROMOTION", wrong.description, violations=[wrong])
        if not _grants(promotion, entitlement):
            granted = ", ".join(f"{one.normalize():f}" for one in sorted(promotion.percentages))
            wrong = Violation("percentage", f"promotion {promotion.id} grants {granted} per cent")
            raise InvalidArgument("CONTRADICTION", wrong.description, violations=[wrong])
    store.refer(unit, entitlement)


def _grants(promotion: Promotion, entitlement: DiscountEntitlement) -> bool:
    """Whether the promotion may come to what the rule says: an amount may be any percentage."""
    return not promotion.percentages or entitlement.percentage in promotion.percentages


def _on_offer(unit: Unit, entitlement: DiscountEntitlement, at: datetime) -> bool:
    """Whether what would grant the discount does so at the time."""
    if entitlement.promotion is None:
        return True
    promotion = unit.find(Promotion, entitlement.promotion.id or "")
    return (
        promotion is not None
        and promotion.released
        and (promotion.valid_for or TimePeriod()).covers(at)
        # It may have been changed since the rule was made.
        and _grants(promotion, entitlement)
    )
