"""Who stands in for whom: nothing changes hands when somebody is away, so nothing has to be given back."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Obstacle(StrEnum):
    """Why nobody is there."""

    NO_OWNER = "NO_OWNER"
    NO_SUBSTITUTE = "NO_SUBSTITUTE"
    # Each stands in for the next, and all of them are away.
    CYCLE = "CYCLE"


@dataclass(frozen=True, slots=True)
class Away:
    """Somebody who isn't there at the instant in question."""

    employee: str
    substitute: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is there: from the owner on, one standing in for the other, the last one doing it; or why nobody is."""

    chain: tuple[str, ...]
    employee: str | None
    # The last team that was named on the way: whose it is while nobody is there.
    team: str | None
    obstacle: Obstacle | None = None


def standing_in(owner: str | None, team: str | None, away: Mapping[str, Away]) -> Standing:
    """Follows the substitutes from the owner to the first who is there."""
    chain: list[str] = []
    known: set[str] = set()
    employee = owner
    while employee is not None:
        if employee in known:
            return Standing(tuple(chain), None, team, Obstacle.CYCLE)
        chain.append(employee)
        known.add(employee)
        absence = away.get(employee)
        if absence is None:
            return Standing(tuple(chain), employee, team)
        team = absence.team or team
        employee = absence.substitute
    return Standing(tuple(chain), None, team, Obstacle.NO_SUBSTITUTE if chain else Obstacle.NO_OWNER)


def looked_after_by(employee: str, away: Mapping[str, Away]) -> frozenset[str]:
    """Whose things the employee looks after: his own, while he is there, and those of everybody for whom he ends up
    standing in."""
    if employee in away:
        return frozenset()
    behind: dict[str, list[str]] = {}
    for absent in away.values():
        if absent.substitute is not None:
            behind.setdefault(absent.substitute, []).append(absent.employee)
    found, open_ones = {employee}, [employee]
    while open_ones:
        # Nobody is away twice, so each is reached from one substitute only.
        following = behind.get(open_ones.pop(), ())
        found.update(following)
        open_ones.extend(following)
    return frozenset(found)
