"""Under which keys a party is found: what its identifiers and the words of its names are in one spelling."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from itertools import combinations

from chassis.types import ContactMedium
from customers.matching import identifiers, phones
from customers.matching.names import sound, sounds, spelling, spellings, words
from customers.party.domain import Customer, Individual, Organization, Referrer

# Longer words are found by their beginning.
LONGEST = 24
# From so many letters on, the beginning of a word finds it.
SHORTEST_PART = 3
# From so many on, a slip in it is forgiven; in shorter ones everything would be near everything.
SHORTEST_WITH_SLIP = 4
# Of so many words of all names each two are a key.
MOST_PAIRED = 6
# The years in which somebody alive may be born; telling days from other numbers.
FIRST_YEAR = 1880


class Kind(IntEnum):
    """What a key is of."""

    PHONE = 1
    EMAIL = 2
    DOCUMENT = 3
    NAME = 4
    # Two words of a party's names by their sound, whichever comes first.
    PAIR = 5
    BIRTH_DATE = 6


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys of one party or customer."""

    # Itself, or the party that the customer engages.
    party_id: str
    key: frozenset[tuple[Kind, str]]

    @property
    def words(self) -> list[str]:
        """The words of its names, as `names.spelling` gives them."""
        return sorted(value for kind, value in self.key if kind is Kind.NAME)


def keys_of(party: Referrer, region: str) -> Keys:
    """The keys of an individual, organization or customer; `region` is that of its branch's national numbers."""
    found = {(kind, value) for kind, value in _found(party, region) if value}
    owner = party.id
    if isinstance(party, Customer) and party.engaged_party is not None and party.engaged_party.id:
        owner = party.engaged_party.id
    return Keys(owner, frozenset(found))


def _found(party: Referrer, region: str) -> Iterator[tuple[Kind, str | None]]:
    media: Iterable[ContactMedium] = ()
    if isinstance(party, Individual):
        media = party.contact_medium
        yield from _documents(one.identification_id for one in party.individual_identification)
        yield from _birth(party.birth_date)
    elif isinstance(party, Organization):
        media = party.contact_medium
        yield from _documents(one.identification_id for one in party.organization_identification)
    elif isinstance(party, Customer):
        media = party.contact_medium
    names = names_of(party)
    yield from ((Kind.PAIR, value) for value in _pairs_among(names))
    for name in names:
        yield from ((Kind.NAME, spelled[:LONGEST]) for word in words(name) for spelled in spellings(word))
    for medium in media:
        where = medium.characteristic
        if where is None:
            continue
        if where.phone_number:
            yield Kind.PHONE, phones.normalised(where.phone_number, region)
        if where.email_address:
            yield Kind.EMAIL, identifiers.email(where.email_address)


def _documents(numbers: Iterable[str | None]) -> Iterator[tuple[Kind, str | None]]:
    yield from ((Kind.DOCUMENT, identifiers.document(number)) for number in numbers if number)


def _birth(instant: datetime | None) -> Iterator[tuple[Kind, str | None]]:
    if instant is not None:
        yield Kind.BIRTH_DATE, identifiers.birth_date(instant)


def names_of(party: Referrer) -> list[str]:
    """All names that the party is known by, each once."""
    names: list[str | None] = []
    if isinstance(party, Individual):
        names += [party.given_name, party.middle_name, party.family_name, party.full_name, party.formatted_name]
        names += [party.legal_name, party.preferred_given_name]
        for other in party.other_name:
            names += [other.given_name, other.middle_name, other.family_name, other.full_name, other.formatted_name]
    elif isinstance(party, Organization):
        names += [party.name, party.trading_name]
        for alias in party.other_name:
            names += [alias.name, alias.trading_name]
    elif isinstance(party, Customer):
        names.append(party.name)
    return list(dict.fromkeys(name for name in names if name))


def name_of(party: Individual) -> tuple[str, str]:
    """Given and family name; of a full name only, its first two words."""
    given, family = party.given_name or "", party.family_name or ""
    if not given and not family:
        parts = list(words(party.full_name or party.formatted_name or party.legal_name or ""))
        given, family = (*parts, "", "")[:2]
    return given, family


def pairs(given: str, family: str) -> Iterator[str]:
    """The keys of two names, whichever comes first."""
    ones = [heard for word in words(given) for heard in sounds(word)]
    others = [heard for word in words(family) for heard in sounds(word)]
    for one in ones:
        yield from (pair_of(one, other) for other in others)


def _pairs_among(names: Iterable[str]) -> Iterator[str]:
    """The keys of each two words of the first few, whichever of the names they are of."""
    found = list(dict.fromkeys(word for name in names for word in words(name) if spelling(word)))[:MOST_PAIRED]
    for one, other in combinations(found, 2):
        yield from pairs(one, other)


def pair_of(one: str, other: str) -> str:
    """The key of two sounds."""
    return " ".join(sorted((one[:LONGEST], other[:LONGEST])))


# --- the words that are there ----------------------------------------------------------------------------------------


def filed_under(word: str) -> Sequence[str]:
    """Under what a word (of a name, as `spelling` gives it) is looked up: itself, its beginnings, each with a letter
    left out, and its sound."""
    word = word[:LONGEST]
    found = dict.fromkeys((word, f"~{sound(word)}"))
    for length in range(SHORTEST_PART, len(word) + 1):
        found.update(dict.fromkeys(_with_slips(word[:length])))
    return tuple(found)


def looked_up(word: str) -> Sequence[str]:
    """What of `filed_under` a word of a query may meet: M. Garbe's symmetric deletion. Whatever slip it has, and
    whichever the word that is meant: with a letter left out of either they are the same."""
    spelled = spelling(word)[:LONGEST]
    if not spelled:
        return ()
    return tuple(dict.fromkeys((*_with_slips(spelled), *(f"~{heard}" for heard in sounds(word)))))


def _with_slips(word: str) -> Iterator[str]:
    yield word
    if len(word) >= SHORTEST_WITH_SLIP:
        yield from (word[:at] + word[at + 1 :] for at in range(len(word)))
