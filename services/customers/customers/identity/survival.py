"""Which of two customers who are the same one survives: pure, and explained by a receipt.

The survivor is the one whose record and id people go on to see. Whichever it is nothing is lost, but an id that others
know shouldn't become the lesser one of the two because of a record that somebody made yesterday.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from chassis.receipts import ReceiptStep
from customers.identity.values import Receipt, kept

ENGINE = "customers.identity.survival"
REVISION = "1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What is compared of a customer. `referrers`: how many accounts, orders, products and others name any of its ids;
    `known_since`: when its record was made."""

    id: str
    verified: bool
    referrers: int
    known_since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inputs:
    survivor: Candidate
    absorbed: Candidate
    by_rule: bool


# Rule → what the greater value of survives, and how it is told.
_RULES: tuple[tuple[str, Callable[[Candidate], float], Callable[[Candidate], str]], ...] = (
    ("VERIFIED", lambda one: one.verified, lambda one: "verified" if one.verified else "unverified"),
    ("MORE_REFERRED_TO", lambda one: one.referrers, lambda one: str(one.referrers)),
    ("KNOWN_LONGER", lambda one: -one.known_since.timestamp(), lambda one: one.known_since.isoformat()),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Who survives, and why."""

    survivor_id: str
    absorbed_id: str
    receipt: Receipt


def choose(survivor: Candidate, absorbed: Candidate, *, by_rule: bool) -> Choice:
    """The first rule in which they differ decides, and where they differ in none, the caller; without `by_rule` it
    decides nothing, and only says what it would have."""
    steps: list[ReceiptStep] = []
    rule, better = "", survivor
    for name, value, told in _RULES:
        steps.append(
            ReceiptStep(subject=survivor.id, action="COMPARED", rule=name, before=told(survivor), after=told(absorbed))
        )
        if value(survivor) != value(absorbed):
            rule, better = name, max(survivor, absorbed, key=value)
            break
    chosen = better if by_rule else survivor
    other = absorbed if chosen is survivor else survivor
    if by_rule and rule:
        steps.append(ReceiptStep(subject=chosen.id, action="SURVIVOR_CHOSEN", rule=rule))
    else:
        steps.append(ReceiptStep(subject=chosen.id, action="SURVIVOR_GIVEN", rule="CALLER"))
    if better is not chosen:
        steps.append(ReceiptStep(subject=better.id, action="RULE_PREFERRED_OTHER", rule=rule))
    inputs = kept(_Inputs(survivor=survivor, absorbed=absorbed, by_rule=by_rule))
    return Choice(
        survivor_id=chosen.id,
        absorbed_id=other.id,
        receipt=Receipt(engine=ENGINE, revision=REVISION, inputs=inputs, step=tuple(steps)),
    )


def replay(receipt: Receipt) -> Choice:
    """The same choice from its receipt again."""
    inputs = msgspec.json.decode(receipt.inputs.text, type=_Inputs)
    return choose(inputs.survivor, inputs.absorbed, by_rule=inputs.by_rule)
