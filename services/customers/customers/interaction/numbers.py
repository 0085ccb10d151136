"""Numbers in texts, so that one is found however it is spelled there and by whoever looks for it.

What dials a line are its last digits; what stands before them (`+996`, `0`, `8 10 996`) depends on from where one
dials. So a number is kept as its digits from the last to the first: looked for by its last digits, it is what begins
with them, which an index of words finds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher, format_number

# Digits, and between them what people put into numbers; a comma or semicolon stands between two numbers.
_RUN = re.compile(r"\+?\(?\d(?:[\s\u00a0().\-–—/]{0,3}\d){3,30}")
# https://www.itu.int/rec/T-REC-E.164 has 15 digits at most; contracts and accounts have more.
_SHORTEST, _LONGEST = 5, 24
# libphonenumber tries every reading of digits, which takes it a second for so many characters of nothing else. Beyond
# them a number is found as it is written, with the country or without.
_READ_CLOSELY = 30_000
# So many of its last digits tell a number apart without what one dials before it.
TAIL = 9
PREFIX = "tel"


@dataclass(frozen=True, slots=True)
class Run:
    """A number in a text: where it stands, and its digits."""

    start: int
    end: int
    digits: str

    @property
    def tail(self) -> str:
        """What it is looked for by: an index word's beginning."""
        return PREFIX + self.digits[: -TAIL - 1 : -1]


def runs(text: str, region: str) -> Iterator[Run]:
    """The numbers in a text, in the order of their places; some may be found twice, with and without their country.

    `region` (ISO 3166-1) is that of national numbers.
    """
    found = [
        Run(match.start, match.end, format_number(match.number, PhoneNumberFormat.E164).lstrip("+"))
        for match in PhoneNumberMatcher(text[:_READ_CLOSELY], region, leniency=Leniency.VALID)
    ]
    for written in _RUN.finditer(text):
        digits = re.sub(r"\D", "", written.group())
        if _SHORTEST <= len(digits) <= _LONGEST:
            found.append(Run(written.start(), written.end(), digits))
    return iter(sorted(found, key=lambda run: (run.start, run.end)))


def index_words(text: str, region: str) -> list[str]:
    """What an index keeps of the numbers in a text."""
    return sorted({PREFIX + run.digits[::-1] for run in runs(text, region)})
