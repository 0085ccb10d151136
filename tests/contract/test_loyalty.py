"""TMF658: programmes, members, accounts and balances over REST, by TM Forum's file and by each rule of our dialect."""

from typing import Any

from tests.contract.specs import PATHS, Spec, same
from tests.running import Api

PROGRAM, MEMBER = PATHS["loyaltyProgramProductSpec"], PATHS["loyaltyProgramMember"]
ACCOUNT, BALANCE = PATHS["loyaltyAccount"], PATHS["loyaltyBalance"]
LEAST = {"name": "Club", "productNumber": "C-1"}


def enrolled(api: Api, **more: Any) -> dict[str, Any]:
    """A member of a new programme."""
    program = api.made(PROGRAM, LEAST)
    return api.made(MEMBER, {"name": "Aigul", "loyaltyProgramProductSpec": {"id": program["id"]}, **more})


def refused(answer: Any, status: int, code: str) -> list[str]:
    """The attributes that a refusal names."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return [detail["path"] for detail in answer.json().get("details", [])]


def test_a_programme_needs_a_name_and_a_number(api: Api) -> None:
    assert refused(api.post(PROGRAM, {"name": "Club"}), 400, "BAD_ATTRIBUTE") == ["productNumber"]
    assert refused(api.post(PROGRAM, {"productNumber": "1"}), 400, "BAD_ATTRIBUTE") == ["name"]


def test_a_patch_merges_and_unknown_attributes_stay(api: Api) -> None:
    made = api.made(
        PROGRAM,
        LEAST
        | {
            "brand": "Svyaz",
            "description": "for all",
            "validFor": {"startDateTime": "2026-01-01T00:00:00Z", "endDateTime": "2126-01-01T00:00:00Z"},
            "partner": {"name": "Bank", "rate": 2},
        },
    )
    patch = {"description": None, "validFor": {"endDateTime": None}, "partner": {"rate": None}}
    shown = api.patch(made["href"], patch).json()
    expected = made | {"validFor": {"startDateTime": "2026-01-01T00:00:00Z"}, "partner": {"name": "Bank"}}
    del expected["description"]
    assert shown == expected == api.get(made["href"]).json()
    reversed_period = {"startDateTime": "2026-01-02T00:00:00Z", "endDateTime": "2026-01-01T00:00:00Z"}
    assert refused(api.patch(made["href"], {"validFor": reversed_period}), 400, "CONTRADICTION") == ["validFor"]


def test_lists_are_counted_paged_sorted_and_filtered(api: Api) -> None:
    for word in ("c", "a", "b"):
        api.made(
            PROGRAM, {"name": f"page {word}", "productNumber": word, "brand": "Paged", "needsLoyaltyAccount": True}
        )
    paged = {"brand": "Paged", "sort": "-name"}
    answer = api.get(PROGRAM, params=paged | {"limit": "2"})
    assert answer.status_code == 206
    assert (answer.headers["X-Total-Count"], answer.headers["X-Result-Count"]) == ("3", "2")
    assert [one["name"] for one in answer.json()] == ["page c", "page b"]
    for stated, found in (
        ({"name": '"page a"'}, 1),
        ({"productNumber": "a,b"}, 2),
        ({"name.regex": "page [ab]"}, 2),
        ({"needsLoyaltyAccount": "true", "productNumber.ne": "a"}, 2),
        ({"needsLoyaltyAccount": "false"}, 0),
    ):
        assert len(api.get(PROGRAM, params=paged | stated).json()) == found, stated


def test_a_member_of_a_programme_has_an_account_and_a_balance_that_refer_to_it(
    api: Api, specs: dict[str, Spec]
) -> None:
    party = {"id": "500", "@referredType": "Individual"}
    customer = api.made(PATHS["customer"], {"name": "Aigul", "engagedParty": party})
    member = enrolled(api, customer={"id": customer["id"]}, status="active")
    specs["loyalty"].check("LoyaltyProgramMember", member)
    account = api.get(member["loyaltyAccount"]["href"]).json()
    balance = api.get(member["loyaltyBalance"]["href"]).json()
    specs["loyalty"].check("LoyaltyAccount", account)
    specs["loyalty"].check("LoyaltyBalance", balance)
    assert account["loyaltyProgramMember"]["href"] == balance["loyaltyProgramMember"]["href"] == member["href"]
    assert balance["quantity"] == {"unit": "points", "value": 0}
    assert (balance["pending"], balance["reserved"], balance["owed"]) == (0, 0, 0)
    for path, document in ((ACCOUNT, account), (BALANCE, balance)):
        assert api.get(path, params={"loyaltyProgramMember.id": member["id"]}).json() == [document]
    found = api.get(MEMBER, params={"customer.id": customer["id"]}).json()
    assert [one["id"] for one in found] == [member["id"]]
    again = {"customer": {"id": customer["id"]}, "loyaltyProgramProductSpec": member["loyaltyProgramProductSpec"]}
    assert api.post(MEMBER, again).json()["code"] == "ALREADY_ENROLLED"
    assert api.delete(member["loyaltyProgramProductSpec"]["href"]).json()["code"] == "REFERENCED"
    assert api.delete(PATHS["customer"] + "/" + customer["id"]).json()["code"] == "REFERENCED"


def test_a_balance_is_what_the_ledger_comes_to_and_nobody_sets_it(api: Api) -> None:
    member = enrolled(api)
    balance, five = member["loyaltyBalance"]["href"], {"quantity": {"unit": "points", "value": 5}}
    assert refused(api.patch(balance, five), 400, "IMMUTABLE") == ["quantity"]
    refused(api.delete(balance), 409, "REFERENCED")
    own = {"loyaltyProgramMember": {"id": member["id"], "href": member["href"]}}
    refused(api.post(BALANCE, own | five), 409, "HAS_BALANCE")
    assert api.get(balance).json()["quantity"]["value"] == 0
    account = member["loyaltyAccount"]["href"]
    for answer in (api.post(ACCOUNT, {}), api.patch(account, {}), api.delete(account)):
        assert answer.status_code == 405


def test_a_balance_is_opened_for_whom_it_is_and_closed(api: Api, specs: dict[str, Spec]) -> None:
    known = api.made(MEMBER, {"name": "Aigul"})
    unknown = {"id": "42", "href": "https://example.org/tmf-api/loyalty/v4/loyaltyProgramMember/42"}
    for whose in (
        {},
        {"loyaltyProgramMember": unknown},
        {"loyaltyProgramMember": {key: known[key] for key in unknown}},
    ):
        sent = {"quantity": {"unit": "miles", "value": 120}, "validFor": {"startDateTime": "2020-01-01T00:00:00Z"}}
        made = api.made(BALANCE, sent | whose)
        assert not list(same(sent | whose, made))
        specs["loyalty"].check("LoyaltyBalance", made)
        assert api.get(made["href"]).json() == made
        period = {"validFor": {"startDateTime": "2021-01-01T00:00:00Z", "endDateTime": "2121-01-01T00:00:00Z"}}
        assert not list(same(sent | whose | period, api.patch(made["href"], period).json()))
        assert api.delete(made["href"]).status_code == 204
        assert api.get(made["href"]).status_code == 404
    assert refused(api.post(BALANCE, {"quantity": {"value": -1}}), 400, "NEGATIVE") == ["quantity.value"]


def test_what_is_ours_to_say_of_a_member_cant_be_said_by_others(api: Api) -> None:
    member = enrolled(api)
    claimed = {"tier": "platinum", "loyaltyBalance": {"id": "mine"}, "enrolledAt": "1999-01-01T00:00:00Z"}
    shown = api.patch(member["href"], claimed).json()
    assert {name: shown.get(name) for name in claimed} == {name: member.get(name) for name in claimed}


def test_an_unknown_programme_or_customer_is_named(api: Api) -> None:
    answer = api.post(MEMBER, {"loyaltyProgramProductSpec": {"id": "nothing"}})
    assert refused(answer, 400, "UNKNOWN_PROGRAM") == ["loyaltyProgramProductSpec.id"]
    answer = api.post(MEMBER, {"customer": {"id": "nobody"}})
    assert refused(answer, 400, "UNKNOWN_CUSTOMER") == ["customer.id"]


def test_known_attributes_are_checked(api: Api) -> None:
    answer = api.post(MEMBER, {"name": 5, "ValidFor": {"endDateTime": "soon"}})
    assert sorted(refused(answer, 400, "BAD_ATTRIBUTE")) == ["ValidFor.endDateTime", "name"]
    strict = api.client.post(PROGRAM, json=LEAST | {"x": 1}, headers={"Prefer": "handling=strict"})
    assert refused(strict, 400, "BAD_ATTRIBUTE") == ["x"]
