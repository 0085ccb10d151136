"""Traces, metrics and logs: the same in every process. Nothing about persons goes in: ids, names of methods, codes."""

import itertools
import json
import logging
import random
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from prometheus_client import Counter, Gauge, Histogram

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


def begin_at_zero(counter: Counter, *labels: Iterable[str]) -> None:
    """Shows the counter's series from the start: for Prometheus, one that begins at 1 has never risen."""
    for values in itertools.product(*labels):
        counter.labels(*values)


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


class _Current:
    """Makes a span the current one inside a block."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def __enter__(self) -> trace.Span:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


class _Unrecorded(trace.Tracer):
    """Makes spans that are nothing but their ids (W3C Trace Context), to be passed on.

    The SDK makes them too, for three times the price: of every call's, whether anybody looks at its trace or not.
    """

    def start_span(self, name: str, context: context.Context | None = None, *_: Any, **__: Any) -> trace.Span:
        """A span of its parent's trace, or of a new one."""
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            # Not sampled here: what the parent says of that is of its own recording.
            flags = parent.trace_flags & trace.TraceFlags.RANDOM_TRACE_ID
            trace_id, state = parent.trace_id, parent.trace_state
        else:
            flags, trace_id, state = trace.TraceFlags.RANDOM_TRACE_ID, random.getrandbits(128), None
        own = trace.SpanContext(trace_id, random.getrandbits(64), False, trace.TraceFlags(flags), state)
        return trace.NonRecordingSpan(own)

    def start_as_current_span(self, name: str, context: context.Context | None = None, *_: Any, **__: Any) -> Any:
        """The same, current inside a block."""
        return _Current(self.start_span(name, context))


class Unrecorded(trace.TracerProvider):
    """Traces that are only passed on."""

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        """The same for everybody."""
        return _Unrecorded()

    def shutdown(self) -> None:
        """There is nothing left to send."""


def setup(settings: Settings) -> TracerProvider | Unrecorded:
    """Configures logging and tracing of this process; spans leave it when an OTLP endpoint is configured.

    Without an endpoint spans aren't recorded but still carry their ids into logs, calls and events.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(settings.service))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    provider = _recording(settings) if settings.otlp_endpoint else Unrecorded()
    trace.set_tracer_provider(provider)
    return provider


def _recording(settings: Settings) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"svyaz-{settings.service}"}), sampler=ParentBased(ALWAYS_ON)
    )
    insecure = not settings.otlp_endpoint.startswith("https")
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=insecure))
    )
    return provider


def tracer() -> trace.Tracer:
    """The tracer of the platform's own spans."""
    return trace.get_tracer("svyaz")
