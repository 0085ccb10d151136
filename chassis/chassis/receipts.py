"""How a decision came about, as it is kept: `svyaz.type.v1.Receipt`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiptStep:
    """One thing that was looked at or done: about what, by which rule, from what to what, and why."""

    subject: str = ""
    action: str = ""
    rule: str = ""
    before: str | None = None
    after: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """From its inputs its engine takes the same decision again.

    These are the text of a JSON object: as a value it would lose its order in the database, and the receipt its bytes.
    """

    engine: str
    revision: str
    inputs: str
    step: tuple[ReceiptStep, ...] = ()
