"""What can be asked of promotions and coupons: one method, one use case, one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from catalog.pricing.offers import Offer, parse_offer
from catalog.pricing.store import Current
from catalog.pricing.values import Pricing, PricingContext
from catalog.promotion import store
from catalog.promotion.domain import (
    NOT_ON_OFFER,
    ApprovalThresholds,
    Coupon,
    CouponRedemption,
    Promotion,
    check_priority,
    new_code,
    normal_code,
    use_obstacle,
)
from catalog.promotion.engine import Coupon as EnteredCoupon
from catalog.promotion.held import held_of
from catalog.promotion.pricing import INPUT, Basis, parse_basis, promoted, relevant
from catalog.promotion.terms import Terms
from catalog.promotion.values import Stage
from chassis import calls
from chassis.convert import from_message, to_message
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.references import lock_references
from chassis.resources import Collection, StandardMethods
from chassis.types import COMMON, EntityRef, TimePeriod, new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import promotion_pb2

MAX_GENERATED = 1_000
# Whoever enters such a coupon has to enter another one, or none.
_WRONG = frozenset({"COUPON_UNKNOWN", "COUPON_EXPIRED", "COUPON_EXHAUSTED"})


class Promotions(StandardMethods):
    """TMF671, and the coupons that open its promotions."""

    def __init__(self, database: Database, thresholds: ApprovalThresholds) -> None:
        self._database = database
        self._thresholds = thresholds
        super().__init__(
            promotion_pb2.DESCRIPTOR.services_by_name["PromotionService"],
            Collection(
                database,
                Promotion,
                promotion_pb2.Promotion,
                creating=self._creating,
                changed=self._changed,
                deleting=_deleting_promotion,
            ),
            Collection(
                database,
                Coupon,
                promotion_pb2.Coupon,
                creating=_creating_coupon,
                deleting=_deleting_coupon,
            ),
        )

    def GenerateCoupons(
        self, request: promotion_pb2.GenerateCouponsRequest, context: Any
    ) -> promotion_pb2.GenerateCouponsResponse:
        """Makes up to 1,000 coupons of one promotion, all with the same limits and validity."""
        if not 0 < request.count <= MAX_GENERATED:
            raise InvalidArgument(
                "INVALID_COUNT",
                f"from 1 to {MAX_GENERATED} coupons are made at a time",
                violations=[Violation("count", f"{request.count} isn't from 1 to {MAX_GENERATED}")],
            )

        def work(unit: Unit) -> promotion_pb2.GenerateCouponsResponse:
            prefix = normal_code(request.prefix)
            made = []
            for _ in range(request.count):
                coupon = Coupon(
                    id=new_id(),
                    branch=COMMON,
                    code=new_code(prefix),
                    promotion=EntityRef(id=request.promotion_id, at_referred_type=Promotion.__name__),
                    usage_limit=request.usage_limit if request.HasField("usage_limit") else None,
                    customer_usage_limit=(
                        request.customer_usage_limit if request.HasField("customer_usage_limit") else None
                    ),
                    valid_for=from_message(request.valid_for, TimePeriod) if request.HasField("valid_for") else None,
                )
                coupon.check(unit.at)
                made.append(coupon)
            _check_opens(unit, made[0])
            # Twice the same is as likely as to guess one; then the index of codes refuses all, and they are made anew.
            for coupon in made:
                unit.add(coupon)
            return promotion_pb2.GenerateCouponsResponse(
                items=[to_message(coupon, promotion_pb2.Coupon) for coupon in made]
            )

        return self._database.transact(request, promotion_pb2.GenerateCouponsResponse, work)

    def RedeemCoupon(self, request: promotion_pb2.RedeemCouponRequest, context: Any) -> promotion_pb2.CouponRedemption:
        """Takes one use of a coupon for an order; the limits hold whoever else does the same."""
        wanting = [name for name in ("code", "order_id") if not getattr(request, name)]
        if wanting:
            raise InvalidArgument(
                "REQUIRED", "required fields are missing", violations=[Violation(name, "required") for name in wanting]
            )
        branch = self._database.branch_for_create(CouponRedemption, request.branch)

        def work(unit: Unit) -> promotion_pb2.CouponRedemption:
            return to_message(_redeemed(unit, request, branch), promotion_pb2.CouponRedemption)

        return self._database.transact(request, promotion_pb2.CouponRedemption, work)

    def ReleaseCoupons(
        self, request: promotion_pb2.ReleaseCouponsRequest, context: Any
    ) -> promotion_pb2.ReleaseCouponsResponse:
        """Gives back every use of a coupon by the order."""

        def work(unit: Unit) -> promotion_pb2.ReleaseCouponsResponse:
            for found in store.redemptions_of(unit, request.order_id):
                store.lock_coupon(unit, found.coupon_id)
            unit.session.expire_all()
            # Looked up again: somebody else may have given it back while the lock was waited for.
            released = store.redemptions_of(unit, request.order_id)
            for redemption in released:
                store.give_back_use(unit, redemption.coupon_id)
                unit.delete(redemption)
            return promotion_pb2.ReleaseCouponsResponse(
                redemption=[to_message(one, promotion_pb2.CouponRedemption) for one in released]
            )

        return self._database.transact(request, promotion_pb2.ReleaseCouponsResponse, work)

    def _creating(self, unit: Unit, promotion: Promotion) -> None:
        promotion.edited(_caller())
        if promotion.released:
            self._release(unit, promotion)

    def _changed(self, unit: Unit, promotion: Promotion) -> None:
        before = store.stage_before(promotion)
        stays = before is Stage.RELEASE and promotion.released
        if not stays and store.changed_fields(promotion) - {"lifecycle_status", "last_update"}:
            promotion.edited(_caller())
        if stays:
            promotion.check_extension(store.validity_before(promotion), self._thresholds)
        if promotion.released:
            self._release(unit, promotion, again=stays)

    def _release(self, unit: Unit, promotion: Promotion, *, again: bool = False) -> None:
        """Raises FailedPrecondition SECOND_PERSON_REQUIRED, UNRESOLVED_REFERENCE, PRIORITY_TAKEN."""
        if not again:
            promotion.release(_caller(), self._thresholds)
        # Two that are released at a time see each other, and what they are about isn't taken away meanwhile.
        lock_references(unit)
        check_priority(promotion, store.others_released(unit, promotion.id))
        store.refer(unit, promotion, promotion.terms())


def _caller() -> str:
    return calls.current().principal.subject


def _deleting_promotion(unit: Unit, promotion: Promotion) -> None:
    if promotion.stage in (Stage.RELEASE, Stage.SUSPEND, Stage.RETIREMENT):
        raise FailedPrecondition(
            "WAS_RELEASED",
            f"promotion {promotion.id} may have been granted: let it go into retirement instead",
            metadata={"lifecycle_status": promotion.lifecycle_status or ""},
        )
    lock_references(unit)
    code = store.coupon_of(unit, promotion.id)
    if code is not None:
        raise FailedPrecondition("REFERENCED", f"promotion {promotion.id} has coupons, such as {code}")
    names = ", ".join(f"{kind} {key}" for kind, key in store.referrers(unit, promotion))
    if names:
        raise FailedPrecondition(
            "REFERENCED", f"promotion {promotion.id} is referred to by {names}", metadata={"referrers": names}
        )
    store.forget(unit, promotion)


def _check_opens(unit: Unit, coupon: Coupon) -> None:
    """Raises InvalidArgument UNKNOWN_PROMOTION, FailedPrecondition COUPON_NOT_NEEDED."""
    # Nobody deletes the promotion meanwhile.
    lock_references(unit)
    promotion = unit.find(Promotion, coupon.promotion_id)
    if promotion is None:
        wrong = Violation("promotion.id", f"there is no promotion {coupon.promotion_id!r}")
        raise InvalidArgument("UNKNOWN_PROMOTION", wrong.description, violations=[wrong])
    if not promotion.coupon_required:
        wrong = Violation("promotion.id", f"promotion {promotion.id} is granted without a coupon")
        raise FailedPrecondition("COUPON_NOT_NEEDED", wrong.description, violations=[wrong])


def _creating_coupon(unit: Unit, coupon: Coupon) -> None:
    _check_opens(unit, coupon)
    if store.coupons(unit, [coupon.code or ""]):
        wrong = Violation("code", f"another coupon has the code {coupon.code}")
        raise FailedPrecondition("CODE_TAKEN", wrong.description, violations=[wrong])


def _deleting_coupon(unit: Unit, coupon: Coupon) -> None:
    locked = store.lock_coupon(unit, coupon.id)
    if locked is not None and locked.redeemed:
        raise FailedPrecondition(
            "COUPON_USED", f"coupon {coupon.code} is used {locked.redeemed} times: let it expire instead"
        )


def _redeemed(unit: Unit, request: promotion_pb2.RedeemCouponRequest, branch: str) -> CouponRedemption:
    """Raises InvalidArgument COUPON_UNKNOWN, COUPON_EXPIRED, COUPON_EXHAUSTED, CUSTOMER_REQUIRED; FailedPrecondition
    COUPON_NOT_YET_VALID, PROMOTION_NOT_RELEASED."""
    code = normal_code(request.code)
    known = store.coupons(unit, [code]).get(code)
    # From here on everybody else who wants it waits: what is counted stays true until the commit.
    coupon = store.lock_coupon(unit, known.id) if known is not None else None
    if coupon is None:
        raise refusal(code, "COUPON_UNKNOWN", "there is no such coupon")
    before = store.redemption_of(unit, coupon.id, request.order_id)
    if before is not None:
        return before
    obstacle = use_obstacle(coupon, unit.find(Promotion, coupon.promotion_id), unit.at)
    if obstacle is not None:
        raise refusal(code, *obstacle)
    limit = coupon.customer_usage_limit
    if limit is not None:
        if not request.customer_id:
            raise InvalidArgument(
                "CUSTOMER_REQUIRED",
                f"coupon {code} is limited per customer",
                violations=[Violation("customer_id", "required")],
            )
        customers = [request.customer_id, *request.same_customer_id]
        if store.uses_by_customer(unit, [coupon.id], customers).get(coupon.id, 0) >= limit:
            raise refusal(code, "COUPON_EXHAUSTED", f"the customer has used it {limit} times")
    if not store.take_use(unit, coupon.id):
        raise refusal(code, "COUPON_EXHAUSTED", f"it has been used {coupon.usage_limit} times")
    redemption = CouponRedemption(
        id=new_id(),
        branch=branch,
        code=code,
        coupon_id=coupon.id,
        promotion_id=coupon.promotion_id,
        customer_id=request.customer_id,
        order_id=request.order_id,
        redeemed_at=unit.at,
    )
    unit.add(redemption)
    return redemption


def refusal(code: str, reason: str, why: str) -> FailedPrecondition | InvalidArgument:
    """The refusal of a coupon: wrong for good, or as things are now."""
    message = f"coupon {code}: {why}"
    kind = InvalidArgument if reason in _WRONG else FailedPrecondition
    return kind(reason, message, violations=[Violation("code", message)], metadata={"code": code})


class PromotionsOnPrices:
    """Applies the promotions on offer to what has been priced."""

    beside = store.ON_OFFER

    def __init__(self, database: Database) -> None:
        self._database = database
        self._book = store.PromotionBook()

    def apply(
        self, pricing: Pricing, context: PricingContext, offers: Mapping[str, Offer], current: Current | None
    ) -> Pricing:
        """Raises InvalidArgument COUPON_UNKNOWN, COUPON_EXPIRED, COUPON_EXHAUSTED naming the coupons at fault.

        A coupon that changes nothing for another reason is named in the receipt, with the reason.
        """
        terms = self._book.on_offer(self._database, current.of(store.TAG) if current is not None else None)
        coupons: Sequence[EnteredCoupon] = ()
        if context.coupon:
            coupons, redeemed = self._coupons(context)
            terms = [*(one for one in terms if one.promotion.id not in redeemed), *redeemed.values()]
        possible = relevant(terms, coupons, pricing, context)
        categories = {}
        if any(one.by_category for one in possible):
            categories = store.categories_of(self._database, offers)
        return promoted(pricing, context, offers, Basis(possible, tuple(coupons), categories, held_of(context, offers)))

    def replay(self, pricing: Pricing, context: PricingContext, inputs: Mapping[str, Any]) -> Pricing:
        """The same again, from a receipt's inputs. Raises InvalidArgument UNKNOWN_ENGINE."""
        if INPUT not in inputs:
            return pricing
        offers = {offer["id"]: parse_offer(offer) for offer in inputs["offers"]}
        return promoted(pricing, context, offers, parse_basis(inputs[INPUT]))

    def _coupons(self, context: PricingContext) -> tuple[Sequence[EnteredCoupon], Mapping[str, Terms]]:
        """The coupons as they were entered, each once; and promotion → its terms, of those that the order itself has
        redeemed."""
        entered: dict[str, int] = {}
        for i, code in enumerate(context.coupon):
            entered.setdefault(normal_code(code), i)
        wrong: list[tuple[str, Violation]] = []
        found = []
        terms: dict[str, Terms] = {}
        with self._database.unit() as unit:
            known = store.coupons(unit, list(entered))
            limited = [coupon.id for coupon in known.values() if coupon.customer_usage_limit is not None]
            used = store.uses_by_customer(unit, limited, context.customer_ids) if limited else {}
            own = store.redemptions_of(unit, context.order_id) if context.order_id else ()
            redeemed = {redemption.coupon_id: redemption.redeemed_at for redemption in own}
            for code, i in entered.items():
                coupon = known.get(code)
                promotion = unit.find(Promotion, coupon.promotion_id) if coupon is not None else None
                if coupon is not None and coupon.id in redeemed:
                    # Within its limits, as one of those that are counted, and valid when it was redeemed.
                    reason, why = "PROMOTION_NOT_RELEASED", NOT_ON_OFFER
                    if promotion is not None and promotion.as_released:
                        reason, why = "", ""
                        terms[promotion.id] = promotion.terms().redeemed(redeemed[coupon.id])
                else:
                    reason, why = _obstacle(coupon, promotion, context, used.get(coupon.id, 0) if coupon else 0)
                if reason in _WRONG:
                    wrong.append((reason, Violation(f"context.coupon[{i}]", f"coupon {code}: {why}")))
                elif coupon is not None:
                    found.append(EnteredCoupon(code, coupon.promotion_id, why or None))
        if wrong:
            raise InvalidArgument(
                wrong[0][0], wrong[0][1].description, violations=[violation for _, violation in wrong]
            )
        return found, terms


def _obstacle(
    coupon: Coupon | None, promotion: Promotion | None, context: PricingContext, used: int
) -> tuple[str, str]:
    if coupon is None:
        return "COUPON_UNKNOWN", "there is no such coupon"
    if coupon.usage_limit is not None and (coupon.redeemed or 0) >= coupon.usage_limit:
        return "COUPON_EXHAUSTED", f"it has been used {coupon.usage_limit} times"
    if coupon.customer_usage_limit is not None and used >= coupon.customer_usage_limit:
        return "COUPON_EXHAUSTED", f"the customer has used it {used} times"
    return use_obstacle(coupon, promotion, context.at) or ("", "")
