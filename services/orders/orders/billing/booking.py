"""What billing says that it has booked, against what it was told. Pure: no I/O, no clock."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import FailedPrecondition, InvalidArgument, Violation

MOST = 1_000
# A refusal has to fit where gRPC puts it.
_NAMED = 20
_HASH = re.compile(r"[0-9a-f]{64}")
# What a refusal is counted as.
AHEAD, HASH, BACK = "ahead", "hash", "back"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Billing has booked the chain up to this event, whose hash is this."""

    account: str
    epoch: int
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What we know of the chain: where it ends (0: there is none), the hash at the place that is acknowledged, what was
    acknowledged before, and the latest epoch of the account of which something was."""

    branch: str
    last_sequence: int
    our_hash: str
    sequence: int = 0
    hash: str = ""
    latest_epoch: int = 0

    def is_same(self, said: Acknowledgement) -> bool:
        """Whether it says what was said before."""
        return (said.sequence, said.hash) == (self.sequence, self.hash)

    def is_back(self, said: Acknowledgement) -> bool:
        """Whether it says less than was said before; by a later epoch all of the earlier ones was."""
        return said.sequence < self.sequence or said.epoch < self.latest_epoch


def check(said: Sequence[Acknowledgement]) -> None:
    """Raises InvalidArgument ACKNOWLEDGEMENT_INVALID naming what can't be acknowledged at all."""
    wrong: list[Violation] = []
    if not 1 <= len(said) <= MOST:
        wrong.append(Violation("acknowledgement", f"must be 1 to {MOST:,}"))
    seen: set[tuple[str, int]] = set()
    for number, one in enumerate(said):
        at = f"acknowledgement[{number}]"
        if not one.account:
            wrong.append(Violation(f"{at}.account", "is missing"))
        if one.epoch < 1:
            wrong.append(Violation(f"{at}.epoch", "must be 1 or more"))
        if one.sequence < 1:
            wrong.append(Violation(f"{at}.sequence", "must be 1 or more"))
        if not _HASH.fullmatch(one.hash):
            wrong.append(Violation(f"{at}.hash", "must be 64 lower-case hexadecimal digits"))
        if (one.account, one.epoch) in seen:
            wrong.append(Violation(at, "this chain is there twice"))
        seen.add((one.account, one.epoch))
    if wrong:
        raise InvalidArgument("ACKNOWLEDGEMENT_INVALID", "this acknowledges nothing", violations=wrong[:_NAMED])


def news(said: Sequence[Acknowledgement], known: Sequence[Known], reason: str) -> list[tuple[Acknowledgement, Known]]:
    """What wasn't acknowledged before.

    Raises FailedPrecondition ACKNOWLEDGEMENT_REFUSED naming what can't be true, or goes back without a reason (the
    first 20); its metadata count them by AHEAD, HASH and BACK.
    """
    wrong: list[tuple[str, Violation]] = []
    for number, (one, ours) in enumerate(zip(said, known, strict=True)):
        at = f"acknowledgement[{number}]"
        if one.sequence > ours.last_sequence:
            end = f"ends with {ours.last_sequence}" if ours.last_sequence else "isn't there"
            why = f"the chain of {one.account} in epoch {one.epoch} {end}"
            wrong.append((AHEAD, Violation(f"{at}.sequence", why)))
        elif one.hash != ours.our_hash:
            why = f"number {one.sequence} of {one.account} in epoch {one.epoch} has the hash {ours.our_hash}"
            wrong.append((HASH, Violation(f"{at}.hash", why)))
        elif ours.is_back(one) and not ours.is_same(one) and not reason:
            reached = f"number {ours.sequence}" if one.epoch >= ours.latest_epoch else f"epoch {ours.latest_epoch}"
            why = f"{one.account} was acknowledged up to {reached}: less takes a reason"
            wrong.append((BACK, Violation(f"{at}.sequence", why)))
    if wrong:
        counts = {kind: str(sum(one == kind for one, _ in wrong)) for kind in dict.fromkeys(kind for kind, _ in wrong)}
        raise FailedPrecondition(
            "ACKNOWLEDGEMENT_REFUSED",
            "; ".join(violation.description for _, violation in wrong[:3]),
            violations=[violation for _, violation in wrong[:_NAMED]],
            metadata=counts,
        )
    # Said again it is no news, unless it means that what was said since doesn't hold any more.
    return [
        (one, ours)
        for one, ours in zip(said, known, strict=True)
        if not ours.is_same(one) or (reason and ours.is_back(one))
    ]
