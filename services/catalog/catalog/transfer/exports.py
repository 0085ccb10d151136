"""Carries exports out: the catalog, or what a query finds of it with all that it refers to, as TM Forum JSON."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import sqlalchemy as sa

from catalog.product import store as products
from catalog.product.domain import CatalogItem
from catalog.transfer import store
from catalog.transfer.domain import ATTACHED, ATTEMPTS, ContentError, ExportJob, File, JobState
from catalog.transfer.files import MAX_BYTES, Folder
from catalog.transfer.tmforum import KINDS, collection_of, write
from chassis import convert, queries
from chassis.auth import EVERY_BRANCH
from chassis.calls import Call
from chassis.errors import InvalidArgument, Violation
from chassis.timers import TimerHandler, last_error, set_timer
from chassis.tmfjson import Dialect
from chassis.unit import Unit
from svyaz.type.v1 import requests_pb2

EXPORT = "export"
_DIALECT = Dialect("v4")
_FILTER = requests_pb2.Filter
_OPERATORS: Mapping[str, "requests_pb2.Filter.Operator.ValueType"] = {
    "gt": _FILTER.OPERATOR_GT,
    "gte": _FILTER.OPERATOR_GTE,
    "lt": _FILTER.OPERATOR_LT,
    "lte": _FILTER.OPERATOR_LTE,
    "ne": _FILTER.OPERATOR_NE,
    "regex": _FILTER.OPERATOR_REGEX,
}
JSON = "application/json"


class Exports:
    """The steps of export jobs. One that a dying process leaves is begun anew: nothing but its content is written."""

    def __init__(self, folder: Folder, *, attempts: int = ATTEMPTS) -> None:
        self._folder = folder
        self._attempts = attempts

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → handler."""
        return {EXPORT: self.step}

    def step(self, job_id: str, unit: Unit) -> None:
        """Takes the job one step further."""
        job = unit.find(ExportJob, job_id)
        if job is None or (job.status is not None and job.status.final):
            return
        call = Call.background("catalog", f"timer/{EXPORT}", branches=(EVERY_BRANCH,), on_behalf_of=job.requested_by)
        with unit.on_behalf(call):
            if job.status is not JobState.RUNNING:
                job.move(JobState.RUNNING, unit.at)
                set_timer(unit, job.id, EXPORT, unit.at, job.branch)
                return
            failing = last_error(unit, job.id, EXPORT, self._attempts)
            if failing is not None:
                job.give_up(failing, unit.at)
                return
            try:
                self._write(unit, job)
            except ContentError as error:
                job.fail(error.reason, unit.at)
            except InvalidArgument as error:
                job.fail(f"{error.reason}: {error.message}", unit.at)

    def _write(self, unit: Unit, job: ExportJob) -> None:
        items = _chosen(unit, job)
        found: dict[str, list[Any]] = {name: [] for name in KINDS}
        for item in items:
            name = collection_of(item)
            found[name].append(convert.to_message(item, KINDS[name][1]))
        data = write(found)
        if len(data) > MAX_BYTES:
            raise ContentError(f"it would have {len(data)} bytes: export it in parts")
        url = job.url or ""
        if url.startswith(ATTACHED):
            store.keep_content(unit, job.id, [File(url.removeprefix(ATTACHED) or "catalog.json", data)])
        else:
            # Before the commit: a job that says that it has written has.
            self._folder.write(url, data)
            store.keep_content(unit, job.id, [File(url.rpartition("/")[2], data)])
        job.done, job.size, job.sha256 = len(items), len(data), hashlib.sha256(data).hexdigest()
        job.move(JobState.SUCCEEDED, unit.at)


def check(job: ExportJob) -> None:
    """Raises InvalidArgument for what could never be exported."""
    if job.content_type not in (None, JSON):
        raise _bad("content_type", f"only {JSON} is written")
    collection = _collection(job)
    if job.query:
        if collection is None:
            raise _bad("query", "a query is about a collection: state its path")
        cls, message = KINDS[collection]
        queries.conditions(products.RESOURCES[cls].table, message, _filters(job.query, message))


def _bad(name: str, reason: str) -> InvalidArgument:
    return InvalidArgument("BAD_ATTRIBUTE", f"{name}: {reason}", violations=[Violation(name, reason)])


def _collection(job: ExportJob) -> str | None:
    """The collection of the path; None: all."""
    if not job.path or not job.path.strip("/"):
        return None
    last = job.path.rstrip("/").rpartition("/")[2]
    if last in KINDS:
        return last
    if last in ("v4", "productCatalogManagement"):
        return None
    raise _bad("path", f"{last!r} isn't one of {', '.join(KINDS)}")


def _filters(query: str, message: Any) -> list[requests_pb2.Filter]:
    filters = []
    for name, value in parse_qsl(query.removeprefix("?"), keep_blank_values=True):
        path, _, operator = name.rpartition(".")
        if operator not in _OPERATORS:
            path, operator = name, ""
        quoted = len(value) > 1 and value[0] == value[-1] == '"'
        values = [value[1:-1]] if quoted else [value] if operator == "regex" else value.split(",")
        filters.append(
            _FILTER(
                path=_DIALECT.field_path(message.DESCRIPTOR, path),
                operator=_OPERATORS.get(operator, _FILTER.OPERATOR_EQ),
                value=values,
            )
        )
    return filters


def _chosen(unit: Unit, job: ExportJob) -> list[CatalogItem]:
    """What the job asks for, with everything that it refers to, however far, in the order of ids."""
    every = {(type(item), item.id): item for item in _everything(unit)}
    collection = _collection(job)
    if collection is None:
        return list(every.values())
    cls, message = KINDS[collection]
    table = products.RESOURCES[cls].table
    where = queries.conditions(table, message, _filters(job.query, message)) if job.query else []
    waiting = [(cls, key) for key in unit.session.scalars(sa.select(table.c.id).where(*where))]
    wanted: set[tuple[type[CatalogItem], str]] = set()
    while waiting:
        node = waiting.pop()
        if node in every and node not in wanted:
            wanted.add(node)
            waiting += [(reference.cls, reference.id) for reference in every[node].references()]
    return [item for node, item in every.items() if node in wanted]


def _everything(unit: Unit) -> Iterable[CatalogItem]:
    for cls, _ in KINDS.values():
        yield from unit.session.scalars(sa.select(cls).order_by(products.RESOURCES[cls].table.c.id))
