"""`svyaz import customers`: a file of customers into the customers service, in batches, several on their way at once.

The file is read twice and never held: once for its digest, which with the mapping's names the source, and once for its
rows. What the service has of the source already is skipped: a run that was broken off continues where it stopped, and
one that had ended adds nothing.
"""

import csv
import hashlib
import threading
import time
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from chassis import calls, clients
from chassis.auth import Principal
from chassis.errors import Aborted, DeadlineExceeded, DomainError, ResourceExhausted, Unavailable
from svyaz.customers.v1 import import_pb2, import_pb2_grpc
from svyaz_cli.mapping import UNREADABLE, CompiledMapping, MappingFile, Problem

# Exit statuses, beside typer's 2 for a wrong command line, file or mapping.
COMPLETE, UNFINISHED, SOME_REFUSED = 0, 1, 3

_CALL_SECONDS = 120.0
_RETRY_SECONDS = 0.5
_CHUNK = 1 << 20
_REPORT_COLUMNS = ("line", "field", "reason")


class FileError(ValueError):
    """A file that can't be read as the mapping says."""


def shipped_mapping(name: str) -> Path | None:
    """The mapping of that name that comes with the command, if there is one."""
    path = Path(__file__).parent / "mappings" / f"{name}.yaml"
    return path if path.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command is told."""

    file: Path
    mapping: Path
    branch: str
    report: Path
    address: str
    # Asked again for each call, since tokens expire.
    token: Callable[[], str]
    batch: int = 500
    in_flight: int = 2
    # Seconds to wait for a service that doesn't answer.
    patience: float = 60.0


@dataclass
class Summary:
    """What has become of the rows: counted by what the service has committed, never by what was read."""

    created: int = 0
    already_there: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows have an outcome."""
        return self.created + self.already_there + self.refused


class Service:
    """The customers service, asked again while it is away."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._channel = clients.channel(options.address)
        self._stub = import_pb2_grpc.ImportServiceStub(self._channel)
        self._stopping = threading.Event()

    def lines(self, source: str) -> "Lines":
        """The lines of the source that are there already. Raises DomainError."""
        request = import_pb2.GetImportRequest(branch=self._options.branch, source=source)
        found: import_pb2.Import = self._call(self._stub.GetImport, request)
        return Lines(found.lines, found.created)

    def send(self, request: import_pb2.ImportCustomersRequest) -> import_pb2.ImportCustomersResponse:
        """The rows' outcomes. Raises DomainError."""
        response: import_pb2.ImportCustomersResponse = self._call(self._stub.ImportCustomers, request)
        return response

    def _call(self, method: Any, request: Any) -> Any:
        deadline = time.monotonic() + self._options.patience
        while True:
            principal = Principal("import", frozenset(), (), token=self._options.token())
            try:
                with calls.using(calls.Call(principal, "import", time.monotonic() + _CALL_SECONDS)):
                    return clients.call(method, request)
            except (Unavailable, ResourceExhausted, DeadlineExceeded, Aborted):
                # The request's id makes the repetition harmless, whether or not the first one was committed.
                if time.monotonic() >= deadline or self._stopping.wait(_RETRY_SECONDS):
                    raise

    def give_up(self) -> None:
        """Nothing is sent again any more."""
        self._stopping.set()

    def close(self) -> None:
        """Gives up what still waits."""
        self.give_up()
        self._channel.close()


class Lines:
    """Line numbers as ranges."""

    def __init__(self, ranges: Iterable[import_pb2.LineRange], count: int = 0) -> None:
        self.count = count
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for part in ranges:
            self._firsts.append(part.first)
            self._lasts.append(part.last)

    def __contains__(self, line: int) -> bool:
        position = bisect_right(self._firsts, line) - 1
        return position >= 0 and line <= self._lasts[position]


class Report:
    """The rows that were refused: a CSV file with line number, field and reason."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream)
        self._writer.writerow(_REPORT_COLUMNS)

    def add(self, line: int, problems: Iterable[Problem]) -> None:
        """Notes why the row of that line was refused."""
        for problem in problems:
            self._writer.writerow((line, problem.field, problem.reason))


def digest(file: Path, mapping: MappingFile) -> tuple[str, int]:
    """The name of the source that file and mapping make, and about how many rows it has. Raises OSError."""
    hashed = hashlib.sha256()
    newlines = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hashed.update(chunk)
            newlines += chunk.count(b"\n")
    return f"{hashed.hexdigest()}-{hashlib.sha256(mapping.text).hexdigest()[:16]}", newlines


@contextmanager
def _reader(file: Path, mapping: MappingFile) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The file's records with the line that each begins in; bytes that can't be read are one column's trouble. Raises
    FileError."""
    with file.open(encoding=mapping.encoding, errors=UNREADABLE, newline="") as stream:
        yield _records(stream, mapping.delimiter)


def _records(stream: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileError(f"line {line}: {error}") from error
    except UnicodeDecodeError as error:
        # What isn't made of bytes that stand for themselves, such as half of an UTF-16 character.
        raise FileError(f"about line {line}: {error}") from error


class Importer:
    """One run."""

    def __init__(
        self,
        options: Options,
        service: Service,
        source: str,
        compiled: CompiledMapping,
        report: Report,
        advance: Callable[[int], None],
    ) -> None:
        self.summary = Summary()
        self._compiled = compiled
        self._options = options
        self._service = service
        self._source = source
        self._report = report
        self._advance = advance
        # Repetitions of a call within this run are recognised by it; another run asks anew.
        self._run = uuid.uuid4().hex
        # Where the file can't be read any further.
        self._broken: FileError | None = None
        # In the order in which they were sent, so that the report is in the order of the file.
        self._sent: deque[tuple[Future[Any], list[tuple[int, list[Problem]]]]] = deque()

    def run(self, records: Iterator[tuple[int, list[str]]], there: Lines) -> None:
        """Imports the records. Raises DomainError, FileError (what was before that is imported)."""
        with ThreadPoolExecutor(self._options.in_flight) as pool:
            rows: list[import_pb2.ImportRow] = []
            refused: list[tuple[int, list[Problem]]] = []
            try:
                for line, values in self._readable(records):
                    if line in there:
                        self.summary.already_there += 1
                        self._advance(1)
                        continue
                    row, problems = self._compiled.row(line, values)
                    if row is None:
                        refused.append((line, problems))
                    else:
                        rows.append(row)
                    if len(rows) + len(refused) >= self._options.batch:
                        self._submit(pool, rows, refused)
                        rows, refused = [], []
                self._submit(pool, rows, refused)
                while self._sent:
                    self._settle()
            except BaseException:
                # What is under way may still be committed, and counts then; nothing new is begun.
                self._service.give_up()
                pool.shutdown(cancel_futures=True)
                self._settle_what_is_known()
                raise
        if self._broken is not None:
            raise self._broken

    def _readable(self, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
        try:
            yield from records
        except FileError as error:
            self._broken = error

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        rows: Sequence[import_pb2.ImportRow],
        refused: list[tuple[int, list[Problem]]],
    ) -> None:
        if not rows and not refused:
            return
        request = import_pb2.ImportCustomersRequest(
            branch=self._options.branch, source=self._source, dataset=self._compiled.dataset, rows=rows
        )
        if rows:
            request.request_id = f"{self._run}-{rows[0].line}"
        self._sent.append((pool.submit(self._send, request), refused))
        while len(self._sent) > self._options.in_flight:
            self._settle()

    def _send(self, request: import_pb2.ImportCustomersRequest) -> import_pb2.ImportCustomersResponse:
        return self._service.send(request) if request.rows else import_pb2.ImportCustomersResponse()

    def _settle(self) -> None:
        """Waits for the oldest batch and counts what has become of it."""
        future, refused = self._sent[0]
        response: import_pb2.ImportCustomersResponse = future.result()
        self._sent.popleft()
        rows = len(response.outcomes) + len(refused)
        for outcome in response.outcomes:
            if outcome.result == import_pb2.IMPORT_RESULT_CREATED:
                self.summary.created += 1
            elif outcome.result == import_pb2.IMPORT_RESULT_ALREADY_THERE:
                self.summary.already_there += 1
            else:
                refused.append((outcome.line, [self._problem(violation) for violation in outcome.violations]))
        for line, problems in sorted(refused):
            self._report.add(line, problems)
        self.summary.refused += len(refused)
        self._advance(rows)

    def _settle_what_is_known(self) -> None:
        while self._sent:
            future, _ = self._sent[0]
            if future.cancelled() or future.exception() is not None:
                self._sent.popleft()
            else:
                self._settle()

    def _problem(self, violation: import_pb2.ImportViolation) -> Problem:
        if violation.field == "key":
            return self._compiled.of_key(violation.description)
        return Problem(_spelled(violation.field), violation.description)


def _spelled(path: str) -> str:
    """A field's path in TM Forum's spelling."""
    first, *rest = path.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def import_customers(options: Options, out: Console | None = None) -> int:
    """Runs the command; prints a summary to stdout, progress and troubles to stderr. Returns an exit status.

    Raises MappingError, FileError, OSError for what is wrong with the command line's files before anything is sent.
    """
    notes = Console(stderr=True, highlight=False)
    started = time.monotonic()
    mapping = MappingFile.read(options.mapping)
    source, rows = digest(options.file, mapping)
    compiled = _compiled(options.file, mapping)
    if compiled.unused:
        notes.print(f"Nothing is made of: {', '.join(compiled.unused)}", markup=False)
    service = Service(options)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with (
            options.report.open("w", encoding="utf-8", newline="") as stream,
            Progress(*columns, console=notes) as progress,
        ):
            task = progress.add_task(f"Importing into {options.branch}", total=rows)
            importer = Importer(
                options, service, source, compiled, Report(stream), lambda count: progress.advance(task, count)
            )
            try:
                there = service.lines(source)
                with _reader(options.file, mapping) as records:
                    _header(records)
                    importer.run(records, there)
            except (DomainError, FileError, OSError, KeyboardInterrupt) as error:
                notes.print(f"Not finished: {_told(error)}", markup=False)
                mended = ", when that is mended" if isinstance(error, (FileError, OSError)) else ""
                notes.print(f"Nothing is half imported. Run the same command again{mended}: it goes on from here.")
                importer.summary.seconds = time.monotonic() - started
                _tell(out or Console(highlight=False), importer.summary, options)
                return UNFINISHED
            # Blank lines and line breaks inside quotes aren't rows.
            progress.update(task, total=importer.summary.rows, completed=importer.summary.rows)
    finally:
        service.close()
    importer.summary.seconds = time.monotonic() - started
    _tell(out or Console(highlight=False), importer.summary, options)
    return SOME_REFUSED if importer.summary.refused else COMPLETE


def _compiled(file: Path, mapping: MappingFile) -> CompiledMapping:
    """The mapping for the file's columns: what is wrong with it is found before anything is sent."""
    with _reader(file, mapping) as records:
        return mapping.compiled(_header(records))


def _header(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    first = next(records, None)
    if first is None:
        raise FileError("the file is empty")
    return [name.strip() for name in first[1]]


def _told(error: BaseException) -> str:
    if isinstance(error, DomainError):
        return f"{error.reason}: {error.message}"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)


def _tell(out: Console, summary: Summary, options: Options) -> None:
    out.print(
        f"{summary.created:,} imported, {summary.already_there:,} already there, {summary.refused:,} refused"
        f" in {summary.seconds:.1f} s"
    )
    if summary.refused:
        out.print(f"Why: {options.report}")
