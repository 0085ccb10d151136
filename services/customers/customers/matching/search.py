"""Finding parties by whatever is known of them: keys first, then those who have them, the best answers first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from chassis.unit import Unit
from customers.matching import store
from customers.matching.keys import Kind, looked_up, pair_of, pairs
from customers.matching.names import sound
from customers.matching.phones import BranchRegions
from customers.matching.query import Asked, Found, answers, nearness, parse

# Candidates that are looked at in full; parties found by more of what was asked for come first.
MOST_CANDIDATES = 200
# Of those whose given and family name sound so, so many leave no place for who is less like.
_ENOUGH = 40
# Pairs of words that are like those that are asked for: so many are looked up, and so many who have one are looked at.
_MOST_PAIRS, _OF_A_NEAR_PAIR = 600, 50
# More words of a query don't tell more of whom is meant.
_MOST_WORDS = 4

_PARTIES = """
    SELECT id, branch, 'Individual', ARRAY[given_name, middle_name, family_name, full_name, formatted_name, legal_name]
        FROM individual WHERE id = ANY (%(ids)s)
    UNION ALL
    SELECT id, branch, 'Organization', ARRAY[name, trading_name] FROM organization WHERE id = ANY (%(ids)s)
    UNION ALL
    SELECT id, branch, 'Customer', ARRAY[name] FROM customer WHERE id = ANY (%(ids)s)
"""
# Who refers to a party is known by an index of its own; which of them engage it, by what they say.
_CUSTOMERS = """
    SELECT DISTINCT customer.engaged_party ->> 'id', customer.id, customer.name, customer.status,
        (SELECT survivor_id FROM merged_customer WHERE absorbed_id = customer.id)
    FROM reference JOIN customer ON customer.id = reference.referrer_id
    WHERE reference.target_id = ANY (%(ids)s) AND reference.referrer_type = 'Customer'
        AND customer.engaged_party ->> 'id' = ANY (%(ids)s)
    ORDER BY customer.id
"""
# Those whom others go by: a join with what they might be would read all customers.
_SURVIVORS = "SELECT id, name, status FROM customer WHERE id = ANY (%(ids)s)"
# What a found party or customer goes by, and what else goes by that.
_MERGED = """
    SELECT absorbed_id, survivor_id FROM merged_party WHERE absorbed_id = ANY (%(ids)s) OR survivor_id = ANY (%(ids)s)
    UNION ALL
    SELECT absorbed_id, survivor_id FROM merged_customer WHERE absorbed_id = ANY (%(ids)s)
"""
_WAITING = "SELECT coalesce(sum(cardinality(source_id)), 0) FROM unindexed"


@dataclass(slots=True)
class Match:
    """A party that answers."""

    party_id: str
    party_type: str
    branch: str
    names: Sequence[str]
    score: float
    found: Sequence[Found]
    # (id, name, status)
    customers: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called, each word once: the names in one field are mostly those of the others."""
        return " ".join(dict.fromkeys(word for name in self.names for word in name.split()))


@dataclass(slots=True)
class _Candidates:
    """Who was found by which of the things that are asked for."""

    hits: dict[str, dict[int, tuple[Kind, str]]] = field(default_factory=dict)
    named: dict[str, int] = field(default_factory=dict)
    truncated: bool = False

    def hit(self, party: str, number: int, kind: Kind, value: str) -> None:
        self.hits.setdefault(party, {}).setdefault(number, (kind, value))

    def name(self, party: str, words: int) -> None:
        self.named[party] = max(words, self.named.get(party, 0))

    def best(self) -> list[str]:
        everybody = dict.fromkeys((*self.hits, *self.named))
        weight = {party: len(self.hits.get(party, ())) + self.named.get(party, 0) for party in everybody}
        ordered = sorted(everybody, key=lambda party: (-weight[party], party))
        self.truncated |= len(ordered) > MOST_CANDIDATES
        return ordered[:MOST_CANDIDATES]


def search(
    unit: Unit,
    query: str,
    *,
    branches: Sequence[str] | None,
    regions: BranchRegions,
    party_type: str = "",
    customers_only: bool = False,
    limit: int = 20,
) -> tuple[list[Match], bool]:
    """The best answers of the branches (None: of all that the caller may see), and whether there may be more."""
    asked = parse(query, regions.all() if branches is None else [regions.region(branch) for branch in branches])
    candidates = _Candidates()
    _by_keys(unit, asked, branches, candidates)
    matches = _answering(unit, asked, candidates, party_type)
    # Whoever has the number and is called so is meant; who else is called so isn't asked for.
    if not any(len(match.found) == len(asked) for match in matches):
        _by_names(unit, [(number, one) for number, one in enumerate(asked) if one.is_name], branches, candidates)
        matches = _answering(unit, asked, candidates, party_type)
    matches, goes_by = _folded(unit, matches)
    _with_customers(unit, matches if customers_only else matches[:limit], goes_by)
    if customers_only:
        matches = [match for match in matches if match.customers]
    return matches[:limit], candidates.truncated or len(matches) > limit


def _by_keys(unit: Unit, asked: Sequence[Asked], branches: Sequence[str] | None, candidates: _Candidates) -> None:
    numbers = {key: number for number, one in enumerate(asked) for key in one.keys}
    count: dict[tuple[Kind, str], int] = {}
    for kind, value, _, party in store.look_up(unit, list(numbers), branches):
        count[kind, value] = count.get((kind, value), 0) + 1
        candidates.hit(party, numbers[kind, value], kind, value)
    candidates.truncated |= any(found >= store.MOST_OF_A_KEY for found in count.values())


def _by_names(
    unit: Unit, asked: Sequence[tuple[int, Asked]], branches: Sequence[str] | None, candidates: _Candidates
) -> None:
    if not asked:
        return
    known = [_known_words(unit, one.text, branches) for _, one in asked]
    known = [words for words in known if words]
    if len(known) == 1:
        keys = [(Kind.NAME, word) for word in known[0]]
        # The likest first: a frequent one leaves no place for those that are less like.
        for _, _, _, party in store.look_up(
            unit, keys, branches, MOST_CANDIDATES // 2, in_all=MOST_CANDIDATES + MOST_CANDIDATES // 2
        ):
            candidates.name(party, 1)
        candidates.truncated |= len(candidates.named) >= MOST_CANDIDATES // 2
        return
    # Two words by their sound are one key: the commonest names are found as fast as the rarest.
    sounding = {
        (Kind.PAIR, key): 2 for (_, one), (_, other) in combinations(asked, 2) for key in pairs(one.text, other.text)
    }
    for _, _, _, party in store.look_up(unit, list(sounding), branches):
        candidates.name(party, 2)
    if len(candidates.named) < _ENOUGH:
        # Each pair of words like them is such a key too: few have one, where hundreds of thousands have a word.
        near = [(Kind.PAIR, key) for key in _sounding(known) if (Kind.PAIR, key) not in sounding]
        for _, _, _, party in store.look_up(unit, near, branches, _OF_A_NEAR_PAIR, in_all=2 * MOST_CANDIDATES):
            candidates.name(party, 2)
    if len(asked) > 2:
        # Of the very many who have two of the words, those who have a third.
        for (_, one), (_, both), (_, other) in combinations(asked[:_MOST_WORDS], 3):
            first, second = (list(pairs(some.text, both.text)) for some in (one, other))
            for _, party in store.with_both(unit, first, second, branches):
                candidates.name(party, 3)
    if not candidates.named:
        keys = [(Kind.NAME, word) for found in known for word in found[:8]]
        for _, _, _, party in store.look_up(unit, keys, branches, 20):
            candidates.name(party, 1)


def _sounding(known: Sequence[Sequence[str]]) -> list[str]:
    """The keys of two names for words of each, the likest first."""
    found: dict[str, int] = {}
    for some, others in combinations([list(dict.fromkeys(map(sound, words))) for words in known[:_MOST_WORDS]], 2):
        for first, one in enumerate(some):
            for second, other in enumerate(others):
                found.setdefault(pair_of(one, other), first + second)
    return sorted(found, key=lambda key: found[key])[:_MOST_PAIRS]


def _known_words(unit: Unit, word: str, branches: Sequence[str] | None) -> list[str]:
    """Those words of the names that are known which are like the one that is asked for, the likest first."""
    rated: list[tuple[float, str]] = []
    for known in store.words_like(unit, looked_up(word), branches):
        near = nearness(word, known)
        if near > 0.0:
            rated.append((near, known))
    return [known for _, known in sorted(rated, key=lambda one: (-one[0], one[1]))[: store.MOST_WORDS]]


def _answering(unit: Unit, asked: Sequence[Asked], candidates: _Candidates, party_type: str) -> list[Match]:
    ids = candidates.best()
    if not ids:
        return []
    with unit.cursor() as cursor:
        rows = cursor.execute(_PARTIES, {"ids": ids}).fetchall()
    matches = []
    for party, branch, kind, names in rows:
        if party_type and kind != party_type:
            continue
        named = [name for name in names if name]
        score, found = answers(asked, named, candidates.hits.get(party, {}))
        if found:
            matches.append(Match(party, kind, branch, named or [""], score, found))
    return sorted(matches, key=lambda match: (-match.score, match.party_id))


def _folded(unit: Unit, matches: Sequence[Match]) -> tuple[list[Match], Mapping[str, str]]:
    """Each once, by the id that it goes by now, with what was found of any of its records; and what goes by what."""
    if not matches:
        return [], {}
    with unit.cursor() as cursor:
        goes_by = dict(cursor.execute(_MERGED, {"ids": [match.party_id for match in matches]}).fetchall())
        survivors = {match.party_id: match for match in matches if match.party_id not in goes_by}
        unseen = sorted(set(goes_by.values()) - survivors.keys())
        rows = cursor.execute(_PARTIES, {"ids": unseen}).fetchall() if unseen else []
    for party, branch, kind, names in rows:
        survivors[party] = Match(party, kind, branch, [name for name in names if name] or [""], 0.0, ())
    folded: dict[str, Match] = {}
    for match in matches:
        one = survivors.get(goes_by.get(match.party_id, match.party_id), match)
        if match.score > one.score:
            one.score, one.found = match.score, match.found
        folded.setdefault(one.party_id, one)
    return sorted(folded.values(), key=lambda match: (-match.score, match.party_id)), goes_by


def _with_customers(unit: Unit, matches: Iterable[Match], goes_by: Mapping[str, str]) -> None:
    by_party = {match.party_id: match for match in matches}
    if not by_party:
        return
    others = [absorbed for absorbed, survivor in goes_by.items() if survivor in by_party]
    with unit.cursor() as cursor:
        rows = cursor.execute(_CUSTOMERS, {"ids": [*by_party, *others]}).fetchall()
        unseen = sorted({survivor for *_, survivor in rows if survivor is not None})
        merged = cursor.execute(_SURVIVORS, {"ids": unseen}).fetchall() if unseen else []
    survivors = {key: (key, name or "", status or "") for key, name, status in merged}
    for party, customer, name, status, survivor in rows:
        match = by_party[goes_by.get(party, party)]
        shown = survivors.get(survivor, (customer, name or "", status or ""))
        if shown not in match.customers:
            match.customers.append(shown)
    for match in by_party.values():
        if match.party_type == "Customer":
            match.customers.append((match.party_id, match.name, ""))


def waiting(unit: Unit) -> int:
    """Parties and customers that came in bulk and can't be found yet."""
    with unit.cursor() as cursor:
        row = cursor.execute(_WAITING).fetchone()
    return int(row[0]) if row else 0
