"""Telephone numbers in whatever spelling are one number."""

import json
from pathlib import Path

import pytest

from customers.matching.phones import NO_REGION, BranchRegions, in_plan, normalised


def test_the_vectors_of_numbers_as_people_write_them(shared: Path) -> None:
    cases = json.loads((shared / "data/phone_numbers/parse_cases.json").read_text())["cases"]
    for case in cases:
        found = normalised(case["input"], case["default_region"])
        if case.get("possible"):
            assert found == case["parsed"], case
            assert in_plan(case["input"], case["default_region"]) == case["valid"]
        else:
            # Beyond the library we read what is whole but for its plus, if such a number was really given out.
            assert found is None or in_plan(found), case
    assert len(cases) > 30


def test_every_spelling_of_every_regions_examples_meets_in_one(shared: Path) -> None:
    examples = json.loads((shared / "data/phone_numbers/example_numbers.json").read_text())["examples"]
    for example in examples:
        spellings = [example[name] for name in ("e164", "international", "national", "rfc3966")]
        assert {normalised(spelling, example["region"]) for spelling in spellings} == {example["e164"]}, example
    assert len(examples) > 100


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("0700 123-456", "KG", "+996700123456"),
        ("996 700 123 456", "RU", "+996700123456"),
        ("00996700123456", "RU", "+996700123456"),
        ("+996700123456/55", "KG", None),
        ("0700 123 456", NO_REGION, None),
        ("none", "KG", None),
        ("+" + "9" * 80, "KG", None),
    ],
)
def test_numbers_of_another_country_and_no_numbers(number: str, region: str, expected: str | None) -> None:
    assert normalised(number, region) == expected


def test_a_branch_writes_the_national_numbers_of_its_country() -> None:
    regions = BranchRegions.parse("bishkek=KG, moscow=RU,*=UA")
    assert [regions.region(branch) for branch in ("bishkek", "moscow", "lviv")] == ["KG", "RU", "UA"]
    assert BranchRegions.parse("").region("bishkek") == NO_REGION


@pytest.mark.parametrize("text", ["bishkek", "=KG", "bishkek=XX", "bishkek=Kyrgyzstan"])
def test_a_malformed_setting_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no such country"):
        BranchRegions.parse(text)
