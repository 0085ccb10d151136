"""TM Forum JSON ↔ messages beside google.protobuf.json_format on the same messages: `make bench NAME=json`."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format

from chassis.scalars import encode_json
from chassis.tmfjson import Dialect, parse
from gateway.resources import RESOURCES

GOAL = 3.0
RUNS = 300
CALLS = 10

_OFFER = {"id": "0199a1b2-0000-7000-8000-000000000001", "name": "Fibre 500", "version": "1.0"}
_PERIOD = {"startDateTime": "2026-01-01T00:00:00Z", "endDateTime": "2027-01-01T00:00:00Z"}
_PARTY = {"id": "0199a1b2-0000-7000-8000-000000000002", "role": "customer", "@referredType": "Individual"}


def _amount(value: float) -> dict[str, Any]:
    return {"taxIncludedAmount": {"unit": "KGS", "value": value}, "dutyFreeAmount": {"unit": "KGS", "value": value}}


BODIES: dict[str, dict[str, Any]] = {
    "productOffering": {
        "name": "Fibre 500",
        "description": "Fibre to the home, 500 Mbit/s down, 100 up",
        "isBundle": False,
        "isSellable": True,
        "lifecycleStatus": "Active",
        "lastUpdate": "2026-01-02T03:04:05.678Z",
        "version": "1.0",
        "validFor": _PERIOD,
        "category": [_OFFER, _OFFER | {"name": "Internet"}],
        "channel": [{"id": "1", "name": "Web"}, {"id": "2", "name": "Shop"}],
        "productSpecification": _OFFER,
        "productOfferingTerm": [
            {"name": "24 months", "duration": {"amount": 24, "units": "month"}, "validFor": _PERIOD}
        ],
        "productOfferingPrice": [
            {
                "id": "1",
                "name": "Monthly fee",
                "priceType": "recurring",
                "recurringChargePeriod": "month",
                "recurringChargePeriodLength": 1,
                "price": _amount(39.9) | {"taxRate": 12},
                "priceAlteration": [
                    {"name": "Welcome", "priceType": "recurring", "priority": 1, "price": {"percentage": -50.5}}
                ],
            }
        ],
        "prodSpecCharValueUse": [
            {"name": "speed", "productSpecCharacteristicValue": [{"isDefault": True, "value": 500}, {"value": 1000}]}
        ],
        "attachment": [{"name": "Photo", "mimeType": "image/png", "url": "https://example.org/p.png"}],
    },
    "productOrder": {
        "externalId": "PO-7",
        "priority": "1",
        "category": "B2C product order",
        "orderDate": "2026-01-02T03:04:05.678Z",
        "state": "acknowledged",
        "relatedParty": [_PARTY],
        "billingAccount": {"id": "0199a1b2-0000-7000-8000-000000000003"},
        "note": [{"text": "Ring twice", "date": "2026-01-02T03:04:05Z", "author": "Aida"}],
        "productOrderItem": [
            {
                "id": str(number),
                "action": "add",
                "quantity": 1,
                "productOffering": _OFFER,
                "itemTotalPrice": [
                    {"priceType": "recurring", "recurringChargePeriod": "month", "price": _amount(39.9)}
                ],
                "product": {
                    "isBundle": False,
                    "productCharacteristic": [{"name": "speed", "value": 500}, {"name": "colour", "value": "white"}],
                },
            }
            for number in (1, 2, 3)
        ],
    },
    "customer": {
        "name": "Aida Usenova",
        "status": "active",
        "engagedParty": _PARTY,
        "validFor": {"startDateTime": "2026-01-01T00:00:00Z"},
        "account": [{"id": "0199a1b2-0000-7000-8000-000000000003", "name": "Main"}],
        "characteristic": [{"name": "segment", "value": "consumer"}, {"name": "score", "value": 712}],
        "contactMedium": [
            {"mediumType": "email", "preferred": True, "characteristic": {"emailAddress": "aida@example.org"}},
            {"mediumType": "phone", "characteristic": {"phoneNumber": "+996700123456"}},
        ],
    },
}


def _cpu_seconds(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    for _ in range(CALLS):
        work()
    return (time.process_time() - begun) / CALLS


def _compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> bool:
    """Prints one figure: the best of many short runs, taking turns, so that what else the machine does stays out."""
    pairs = [(_cpu_seconds(ours), _cpu_seconds(theirs)) for _ in range(RUNS)]
    value, baseline = (min(side) * 1e6 for side in zip(*pairs, strict=True))
    ratio = baseline / value
    figure = {
        "name": name,
        "value": round(value, 2),
        "unit": "µs",
        "baseline": round(baseline, 2),
        "ratio": round(ratio, 2),
        "goal": GOAL,
        "ok": ratio >= GOAL,
    }
    print(json.dumps(figure, ensure_ascii=False), flush=True)
    return bool(figure["ok"])


def main() -> int:
    """Compares both directions over the three resources together; 1 when a goal is missed."""
    dialect = Dialect()
    classes: dict[str, Any] = {resource.name: resource.message_class for resource in RESOURCES}
    sent = [(classes[name], json.dumps(body).encode()) for name, body in BODIES.items()]
    messages = [dialect.message(message_class, parse(text)) for message_class, text in sent]
    theirs = [(type(message), json_format.MessageToJson(message, indent=None).encode()) for message in messages]

    def ours_in() -> None:
        for message_class, text in sent:
            dialect.message(message_class, parse(text))

    def theirs_in() -> None:
        for message_class, text in theirs:
            json_format.Parse(text, message_class())

    def ours_out() -> None:
        for message in messages:
            encode_json(dialect.resource(message, "/tmf-api/x/v4/y/1"))

    def theirs_out() -> None:
        for message in messages:
            json_format.MessageToJson(message, indent=None).encode()

    size = sum(len(text) for _, text in sent)
    read = _compare(f"an offering, an order and a customer read ({size} bytes)", ours_in, theirs_in)
    written = _compare(f"an offering, an order and a customer written ({size} bytes)", ours_out, theirs_out)
    return 0 if read and written else 1


if __name__ == "__main__":
    sys.exit(main())
