"""Who is in files more than once, without a database: `python -m customers.matching.files people.csv`.

What a branch's search does with its individuals is done with the rows of CSV files: for whoever wants to know what is
in a file before it is imported. Nothing is kept, and nothing but the pairs is told.
"""

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from customers.matching import identifiers, phones
from customers.matching.draft import parted
from customers.matching.entry import reasons
from customers.matching.linkage import Linked, link
from customers.matching.model import DEFAULT
from customers.matching.names import words
from customers.matching.records import FIELDS, records

Row = Mapping[str, str]

ID, FULL_NAME = "id", "full_name"
# What columns are called, without case, blanks and marks. Whatever else they are called is said on the command line.
_CALLED: Mapping[str, str] = {
    ID: "id recid recordid rowid key",
    "given_name": "givenname firstname forename fname имя",
    "family_name": "familyname surname lastname lname фамилия прізвище",
    "middle_name": "middlename patronymic отчество побатькові",
    FULL_NAME: "fullname name фио",
    "birth_date": "birthdate dateofbirth dob birthday датарождения",
    "document": "document documentnumber documentid socsecid ssn passport nationalid taxid паспорт инн",
    "phone": "phone phonenumber telephone mobile mobilephone msisdn телефон",
    "email": "email emailaddress mail почта",
    "house": "house housenumber streetnumber дом",
    "street": "street street1 streetname address address1 addressline1 улица адрес",
    "street_2": "street2 address2 addressline2",
    "city": "city suburb town locality город",
    "post_code": "postcode postalcode zip zipcode индекс",
    "state": "state stateorprovince province region область",
}
_BY_NAME = {name: field for field, names in _CALLED.items() for name in names.split()}
_MARKS = re.compile(r"[\W_]+")
_DAY_LAST = re.compile(r"\s*(\d{4})[-./](\d{1,2})[-./](\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"\s*(\d{1,2})[-./](\d{1,2})[-./](\d{4})(?!\d)")
# Of fewer rows nothing can be learned.
_FEWEST = 200
_SNIFFED = 65_536


class FileError(ValueError):
    """A file that can't be read so."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file by our names of fields, `id` and `full_name` among them."""

    rows: Sequence[Row]
    month_first: bool


def table(stream: TextIO, named: Mapping[str, str]) -> Table:
    """Reads a CSV file. `named`: which column is which field, where its name doesn't say so. Raises FileError."""
    start = stream.read(_SNIFFED)
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(start.partition("\n")[0], ",;\t|")
    except csv.Error:
        dialect = csv.excel
    stream.seek(0)
    reader = csv.DictReader(stream, dialect=dialect)
    header = list(reader.fieldnames or ())
    missing = sorted(set(named) - set(header))
    if missing:
        raise FileError(f"there is no column {missing[0]!r} but {', '.join(header)}")
    unknown = sorted(set(named.values()) - {*FIELDS, ID, FULL_NAME})
    if unknown:
        raise FileError(f"there is no field {unknown[0]!r} but {', '.join((ID, FULL_NAME, *FIELDS))}")
    fields = {name: _BY_NAME[key] for name in header if (key := _MARKS.sub("", name.casefold())) in _BY_NAME}
    taken = set(named.values())
    fields = {name: field for name, field in fields.items() if field not in taken} | dict(named)
    if not set(fields.values()) - {ID}:
        raise FileError(f"no column is known: {', '.join(header)}; say which is which")
    several = [field for field, count in Counter(fields.values()).items() if count > 1]
    if several:
        raise FileError(f"several columns are the {several[0]}; say which")
    rows = [{field: (row[name] or "").strip() for name, field in fields.items()} for row in reader]
    return Table(rows, _month_first(row.get("birth_date", "") for row in rows))


def _month_first(dates: Iterator[str]) -> bool:
    """Whether 2/13/1990 is how the file writes a date: more of its numbers are days in the second place."""
    found = [match for text in dates if (match := _YEAR_LAST.match(text))]
    return sum(int(one[2]) > 12 for one in found) > sum(int(one[1]) > 12 for one in found)


def record(row: Row, region: str, *, month_first: bool) -> Mapping[str, str | None]:
    """The FIELDS of records. What can't be read as what it should be is compared as it is written."""
    found: dict[str, str | None] = {name: row.get(name) for name in FIELDS}
    if not found["given_name"] and not found["family_name"] and row.get(FULL_NAME):
        found["given_name"], found["family_name"], found["middle_name"] = (*words(row[FULL_NAME]), "", "", "")[:3]
    if (day := _DAY_LAST.match(row.get("birth_date", ""))) is not None:
        found["birth_date"] = f"{day[1]}{int(day[2]):02}{int(day[3]):02}"
    elif (day := _YEAR_LAST.match(row.get("birth_date", ""))) is not None:
        first, second = (day[2], day[1]) if month_first else (day[1], day[2])
        found["birth_date"] = f"{day[3]}{int(second):02}{int(first):02}"
    if phone := row.get("phone"):
        found["phone"] = phones.normalised(phone, region) or re.sub(r"\D", "", phone)
    if email := row.get("email"):
        found["email"] = identifiers.email(email) or email.casefold()
    if document := row.get("document"):
        found["document"] = identifiers.document(document) or document
    if not row.get("house") and (street := row.get("street")):
        found["house"], found["street"] = parted(street)
    return found


def find(tables: Sequence[Table], region: str, threshold: float, *, between: bool) -> tuple[list[str], Linked]:
    """The ids of all rows (their line, where they have none), and the pairs; `between`: only those of two files."""
    ids = [row.get(ID) or str(line) for one in tables for line, row in enumerate(one.rows, 2)]
    files = np.repeat(np.arange(len(tables)), [len(one.rows) for one in tables])
    rows = (record(row, region, month_first=one.month_first) for one in tables for row in one.rows)
    linked = link(records(rows), model=None if len(ids) >= _FEWEST else DEFAULT, least=threshold)
    if between:
        apart = files[linked.pairs >> 32] != files[linked.pairs & 0xFFFFFFFF]
        linked = Linked(
            linked.pairs[apart],
            linked.probability[apart],
            {name: some[apart] for name, some in linked.levels.items()},
            {name: some[apart] for name, some in linked.evidence.items()},
            linked.model,
        )
    return ids, linked


def groups(size: int, pairs: Sequence[int]) -> list[int]:
    """For each row the first one that it is connected with by pairs: those of one person, if the pairs are right."""
    first = list(range(size))

    def root(at: int) -> int:
        while first[at] != at:
            first[at] = first[first[at]]
            at = first[at]
        return at

    for pair in pairs:
        low, high = sorted((root(pair >> 32), root(pair & 0xFFFFFFFF)))
        first[high] = low
    return [root(at) for at in range(size)]


def write(stream: TextIO, ids: Sequence[str], linked: Linked) -> None:
    """A row for each pair, the most probable first: ids, probability, the first id of all of the person, evidence."""
    writer = csv.writer(stream)
    writer.writerow(("id_1", "id_2", "probability", "person", "evidence"))
    pairs = linked.pairs.tolist()
    person = groups(len(ids), pairs)
    for at in np.argsort(-linked.probability, kind="stable").tolist():
        one, other = pairs[at] >> 32, pairs[at] & 0xFFFFFFFF
        evidence = "; ".join(f"{why.field} {why.code} {why.weight}" for why in reasons(linked, at))
        writer.writerow((ids[one], ids[other], f"{linked.probability[at]:.4f}", ids[person[one]], evidence))


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads, finds, writes; 2 for a file that can't be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--column", action="append", default=[], metavar="COLUMN=FIELD")
    parser.add_argument("--region", default=phones.NO_REGION)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--between", action="store_true")
    parser.add_argument("--encoding", default="utf-8-sig")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    try:
        named = dict(_named(text) for text in given.column)
        tables = []
        for path in given.files:
            with path.open(encoding=given.encoding, newline="") as stream:
                tables.append(table(stream, named))
    except (FileError, OSError, UnicodeError, csv.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    ids, linked = find(tables, given.region, given.threshold, between=given.between)
    if given.out is None:
        write(sys.stdout, ids, linked)
    else:
        with given.out.open("w", encoding="utf-8", newline="") as stream:
            write(stream, ids, linked)
    persons = len(set(groups(len(ids), linked.pairs.tolist())))
    sys.stderr.write(f"{len(ids)} rows, {len(linked.pairs)} pairs, {persons} persons\n")
    return 0


def _named(text: str) -> tuple[str, str]:
    column, separator, field = text.rpartition("=")
    if not separator:
        raise FileError(f"expected COLUMN=FIELD, not {text!r}")
    return column, field


if __name__ == "__main__":
    sys.exit(main())
