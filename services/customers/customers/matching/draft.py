"""Individuals as the records that are compared: which of their attributes is which field."""

from collections.abc import Mapping

from customers.matching import identifiers, phones
from customers.matching.keys import name_of
from customers.party.domain import Individual

_HOUSE_SIGNS = frozenset("0123456789")


def record(individual: Individual, region: str) -> Mapping[str, str | None]:
    """The FIELDS of records; of several telephones, addresses and documents the first that is one."""
    given, family = name_of(individual)
    found: dict[str, str | None] = {
        "given_name": given,
        "family_name": family,
        "middle_name": individual.middle_name,
        "birth_date": (identifiers.birth_date(individual.birth_date) or "").replace("-", ""),
    }
    for one in individual.individual_identification:
        found.setdefault("document", identifiers.document(one.identification_id or ""))
    for medium in individual.contact_medium:
        where = medium.characteristic
        if where is None:
            continue
        if where.phone_number and not found.get("phone"):
            found["phone"] = phones.normalised(where.phone_number, region)
        if where.email_address and not found.get("email"):
            found["email"] = identifiers.email(where.email_address)
        if where.street1 and not found.get("street"):
            house, street = parted(where.street1)
            found |= {"house": house, "street": street, "street_2": where.street2}
        for name, value in (("city", where.city), ("post_code", where.post_code), ("state", where.state_or_province)):
            if value and not found.get(name):
                found[name] = value
    return found


def parted(street: str) -> tuple[str, str]:
    """House and street of an address line: its words with digits, and the others."""
    words = street.replace(",", " ").split()
    house = [word for word in words if _HOUSE_SIGNS & set(word)]
    return " ".join(house), " ".join(word for word in words if word not in house)
