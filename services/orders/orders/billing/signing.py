"""The key that certificates are signed with, and the keys by which they are verified."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from jwt.api_jws import PyJWS

from chassis.errors import FailedPrecondition

TYPE = "billing-certificate+jws"
_JWS = PyJWS()
# The members that make a key what it is (RFC 7638, RFC 8037).
_ESSENTIAL = ("crv", "kty", "x", "y")


@dataclass(frozen=True)
class SigningKey:
    """A private key, and its public half as a JSON Web Key."""

    algorithm: str
    public: Mapping[str, str]
    _private: Any

    @property
    def key_id(self) -> str:
        """The key's thumbprint (RFC 7638): another key has another."""
        return self.public["kid"]

    def sign(self, payload: bytes) -> str:
        """The payload as a JWS (RFC 7515), compact."""
        return _JWS.encode(payload, self._private, algorithm=self.algorithm, headers={"kid": self.key_id, "typ": TYPE})

    @classmethod
    def read(cls, setting: str) -> "SigningKey | None":
        """The key of a setting: PEM, or the name of a file that has it; None for no setting.

        Raises ValueError for what is neither Ed25519 nor P-256.
        """
        if not setting:
            return None
        pem = setting if setting.lstrip().startswith("-----BEGIN") else Path(setting).read_text()
        private = serialization.load_pem_private_key(pem.encode(), password=None)
        if isinstance(private, Ed25519PrivateKey):
            public, algorithm = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True), "EdDSA"
        elif isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
            public, algorithm = ECAlgorithm.to_jwk(private.public_key(), as_dict=True), "ES256"
        else:
            raise ValueError("BILLING_SIGNING_KEY must be a private key of Ed25519 or P-256")
        essential = {name: str(public[name]) for name in _ESSENTIAL if name in public}
        digest = hashlib.sha256(json.dumps(essential, sort_keys=True, separators=(",", ":")).encode()).digest()
        kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return cls(algorithm, {**essential, "kid": kid, "alg": algorithm, "use": "sig"}, private)


def required(key: SigningKey | None) -> SigningKey:
    """The key; raises FailedPrecondition NO_SIGNING_KEY when there is none."""
    if key is None:
        raise FailedPrecondition("NO_SIGNING_KEY", "BILLING_SIGNING_KEY isn't set: certificates can't be signed")
    return key


def content_of(signed: str) -> dict[str, Any]:
    """What a certificate of ours says; who reads one of others verifies it."""
    payload = signed.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded
