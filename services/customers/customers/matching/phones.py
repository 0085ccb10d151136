"""Telephone numbers in one spelling, E.164 (`+996700123456`), by the numbering plans of libphonenumber."""

import re
from collections.abc import Mapping
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

# A number that is that of no branch's region is written with its country.
NO_REGION = "ZZ"
# https://www.itu.int/rec/T-REC-E.164: at most 15 digits; the rest of a text are spaces, brackets and an extension.
_LONGEST = 60


@lru_cache(maxsize=65_536)
def normalised(number: str, region: str) -> str | None:
    """The number in E.164 without its extension; None for what can't be dialled from anywhere.

    `region` (ISO 3166-1, `KG`) says how a national number is meant, and what dials abroad. Possible by the country's
    lengths is enough: numbering plans grow faster than anybody's copy of them; `in_plan` is stricter.
    """
    parsed = _parsed(number, region)
    return None if parsed is None else phonenumbers.format_number(parsed, PhoneNumberFormat.E164)


def in_plan(number: str, region: str = NO_REGION) -> bool:
    """Whether the country's numbering plan has given out the range that the number lies in."""
    parsed = _parsed(number, region)
    return parsed is not None and phonenumbers.is_valid_number(parsed)


def _parsed(number: str, region: str) -> phonenumbers.PhoneNumber | None:
    if len(number) > _LONGEST:
        return None
    parsed = _read(number, region)
    if parsed is not None and phonenumbers.is_valid_number(parsed):
        return parsed
    # Whole but for its plus: 996 700 123 456 in a Russian branch, 00 996 … where one dials abroad otherwise.
    digits = re.sub(r"\D", "", number).removeprefix("00")
    if number.lstrip()[:1] != "+" and 10 < len(digits) <= 15:
        abroad = _read(f"+{digits}", NO_REGION)
        if abroad is not None and phonenumbers.is_valid_number(abroad):
            return abroad
    return parsed


def _read(number: str, region: str) -> phonenumbers.PhoneNumber | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except NumberParseException:
        return None
    possible = phonenumbers.is_possible_number_with_reason(parsed) == ValidationResult.IS_POSSIBLE
    return parsed if possible else None


class BranchRegions:
    """Which country's national numbers each branch writes."""

    def __init__(self, regions: Mapping[str, str], other: str = NO_REGION) -> None:
        self._regions = dict(regions)
        self._other = other

    @classmethod
    def parse(cls, text: str) -> "BranchRegions":
        """Reads `bishkek=KG,moscow=RU,*=KG`; `*` is every branch that isn't named. Without it their numbers are taken
        only with their countries. Raises ValueError for what isn't such a list or no country.
        """
        regions: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            branch, separator, region = (part.strip() for part in entry.partition("="))
            if not separator or not branch:
                raise ValueError(f"expected branch=XX, not {entry!r}")
            if region not in phonenumbers.SUPPORTED_REGIONS:
                raise ValueError(f"no such country: {region!r}")
            regions[branch] = region
        other = regions.pop("*", NO_REGION)
        return cls(regions, other)

    def region(self, branch: str) -> str:
        """The branch's country, ISO 3166-1."""
        return self._regions.get(branch, self._other)

    def all(self) -> list[str]:
        """Each country once."""
        return list(dict.fromkeys((*self._regions.values(), self._other)))
