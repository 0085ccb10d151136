"""Traces, metrics and logs: the same in every process. Nothing about persons goes in: ids, names of methods, codes."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from chassis.config import Settings

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

RPC_REQUESTS = Counter("svyaz_rpc_requests_total", "Calls answered", ["service", "method", "code"])
RPC_DURATION = Histogram("svyaz_rpc_duration_seconds", "Time to answer a call", ["service", "method"], buckets=_LATENCY)
RPC_IN_FLIGHT = Gauge("svyaz_rpc_in_flight", "Calls being served", ["service"])
HTTP_REQUESTS = Counter("svyaz_http_requests_total", "Requests answered", ["method", "route", "status"])
HTTP_DURATION = Histogram(
    "svyaz_http_duration_seconds", "Time to answer a request", ["method", "route"], buckets=_LATENCY
)
OUTBOX_UNSENT = Gauge("svyaz_outbox_unsent", "Events committed but not yet in the stream", ["service"])
OUTBOX_OLDEST = Gauge("svyaz_outbox_oldest_seconds", "Age of the oldest unsent event", ["service"])
OUTBOX_BLOCKED = Gauge("svyaz_outbox_blocked_keys", "Ordering keys whose next event can't be published", ["service"])
RELAY_PUBLISHED = Counter("svyaz_relay_published_total", "Events acknowledged by the stream", ["service", "stream"])
RELAY_FAILURES = Counter("svyaz_relay_failures_total", "Publishes that failed", ["service", "stream"])
CONSUMER_EVENTS = Counter("svyaz_consumer_events_total", "Events by outcome", ["service", "consumer", "outcome"])
CONSUMER_LAG = Gauge("svyaz_consumer_lag_seconds", "Age of the event handled last", ["service", "consumer"])
CONSUMER_PENDING = Gauge("svyaz_consumer_pending", "Events of the stream still to be handled", ["service", "consumer"])
CONSUMER_READING = Gauge("svyaz_consumer_reading", "1 where the consumer hears the stream", ["service", "consumer"])
CONSUMER_PARKED = Gauge("svyaz_consumer_parked_keys", "Ordering keys that wait for a person", ["service", "consumer"])
CONSUMER_PAUSED = Gauge("svyaz_consumer_paused", "1 while a person has paused the consumer", ["service", "consumer"])
TIMER_LATENESS = Histogram(
    "svyaz_timer_lateness_seconds",
    "From when a timer was due to when it was handled",
    ["service", "purpose"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0),
)
TIMERS_DUE = Gauge("svyaz_timers_due", "Timers that are due and not yet handled", ["service"])
TIMERS_GIVEN_UP = Gauge("svyaz_timers_given_up", "Timers that keep failing, tried once an hour only", ["service"])


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the ids of the trace that it belongs to."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            entry["trace_id"] = f"{context.trace_id:032x}"
            entry["span_id"] = f"{context.span_id:016x}"
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            entry.update(fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def setup(settings: Settings) -> TracerProvider:
    """Configures logging and tracing of this process; spans leave it when an OTLP endpoint is configured.

    Without an endpoint spans aren't recorded but still carry their ids into logs, calls and events.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(settings.service))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"svyaz-{settings.service}"}),
        sampler=ParentBased(ALWAYS_ON) if settings.otlp_endpoint else ALWAYS_OFF,
    )
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        insecure = not settings.otlp_endpoint.startswith("https")
        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=insecure))
        )
    trace.set_tracer_provider(provider)
    return provider


def serve_metrics(settings: Settings) -> None:
    """Serves /metrics on the metrics port until the process ends; nothing when the port is 0."""
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.host)


def tracer() -> trace.Tracer:
    """The tracer of the platform's own spans."""
    return trace.get_tracer("svyaz")
