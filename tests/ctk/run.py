"""`make ctk API=TMF620`: runs one of TM Forum's conformance kits against the platform that runs here.

The kits are TM Forum's, unchanged and outside this repository; their own starter exits 0 whatever fails. Each run has a
branch of its own, seeded with what the kit expects to find: a kit reads every entity of a list.
"""

import argparse
import json
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from svyaz_cli.home import Home

ROOT = Path(__file__).parents[2]
# A request that takes longer counts as failed.
REQUEST_MILLISECONDS = 15_000
BASE_PATHS = {
    "TMF620": "/tmf-api/productCatalogManagement/v4",
    "TMF622": "/tmf-api/productOrderingManagement/v4",
    "TMF629": "/tmf-api/customerManagement/v4",
    "TMF632": "/tmf-api/party/v4",
    "TMF637": "/tmf-api/productInventory/v4",
    "TMF663": "/tmf-api/shoppingCart/v4",
}


def collection_file(kit: Path) -> Path:
    """The Postman collection among a kit's files."""
    for file in sorted([*kit.glob("*.json"), *kit.glob("ctk/*.json")]):
        content = json.loads(file.read_text("utf-8-sig"))
        if isinstance(content, dict) and "item" in content and "info" in content:
            return file
    raise SystemExit(f"there is no Postman collection in {kit}")


def requests_of(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The requests of a collection, in whatever folders they are."""
    for item in items:
        if "item" in item:
            yield from requests_of(item["item"])
        elif "request" in item:
            yield item["request"]


def base_variable(collection: dict[str, Any]) -> tuple[str, str]:
    """The variable that the kit's URLs begin with, and what stands between it and the resource: '/' or nothing."""
    urls = [request["url"] for request in requests_of(collection["item"])]
    texts = [url if isinstance(url, str) else url["raw"] for url in urls]
    found = Counter(match.groups() for text in texts if (match := re.match(r"\{\{(\w+)\}\}(/?)", text)))
    (name, slash), _ = found.most_common(1)[0]
    return name, slash


def seed(api: str, client: httpx.Client) -> None:
    """Puts what the kit expects to find into the branch."""
    if api != "TMF637":
        return
    for status in ("active", "suspended"):
        product = {
            "name": f"A line that is {status}",
            "status": status,
            "billingAccount": {"id": "1513", "@referredType": "BillingAccount"},
            "productCharacteristic": [{"name": "phoneNumber", "valueType": "string", "value": "+996500000000"}],
            "productOffering": {"id": "7655", "name": "Mobile S", "@referredType": "ProductOffering"},
            "productPrice": [
                {
                    "name": "A month",
                    "priceType": "recurring",
                    "recurringChargePeriod": "month",
                    "price": {"dutyFreeAmount": {"unit": "KGS", "value": 290}},
                }
            ],
            "relatedParty": [{"id": "456", "role": "customer", "@referredType": "Customer"}],
            "@type": "Product",
        }
        response = client.post(f"{BASE_PATHS[api]}/product", json=product)
        if response.is_error:
            raise SystemExit(f"seeding failed with {response.status_code}: {response.text}")


def run(api: str, kit: Path, gateway_url: str, authorization: str, out: Path) -> int:
    """Runs the kit and prints what failed; 0 when every request was answered and every assertion held."""
    collection = json.loads(collection_file(kit).read_text("utf-8-sig"))
    config = json.loads((kit / "config.json").read_text()) if (kit / "config.json").exists() else {}
    headers = {"Accept": "application/json", "Content-Type": "application/json", **config.get("headers", {})}
    headers = {name: value for name, value in headers.items() if name.lower() not in ("auth", "authorization")}
    headers["Authorization"] = authorization
    requests = list(requests_of(collection["item"]))
    for request in requests:
        request["header"] = [{"key": name, "value": value} for name, value in headers.items()]
    variable, slash = base_variable(collection)
    base = gateway_url + BASE_PATHS[api] + ("" if slash else "/")
    out.mkdir(parents=True, exist_ok=True)
    prepared, report = out / f"{api}.collection.json", out / f"{api}.report.json"
    prepared.write_text(json.dumps(collection))
    report.unlink(missing_ok=True)
    command = [str(ROOT / "node_modules" / ".bin" / "newman"), "run", str(prepared), "--env-var", f"{variable}={base}"]
    command += ["--reporters", "json", "--reporter-json-export", str(report)]
    command += ["--timeout-request", str(REQUEST_MILLISECONDS)]
    newman = subprocess.run(command, check=False, capture_output=True, text=True)
    if not report.exists():
        print(f"newman wrote no report:\n{newman.stdout[-1000:]}{newman.stderr[-1000:]}", file=sys.stderr)
        return 2
    return judge(api, json.loads(report.read_text())["run"], len(requests))


def judge(api: str, result: dict[str, Any], expected_requests: int) -> int:
    """Prints the counts and each kind of failure once; 0 when there is none."""
    stats = result["stats"]
    sent, asserted = stats["requests"], stats["assertions"]
    print(
        f"{api}: {sent['total']} requests, {sent['failed']} failed; "
        f"{asserted['total']} assertions, {asserted['failed']} failed"
    )
    failures = Counter(
        (
            failure.get("source", {}).get("name", "?"),
            failure["error"].get("test") or failure["error"].get("name", "?"),
            failure["error"].get("message", "")[:200],
        )
        for failure in result["failures"]
    )
    for (source, test, message), count in failures.items():
        print(f"  {count} × {source}: {test}: {message}")
    if sent["total"] < expected_requests or not asserted["total"]:
        print(f"  only {sent['total']} of {expected_requests} requests were sent")
        return 1
    return 1 if failures or sent["failed"] or asserted["failed"] else 0


def main() -> int:
    """Seeds a fresh branch of the platform that runs here and runs the kit in it."""
    parser = argparse.ArgumentParser(prog="make ctk", description=__doc__)
    parser.add_argument("api", choices=sorted(BASE_PATHS), help="API=TMF620")
    parser.add_argument("--kits", type=Path, required=True, help="where the unpacked kits are, one folder each")
    arguments = parser.parse_args()
    home = Home.from_environment()
    if not home.ready.exists():
        print("the platform doesn't run here: make up", file=sys.stderr)
        return 2
    gateway_url = home.ready.read_text()
    token = home.issuer().token(["admin"], [f"ctk-{uuid.uuid4().hex[:12]}"], subject="ctk")
    authorization = f"Bearer {token}"
    with httpx.Client(base_url=gateway_url, headers={"Authorization": authorization}, timeout=30) as client:
        seed(arguments.api, client)
    return run(arguments.api, arguments.kits / arguments.api, gateway_url, authorization, home.directory / "ctk")


if __name__ == "__main__":
    sys.exit(main())
