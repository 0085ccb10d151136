"""Settings of a process, read from its environment once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

# What a call may carry, either way; the same at both its ends.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# What the items of a page have together, unless a single one has more: well below what a message may carry.
MAX_PAGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What may differ between two places that run the same service."""

    service: str
    host: str = "127.0.0.1"
    port: int = 0
    metrics_port: int = 0
    database_url: str = ""
    migration_database_url: str = ""
    nats_url: str = ""
    oidc_issuer: str = ""
    oidc_jwks_url: str = ""
    oidc_algorithm: str = "RS256"
    oidc_audience: str = "svyaz"
    service_signing_key: str = ""
    service_token_url: str = ""
    service_client_id: str = ""
    service_client_secret: str = field(default="", repr=False)
    addresses: Mapping[str, str] = field(default_factory=dict)
    otlp_endpoint: str = ""
    log_level: str = "INFO"
    max_concurrent_calls: int = 64
    database_connections: int = 16
    one_cpu: bool = False
    clock_offset_file: str = ""
    hub_allow_private_callbacks: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, service: str, environment: Mapping[str, str] | None = None) -> "Settings":
        """Reads the variables that ARCHITECTURE.md lists; raises ValueError naming a malformed one."""
        env = os.environ if environment is None else environment

        def number(name: str, default: int) -> int:
            text = env.get(name, "")
            if text and not text.isdigit():
                raise ValueError(f"{name} must be a whole number, not {text!r}")
            return int(text) if text else default

        return cls(
            service=service,
            host=env.get("HOST", cls.host),
            port=number("PORT", 0),
            metrics_port=number("METRICS_PORT", 0),
            database_url=env.get("DATABASE_URL", ""),
            migration_database_url=env.get("MIGRATION_DATABASE_URL", ""),
            nats_url=env.get("NATS_URL", ""),
            oidc_issuer=env.get("OIDC_ISSUER", ""),
            oidc_jwks_url=env.get("OIDC_JWKS_URL", ""),
            oidc_algorithm=env.get("OIDC_ALGORITHM", cls.oidc_algorithm),
            oidc_audience=env.get("OIDC_AUDIENCE", cls.oidc_audience),
            service_signing_key=env.get("SERVICE_SIGNING_KEY", ""),
            service_token_url=env.get("SERVICE_TOKEN_URL", ""),
            service_client_id=env.get("SERVICE_CLIENT_ID", ""),
            service_client_secret=env.get("SERVICE_CLIENT_SECRET", ""),
            addresses={
                name.removesuffix("_ADDRESS").lower().replace("_", "-"): value
                for name, value in env.items()
                if name.endswith("_ADDRESS")
            },
            otlp_endpoint=env.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
            log_level=env.get("LOG_LEVEL", cls.log_level),
            max_concurrent_calls=number("MAX_CONCURRENT_CALLS", cls.max_concurrent_calls),
            database_connections=number("DATABASE_CONNECTIONS", cls.database_connections),
            one_cpu=env.get("ONE_CPU", "").lower() == "true",
            clock_offset_file=env.get("SVYAZ_CLOCK_OFFSET_FILE", ""),
            hub_allow_private_callbacks=env.get("HUB_ALLOW_PRIVATE_CALLBACKS", "").lower() == "true",
            environment=dict(env),
        )
