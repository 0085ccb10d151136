"""Made-up customers with the slips of hasty typing, some of them twice, and families at one address."""

import random
from collections.abc import Iterator, Mapping

Row = Mapping[str, str]

_ONSETS = (
    "АБВГДЖЗИКЛМНОПРСТУФХЧШЭЮЯ",
    ("Ба", "Ми", "Ка", "Ко", "Ал", "Ас", "Ку", "Са", "Та", "Жа", "Ну", "Ка", "Ма"),
)
_MIDDLES = (
    *("бек", "мат", "гул", "ар", "ын", "дар", "нур", "тай", "лан", "мир", "кул", "сан", "жан", "бар", "рос"),
    *("тим", "вол", "нич", "ков", "сел", "гор", "тор", "лев", "ник"),
)
_ENDINGS = (
    *("ов", "ова", "ев", "ева", "ин", "ина", "ский", "ская", "енко", "чук", "баев", "баева", "кызы", "уулу"),
    *("алиев", "ко", "ян", "иди"),
)
_LATIN = {
    **dict(zip("абвгдезийклмнопрстуфыэ", "abvgdeziyklmnoprstufye", strict=True)),
    **dict(zip("АБВГДЕЗИЙКЛМНОПРСТУФЫЭ", "ABVGDEZIYKLMNOPRSTUFYE", strict=True)),
    "ж": "zh",
    "х": "kh",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "щ": "shch",
    "ь": "",
    "ю": "iu",
    "я": "ia",
    "ё": "e",
    "Ж": "Zh",
    "Х": "Kh",
    "Ц": "Ts",
    "Ч": "Ch",
    "Ш": "Sh",
    "Щ": "Shch",
    "Ю": "Iu",
    "Я": "Ia",
    "Ё": "E",
}
_KEYS = {"given_name": 0.25, "family_name": 0.25, "birth_date": 0.12, "phone": 0.1, "document": 0.1, "street": 0.2}


class People:
    """Draws persons; of one seed always the same."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._onsets = [*_ONSETS[0], *_ONSETS[1]]
        self._given = [self._word(1) for _ in range(900)]
        self._family = [self._word(2) + self._draw.choice(_ENDINGS) for _ in range(60_000)]
        self._streets = [f"{self._word(1)} {self._word(1)}ская" for _ in range(4_000)]
        self._cities = [self._word(2) for _ in range(60)]

    def _word(self, syllables: int) -> str:
        return "".join((self._draw.choice(self._onsets), *(self._draw.choice(_MIDDLES) for _ in range(syllables))))

    def _frequent(self, words: list[str]) -> str:
        """The first ones far more often than the last."""
        at: float = self._draw.random() ** 2.5
        return words[int(len(words) * at)]

    def household(self) -> Iterator[dict[str, str]]:
        """One to four who live together, of one family name mostly."""
        draw = self._draw
        family = self._frequent(self._family)
        shared = {
            "house": str(draw.randint(1, 250)),
            "street": draw.choice(self._streets),
            "city": self._frequent(self._cities),
            "post_code": str(draw.randint(720000, 729999)),
        }
        telephone = self._phone()
        for _ in range(draw.choice((1, 1, 2, 3, 4))):
            yield {
                "given_name": self._frequent(self._given),
                "family_name": family if draw.random() < 0.85 else self._frequent(self._family),
                "birth_date": f"{draw.randint(1940, 2008)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}",
                "document": f"ID{draw.randint(1_000_000, 9_999_999)}",
                "phone": telephone if draw.random() < 0.3 else self._phone(),
                **shared,
            }

    def _phone(self) -> str:
        return f"+996{self._draw.choice((500, 550, 555, 700, 770, 312))}{self._draw.randint(0, 999_999):06}"

    def again(self, person: Row) -> dict[str, str]:
        """The same person, written down once more by somebody else."""
        draw = self._draw
        copy = dict(person)
        if draw.random() < 0.3:
            for name in ("given_name", "family_name"):
                copy[name] = "".join(_LATIN.get(sign, sign) for sign in copy[name])
        for name, chance in _KEYS.items():
            if draw.random() < chance:
                copy[name] = self._slip(copy[name])
        if draw.random() < 0.04:
            copy["given_name"], copy["family_name"] = copy["family_name"], copy["given_name"]
        if draw.random() < 0.25:
            copy |= {"house": str(draw.randint(1, 250)), "street": draw.choice(self._streets)}
        if draw.random() < 0.3:
            copy["phone"] = self._phone()
        for name in ("document", "phone", "birth_date", "street", "post_code"):
            if draw.random() < 0.12:
                copy[name] = ""
        return copy

    def _slip(self, text: str) -> str:
        draw = self._draw
        at = draw.randrange(max(1, len(text) - 1))
        kind = draw.randrange(4)
        other = draw.choice("0123456789") if text[-1:].isdigit() else draw.choice("аеиоурнтсклм")
        if kind == 0:
            return text[:at] + text[at + 1 :]
        if kind == 1:
            return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
        return text[:at] + other + text[at + (kind == 2) :]


def population(size: int, *, twice: float = 0.1, seed: int = 7) -> tuple[list[Row], set[tuple[int, int]]]:
    """So many records, that share of them copies of others, and the pairs of positions that are one person."""
    people = People(seed)
    draw = random.Random(seed + 1)
    rows: list[tuple[int, Row]] = []
    person = 0
    while len(rows) < size:
        for one in people.household():
            rows.append((person, one))
            while draw.random() < twice:
                rows.append((person, people.again(one)))
            person += 1
    rows = rows[:size]
    draw.shuffle(rows)
    seen: dict[int, list[int]] = {}
    for at, (number, _) in enumerate(rows):
        seen.setdefault(number, []).append(at)
    pairs = {(one, other) for places in seen.values() for one in places for other in places if one < other}
    return [row for _, row in rows], pairs
