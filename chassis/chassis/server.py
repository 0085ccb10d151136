"""The gRPC server that every service runs: tokens, roles, deadlines, errors, telemetry, health, graceful stop."""

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any, Protocol

import grpc
from google.protobuf import any_pb2, descriptor_pool
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from opentelemetry import trace
from opentelemetry.propagate import extract

from chassis import probes, telemetry
from chassis.affinity import OneCpu
from chassis.auth import Verifier, authorize, bearer, roles_of
from chassis.calls import PURPOSE, Call, stated_purpose, using
from chassis.config import MAX_MESSAGE_BYTES, Settings
from chassis.db import Database
from chassis.errors import DomainError
from chassis.threads import keep_running
from chassis.upkeep import Upkeep

log = logging.getLogger(__name__)

DEFAULT_DEADLINE_SECONDS = 30.0
DRAIN_SECONDS = 10.0
# So many containers are made before the young ones (so many times that: the middle-aged, all) are looked through for
# garbage in cycles, of which a call leaves little.
GARBAGE = (10_000, 20, 50)
# Probes come without a token.
_OPEN_SERVICES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})

# The codes of success and of our own faults.
_WATCHED = ("OK", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")

Registration = tuple[Callable[[Any, grpc.Server], None], Any]
# What is done with each answer of a method (and its request) before it goes out, within its call; nothing goes out when
# it raises. Asked once per method (its descriptor); None: nothing is done with this one's.
BeforeAnswer = Callable[[Any], Callable[[Any, Any], None] | None]


def _as_it_is(method: Any) -> None:
    pass


class Runnable(Protocol):
    """Work beside the calls: a relay, a consumer, timers."""

    def start(self) -> None:
        """Begins; returns at once."""

    def stop(self) -> None:
        """Ends; returns when nothing of it runs any more."""


def error_status(error: DomainError) -> status_pb2.Status:
    """The google.rpc.Status of a refusal: ErrorInfo with its reason, BadRequest with its violations."""
    details = []
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain="svyaz", metadata=error.metadata))
    details.append(info)
    if error.violations:
        bad = any_pb2.Any()
        bad.Pack(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
        details.append(bad)
    return status_pb2.Status(code=code_pb2.Code.Value(error.status), message=error.message, details=details)


def service_name(add: Callable[..., None]) -> str:
    """The full name of the service that a generated `add_…Servicer_to_server` function registers."""
    short = add.__name__.removeprefix("add_").removesuffix("Servicer_to_server")
    package = add.__module__.rpartition(".")[0]
    return f"{package}.{short}"


def _methods(service: str) -> list[str]:
    """The service's methods, as metrics and the log name them."""
    described = descriptor_pool.Default().FindServiceByName(service)
    return [f"{service.rsplit('.', 1)[-1]}/{method.name}" for method in described.methods]


class _Interceptor(grpc.ServerInterceptor):
    def __init__(self, service: str, verifier: Verifier, before_answer: BeforeAnswer) -> None:
        self._service = service
        self._before_answer = before_answer
        self._verifier = verifier
        self._methods: dict[str, Any] = {}
        self._tracer = telemetry.tracer()
        self._serving: set[grpc.ServicerContext] = set()
        telemetry.RPC_IN_FLIGHT.labels(service).set_function(lambda: len(self._serving))
        self._lock = threading.Lock()

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        known = self._methods.get(details.method)
        if known is None:
            handler = continuation(details)
            if details.method.split("/")[1] in _OPEN_SERVICES:
                return handler
            if handler is None or handler.unary_unary is None:
                # A method that streams would be served without its token and roles being looked at: not at all, then.
                return None
            known = self._wrap(details.method, handler)
            with self._lock:
                self._methods[details.method] = known
        return known

    def _wrap(self, path: str, handler: Any) -> Any:
        _, service_name, method_name = path.split("/")
        method = descriptor_pool.Default().FindServiceByName(service_name).methods_by_name[method_name]
        allowed = roles_of(method)
        name = f"{service_name.rsplit('.', 1)[-1]}/{method_name}"
        behavior = handler.unary_unary
        before_answer = self._before_answer(method)
        duration = telemetry.RPC_DURATION.labels(self._service, name)
        succeeded = telemetry.RPC_REQUESTS.labels(self._service, name, "OK")

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            started = time.perf_counter()
            metadata: dict[str, Any] = dict(context.invocation_metadata())
            self._serving.add(context)
            parent = extract(metadata) if "traceparent" in metadata else None
            with self._tracer.start_as_current_span(name, context=parent, kind=trace.SpanKind.SERVER) as span:
                try:
                    principal = self._verifier.verify(bearer(metadata.get("authorization")))
                    authorize(principal, allowed, name)
                    remaining: float = context.time_remaining()
                    # A call without a deadline reports a time far beyond any that somebody would wait.
                    if remaining > 86_400:
                        remaining = DEFAULT_DEADLINE_SECONDS
                    call = Call(
                        principal,
                        name,
                        time.monotonic() + remaining,
                        metadata.get("x-request-id", ""),
                        purpose=stated_purpose(metadata[PURPOSE]) if PURPOSE in metadata else "",
                    )
                    with using(call):
                        response = behavior(request, context)
                        if before_answer is not None:
                            before_answer(request, response)
                    succeeded.inc()
                    return response
                except DomainError as error:
                    telemetry.RPC_REQUESTS.labels(self._service, name, error.status).inc()
                    span.set_attribute("svyaz.reason", error.reason)
                    context.abort_with_status(rpc_status.to_status(error_status(error)))
                except Exception as error:
                    telemetry.RPC_REQUESTS.labels(self._service, name, "INTERNAL").inc()
                    log.exception("call failed", extra={"fields": {"method": name}})
                    span.record_exception(error)
                    failure = DomainError("INTERNAL", "something went wrong on our side; it has been logged")
                    failure.status = "INTERNAL"
                    context.abort_with_status(rpc_status.to_status(error_status(failure)))
                finally:
                    self._serving.discard(context)
                    duration.observe(time.perf_counter() - started)

        return grpc.unary_unary_rpc_method_handler(
            serve, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


class Server:
    """A gRPC server with everything that isn't domain; `port` tells where it listens."""

    def __init__(
        self,
        settings: Settings,
        registrations: Sequence[Registration],
        *,
        ready: Callable[[], bool],
        background: Sequence[Runnable] = (),
        before_answer: BeforeAnswer = _as_it_is,
    ) -> None:
        self._settings = settings
        self._ready = ready
        # What the last look found: probes are answered without another.
        self._serving = threading.Event()
        self._background = background
        self._stopping = threading.Event()
        self._readiness = keep_running(self._watch_readiness, "readiness")
        self._health = health.HealthServicer()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(min(32, settings.max_concurrent_calls), thread_name_prefix="call"),
            interceptors=[_Interceptor(settings.service, Verifier(settings), before_answer)],
            # Beyond it a call is refused with RESOURCE_EXHAUSTED instead of queueing out of sight.
            maximum_concurrent_rpcs=settings.max_concurrent_calls,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # Callers look their addresses up again, and so find replicas that have come since.
                ("grpc.max_connection_age_ms", 300_000),
                ("grpc.max_connection_age_grace_ms", 30_000),
            ],
        )
        names = []
        for add, servicer in registrations:
            add(servicer, self._server)
            names.append(service_name(add))
            telemetry.begin_at_zero(telemetry.RPC_REQUESTS, [settings.service], _methods(names[-1]), _WATCHED)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self.port = self._server.add_insecure_port(f"{settings.host}:{settings.port}")

    def start(self) -> None:
        """Serves; background work begins too."""
        self._set_health(self._ready())
        self._server.start()
        for item in self._background:
            item.start()
        self._readiness.start()
        log.info("serving", extra={"fields": {"port": self.port}})

    def _watch_readiness(self) -> None:
        while not self._stopping.wait(1.0):
            self._set_health(self._ready())

    def serving(self) -> bool:
        """Whether calls should come here: it was ready a moment ago, and isn't stopping."""
        return self._serving.is_set() and not self._stopping.is_set()

    def _set_health(self, ready: bool) -> None:
        (self._serving.set if ready else self._serving.clear)()
        serving = health_pb2.HealthCheckResponse.SERVING
        self._health.set("", serving if ready else health_pb2.HealthCheckResponse.NOT_SERVING)

    def stop(self) -> None:
        """Not serving, drain, then the background work: what calls have committed is still sent."""
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._server.stop(DRAIN_SECONDS).wait()
        if self._readiness.is_alive():
            self._readiness.join()
        for item in reversed(self._background):
            item.stop()


def keep_what_is_loaded() -> None:
    """What is there now stays: looking through it for garbage again and again cost a busy process a fifth of its
    time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def run(
    settings: Settings,
    registrations: Sequence[Registration],
    *,
    database: Database,
    background: Sequence[Runnable] = (),
    before_answer: BeforeAnswer = _as_it_is,
) -> None:
    """Serves until SIGTERM or SIGINT, then stops gracefully."""
    provider = telemetry.setup(settings)
    upkeep = Upkeep(database, settings.service)
    server = Server(
        settings,
        registrations,
        ready=database.ready,
        background=[upkeep, *([OneCpu()] if settings.one_cpu else ()), *background],
        before_answer=before_answer,
    )
    probes.serve(settings, server.serving)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    keep_what_is_loaded()
    stop.wait()
    log.info("stopping")
    server.stop()
    database.close()
    provider.shutdown()
