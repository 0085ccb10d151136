"""Which tier a member is in, and why. Pure, and replayable from its receipt.

Up at once, down at the review: a tier that was reached is kept until its review, a period after it was reached or last
confirmed. Who doesn't qualify for it then keeps it for the days of grace, and goes down to what he qualifies for when
these have passed; qualifying again meanwhile ends the grace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from chassis.errors import InvalidArgument
from chassis.receipts import Receipt, ReceiptStep
from customers.loyalty.values import LoyaltyTier

ENGINE, REVISION = "loyalty.tier", "1"


class TierReason(StrEnum):
    """Why a member's tier is what it is."""

    ENROLLED = "ENROLLED"
    QUALIFIED = "QUALIFIED"
    CONFIRMED = "CONFIRMED"
    GRACE = "GRACE"
    NOT_QUALIFIED = "NOT_QUALIFIED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A member's tier (empty: none), its review, and until when it is only kept."""

    tier: str = ""
    review_at: datetime | None = None
    grace_until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TierDecision:
    """What a member's standing becomes; the reason is empty when nothing changes."""

    standing: Standing
    reason: TierReason | None
    receipt: Receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    tiers: tuple[LoyaltyTier, ...]
    standing: Standing
    qualifying: Decimal
    at: datetime
    # When a tier that is reached or confirmed now is looked at again, and until when one is kept that isn't.
    next_review: datetime
    next_grace: datetime


def decide(
    tiers: Sequence[LoyaltyTier],
    standing: Standing,
    qualifying: Decimal,
    at: datetime,
    *,
    next_review: datetime,
    next_grace: datetime,
) -> TierDecision:
    """The standing of who has earned or spent `qualifying` within the period."""
    inputs = _Inputs(
        tiers=tuple(tiers),
        standing=standing,
        qualifying=qualifying,
        at=at,
        next_review=next_review,
        next_grace=next_grace,
    )
    return _decided(inputs)


def replay(receipt: Receipt) -> TierDecision:
    """The same again, from a receipt. Raises InvalidArgument UNKNOWN_ENGINE."""
    if (receipt.engine, receipt.revision) != (ENGINE, REVISION):
        raise InvalidArgument("UNKNOWN_ENGINE", f"no engine {receipt.engine} of revision {receipt.revision}")
    return _decided(_DECODER.decode(receipt.inputs))


_ENCODER = msgspec.json.Encoder(decimal_format="string", order="deterministic")
_DECODER = msgspec.json.Decoder(_Inputs)


def _decided(inputs: _Inputs) -> TierDecision:
    ladder = sorted(inputs.tiers, key=lambda tier: (tier.threshold or Decimal(0), tier.code or ""))
    rank = {tier.code or "": place for place, tier in enumerate(ladder, 1)}
    wanted = next((tier.code or "" for tier in reversed(ladder) if (tier.threshold or 0) <= inputs.qualifying), "")
    before = inputs.standing
    # A tier that the terms don't have any more is none.
    current = before.tier if before.tier in rank else ""
    due = before.review_at is not None and before.review_at <= inputs.at
    graced = before.grace_until is not None
    # No tier is none to be looked at again.
    fresh = Standing(tier=wanted, review_at=inputs.next_review if wanted else None)
    standing, reason = before, None
    if rank.get(wanted, 0) > rank.get(current, 0) or (wanted and before.tier != current):
        standing, reason = fresh, TierReason.QUALIFIED
    elif wanted == current and (due or graced):
        standing, reason = fresh, TierReason.CONFIRMED
    elif wanted != current and graced and before.grace_until is not None and before.grace_until <= inputs.at:
        standing, reason = fresh, TierReason.NOT_QUALIFIED
    elif wanted != current and due and not graced:
        if inputs.next_grace > inputs.at:
            standing = Standing(tier=current, review_at=before.review_at, grace_until=inputs.next_grace)
            reason = TierReason.GRACE
        else:
            standing, reason = fresh, TierReason.NOT_QUALIFIED
    elif before.tier != current:
        standing, reason = fresh, TierReason.NOT_QUALIFIED
    steps = (
        ReceiptStep(subject="qualifying", action="COMPARED", rule=wanted, after=f"{inputs.qualifying:f}"),
        ReceiptStep(
            subject="tier",
            action="TIER_CHANGED" if standing.tier != before.tier else "TIER_KEPT",
            rule=standing.tier,
            before=before.tier,
            after=standing.tier,
            reason=str(reason) if reason is not None else None,
        ),
    )
    receipt = Receipt(engine=ENGINE, revision=REVISION, inputs=_ENCODER.encode(inputs).decode(), step=steps)
    return TierDecision(standing=standing, reason=reason, receipt=receipt)
