"""Customers from elsewhere, many at once: each row checked by the rules of the domain, each imported once."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis import convert
from chassis.bulk import Bulk, Prepared, Preparing, copy_insert
from chassis.db import Database
from chassis.errors import DomainError, InvalidArgument, Violation
from chassis.reading import INVALID_VALUE
from chassis.types import RelatedParty, new_id
from chassis.unit import Unit
from customers.account.domain import BillingAccount
from customers.importing import store
from customers.matching.indexing import leave_unindexed
from customers.party.domain import Customer, Individual, Organization, Referrer
from customers.party.store import references
from svyaz.customers.v1 import import_pb2, import_pb2_grpc
from svyaz.type.v1 import options_pb2

R = TypeVar("R", bound=Referrer)

MAX_ROWS = 5_000
CUSTOMER_ROLE = "customer"

_REFERENCE_COLUMNS = ("target_id", "referrer_id", "referrer_type", "branch")
_CREATED = import_pb2.IMPORT_RESULT_CREATED
_THERE = import_pb2.IMPORT_RESULT_ALREADY_THERE
_REFUSED = import_pb2.IMPORT_RESULT_REFUSED

# Whoever comes second waits here for the first and then finds the row taken. Lines ascend: two that import the same
# can't wait for each other.
_CLAIM = sa.text("""
    INSERT INTO import_row (branch, source, line, dataset, key_hash, customer_id, imported_at)
    SELECT :branch, :source, line, :dataset, key_hash, customer_id, :at
    FROM unnest(CAST(:lines AS bigint[]), CAST(:keys AS bytea[]), CAST(:customers AS text[]))
        AS wanted (line, key_hash, customer_id)
    ORDER BY line
    ON CONFLICT DO NOTHING
    RETURNING line
""")
# A key's row belongs to the source that has had it last, whose other rows with that key are repetitions then. Of those
# that ask for it in one request it becomes the first one's.
_TAKE_OVER = sa.text("""
    UPDATE import_row SET source = :source, line = wanted.line
    FROM (
        SELECT DISTINCT ON (key_hash) key_hash, line
        FROM unnest(CAST(:lines AS bigint[]), CAST(:keys AS bytea[])) AS asked (line, key_hash)
        WHERE line NOT IN (
            SELECT line FROM import_row WHERE branch = :branch AND source = :source AND line = ANY (:lines)
        )
        ORDER BY key_hash, line
    ) AS wanted
    WHERE branch = :branch AND dataset = :dataset AND import_row.key_hash = wanted.key_hash AND source <> :source
""")
_RANGES = sa.text("""
    SELECT min(line), max(line), count(*), max(imported_at)
    FROM (
        SELECT line, imported_at, line - row_number() OVER (ORDER BY line) AS island
        FROM import_row WHERE branch = :branch AND source = :source
    ) AS islands
    GROUP BY island ORDER BY island
""")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row that may be imported."""

    line: int
    key_hash: bytes | None
    customer_id: str
    prepared: Sequence[Prepared]
    references: Sequence[tuple[str, str, str, str]]


class Imports(import_pb2_grpc.ImportServiceServicer):
    """Bulk import of parties with their customers and billing accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bulk = Bulk(database, store.STAGED, _complete)

    def ImportCustomers(
        self, request: import_pb2.ImportCustomersRequest, context: Any
    ) -> import_pb2.ImportCustomersResponse:
        """One transaction for all rows that can be imported; raises InvalidArgument for a malformed request."""
        _check(request)
        branch = self._database.branch_for_create(Customer, request.branch)
        # Before the transaction, which should be short: whoever reads the log waits for the oldest one.
        at = self._database.clock.now()
        prepare = self._bulk.preparing(at)
        drafts: list[_Draft] = []
        outcomes: dict[int, import_pb2.ImportOutcome] = {}
        for row in request.rows:
            try:
                drafts.append(self._draft(row, branch, at, prepare))
            except DomainError as error:
                outcomes[row.line] = _refused(row.line, error)

        def work(unit: Unit) -> import_pb2.ImportCustomersResponse:
            created = self._write(unit, request, branch, drafts)
            outcomes.update(self._known(unit, request, branch, [d for d in drafts if d.line not in created]))
            for draft in drafts:
                if draft.line in created:
                    outcomes[draft.line] = import_pb2.ImportOutcome(
                        line=draft.line, result=_CREATED, customer_id=draft.customer_id
                    )
            return import_pb2.ImportCustomersResponse(outcomes=[outcomes[row.line] for row in request.rows])

        try:
            return self._database.transact(request, import_pb2.ImportCustomersResponse, work)
        except InvalidArgument as error:
            if error.reason != INVALID_VALUE:
                raise
            for bad, why in list(self._unkeepable(request, branch, drafts)):
                drafts.remove(bad)
                outcomes[bad.line] = _refused(bad.line, why)
        return self._database.transact(request, import_pb2.ImportCustomersResponse, work)

    def GetImport(self, request: import_pb2.GetImportRequest, context: Any) -> import_pb2.Import:
        """The lines that have become customers: none for a source that nothing was imported from."""
        branch = self._database.branch_for_create(Customer, request.branch)
        with self._database.unit() as unit:
            found = unit.session.execute(_RANGES, {"branch": branch, "source": request.source}).all()
        result = import_pb2.Import(
            branch=branch,
            source=request.source,
            created=sum(count for _, _, count, _ in found),
            lines=[import_pb2.LineRange(first=first, last=last) for first, last, _, _ in found],
        )
        if found:
            result.last_at.CopyFrom(convert.to_timestamp(max(at for _, _, _, at in found)))
        return result

    # --- a row ---

    def _draft(self, row: import_pb2.ImportRow, branch: str, at: datetime, prepare: Preparing) -> _Draft:
        try:
            aggregates = list(self._aggregates(row, branch, at))
        except InvalidArgument:
            # Before anything else that is wrong, all that is missing is told.
            _require(row)
            raise
        customer = next(aggregate for aggregate in aggregates if isinstance(aggregate, Customer))
        return _Draft(
            row.line,
            hashlib.sha256(row.key.encode()).digest() if row.key else None,
            customer.id,
            prepare(aggregates),
            [
                (target, aggregate.id, type(aggregate).__name__, branch)
                for aggregate in aggregates
                for target in dict.fromkeys(aggregate.references())
                if target and target != aggregate.id
            ],
        )

    def _aggregates(self, row: import_pb2.ImportRow, branch: str, at: datetime) -> Iterator[Referrer]:
        """The row's aggregates, checked, with ids of ours and referring to each other. Raises InvalidArgument."""

        def made(message: Message, cls: type[R], name: str) -> R:
            part: R = convert.at(lambda given: self._bulk.make(given, cls, id=new_id(), branch=branch), message, name)
            return part

        _require(row, parts=False)
        party: Individual | Organization
        if row.WhichOneof("party") == "individual":
            party = _checked(made(row.individual, Individual, "individual"), "individual", at)
        else:
            party = _checked(made(row.organization, Organization, "organization"), "organization", at)
        yield party
        customer = made(row.customer, Customer, "customer")
        engaged = customer.engaged_party or RelatedParty()
        customer.engaged_party = replace(engaged, id=party.id, at_referred_type=type(party).__name__)
        _checked(customer, "customer", at).verify(party_is_known=True)
        yield customer
        if row.HasField("billing_account"):
            account = made(row.billing_account, BillingAccount, "billing_account")
            owner = RelatedParty(id=customer.id, name=customer.name, role=CUSTOMER_ROLE, at_referred_type="Customer")
            account.related_party = (owner, *account.related_party)
            yield _checked(account, "billing_account", at)

    # --- the transaction ---

    def _write(
        self, unit: Unit, request: import_pb2.ImportCustomersRequest, branch: str, drafts: Sequence[_Draft]
    ) -> frozenset[int]:
        """Writes those rows that nobody has imported yet and returns their lines."""
        if not drafts:
            return frozenset()
        claimed = unit.session.scalars(
            _CLAIM,
            {
                "branch": branch,
                "source": request.source,
                "dataset": request.dataset,
                "at": unit.at,
                "lines": [draft.line for draft in drafts],
                "keys": [draft.key_hash for draft in drafts],
                "customers": [draft.customer_id for draft in drafts],
            },
        )
        lines = frozenset(claimed)
        new = [draft for draft in drafts if draft.line in lines]
        if new:
            self._bulk.write(unit, [prepared for draft in new for prepared in draft.prepared])
            rows = [reference for draft in new for reference in draft.references]
            copy_insert(unit, references.table.name, _REFERENCE_COLUMNS, rows)
            # Those who are searched for; accounts are found by theirs.
            found = [
                prepared.row[0] for draft in new for prepared in draft.prepared if prepared.cls is not BillingAccount
            ]
            leave_unindexed(unit, branch, found)
        return lines

    @staticmethod
    def _known(
        unit: Unit, request: import_pb2.ImportCustomersRequest, branch: str, drafts: Sequence[_Draft]
    ) -> Iterator[tuple[int, import_pb2.ImportOutcome]]:
        """Line → what has become of a row that isn't new: it has come before, or another with its key has.

        Another of the same source is no repetition: nobody can say which of the two the key's customer is.
        """
        if not drafts:
            return
        keyed = [draft for draft in drafts if draft.key_hash]
        here = {"branch": branch, "source": request.source, "dataset": request.dataset}
        unit.session.execute(
            _TAKE_OVER,
            {**here, "lines": [draft.line for draft in keyed], "keys": [draft.key_hash for draft in keyed]},
        )
        table = store.import_row
        columns = (table.c.source, table.c.line, table.c.key_hash, table.c.customer_id)
        by_line = sa.and_(table.c.source == request.source, table.c.line.in_([draft.line for draft in drafts]))
        by_key = sa.and_(table.c.dataset == request.dataset, table.c.key_hash.in_([draft.key_hash for draft in keyed]))
        found = unit.session.execute(sa.select(*columns).where(table.c.branch == branch, by_line | by_key)).all()
        lines = {row.line: row.customer_id for row in found if row.source == request.source}
        keys = {row.key_hash: row for row in found if row.key_hash}
        for draft in drafts:
            row = keys.get(draft.key_hash)
            if draft.line not in lines and row is not None and row.source == request.source:
                yield draft.line, _refused(draft.line, _repeated(row.line))
            else:
                # Of a source that has taken it over meanwhile.
                customer = lines.get(draft.line) or (row.customer_id if row is not None else "")
                yield (
                    draft.line,
                    import_pb2.ImportOutcome(line=draft.line, result=_THERE, customer_id=customer),
                )

    def _unkeepable(
        self, request: import_pb2.ImportCustomersRequest, branch: str, drafts: Sequence[_Draft]
    ) -> Iterator[tuple[_Draft, InvalidArgument]]:
        """Which of those have something that the database refuses: found by halves, nothing of which stays. Raises
        Aborted CONFLICT."""
        try:
            with self._database.unit() as unit:
                self._write(unit, request, branch, drafts)
                unit.flush()
                raise _TriedError
        except _TriedError:
            return
        except InvalidArgument as error:
            if error.reason != INVALID_VALUE:
                raise
            if len(drafts) == 1:
                yield drafts[0], error
                return
        half = len(drafts) // 2
        yield from self._unkeepable(request, branch, drafts[:half])
        yield from self._unkeepable(request, branch, drafts[half:])


class _TriedError(Exception):
    """Takes back what was only tried."""


def _repeated(line: int) -> InvalidArgument:
    reason = f"is the same as line {line}'s"
    return InvalidArgument("KEY_REPEATED", f"its key {reason}", violations=[Violation("key", reason)])


def _check(request: import_pb2.ImportCustomersRequest) -> None:
    wrong = []
    if not request.source:
        wrong.append(Violation("source", "required"))
    if not request.dataset and any(row.key for row in request.rows):
        wrong.append(Violation("dataset", "required where rows have keys"))
    if len(request.rows) > MAX_ROWS:
        wrong.append(Violation("rows", f"more than {MAX_ROWS}"))
    if len({row.line for row in request.rows}) != len(request.rows):
        wrong.append(Violation("rows", "two have the same line"))
    if wrong:
        raise InvalidArgument("MALFORMED_IMPORT", "nothing was imported", violations=wrong)


def _checked(aggregate: R, name: str, at: datetime) -> R:
    convert.at(lambda aggregate: aggregate.check(at), aggregate, name)
    return aggregate


def _refused(line: int, error: DomainError) -> import_pb2.ImportOutcome:
    violations = error.violations or (Violation("", error.message),)
    return import_pb2.ImportOutcome(
        line=line,
        result=_REFUSED,
        violations=[import_pb2.ImportViolation(field=v.field, description=v.description) for v in violations],
    )


# --- what must be there ----------------------------------------------------------------------------------------------

# Set here, whatever the caller says.
_GIVEN = frozenset({"customer.engaged_party", "billing_account.related_party"})


def _require(row: import_pb2.ImportRow, *, parts: bool = True) -> None:
    """Raises InvalidArgument with the paths of required fields that aren't there, nested ones included: no gateway has
    looked before. Without `parts` those of repeated fields aren't looked at, which `_complete` does once for all that
    are the same."""
    missing = list(_missing(row, parts))
    if missing:
        raise InvalidArgument(
            "REQUIRED", "required fields are missing", violations=[Violation(path, "required") for path in missing]
        )


def _complete(part: Message) -> None:
    if next(_absent(part, ""), None) is not None:
        raise InvalidArgument("REQUIRED", "required fields are missing")


def _missing(row: import_pb2.ImportRow, parts: bool) -> Iterator[str]:
    party = row.WhichOneof("party")
    if party is None:
        yield "individual"
    elif party == "individual":
        yield from _absent(row.individual, party, parts)
    else:
        yield from _absent(row.organization, party, parts)
    yield from _absent(row.customer, "customer", parts)
    if row.HasField("billing_account"):
        yield from _absent(row.billing_account, "billing_account", parts)


@cache
def _plan(descriptor: Any) -> tuple[Sequence[tuple[str, bool]], Sequence[tuple[str, bool]]]:
    """A message's required fields, and those of its fields that are messages with such fields: (name, repeated)."""
    required, nested = [], []
    for field in descriptor.fields:
        if field.GetOptions().Extensions[options_pb2.required]:
            required.append((field.name, field.is_repeated))
        if field.type == FieldDescriptor.TYPE_MESSAGE and any(_plan(field.message_type)):
            nested.append((field.name, field.is_repeated))
    return required, nested


def _absent(message: Message, path: str, parts: bool = True) -> Iterator[str]:
    required, nested = _plan(message.DESCRIPTOR)
    for name, repeated in required:
        if not (getattr(message, name) if repeated else message.HasField(name)):
            where = f"{path}.{name}"
            if where not in _GIVEN:
                yield where
    for name, repeated in nested:
        if repeated:
            if parts:
                for position, part in enumerate(getattr(message, name)):
                    yield from _absent(part, f"{path}.{name}[{position}]")
        elif message.HasField(name) and f"{path}.{name}" not in _GIVEN:
            yield from _absent(getattr(message, name), f"{path}.{name}")
