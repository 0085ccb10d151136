"""The issuer's published keys: an issuer that can't be reached takes nobody's time, and no key that is known."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chassis import auth
from chassis.auth import Verifier
from chassis.config import Settings
from chassis.errors import Unauthenticated, Unavailable
from svyaz_cli.issuer import Issuer


class Published:
    """What an issuer publishes by http, when it answers."""

    def __init__(self, issuer: Issuer) -> None:
        self.keys = issuer.keys_file.read_text()
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        published = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                published.asked += 1
                published.answers.wait(20)
                body = published.keys.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stops publishing."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def published(issuer: Issuer) -> Iterator[Published]:
    """The development issuer's keys by http."""
    made = Published(issuer)
    yield made
    made.close()


@pytest.fixture
def verifier(published: Published, issuer: Issuer) -> Verifier:
    """Somebody who reads them."""
    settings = Settings.from_environment("orders", issuer.environment)
    return Verifier(replace(settings, oidc_jwks_url=published.url))


def token(issuer: Issuer) -> str:
    """A token that nobody has seen."""
    return issuer.token(["agent"], ["bishkek"])


def aged(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Makes the limits these from now on."""
    for name, value in seconds.items():
        monkeypatch.setattr(auth, f"_{name.upper()}_SECONDS", value)


def test_keys_that_are_known_serve_while_the_issuer_is_silent(
    verifier: Verifier, published: Published, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify(token(issuer))
    published.answers.clear()
    aged(monkeypatch, fetch=4.0, fresh=0.0, retry=0.0)
    begun = time.monotonic()
    for _ in range(5):
        verifier.verify(token(issuer))
    assert time.monotonic() - begun < 3
    # They don't serve for ever.
    aged(monkeypatch, kept=0.0, retry=60.0)
    with pytest.raises(Unavailable):
        verifier.verify(token(issuer))


def test_keys_are_fetched_anew_without_a_caller_waiting(
    verifier: Verifier, published: Published, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify(token(issuer))
    aged(monkeypatch, fresh=0.0, retry=0.0)
    verifier.verify(token(issuer))
    until = time.monotonic() + 10
    while published.asked < 2:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_token_that_names_an_unknown_key_does_not_hammer_the_issuer(
    verifier: Verifier, published: Published, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify(token(issuer))
    aged(monkeypatch, retry=60.0)
    monkeypatch.setattr("svyaz_cli.issuer.KEY_ID", "another")
    stranger = Issuer(tmp_path)
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            verifier.verify(token(stranger))
    assert published.asked == 1
    # Once it is published, it is found.
    aged(monkeypatch, retry=0.0)
    published.keys = stranger.keys_file.read_text()
    assert verifier.verify(token(stranger)).subject == "developer"


def test_an_issuer_that_never_answers_takes_the_time_of_one_caller(
    verifier: Verifier, published: Published, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(monkeypatch, fetch=0.5, retry=60.0)
    published.answers.clear()
    for _ in range(5):
        with pytest.raises(Unavailable) as refused:
            verifier.verify(token(issuer))
        assert refused.value.reason == "ISSUER_UNAVAILABLE"
    assert published.asked == 1


@pytest.mark.parametrize("nonsense", ["[]", "{}", "no", json.dumps({"keys": [{"kty": "?"}]})])
def test_what_is_no_set_of_keys_changes_nothing(
    verifier: Verifier,
    published: Published,
    issuer: Issuer,
    nonsense: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verifier.verify(token(issuer))
    aged(monkeypatch, retry=0.0)
    published.keys = nonsense
    monkeypatch.setattr("svyaz_cli.issuer.KEY_ID", "another")
    with pytest.raises(Unauthenticated):
        verifier.verify(token(Issuer(tmp_path)))
    assert published.asked == 2
    monkeypatch.undo()
    verifier.verify(token(issuer))
