"""How a decision is written down: the steps that led to it and all that it rests on."""

from dataclasses import dataclass

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


@dataclass(slots=True)
class Receipt:
    """How the answer came about; its engine gives the same answer from it again."""

    engine: str
    revision: str
    inputs: Json
    step: tuple[ReceiptStep, ...]
