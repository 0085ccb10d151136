"""What somebody asks for in one line, and how well a party answers it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from rapidfuzz.distance import DamerauLevenshtein

from customers.matching import identifiers, phones
from customers.matching.keys import LONGEST, SHORTEST_PART, Kind
from customers.matching.names import sound, sounds, spelling, spellings, words

EXACT, SPELLING, PART, TYPO = "EXACT", "SPELLING", "PART", "TYPO"
# How sure each is.
_HEARD, _PART_AT_LEAST, _SLIP = 0.95, 0.85, 0.8
LONGEST_QUERY = 300

_EMAIL = re.compile(r"\S+@\S+")
_DAY = re.compile(r"\b(\d{1,2})[./-](\d{1,2})[./-](\d{4})\b|\b(\d{4})-(\d{2})-(\d{2})\b")
# Digits as people write them in a number; letters make it a document's.
_NUMBER = re.compile(r"\+?\(?\d(?:[\d()./\s-]*\d)?")
_MIXED = re.compile(r"(?<![\w№])(?=[\w№/-]*\d)\w[\w№/-]*")
# Two letters and fewer digits than a telephone has: not Ян and his number.
_SERIES = re.compile(r"\b([^\W\d_]{1,2})\s+(?=№?\s*\d{3,8}\b(?![\s-]*\d))")


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing that is asked for: its words, and the keys under any of which it would be."""

    text: str
    keys: Sequence[tuple[Kind, str]]

    @property
    def is_name(self) -> bool:
        """Whether it is a word of a name."""
        return not self.keys


@dataclass(frozen=True, slots=True)
class Found:
    """How well one thing that was asked for is answered."""

    asked: str
    kind: str
    code: str
    found: str
    score: float


_NAMES_OF_KINDS = {
    Kind.PHONE: "phone",
    Kind.EMAIL: "email",
    Kind.DOCUMENT: "document",
    Kind.BIRTH_DATE: "birthDate",
    Kind.NAME: "name",
}


def parse(query: str, regions: Sequence[str]) -> list[Asked]:
    """What is asked for. A number may be several things: a telephone's in each of the regions, or a document's."""
    asked: list[Asked] = []
    rest = query[:LONGEST_QUERY]
    for found in _EMAIL.findall(rest):
        address = identifiers.email(found)
        if address is not None:
            asked.append(Asked(found, [(Kind.EMAIL, address)]))
            rest = rest.replace(found, " ", 1)
    for day in list(_DAY.finditer(rest)):
        value = _day(day)
        if value is not None:
            asked.append(Asked(day.group(), [(Kind.BIRTH_DATE, value)]))
            rest = rest.replace(day.group(), " ", 1)
    numbers, rest = _numbers(rest, regions)
    asked += numbers
    asked += [Asked(word, ()) for word in words(rest) if spelling(word)]
    return asked


def _day(found: "re.Match[str]") -> str | None:
    first, month, year, y, m, d = found.groups()
    try:
        return date(int(year or y), int(month or m), int(first or d)).isoformat()
    except ValueError:
        return None


def _numbers(text: str, regions: Sequence[str]) -> tuple[list[Asked], str]:
    asked: list[Asked] = []
    # AN 1234567 and ID №1234567 are one thing.
    joined = _SERIES.sub(r"\1", text)
    mixed = [one for one in _MIXED.findall(joined) if any(sign.isalpha() for sign in one)]
    for one in mixed:
        number = identifiers.document(one)
        if number is not None:
            asked.append(Asked(one, [(Kind.DOCUMENT, number)]))
            joined = joined.replace(one, " ", 1)
    for found in list(_NUMBER.finditer(joined)):
        keys = list(_number(found.group(), regions))
        if keys:
            asked.append(Asked(found.group(), keys))
        joined = joined.replace(found.group(), " ", 1)
    return asked, joined if asked else text


def _number(text: str, regions: Sequence[str]) -> Iterator[tuple[Kind, str]]:
    for region in dict.fromkeys((*regions, phones.NO_REGION)):
        number = phones.normalised(text, region)
        if number is not None:
            yield Kind.PHONE, number
    document = identifiers.document(text)
    if document is not None:
        yield Kind.DOCUMENT, document


# --- how well ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=131_072)
def likeness(asked: str, found: str) -> tuple[str, float] | None:
    """How like a word of a name is to the one that is asked for: why, and from 0 to 1; None for another."""
    best: tuple[str, float] | None = None
    for spelled in (one[:LONGEST] for one in spellings(asked)):
        for other in (one[:LONGEST] for one in spellings(found)):
            one = _likeness(spelled, other, asked.casefold() == found.casefold())
            if one is not None and (best is None or one[1] > best[1]):
                best = one
    if best is None and set(sounds(asked)) & set(sounds(found)):
        return SPELLING, _HEARD
    return best


def nearness(asked: str, filed: str) -> float:
    """How like a word that is filed, as `names.spelling` gives it, is to the one that is asked for; 0 for another."""
    likes = (_likeness(spelled[:LONGEST], filed, True) for spelled in spellings(asked))
    return max((like[1] for like in likes if like is not None), default=0.0)


@lru_cache(maxsize=131_072)
def _likeness(asked: str, found: str, same: bool) -> tuple[str, float] | None:
    if asked == found:
        return (EXACT if same else SPELLING), 1.0
    if len(asked) >= SHORTEST_PART and found.startswith(asked):
        return PART, _PART_AT_LEAST + (1 - _PART_AT_LEAST) * len(asked) / len(found)
    slips = DamerauLevenshtein.distance(asked, found, score_cutoff=2)
    allowed = 2 if len(asked) >= 7 else 1 if len(asked) >= 4 else 0
    if sound(asked) == sound(found):
        return SPELLING, _HEARD
    if slips <= allowed:
        return TYPO, max(0.5, _SLIP * (1 - slips / (2 * max(len(asked), len(found)))))
    beginning = found[: len(asked)]
    if len(asked) >= 4 and DamerauLevenshtein.distance(asked, beginning, score_cutoff=1) <= 1:
        return TYPO, 0.6 * len(asked) / len(found) + 0.1
    return None


def answers(
    asked: Sequence[Asked], names: Sequence[str], hits: Mapping[int, tuple[Kind, str]]
) -> tuple[float, list[Found]]:
    """How well a party with these names answers, who was found by keys for those things: from 0 to 1, and why.

    Each word of a name answers one thing only.
    """
    found: list[Found] = []
    left = [word for name in names for word in words(name)]
    for number, one in enumerate(asked):
        if number in hits:
            kind, value = hits[number]
            found.append(Found(one.text, _NAMES_OF_KINDS[kind], EXACT, value, 1.0))
        elif one.is_name:
            best: tuple[float, str, str] | None = None
            for word in left:
                like = likeness(one.text, word)
                if like is not None and (best is None or like[1] > best[0]):
                    best = (like[1], like[0], word)
            if best is not None:
                found.append(Found(one.text, "name", best[1], best[2], round(best[0], 3)))
                left.remove(best[2])
    return sum(one.score for one in found) / max(1, len(asked)), found
