"""What a subscription's query means, and which callbacks are never called."""

from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import InvalidArgument
from gateway.hub import matching
from gateway.hub.callbacks import Callbacks, is_public
from gateway.hub.domain import delay, target
from gateway.resources import Resource

ORDERING = "productOrderingManagement"

ORDER: dict[str, Any] = {
    "id": "42",
    "state": "completed",
    "orderDate": "2026-01-31T12:00:00Z",
    "relatedParty": [{"id": "7", "role": "customer"}, {"id": "8", "role": "seller"}],
    "productOrderItem": [{"id": "1", "quantity": 2, "product": {"isBundle": True}}, {"id": "2", "quantity": 5}],
    "colour": "blue",
    "coupon": ["A", "B"],
}


def of(name: str) -> Resource:
    """A resource of the ordering API."""
    return next(resource for resource in matching.APIS[ORDERING] if resource.name == name)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("", True),
        ("state=completed", True),
        ("?state=completed", True),
        ("state=failed,completed", True),
        ("state=failed&state=completed", True),
        ("state=failed", False),
        ('state="completed"', True),
        ("event.productOrder.state=completed", True),
        ("productOrder.state=failed", False),
        ("state.ne=failed", True),
        ("state.ne=completed", False),
        ("orderDate.gte=2026-01-31T12:00:00.000Z", True),
        ("orderDate.gt=2026-01-31T18:00:00+06:00".replace("+", "%2B"), False),
        ("orderDate.lt=2026-02-01", True),
        ("productOrderItem.quantity.gt=4", True),
        ("productOrderItem.quantity>=6", False),
        ("productOrderItem.product.isBundle=true", True),
        ("relatedParty.id=7&relatedParty.role=customer", True),
        # No one party is both.
        ("relatedParty.id=7&relatedParty.role=seller", False),
        ("colour=blue", True),
        ("colour=red", False),
        ("coupon=B", True),
        # That B isn't A doesn't mean that A isn't there.
        ("coupon!=A", False),
        ("coupon=B&coupon!=A", False),
        ("coupon=B&coupon!=C", True),
        ("href=/tmf-api/productOrderingManagement/v4/productOrder/42", True),
        ("id=43", False),
    ],
)
def test_a_query_names_the_resources_that_are_told(query: str, holds: bool) -> None:
    matching.check(ORDERING, query)
    assert matching.wanted(of("productOrder"), query).matches(ORDER) is holds


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", True),
        ("eventType=ProductOrderStateChangeEvent", True),
        ("eventType = productOrderStateChangeEvent", True),
        ("eventType=ProductOrderCreateEvent,ProductOrderStateChangeEvent", True),
        ("eventType=ProductOrderCreateEvent&eventType=ProductOrderStateChangeEvent", True),
        ("eventType=ProductOrderCreateEvent", False),
        ("eventType=CancelProductOrderStateChangeEvent", False),
    ],
)
def test_a_query_names_the_types_of_events(query: str, wanted: bool) -> None:
    assert matching.wanted(of("productOrder"), query).type_matches("ProductOrderStateChangeEvent") is wanted


@pytest.mark.parametrize("query", ["fields=state", "fields=event.productOrder.state", "fields=eventId,state"])
def test_fields_keep_the_identity(query: str) -> None:
    document = {**ORDER, "href": "/here", "@type": "ProductOrder"}
    part = matching.wanted(of("productOrder"), query).part(document)
    assert part == {"id": "42", "href": "/here", "@type": "ProductOrder", "state": "completed"}
    assert matching.wanted(of("productOrder"), "fields=event").part(document) == document


@pytest.mark.parametrize(
    "query",
    [
        "eventType=CustomerCreateEvent",
        "eventType=ProductOrder",
        "state.regex=(a%2B)%2B",
        "state*=(a%2B)%2B",
        "limit=5",
        "=5",
        "bogus===",
        "state==completed",
        "state = =completed",
        "state=completed&state>==completed",
        "state=%ff",
        "%ff=completed",
        "href.gt=5",
        "&".join(f"a{number}=1" for number in range(51)),
        "&".join(f"a{number}=1" for number in range(200)),
        "a=" + "b" * 2_000,
    ],
)
def test_a_query_that_means_nothing_is_refused(query: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        matching.check(ORDERING, query)
    assert refused.value.reason == "BAD_QUERY"
    assert refused.value.violations[0].field == "query"


@pytest.mark.parametrize("query", ["coupon==B", "coupon=%ff"])
def test_a_query_that_was_taken_once_goes_on_meaning_what_it_did(query: str) -> None:
    assert not matching.wanted(of("productOrder"), query).matches(ORDER)


@pytest.mark.parametrize(
    "callback",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "example.com/listener",
        "http:///listener",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Evil: 1",
        "https://пример.kg/",
        "https://[::1/",
        "https://example.com/" + "a" * 2_000,
    ],
)
def test_a_callback_is_an_http_url_and_nothing_besides(callback: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        target(callback)
    assert refused.value.reason == "BAD_CALLBACK"


def test_the_parts_of_a_callback() -> None:
    found = target("https://Example.com:8443/a/b?c=d")
    assert (found.scheme, found.host, found.port, found.path) == ("https", "example.com", 8443, "/a/b?c=d")
    assert target("http://example.com").path == "/"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "not an address",
    ],
)
def test_an_address_inside_is_never_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "212.42.96.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "127.1", "[::ffff:169.254.169.254]"]
)
def test_no_spelling_of_a_private_address_is_registered(host: str) -> None:
    callback = f"http://{host}:8080/listener"
    with pytest.raises(InvalidArgument) as refused:
        Callbacks(allow_private=False).check(callback)
    assert refused.value.reason == "BAD_CALLBACK"
    Callbacks(allow_private=True).check(callback)


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    callbacks = Callbacks(allow_private=False, resolve=lambda host, port: ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(InvalidArgument):
        callbacks.check("https://example.com/")


def test_the_time_between_attempts_doubles_up_to_fifteen_minutes() -> None:
    assert [delay(attempts, 0.5) for attempts in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert delay(1_000, 0.5) == timedelta(minutes=15).total_seconds()
    assert delay(3, 0.0) < 4.0 < delay(3, 1.0)
