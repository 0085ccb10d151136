"""Import and export jobs (TMF620), and what a file's content is before it becomes things of the catalog."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from catalog.product.domain import CatalogItem, LifecycleStatus
from chassis.errors import FailedPrecondition, InvalidArgument, Violation
from chassis.types import Aggregate, Attachment, require_transition

# What the errorLog of a job tells; ListImportFindings tells the rest.
LOGGED_LINES = 500
_LOGGED_CHARACTERS = 100_000
ATTACHED, FILED = "cid:", "file:"
# A step that has failed so often, half a minute in all, fails for ever.
ATTEMPTS = 6


class JobState(StrEnum):
    """How far a job has come."""

    NOT_STARTED = "Not Started"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)


_J = JobState
_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _J.NOT_STARTED: frozenset({_J.RUNNING}),
    _J.RUNNING: frozenset({_J.SUCCEEDED, _J.FAILED}),
    _J.SUCCEEDED: frozenset(),
    _J.FAILED: frozenset(),
}


class TransferFormat(StrEnum):
    """What the content of a file is."""

    TM_FORUM = "tmForum"
    KILL_BILL = "killBill"
    OPERATOR_TARIFFS = "operatorTariffs"


@dataclass(kw_only=True, eq=False)
class Job(Aggregate):
    """What both kinds of job have."""

    STATE: ClassVar[str | None] = "status"

    completion_date: datetime | None = None
    content_type: str | None = None
    creation_date: datetime | None = None
    error_log: str | None = None
    path: str | None = None
    url: str | None = None
    status: JobState | None = None
    requested_by: str | None = None

    def check(self, at: datetime) -> None:
        """A new job hasn't begun, whatever its author says."""
        self.status = JobState.NOT_STARTED
        self.creation_date = at
        self.completion_date = self.error_log = self.requested_by = None

    def move(self, status: JobState, at: datetime) -> None:
        """Raises FailedPrecondition BAD_TRANSITION."""
        require_transition(
            f"{type(self).__name__} {self.id}", _TRANSITIONS, self.status or _J.NOT_STARTED, status, attribute="status"
        )
        self.status = status
        if status.final:
            self.completion_date = at

    def fail(self, reason: str, at: datetime) -> None:
        """Ends for this reason."""
        self.error_log = reason[:_LOGGED_CHARACTERS]
        self.move(JobState.FAILED, at)

    def give_up(self, error: str, at: datetime) -> None:
        """Ends because a step fails again and again; what the steps before it have done stays."""
        self.fail("\n".join(filter(None, (error, self.error_log))), at)

    def check_deletable(self) -> None:
        """Raises FailedPrecondition JOB_RUNNING."""
        if self.status is JobState.RUNNING:
            raise FailedPrecondition("JOB_RUNNING", f"{type(self).__name__} {self.id} is running: wait for its end")


@dataclass(kw_only=True, eq=False)
class ImportJob(Job):
    """A file that becomes things of the catalog; counts are of elements unless they say otherwise."""

    attachment: tuple[Attachment, ...] = ()
    format: TransferFormat | None = None
    source: str | None = None
    initial_status: LifecycleStatus | None = None
    total: int | None = None
    done: int | None = None
    created: int | None = None
    changed: int | None = None
    unchanged: int | None = None
    refused: int | None = None
    rules_resolved: int | None = None
    rules_reported: int | None = None
    rows_read: int | None = None
    keeps_status: bool | None = None

    def check(self, at: datetime) -> None:
        super().check(at)
        for name in _COUNTS:
            setattr(self, name, None)
        self.keeps_status = None

    def begin_for(self, subject: str, *, admin: bool) -> None:
        """Says on whose behalf it runs. Raises InvalidArgument ADMIN_ONLY for a status that only an admin gives."""
        self.requested_by = subject
        self.keeps_status = admin
        if self.initial_status is not None and self.initial_status.live and not admin:
            raise InvalidArgument(
                "ADMIN_ONLY",
                "only an admin takes over what is on sale already",
                violations=[Violation("initial_status", f"{self.initial_status} is for admins")],
            )

    def status_of(self, item: CatalogItem) -> LifecycleStatus:
        """The status that a thing of the content gets: what is on sale elsewhere is a draft here, until somebody with
        the right to it says otherwise."""
        stated = item.lifecycle_status or self.initial_status or LifecycleStatus.IN_DESIGN
        return LifecycleStatus.IN_DESIGN if stated.live and not self.keeps_status else stated

    def count(self, **more: int) -> None:
        """Adds to its counts."""
        for name, number in more.items():
            setattr(self, name, (getattr(self, name) or 0) + number)

    def log(self, findings: "list[Finding]") -> None:
        """Adds what was refused to its error log, as far as there is room."""
        lines = (self.error_log or "").splitlines()
        for finding in findings:
            if finding.kind is FindingKind.REFUSED and len(lines) < LOGGED_LINES:
                lines.append(finding.line)
        self.error_log = "\n".join(lines)[:_LOGGED_CHARACTERS] or None


_COUNTS = (
    "total", "done", "created", "changed", "unchanged", "refused", "rules_resolved", "rules_reported", "rows_read",
)  # fmt: skip


@dataclass(kw_only=True, eq=False)
class ExportJob(Job):
    """The catalog, or a part of it, as a file; `size` in bytes."""

    query: str | None = None
    done: int | None = None
    size: int | None = None
    sha256: str | None = None

    def check(self, at: datetime) -> None:
        super().check(at)
        self.done = self.size = self.sha256 = None


class FindingKind(StrEnum):
    """Whether an element wasn't brought in, or was with something to be said about it."""

    REFUSED = "refused"
    REPORTED = "reported"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that an import has to say. `place`: a file with its line, or a path in it."""

    kind: FindingKind
    code: str
    reason: str
    place: str = ""
    element: str = ""
    field: str = ""

    @property
    def line(self) -> str:
        """For people."""
        about = " ".join(filter(None, (self.element, self.field)))
        return ": ".join(filter(None, (self.place, about, self.reason)))


@dataclass(slots=True)
class Element:
    """A thing that the content has: its id, and those that it refers to, are the source's keys."""

    item: CatalogItem
    place: str

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.item).__name__

    @property
    def key(self) -> str:
        """What the source calls it."""
        return self.item.id


@dataclass
class Content:
    """What a reader has made of a file."""

    # Whose keys these are, unless the job says.
    source: str
    elements: list[Element] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    rows_read: int = 0
    rules_resolved: int = 0
    rules_reported: int = 0
    # The references of the elements are the rules that are counted.
    counts_references: bool = False
    # It is all that the source has: what an earlier file had and this one hasn't is gone there.
    complete: bool = False

    def refuse(self, code: str, reason: str, *, place: str = "", element: str = "", field: str = "") -> None:
        """Notes why something wasn't brought in."""
        self._find(FindingKind.REFUSED, code, reason, place, element, field)

    def report(self, code: str, reason: str, *, place: str = "", element: str = "", field: str = "") -> None:
        """Notes what was taken over otherwise than it was written."""
        self._find(FindingKind.REPORTED, code, reason, place, element, field)

    def _find(self, kind: FindingKind, code: str, reason: str, place: str, element: str, field: str) -> None:
        self.findings.append(Finding(kind=kind, code=code, reason=reason, place=place, element=element, field=field))


class ContentError(Exception):
    """Content of which nothing can be brought in; `findings` say all that is wrong with it."""

    def __init__(self, reason: str, findings: "list[Finding] | None" = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.findings = findings or []


@dataclass(frozen=True, slots=True)
class File:
    """A piece of content."""

    name: str
    data: bytes


def extensions(**values: Any) -> dict[str, Any]:
    """What of the values is there: an extension says nothing of what it lacks."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}


def as_text(values: Mapping[str, Any]) -> str | None:
    """Extensions as they are kept, numbers with all their digits as texts; None: there are none."""
    # As the dialect writes them, so that what is exported and imported again is the same.
    return json.dumps(values, ensure_ascii=False, default=str, separators=(",", ":")) if values else None
