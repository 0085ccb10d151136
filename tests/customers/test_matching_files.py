"""Who is in a file more than once, whatever its columns are called and its dates look like."""

import csv
import io
from pathlib import Path

import pytest

from customers.matching.files import FileError, groups, main, record, table

PEOPLE = """\
Record ID;Last name;First_Name;Geburt;Phone;Street
a;Щербакова;Юлия;01.02.1990;0700 123 456;Чуй 12
b;Асанов;Бакыт;13.05.1960;0555 111 222;Токтогула 1
c;Yulia;Scherbakova;1990-02-01;+996 700 123 456;
"""


def read(text: str, **named: str) -> list[dict[str, str]]:
    return [dict(row) for row in table(io.StringIO(text), {column: field for field, column in named.items()}).rows]


def test_a_file_is_looked_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "people.csv", tmp_path / "pairs.csv"
    path.write_text(PEOPLE, encoding="utf-8-sig")
    assert main([str(path), "--column", "Geburt=birth_date", "--region", "KG", "--out", str(out)]) == 0
    (pair,) = csv.DictReader(io.StringIO(out.read_text(encoding="utf-8")))
    assert (pair["id_1"], pair["id_2"], pair["person"]) == ("a", "c", "a")
    assert float(pair["probability"]) > 0.99
    assert {"name_order SWAPPED", "phone SAME", "birth_date SAME"} <= {
        why.rpartition(" ")[0] for why in pair["evidence"].split("; ")
    }
    assert capsys.readouterr().err == "3 rows, 1 pairs, 2 persons\n"


def test_two_files_are_linked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "one.csv", tmp_path / "other.csv"]
    for number, path in enumerate(paths):
        path.write_text(f"id,name,dob,ssn\n{number}1,Anna Berg,1/20/1980,12345\n{number}2,Anna Berg,1/20/1980,12345\n")
    assert main(["--between", *map(str, paths)]) == 0
    found = {frozenset((row["id_1"], row["id_2"])) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert found == {frozenset((one, other)) for one in ("01", "02") for other in ("11", "12")}


@pytest.mark.parametrize(
    ("written", "month_first", "meant"),
    [
        ("19900201", False, "19900201"),
        ("1990-2-1T00:00:00Z", False, "19900201"),
        ("1.2.1990", False, "19900201"),
        ("02/01/1990", True, "19900201"),
        ("spring", False, "spring"),
    ],
)
def test_dates_are_read_as_their_file_writes_them(written: str, month_first: bool, meant: str) -> None:
    assert record({"birth_date": written}, "ZZ", month_first=month_first)["birth_date"] == meant


def test_what_a_file_must_have() -> None:
    assert table(io.StringIO("dob\n2/13/1990\n2/1/1990\n"), {}).month_first
    assert not table(io.StringIO("dob\n13/2/1990\n"), {}).month_first
    assert read("id,фамилия\n1,Берг\n") == [{"id": "1", "family_name": "Берг"}]
    assert read("id,surname,x\n1,Berg,A\n", given_name="x") == [{"id": "1", "family_name": "Berg", "given_name": "A"}]
    for text, named in (("", {}), ("a,b\n1,2\n", {}), ("name,fullname\nA,B\n", {}), ("name\nA\n", {"given_name": "y"})):
        with pytest.raises(FileError):
            read(text, **named)


def test_a_person_of_many_records_is_one() -> None:
    pairs = [(one << 32) | other for one, other in ((3, 4), (1, 2), (2, 4))]
    assert groups(6, pairs) == [0, 1, 1, 1, 1, 5]
