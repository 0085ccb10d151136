"""E-mail addresses, document numbers and dates as they are compared."""

import re
import unicodedata
from datetime import date, datetime

_ADDRESS = re.compile(r"[^\s@<>\"(),:;]+@[^\s@<>\"(),:;]+")
# Series and numbers are typed on whichever keyboard is at hand; these letters look the same on both.
_LOOKALIKES = str.maketrans("АВЕІКМНОРСТУХЅЈ", "ABEIKMHOPCTYXSJ")
_SHORTEST_DOCUMENT = 4
# RFC 5321, 4.5.3.1.
_LONGEST_ADDRESS = 254


def email(address: str) -> str | None:
    """The address without its display name, in lower case, its domain as the DNS has it; None for what is none.

    The part before the @ may tell upper from lower case (RFC 5321, 2.4), but no provider's does.
    """
    found = _ADDRESS.search(unicodedata.normalize("NFKC", address).removeprefix("mailto:"))
    if found is None:
        return None
    local, _, domain = found.group().casefold().rpartition("@")
    try:
        domain = domain.strip(".").encode("idna").decode("ascii")
    except UnicodeError:
        return None
    whole = f"{local}@{domain}"
    return whole if "." in domain and len(whole) <= _LONGEST_ADDRESS else None


def document(number: str) -> str | None:
    """The series and number without what stands between them, in Latin capitals; None for fewer than four signs."""
    # Before the compatible forms, which spell the sign out.
    text = unicodedata.normalize("NFKC", number.replace("№", " ")).upper().translate(_LOOKALIKES)
    signs = "".join(sign for sign in text if sign.isalnum())
    return signs if len(signs) >= _SHORTEST_DOCUMENT and any(sign.isdigit() for sign in signs) else None


def birth_date(instant: datetime | date | None) -> str | None:
    """The day as YYYY-MM-DD, by the zone that the instant was given in (UTC, as it comes from the database)."""
    if instant is None:
        return None
    day = instant.date() if isinstance(instant, datetime) else instant
    return day.isoformat()
