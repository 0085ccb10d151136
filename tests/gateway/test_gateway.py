"""What the gateway is besides its resources: who may come in, what it says of itself, and how it fails."""

import base64
import hmac
import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jsonschema import Draft202012Validator

from gateway.resources import CREATE, RESOURCES
from svyaz_cli.issuer import ALGORITHM, AUDIENCE, KEY_ID, NAME, Issuer
from tests.running import Api, Running

CUSTOMER = "/tmf-api/customerManagement/v4/customer"
CATALOG = "/tmf-api/productCatalogManagement/v4/catalog"
FORMAT = "/tmf-api/accountManagement/v4/billFormat"


def refused(answer: httpx.Response, status: int) -> str:
    """The code of a refusal in TM Forum's error body."""
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert error["status"] == str(status)
    assert error["@type"] == "Error"
    return str(error["code"])


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    known = {"iss": NAME, "aud": AUDIENCE, "sub": "x", "iat": now, "exp": now + 60}
    return known | {"roles": ["admin"], "branches": ["*"]} | more


def signed(key: Any, **more: Any) -> str:
    stated = {name: value for name, value in claims(**more).items() if value is not None}
    return jwt.encode(stated, key, algorithm=ALGORITHM, headers={"kid": KEY_ID})


def by_hand(algorithm: str, secret: bytes = b"") -> str:
    """A token as no careful library would make it: not signed, or signed with what everybody knows."""
    parts = ({"alg": algorithm, "typ": "JWT", "kid": KEY_ID}, claims())
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = hmac.digest(secret, text, "sha256") if secret else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def own_key(issuer: Issuer) -> bytes:
    return issuer.key_file.read_bytes()


def another_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


BAD_TOKENS: dict[str, Callable[[Issuer], str]] = {
    "absent": lambda issuer: "",
    "nonsense": lambda issuer: "abc",
    "expired": lambda issuer: signed(own_key(issuer), exp=int(time.time()) - 60),
    "without an end": lambda issuer: signed(own_key(issuer), exp=None),
    "forged": lambda issuer: signed(another_key()),
    "tampered": lambda issuer: signed(own_key(issuer))[:-8] + "AAAAAAAA",
    "algorithm none": lambda issuer: by_hand("none"),
    "signed with the public keys as a secret": lambda issuer: by_hand("HS256", issuer.keys_file.read_bytes()),
    "of another issuer": lambda issuer: signed(own_key(issuer), iss="https://elsewhere.example"),
    "for another audience": lambda issuer: signed(own_key(issuer), aud="others"),
    "with branches that are no list": lambda issuer: signed(own_key(issuer), branches="*"),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_token_that_is_not_good_opens_nothing(running: Running, issuer: Issuer, kind: str) -> None:
    token = BAD_TOKENS[kind](issuer)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for path in (CUSTOMER, f"{CUSTOMER}/1"):
        answer = httpx.get(running.url + path, headers=headers)
        assert refused(answer, 401).startswith("TOKEN_")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert refused(httpx.post(running.url + "/pricing/v1/price", json={}, headers=headers), 401).startswith("TOKEN_")


def test_a_role_that_may_not_is_refused(caller: Callable[..., Api]) -> None:
    nobody = caller(["sre"], ["bishkek"])
    assert refused(nobody.get(CUSTOMER), 403) == "ROLE_REQUIRED"
    reader = caller(["billing"], ["bishkek"])
    assert reader.get(CUSTOMER, params={"limit": "1"}).status_code in (200, 206)
    body = {"name": "x", "engagedParty": {"id": "1", "@referredType": "Individual"}}
    assert refused(reader.post(CUSTOMER, body), 403) == "ROLE_REQUIRED"


def test_probes_need_no_token(running: Running) -> None:
    assert httpx.get(f"{running.url}/healthz").json() == {"status": "alive"}
    ready = httpx.get(f"{running.url}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["services"]) == {"catalog", "customers", "orders"}


@pytest.fixture(scope="module")
def described(running: Running) -> dict[str, Any]:
    answer = httpx.get(f"{running.url}/openapi.json")
    assert answer.status_code == 200
    description: dict[str, Any] = answer.json()
    return description


def test_the_description_names_every_resource_and_refers_only_to_what_it_has(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    for resource in RESOURCES:
        path = resource.path("v4")
        wanted = {"get", "post"} if CREATE in resource.allowed else {"get"}
        assert wanted <= described["paths"][path].keys()
        has_patch = "patch" in described["paths"][path + "/{id}"]
        assert has_patch == ("Update" in resource.allowed)
    assert described["paths"]["/document/v1/document/{id}/attachment/{attachment}"]["get"]
    text = json.dumps(described)
    assert {f"#/components/schemas/{name}" for name in described["components"]["schemas"]} >= set(
        re.findall(r'"\$ref": "([^"]+)"', text)
    )
    ids = re.findall(r'"operationId": "([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (FORMAT, {"name": "f", "x": {"y": 1}}),
        (
            CUSTOMER,
            {"name": "c", "engagedParty": {"id": "1", "@referredType": "I"}, "validFor": {"endDateTime": "2030-01-01"}},
        ),
        (
            "/tmf-api/productCatalogManagement/v4/productOfferingPrice",
            {"name": "p", "price": {"unit": "KGS", "value": 1.5}},
        ),
        ("/tmf-api/party/v4/organization", {"tradingName": "t", "isLegalEntity": True}),
    ],
)
def test_what_is_answered_is_as_described(api: Api, described: dict[str, Any], path: str, body: Any) -> None:
    def validator(schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator({**schema, "components": described["components"]})

    operations = described["paths"][path]
    validator(operations["post"]["requestBody"]["content"]["application/json"]["schema"]).validate(body)
    made = api.made(path, body)
    validator(operations["post"]["responses"]["201"]["content"]["application/json"]["schema"]).validate(made)
    listed = api.get(path, params={"id": made["id"]}).json()
    validator(operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]).validate(listed)
    error = api.post(path, {}).json()
    validator(operations["post"]["responses"]["default"]["content"]["application/json"]["schema"]).validate(error)


def test_metrics_count_by_route_and_name_no_resource(api: Api, running: Running) -> None:
    made = api.made(FORMAT, {"name": "counted"})
    api.get(made["href"])
    api.get("/somewhere/else/entirely")
    text = httpx.get(f"http://127.0.0.1:{running.metrics_ports['gateway']}/metrics").text
    assert re.search(rf'svyaz_http_requests_total\{{method="GET",route="{FORMAT}/<id>",status="200"\}} \d', text)
    assert 'route="unmatched",status="404"' in text
    assert "svyaz_http_duration_seconds_bucket" in text
    assert made["id"] not in text
    assert "elsewhere" not in text
    assert "entirely" not in text


def test_a_log_line_has_the_trace_and_nothing_personal(api: Api, running: Running) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-ID": "my-request"}
    answer = api.get(CUSTOMER, params={"name": "Somebody Secret"}, headers=headers)
    assert answer.headers["X-Request-ID"] == "my-request"
    lines = [json.loads(line) for line in running.log("gateway").read_text().splitlines() if trace in line]
    found = [(line["method"], line["route"], line["status"], line["request_id"]) for line in lines]
    assert found == [("GET", CUSTOMER, 200, "my-request")]
    assert "Secret" not in running.log("gateway").read_text()


@pytest.fixture
def silence() -> Iterator[str]:
    """The address of something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def alone(issuer: Issuer, silence: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with two workers and no service behind it: customers is silent, the others aren't there."""
    platform = Running(tmp_path_factory.mktemp("alone"), issuer)
    try:
        platform.launch("gateway", {"GATEWAY_WORKERS": "2", "THREADS": "4", "CUSTOMERS_ADDRESS": silence})
        platform.wait("/healthz")
        yield platform
    finally:
        platform.stop()


@pytest.fixture
def anybody(issuer: Issuer) -> dict[str, str]:
    """The headers of a caller who may do everything."""
    return {"Authorization": "Bearer " + issuer.token(["admin"], ["*"])}


def test_a_service_that_is_not_there_is_said_to_be_unavailable(alone: Running, anybody: dict[str, str]) -> None:
    answer = httpx.get(alone.url + CATALOG, headers=anybody, timeout=20)
    assert refused(answer, 503) == "UNAVAILABLE"
    assert answer.headers["Retry-After"]
    assert "127.0.0.1" not in answer.text
    ready = httpx.get(f"{alone.url}/readyz", timeout=20)
    assert (ready.status_code, ready.json()["status"]) == (503, "notReady")
    assert httpx.get(f"{alone.url}/healthz").status_code == 200


def test_a_service_that_is_silent_costs_no_more_time_than_the_caller_has(
    alone: Running, anybody: dict[str, str]
) -> None:
    begun = time.monotonic()
    answer = httpx.get(alone.url + CUSTOMER, headers=anybody | {"X-Request-Timeout": "0.5"}, timeout=20)
    assert refused(answer, 504) == "DEADLINE_EXCEEDED"
    assert time.monotonic() - begun < 5


def test_the_metrics_of_several_workers_are_summed(alone: Running) -> None:
    for _ in range(40):
        httpx.get(f"{alone.url}/nowhere")
    text = httpx.get(f"http://127.0.0.1:{alone.metrics_ports['gateway']}/metrics").text
    found = re.search(r'svyaz_http_requests_total\{method="GET",route="unmatched",status="404"\} ([\d.]+)', text)
    assert found
    assert float(found[1]) == 40


def accepted(running: Running) -> int:
    """How many connections the gateway's workers have taken."""
    workers = psutil.Process(running.processes["gateway"].pid).children()
    sockets = [connection for worker in workers for connection in worker.net_connections("tcp")]
    port = running.ports["gateway"]
    return sum(found.status == psutil.CONN_ESTABLISHED and found.laddr.port == port for found in sockets)


def test_a_stop_lets_requests_finish(alone: Running, anybody: dict[str, str]) -> None:
    headers = anybody | {"X-Request-Timeout": "5"}
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(httpx.get, alone.url + CUSTOMER, headers=headers, timeout=30) for _ in range(4)]
        while accepted(alone) < len(waiting):
            time.sleep(0.05)
        alone.processes["gateway"].send_signal(signal.SIGTERM)
        assert [answer.result().status_code for answer in waiting] == [504] * 4
    assert alone.processes["gateway"].wait(20) == 0
