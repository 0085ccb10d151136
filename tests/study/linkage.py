"""How well pairs are found in files like those of Febrl: made up here, with corruptions of several kinds and strengths.

`python -m tests.study.linkage` prints precision and recall of each kind. The values come from nowhere: names and places
are drawn by lot, a few of them far more often than the rest, so that no file is what the engine was tried with. As in
Febrl's generator (P. Christen, A. Pudjijono, Accurate synthetic generation of realistic personal information, PAKDD
2009) a copy has so many slips in all and so many in a field: letters, words that are joined or parted, values that are
gone, and given and family name in each other's place.
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from customers.matching.linkage import link
from customers.matching.records import records

Row = dict[str, str]

_LATIN = (
    (*"bdfghjklmnprstvw", "br", "cr", "dr", "gr", "st", "th", "sh", "ch", "kr", "pl"),
    (*"aeiou", "ai", "ea", "ou", "ie"),
)
_CYRILLIC = ((*"бвгджзклмнпрстфхцчш", "бр", "гр", "др", "кр", "ст", "тр"), (*"аеиоуыюя",))
_SCHEME = dict(zip("абвгдезийклмнопрстуфыэ", "abvgdeziyklmnoprstufye", strict=True)) | {
    "ж": "zh",
    "х": "kh",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "ю": "iu",
    "я": "ia",
}
_NAMES, _PLACES = ("given_name", "family_name"), ("street", "street_2", "city")


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    originals: int = 2_000
    # How many copies, and how they are spread: one of each at most (0), or with this exponent of Zipf up to five.
    copies: int = 3_000
    zipf: float = 0.0
    # Slips of a copy in all (from, to), and in a field at most.
    slips: tuple[int, int] = (1, 5)
    in_field: int = 2
    # The share of values that nobody knows, also of originals.
    missing: float = 0.03
    swapped: float = 0.02
    fields: Sequence[str] = (
        *("given_name", "family_name", "house", "street", "street_2", "city", "post_code", "state"),
        *("birth_date", "document"),
    )
    cyrillic: bool = False
    transliterated: float = 0.0
    # How many given names there are, and how much the first are more frequent than the rest.
    given_names: int = 500
    family_names: int = 3_000
    steep: float = 1.0


class Writer:
    """Draws persons and writes them down wrongly."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self._kind = kind
        self._draw = draw = random.Random(seed)
        consonants, vowels = _CYRILLIC if kind.cyrillic else _LATIN

        def word(least: int, most: int) -> str:
            parts = (draw.choice(consonants) + draw.choice(vowels) for _ in range(draw.randint(least, most)))
            ending: str = draw.choice((*consonants, "", "", ""))
            return "".join(parts) + ending

        def many(size: int, least: int, most: int) -> list[str]:
            return list(dict.fromkeys(word(least, most) for _ in range(size)))

        self._words: Mapping[str, list[str]] = {
            "given_name": many(kind.given_names, 1, 3),
            "family_name": many(kind.family_names, 2, 4),
            "street": [f"{one} {draw.choice(('street', 'place', 'crescent', 'road'))}" for one in many(2_500, 1, 3)],
            "street_2": [" ".join(many(draw.randint(1, 2), 2, 3)) for _ in range(1_800)],
            "city": many(1_500, 2, 3),
            "state": many(8, 1, 1),
        }
        self._weights = {
            name: [1 / (at + 3) ** kind.steep for at in range(len(words))] for name, words in self._words.items()
        }

    def person(self) -> Row:
        """Somebody."""
        draw = self._draw
        row = {name: draw.choices(words, self._weights[name])[0] for name, words in self._words.items()}
        row |= {
            "house": str(int(draw.paretovariate(0.7)) % 400 + 1),
            "post_code": str(draw.randint(1_000, 7_999)),
            "birth_date": f"{draw.randint(1900, 1999)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}",
            "document": str(draw.randint(1_000_000, 9_999_999)),
            "phone": f"+99670{draw.randint(0, 9)}{draw.randint(0, 999_999):06}",
            "email": f"{row['given_name']}.{row['family_name']}{draw.randint(1, 99)}@example.com",
        }
        return {name: "" if draw.random() < self._kind.missing else row[name] for name in self._kind.fields}

    def again(self, person: Row) -> Row:
        """The same person as somebody else wrote it down."""
        draw, kind, copy = self._draw, self._kind, dict(person)
        if draw.random() < kind.transliterated:
            for name in (*_NAMES, *_PLACES):
                if name in copy:
                    copy[name] = "".join(_SCHEME.get(sign, sign) for sign in copy[name])
        if draw.random() < kind.swapped and set(_NAMES) <= copy.keys():
            copy["given_name"], copy["family_name"] = copy["family_name"], copy["given_name"]
        left = dict.fromkeys(copy, kind.in_field)
        for _ in range(draw.randint(*kind.slips)):
            open_ = [name for name in copy if left[name] and copy[name]]
            if not open_:
                break
            name = draw.choice(open_)
            left[name] -= 1
            copy[name] = self._slip(copy[name])
        return copy

    def _slip(self, text: str) -> str:
        draw = self._draw
        kind = draw.random()
        if kind < 0.08:
            return ""
        if kind < 0.16 and " " in text:
            return text.replace(" ", "", 1)
        at = draw.randrange(len(text))
        if kind < 0.2 and len(text) > 5:
            return f"{text[:at]} {text[at:]}".strip()
        signs = "0123456789" if text.lstrip("+").isdigit() else "aeioustrnl" if text.isascii() else "аеиоустрнл"
        other = draw.choice(signs)
        if kind < 0.45:
            return text[:at] + other + text[at + 1 :]
        if kind < 0.65:
            return text[:at] + text[at + 1 :]
        if kind < 0.8:
            return text[:at] + other + text[at:]
        return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def made(kind: Kind, seed: int) -> tuple[list[Row], set[tuple[int, int]]]:
    """The rows of a file in any order, and the pairs of positions that are one person."""
    writer, draw = Writer(kind, seed), random.Random(seed + 1)
    people = [writer.person() for _ in range(kind.originals)]
    rows = list(enumerate(people))
    left, order = kind.copies, draw.sample(range(kind.originals), kind.originals)
    for person in order:
        if not left:
            break
        each = 1 if not kind.zipf else draw.choices(range(1, 6), [1 / n**kind.zipf for n in range(1, 6)])[0]
        each = min(left, each)
        left -= each
        rows += [(person, writer.again(people[person])) for _ in range(each)]
    draw.shuffle(rows)
    places: dict[int, list[int]] = {}
    for at, (person, _) in enumerate(rows):
        places.setdefault(person, []).append(at)
    return [row for _, row in rows], {pair for some in places.values() for pair in combinations(some, 2)}


_FEBRL = Kind("as febrl 3", zipf=1.0)
_NO_DOCUMENT = tuple(name for name in _FEBRL.fields if name != "document")
_CONTACTS = ("given_name", "family_name", "birth_date", "phone", "email")
KINDS = (
    Kind("as febrl 1", originals=500, copies=500, slips=(1, 3), in_field=1),
    Kind("as febrl 2", originals=4_000, copies=1_000, zipf=1.5),
    _FEBRL,
    Kind("as febrl 4", originals=5_000, copies=5_000, slips=(1, 4)),
    replace(_FEBRL, name="many slips", slips=(4, 8), in_field=3),
    replace(_FEBRL, name="much missing", missing=0.15),
    replace(_FEBRL, name="names swapped", swapped=0.2),
    replace(_FEBRL, name="no document", fields=_NO_DOCUMENT),
    replace(_FEBRL, name="no birth date", fields=tuple(n for n in _FEBRL.fields if n != "birth_date")),
    replace(_FEBRL, name="no address", fields=("given_name", "family_name", "birth_date", "document")),
    replace(_FEBRL, name="names and address", fields=tuple(n for n in _NO_DOCUMENT if n != "birth_date")),
    replace(_FEBRL, name="names, birth date, contacts", fields=_CONTACTS, slips=(1, 3)),
    replace(_FEBRL, name="Cyrillic", cyrillic=True),
    replace(_FEBRL, name="two scripts", cyrillic=True, transliterated=0.4, swapped=0.1),
    replace(_FEBRL, name="few names", given_names=60, family_names=300),
    replace(_FEBRL, name="few are twice", originals=10_000, copies=100),
    replace(_FEBRL, name="hardly anybody", originals=150, copies=50, zipf=0.0),
)


def measured(rows: Sequence[Row], true: set[tuple[int, int]]) -> tuple[float, float]:
    """Precision and recall of a probability of one half."""
    found = link(records(iter(rows)), least=0.5)
    pairs = {(int(pair) >> 32, int(pair) & 0xFFFFFFFF) for pair in found.pairs}
    return len(pairs & true) / max(1, len(pairs)), len(pairs & true) / max(1, len(true))


def main(measure: Callable[[Sequence[Row], set[tuple[int, int]]], tuple[float, float]] = measured) -> None:
    """Prints a line for each kind: the worst of the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    for kind in KINDS:
        if arguments.only not in kind.name:
            continue
        begun = time.process_time()
        figures = np.array([measure(*made(kind, seed)) for seed in range(arguments.seeds)])
        worst = figures.min(axis=0)
        mark = "" if worst.min() >= 0.99 else "  <<"
        took = time.process_time() - begun
        print(f"{kind.name:30} precision {worst[0]:.4f}  recall {worst[1]:.4f}  {took:.0f} s{mark}", flush=True)


if __name__ == "__main__":
    main()
