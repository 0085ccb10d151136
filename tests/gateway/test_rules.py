"""The rules that our dialect of TM Forum's REST APIs holds to, one test a rule, on the real services."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest

from tests.running import Api, Running

CUSTOMER = "/tmf-api/customerManagement/v4/customer"
INDIVIDUAL = "/tmf-api/party/v4/individual"
ORGANIZATION = "/tmf-api/party/v4/organization"
ACCOUNT = "/tmf-api/accountManagement/v4/billingAccount"
FORMAT = "/tmf-api/accountManagement/v4/billFormat"
PARTY = {"id": "500", "@referredType": "Individual"}


def customer(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "engagedParty": PARTY} | more


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code in (200, 206), answer.text
    return [item["name"] for item in answer.json()]


def paths(answer: httpx.Response, status: int = 400) -> set[str]:
    """The attributes that a refusal names; its body is checked to be TM Forum's Error."""
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert isinstance(error["code"], str)
    assert error["reason"]
    assert error["status"] == str(status)
    assert error["@type"] == "Error"
    return {detail["path"] for detail in error.get("details", [])}


def code(answer: httpx.Response, status: int) -> str:
    paths(answer, status)
    return str(answer.json()["code"])


# 1: create, change, delete


def test_a_created_resource_is_answered_whole_with_its_location(api: Api) -> None:
    answer = api.post(CUSTOMER, customer("Aida", id="mine", href="/mine", validFor={"startDateTime": "2026-01-01"}))
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"] != "mine"
    assert made["href"] == f"{CUSTOMER}/{made['id']}" == answer.headers["Location"]
    assert made["name"] == "Aida"
    assert made["@type"] == "Customer"
    assert made["engagedParty"] == PARTY
    assert made["validFor"] == {"startDateTime": "2026-01-01T00:00:00Z"}
    assert api.get(answer.headers["Location"]).json() == made


def test_two_equal_posts_make_two_resources(api: Api) -> None:
    assert api.made(CUSTOMER, customer("Twin"))["id"] != api.made(CUSTOMER, customer("Twin"))["id"]


def test_a_patch_is_a_merge_and_answers_the_whole(api: Api) -> None:
    made = api.made(
        INDIVIDUAL,
        {
            "givenName": "Aizada",
            "familyName": "Usenova",
            "title": "Dr",
            "contactMedium": [{"mediumType": "email", "preferred": True}, {"mediumType": "phone"}],
            "x": {"a": 1, "b": {"c": 2, "d": 3}},
        },
    )
    answer = api.patch(
        made["href"],
        {"title": None, "nationality": "KG", "contactMedium": [{"mediumType": "post"}], "x": {"b": {"c": None}}},
    )
    assert answer.status_code == 200
    expected = made | {
        "nationality": "KG",
        "contactMedium": [{"mediumType": "post"}],
        "x": {"a": 1, "b": {"d": 3}},
    }
    del expected["title"]
    assert answer.json() == expected == api.get(made["href"]).json()


def test_a_patch_reaches_into_nested_objects(api: Api) -> None:
    made = api.made(
        CUSTOMER,
        customer("Nested", validFor={"startDateTime": "2026-01-01T00:00:00Z", "endDateTime": "2027-01-01T00:00:00Z"}),
    )
    changed = api.patch(made["href"], {"validFor": {"endDateTime": None, "x": 1}, "engagedParty": {"name": "P"}}).json()
    assert changed["validFor"] == {"startDateTime": "2026-01-01T00:00:00Z", "x": 1}
    assert changed["engagedParty"] == PARTY | {"name": "P"}


def test_a_patch_changes_one_part_of_an_amount(api: Api) -> None:
    made = api.made(ACCOUNT, {"name": "a", "relatedParty": [PARTY], "creditLimit": {"unit": "KGS", "value": 10.5}})
    changed = api.patch(made["href"], {"creditLimit": {"value": 20.25}}).json()
    assert changed["creditLimit"] == {"unit": "KGS", "value": 20.25}


@pytest.mark.parametrize(
    "kind", ["application/json", "application/merge-patch+json", "application/json; charset=utf-8"]
)
def test_a_patch_comes_in_two_media_types(api: Api, kind: str) -> None:
    made = api.made(CUSTOMER, customer("Media"))
    answer = api.client.patch(made["href"], content=b'{"status":"s"}', headers={"Content-Type": kind})
    assert answer.json()["status"] == "s"


@pytest.mark.parametrize("kind", ["application/json-patch+json", "text/plain", "application/x-www-form-urlencoded"])
def test_other_media_types_are_refused(api: Api, kind: str) -> None:
    made = api.made(CUSTOMER, customer("Media"))
    for answer in (
        api.client.patch(made["href"], content=b"[]", headers={"Content-Type": kind}),
        api.client.post(CUSTOMER, content=b"{}", headers={"Content-Type": kind}),
    ):
        assert code(answer, 415) == "UNSUPPORTED_MEDIA_TYPE"


def test_the_identity_of_a_resource_cannot_be_changed(api: Api) -> None:
    made = api.made(CUSTOMER, customer("Fixed"))
    assert paths(api.patch(made["href"], {"id": "other", "href": "/other"})) == {"id", "href"}
    assert api.patch(made["href"], {"id": made["id"], "href": made["href"], "status": "s"}).json()["status"] == "s"


def test_a_deleted_resource_is_gone(api: Api) -> None:
    made = api.made(CUSTOMER, customer("Gone"))
    answer = api.delete(made["href"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert code(api.get(made["href"]), 404)
    assert code(api.delete(made["href"]), 404)
    assert code(api.patch(made["href"], {"status": "s"}), 404)


def test_a_list_without_matches_is_an_empty_array(api: Api) -> None:
    answer = api.get(CUSTOMER, params={"name": "nobody is called so"})
    assert (answer.status_code, answer.json()) == (200, [])
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("0", "0")


# 2: paging


@pytest.fixture(scope="module")
def five(api: Api) -> str:
    """A bill format's description that exactly five have."""
    for i in range(5):
        api.made(FORMAT, {"name": f"format {i}", "description": "five"})
    return "five"


def test_a_list_counts_matches_and_items(api: Api, five: str) -> None:
    answer = api.get(FORMAT, params={"description": five})
    assert answer.status_code == 200
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("5", "5")
    assert "Link" not in answer.headers
    assert "X-Total-Count-Estimated" not in answer.headers


def test_a_limit_that_leaves_something_out_answers_partial_content_with_links(api: Api, five: str) -> None:
    given = {"description": five, "sort": "-name", "offset": "2", "limit": "2"}
    answer = api.get(FORMAT, params=given)
    assert answer.status_code == 206
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("5", "2")
    assert names(answer) == ["format 2", "format 1"]
    links = {m[2]: m[1] for m in re.finditer(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"])}
    assert {relation: names(api.get(url)) for relation, url in links.items()} == {
        "first": ["format 4", "format 3"],
        "prev": ["format 4", "format 3"],
        "next": ["format 0"],
        "last": ["format 0"],
    }


def test_the_last_page_is_complete(api: Api, five: str) -> None:
    answer = api.get(FORMAT, params={"description": five, "offset": "4", "limit": "2"})
    assert answer.status_code == 200
    assert 'rel="next"' not in answer.headers["Link"]
    assert api.get(FORMAT, params={"description": five, "limit": "5"}).status_code == 200


def test_the_last_page_of_a_list_that_is_shorter_than_the_offset_is_its_first(api: Api, five: str) -> None:
    answer = api.get(FORMAT, params={"description": five, "offset": "7", "limit": "8"})
    links = {m[2]: m[1] for m in re.finditer(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"])}
    assert {relation: len(names(api.get(url))) for relation, url in links.items()} == {"first": 5, "prev": 5, "last": 5}


def test_an_offset_past_the_end_is_an_empty_page(api: Api, five: str) -> None:
    for offset in ("5", "99999999999"):
        answer = api.get(FORMAT, params={"description": five, "offset": offset})
        assert (answer.status_code, answer.json()) == (200, [])
        assert answer.headers["X-Total-Count"] == "5"


def test_a_limit_of_zero_only_counts(api: Api, five: str) -> None:
    answer = api.get(FORMAT, params={"description": five, "limit": "0"})
    assert (answer.status_code, answer.json(), answer.headers["X-Total-Count"]) == (206, [], "5")


@pytest.mark.parametrize("name", ["offset", "limit"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", "٣", "9" * 40])
def test_a_bad_page_is_refused_by_name(api: Api, name: str, value: str) -> None:
    assert paths(api.get(FORMAT, params={name: value})) == {name}


@contextmanager
def copies_of(made: dict[str, Any], count: int, running: Running) -> Iterator[None]:
    """So many more like it, gone again at the end with all of its description."""
    copies = """
        INSERT INTO bill_format
        SELECT (jsonb_populate_record(one, jsonb_build_object('id', gen_random_uuid()::text))).*
        FROM bill_format one, generate_series(1, %s) WHERE one.id = %s
    """
    with psycopg.connect(running.databases["customers"], autocommit=True) as connection:
        connection.execute(copies, (count, made["id"]))
        connection.execute("ANALYZE bill_format")
        try:
            yield
        finally:
            connection.execute("DELETE FROM bill_format WHERE description = %s", (made["description"],))


def test_more_than_a_thousand_come_in_pages_even_unasked(api: Api, office: Api, running: Running) -> None:
    made = api.made(FORMAT, {"name": "many", "description": "a thousand and one"})
    with copies_of(made, 1_000, running):
        answer = office.get(FORMAT, params={"description": "a thousand and one"})
        assert answer.status_code == 206
        assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("1001", "1000")
        following = re.search(r'<([^>]+)>; rel="next"', answer.headers["Link"])
        assert following
        assert len(office.get(following[1]).json()) == 1


def test_a_page_ends_before_its_answer_becomes_too_large(api: Api, running: Running) -> None:
    made = api.made(FORMAT, {"name": "large", "description": "large", "text": "x" * 200_000})
    found: list[str] = []
    following: str | None = f"{FORMAT}?description=large&fields=id"
    with copies_of(made, 99, running):
        while following:
            answer = api.get(following)
            ids = [shown["id"] for shown in answer.json()]
            found += ids
            link = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            following = link[1] if link else None
            assert answer.status_code == (206 if following else 200), answer.text
            assert answer.headers["X-Total-Count"] == "100"
            assert answer.headers["X-Result-Count"] == str(len(ids))
            assert len(ids) < 50
    assert len(found) == len(set(found)) == 100


def test_a_count_above_ten_thousand_is_marked_as_an_estimate(api: Api, running: Running) -> None:
    made = api.made(FORMAT, {"name": "e", "description": "estimated"})
    with copies_of(made, 10_500, running):
        answer = api.get(FORMAT, params={"description": "estimated", "limit": "10", "offset": "10400"})
        assert answer.status_code == 206
        assert answer.headers["X-Total-Count-Estimated"] == "true"
        assert int(answer.headers["X-Total-Count"]) >= 10_410
        assert 'rel="next"' in answer.headers["Link"]
        end = api.get(FORMAT, params={"description": "estimated", "limit": "10", "offset": "10500"})
        assert (end.status_code, len(end.json())) == (200, 1)


# 3: selection, filters, order


def test_fields_select_and_always_keep_the_identity(api: Api) -> None:
    made = api.made(CUSTOMER, customer("Field", status="s", x={"a": 1, "b": 2}, contactMedium=[{"mediumType": "m"}]))
    whole = {"id", "href", "@type"}
    chosen = api.get(made["href"], params={"fields": "name,x.b,engagedParty.@referredType,contactMedium.mediumType"})
    assert chosen.json() == {name: made[name] for name in (*whole, "name")} | {
        "x": {"b": 2},
        "engagedParty": {"@referredType": "Individual"},
        "contactMedium": [{"mediumType": "m"}],
    }
    for params in ({"fields": "none"}, {"fields": "none", "id": made["id"]}):
        answer = api.get(CUSTOMER if "id" in params else made["href"], params=params).json()
        assert (answer[0] if isinstance(answer, list) else answer).keys() == whole
    assert api.client.post(CUSTOMER, params={"fields": "name"}, json=customer("F")).json().keys() == whole | {"name"}


@pytest.fixture(scope="module")
def people(api: Api) -> str:
    """A location where exactly these live."""
    for name, born, medium, since in (
        ("Asel", "1990-05-01T00:00:00Z", "email", "2026-01-01T00:00:00Z"),
        ("Bakyt", "1985-01-01T00:00:00Z", "phone", "2026-01-01T06:00:00.5+06:00"),
        ("Chinara, the elder", "2000-12-31T00:00:00Z", "email", "2026-01-01T00:00:01Z"),
    ):
        api.made(
            INDIVIDUAL,
            {
                "givenName": name,
                "familyName": "F",
                "location": "Karakol",
                "birthDate": born,
                "contactMedium": [
                    {
                        "mediumType": medium,
                        "characteristic": {"city": name[0]},
                        "validFor": {"startDateTime": since},
                    }
                ],
                "partyCharacteristic": [{"name": "vip", "value": name == "Asel"}, {"name": "size", "value": len(name)}],
                "loyalty": {"tier": name[0].lower()},
            },
        )
    return "Karakol"


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("givenName=Asel", "A"),
        ('givenName="Asel"', "A"),
        ("givenName=Asel,Bakyt", "AB"),
        ("givenName=Asel&givenName=Bakyt", "AB"),
        ('givenName="Chinara, the elder",Asel', "AC"),
        ("givenName.eq=Asel", "A"),
        ("givenName.ne=Asel", "BC"),
        ("givenName!=Asel", "BC"),
        ("givenName.regex=^(A|B)", "AB"),
        ("birthDate.gt=1990-05-01T00:00:00Z", "C"),
        ("birthDate.gte=1990-05-01T00:00:00Z", "AC"),
        ("birthDate.lt=1990-05-01T00:00:00Z", "B"),
        ("birthDate.lte=1990-05-01T00:00:00Z", "AB"),
        ("birthDate%3E1990-05-01T00:00:00Z", "C"),
        ("birthDate%3E=1990-05-01T00:00:00Z", "AC"),
        ("birthDate%3C1990-05-01T00:00:00Z", "B"),
        ("birthDate%3C=1990-05-01T00:00:00Z", "AB"),
        ('birthDate="1985-01-01T00:00:00Z"', "B"),
        ("contactMedium.mediumType=email", "AC"),
        ("contactMedium.mediumType=email&givenName=Asel,Bakyt", "A"),
        ("contactMedium.characteristic.city=B", "B"),
        ("loyalty.tier=c", "C"),
        ("@type=Individual&givenName=Asel", "A"),
        ("partyCharacteristic.name=vip&partyCharacteristic.value=true", "A"),
        ("partyCharacteristic.name=size&partyCharacteristic.value=5", "B"),
        ("nothing=1", ""),
    ],
)
def test_filters(api: Api, people: str, condition: str, found: str) -> None:
    answer = api.get(f"{INDIVIDUAL}?location={people}&{condition}")
    assert answer.status_code == 200, answer.text
    assert sorted(item["givenName"][0] for item in answer.json()) == list(found)
    assert answer.headers["X-Total-Count"] == str(len(found))


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("birthDate=1985-01-01T06:00:00%2B06:00", "B"),
        ("birthDate.gt=1990-04-30T19:00:00-05:00", "C"),
        ("birthDate=1985-01-01", "B"),
        ("SINCE=2026-01-01T00:00:00Z", "A"),
        ("SINCE=2026-01-01T06:00:00.500%2B06:00", "B"),
        ("SINCE.ne=2026-01-01", "BC"),
        ("SINCE.lt=2026-01-01T00:00:00Z", ""),
        ("SINCE.lte=2026-01-01T00:00:00Z", "A"),
        ("SINCE.gt=2026-01-01T00:00:00Z", "BC"),
        ("SINCE.gte=2026-01-01T00:00:00Z", "ABC"),
        ("SINCE.lt=2026-01-01T00:00:00.5Z", "A"),
        ("SINCE.lte=2026-01-01T00:00:00.5Z", "AB"),
        ("SINCE.gt=2026-01-01T00:00:00.5Z", "C"),
        ("SINCE.gte=2026-01-01T00:00:00.5Z", "BC"),
        ("SINCE.gt=2026-01-01T00:00:00.4Z&SINCE.lt=2026-01-01T00:00:01Z", "B"),
    ],
)
def test_filters_of_instants(api: Api, people: str, condition: str, found: str) -> None:
    since = "contactMedium.validFor.startDateTime"
    test_filters(api, people, condition.replace("SINCE", since), found)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("name=%00", {"name"}),
        ("x%00y=1", {"x\0y"}),
        ("name.regex=(?P<a>b)", {"name"}),
        ("validFor.startDateTime.gt=0001-01-01T00:00:00%2B14:00", {"validFor.startDateTime"}),
        ("characteristic.value=1e999999999&creditProfile.creditScore.gt=1e999999999", {"creditProfile.creditScore"}),
    ],
)
def test_a_condition_that_nothing_can_meet_is_the_callers_fault(api: Api, condition: str, named: set[str]) -> None:
    assert paths(api.get(f"{CUSTOMER}?{condition}")) == named


def test_an_address_that_no_id_can_have_is_the_callers_fault(api: Api) -> None:
    assert paths(api.get(f"{CUSTOMER}/%00")) == set()


def test_what_we_show_can_be_filtered_by(api: Api, people: str) -> None:
    one = api.get(INDIVIDUAL, params={"location": people, "givenName": "Bakyt"}).json()[0]
    for name in ("id", "href", "birthDate", "@type", "givenName"):
        answer = api.get(INDIVIDUAL, params={"location": people, "givenName": "Bakyt", name: one[name]})
        assert answer.json() == [one], name
    other = api.get(INDIVIDUAL, params={"location": people, "href.ne": one["href"]})
    assert len(other.json()) == 2
    assert api.get(
        INDIVIDUAL, params={"href": f"{api.client.base_url}{one['href']}".replace("//tmf", "/tmf")}
    ).json() == [one]
    assert api.get(INDIVIDUAL, params={"href": "/elsewhere/1"}).json() == []
    assert paths(api.get(INDIVIDUAL, params={"href.gt": one["href"]})) == {"href"}


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("givenName", "ABC"),
        ("-givenName", "CBA"),
        ("birthDate", "BAC"),
        ("location,-birthDate", "CAB"),
        ("+givenName", "ABC"),
    ],
)
def test_sort(api: Api, people: str, sort: str, found: str) -> None:
    answer = api.get(INDIVIDUAL, params={"location": people, "sort": sort})
    assert "".join(item["givenName"][0] for item in answer.json()) == found


# 4: instants and errors


def test_instants_end_in_z(api: Api) -> None:
    made = api.made(CUSTOMER, customer("Zulu", validFor={"startDateTime": "2026-01-31T12:00:00+06:00"}))
    assert made["validFor"]["startDateTime"] == "2026-01-31T06:00:00Z"


def test_every_offending_attribute_is_named(api: Api) -> None:
    body = {"name": 5, "contactMedium": [{"preferred": "yes"}], "validFor": {"endDateTime": "soon"}}
    assert paths(api.post(CUSTOMER, body)) == {
        "name",
        "contactMedium[0].preferred",
        "validFor.endDateTime",
        "engagedParty",
    }
    assert paths(api.post(CUSTOMER, {"engagedParty": {"@type": 5}})) == {
        "name",
        "engagedParty.id",
        "engagedParty.@referredType",
        "engagedParty.@type",
    }
    made = api.made(CUSTOMER, customer("Wrong"))
    assert paths(api.patch(made["href"], {"name": None, "contactMedium": {}})) == {"name", "contactMedium"}


def test_what_a_service_refuses_is_named_as_the_caller_knows_it(api: Api) -> None:
    assert paths(api.get(INDIVIDUAL, params={"birthDate.gt": "yesterday"})) == {"birthDate"}


@pytest.mark.parametrize("body", [b"", b"{", b'{"name":"a",}', b"nonsense", b'{"name":"\xff"}', b"[" * 100_000])
def test_malformed_json_is_refused(api: Api, body: bytes) -> None:
    answer = api.client.post(CUSTOMER, content=body, headers={"Content-Type": "application/json"})
    assert code(answer, 400) == "MALFORMED_JSON"


def test_what_a_body_states_twice_is_refused_by_name(api: Api) -> None:
    twice = b'{"name":"a","engagedParty":{"id":"1","@referredType":"I","id":"2"},"name":"b"}'
    answer = api.client.post(CUSTOMER, content=twice, headers={"Content-Type": "application/json"})
    assert paths(answer) == {"name", "engagedParty.id"}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("name=%ff", "name"),
        ("limit=1&engagedParty.name=a%C3", "engagedParty.name"),
        ("fields=%ff", "fields"),
        ("%ffname=a", "\ufffdname"),
        ("my+name=%80", "my name"),
    ],
)
def test_a_query_that_is_not_utf_8_is_refused_by_name(api: Api, query: str, name: str) -> None:
    assert paths(api.client.get(f"{CUSTOMER}?{query}")) == {name}
    made = api.made(CUSTOMER, customer("Чынгыз %ff + 1"))
    assert paths(api.client.get(f"{made['href']}?{query}")) == {name}
    found = api.get(CUSTOMER, params={"name": made["name"]}).json()
    assert made["id"] in [one["id"] for one in found]


@pytest.mark.parametrize("spelling", ["deceased", "Deceased", "deceaded", "DECEADED", "de ceased"])
def test_a_state_is_found_in_every_spelling_in_which_it_may_be_stated(api: Api, spelling: str) -> None:
    made = api.made(INDIVIDUAL, {"givenName": "Late", "familyName": "Spelt"})
    assert api.patch(made["href"], {"status": spelling}).json()["status"] == "deceaded"
    for condition in ("status", "status.eq", "status.ne"):
        found = api.get(INDIVIDUAL, params={"id": made["id"], condition: spelling}).json()
        assert bool(found) is (condition != "status.ne")
    assert api.get(INDIVIDUAL, params={"id": made["id"], "status": f"initialized,{spelling}"}).json()
    # What it can't be is nothing's.
    assert api.get(INDIVIDUAL, params={"id": made["id"], "status": "immortal"}).json() == []


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"null", b"true"])
def test_a_body_that_is_no_object_is_refused(api: Api, body: bytes) -> None:
    answer = api.client.post(CUSTOMER, content=body, headers={"Content-Type": "application/json"})
    assert code(answer, 400) == "MALFORMED_BODY"


def test_a_body_of_ten_megabytes_is_refused(api: Api) -> None:
    answer = api.post(CUSTOMER, customer("x" * 10_000_000))
    assert code(answer, 413) == "BODY_TOO_LARGE"
    # Up to the limit it is read; how large a resource may be is the service's affair.
    assert code(api.client.post(CUSTOMER, content=b" " * 1_048_576), 400) == "MALFORMED_JSON"
    assert code(api.client.post(CUSTOMER, content=b" " * 1_048_577), 413) == "BODY_TOO_LARGE"

    def chunks() -> Any:
        for _ in range(200):
            yield b" " * 65_536

    streamed = api.client.post(CUSTOMER, content=chunks(), headers={"Content-Type": "application/json"})
    assert code(streamed, 413) == "BODY_TOO_LARGE"


def test_unknown_addresses_and_methods_have_the_same_error_body(api: Api) -> None:
    assert code(api.get("/tmf-api/nothing/v4/here"), 404) == "ROUTE_NOT_FOUND"
    refused = api.client.put(CUSTOMER, json={})
    assert code(refused, 405) == "METHOD_NOT_ALLOWED"
    assert set(refused.headers["Allow"].split(", ")) >= {"GET", "POST"}
    cancellation = "/tmf-api/productOrderingManagement/v4/cancelProductOrder/1"
    assert code(api.patch(cancellation, {}), 405) == code(api.delete(cancellation), 405) == "METHOD_NOT_ALLOWED"


# 5: extensions


def test_unknown_attributes_are_kept_and_returned_at_every_level(api: Api) -> None:
    text = (
        b'{"name":"Ext","number":437011234567890123,"rate":1.10,"@schemaLocation":"https://example.org/s",'
        b'"engagedParty":{"id":"1","@referredType":"I","@type":"PartyRef","note":{"a":[1.50,null]}},'
        b'"characteristic":[{"name":"n","value":437011234567890123,"unit":"x"}],"extensions":"mine","engaged_party":1}'
    )
    answer = api.client.post(CUSTOMER, content=text, headers={"Content-Type": "application/json"})
    again = api.get(answer.headers["Location"])

    def exact(raw: bytes) -> Any:
        return json.loads(raw, parse_float=Decimal, parse_int=Decimal)

    for shown in (exact(answer.content), exact(again.content)):
        assert shown | exact(text) == shown
        assert b"1.10" in again.content
        assert b"1.50" in again.content


def test_strict_handling_refuses_unknown_attributes_by_name(api: Api) -> None:
    body = customer("Strict", x=1, validFor={"y": 1})
    assert paths(api.post(CUSTOMER, body, Prefer="return=representation; handling=strict")) == {"x", "validFor.y"}
    made = api.made(CUSTOMER, body, Prefer="handling=lenient")
    assert paths(api.patch(made["href"], {"z": None}, Prefer="handling=strict")) == {"z"}


# 8: references


def test_a_reference_may_name_what_does_not_exist_yet(api: Api) -> None:
    assert api.made(CUSTOMER, customer("Unverified"))["engagedParty"]["id"] == "500"


# Our own: concurrency, repetition, history, branches, tokens


def test_an_etag_guards_a_change(api: Api) -> None:
    answer = api.post(CUSTOMER, customer("Etag"))
    href, first = answer.headers["Location"], answer.headers["ETag"]
    changed = api.patch(href, {"status": "a"}, If_Match=first)
    assert changed.headers["ETag"] != first
    assert code(api.patch(href, {"status": "b"}, If_Match=first), 412)
    assert code(api.delete(href, If_Match=first), 412)
    assert api.patch(href, {"status": "c"}, If_Match="*").status_code == 200
    current = api.get(href).headers["ETag"]
    assert api.delete(href, If_Match=current).status_code == 204


def test_of_several_etags_one_that_is_it_is_enough(api: Api) -> None:
    answer = api.post(CUSTOMER, customer("Etags"))
    href, etag = answer.headers["Location"], answer.headers["ETag"]
    assert code(api.patch(href, {"status": "a"}, If_Match='"x", "y"'), 412) == "STALE_ETAG"
    # An empty etag is one that nothing has, not any.
    assert code(api.patch(href, {"status": "a"}, If_Match='""'), 412) == "STALE_ETAG"
    assert paths(api.patch(href, {"status": "a"}, If_Match=",")) == {"If-Match"}
    assert paths(api.patch(href, {"status": "a"}, If_Match=f'"x", {etag}', Idempotency_Key="k")) == {"If-Match"}
    assert api.patch(href, {"status": "a"}, If_Match=f'"x", {etag}').status_code == 200


def test_many_who_write_the_same_thing_unconditionally_all_come_through(api: Api) -> None:
    href = api.made(CUSTOMER, customer("Busy"))["href"]
    with ThreadPoolExecutor(12) as callers:
        # Each waits for as long as the gateway lets anybody wait: on a slow machine it is the last one's turn late.
        patient = {"X-Request-Timeout": "60"}
        answers = list(
            callers.map(
                lambda number: api.client.patch(href, json={f"e{number}": number}, headers=patient, timeout=90),
                range(12),
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 12
    after = api.get(href).json()
    assert [after[f"e{number}"] for number in range(12)] == list(range(12))


def test_a_type_that_is_taken_away_is_what_it_is_where_none_is_stated(api: Api) -> None:
    made = api.made(CUSTOMER, {**customer("Typed"), "@type": "Special"})
    patched = api.patch(made["href"], {"@type": None}).json()
    assert patched["@type"] == "Customer"
    assert [found["id"] for found in api.get(CUSTOMER, params={"@type": "Customer", "id": made["id"]}).json()] == [
        made["id"]
    ]


def test_the_past_of_a_list_is_not_taken_for_its_present(api: Api) -> None:
    assert paths(api.get(CUSTOMER, params={"at": "2000-01-01T00:00:00Z"})) == {"at"}


def test_an_id_that_nothing_can_have_is_refused_in_our_own_words(api: Api) -> None:
    error = api.get(f"{CUSTOMER}/%00").json()
    assert error["reason"] == "a text has a NUL in it, which can't be kept"
    missing = api.get(f"{CUSTOMER}/nobody").json()
    assert (missing["code"], missing["reason"]) == ("NOT_FOUND", "there is no Customer 'nobody'")


def test_what_the_caller_has_already_is_not_sent_again(api: Api) -> None:
    answer = api.post(CUSTOMER, customer("Cached"))
    href, etag = answer.headers["Location"], answer.headers["ETag"]
    again = api.get(href, headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    api.patch(href, {"status": "new"})
    assert api.get(href, headers={"If-None-Match": etag}).json()["status"] == "new"


def test_the_same_key_and_body_again_give_the_same_answer(api: Api) -> None:
    body = customer("Once")
    first, second = (api.post(CUSTOMER, body, Idempotency_Key="key-1") for _ in range(2))
    assert first.json() == second.json()
    assert second.status_code == 201
    assert code(api.post(CUSTOMER, customer("Other"), Idempotency_Key="key-1"), 422) == "IDEMPOTENCY_KEY_REUSED"
    assert paths(api.post(CUSTOMER, body, Idempotency_Key="k" * 256)) == {"Idempotency-Key"}


def test_the_past_of_a_resource_is_readable(api: Api) -> None:
    made = api.made(CUSTOMER, customer("Past"))
    api.patch(made["href"], {"name": "Present"})
    now = api.get(made["href"], params={"at": "2999-01-01T00:00:00Z"})
    assert now.json()["name"] == "Present"
    assert code(api.get(made["href"], params={"at": "2000-01-01T00:00:00Z"}), 404)
    assert paths(api.get(made["href"], params={"at": "then"})) == {"at"}


def test_another_branch_sees_nothing(api: Api, osh: Api, office: Api) -> None:
    made = api.made(CUSTOMER, customer("Canary"))
    assert code(osh.get(made["href"]), 404)
    assert code(osh.patch(made["href"], {"status": "s"}), 404)
    assert code(osh.delete(made["href"]), 404)
    assert osh.get(CUSTOMER, params={"id": made["id"]}).json() == []
    assert office.get(made["href"]).json() == made


def test_somebody_of_every_branch_says_which(office: Api) -> None:
    assert office.post(CUSTOMER, customer("Nowhere")).status_code == 400
    made = office.made(CUSTOMER, customer("Somewhere"), X_Branch="osh")
    assert made["branch"] == "osh"


def test_somebody_of_one_branch_cannot_name_another(osh: Api) -> None:
    assert osh.post(CUSTOMER, customer("Elsewhere"), X_Branch="bishkek").status_code in (400, 403, 404)


def test_a_resource_can_be_found_with_a_slash_behind_it(api: Api) -> None:
    assert api.get(FORMAT + "/", params={"limit": "1"}).status_code in (200, 206)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e9"])
def test_a_bad_time_limit_is_refused(api: Api, value: str) -> None:
    assert paths(api.get(CUSTOMER, headers={"X-Request-Timeout": value})) == {"X-Request-Timeout"}


def test_a_caller_without_time_is_told_so(api: Api) -> None:
    answer = api.get(CUSTOMER, headers={"X-Request-Timeout": "0.00001"})
    assert code(answer, 504) == "DEADLINE_EXCEEDED"
