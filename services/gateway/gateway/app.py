"""The gateway as a WSGI application: TM Forum's APIs over REST, on the services behind it."""

import logging
import time
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g, request
from opentelemetry import context, trace
from opentelemetry.propagate import extract
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from chassis import telemetry
from chassis.auth import Verifier
from chassis.calls import using
from chassis.clients import call
from chassis.config import Settings
from chassis.errors import DomainError
from chassis.scalars import encode_json
from chassis.tmfjson import Dialect, descriptor_of
from gateway import problems
from gateway.actions import ACTIONS, Action
from gateway.asking import asked_for
from gateway.auth import Door, request_id
from gateway.backends import Backends
from gateway.collection import MAX_BODY_BYTES, Collection, UnsupportedMediaTypeError, body, conditional
from gateway.contents import PATH as CONTENT
from gateway.contents import DocumentContents
from gateway.openapi import document
from gateway.query import check_readable
from gateway.resources import RESOURCES
from gateway.subscriptions import HUBS, Hub

access = logging.getLogger("gateway.access")

_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
_REASONS = {404: "ROUTE_NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE"}
_NO_ROUTE = "unmatched"
# The statuses of what isn't the caller's fault.
_WATCHED = ("429", "500", "503", "504")


def create_app(settings: Settings) -> Flask:
    """The application; channels to the services are opened by its first requests."""
    app = Flask("gateway", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.url_map.strict_slashes = False
    dialects = (Dialect("v4"),)
    backends = Backends(settings.addresses, frozenset(resource.backend for resource in RESOURCES))
    door = Door(Verifier(settings))
    for dialect in dialects:
        for resource in RESOURCES:
            _add_resource(app, door, Collection(resource, dialect, backends))
        for hub in HUBS:
            _add_resource(app, door, Hub(hub, dialect, backends))
    for action in ACTIONS:
        _add_action(app, door, action, dialects[0], backends)
    _serve(app, door, CONTENT, "GET", DocumentContents(backends).get)
    _add_windows(app, backends, dialects[0])
    _observe(app)
    _refuse(app)
    app.extensions["svyaz-backends"] = backends
    return app


def _serve(
    app: Flask, door: Door, path: str, method: str, handler: Callable[..., Response], respell: Any = str
) -> None:
    """Routes a method of a path to a handler that runs as the caller, refusals turned into error bodies."""

    def view(**arguments: str) -> Response:
        try:
            with using(door.call(request.headers, f"{method} {path}", g.request_id)):
                check_readable(request.query_string)
                return handler(**arguments)
        except DomainError as error:
            trace.get_current_span().set_attribute("svyaz.reason", error.reason)
            # Our own faults name attributes already; a service names fields.
            return problems.refusal(error, respell, conditional=conditional())
        except UnsupportedMediaTypeError as error:
            return problems.answer(415, _REASONS[415], str(error))

    app.add_url_rule(path, f"{method} {path}", view, methods=[method])
    telemetry.begin_at_zero(telemetry.HTTP_REQUESTS, [method], [path], _WATCHED)


def _add_resource(app: Flask, door: Door, collection: Collection) -> None:
    for method, handler in collection.on_collection().items():
        _serve(app, door, collection.path, method, handler, collection.attribute_path)
    for method, on_item in collection.on_item().items():
        _serve(app, door, f"{collection.path}/<id>", method, on_item, collection.attribute_path)


def _add_action(app: Flask, door: Door, action: Action, dialect: Dialect, backends: Backends) -> None:
    asked = descriptor_of(action.request)
    # A call that may be sent again says which one it is, as for the resources.
    keyed = "request_id" in asked.fields_by_name

    def act() -> Response:
        wanted = asked_for(action, body(), dialect)
        if keyed and not wanted.request_id:
            wanted.request_id = request.headers.get("Idempotency-Key", "")
        stub = backends.stub(action.stub, action.backend)
        answer = call(getattr(stub, action.method.name), wanted)
        return Response(encode_json(dialect.json(answer)), content_type=problems.JSON)

    _serve(app, door, action.path, "POST", act, lambda path: dialect.attribute_path(asked, path))


def _add_windows(app: Flask, backends: Backends, dialect: Dialect) -> None:
    """What is open to everybody: the description of the API, and the probes."""
    described = encode_json(document((*RESOURCES, *HUBS), ACTIONS, dialect))

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(described, content_type=problems.JSON)

    @app.get("/healthz")
    def healthz() -> Response:
        return Response(encode_json({"status": "alive"}), content_type=problems.JSON)

    @app.get("/readyz")
    def readyz() -> Response:
        services = backends.readiness()
        ready = all(services.values())
        answer = {"status": "ready" if ready else "notReady", "services": services}
        return Response(encode_json(answer), 200 if ready else 503, content_type=problems.JSON)


def _observe(app: Flask) -> None:
    """A span, a metric and a log line per request, none with more of it than method, route and status."""

    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.request_id = request_id(request.headers)
        parent = extract(request.headers) if "traceparent" in request.headers else None
        g.span = telemetry.tracer().start_span(f"{_method()} {_route()}", context=parent, kind=trace.SpanKind.SERVER)
        g.attached = context.attach(trace.set_span_in_context(g.span))

    @app.after_request
    def measure(response: Response) -> Response:
        method, route, status = _method(), _route(), response.status_code
        seconds = time.perf_counter() - g.started
        telemetry.HTTP_REQUESTS.labels(method, route, str(status)).inc()
        telemetry.HTTP_DURATION.labels(method, route).observe(seconds)
        g.span.set_attribute("http.response.status_code", status)
        response.headers["X-Request-ID"] = g.request_id
        fields = {
            "request_id": g.request_id,
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
        }
        access.info("request", extra={"fields": fields})
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if "span" in g:
            context.detach(g.attached)
            g.span.end()


def _method() -> str:
    return request.method if request.method in _METHODS else "OTHER"


def _route() -> str:
    return request.url_rule.rule if request.url_rule is not None else _NO_ROUTE


def _refuse(app: Flask) -> None:
    """The same error body for what never reaches a handler, and for what fails in one."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        status = error.code or 500
        if status >= 500:
            return problems.internal()
        message = error.description or error.name
        headers = {}
        if isinstance(error, RequestEntityTooLarge):
            message = f"the body is larger than {MAX_BODY_BYTES} bytes"
        elif isinstance(error, MethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        elif status == 404:
            message = "there is nothing at this address"
        return problems.answer(status, _REASONS.get(status, "BAD_REQUEST"), message, headers=headers)
