"""Statuses that TM Forum leaves free: the words that we know go by a table, any other is the operator's own."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from chassis.types import bad_transition, require_transition

S = TypeVar("S", bound=StrEnum)

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def known(kind: type[S], text: str | None) -> S | None:
    """The state that a status says, whatever its spelling (`In process`, `inProcess`, `IN_PROCESS`); None: another."""
    words = " ".join(_HUMP.sub(" ", text or "").replace("_", " ").replace("-", " ").lower().split())
    return next((state for state in kind if state.value == words), None)


def require_step(
    what: str, kind: type[S], transitions: Mapping[S, frozenset[S]], current: str | None, wanted: str
) -> None:
    """Raises FailedPrecondition BAD_TRANSITION for a step that the table doesn't have, or one out of a final state.

    Between a state of the table and a word of the operator's own everything goes, unless the state is final.
    """
    before, after = known(kind, current), known(kind, wanted)
    if before is None or before is after:
        return
    if after is not None:
        require_transition(what, transitions, before, after, attribute="status")
    elif not transitions[before]:
        why = f"can't go from {before.value!r} to {wanted!r}; possible: nothing: it is final"
        raise bad_transition(f"{what} {why}", why, attribute="status", before=before, wanted=wanted)
