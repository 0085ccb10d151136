"""Spellings of one name meet, whichever script and scheme they are in; names of two don't."""

import json
from pathlib import Path

import pytest

from customers.matching import identifiers
from customers.matching.keys import filed_under, looked_up
from customers.matching.names import sounds, spelling, words
from customers.matching.query import likeness


def meet(one: str, other: str) -> bool:
    return bool(set(sounds(one)) & set(sounds(other)))


def test_every_word_of_every_schemes_samples_meets_its_transliteration(shared: Path) -> None:
    schemas = json.loads((shared / "data/transliteration_ru/schemas_with_samples.json").read_text())["schemas"]
    pairs = [
        (name, one, other)
        for name, schema in schemas.items()
        for cyrillic, latin in schema["samples"]
        for one, other in zip(words(cyrillic), words(latin), strict=True)
    ]
    apart = [pair for pair in pairs if not meet(pair[1], pair[2])]
    # What French spells to be read aloud, Uzbek renders instead of transliterating, and no scheme tells.
    assert len(apart) <= len(pairs) * 0.01, apart
    assert len(pairs) > 500


# Russian names whose letters are where the schemes differ.
NAMES = (
    *("Щербаков", "Юлия", "Ющенко", "Яковлев", "Съедин", "Хрущёв", "Цветаева", "Жуков", "Чайковский", "Йошкин"),
    *("Ёлкина", "Эльвира", "Подъячев", "Мягков", "Шишкин", "Цой", "Ильич", "Михайлов", "Чёрный", "Объедков"),
    *("Соловьёв", "Гайворонский", "Выхин", "Ходжаев"),
)


def test_any_two_schemes_spellings_of_a_name_meet(shared: Path) -> None:
    """What one passport has and what another one has, neither of them Cyrillic."""
    schemas = json.loads((shared / "data/transliteration_ru/schemas_with_samples.json").read_text())["schemas"]
    total = apart = 0
    for name in NAMES:
        spelled = {
            "".join(schema["mapping"].get(letter, letter) for letter in name.lower())
            for key, schema in schemas.items()
            if key != "uz"
        }
        for one in spelled:
            for other in spelled:
                total += 1
                apart += not meet(one, other)
    # ICAO spells ъ as ie, which nobody else does.
    assert apart <= total * 0.02
    assert total > 1_000


@pytest.mark.parametrize(
    "group",
    [
        "Щербаков Shcherbakov Scherbakov Ščerbakov Schtscherbakow Chtcherbakov Szczerbakow",
        "Юлия Yulia Iuliia Julia Юлія Yuliya Julija Ûliâ Iouliia",
        "Сергей Сергій Sergey Serhii Sergei Sergej Serhiy",
        "Гончаренко Honcharenko Goncharenko Hončarenko",
        "Жаныш Janysh Zhanysh Djanysh",
        "Үмүт Umut Ümüt Умут",
        "Өмүрбек Omurbek Ömürbek Омурбек",
        "Чыңгыз Chyngyz Chingiz Чингиз Çıngız",
        "Єва Yeva Eva Ева Jeva",
        "Їжакевич Yizhakevych Ижакевич Izhakevich",
        "Ґалаґан Galagan Halahan Галаган",
        "Хасан Hasan Khasan",
        "Ксения Xenia Kseniia",
        "Семён Semyon Semen Semion",
        "Кыргыз Kyrgyz Qyrghyz Kirgiz",
        "О'Брайен OʼBrayen Обрайен",
    ],
)
def test_spellings_of_a_name_meet(group: str) -> None:
    first, *others = group.split()
    assert [other for other in others if not meet(first, other)] == []
    for other in others:
        like = likeness(first, other)
        assert like is not None
        assert like[1] > 0.9


@pytest.mark.parametrize(
    "pair", ["Иванов Петров", "Мария Марина", "Асанов Усенов", "Щербаков Горбачёв", "Айгүл Айнура", "Ли Ким"]
)
def test_other_names_dont_meet(pair: str) -> None:
    one, other = pair.split()
    assert not meet(one, other)
    like = likeness(one, other)
    assert like is None or like[1] < 0.85


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("Щербакова", "щерб"),
        ("Щербакова", "Scherbakowa"),
        ("Щербакова", "Щрбакова"),
        ("Щербакова", "Щербкаова"),
        ("Щербакова", "Щербаковва"),
        ("Щербакова", "Щебрак"),
        ("Нурмухаммедова", "nurmuhamed"),
        ("Ли", "Li"),
    ],
)
def test_a_word_is_filed_where_it_is_looked_for(name: str, asked: str) -> None:
    """By its beginning, in the other script, with a slip."""
    assert set(filed_under(spelling(name))) & set(looked_up(asked))
    assert likeness(asked, name) is not None


def test_what_has_no_letter_has_no_spelling() -> None:
    assert spelling("123") == ""
    assert looked_up("!") == ()
    assert list(words(" - , ")) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Aigul A. <Aigul@Example.KG>", "aigul@example.kg"),
        ("mailto:a@b.kg", "a@b.kg"),
        ("почта@пример.рф", "почта@xn--e1afmkfd.xn--p1ai"),
        ("a@localhost", None),
        ("none", None),
        ("a" * 250 + "@example.kg", None),
    ],
)
def test_an_address_has_one_spelling(given: str, expected: str | None) -> None:
    assert identifiers.email(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ID № 123-45 67", "ID1234567"),
        ("МК 445566", "MK445566"),
        ("4510 123456", "4510123456"),
        ("12", None),
        ("none", None),
    ],
)
def test_a_document_has_one_spelling(given: str, expected: str | None) -> None:
    assert identifiers.document(given) == expected
