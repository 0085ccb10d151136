"""Promotions (TMF671), their lifecycle and what has to hold before they are released; coupons that open them."""

import itertools
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from catalog.promotion.engine import Action, Off
from catalog.promotion.terms import Reading, Terms, parse_terms, window
from catalog.promotion.values import PromotionPattern, Stage
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, Attachment, EntityRef, TimePeriod, require_transition

_CURRENCY = re.compile("[A-Z]{3}")

# The words for each stage that we have met beside those of TMF671, in small letters; any other word means a draft.
_WORDS: Mapping[str, Stage] = {
    word: stage
    for stage, words in {
        Stage.TEST: "test testing intest",
        Stage.WAIT_FOR_APPROVAL: "waitforapproval waitingforapproval pendingapproval",
        Stage.RELEASE: "release released active launched",
        Stage.SUSPEND: "suspend suspended",
        Stage.RETIREMENT: "retirement retired obsolete",
    }.items()
    for word in words.split()
}
TRANSITIONS: Mapping[Stage, frozenset[Stage]] = {
    Stage.DRAFT: frozenset({Stage.TEST, Stage.WAIT_FOR_APPROVAL, Stage.RELEASE}),
    Stage.TEST: frozenset({Stage.DRAFT, Stage.WAIT_FOR_APPROVAL, Stage.RELEASE}),
    Stage.WAIT_FOR_APPROVAL: frozenset({Stage.DRAFT, Stage.RELEASE}),
    Stage.RELEASE: frozenset({Stage.SUSPEND, Stage.RETIREMENT}),
    Stage.SUSPEND: frozenset({Stage.RELEASE, Stage.RETIREMENT}),
    Stage.RETIREMENT: frozenset(),
}
# What a released promotion may still change: it grants the same as before.
_HARMLESS = frozenset(
    {
        "description", "lifecycle_status", "name", "promotion_type", "attachment", "valid_for", "last_update",
        "at_type", "at_base_type", "at_schema_location", "extensions",
    }
)  # fmt: skip
# Those for what is on offer: the database looks for them too.
RELEASED_WORDS = tuple(sorted(word for word, stage in _WORDS.items() if stage is Stage.RELEASE))


def stage_of(word: str | None) -> Stage:
    """The stage that a lifecycle status means."""
    return _WORDS.get(re.sub("[^A-Za-z]", "", word or "").lower(), Stage.DRAFT)


@dataclass(frozen=True, slots=True)
class ApprovalThresholds:
    """From which discount on a second person has to release it: a percentage, and an amount of each currency.

    An amount of a currency without a threshold always needs one.
    """

    percentage: Decimal = Decimal(50)
    amounts: Mapping[str, Decimal] = field(default_factory=dict)

    @classmethod
    def parse(cls, percentage: str, amounts: str) -> "ApprovalThresholds":
        """From an environment's texts: `50` and `KGS=1000,UAH=500`. Raises ValueError for what can't be read."""
        pairs = [pair.split("=") for pair in amounts.split(",") if pair.strip()]
        return cls(Decimal(percentage), {currency.strip(): Decimal(amount) for currency, amount in pairs})


@dataclass(kw_only=True, eq=False)
class Promotion(Aggregate):
    """What is granted to whoever meets its criteria, for some time."""

    STATE: ClassVar[str | None] = "lifecycle_status"

    description: str | None = None
    last_update: datetime | None = None
    lifecycle_status: str | None = None
    name: str | None = None
    promotion_type: str | None = None
    attachment: tuple[Attachment, ...] = ()
    pattern: tuple[PromotionPattern, ...] = ()
    valid_for: TimePeriod | None = None
    priority: int | None = None
    exclusive: bool | None = None
    exclusion_group: str | None = None
    applies_to_discounted: bool | None = None
    on_list_price: bool | None = None
    currency: str | None = None
    coupon_required: bool | None = None
    edited_by: tuple[str, ...] = ()

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return stage_of(self.lifecycle_status)

    @property
    def released(self) -> bool:
        """Whether it is granted, while it is valid."""
        return self.stage is Stage.RELEASE

    @property
    def as_released(self) -> bool:
        """Whether it says what was released the last time: it is, or was and nobody has changed it since."""
        return self.released or (self.stage in (Stage.SUSPEND, Stage.RETIREMENT) and not self.edited_by)

    def check(self, at: datetime) -> None:
        """Gives a new promotion its first status (it may name any) and its stamp.

        Raises InvalidArgument for values that contradict each other, FailedPrecondition NOT_RELEASABLE.
        """
        self.lifecycle_status = self.lifecycle_status or Stage.DRAFT.value
        self.last_update = at
        self.edited_by = ()
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes and stamps them with their instant.

        Raises FailedPrecondition BAD_TRANSITION, NOT_RELEASABLE, PROMOTION_RELEASED for a change of what a released one
        grants; InvalidArgument for values that contradict each other.
        """
        ours = ("last_update", "edited_by")
        news = {name: value for name, value in changes.items() if name not in ours and getattr(self, name) != value}
        if not news:
            return
        before = self.stage
        if "lifecycle_status" in news:
            wanted = stage_of(news["lifecycle_status"])
            if not news["lifecycle_status"]:
                raise InvalidArgument(
                    "REQUIRED", "a status can't be taken away", violations=[Violation("lifecycle_status", "required")]
                )
            if wanted is not before:
                require_transition(f"Promotion {self.id}", TRANSITIONS, before, wanted, attribute="lifecycle_status")
        if before is Stage.RELEASE and (granting := sorted(news.keys() - _HARMLESS)):
            raise FailedPrecondition(
                "PROMOTION_RELEASED",
                f"promotion {self.id} is released: suspend it before you change what it grants",
                violations=[Violation(name, "it can't change while the promotion is released") for name in granting],
            )
        super().revise(news, at)
        self._check()
        self.last_update = at

    def edited(self, subject: str) -> None:
        """Remembers who changed it."""
        if subject not in self.edited_by:
            self.edited_by = (*self.edited_by, subject)

    def release(self, subject: str, thresholds: ApprovalThresholds) -> None:
        """Lets it be released by the subject. Raises FailedPrecondition SECOND_PERSON_REQUIRED."""
        if needs_second_person(self, thresholds) and subject in self.edited_by:
            raise FailedPrecondition(
                "SECOND_PERSON_REQUIRED",
                f"promotion {self.id} grants so much that somebody who hasn't changed it has to release it",
                violations=[Violation("lifecycle_status", "somebody who hasn't changed it has to release it")],
                metadata={"edited_by": ", ".join(self.edited_by)},
            )
        self.edited_by = ()

    def check_extension(self, before: TimePeriod | None, thresholds: ApprovalThresholds) -> None:
        """Refuses to grant for longer what one person may not release alone, while it stays released.

        Raises FailedPrecondition SECOND_PERSON_REQUIRED.
        """
        was, now = before or TimePeriod(), self.valid_for or TimePeriod()
        sooner = was.start_date_time is not None and (
            now.start_date_time is None or now.start_date_time < was.start_date_time
        )
        longer = was.end_date_time is not None and (now.end_date_time is None or now.end_date_time > was.end_date_time)
        if (sooner or longer) and needs_second_person(self, thresholds):
            raise FailedPrecondition(
                "SECOND_PERSON_REQUIRED",
                f"promotion {self.id} grants so much that it is suspended, extended, and released by somebody else",
                violations=[Violation("valid_for", "it can't get longer while the promotion is released")],
            )

    def terms(self) -> Terms:
        """What it means to the engine. Raises FailedPrecondition NOT_RELEASABLE naming what isn't understood."""
        reading = Reading(on_list_price=bool(self.on_list_price), currency=self.currency or "")
        data = {
            "id": self.id,
            "name": self.name or "",
            "priority": self.priority or 0,
            "patterns": reading.patterns(self.pattern),
            "exclusive": bool(self.exclusive),
            "exclusion_group": self.exclusion_group or "",
            "needs_coupon": bool(self.coupon_required),
            "applies_to_discounted": self.applies_to_discounted is not False,
            "on_list_price": bool(self.on_list_price),
            "currency": self.currency or "",
            "valid_for": window(self.valid_for),
        }
        if reading.violations:
            raise FailedPrecondition(
                "NOT_RELEASABLE",
                f"it can't be released yet: {reading.violations[0].description}",
                violations=list(dict.fromkeys(reading.violations)),
            )
        return parse_terms(data)

    @property
    def percentages(self) -> frozenset[Decimal]:
        """What it takes off, where that is percentages and nothing else; empty as long as it can't be understood."""
        try:
            patterns = self.terms().promotion.patterns
        except FailedPrecondition:
            return frozenset()
        granted = [action.percentage for pattern in patterns for action in pattern.actions]
        found = frozenset(percentage for percentage in granted if percentage is not None)
        return found if None not in granted else frozenset()

    def _check(self) -> None:
        wrong = list(self._contradictions())
        if wrong:
            raise InvalidArgument("CONTRADICTION", wrong[0].description, violations=wrong)
        if self.released:
            self.terms()

    def _contradictions(self) -> Iterable[Violation]:
        yield from _reversed("valid_for", self.valid_for)
        if self.currency is not None and not _CURRENCY.fullmatch(self.currency):
            yield Violation("currency", "a currency is one of ISO 4217, such as KGS")
        for i, pattern in enumerate(self.pattern):
            yield from _reversed(f"pattern[{i}].valid_for", pattern.valid_for)
            if not pattern.action:
                yield Violation(f"pattern[{i}].action", "a pattern grants something")
            if not pattern.criteria_group:
                yield Violation(f"pattern[{i}].criteria_group", "a pattern says to whom")
            for k, group in enumerate(pattern.criteria_group):
                if not group.criteria:
                    yield Violation(f"pattern[{i}].criteria_group[{k}].criteria", "a group has criteria")


def needs_second_person(promotion: Promotion, thresholds: ApprovalThresholds) -> bool:
    """Whether it grants so much that two people have to want it: by all its actions that can meet on one charge.

    Actions are taken to meet unless they are for delivery and something else, or for different kinds or charge periods:
    what is in one category, or of one offering, may be in another one and part of another one too.
    """
    actions = [action for pattern in promotion.terms().promotion.patterns for action in pattern.actions]
    limit = thresholds.amounts.get(promotion.currency or "", Decimal(0))
    charges = itertools.product(
        {action.off is Off.DELIVERY for action in actions},
        {action.filter.kind for action in actions},
        {action.filter.period for action in actions},
    )
    for delivery, kind, period in charges:
        meeting = [
            action
            for action in actions
            if (action.off is Off.DELIVERY) == delivery
            and action.filter.kind in ("", kind)
            and action.filter.period in ("", period)
        ]
        amounts = [action.amount for action in meeting if action.amount is not None]
        if amounts and sum(amounts) >= limit:
            return True
        if _percentage(meeting, on_list_price=bool(promotion.on_list_price)) >= thresholds.percentage:
            return True
    return False


def _percentage(actions: Iterable[Action], *, on_list_price: bool) -> Decimal:
    """What the percentages of the actions come to, one after the other: those of units reckon from the price before all
    of them, unless it is a list price, and those of the order from what is left."""
    left = Decimal(100)
    for action in actions:
        if action.percentage is not None:
            of = Decimal(100) if action.off is Off.UNIT and not on_list_price else left
            left -= of * action.percentage / 100
    return 100 - left


def check_priority(promotion: Promotion, others: Iterable[tuple[str, int, TimePeriod | None]]) -> None:
    """Gives a promotion that is released its place among the others that are (id, priority, validity of each).

    Raises FailedPrecondition PRIORITY_TAKEN when it could meet one of the same priority: nobody would know which comes
    first.
    """
    known = list(others)
    if promotion.priority is None:
        promotion.priority = max((priority for _, priority, _ in known), default=0) + 1
        return
    for other, priority, period in known:
        if priority == promotion.priority and _overlap(promotion.valid_for, period):
            raise FailedPrecondition(
                "PRIORITY_TAKEN",
                f"promotion {other} has the priority {priority} already: nobody would know which of them comes first",
                violations=[Violation("priority", f"promotion {other} has it")],
            )


def _overlap(one: TimePeriod | None, other: TimePeriod | None) -> bool:
    first, second = one or TimePeriod(), other or TimePeriod()
    return _before(first.start_date_time, second.end_date_time) and _before(second.start_date_time, first.end_date_time)


def _before(start: datetime | None, end: datetime | None) -> bool:
    return start is None or end is None or start < end


def _reversed(path: str, period: TimePeriod | None) -> Iterable[Violation]:
    start, end = (period.start_date_time, period.end_date_time) if period is not None else (None, None)
    if start is not None and end is not None and end < start:
        yield Violation(path, "it ends before it starts")


# --- coupons ---------------------------------------------------------------------------------------------------------

# 32 signs that nobody takes for one another, in print or on the telephone.
_SIGNS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
# 60 random bits: at a thousand guesses a second, one of a million codes is found in some 36 years.
_RANDOM_SIGNS = 12
NOT_ON_OFFER = "its promotion isn't on offer"
_CODE = re.compile(r"[^\s\x00-\x1f]{1,64}")


def normal_code(code: str) -> str:
    """The code as it is kept: whatever case or width it was typed in, and with blanks around it."""
    return unicodedata.normalize("NFKC", code).strip().upper()


def new_code(prefix: str) -> str:
    """A code that nobody can guess."""
    return prefix + "".join(secrets.choice(_SIGNS) for _ in range(_RANDOM_SIGNS))


@dataclass(kw_only=True, eq=False)
class Coupon(Aggregate):
    """A code that opens a promotion, so many times altogether and so many times for one customer."""

    IMMUTABLE: ClassVar[frozenset[str]] = frozenset({"code", "promotion"})

    code: str | None = None
    promotion: EntityRef | None = None
    usage_limit: int | None = None
    customer_usage_limit: int | None = None
    valid_for: TimePeriod | None = None
    last_update: datetime | None = None
    redeemed: int | None = None

    @property
    def promotion_id(self) -> str:
        """The promotion that it opens."""
        return (self.promotion.id or "") if self.promotion is not None else ""

    def check(self, at: datetime) -> None:
        """Normalises the code. Raises InvalidArgument for values that can't be."""
        self.code = normal_code(self.code or "")
        self.last_update, self.redeemed = at, 0
        self._check()

    def revise(self, changes: Mapping[str, Any], at: datetime) -> None:
        """Takes the changes; code and promotion stay."""
        news = {name: value for name, value in changes.items() if name not in ("last_update", "redeemed")}
        if "code" in news:
            news["code"] = normal_code(news["code"] or "")
        super().revise(news, at)
        self._check()
        self.last_update = at

    def _check(self) -> None:
        wrong = list(_reversed("valid_for", self.valid_for))
        if not _CODE.fullmatch(self.code or ""):
            wrong.append(Violation("code", "a code is up to 64 signs without blanks"))
        for name in ("usage_limit", "customer_usage_limit"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                wrong.append(Violation(name, "a coupon may be used at least once"))
        if wrong:
            raise InvalidArgument("CONTRADICTION", wrong[0].description, violations=wrong)


@dataclass(kw_only=True, eq=False)
class CouponRedemption(Aggregate):
    """One use of a coupon by an order; gone, when it is given back."""

    code: str
    coupon_id: str
    promotion_id: str
    customer_id: str
    order_id: str
    redeemed_at: datetime


def use_obstacle(coupon: Coupon, promotion: Promotion | None, at: datetime) -> tuple[str, str] | None:
    """Why a coupon opens nothing at the instant, as reason and words; None: it does, as far as its limits go."""
    period = coupon.valid_for or TimePeriod()
    if promotion is None or not promotion.released:
        return "PROMOTION_NOT_RELEASED", NOT_ON_OFFER
    for ends in (period.end_date_time, (promotion.valid_for or TimePeriod()).end_date_time):
        if ends is not None and ends <= at:
            return "COUPON_EXPIRED", "it has expired"
    if not period.covers(at) or not (promotion.valid_for or TimePeriod()).covers(at):
        return "COUPON_NOT_YET_VALID", "it isn't valid yet"
    return None
