"""`svyaz billing-certificate` fetches the signed certificate of a day, `svyaz billing-verify` verifies one without a
platform: what an auditor needs is the file and the public keys, which he got before by another way.

A file is JSON lines: the signed payload, then the lines that its digests are over.

    {"signed": "<JWS, RFC 7515>"}
    {"row": {…}}  {"discrepancy": {…}}  {"change": {…}}

A digest is the hex SHA-256 of the lines of its kind in RFC 8785 form, each ended by a line feed.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import typer
from google.protobuf.json_format import MessageToDict
from jwt import PyJWK
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from svyaz.orders.v1 import billing_pb2, billing_pb2_grpc
from svyaz_cli.operations import calling

TYPE = "billing-certificate+jws"
# Nobody chooses the algorithm but these: `none`, or a public key taken for a secret, is no signature.
ALGORITHMS = ("EdDSA", "ES256")
PAGE = 5_000
_PARTS = {
    "row": (billing_pb2.BILLING_CERTIFICATE_PART_ROW, "rows"),
    "discrepancy": (billing_pb2.BILLING_CERTIFICATE_PART_DISCREPANCY, "discrepancies"),
    "change": (billing_pb2.BILLING_CERTIFICATE_PART_CHANGE, "changes"),
}

Ask = Callable[[str, Any], Any]


class VerificationError(Exception):
    """The file isn't what was signed."""


@dataclass
class _Seen:
    """The lines of one kind, as they come."""

    count: int = 0
    sha: Any = field(default_factory=hashlib.sha256)


def verify(lines: Iterable[str], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a certificate whose signature and digests hold by a JSON Web Key Set.

    Raises VerificationError saying what doesn't.
    """
    numbered = enumerate(lines, start=1)
    _, first = next(numbered, (1, ""))
    payload = _payload(str(_object(first, 1).get("signed", "")), keys)
    seen = {kind: _Seen() for kind in _PARTS}
    for number, text in numbered:
        content = _object(text, number)
        kind = next(iter(content), "")
        if len(content) != 1 or kind not in seen:
            raise VerificationError(f"line {number} is of no kind that a certificate has")
        seen[kind].count += 1
        seen[kind].sha.update(_canonical(content[kind]) + b"\n")
    for kind, (_, name) in _PARTS.items():
        signed = payload.get(name, {})
        if (seen[kind].count, seen[kind].sha.hexdigest()) != (signed.get("count"), signed.get("digest")):
            raise VerificationError(
                f"{name}: {seen[kind].count} lines that aren't the {signed.get('count')} signed ones"
            )
    return payload


def _payload(signed: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    jws = PyJWS(algorithms=list(ALGORITHMS))
    try:
        header = jws.get_unverified_header(signed)
        jwk = next((key for key in keys.get("keys", ()) if key.get("kid") == header.get("kid")), None)
        if header.get("typ") != TYPE or jwk is None:
            raise VerificationError(f"it is signed by none of the keys, but by {header.get('kid')!r}")
        # The key says by what it is used, not who presents a signature.
        content = jws.decode(signed, PyJWK(jwk).key, algorithms=[str(jwk.get("alg"))])
    except PyJWTError as error:
        raise VerificationError(f"the signature doesn't hold: {error}") from error
    return _object(content.decode(), 0)


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise VerificationError(f"line {number} is no JSON") from error
    if not isinstance(content, dict):
        raise VerificationError(f"line {number} is no JSON object")
    return content


def _canonical(content: Any) -> bytes:
    """RFC 8785 of objects with names in ASCII, strings and whole numbers, which is all that lines have."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def fetch(ask: Ask, branch: str, day: str, revision: int) -> Iterator[str]:
    """The lines of a certificate's file."""
    request = billing_pb2.GetBillingDayCertificateRequest(branch=branch, day=day, revision=revision)
    certificate = ask("GetBillingDayCertificate", request)
    yield json.dumps({"signed": certificate.signed})
    for kind, (part, _) in _PARTS.items():
        after = 0
        while True:
            page = ask(
                "ListBillingDayCertificateLines",
                billing_pb2.ListBillingDayCertificateLinesRequest(
                    branch=branch, day=day, revision=certificate.revision, part=part, after=after, limit=PAGE
                ),
            ).line
            yield from (f'{{"{kind}":{line}}}' for line in page)
            after += len(page)
            if len(page) < PAGE:
                break


def keys_of(ask: Ask) -> dict[str, Any]:
    """The public keys as a JSON Web Key Set."""
    answer: dict[str, Any] = MessageToDict(ask("ListBillingKeys", billing_pb2.ListBillingKeysRequest()))
    return answer


def summary(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wants to know of a verified certificate."""
    names = ("branch", "day", "revision", "madeAt", "sums", "unsealed", "unsent", "unacknowledged", "compared")
    counts = {name: payload[name]["count"] for _, name in _PARTS.values()}
    return {name: payload[name] for name in names} | counts


_ADDRESS = typer.Option("", envvar="ORDERS_ADDRESS", help="host:port of orders; the local one.")
_TOKEN = typer.Option("", envvar="SVYAZ_TOKEN", help="Of the role billing; one of the development issuer.")

_certificate = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_verify = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@_certificate.command()
def certificate(
    branch: str = typer.Option("", help="Whose day."),
    day: str = typer.Option("", help="The local day, YYYY-MM-DD."),
    revision: int = typer.Option(0, help="Which one; the latest."),
    out: Path | None = typer.Option(None, help="Where it is written; else it is printed."),
    keys: bool = typer.Option(False, "--keys", help="Print the public keys (a JSON Web Key Set) instead."),
    anew: bool = typer.Option(False, "--anew", help="Have the day looked at again before."),
    settled: str = typer.Option("", help="What has become of its discrepancies: they alarm nobody any more."),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Fetch the signed certificate of a branch's day, with its rows, discrepancies and changes."""
    if not keys and not (branch and day):
        raise typer.BadParameter("say --branch and --day, or --keys")
    with calling(billing_pb2_grpc.BillingServiceStub, "orders", address, token, role="billing") as ask:
        if keys:
            _write(out, [json.dumps(keys_of(ask), indent=2)])
            return
        if anew or settled:
            ask("CertifyBillingDay", billing_pb2.CertifyBillingDayRequest(branch=branch, day=day, settled=settled))
        _write(out, fetch(ask, branch, day, revision))


@_verify.command()
def check(
    file: Path = typer.Argument(help="What billing-certificate has written."),
    keys: Path | None = typer.Option(
        None, help="The public keys, kept from before; else the platform's are asked for."
    ),
    address: str = _ADDRESS,
    token: str = _TOKEN,
) -> None:
    """Verify a certificate: exit status 0 when it is signed and whole and names no discrepancy, 1 when it isn't signed
    or whole, 3 when it is and names some."""
    if keys is not None:
        known = json.loads(keys.read_text())
    else:
        with calling(billing_pb2_grpc.BillingServiceStub, "orders", address, token, role="billing") as ask:
            known = keys_of(ask)
    try:
        with file.open(encoding="utf-8") as lines:
            payload = verify(lines, known)
    except VerificationError as error:
        typer.echo(f"not verified: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps(summary(payload), ensure_ascii=False))
    raise typer.Exit(3 if payload["discrepancies"]["count"] else 0)


def _write(out: Path | None, lines: Iterable[str]) -> None:
    def to(stream: TextIO) -> None:
        stream.writelines(f"{line}\n" for line in lines)

    if out is None:
        to(sys.stdout)
        return
    partial = out.with_name(f"{out.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        to(stream)
    partial.replace(out)


COMMANDS = {"billing-certificate": _certificate, "billing-verify": _verify}
