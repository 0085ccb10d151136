"""How a decision is written down: the steps that led to it and all that it rests on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from chassis.errors import InvalidArgument, Violation
from chassis.types import Json


# Not frozen, though nobody changes it: freezing makes making it three times slower.
@dataclass(slots=True)
class ReceiptStep:
    """One thing that was done, by what rule, and the amount before and after."""

    subject: str
    action: str
    rule: str
    before: str | None = None
    after: str | None = None
    reason: str | None = None


class AmountStep(msgspec.Struct, gc=False):
    """A step from one amount to another, which become texts when somebody reads them: few are ever read.

    A struct, since they are made by the ten thousand: a dataclass takes more than four times as long to be made.
    Nothing that it holds leads back to it, so the collector needn't know of it.
    """

    subject: str
    action: str
    rule: str
    was: Decimal | None
    now: Decimal
    currency: str
    reason: str | None = None

    @property
    def before(self) -> str | None:
        """The amount before; None: it is the first."""
        return None if self.was is None else f"{plain(self.was)} {self.currency}"

    @property
    def after(self) -> str:
        """The amount after."""
        return f"{plain(self.now)} {self.currency}"


# What the receipt of a price is made of.
Step = ReceiptStep | AmountStep


def plain(value: Decimal) -> str:
    """The number with all its decimals and without an exponent: what `f"{value:f}"` says, in a third of the time."""
    text = str(value)
    return format(value, "f") if "E" in text else text


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


@dataclass(slots=True)
class PriceReceipt:
    """The same of a price."""

    engine: str
    revision: str
    inputs: Json
    step: tuple[Step, ...]
