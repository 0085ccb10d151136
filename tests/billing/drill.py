"""Faults of a stream: dropped, repeated, overtaken, held back and damaged messages, and what there is to be found."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Fault(StrEnum):
    """What happens to a message on its way."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    # Those of its account that follow it overtake it.
    REORDER = "reorder"
    # Its account stands still for longer than anybody waits; and for less, which is no fault.
    DELAY = "delay"
    PAUSE = "pause"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Delivery(Generic[T]):
    """A message that comes, so many seconds after the schedule begins; `damaged`: not as it was sent."""

    at: float
    message: T
    damaged: bool = False


@dataclass(frozen=True)
class Schedule(Generic[T]):
    """What arrives in its order, and what there is to be found."""

    deliveries: Sequence[Delivery[T]]
    injected: Counter[Fault]
    # When the stream had each message, by account and in its order.
    sent: Sequence[Sequence[float]]


def schedule(
    accounts: Sequence[Sequence[T]], chance: random.Random, *, timeout: float, rate: float, spacing: float = 0.0
) -> Schedule[T]:
    """Lays faults over the messages of accounts, each in its order; `rate`: of the messages that meet one. Of a message
    that is overtaken at least the next one comes before it. `spacing`: seconds between an account's messages."""
    deliveries: list[Delivery[T]] = []
    injected: Counter[Fault] = Counter()
    sent: list[list[float]] = []
    for messages in accounts:
        had: list[float] = []
        sent.append(had)
        at = chance.uniform(0, spacing)
        number = 0
        while number < len(messages):
            message = messages[number]
            fault = chance.choice(list(Fault)) if chance.random() < rate else None
            if fault is Fault.REORDER and number + 1 == len(messages):
                fault = None
            if fault is not None and fault is not Fault.PAUSE:
                injected[fault] += 1
            had.append(at)
            match fault:
                case Fault.DROP:
                    pass
                case Fault.DUPLICATE:
                    deliveries += [Delivery(at, message), Delivery(at + chance.uniform(0, timeout / 4), message)]
                case Fault.REORDER:
                    overtaken = at + timeout / 8
                    following = messages[number + 1]
                    deliveries += [Delivery(at, following), Delivery(overtaken, message)]
                    had.append(at)
                    number += 1
                    at = overtaken
                case Fault.DELAY:
                    at += timeout * chance.uniform(2.0, 2.5)
                    deliveries.append(Delivery(at, message))
                case Fault.PAUSE:
                    at += timeout * chance.uniform(0.0, 0.3)
                    deliveries.append(Delivery(at, message))
                case Fault.CORRUPT:
                    deliveries.append(Delivery(at, message, damaged=True))
                case None:
                    deliveries.append(Delivery(at, message))
            number += 1
            at += spacing * chance.uniform(0.5, 1.5)
    # Of one account in the order of their instants, or as they were laid where these are the same.
    return Schedule(sorted(deliveries, key=lambda delivery: delivery.at), injected, sent)


def reported(lines: Sequence[dict[str, object]]) -> Counter[Fault]:
    """What a consumer's lines say that happened. A message that was damaged left a hole, as one that was dropped did;
    one that was held back was fetched, too, before it came."""
    verdicts = Counter(str(line["verdict"]) for line in lines)
    fetched = sum(bool(line.get("fetched")) for line in lines)
    return +Counter(
        {
            Fault.DUPLICATE: verdicts["duplicate"],
            Fault.REORDER: verdicts["reordered"],
            Fault.DELAY: verdicts["late"],
            Fault.CORRUPT: verdicts["altered"],
            Fault.DROP: fetched - verdicts["late"] - verdicts["altered"],
        }
    )


def falsely(lines: Sequence[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Lines that no fault of this kind brings about."""
    return (line for line in lines if line["verdict"] in ("fork", "missing", "superseded", "refused"))
