"""Who is entered is compared with those who are there: on request beforehand, and by itself afterwards.

Nobody is refused because of it: who stands at the counter is served, and an employee looks at the pair later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from chassis.timers import TimerHandler
from chassis.types import new_id
from chassis.unit import Unit
from customers.identity.store import party_members
from customers.matching import store
from customers.matching.comparison import COMPARISONS, SWAPPED, UNKNOWN
from customers.matching.domain import DEFAULT_THRESHOLD, ENTRY, DuplicateCandidate
from customers.matching.draft import record
from customers.matching.indexing import LOOK_FOR_DUPLICATES
from customers.matching.keys import Kind, keys_of, name_of, pairs
from customers.matching.linkage import Linked, Model, score
from customers.matching.model import DEFAULT, read
from customers.matching.phones import BranchRegions
from customers.matching.records import records
from customers.matching.values import DuplicateReason
from customers.party.domain import Individual

# Those who share one key; a birth date is that of some hundreds in a large branch, a telephone of few.
_MOST_OF_A_KEY = 300
_MOST_COMPARED = 1_000
_EXACT = {comparison.name: comparison.exact for comparison in COMPARISONS}
_CODES = ("DIFFERENT", "RELATED", "NEAR")

# What is done about a pair that has been found: main.py opens a work item.
Propose = Callable[[Unit, DuplicateCandidate], None]


@dataclass(frozen=True, slots=True)
class Likely:
    """Somebody who is there, and may be the one who is entered."""

    individual: Individual
    probability: float
    reasons: tuple[DuplicateReason, ...]


class Entries:
    """Compares individuals with those of their branch."""

    def __init__(self, regions: BranchRegions, propose: Propose = lambda unit, candidate: None) -> None:
        self._regions = regions
        self._propose = propose

    def timers(self) -> Mapping[str, TimerHandler]:
        """The handlers of our timers, by purpose."""
        return {LOOK_FOR_DUPLICATES: self.look}

    def look(self, individual_id: str, unit: Unit) -> None:
        """Proposes the pairs of somebody new, or changed."""
        individual = unit.find(Individual, individual_id)
        if individual is None:
            return
        same = set(party_members(unit, individual.id))
        for likely in self.like(unit, individual, individual.branch):
            if likely.probability >= DEFAULT_THRESHOLD and likely.individual.id not in same:
                propose(unit, individual.branch, (individual.id, likely.individual.id), likely, ENTRY, self._propose)

    def like(self, unit: Unit, individual: Individual, branch: str) -> list[Likely]:
        """Those of the branch who may be the individual (who needn't be saved), the most probable first."""
        region = self._regions.region(branch)
        # Many are called by one given and middle name.
        names = {(Kind.PAIR, value) for value in pairs(*name_of(individual))}
        keys = [one for one in keys_of(individual, region).key if one[0] not in (Kind.NAME, Kind.PAIR) or one in names]
        found = store.look_up(unit, keys, [branch], _MOST_OF_A_KEY)
        # One telephone or document says more than a day that many are born on.
        ranked = sorted(found, key=lambda one: (one[0] in (Kind.BIRTH_DATE, Kind.PAIR), one[3]))
        ids = list(dict.fromkeys(party for _, _, _, party in ranked if party != individual.id))[:_MOST_COMPARED]
        others = unit.load(Individual, "id = ANY (%(ids)s) AND branch = %(branch)s", {"ids": ids, "branch": branch})
        if not others:
            return []
        linked = compared(individual, others, region, _model_of(unit, branch))
        result = [
            Likely(others[int(pair & 0xFFFFFFFF) - 1], float(linked.probability[at]), reasons(linked, at))
            for at, pair in enumerate(linked.pairs)
        ]
        return sorted(result, key=lambda one: (-one.probability, one.individual.id))


def compared(individual: Individual, others: Sequence[Individual], region: str, model: Model) -> Linked:
    """The individual with each of the others; those that it clearly isn't are left out."""
    known = records([record(one, region) for one in (individual, *others)])
    pairs = np.arange(1, len(others) + 1, dtype=np.int64)
    return score(known, pairs, model, least=0.05, by_rarity=False)


def reasons(linked: Linked, at: int) -> tuple[DuplicateReason, ...]:
    """The evidence for one of the pairs, field by field; what isn't known of both says nothing."""
    result = []
    for name, levels in linked.levels.items():
        level = int(levels[at])
        if level == UNKNOWN or (name in SWAPPED and level == 0):
            continue
        code = "SWAPPED" if name in SWAPPED else "SAME" if level == _EXACT[name] else _CODES[level]
        weight = Decimal(str(round(float(linked.evidence[name][at]), 1)))
        result.append(DuplicateReason(field=name, code=code, weight=weight))
    return tuple(result)


def propose(
    unit: Unit, branch: str, pair: tuple[str, str], likely: Likely, found_by: str, further: Propose
) -> DuplicateCandidate | None:
    """Saves a pair, unless it was found before, whatever was decided of it."""
    probability = Decimal(str(round(likely.probability, 4)))
    candidate = DuplicateCandidate(
        id=new_id(),
        branch=branch,
        first_id=pair[0],
        second_id=pair[1],
        score=probability,
        reason=likely.reasons,
        found_by=found_by,
    )
    candidate.check(unit.at)
    if not unit.add_unless_there(candidate):
        return None
    further(unit, candidate)
    return candidate


def _model_of(unit: Unit, branch: str) -> Model:
    """The branch's own, as its last search has learned it."""
    text = store.last_model(unit, branch)
    learned = None if text is None else read(text)
    if learned is None:
        return DEFAULT
    # What the branch had no values of is judged as elsewhere.
    return Model({**DEFAULT.m, **learned.m}, {**DEFAULT.u, **learned.u}, learned.same, learned.household)
