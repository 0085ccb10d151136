"""What an account gets beside its charges: credits, discounts, points against a charge, corrections. Pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from chassis.errors import AlreadyExists, InvalidArgument, Violation
from chassis.types import Money
from orders.billing.domain import ChargeEvent, ChargeType

# A code, since the chain forgets nothing and is read by many.
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9._:/-]{0,99}")
_LONGEST_NAME = 100
_LONGEST_ID = 200


class CreditKind(StrEnum):
    """What a credit is for."""

    SLA_CREDIT = "slaCredit"
    DISCOUNT = "discount"
    POINTS = "points"
    CORRECTION = "correction"


TYPES = {
    CreditKind.SLA_CREDIT: ChargeType.CREDIT_CREATE,
    CreditKind.DISCOUNT: ChargeType.DISCOUNT_CREATE,
    CreditKind.POINTS: ChargeType.POINTS_REDEMPTION,
    CreditKind.CORRECTION: ChargeType.CHARGE_CORRECTION,
}
# Set against one charge, and never of the account as a whole.
_AGAINST_A_CHARGE = frozenset({CreditKind.POINTS, CreditKind.CORRECTION})


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """An amount above 0, before tax, that an account gets for a cause; there is one of a kind for each cause.

    Raises InvalidArgument CREDIT_INVALID naming each wrong field.
    """

    id: str
    branch: str
    kind: CreditKind
    cause_id: str
    account: str
    amount: Money
    name: str
    reason: str
    occurred_at: datetime
    product_id: str = ""
    charge_id: str = ""
    points: int = 0

    def __post_init__(self) -> None:
        wrong = [
            Violation(name, f"must be 1 to {_LONGEST_ID} characters")
            for name in ("cause_id", "account")
            if not 1 <= len(getattr(self, name)) <= _LONGEST_ID
        ]
        value = self.amount.value
        if not self.amount.unit or value is None or not value.is_finite() or value <= 0:
            wrong.append(Violation("amount", "must have a currency and be above 0"))
        if not 1 <= len(self.name.strip()) <= _LONGEST_NAME:
            wrong.append(Violation("name", f"must be 1 to {_LONGEST_NAME} characters"))
        if not _REASON.fullmatch(self.reason):
            wrong.append(Violation("reason", "must be a code, such as availability.monthly"))
        if self.kind in _AGAINST_A_CHARGE and not self.charge_id:
            wrong.append(Violation("charge_id", f"{self.kind.value} is set against a charge"))
        if (self.kind is CreditKind.POINTS) != (self.points > 0):
            wrong.append(Violation("points", "how many, of points and of nothing else"))
        if wrong:
            raise InvalidArgument("CREDIT_INVALID", "this can't be credited", violations=wrong)

    @property
    def cause(self) -> str:
        """What a charge event calls its cause."""
        return f"{self.kind.value}/{self.cause_id}"

    def charge(self, customer_id: str) -> ChargeEvent:
        """What billing is told."""
        amount = replace(self.amount, value=-(self.amount.value or Decimal()))
        return ChargeEvent(
            type=TYPES[self.kind],
            account=self.account,
            branch=self.branch,
            occurred_at=self.occurred_at,
            product_id=self.product_id,
            order_id="",
            order_item_id="",
            customer_id=customer_id,
            product_offering_id="",
            product_offering_price_id="",
            amount=amount,
            name=self.name,
            reason=self.reason,
            cause=self.cause,
            charge_id=self.charge_id or None,
            points=self.points or None,
        )

    def require_same(self, asked: "Credit") -> None:
        """Raises AlreadyExists CREDIT_EXISTS when the cause has been credited with something else than is asked for."""
        names = ("account", "product_id", "charge_id", "amount", "name", "reason", "points")
        other = [name for name in names if getattr(self, name) != getattr(asked, name)]
        if other:
            raise AlreadyExists(
                "CREDIT_EXISTS",
                f"{self.cause} has been credited already, with another {', '.join(other)}",
                violations=[Violation(name, f"was {getattr(self, name)}") for name in other],
                metadata={"id": self.id},
            )


def require_currency(credit: Credit, currencies: Collection[str]) -> None:
    """Raises InvalidArgument CURRENCY_MISMATCH for an amount in none of the account's currencies, if any is known."""
    if currencies and credit.amount.unit not in currencies:
        raise InvalidArgument(
            "CURRENCY_MISMATCH",
            f"the account {credit.account} is kept in {', '.join(sorted(currencies))}",
            violations=[Violation("amount.unit", f"{credit.amount.unit} isn't a currency of the account")],
        )
