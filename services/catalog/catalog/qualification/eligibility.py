"""Which offerings a customer can have here and now, and why not the others: pure.

How it counts:

* What isn't known of the customer or the place doesn't refuse: an offering for Osh may be had by somebody of whom no
  place is known, but the verdict says that the place is unknown (a qualification then asks for it).
* Places, channels and segments are met by id or by name; one of several is enough, on either side.
* `requires`: each related offering must be held, ordered beside it or be part of the same bundle; of those with the
  same `role` one is enough. `excludes` counts in both directions, whichever of the two says so. A customer has at most
  one offering of each exclusion group (but may have that one more than once).
* `replaces` and `upgrades`: what the customer holds of the related offering goes when this one comes, so it excludes
  nothing. As long as the term that it was sold with runs, it can be upgraded but not replaced.
* Versions of one series are the same offering to all of these.
* The parts of a bundle, in their default numbers, are subject to the same rules, but needn't be sold by themselves.
"""

import calendar
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from catalog.product.domain import LifecycleStatus, sale_obstacle
from catalog.product.values import BundledProductOffering, ProductOfferingRelationship, ProductOfferingTerm
from chassis.types import Duration, EntityRef, TimePeriod


class Relation(StrEnum):
    """How an offering stands to another, as far as it matters who may have it."""

    REQUIRES = "requires"
    EXCLUDES = "excludes"
    REPLACES = "replaces"
    UPGRADES = "upgrades"


# TM Forum leaves the words open; these are its own examples' and those of other catalogs.
_WORDS: Mapping[str, Relation] = {
    "requir": Relation.REQUIRES,
    "depend": Relation.REQUIRES,
    "relies": Relation.REQUIRES,
    "prerequisite": Relation.REQUIRES,
    "exclu": Relation.EXCLUDES,
    "incompatib": Relation.EXCLUDES,
    "replac": Relation.REPLACES,
    "substitut": Relation.REPLACES,
    "migrat": Relation.REPLACES,
    "upgrad": Relation.UPGRADES,
}


def relation_of(relationship: ProductOfferingRelationship) -> Relation | None:
    """What a relationship's type means; None: nothing that matters here."""
    word = re.sub("[^a-z]", "", (relationship.relationship_type or "").lower())
    return next((relation for start, relation in _WORDS.items() if word.startswith(start)), None)


# --- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Restrictions:
    """What of an offering decides who may have it."""

    id: str
    # Of the offering: by it one knows whether this is still so.
    revision: int = 0
    name: str = ""
    series: str | None = None
    status: LifecycleStatus = LifecycleStatus.IN_DESIGN
    is_sellable: bool = True
    valid_for: TimePeriod | None = None
    place: tuple[EntityRef, ...] = ()
    channel: tuple[EntityRef, ...] = ()
    market_segment: tuple[EntityRef, ...] = ()
    eligible_branch: tuple[str, ...] = ()
    exclusion_group: tuple[str, ...] = ()
    relationship: tuple[ProductOfferingRelationship, ...] = ()
    part: tuple[BundledProductOffering, ...] = ()
    term: tuple[ProductOfferingTerm, ...] = ()
    specification_id: str = ""

    @property
    def line(self) -> str:
        """What all versions of it have in common."""
        return self.series or self.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A product that the customer has; `term`: the name of the one that it was sold with."""

    product_id: str
    product_offering_id: str
    started_at: datetime | None = None
    term: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """Who wants it, where and when; what is empty isn't known."""

    at: datetime
    branch: str = ""
    channel: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    market_segment: tuple[str, ...] = ()


# --- what is answered ------------------------------------------------------------------------------------------------


class Obstacle(StrEnum):
    """Why an offering can't be had."""

    UNKNOWN_OFFERING = "unknownOffering"
    NOT_ON_SALE = "notOnSale"
    NOT_SOLD_ALONE = "notSoldAlone"
    NOT_VALID_NOW = "notValidNow"
    WRONG_BRANCH = "wrongBranch"
    WRONG_PLACE = "wrongPlace"
    WRONG_CHANNEL = "wrongChannel"
    WRONG_SEGMENT = "wrongSegment"
    TERM_NOT_OFFERED = "termNotOffered"
    REQUIREMENT_MISSING = "requirementMissing"
    EXCLUDED = "excluded"
    GROUP_OCCUPIED = "groupOccupied"
    COMMITMENT_RUNNING = "commitmentRunning"


_LABELS: Mapping[Obstacle, tuple[str, str]] = {
    Obstacle.UNKNOWN_OFFERING: ("There is no offering {id}", "Предложения {id} не существует"),
    Obstacle.NOT_ON_SALE: ("{name} isn't on sale: it is {other}", "«{name}» не продаётся: состояние {other}"),
    Obstacle.NOT_SOLD_ALONE: ("{name} isn't sold by itself", "«{name}» отдельно не продаётся"),
    Obstacle.NOT_VALID_NOW: ("{name} isn't offered at that time", "«{name}» в это время не предлагается"),
    Obstacle.WRONG_BRANCH: ("{name} isn't offered in the branch {other}", "«{name}» не предлагается в филиале {other}"),
    Obstacle.WRONG_PLACE: ("{name} isn't offered at this place", "«{name}» не предлагается по этому адресу"),
    Obstacle.WRONG_CHANNEL: (
        "{name} isn't sold over the channel {other}",
        "«{name}» не продаётся через канал {other}",
    ),
    Obstacle.WRONG_SEGMENT: (
        "{name} isn't for customers of the segment {other}",
        "«{name}» не для клиентов сегмента {other}",
    ),
    Obstacle.TERM_NOT_OFFERED: (
        "{name} isn't offered with the term {other}",
        "«{name}» не предлагается на срок {other}",
    ),
    Obstacle.REQUIREMENT_MISSING: ("{name} can only be had with {other}", "«{name}» можно подключить только с {other}"),
    Obstacle.EXCLUDED: ("{name} can't be had together with {other}", "«{name}» нельзя подключить вместе с {other}"),
    Obstacle.GROUP_OCCUPIED: (
        "{name} can't be had beside {other}: only one of them at a time",
        "«{name}» нельзя подключить, пока подключено {other}: возможно только одно из них",
    ),
    Obstacle.COMMITMENT_RUNNING: (
        "{name} can't replace {other} before its term has ended",
        "«{name}» не может заменить {other}, пока не истёк срок обязательства",
    ),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an offering (or a part of it: `product_offering_id`) can't be had; `related`: the offerings in its way."""

    obstacle: Obstacle
    product_offering_id: str
    name: str
    other: str = ""
    related: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """For programs."""
        return self.obstacle.name

    def label(self, language: str = "en") -> str:
        """For people: English, or Russian (`ru`)."""
        english, russian = _LABELS[self.obstacle]
        words = {"id": self.product_offering_id, "name": self.name or self.product_offering_id, "other": self.other}
        return (russian if language.lower().startswith("ru") else english).format_map(words)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an offering can be had. `unknown`: what would have to be known to be sure (branch, place …);
    `replaces`: the products that go when it comes, `upgrade`: for something better."""

    product_offering_id: str
    reasons: tuple[Reason, ...]
    unknown: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    upgrade: bool = False

    @property
    def eligible(self) -> bool:
        """Whether nothing is in the way."""
        return not self.reasons


# --- the rules -------------------------------------------------------------------------------------------------------

# Everything that is known of offerings, by id.
Book = Mapping[str, Restrictions]


def judge(
    offering_id: str,
    book: Book,
    situation: Situation,
    held: Sequence[Held] = (),
    beside: Iterable[str] = (),
    *,
    term: str = "",
    on_sale: bool = True,
    in_place_of_what_is_held: bool = True,
) -> Verdict:
    """Whether the offering can be had by who holds `held` and orders `beside` at the same time.

    `book` has it, its parts, and as far as they exist what these are related to, what is held and what is ordered.
    `on_sale` False leaves lifecycle and validity to somebody else; `in_place_of_what_is_held` False counts what it
    would replace as staying, since nobody has said that it goes.
    """
    offering = book.get(offering_id)
    if offering is None:
        return Verdict(offering_id, (Reason(Obstacle.UNKNOWN_OFFERING, offering_id, ""),))
    own = [offering, *_below(offering, book, {offering_id})]
    leaving, upgrade = _replaced(offering, book, situation.at, held) if in_place_of_what_is_held else ([], False)
    staying = [one for one in held if one not in leaving]
    around = _around(book, [*(one.product_offering_id for one in staying), *beside])
    reasons: list[Reason] = []
    unknown: dict[str, None] = {}
    for member in own:
        if on_sale:
            reasons += _on_sale(member, situation.at, alone=member is offering)
        for what, obstacle, wanted, have in _audience(member, situation):
            if wanted and not have:
                unknown[what] = None
            elif wanted and not wanted.intersection(have):
                reasons.append(Reason(obstacle, member.id, member.name, ", ".join(have)))
    if term and offering.term and not any(t.name == term and _covers(t.valid_for, situation.at) for t in offering.term):
        reasons.append(Reason(Obstacle.TERM_NOT_OFFERED, offering.id, offering.name, term))
    lines = {member.line for member in own}
    for member in own:
        reasons += _missing(member, book, situation.at, {*lines, *around})
        reasons += _excluded(member, book, situation.at, around)
    if not upgrade:
        reasons += [
            Reason(
                Obstacle.COMMITMENT_RUNNING,
                offering.id,
                offering.name,
                _name(book, one.product_offering_id),
                (one.product_offering_id,),
            )
            for one in leaving
            if (until := committed_until(one, book)) is not None and until > situation.at
        ]
    return Verdict(
        offering.id, tuple(dict.fromkeys(reasons)), tuple(unknown), tuple(one.product_id for one in leaving), upgrade
    )


def _below(offering: Restrictions, book: Book, seen: set[str]) -> Iterator[Restrictions]:
    """The parts that a bundle comes with, and theirs."""
    for part in offering.part:
        found = book.get(part.id or "")
        if found is not None and part.default_number and found.id not in seen:
            seen.add(found.id)
            yield found
            yield from _below(found, book, seen)


def _around(book: Book, ids: Iterable[str]) -> dict[str, Restrictions]:
    """What is there already, with all its parts, by what its versions have in common."""
    result: dict[str, Restrictions] = {}
    for key in ids:
        found = book.get(key) or Restrictions(id=key)
        for member in (found, *_below(found, book, {key})):
            result.setdefault(member.line, member)
    return result


def _on_sale(member: Restrictions, at: datetime, *, alone: bool) -> Iterator[Reason]:
    if sale_obstacle(member.status, None, at) is not None:
        yield Reason(Obstacle.NOT_ON_SALE, member.id, member.name, member.status.value)
    if alone and not member.is_sellable:
        yield Reason(Obstacle.NOT_SOLD_ALONE, member.id, member.name)
    if not _covers(member.valid_for, at):
        yield Reason(Obstacle.NOT_VALID_NOW, member.id, member.name)


def _audience(
    member: Restrictions, situation: Situation
) -> Iterator[tuple[str, Obstacle, frozenset[str], tuple[str, ...]]]:
    branch = (situation.branch,) if situation.branch else ()
    yield "branch", Obstacle.WRONG_BRANCH, frozenset(member.eligible_branch), branch
    yield "place", Obstacle.WRONG_PLACE, _named(member.place), situation.place
    yield "channel", Obstacle.WRONG_CHANNEL, _named(member.channel), situation.channel
    yield "marketSegment", Obstacle.WRONG_SEGMENT, _named(member.market_segment), situation.market_segment


def _named(references: Iterable[EntityRef]) -> frozenset[str]:
    return frozenset(text for reference in references for text in (reference.id, reference.name) if text)


def _relations(member: Restrictions, at: datetime, *kinds: Relation) -> Iterator[ProductOfferingRelationship]:
    for relationship in member.relationship:
        if relationship.id and relation_of(relationship) in kinds and _covers(relationship.valid_for, at):
            yield relationship


def _missing(member: Restrictions, book: Book, at: datetime, present: set[str]) -> Iterator[Reason]:
    alternatives: dict[str, list[str]] = {}
    for i, relationship in enumerate(_relations(member, at, Relation.REQUIRES)):
        # Without a role each stands for itself.
        alternatives.setdefault(relationship.role or f"\0{i}", []).append(relationship.id or "")
    for ids in alternatives.values():
        if not any(_line(book, key) in present for key in ids):
            names = " / ".join(_name(book, key) for key in ids)
            yield Reason(Obstacle.REQUIREMENT_MISSING, member.id, member.name, names, tuple(ids))


def _excluded(member: Restrictions, book: Book, at: datetime, around: Mapping[str, Restrictions]) -> Iterator[Reason]:
    ours = {_line(book, relationship.id or "") for relationship in _relations(member, at, Relation.EXCLUDES)}
    for line, other in around.items():
        if line == member.line:
            continue
        theirs = (_line(book, relationship.id or "") for relationship in _relations(other, at, Relation.EXCLUDES))
        name = other.name or other.id
        if line in ours or member.line in theirs:
            yield Reason(Obstacle.EXCLUDED, member.id, member.name, name, (other.id,))
        elif set(member.exclusion_group).intersection(other.exclusion_group):
            yield Reason(Obstacle.GROUP_OCCUPIED, member.id, member.name, name, (other.id,))


def _replaced(offering: Restrictions, book: Book, at: datetime, held: Sequence[Held]) -> tuple[list[Held], bool]:
    """What goes when the offering comes, and whether all of it does for something better."""
    better = {_line(book, r.id or "") for r in _relations(offering, at, Relation.UPGRADES)}
    other = {_line(book, r.id or "") for r in _relations(offering, at, Relation.REPLACES)}
    leaving = [one for one in held if _line(book, one.product_offering_id) in better | other]
    return leaving, bool(leaving) and all(_line(book, one.product_offering_id) in better for one in leaving)


def committed_until(held: Held, book: Book) -> datetime | None:
    """When the term ends that a product was sold with; None: it has none, or nobody knows how long it is."""
    offering = book.get(held.product_offering_id)
    if offering is None or not held.term or held.started_at is None:
        return None
    duration = next((term.duration for term in offering.term if term.name == held.term), None)
    return None if duration is None else later(held.started_at, duration)


_UNITS: Mapping[str, tuple[int, int]] = {
    # (months, days)
    "day": (0, 1),
    "week": (0, 7),
    "month": (1, 0),
    "quarter": (3, 0),
    "year": (12, 0),
}


def later(start: datetime, duration: Duration) -> datetime | None:
    """The instant so long after the start; a month later is the same day, or the last one of a shorter month."""
    unit = _UNITS.get((duration.units or "").lower().rstrip("s"))
    if unit is None or duration.amount is None:
        return None
    months, days = unit[0] * duration.amount, unit[1] * duration.amount
    whole = start.month - 1 + months
    year, month = start.year + whole // 12, whole % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return start.replace(year=year, month=month, day=day) + timedelta(days=days)


def _covers(period: TimePeriod | None, at: datetime) -> bool:
    return period is None or period.covers(at)


def _line(book: Book, key: str) -> str:
    found = book.get(key)
    return key if found is None else found.line


def _name(book: Book, key: str) -> str:
    found = book.get(key)
    return key if found is None else found.name or key


def current_versions(offerings: Iterable[Restrictions], at: datetime) -> dict[str, Restrictions]:
    """Of each series the version that is sold at the instant, by what they have in common: the latest that has begun.

    Of a series of which none is sold, the latest of all, so that it can be said why not.
    """
    best: dict[str, Restrictions] = {}
    for offering in offerings:
        known = best.get(offering.line)
        if known is None or _rank(known, at) < _rank(offering, at):
            best[offering.line] = offering
    return best


def _rank(offering: Restrictions, at: datetime) -> tuple[bool, bool, float, str]:
    start = offering.valid_for.start_date_time if offering.valid_for is not None else None
    sold = sale_obstacle(offering.status, offering.valid_for, at) is None
    return sold, offering.status.live, start.timestamp() if start is not None else float("-inf"), offering.id
