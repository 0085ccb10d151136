"""The development issuer: a key under var/issuer and the tokens it signs; production has an OIDC issuer instead."""

import json
import time
import uuid
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from jwt.algorithms import RSAAlgorithm

from svyaz_cli.secrets import write_private

NAME = "https://issuer.svyaz.test"
AUDIENCE = "svyaz"
ALGORITHM = "RS256"
KEY_ID = "development"


class Issuer:
    """Signs tokens with the key in `directory`, which is made when there is none."""

    def __init__(self, directory: Path) -> None:
        self.key_file = directory.absolute() / "key.pem"
        self.keys_file = directory.absolute() / "jwks.json"
        if not self.key_file.exists() or not self.keys_file.exists():
            directory.mkdir(parents=True, exist_ok=True)
            self._make()

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        # Read once: checking an RSA key takes fifty times as long as signing with it.
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key

    @property
    def environment(self) -> dict[str, str]:
        """What a service's environment says of this issuer."""
        return {
            "OIDC_ISSUER": NAME,
            "OIDC_AUDIENCE": AUDIENCE,
            "OIDC_ALGORITHM": ALGORITHM,
            "OIDC_JWKS_URL": self.keys_file.as_uri(),
            "SERVICE_SIGNING_KEY": str(self.key_file),
        }

    def token(
        self, roles: Sequence[str], branches: Sequence[str], *, seconds: float = 3600, subject: str = "developer"
    ) -> str:
        """A token for the subject, valid for so many seconds from now; branch "*" means every branch."""
        now = time.time()
        claims = {
            "iss": NAME,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": int(now),
            "exp": int(now + seconds),
            "jti": uuid.uuid4().hex,
            "roles": list(roles),
            "branches": list(branches),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": KEY_ID})

    def _make(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        keys = {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": ALGORITHM}]}
        self.keys_file.write_text(json.dumps(keys, indent=2))
        write_private(self.key_file, pem.decode())


def billing_key(directory: Path) -> Path:
    """The file of a key of its own for the certificates of billing, made when there is none."""
    file = directory.absolute() / "billing.pem"
    if not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(file, pem.decode())
    return file
