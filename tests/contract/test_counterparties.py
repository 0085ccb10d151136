"""TMF669, TMF651 and TMF667: what a branch would send, by the specifications and by the rules of our dialect."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import pytest

from svyaz_cli.issuer import Issuer
from tests.contract.specs import PATHS, Spec, same
from tests.gateway.hubs import Receiver, eventually
from tests.running import Api, Running
from tests.serving import Caller

ROLE, AGREEMENT, PATTERN, DOCUMENT = (
    PATHS[name] for name in ("partyRole", "agreement", "agreementSpecification", "document")
)
OURS = ("partyRole", "agreement", "agreementSpecification", "document", "documentSpecification")
SERVICE, PIECE = "svyaz.customers.v1.DocumentService/", 2 * 1024 * 1024
SCAN = b"%PDF-1.4 \x00 a passport"
# What the specifications show of each resource, in the words of their chapters.
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "partyRole": {
        "name": "Supplier",
        "@type": "Supplier",
        "roleType": {"name": "wholesale", "rank": 2},
        "status": "Approved",
        "statusReason": "Account details checked",
        "validFor": {"startDateTime": "2018-06-12T00:00:00Z", "endDateTime": "2119-01-01T00:00:00Z"},
        "engagedParty": {"id": "1", "href": "/organization/1", "name": "John Doe", "@referredType": "Organization"},
        "account": [{"id": "1", "name": "account 1", "description": "main", "@referredType": "PartyAccount"}],
        "paymentMethod": [{"id": "1", "name": "my favourite card", "@referredType": "BankCard"}],
        "contactMedium": [
            {
                "mediumType": "postalAddress",
                "preferred": True,
                "characteristic": {"city": "Paris", "country": "France", "street1": "15 Rue Royale"},
                "validFor": {"startDateTime": "2018-06-13T00:00:00Z"},
            }
        ],
        "characteristic": [{"name": "rating", "value": {"stars": 4.5}}],
        "creditProfile": [
            {
                "creditProfileDate": "2018-06-14T00:00:00Z",
                "creditRiskRating": 1,
                "creditScore": 12,
                "validFor": {"startDateTime": "2018-06-15T00:00:00Z"},
            }
        ],
        "agreement": [{"id": "1", "name": "frame", "@referredType": "Agreement"}],
        "relatedParty": [{"id": "2", "name": "Jean Pontus", "role": "contact", "@referredType": "Individual"}],
    },
    "agreement": {
        "name": "Summer Contract Agreement",
        "agreementType": "Commercial",
        "description": "This agreement was signed by both parties",
        "documentNumber": 12345,
        "initialDate": "2017-04-01T00:00:00Z",
        "statementOfIntent": "Agreement on the network mutualization",
        "status": "Approved",
        "version": "0.1",
        "agreementPeriod": {"startDateTime": "2017-04-01T00:00:00Z", "endDateTime": "2017-07-25T00:00:00Z"},
        "completionDate": {"startDateTime": "2017-07-25T00:00:00Z"},
        "agreementSpecification": {"id": "7", "name": "template", "description": "General customer template"},
        "agreementAuthorization": [
            {"date": "2017-04-01T00:00:00Z", "signatureRepresentation": "Digital Signature", "state": "approved"}
        ],
        "agreementItem": [
            {
                "product": [{"id": "p-1", "name": "line"}],
                "productOffering": [{"id": "o-1", "name": "TV Essentials"}],
                "termOrCondition": [{"id": "1", "description": "The agreement is signed for two years"}],
            }
        ],
        "engagedParty": [{"id": "c-1", "name": "John Doe", "role": "client", "@referredType": "Customer"}],
        "associatedAgreement": [{"id": "99", "name": "frame"}],
        "characteristic": [{"name": "isAutoRenewal", "value": "true"}],
    },
    "agreementSpecification": {
        "name": "General Terms and Conditions",
        "description": "Of all commercial agreements",
        "isBundle": False,
        "lifecycleStatus": "Active",
        "version": "2.1",
        "attachment": [{"id": "22", "name": "template", "mimeType": "text/plain", "content": "I agree", "url": "x:/y"}],
        "serviceCategory": {"id": "8", "name": "connectivity"},
        "specificationCharacteristic": [
            {
                "name": "period",
                "valueType": "number",
                "configurable": True,
                "specCharacteristicValue": [{"default": True, "value": 24, "unitOfMeasure": "month"}],
            }
        ],
        "specificationRelationship": [{"id": "5", "relationshipType": "substitution"}],
        "relatedParty": [{"id": "1", "name": "legal department", "@referredType": "Organization"}],
        "expiryNoticeDays": [120, 14],
    },
    "document": {
        "name": "Passport",
        "description": "A scan of both pages",
        "documentType": "identification",
        "version": "1",
        "status": "reviewed",
        "creationDate": "2020-01-02T03:04:05Z",
        "attachment": [{"name": "scan.pdf", "content": base64.b64encode(SCAN).decode()}],
        "category": [{"id": "1", "name": "personal"}],
        "characteristic": [{"name": "pages", "value": 2, "valueType": "number"}],
        "relatedParty": [{"id": "1", "role": "holder", "@referredType": "Individual"}],
        "relatedEntity": [{"id": "1", "role": "proof", "@referredType": "Agreement"}],
        "externalIdentifier": [{"id": "AN1234567", "owner": "GRS", "externalIdentifierType": "passport"}],
        "document": [{"id": "2", "name": "translation"}],
        "documentSpecification": {"id": "3", "name": "identification", "lifecycleStatus": "published"},
    },
    "documentSpecification": {
        "name": "identification",
        "lifecycleStatus": "created",
        "specCharacteristic": [{"name": "number", "valueType": "string", "minCardinality": 1}],
        "targetEntitySchema": {"@type": "Passport", "@schemaLocation": "https://example.org/passport.json"},
    },
}


@pytest.fixture(scope="module")
def admin(caller: Callable[..., Api]) -> Api:
    """Who may register callbacks."""
    return caller(["admin"], ["bishkek"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def api_of(name: str) -> str:
    return PATHS[name].split("/")[2]


@pytest.mark.parametrize("name", OURS)
def test_what_a_branch_sends_comes_back_and_is_found(api: Api, specs: dict[str, Spec], name: str) -> None:
    sent = EXAMPLES[name]
    answer = api.post(PATHS[name], sent)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == made["href"] == f"{PATHS[name]}/{made['id']}"
    for shown in (made, api.get(made["href"]).json(), api.get(PATHS[name], params={"id": made["id"]}).json()[0]):
        assert not list(same(sent, shown))
        specs[api_of(name)].check(entity_name(name), shown)
    assert api.made(PATHS[name], sent)["id"] != made["id"]


def entity_name(name: str) -> str:
    return name[0].upper() + name[1:]


def refused(answer: Any, status: int, code: str) -> list[str]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return [detail["path"] for detail in answer.json().get("details", [])]


def test_only_the_steps_of_the_tables_happen(api: Api) -> None:
    least = {"agreementType": "a", "agreementItem": [{}], "engagedParty": EXAMPLES["agreement"]["engagedParty"]}
    agreement = api.made(AGREEMENT, {"name": "steps", **least})
    assert agreement["status"] == "initialized"
    answer = api.patch(agreement["href"], {"status": "Expired"})
    assert refused(answer, 409, "BAD_TRANSITION") == ["status"]
    assert "initialized" in answer.json()["reason"]
    assert api.patch(agreement["href"], {"status": "In process"}).json()["status"] == "In process"
    assert api.patch(agreement["href"], {"status": "terminated"}).status_code == 200
    assert refused(api.patch(agreement["href"], {"status": "approved"}), 409, "BAD_TRANSITION") == ["status"]
    document = api.made(DOCUMENT, {"name": "steps"})
    assert api.patch(document["href"], {"status": "published"}).status_code == 200
    assert refused(api.patch(document["href"], {"status": "created"}), 409, "BAD_TRANSITION") == ["status"]
    assert refused(api.patch(document["href"], {"status": "shredded"}), 400, "BAD_ATTRIBUTE") == ["status"]
    role = api.made(ROLE, {"name": "agent", "status": "terminated"})
    assert refused(api.patch(role["href"], {"status": "active"}), 409, "BAD_TRANSITION") == ["status"]
    reversed_one = {"validFor": {"startDateTime": "2020-01-02T00:00:00Z", "endDateTime": "2020-01-01T00:00:00Z"}}
    assert refused(api.post(ROLE, {"name": "x", **reversed_one}), 400, "PERIOD_REVERSED") == ["validFor"]
    completion = {"completionDate": {"startDateTime": "2020-01-02T00:00:00Z"}}
    assert refused(api.patch(agreement["href"], completion), 400, "IMMUTABLE") == ["completionDate"]
    pattern = {**EXAMPLES["agreementSpecification"], "expiryNoticeDays": [30, 0]}
    assert refused(api.post(PATTERN, pattern), 400, "NOTICE_INVALID") == ["expiryNoticeDays[1]"]


def test_counterparties_are_asked_for_by_their_kind(api: Api) -> None:
    company = api.made(PATHS["organization"], {"tradingName": "Megacom"})
    party = {"id": company["id"], "@referredType": "Organization"}
    made = [api.made(ROLE, {"name": kind, "engagedParty": party}) for kind in ("Partner", "Competitor")]
    for asked in ({"kind": "partner"}, {"name": "Partner"}, {"kind": "partner,agent"}, {"sort": "-kind", "limit": "1"}):
        found = api.get(ROLE, params={"engagedParty.id": company["id"], **asked}).json()
        assert [one["id"] for one in found] == [made[0]["id"]], asked
    refused(api.delete(company["href"]), 409, "REFERENCED")


def test_a_content_is_handed_out_as_it_came_in_and_never_as_a_page_of_ours(api: Api) -> None:
    page = b"<script>alert(1)</script>"
    attachments = [
        {"id": "a b", "name": "скан.pdf", "content": base64.b64encode(SCAN).decode()},
        {"name": "page", "mimeType": "text/html", "content": base64.b64encode(page).decode()},
    ]
    made = api.made(DOCUMENT, {"name": "two", "attachment": attachments})
    first, second = made["attachment"]
    assert first["contentHash"] == hashlib.sha256(SCAN).hexdigest()
    assert (first["size"], first["mimeType"]) == ({"amount": len(SCAN), "units": "bytes"}, "application/pdf")
    answer = api.get(first["url"])
    assert (answer.status_code, answer.content) == (200, SCAN)
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''%D1%81")
    answer = api.get(second["url"])
    assert answer.content == page
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    # Kept by its hash alone.
    kept = api.patch(made["href"], {"attachment": [{"contentHash": first["contentHash"], "name": "again"}]})
    assert kept.json()["attachment"][0]["content"] == first["content"]
    assert api.get(second["url"]).status_code == 404
    assert api.get(f"/document/v1/document/{made['id']}/attachment/9").status_code == 404
    assert api.client.get(first["url"], headers={"Authorization": ""}).status_code == 401
    path = "attachment[0].content"
    assert refused(api.post(DOCUMENT, {"name": "x", "attachment": [{"content": "?"}]}), 400, "BAD_CONTENT") == [path]


def test_a_large_content_comes_in_and_goes_out_piece_by_piece(api: Api, running: Running, issuer: Issuer) -> None:
    # No two blocks are the same.
    data = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(150_000))
    token = issuer.token(["agent"], ["bishkek"])
    with grpc.insecure_channel(running.address("customers")) as channel:
        agent = Caller(channel, token)
        for offset in range(0, len(data), PIECE):
            piece = data[offset : offset + PIECE]
            agent(f"{SERVICE}UploadContent", upload_id="large", offset=offset, data=piece)
        kept = agent(f"{SERVICE}FinishUpload", upload_id="large", size=len(data)).content_hash
    made = api.made(DOCUMENT, {"name": "large", "attachment": [{"contentHash": kept}]})
    (attachment,) = made["attachment"]
    # More than an answer holds.
    assert "content" not in attachment
    assert api.get(attachment["url"]).content == data


def test_hierarchies_and_households_are_asked_for_over_rest(api: Api) -> None:
    holding = api.made(PATHS["organization"], {"tradingName": "holding"})
    parent = {"relationshipType": "branch", "organization": {"id": holding["id"]}}
    company = api.made(PATHS["organization"], {"tradingName": "company", "organizationParentRelationship": parent})
    found = api.post("/party/v1/getOrganizationHierarchy", {"id": company["id"]}).json()
    assert [(node["id"], node["level"]) for node in found["ancestor"]] == [(holding["id"], 1)]
    above = {"organizationParentRelationship": {"organization": {"id": company["id"]}}}
    path = "organizationParentRelationship.organization.id"
    assert refused(api.patch(holding["href"], above), 400, "HIERARCHY_CYCLE") == [path]
    person = api.made(PATHS["individual"], {"givenName": "Aida", "familyName": "Usenova"})
    member = {"id": person["id"], "role": "head", "@referredType": "Individual"}
    home = api.made(
        PATHS["organization"],
        {"tradingName": "Usenovs", "organizationType": "household", "relatedParty": [member]},
    )
    members = api.post("/party/v1/listHouseholdMembers", {"householdId": home["id"]}).json()["member"]
    assert members == [{"id": person["id"], "role": "head", "givenName": "Aida", "familyName": "Usenova"}]
    households = api.post("/party/v1/listHouseholds", {"individualId": person["id"]}).json()["household"]
    assert [one["id"] for one in households] == [home["id"]]


def test_hubs_are_told_with_the_whole_resource_and_of_an_end_to_come(
    api: Api, admin: Api, specs: dict[str, Spec], receiver: Receiver
) -> None:
    for name in ("partyRole", "agreement", "document"):
        admin.made(f"/tmf-api/{api_of(name)}/v4/hub", {"callback": receiver.url})
    role = api.made(ROLE, {"name": "dealer"})
    api.patch(role["href"], {"status": "active"})
    api.delete(role["href"])
    document = api.made(DOCUMENT, {"name": "told", "attachment": EXAMPLES["document"]["attachment"]})
    api.patch(document["href"], {"description": "changed"})
    ahead = {"agreementPeriod": {"endDateTime": "2126-01-01T00:00:00Z"}}
    soon = api.made(PATTERN, {**EXAMPLES["agreementSpecification"], "expiryNoticeDays": [3650]})
    least = {"agreementType": "a", "agreementItem": [{}], "engagedParty": EXAMPLES["agreement"]["engagedParty"]}
    body = {"name": "told", "status": "approved", "agreementSpecification": {"id": soon["id"]}, **least}
    quiet = api.made(AGREEMENT, {**body, **ahead})
    ends = {"agreementPeriod": {"endDateTime": "2036-01-01T00:00:00Z"}}
    agreement = api.made(AGREEMENT, {**body, **ends})

    def told(resource: Mapping[str, Any]) -> list[Any]:
        return [request for request in receiver.accepted if request.resource["id"] == resource["id"]]

    eventually(lambda: len(told(role)) >= 3 and len(told(document)) >= 2 and len(told(agreement)) >= 2)

    def types(resource: Mapping[str, Any]) -> list[str]:
        return [request.event["eventType"] for request in told(resource)]

    assert types(role) == ["PartyRoleCreateEvent", "PartyRoleStateChangeEvent", "PartyRoleDeleteEvent"]
    assert types(document) == ["DocumentCreateEvent", "DocumentChangeEvent"]
    assert types(agreement) == ["AgreementCreateEvent", "AgreementExpiryAheadEvent"]
    assert types(quiet) == ["AgreementCreateEvent"]
    assert told(agreement)[1].resource["expiryNoticeGiven"] == 3650
    # What is in a document isn't everybody's to be told.
    assert "content" not in told(document)[0].resource["attachment"][0]
    for request in (*told(role), *told(document), told(agreement)[0]):
        api_name = request.event["domain"]
        specs[api_name].check(request.event["eventType"], request.event)
