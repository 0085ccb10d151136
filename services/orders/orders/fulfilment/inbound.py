"""How external systems say by events how their tasks ended (docs/adr/0038-a-system-answers-by-event.md).

A report is a CloudEvent that isn't one of our log: no version of anything, no key. It is read into the envelope of our
own events, under which it is handled once, in the lane of its task, parked and replayed as they are. NATS lets a system
publish its own subjects only, so the system in the subject is believed, and nothing else that a report says of itself.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from nats.js.api import StreamConfig

from chassis.bus import event_stream
from chassis.cloudevents import ReceivedEvent, headers_of, received, system_user
from chassis.convert import from_message
from chassis.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Violation,
)
from chassis.tmfjson import Dialect, parse
from chassis.types import new_id
from chassis.unit import Unit
from orders.fulfilment import store
from orders.fulfilment.domain import FulfilmentTask
from orders.fulfilment.refusal import RefusedFulfilmentReport, refuse
from orders.fulfilment.reports import characteristics_of, completed, not_done, resources_of
from orders.fulfilment.steps import lock
from svyaz.orders.v1 import fulfilment_pb2

# Of the subjects `svyaz.fulfilment.v1.<system>.<type>`.
SOURCE = "fulfilment"
CONSUMER = f"orders-{SOURCE}"
# What a report is called where our own events name an aggregate.
REPORT = "FulfilmentReport"
# The shortest that NATS takes. Repeated reports are told by the inbox, of each system by itself: the stream would drop
# one system's report for another's with the same Nats-Msg-Id.
_DUPLICATE_WINDOW_SECONDS = 0.1

_REQUESTS: Mapping[str, type[Message]] = {
    "FulfilmentTaskCompleted": fulfilment_pb2.CompleteFulfilmentTaskRequest,
    "FulfilmentTaskFailed": fulfilment_pb2.FailFulfilmentTaskRequest,
}
_Request = fulfilment_pb2.CompleteFulfilmentTaskRequest | fulfilment_pb2.FailFulfilmentTaskRequest
_PROTOBUF, _JSON = "application/protobuf", "application/json"
# Short enough for the keys of tables.
_ID = re.compile(r"[\x21-\x7e]{1,200}")
# Not `*`, which stands for all of them.
_BRANCH = re.compile(r"[\w.-]{1,100}")
_ABOUT = "FulfilmentTask"
_dialect = Dialect()


def report_stream() -> StreamConfig:
    """The stream of what the systems say: files, forgotten after 14 days."""
    stream = event_stream(SOURCE)
    stream.duplicate_window = _DUPLICATE_WINDOW_SECONDS
    return stream


# --- reading ---------------------------------------------------------------------------------------------------------


def report_of(subject: str, headers: Mapping[str, str], data: bytes, sequence: int) -> ReceivedEvent:
    """The report in a message, as an event of ours; of one that can't be read, its refusal. Raises ValueError without
    an id or a branch, since then there is nobody to tell."""
    *_, system, kind = _parts(subject)
    report_id, branch = headers.get("ce-id", ""), headers.get("ce-branch", "")
    if not _ID.fullmatch(report_id) or not _ID.fullmatch(system) or not _BRANCH.fullmatch(branch):
        raise ValueError(f"{system!r} doesn't say which report this is, or of which branch: {report_id!r}, {branch!r}")
    about, _, task_id = headers.get("ce-subject", "").partition("/")
    known = about == _ABOUT and _ID.fullmatch(task_id) is not None
    content: Message
    try:
        if not known:
            raise _malformed("ce-subject", f"must be {_ABOUT}/<id>")
        content = _request(kind, headers, data)
        if getattr(content, "id", "") != task_id:
            raise _malformed("id", "must be the id in ce-subject")
    except InvalidArgument as error:
        content = fulfilment_pb2.RefusedFulfilmentReport(
            fulfilment_task_id=task_id if known else None,
            reason=error.reason,
            message=error.message,
            field=_field(error),
        )
    envelope = headers_of(
        id=report_id,
        source=system,
        type=kind,
        # When it has come here: the clocks of others aren't ours.
        time=datetime.now(UTC),
        aggregate_type=REPORT,
        aggregate_id=f"{system}/{report_id}",
        version=1,
        branch=branch,
        key=task_id if known else f"{system}/{report_id}",
        actor=system_user(system),
        on_behalf_of=None,
        schema_revision=1,
        data_type=content.DESCRIPTOR.full_name,
        traceparent=headers.get("traceparent"),
    )
    return received(subject, envelope, content.SerializeToString(), sequence)


def _parts(subject: str) -> list[str]:
    parts = subject.split(".")
    if len(parts) != 5:
        raise ValueError(f"{subject!r} isn't svyaz.{SOURCE}.v1.<system>.<type>")
    return parts


def _request(kind: str, headers: Mapping[str, str], data: bytes) -> Message:
    """What is asked for. Raises InvalidArgument MALFORMED_REPORT naming the header or the attribute."""
    message_class = _REQUESTS.get(kind)
    if message_class is None or headers.get("ce-type") != kind:
        raise _malformed("ce-type", f"must be that of the subject, one of {', '.join(_REQUESTS)}")
    if headers.get("ce-specversion") != "1.0":
        raise _malformed("ce-specversion", "must be 1.0")
    content_type = headers.get("ce-datacontenttype", "").partition(";")[0].strip().lower()
    if content_type == _JSON:
        try:
            return _dialect.message(message_class, parse(data), strict=True)
        except InvalidArgument as error:
            raise _malformed(_field(error) or "data", error.message) from error
    if content_type != _PROTOBUF:
        raise _malformed("ce-datacontenttype", f"must be {_PROTOBUF} or {_JSON}")
    try:
        message = message_class.FromString(data)
    except DecodeError as error:
        raise _malformed("data", f"isn't a {message_class.DESCRIPTOR.full_name}") from error
    # In a text, and in the JSON of a value. PostgreSQL has no place for it.
    if "\\u0000" in MessageToJson(message) or b"\\u0000" in data:
        raise _malformed("data", "must not hold the character U+0000")
    return message


def _malformed(field: str, description: str) -> InvalidArgument:
    return InvalidArgument("MALFORMED_REPORT", f"{field} {description}", violations=[Violation(field, description)])


def _field(error: DomainError) -> str | None:
    return next((violation.field for violation in error.violations if violation.field), None)


# --- handling --------------------------------------------------------------------------------------------------------


def reported(event: ReceivedEvent, unit: Unit) -> None:
    """Does what a system asks for, as the methods of the same requests do, or refuses it."""
    if event.data_type == fulfilment_pb2.RefusedFulfilmentReport.DESCRIPTOR.full_name:
        about = event.message(fulfilment_pb2.RefusedFulfilmentReport)
        refuse(unit, _refusal(event, about))
        return
    request: _Request
    if event.type == "FulfilmentTaskCompleted":
        request = event.message(fulfilment_pb2.CompleteFulfilmentTaskRequest)
    else:
        request = event.message(fulfilment_pb2.FailFulfilmentTaskRequest)
    about = fulfilment_pb2.RefusedFulfilmentReport(fulfilment_task_id=request.id, attempt=request.attempt)
    try:
        order_id = store.order_of(unit, request.id)
        if order_id is None:
            raise NotFound("NOT_FOUND", f"branch {event.branch!r} has no task {request.id!r}")
        about.product_order_id = order_id
        lock(unit, order_id)
        task = unit.get(FulfilmentTask, request.id)
        if task.system != event.source:
            raise PermissionDenied("OTHER_SYSTEM", f"the task isn't one of {event.source!r}")
        _take(unit, task, request)
    except (NotFound, PermissionDenied, InvalidArgument, FailedPrecondition) as error:
        about.reason, about.message = error.reason, error.message
        if field := _field(error):
            about.field = field
        refuse(unit, _refusal(event, about))


def _take(unit: Unit, task: FulfilmentTask, request: _Request) -> None:
    """Changes nothing when it raises."""
    if isinstance(request, fulfilment_pb2.CompleteFulfilmentTaskRequest):
        result, resource = characteristics_of(request.result), resources_of(request.resource)
        completed(unit, task, request.attempt, result, resource)
    elif not task.failed_before(request.attempt):
        not_done(unit, task, request.attempt, request.reason, retryable=request.retryable)


def _refusal(event: ReceivedEvent, about: fulfilment_pb2.RefusedFulfilmentReport) -> RefusedFulfilmentReport:
    refused = from_message(about, RefusedFulfilmentReport, id=new_id(), branch=event.branch)
    refused.system, refused.event_id, refused.event_type = event.source, event.id, event.type
    return refused


_PARKED = "SELECT headers ->> 'ce-subject' FROM parked_event WHERE consumer = %(consumer)s AND key = ANY (%(tasks)s)"


def parked_about(unit: Unit, task_ids: list[str]) -> list[str]:
    """The ids (as of aggregates) of the reports about these tasks that wait for a person to see to them."""
    rows = unit.cursor().execute(_PARKED, {"consumer": CONSUMER, "tasks": task_ids}) if task_ids else ()
    return sorted({str(subject).partition("/")[2] for (subject,) in rows})
