"""Who is who over REST: verbs beside TM Forum's resources."""

from typing import Any

from tests.contract.specs import PATHS
from tests.contract.test_refusals import refused
from tests.running import Api

INDIVIDUAL = PATHS["individual"]


def post(api: Api, verb: str, **body: Any) -> Any:
    return api.post(f"/matching/v1/{verb}", body)


def test_somebody_is_found_and_noticed_before_he_is_entered_again(api: Api) -> None:
    person = {"givenName": "Zhanybek", "familyName": "Toktogulov", "birthDate": "1971-02-03T00:00:00Z"}
    made = api.made(INDIVIDUAL, person)["id"]
    (match,) = post(api, "searchParties", query="Жаныбек Токтогулов").json()["match"]
    assert (match["partyId"], match["name"], match["score"]) == (made, "Zhanybek Toktogulov", 1)
    assert {reason["code"] for reason in match["reason"]} == {"SPELLING"}
    found = post(api, "findDuplicates", individual={**person, "givenName": "Жаныбек"}).json()["match"]
    assert found[0]["individualId"] == made
    assert found[0]["score"] > 0.5
    assert {reason["field"] for reason in found[0]["reason"]} == {"given_name", "family_name", "birth_date"}
    refused(post(api, "searchParties", query=" "), 400, "REQUIRED")
    assert post(api, "listDuplicateCandidates", limit=1).status_code == 200
