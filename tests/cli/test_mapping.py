"""Mapping files: what is wrong with one is found at once and named; values are converted or refused, never guessed."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from svyaz.customers.v1 import party_pb2
from svyaz_cli.mapping import CompiledMapping, MappingError, MappingFile

HEADER = ("id", "name", "born", "flag", "level", "kind")
PLAIN: dict[str, Any] = {
    "individual": {"givenName": "Unknown", "familyName": {"column": "name"}},
    "customer": {"name": {"column": "name"}},
}


def compiled(tmp_path: Path, mapping: Any, header: Sequence[str] = HEADER) -> CompiledMapping:
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(mapping, sort_keys=False) if not isinstance(mapping, str) else mapping)
    return MappingFile.read(path).compiled(header)


def changed(*path: str, value: Any) -> dict[str, Any]:
    """The plain mapping with one key set."""
    mapping = copy.deepcopy(PLAIN)
    node: Any = mapping
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return mapping


def test_a_row_becomes_what_the_mapping_says(tmp_path: Path) -> None:
    mapping = compiled(tmp_path, PLAIN)
    row, problems = mapping.row(7, ["1", " Aida ", "", "", "", ""])
    assert problems == []
    assert row is not None
    assert (row.line, row.individual.given_name, row.individual.family_name) == (7, "Unknown", "Aida")
    assert row.customer.name == "Aida"
    assert not row.HasField("billing_account")
    assert list(mapping.unused) == ["id", "born", "flag", "level", "kind"]


@pytest.mark.parametrize(
    ("mapping", "key"),
    [
        ("a: [", "m.yaml isn't YAML"),
        ("- a", "m.yaml must have keys"),
        ({"individual": {}}, "customer: missing"),
        ({"customer": {}}, "individual: "),
        ({**PLAIN, "organization": {}}, "individual: "),
        ({**PLAIN, "colour": {}}, "colour: unknown"),
        ({**PLAIN, "key": "id"}, "dataset: needed"),
        ({**PLAIN, "dataset": 7}, "dataset: must be a text"),
        ({**PLAIN, "dataset": "d", "key": "no"}, "key: the file has no column 'no'"),
        (changed("individual", "shoeSize", value="38"), "individual.shoeSize: there is no such attribute"),
        (changed("individual", "id", value="1"), "individual.id: there is no such attribute"),
        (changed("individual", "gender", value={"column": "sex"}), "individual.gender.column: the file has no column"),
        (changed("individual", "gender", value={"colum": "kind"}), "individual.gender.colum: unknown"),
        (changed("individual", "gender", value={"type": "text"}), "individual.gender.column: missing"),
        (changed("individual", "gender", value=7), "individual.gender: a text"),
        (changed("individual", "gender", value=True), "individual.gender: a text"),
        (changed("individual", "gender", value={"column": "kind", "type": "date"}), "individual.gender.type: "),
        (changed("individual", "gender", value={"column": "kind", "format": "%d"}), "individual.gender.format: "),
        (changed("individual", "gender", value={"column": "kind", "values": [1]}), "individual.gender.values: "),
        (changed("individual", "status", value="sleeping"), "individual.status: 'sleeping' isn't one of"),
        (changed("individual", "birthDate", value={"column": "born", "format": "d"}), "individual.birthDate.format: "),
        (
            changed("individual", "birthDate", value={"column": "born", "timezone": "Mars/Olympus"}),
            "individual.birthDate.timezone: ",
        ),
        (changed("individual", "skill", value={}), "individual.skill: must be a list"),
        (changed("individual", "skill", value=[7]), "individual.skill[0]: must have attributes"),
        (changed("individual", "skill", value=[{"colour": 1}]), "individual.skill[0].colour: there is no such"),
        (changed("individual", "skill", value=[{"when": "no"}]), "individual.skill[0].when: the file has no column"),
        (changed("individual", "skill", value=[{"when": {"is": []}}]), "individual.skill[0].when: must be"),
        (
            changed("individual", "skill", value=[{"when": {"column": "kind", "is": "x"}}]),
            "individual.skill[0].when.is: must be a list",
        ),
        (changed("billingAccount", "creditLimit", value={"unit": "KGS"}), "billingAccount.creditLimit: "),
    ],
)
def test_a_mapping_that_cannot_work_is_named_by_its_key(tmp_path: Path, mapping: Any, key: str) -> None:
    with pytest.raises(MappingError) as refusal:
        compiled(tmp_path, mapping)
    assert str(refusal.value).startswith(key)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="one name"):
        compiled(tmp_path, PLAIN, ("name", "name"))


def _value(tmp_path: Path, node: Any, text: str) -> tuple[bytes | None, list[str]]:
    """What a characteristic of that value becomes for a row that says `text`."""
    characteristic = [{"name": "c", "value": node}]
    mapping = compiled(tmp_path, changed("customer", "characteristic", value=characteristic))
    row, problems = mapping.row(1, ["1", "Aida", "", "", text, ""])
    return (row.customer.characteristic[0].value if row is not None else None, [p.reason for p in problems])


@pytest.mark.parametrize(
    ("node", "text", "value"),
    [
        ({"column": "level"}, "5", b'"5"'),
        ({"column": "level"}, "Чолпон", '"Чолпон"'.encode()),
        ({"column": "level", "type": "number"}, "12.50", b"12.50"),
        ({"column": "level", "type": "number"}, "1e3", b"1000"),
        ({"column": "level", "type": "number"}, "437011234567890123.1", b"437011234567890123.1"),
        ({"column": "level", "type": "integer"}, "7.0", b"7"),
        ({"column": "level", "type": "boolean"}, "YES", b"true"),
        ({"column": "level", "type": "boolean"}, "0", b"false"),
        ({"column": "level", "type": "date"}, "2026-02-28", b'"2026-02-28T00:00:00+00:00"'),
        ({"column": "level", "values": {"a": 1, "b": True}}, "a", b"1"),
        ({"column": "level", "values": {"a": 1, "b": True}}, "b", b"true"),
        ("gold", "", b'"gold"'),
        (12.5, "", b"12.5"),
    ],
)
def test_values_are_converted(tmp_path: Path, node: Any, text: str, value: bytes) -> None:
    assert _value(tmp_path, node, text) == (value, [])


@pytest.mark.parametrize(
    ("node", "text", "reason"),
    [
        ({"column": "level"}, "  ", "column level is blank"),
        ({"column": "level", "type": "number"}, "twelve", "column level: 'twelve' isn't a number"),
        ({"column": "level", "type": "number"}, "NaN", "column level: 'NaN' isn't a number"),
        ({"column": "level", "type": "number"}, "1_000", "column level: '1_000' isn't a number"),
        ({"column": "level", "type": "integer"}, "7.5", "column level: '7.5' isn't a whole number"),
        ({"column": "level", "type": "boolean"}, "maybe", "column level: 'maybe' is neither yes nor no"),
        (
            {"column": "level", "type": "date"},
            "2026-02-30",
            "column level: '2026-02-30' isn't a date in the format %Y-%m-%d",
        ),
        ({"column": "level", "values": {"a": 1}}, "c", "column level: 'c' isn't one of a"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, node: Any, text: str, reason: str) -> None:
    assert _value(tmp_path, node, text) == (None, [reason])


def test_all_that_is_wrong_with_a_row_is_told(tmp_path: Path) -> None:
    mapping = changed("individual", "birthDate", value={"column": "born", "type": "date"})
    row, problems = compiled(tmp_path, mapping).row(1, ["1", "", "soon", "", "", ""])
    assert row is None
    assert [problem.field for problem in problems] == [
        "individual.familyName",
        "individual.birthDate",
        "customer.name",
    ]


@pytest.mark.parametrize(
    ("when", "kind", "there"),
    [
        ("kind", "x", True),
        ("kind", " ", False),
        ({"column": "kind", "is": ["x", "y"]}, "y", True),
        ({"column": "kind", "is": ["x", "y"]}, "z", False),
        ({"column": "kind", "not": ["x"]}, "z", True),
        ({"column": "kind", "not": ["x"]}, "x", False),
    ],
)
def test_a_part_is_there_only_when_it_says_so(tmp_path: Path, when: Any, kind: str, there: bool) -> None:
    mapping = changed("individual", "skill", value=[{"when": when, "skillName": {"column": "kind"}}])
    row, problems = compiled(tmp_path, mapping).row(1, ["1", "Aida", "", "", "", kind])
    assert problems == []
    assert row is not None
    assert len(row.individual.skill) == there


def test_a_state_is_given_in_its_own_spelling(tmp_path: Path) -> None:
    mapping = compiled(tmp_path, changed("individual", "status", value="deceaded"))
    row, _ = mapping.row(1, ["1", "Aida", "", "", "", ""])
    assert row is not None
    assert row.individual.status == party_pb2.INDIVIDUAL_STATE_DECEASED
