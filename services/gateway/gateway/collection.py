"""What one resource of the table does over HTTP: the same for all of them."""

from collections.abc import Callable
from typing import Any

from flask import Response, request
from google.protobuf.timestamp_pb2 import Timestamp
from werkzeug.exceptions import RequestEntityTooLarge

from chassis.clients import call
from chassis.errors import Aborted, InvalidArgument, Violation
from chassis.scalars import IllTypedError, encode_json, instant_in
from chassis.tmfjson import Dialect, bad_attributes, descriptor_of, parse, select
from gateway import query
from gateway.backends import Backends
from gateway.problems import JSON
from gateway.resources import CREATE, DELETE, GET, LIST, UPDATE, Resource

_MERGE = "application/merge-patch+json"
_LONGEST_KEY = 255
MAX_BODY_BYTES = 1024 * 1024


class UnsupportedMediaTypeError(Exception):
    """The body is in a form that isn't read here; the message names those that are."""


def body(accepted: tuple[str, ...] = (JSON,)) -> Any:
    """The JSON value of the request's body.

    Raises UnsupportedMediaTypeError, InvalidArgument for what isn't JSON, and werkzeug's RequestEntityTooLarge.
    """
    if request.mimetype and request.mimetype not in accepted:
        raise UnsupportedMediaTypeError(f"the body must be {' or '.join(accepted)}, not {request.mimetype}")
    text = request.get_data(cache=False)
    if len(text) > MAX_BODY_BYTES:
        # A body that states no length is cut off by werkzeug at its own limit, one byte above ours.
        raise RequestEntityTooLarge
    value = parse(text)
    if not isinstance(value, dict):
        raise InvalidArgument("MALFORMED_BODY", "the body must be a JSON object")
    return value


def strict() -> bool:
    """Whether the caller wants unknown attributes refused (RFC 7240, `Prefer: handling=strict`)."""
    preferences = ",".join(request.headers.getlist("Prefer")).replace(";", ",").split(",")
    return any(item.replace(" ", "").replace('"', "").lower() == "handling=strict" for item in preferences)


def conditional() -> bool:
    """Whether the change is to happen only to what has a stated etag (RFC 9110, 13.1.1)."""
    return request.headers.get("If-Match", "*").strip() != "*"


def parameters() -> list[tuple[str, str]]:
    """The query parameters, in order."""
    return list(request.args.items(multi=True))


class Collection:
    """A resource in one version of the dialect, on its service."""

    def __init__(self, resource: Resource, dialect: Dialect, backends: Backends) -> None:
        self.resource = resource
        self.dialect = dialect
        self.path = resource.path(dialect.version)
        self.descriptor = descriptor_of(resource.message_class)
        self._backends = backends
        self._requests = resource.requests
        self._names = {verb: resource.method(verb).name for verb in self._requests}

    def on_collection(self) -> dict[str, Callable[[], Response]]:
        """HTTP method → handler, for the collection."""
        return self._allowed({"GET": (LIST, self.list), "POST": (CREATE, self.create)})

    def on_item(self) -> dict[str, Callable[[str], Response]]:
        """HTTP method → handler, for one resource."""
        return self._allowed({"GET": (GET, self.get), "PATCH": (UPDATE, self.update), "DELETE": (DELETE, self.delete)})

    def _allowed(self, handlers: dict[str, tuple[str, Any]]) -> dict[str, Any]:
        return {method: handler for method, (verb, handler) in handlers.items() if verb in self.resource.allowed}

    def attribute_path(self, field_path: str) -> str:
        """A field path from the service as the caller knows it; the request's own field in front is left off."""
        head, _, rest = field_path.partition(".")
        return self.dialect.attribute_path(
            self.descriptor, rest if rest and head == self.resource.body_field else field_path
        )

    def _call(self, verb: str, arguments: Any, *, repeatable: bool = True) -> Any:
        stub = self._backends.stub(self.resource.stub, self.resource.backend)
        return call(getattr(stub, self._names[verb]), arguments, attempts=3 if repeatable else 1)

    def _answer(self, message: Any, status: int = 200) -> Response:
        href = f"{self.path}/{message.id}"
        document = self.dialect.resource(message, href)
        wanted = query.selection(parameters())
        if wanted is not None:
            document = select(document, wanted)
        response = Response(encode_json(document), status, content_type=JSON)
        response.headers["ETag"] = f'"{message.etag}"'
        if status == 201:
            response.headers["Location"] = href
        return response

    def list(self) -> Response:
        """GET of the collection."""
        given = parameters()
        if "at" in request.args:
            raise query.bad_parameter("at", f"is for one resource: {self.path}/{{id}}?at=")
        page = query.page(given)
        answer = self._call(
            LIST,
            self._requests[LIST](
                filter=query.conditions(given, self.dialect, self.descriptor, self.path),
                sort=query.order(given, self.dialect, self.descriptor),
                offset=page.offset,
                limit=page.size,
            ),
        )
        items, total = answer.items, answer.page.total_size
        end = page.offset + len(items)
        # An estimate may be off either way: a full page then means that more may follow.
        full = len(items) == page.size or answer.page.truncated
        more = full if answer.page.estimated else end < total
        more = more and bool(items or not page.size)
        if answer.page.estimated:
            total = max(total, end)
        wanted = query.selection(given)
        documents = [self.dialect.resource(item, f"{self.path}/{item.id}") for item in items]
        if wanted is not None:
            documents = [select(document, wanted) for document in documents]
        response = Response(encode_json(documents), 206 if more else 200, content_type=JSON)
        response.headers["X-Total-Count"] = str(total)
        response.headers["X-Result-Count"] = str(len(documents))
        if answer.page.estimated:
            response.headers["X-Total-Count-Estimated"] = "true"
        if more or page.limit is not None:
            response.headers["Link"] = query.links(self.path, given, page, total, end if more else None)
        return response

    def create(self) -> Response:
        """POST to the collection."""
        message: Any = self.dialect.message(self.resource.message_class, body(), strict=strict())
        if not message.at_type:
            # Stored, so that a filter by @type finds what every answer shows.
            message.at_type = self.descriptor.name
        key = _idempotency_key()
        created = self._call(
            CREATE,
            self._requests[CREATE](
                request_id=key,
                branch=request.headers.get("X-Branch", ""),
                **{self.resource.body_field: message},
            ),
            repeatable=bool(key),
        )
        return self._answer(created, 201)

    def get(self, id: str) -> Response:
        """GET of one resource, as it is or as it was `at` an instant."""
        message = self._call(GET, self._requests[GET](id=id, at=_instant("at")))
        if _matches(request.headers.get("If-None-Match", ""), message.etag):
            return Response(status=304, headers={"ETag": f'"{message.etag}"'})
        return self._answer(message)

    def update(self, id: str) -> Response:
        """PATCH of one resource: a merge patch (RFC 7386), whichever of its two media types it comes in."""
        patch = body((JSON, _MERGE))
        self._check_identity(patch, id)
        message, mask = self.dialect.patch(self.resource.message_class, patch, strict=strict())
        changed: Any = message
        changed.id = id
        if "at_type" in mask and not changed.at_type:
            # Removed, it is what it is where none is stated.
            changed.at_type = self.descriptor.name
        key = _idempotency_key()
        arguments: Any = self._requests[UPDATE](
            request_id=key, etag=self._if_match(id), **{self.resource.body_field: changed}
        )
        arguments.update_mask.paths.extend(mask)
        return self._answer(self._call(UPDATE, arguments, repeatable=bool(key)))

    def delete(self, id: str) -> Response:
        """DELETE of one resource."""
        key = _idempotency_key()
        self._call(DELETE, self._requests[DELETE](request_id=key, id=id, etag=self._if_match(id)), repeatable=bool(key))
        return Response(status=204)

    def _if_match(self, id: str) -> str:
        """The etag that the change is based on; empty for any (RFC 9110, 13.1.1)."""
        if not conditional():
            return ""
        header = request.headers["If-Match"]
        tags = [tag.strip() for tag in header.split(",") if tag.strip()]
        if not tags or "*" in tags:
            raise query.bad_parameter("If-Match", "must be * or name etags")
        named = [tag.removeprefix("W/").strip('"') for tag in tags]
        if len(named) == 1 and named[0]:
            return named[0]
        if len(named) > 1 and request.headers.get("Idempotency-Key"):
            # Sent again it would be compared with another one, and so be another request.
            raise query.bad_parameter("If-Match", "must name one etag beside an Idempotency-Key")
        # The service compares with one: with the one of them that is it now, if there is such.
        present = self._call(GET, self._requests[GET](id=id)).etag
        if present in named:
            return str(present)
        raise Aborted("STALE_ETAG", f'If-Match names {header}, and the etag is "{present}"')

    def _check_identity(self, patch: dict[str, Any], id: str) -> None:
        own = {"id": (id,), "href": (f"{self.path}/{id}", f"{request.host_url.rstrip('/')}{self.path}/{id}")}
        faults = [
            Violation(name, "can't be changed")
            for name, same in own.items()
            if name in patch and patch[name] not in same
        ]
        if faults:
            raise bad_attributes(faults)


def _instant(name: str) -> Timestamp | None:
    value = request.args.get(name)
    if value is None:
        return None
    try:
        return Timestamp(**instant_in(value))
    except IllTypedError as error:
        raise query.bad_parameter(name, str(error)) from None


def _idempotency_key() -> str:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise query.bad_parameter("Idempotency-Key", f"must be at most {_LONGEST_KEY} printable ASCII characters")
    return key


def _etags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",") if tag.strip()]


def _matches(header: str, etag: str) -> bool:
    tags = _etags(header)
    return etag in tags or "*" in tags
