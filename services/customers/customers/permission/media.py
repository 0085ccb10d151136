"""The media of a customer: what he and his party list in their contactMedium, normalised, and what was said of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import phonenumbers
from phonenumbers import timezone

from chassis.types import ContactMedium, MediumCharacteristic
from customers.matching import phones
from customers.permission.domain import known_zone
from customers.permission.facts import Medium
from customers.permission.values import BAD_STATES, LocalInterval, MediumKind, PointState, RegionZone


@dataclass(frozen=True, slots=True)
class Normalised:
    """What a medium is, however it was spelt; one that can't be understood is kept as it was written."""

    value: str
    well_formed: bool = True


@dataclass(frozen=True, slots=True)
class Listed:
    """A medium as a contactMedium names it."""

    owner_id: str
    kind: MediumKind
    value: str
    well_formed: bool
    preferred: bool
    usage: str | None


@dataclass(frozen=True, slots=True)
class Owner:
    """A customer or party whose contactMedium lists media; `time_zone`: what he says of the clock that he lives by."""

    id: str
    branch: str
    contact_medium: tuple[ContactMedium, ...] = ()
    time_zone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What was said of a medium, and when its state was."""

    id: str
    kind: MediumKind
    value: str
    state: PointState
    state_at: datetime | None = None
    purpose: tuple[str, ...] = ()
    best_time: tuple[LocalInterval, ...] = ()


def normalised(kind: MediumKind, text: str, region: str | None) -> Normalised:
    """A number in E.164 (one without a country is one of the region's), anything else in small letters without blanks
    around it."""
    if kind is MediumKind.PHONE:
        number = phones.normalised(text, region or phones.NO_REGION)
        return Normalised(number) if number is not None else Normalised(" ".join(text.split()), well_formed=False)
    plain = " ".join(text.split()).casefold()
    if kind is MediumKind.EMAIL:
        name, _, host = plain.rpartition("@")
        return Normalised(plain, bool(name and "." in host and " " not in plain))
    return Normalised(plain, bool(plain))


@lru_cache(maxsize=65_536)
def number_zones(value: str) -> tuple[str, ...]:
    """Every time zone in which a number (E.164) may be; none: nobody knows."""
    number = phonenumbers.parse(value)
    return tuple(sorted(zone for zone in timezone.time_zones_for_number(number) if known_zone(zone)))


def listed(owners: Iterable[Owner], region: str | None, at: datetime) -> Iterator[Listed]:
    """The media that are listed at the instant, those that can't be understood included."""
    for owner in owners:
        for medium in owner.contact_medium:
            if medium.characteristic is None or (medium.valid_for is not None and not medium.valid_for.covers(at)):
                continue
            for kind, text in _values(medium.characteristic):
                found = normalised(kind, text, region)
                yield Listed(
                    owner.id,
                    kind,
                    found.value,
                    found.well_formed,
                    bool(medium.preferred),
                    medium.characteristic.contact_type,
                )


def _values(where: MediumCharacteristic) -> Iterator[tuple[MediumKind, str]]:
    if where.phone_number:
        yield MediumKind.PHONE, where.phone_number
    if where.email_address:
        yield MediumKind.EMAIL, where.email_address
    if where.social_network_id:
        yield MediumKind.MESSENGER, where.social_network_id
    address = (where.street1, where.street2, where.post_code, where.city, where.state_or_province, where.country)
    if where.street1 or where.street2 or where.post_code:
        yield MediumKind.POST, ", ".join(part for part in address if part)


def media(
    named: Sequence[Listed], points: Sequence[Said], missing: Mapping[str, datetime], blocked: Mapping[str, str]
) -> tuple[Medium, ...]:
    """The media of a customer, each once whoever of his lists it, by kind and value. `missing`: since when a value is
    known not to exist, from whomever; `blocked`: the do-not-call entry of a value."""
    found: dict[tuple[MediumKind, str], Medium] = {}
    for one in named:
        known = found.get((one.kind, one.value))
        found[one.kind, one.value] = Medium(
            kind=one.kind,
            value=one.value,
            state=PointState.UNVERIFIED,
            well_formed=one.well_formed,
            preferred=one.preferred or (known is not None and known.preferred),
            zones=number_zones(one.value) if one.kind is MediumKind.PHONE and one.well_formed else (),
            do_not_call=blocked.get(one.value),
        )
    said: dict[tuple[MediumKind, str], list[Said]] = {}
    for point in points:
        said.setdefault((point.kind, point.value), []).append(point)
    for key, rows in said.items():
        kind, value = key
        found.setdefault(key, Medium(kind=kind, value=value, state=PointState.UNVERIFIED, listed=False))
        found[key] = replace(
            found[key],
            purposes=tuple(sorted({name for row in rows for name in row.purpose})),
            best_time=next((row.best_time for row in rows if row.best_time), ()),
        )
    result = (replace(one, state=_state(one, said.get(key, ()), missing.get(one.value))) for key, one in found.items())
    return tuple(sorted(result, key=lambda one: (one.kind, one.value)))


def _state(medium: Medium, rows: Iterable[Said], missing: datetime | None) -> PointState:
    """What has been said last, except that a bad medium stays bad until somebody verifies it."""
    said = [(row.state_at, row.state) for row in rows if row.state_at is not None]
    if missing is not None and medium.kind is MediumKind.PHONE:
        said.append((missing, PointState.DOES_NOT_EXIST))
    verified = max((at for at, state in said if state is PointState.VALID), default=None)
    bad = [(at, state) for at, state in said if state in BAD_STATES and (verified is None or at > verified)]
    if bad:
        return max(bad)[1]
    return PointState.UNVERIFIED if verified is None else PointState.VALID


# --- where a customer is ---------------------------------------------------------------------------------------------


def zones(owners: Iterable[Owner], regions: Sequence[RegionZone]) -> tuple[tuple[str, ...], str]:
    """The time zones that he may be in, and what says so: he himself, else his addresses; none when neither does."""
    known = list(owners)
    own = {zone for owner in known for zone in owner.time_zone if known_zone(zone)}
    if own:
        return tuple(sorted(own)), "CUSTOMER"
    by_name = {(region.name or "").casefold(): region.time_zone for region in regions}
    found: set[str] = set()
    for owner in known:
        for medium in owner.contact_medium:
            found.update(_of_address(medium.characteristic, by_name))
    return tuple(sorted(found)), "ADDRESS" if found else ""


def _of_address(where: MediumCharacteristic | None, by_name: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if where is None:
        return ()
    names = (where.city, where.state_or_province, where.country)
    return next((by_name[name.strip().casefold()] for name in names if name and name.strip().casefold() in by_name), ())
