"""Until when those who lose to other writers of the same thing try again.

Who loses has lost to somebody who has won: each round somebody gets on. So a caller who states no condition is tried
again for as long as he waits, however many others there are and however slow the machine is.
"""

import random
import time

from psycopg import IntegrityError
from sqlalchemy.exc import DBAPIError

from chassis.calls import Call
from chassis.errors import Aborted

# The pauses grow from one to the other; none is more than this part of what is left of the caller's time, so that those
# who have waited longest try most often.
_FIRST_SECONDS, _LONGEST_SECONDS, _PART = 0.005, 0.25, 1 / 8
# What is left for telling the caller that all was in vain.
_ANSWER_SECONDS = 0.05
# What nobody waits for is done again later by who does it: it only gets out of the way of a few.
_UNATTENDED_ATTEMPTS = 8
# As many callers as a service works for at once may have taken the keys or numbers that this one wanted. Beyond that
# it's nobody else's doing that the constraint isn't met: it would be the same again.
_CONSTRAINED_ATTEMPTS = 32


class Rivalry:
    """One caller's attempts at one change."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._lost = 0
        self._constrained = 0

    def lost(self, error: Exception) -> None:
        """Pauses before the next attempt; raises Aborted CONFLICT when there shall be none."""
        self._lost += 1
        self._constrained += _of_a_constraint(error)
        remaining = self._call.remaining()
        over = self._lost >= _UNATTENDED_ATTEMPTS if remaining is None else remaining <= _ANSWER_SECONDS
        if over or self._constrained >= _CONSTRAINED_ATTEMPTS:
            raise Aborted("CONFLICT", "somebody else keeps changing the same thing") from error
        time.sleep(random.uniform(0, self._longest(remaining)))  # noqa: S311 (no secret)

    def _longest(self, remaining: float | None) -> float:
        # The exponent is bounded: after a thousand attempts it would be more than a float holds.
        grown = min(_FIRST_SECONDS * float(1 << min(self._lost, 10)), _LONGEST_SECONDS)
        return grown if remaining is None else min(grown, remaining * _PART)


def _of_a_constraint(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(cause.orig if isinstance(cause, DBAPIError) else cause, IntegrityError)
