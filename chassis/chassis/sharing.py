"""Callers that ask the same question of different keys at the same moment share one round trip.

As in group commit: while a question is on its way, those who come meanwhile gather their keys, and the next one asks
for all of them. So every answer is from after its caller asked, a lonely caller waits for nobody, and the busier a
process is, the fewer round trips a call costs.
"""

import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Generic, TypeVar

from chassis.errors import DomainError

Answer = TypeVar("Answer")


class _Round(Generic[Answer]):
    """A question that is about to be asked, for whoever has joined it."""

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = set(keys)
        self.callers = 1
        # The cheapest of events: held until it has happened. Whoever waited lets the next one through.
        self.turn, self._done = threading.Lock(), threading.Lock()
        self.turn.acquire()
        self._done.acquire()
        self._answer: Answer | None = None

    def join(self, keys: Collection[str]) -> None:
        """One caller more; nobody joins once the question's turn has come."""
        self.keys.update(keys)
        self.callers += 1

    def end(self, answer: Answer | None) -> None:
        """None: it came to nothing."""
        self._answer = answer
        self._done.release()

    def result(self) -> Answer | None:
        """What came of it, as soon as that is known."""
        with self._done:
            return self._answer


class Shared(Generic[Answer]):
    """Asks questions for several callers at once; an answer holds what each of them asked for, and more."""

    def __init__(self) -> None:
        # By question, while it is on its way: who waits until it is back.
        self._waiting: dict[Hashable, _Round[Answer] | None] = {}
        self._lock = threading.Lock()

    def of(self, question: Hashable, keys: Collection[str], ask: Callable[[Sequence[str]], Answer]) -> Answer:
        """An answer from after this call began, of these keys and perhaps of others.

        `ask` gets keys in order, and asks the same for whoever names the same question: on whose behalf, for instance,
        is part of it. Raises what asking for the own keys raises: a refusal of somebody else's is nobody else's.
        """
        with self._lock:
            joined = self._waiting.get(question)
            if joined is not None:
                joined.join(keys)
            else:
                own = _Round[Answer](keys)
                if question in self._waiting:
                    self._waiting[question] = own
                else:
                    self._waiting[question] = None
                    own.turn.release()
        answer = joined.result() if joined is not None else self._lead(question, own, ask)
        return ask(sorted(keys)) if answer is None else answer

    def _lead(self, question: Hashable, own: _Round[Answer], ask: Callable[[Sequence[str]], Answer]) -> Answer | None:
        """What comes of the round; None: nothing, and whoever is in it asks alone."""
        answer = None
        own.turn.acquire()
        try:
            answer = ask(sorted(own.keys))
        except DomainError:
            if own.callers == 1:
                raise
        finally:
            with self._lock:
                following = self._waiting[question]
                if following is None:
                    del self._waiting[question]
                else:
                    self._waiting[question] = None
            if following is not None:
                following.turn.release()
            own.end(answer)
        return answer
