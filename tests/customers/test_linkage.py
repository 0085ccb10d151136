"""Who is in the base twice: precision and recall against links that are known."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from customers.matching.blocking import candidates, with_slips
from customers.matching.comparison import compare
from customers.matching.linkage import link
from customers.matching.model import DEFAULT, read, written
from customers.matching.records import MISSING, records
from tests.people import population
from tests.study.linkage import KINDS, made, measured

# The columns of the Febrl sets → ours.
FEBRL = {
    "given_name": "given_name",
    "surname": "family_name",
    "street_number": "house",
    "address_1": "street",
    "address_2": "street_2",
    "suburb": "city",
    "postcode": "post_code",
    "state": "state",
    "date_of_birth": "birth_date",
    "soc_sec_id": "document",
}


@pytest.mark.parametrize("number", [1, 3])
def test_the_febrl_sets(shared: Path, number: int) -> None:
    """Nothing is learned from the links, and nothing is set for these files."""
    folder = shared / "data/er_febrl"
    with (folder / f"febrl{number}.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    places = {row["rec_id"]: at for at, row in enumerate(rows)}
    with (folder / f"febrl{number}_links.csv").open() as stream:
        links = [sorted((places[row["rec_id_1"]], places[row["rec_id_2"]])) for row in csv.DictReader(stream)]
    true = np.array([one << 32 | other for one, other in links], dtype=np.int64)
    found = link(records({FEBRL[k]: v.strip() for k, v in row.items() if k in FEBRL} for row in rows), least=0.5)
    right = np.isin(found.pairs, true).sum()
    assert right / len(found.pairs) >= 0.99
    assert right / len(true) >= 0.99


def test_families_at_one_address_stay_as_many_as_they_are() -> None:
    """Cyrillic and Latin, moved, with slips and gaps: every copy is one of somebody, and no brother is."""
    rows, pairs = population(3_000, seed=3)
    found = link(records(iter(rows)), least=0.5)
    right = sum((int(pair) >> 32, int(pair) & 0xFFFFFFFF) in pairs for pair in found.pairs)
    assert right / len(found.pairs) >= 0.98
    assert right / len(pairs) >= 0.98
    assert found.model.household > found.model.same
    known = read(written(found.model))
    assert known is not None
    assert known.same == found.model.same
    assert {name: some.tolist() for name, some in known.m.items()} == {
        name: some.tolist() for name, some in found.model.m.items()
    }


@pytest.mark.parametrize("name", ["as febrl 2", "names swapped", "no document", "names, birth date, contacts"])
def test_files_of_other_kinds(name: str) -> None:
    """Smaller ones than those of the study: a slip in each field, fields that nobody has, addresses made of names."""
    kind = next(one for one in KINDS if one.name == name)
    precision, recall = measured(*made(replace(kind, originals=600, copies=500), seed=5))
    assert precision >= 0.99
    assert recall >= 0.97


def test_who_has_a_slip_in_each_field_is_compared() -> None:
    one = {"given_name": "Baktygul", "family_name": "Asanova", "birth_date": "19900201", "document": "AN1234567"}
    slips = {"given_name": "Bakgyul", "family_name": "Asnova", "birth_date": "19900021", "document": "AN123567"}
    unlike = {"given_name": "Pyotr", "family_name": "Ivanov", "birth_date": "19551130", "document": "ID7654321"}
    assert candidates(records(iter([one, unlike, slips]))).tolist() == [2]


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("abcde", "abcde", True),
        ("abcde", "abde", True),
        ("abcde", "abxde", True),
        ("zabcz", "abcz", True),
        ("zabcz", "zabc", True),
        ("aabbb", "abbb", True),
        ("aabbb", "aabb", True),
        ("aabbb", "ab", False),
        ("abcdefgh", "hgfedcba", False),
    ],
)
def test_texts_one_slip_apart_have_a_key_in_common(one: str, other: str, near: bool) -> None:
    keys = with_slips([one, other], np.array([0, 1, -1], dtype=np.int32))
    each = [[key for key in row if key != MISSING] for row in keys.tolist()]
    assert all(len(set(some)) == len(some) for some in each)
    assert bool(set(each[0]) & set(each[1])) is near
    assert each[2] == []


def test_two_addresses_of_one_name_arent_near() -> None:
    people = [
        {"given_name": "Anna", "family_name": "Ivanova", "birth_date": born, "email": email}
        for born, email in (
            ("19700101", "anna.ivanova11@example.com"),
            ("19850520", "anna.ivanova18@example.com"),
            ("19700101", "anna.ivanova11@exmaple.com"),
        )
    ]
    levels = compare(records(iter(people)), np.array([1, 2], dtype=np.int64), ["email"])
    assert levels["email"].tolist() == [0, 2]


def test_what_isnt_known_says_nothing() -> None:
    person = {"given_name": "Айгүл", "family_name": "Асанова", "birth_date": "19900201", "document": "ID1234567"}
    others = [
        {"given_name": "Aigul", "family_name": "Asanova", "birth_date": "", "document": "ID1234567"},
        {"given_name": "Асанова", "family_name": "Айгул", "birth_date": "19900102"},
        {"given_name": "Айгүл", "family_name": "Асанова"},
        {"given_name": "Бакыт", "family_name": "Асанов", "birth_date": "19600201"},
    ]
    found = link(records(iter([person, *others])), model=DEFAULT, least=0.5)
    assert [int(pair) for pair in found.pairs if int(pair) >> 32 == 0] == [1, 2]


def test_nobody_and_one() -> None:
    assert len(link(records(iter([])), model=DEFAULT).pairs) == 0
    assert len(link(records(iter([{"given_name": "Айгүл"}])), model=DEFAULT).pairs) == 0
