"""Carries imports out: reads the content, gives its things ids, and brings them in, a batch in each transaction.

Each step is the handler of a timer, in whose transaction the job's progress is kept: a process that dies loses the
step that it was in, and another takes it up. What has been brought in is remembered by source, kind and key, with a
digest of what it was: the same again is left alone, something else under the same key is a change.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from catalog.product import store as products
from catalog.product.api import check_among_others
from catalog.product.domain import CONTAINMENT, TRANSITIONS, CatalogItem, LifecycleStatus, check_parts
from catalog.transfer import killbill_items, store, tariffs, tmforum
from catalog.transfer.domain import (
    ATTACHED,
    ATTEMPTS,
    Content,
    ContentError,
    Element,
    File,
    Finding,
    FindingKind,
    ImportJob,
    JobState,
    TransferFormat,
)
from catalog.transfer.files import Folder, named, unpacked
from catalog.transfer.references import in_order, refer_to_ours
from chassis import convert
from chassis.auth import EVERY_BRANCH
from chassis.calls import Call
from chassis.errors import DomainError, FailedPrecondition
from chassis.references import lock_references
from chassis.timers import TimerHandler, last_error, set_timer
from chassis.types import new_id
from chassis.unit import MAX_EVENT_BYTES, Unit

IMPORT = "import"
BATCH = 500
# The first versions of series, where a source names series and not their first versions.
SERIES = "Series"

Check = Callable[[Unit, CatalogItem], None]
ReadAhead = Callable[[Unit, Sequence[CatalogItem]], None]

_READERS: Mapping[TransferFormat, Callable[[Sequence[File]], Content]] = {
    TransferFormat.TM_FORUM: tmforum.read,
    TransferFormat.KILL_BILL: killbill_items.read,
    TransferFormat.OPERATOR_TARIFFS: tariffs.read,
}
_BY_CONTENT = {
    "json": TransferFormat.TM_FORUM,
    "xml": TransferFormat.KILL_BILL,
    "csv": TransferFormat.OPERATOR_TARIFFS,
}
# The id and the stamps are ours; a status has rules of its own, and a version stays in its series.
_KEPT = frozenset({"id", "branch", "revision", "last_update", "lifecycle_status", "series"})


def on_behalf_of(job: ImportJob) -> Call:
    """Whose changes those of the job are."""
    return Call.background("catalog", f"timer/{IMPORT}", branches=(EVERY_BRANCH,), on_behalf_of=job.requested_by)


@dataclass(slots=True)
class _Ready:
    """An element as it will be here."""

    node: tuple[str, str]
    item: CatalogItem
    place: str
    digest: bytes
    # The status that the content states.
    stated: LifecycleStatus | None


@dataclass
class _Plan:
    """A job's content as it will be here, in the order in which it is brought in."""

    source: str
    elements: list[_Ready] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    refused: int = 0
    rows_read: int = 0
    rules_resolved: int = 0
    rules_reported: int = 0


@dataclass
class _Outcome:
    """What has become of a batch."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    findings: list[Finding] = field(default_factory=list)

    def refuse(self, element: _Ready, error: DomainError) -> None:
        """Notes why the element wasn't brought in."""
        faults = [(fault.field, fault.description) for fault in error.violations] or [("", error.message)]
        for name, reason in faults:
            self._find(FindingKind.REFUSED, error.reason, element, name, reason)

    def report(self, code: str, element: _Ready, name: str, reason: str) -> None:
        """Notes what is otherwise than it was written."""
        self._find(FindingKind.REPORTED, code, element, name, reason)

    def _find(self, kind: FindingKind, code: str, element: _Ready, name: str, reason: str) -> None:
        self.findings.append(
            Finding(kind=kind, code=code, reason=reason, place=element.place, element=element.node[1], field=name)
        )


class Imports:
    """The steps of import jobs. Each thing is shown in its transaction to `created` when it is new, or to `taken_over`
    when an admin's job takes it as it is, and to `changed` otherwise; they refuse it by raising a DomainError. What
    they read of others for the new things of a batch, `read_ahead` reads at once."""

    def __init__(
        self,
        folder: Folder,
        *,
        read_ahead: ReadAhead,
        created: Check,
        taken_over: Check,
        changed: Check,
        batch: int = BATCH,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._folder = folder
        self._read_ahead = read_ahead
        self._created = created
        self._taken_over = taken_over
        self._changed = changed
        self._batch = batch
        self._attempts = attempts
        # What was read last, so that a batch needn't read the whole content again.
        self._last: tuple[str, _Plan] | None = None
        self._lock = threading.Lock()

    def timers(self) -> Mapping[str, TimerHandler]:
        """Purpose → handler."""
        return {IMPORT: self.step}

    def step(self, job_id: str, unit: Unit) -> None:
        """Takes the job one step further."""
        job = unit.find(ImportJob, job_id)
        if job is None or (job.status is not None and job.status.final):
            return
        with unit.on_behalf(on_behalf_of(job)):
            if job.status is not JobState.RUNNING:
                job.move(JobState.RUNNING, unit.at)
            elif (error := last_error(unit, job.id, IMPORT, self._attempts)) is not None:
                job.give_up(error, unit.at)
            elif job.total is None:
                self._begin(unit, job)
            else:
                self._bring_in(unit, job)
            if job.status is JobState.RUNNING:
                set_timer(unit, job.id, IMPORT, unit.at, job.branch)

    # --- reading ---

    def _begin(self, unit: Unit, job: ImportJob) -> None:
        """Reads everything and reserves ids; nothing of the catalog is written yet."""
        try:
            if not (job.url or "").startswith(ATTACHED):
                # Kept with the job, so that it is the same to its end.
                store.keep_content(unit, job.id, self._folder.read(job.url or ""))
                unit.flush()
            plan = self._plan(unit, job, first=True)
        except ContentError as error:
            store.add_findings(unit, job.id, error.findings)
            job.log(error.findings)
            refused = sum(finding.kind is FindingKind.REFUSED for finding in error.findings)
            job.count(refused=refused)
            job.give_up(error.reason, unit.at)
            return
        store.add_findings(unit, job.id, plan.findings)
        job.log(plan.findings)
        job.source = plan.source
        job.count(
            total=len(plan.elements),
            done=0,
            created=0,
            changed=0,
            unchanged=0,
            refused=plan.refused,
            rows_read=plan.rows_read,
            rules_resolved=plan.rules_resolved,
            rules_reported=plan.rules_reported,
        )
        if not plan.elements:
            job.move(JobState.SUCCEEDED, unit.at)

    def _plan(self, unit: Unit, job: ImportJob, *, first: bool = False) -> _Plan:
        """What the job's content says. The same whenever it is read, but for the findings of the first time."""
        with self._lock:
            if self._last is not None and self._last[0] == job.id and not first:
                return self._last[1]
        plan = _Planning(unit, job, first).plan(self._read(unit, job))
        with self._lock:
            self._last = (job.id, plan)
        return plan

    @staticmethod
    def _read(unit: Unit, job: ImportJob) -> Content:
        files = unpacked(store.content(unit, job.id))
        if not files:
            raise ContentError("there is no content")
        return _READERS[_format(job, files)](files)

    # --- writing ---

    def _bring_in(self, unit: Unit, job: ImportJob) -> None:
        plan = self._plan(unit, job)
        done = job.done or 0
        some = plan.elements[done : done + self._batch]
        outcome = self._batch_of(unit, job, plan, some)
        store.add_findings(unit, job.id, outcome.findings)
        job.log(outcome.findings)
        refused = len(some) - outcome.created - outcome.changed - outcome.unchanged
        job.count(
            done=len(some),
            created=outcome.created,
            changed=outcome.changed,
            unchanged=outcome.unchanged,
            refused=refused,
        )
        if (job.done or 0) >= (job.total or 0):
            job.move(JobState.SUCCEEDED, unit.at)
            with self._lock:
                self._last = None

    def _batch_of(self, unit: Unit, job: ImportJob, plan: _Plan, some: Sequence[_Ready]) -> _Outcome:
        lock_references(unit)
        outcome = _Outcome()
        allowed = self._taken_over if job.keeps_status else self._created
        known = store.known(unit, job.id, plan.source, [element.node for element in some])
        there = _existing(unit, ((type(e.item), e.item.id) for e in some if not _is_new(e, known[e.node])))
        self._read_ahead(unit, [e.item for e in some if (type(e.item), e.item.id) not in there])
        differing = [e for e in some if (type(e.item), e.item.id) in there and known[e.node].digest != e.digest]
        # Those that are changed are found in the unit, one by one.
        for cls in {type(e.item) for e in differing}:
            unit.load(cls, "id = ANY (%(ids)s)", {"ids": [e.item.id for e in differing if type(e.item) is cls]})
        parts = (part for element in some if element.item.status.live for part in element.item.parts())
        statuses = products.statuses(unit, parts)
        for element in some:
            here = known[element.node]
            exists = (type(element.item), element.item.id) in there
            if not exists and here.digest is not None:
                gone = FailedPrecondition("DELETED", "it was deleted while the job was running: import it again")
                outcome.refuse(element, gone)
                continue
            if exists and here.digest == element.digest:
                outcome.unchanged += 1
                continue
            try:
                if not exists:
                    self._create(unit, element, here, statuses, allowed)
                    outcome.created += 1
                elif self._change(unit, element, outcome):
                    outcome.changed += 1
                else:
                    outcome.unchanged += 1
            except DomainError as error:
                outcome.refuse(element, error)
            else:
                store.done(unit, plan.source, *element.node, element.digest)
        return outcome

    def _create(
        self,
        unit: Unit,
        element: _Ready,
        here: store.Known,
        statuses: dict[tuple[type[CatalogItem], str], LifecycleStatus | None],
        allowed: Check,
    ) -> None:
        # A copy: should the transaction fail, the step begins anew with what was read.
        item = dataclasses.replace(element.item)
        item.check(unit.at)
        if here.fresh or not any(reference.field in CONTAINMENT for reference in item.references()):
            # Nothing here referred to its id before this job, whose own things were looked at for cycles together.
            check_parts(item, statuses)
            allowed(unit, item)
            products.refer(unit, item, item.references(), new=True)
        else:
            unit.flush()
            _undone_by_refusal(unit, lambda: check_among_others(unit, item))
            allowed(unit, item)
        unit.add(item)
        statuses[type(item), item.id] = item.status

    def _change(self, unit: Unit, element: _Ready, outcome: _Outcome) -> bool:
        """Whether anything was to be changed in what is there."""
        item = unit.get(type(element.item), element.item.id)
        wanted = {
            one.name: getattr(element.item, one.name)
            for one in dataclasses.fields(item)
            if one.name not in _KEPT and getattr(item, one.name) != getattr(element.item, one.name)
        }
        status = element.item.status
        if status is not item.status:
            # Somebody may have taken it further here than the file knows.
            reason = _why_not(element, item.status)
            if reason is None:
                wanted["lifecycle_status"] = status
            else:
                outcome.report("STATUS_KEPT", element, "lifecycle_status", f"it stays {item.status}: {reason}")
        if not wanted:
            return False

        def revise() -> None:
            item.revise(wanted, unit.at)
            self._changed(unit, item)

        try:
            _undone_by_refusal(unit, revise)
        except DomainError:
            unit.session.refresh(item)
            raise
        return True


def _is_new(element: _Ready, here: store.Known) -> bool:
    """Whether it can't be here yet: the job gave it its id, which wasn't one of ours already, and hasn't used it."""
    return here.fresh and here.digest is None and here.id != element.node[1]


def _why_not(element: _Ready, before: LifecycleStatus) -> str | None:
    """Why a thing that is here doesn't get the status that a new one would get; None: it does."""
    if element.stated is None:
        return "the file states none"
    if element.stated is not element.item.status:
        return f"only an admin brings something in as {element.stated}"
    if element.stated not in TRANSITIONS[before]:
        return f"from there it can't become {element.stated}"
    return None


def _undone_by_refusal(unit: Unit, work: Callable[[], None]) -> None:
    unit.session.execute(_SAVE)
    try:
        work()
    except DomainError:
        unit.session.execute(_UNDO)
        raise
    unit.session.execute(_RELEASE)


_SAVE, _UNDO, _RELEASE = (
    sa.text(statement)
    for statement in ("SAVEPOINT element", "ROLLBACK TO SAVEPOINT element", "RELEASE SAVEPOINT element")
)


def _format(job: ImportJob, files: Sequence[File]) -> TransferFormat:
    if job.format is not None:
        return job.format
    stated = (job.content_type or "").partition(";")[0].strip().lower()
    for word, found in _BY_CONTENT.items():
        if stated.endswith(word):
            return found
    if not stated or stated == "application/octet-stream":
        for word, found in _BY_CONTENT.items():
            if len(named(files, f".{word}")) == len(files):
                return found
    raise ContentError("nothing says what the content is: state its format")


class _Planning:
    """Makes a plan of content."""

    def __init__(self, unit: Unit, job: ImportJob, first: bool) -> None:
        self._unit = unit
        self._job = job
        self._first = first

    def plan(self, content: Content) -> _Plan:
        """Ids are given to all of its things, if they have none yet."""
        source = self._job.source or content.source
        plan = _Plan(source, rows_read=content.rows_read)
        elements, turning = in_order(content.elements)
        for element in turning:
            content.refuse("CYCLE", "it would contain itself", place=element.place, element=element.key)
        if self._first:
            self._reserve(source, elements)
            self._missing(source, content)
        ids = self._ids(source, elements)
        unresolved = self._ready(plan, content, elements, ids)
        if content.counts_references:
            every = sum(1 for element in elements for _ in element.item.references())
            content.rules_resolved, content.rules_reported = every - unresolved, unresolved
        plan.findings = content.findings
        # Elements, of which one may have several faults.
        plan.refused = len({(one.place, one.element) for one in content.findings if one.kind is FindingKind.REFUSED})
        plan.rules_resolved, plan.rules_reported = content.rules_resolved, content.rules_reported
        return plan

    def _reserve(self, source: str, elements: Sequence[Element]) -> None:
        """An id for each; one that is ours already stays what it is."""
        ours = _existing(self._unit, ((type(element.item), element.key) for element in elements))
        wanted = {
            (element.kind, element.key): element.key if (type(element.item), element.key) in ours else new_id()
            for element in elements
        }
        store.reserve(self._unit, self._job.id, source, wanted)
        known = self._born_again(source, elements, store.known(self._unit, self._job.id, source, wanted))
        firsts: dict[tuple[str, str], str] = {}
        for element in elements:
            series = getattr(element.item, "series", None)
            if series and (element.kind, series) not in wanted:
                firsts.setdefault((SERIES, series), known[element.kind, element.key].id)
        if firsts:
            store.reserve(self._unit, self._job.id, source, firsts)

    def _born_again(
        self, source: str, elements: Sequence[Element], known: dict[tuple[str, str], store.Known]
    ) -> dict[tuple[str, str], store.Known]:
        """What was brought in before and has been deleted since gets another id: nothing refers to it any more, and
        whoever has heard of its revisions would take the new ones for those."""
        brought = {
            (type(element.item), known[node].id): node
            for element in elements
            if known[node := (element.kind, element.key)].digest is not None
        }
        gone = brought.keys() - _existing(self._unit, brought)
        if not gone:
            return known
        # A series goes by the id of its first version.
        store.give_anew(
            self._unit,
            self._job.id,
            source,
            {brought[one]: known[brought[one]] for one in gone},
            also={"ProductOffering": SERIES},
        )
        return store.known(self._unit, self._job.id, source, known)

    def _missing(self, source: str, content: Content) -> None:
        """Offerings that an earlier file of the source had and this one hasn't: somebody must decide about them."""
        if not content.complete:
            return
        names = {element.key.partition("@")[0] for element in content.elements if element.kind == "ProductOffering"}
        for key in sorted(store.keys_of(self._unit, source, "ProductOffering")):
            if key.partition("@")[0] not in names:
                content.report("NOT_IN_FILE", "an earlier file had it; retire it here if it is gone", element=key)

    def _ids(self, source: str, elements: Sequence[Element]) -> Mapping[tuple[str, str], str]:
        """(kind, key) → id, of the elements and of what they refer to."""
        nodes = {(element.kind, element.key) for element in elements}
        others: dict[tuple[type[CatalogItem], str], None] = {}
        for element in elements:
            for reference in element.item.references():
                if reference.id:
                    nodes.add((reference.cls.__name__, reference.id))
                    others[reference.cls, reference.id] = None
                    if reference.field == "series":
                        nodes.add((SERIES, reference.id))
        known = store.known(self._unit, self._job.id, source, nodes)
        ids = {node: here.id for node, here in known.items()}
        elsewhere = [(cls, key) for cls, key in others if (cls.__name__, key) not in ids]
        for cls, key in _existing(self._unit, elsewhere):
            ids[cls.__name__, key] = key
        return ids

    def _ready(
        self, plan: _Plan, content: Content, elements: Sequence[Element], ids: Mapping[tuple[str, str], str]
    ) -> int:
        """Adds what can be brought in; how many references lead nowhere."""
        unresolved = 0

        def resolve(cls: type[CatalogItem], key: str) -> str | None:
            return ids.get((cls.__name__, key)) or (
                ids.get((SERIES, key)) if cls.__name__ == "ProductOffering" else None
            )

        for element in elements:
            node, item = (element.kind, element.key), element.item
            stated = item.lifecycle_status
            item.lifecycle_status = self._job.status_of(item)
            for reference in item.references():
                if resolve(reference.cls, reference.id) is None:
                    unresolved += 1
                    reason = f"there is no {reference.cls.__name__} {reference.id!r}"
                    content.report(
                        "UNRESOLVED_REFERENCE", reason, place=element.place, element=element.key, field=reference.path
                    )
            item.id = ids[node]
            refer_to_ours(item, resolve)
            try:
                data = convert.to_message(item, products.RESOURCES[type(item)].message).SerializeToString(
                    deterministic=True
                )
            except DomainError as error:
                tmforum.refuse(content, error, element.place, node[1])
                continue
            if len(data) > MAX_EVENT_BYTES - _ROOM:
                content.refuse("TOO_LARGE", f"it has {len(data)} bytes", place=element.place, element=node[1])
                continue
            # Of what it is here: the same words mean something else once a reference leads somewhere. And of the status
            # that it has there, which may be another here.
            digest = hashlib.sha256(f"{stated or ''} ".encode() + data).digest()
            plan.elements.append(_Ready(node, item, element.place, digest, stated))
        return unresolved


# An event says a little more of a thing than its file: stamps, and what its check completes.
_ROOM = 64 * 1024


def _existing(unit: Unit, nodes: Iterable[tuple[type[CatalogItem], str]]) -> set[tuple[type[CatalogItem], str]]:
    """Those that the catalog has."""
    by_class: dict[type[CatalogItem], list[str]] = {}
    for cls, key in nodes:
        by_class.setdefault(cls, []).append(key)
    return {
        (cls, key)
        for cls, keys in by_class.items()
        for key in store.existing(unit, products.RESOURCES[cls].table, keys)
    }
