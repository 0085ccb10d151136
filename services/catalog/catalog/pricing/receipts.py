"""How a decision is written down: the steps that led to it and all that it rests on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from chassis.errors import InvalidArgument, Violation
from chassis.types import Json

# Not frozen, though nobody changes them: they are made by the ten thousand, and freezing makes that six times slower.


@dataclass(slots=True)
class ReceiptStep:
    """One thing that was done, by what rule, and the amount before and after."""

    subject: str
    action: str
    rule: str
    before: str | None = None
    after: str | None = None
    reason: str | None = None


class AmountStep(ReceiptStep):
    """A step from one amount to another, which become texts when somebody reads them: few are ever read."""

    __slots__ = ("currency", "now", "was")

    def __init__(
        self,
        subject: str,
        action: str,
        rule: str,
        was: Decimal | None,
        now: Decimal,
        currency: str,
        reason: str | None = None,
    ) -> None:
        self.subject = subject
        self.action = action
        self.rule = rule
        self.was = was
        self.now = now
        self.currency = currency
        self.reason = reason

    @property
    def before(self) -> str | None:  # type: ignore[override]
        return None if self.was is None else f"{self.was:f} {self.currency}"

    @property
    def after(self) -> str:  # type: ignore[override]
        return f"{self.now:f} {self.currency}"


@contextmanager
def reading() -> Iterator[None]:
    """Around the reading of a receipt's inputs. Raises InvalidArgument MALFORMED_RECEIPT for what no engine wrote."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        why = "its inputs aren't those of a receipt"
        raise InvalidArgument("MALFORMED_RECEIPT", why, violations=[Violation("receipt.inputs", why)]) from error


@dataclass(slots=True)
class Receipt:
    """How the answer came about; its engine gives the same answer from it again."""

    engine: str
    revision: str
    inputs: Json
    step: tuple[ReceiptStep, ...]
