"""Tokens of the development issuer."""

from pathlib import Path

import pytest

from chassis.auth import Verifier
from chassis.config import Settings
from chassis.errors import Unauthenticated
from svyaz_cli.issuer import Issuer


def verifier(issuer: Issuer) -> Verifier:
    return Verifier(Settings.from_environment("orders", issuer.environment))


def test_a_token_is_what_services_believe(issuer: Issuer) -> None:
    principal = verifier(issuer).verify(issuer.token(["agent", "billing"], ["osh"], subject="aigul"))
    assert (principal.subject, principal.branches) == ("aigul", ("osh",))
    assert principal.roles == {"agent", "billing"}


def test_a_token_expires(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        verifier(issuer).verify(issuer.token(["agent"], ["osh"], seconds=-60))


def test_another_issuers_token_is_not_believed(issuer: Issuer, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        verifier(issuer).verify(Issuer(tmp_path).token(["agent"], ["osh"]))


def test_the_key_stays_the_same_and_private(tmp_path: Path) -> None:
    first, second = Issuer(tmp_path / "issuer"), Issuer(tmp_path / "issuer")
    verifier(second).verify(first.token(["agent"], ["osh"]))
    assert first.key_file.stat().st_mode & 0o777 == 0o600
