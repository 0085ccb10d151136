"""Coupons that orders are taken with: catalog counts their uses, which an order takes and gives back."""

import time
from collections.abc import Sequence
from functools import partial

from chassis import calls, clients
from chassis.errors import DeadlineExceeded, DomainError, InvalidArgument, Violation
from orders.ordering.domain import ProductOrder
from svyaz.catalog.v1 import promotion_pb2, promotion_pb2_grpc
from svyaz.type.v1 import receipt_pb2

# For one coupon.
REDEEM_SECONDS = 10.0
_ATTEMPTS = 3
_REJECTED, _ACCEPTED = "COUPON_REJECTED", "COUPON_ACCEPTED"


class Coupons:
    """Takes and gives back uses of coupons, as ourselves: whoever orders can neither but by what he orders."""

    def __init__(self, promotions: promotion_pb2_grpc.PromotionServiceStub) -> None:
        self._promotions = promotions

    def redeem(self, order: ProductOrder, customer_ids: Sequence[str], until: float) -> None:
        """Takes a use of each coupon for the order, which has one of each however often it asks, and whose customer has
        these ids; `until`: by `time.monotonic`, after which none is taken any more, since nobody would give it back.

        Raises InvalidArgument COUPON_UNKNOWN, COUPON_EXPIRED, COUPON_EXHAUSTED, CUSTOMER_REQUIRED; FailedPrecondition
        COUPON_NOT_YET_VALID, PROMOTION_NOT_RELEASED; all with the path of the coupon; DeadlineExceeded.
        """
        for position, code in enumerate(order.coupon):
            left = until - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("DEADLINE_EXCEEDED", "the coupons couldn't be redeemed in time")
            # Also for those who would wait longer.
            redeem = partial(self._promotions.RedeemCoupon, timeout=min(REDEEM_SECONDS, left / _ATTEMPTS))
            request = promotion_pb2.RedeemCouponRequest(
                code=code,
                customer_id=order.customer_id,
                order_id=order.id,
                branch=order.branch,
                same_customer_id=customer_ids if len(customer_ids) > 1 else (),
            )
            try:
                with calls.using(calls.current().as_service("orders", branches=(order.branch,))):
                    clients.call(redeem, request, attempts=_ATTEMPTS)
            except DomainError as refusal:
                if not refusal.violations:
                    raise
                raise _at(refusal, f"coupon[{position}]") from refusal

    def release(self, order_id: str) -> None:
        """Gives back whatever the order uses."""
        clients.call(self._promotions.ReleaseCoupons, promotion_pb2.ReleaseCouponsRequest(order_id=order_id))


def require_granted(order: ProductOrder, receipt: receipt_pb2.Receipt | None) -> None:
    """Raises InvalidArgument COUPON_NOT_APPLICABLE naming each coupon that the order would have for nothing: nobody
    takes it for granted that he pays less than he will, and no use is lost."""
    looked_at = [step for step in receipt.step if step.action in (_REJECTED, _ACCEPTED)] if receipt is not None else []
    wrong = []
    for position, step in enumerate(looked_at):
        if step.action == _REJECTED:
            # A coupon that was entered twice is looked at once.
            field = f"coupon[{position}]" if len(looked_at) == len(order.coupon) else "coupon"
            wrong.append(Violation(field, f"coupon {step.rule}: {step.reason}"))
    if order.coupon and not looked_at:
        wrong.append(Violation("coupon", "nothing is ordered that a coupon could be for"))
    if wrong:
        raise InvalidArgument("COUPON_NOT_APPLICABLE", wrong[0].description, violations=wrong)


def _at(refusal: DomainError, field: str) -> DomainError:
    violations = [Violation(field, violation.description) for violation in refusal.violations]
    placed = type(refusal)(refusal.reason, refusal.message, violations=violations, metadata=refusal.metadata)
    placed.status = refusal.status
    return placed
