"""What is in documents, as bytes: where the `url` of an attachment leads whose content is kept by us."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from flask import Response

from chassis import calls
from chassis.clients import call
from gateway.backends import Backends
from svyaz.customers.v1 import document_pb2, document_pb2_grpc

PATH = "/document/v1/document/<id>/attachment/<attachment>"


class DocumentContents:
    """The contents of attachments, piece by piece from the service that keeps them."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def get(self, id: str, attachment: str) -> Response:
        """GET of a content."""
        first = self._piece(id, attachment, 0)
        response = Response(self._rest(id, attachment, first, calls.current()), content_type=first.mime_type)
        response.content_length = first.size
        # Never shown by the browser as a page of ours, whatever somebody has sent in.
        name = quote(first.name or attachment, safe="")
        response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        # A content has its hash for ever; the attachment may get another.
        response.headers["ETag"] = f'"{first.content_hash}"'
        response.headers["Cache-Control"] = "private, no-cache"
        return response

    def _rest(self, id: str, attachment: str, first: Any, caller: calls.Call) -> Iterator[bytes]:
        yield first.data
        received = len(first.data)
        while received < first.size:
            # The answer is under way: the request that it belongs to isn't current any more.
            with calls.using(caller):
                piece = self._piece(id, attachment, received)
            if not piece.data or piece.content_hash != first.content_hash:
                # Somebody has put another content in its place: what is sent so far isn't made whole by that.
                raise ConnectionAbortedError(f"the content of {id}/{attachment} has changed while it was sent")
            yield piece.data
            received += len(piece.data)

    def _piece(self, id: str, attachment: str, offset: int) -> Any:
        stub: Any = self._backends.stub(document_pb2_grpc.DocumentServiceStub, "customers")
        wanted = document_pb2.GetContentRequest(document_id=id, attachment_id=attachment, offset=offset)
        return call(stub.GetContent, wanted)
