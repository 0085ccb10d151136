"""What can be asked of interactions: one method, one use case, one transaction."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from chassis.config import MAX_PAGE_BYTES
from chassis.convert import from_timestamp, to_message, to_timestamp
from chassis.db import Database
from chassis.errors import InvalidArgument, Violation
from chassis.resources import StandardMethods, fitting
from chassis.unit import Unit
from customers.identity.collection import MembersCollection
from customers.identity.store import members
from customers.interaction import store
from customers.interaction.domain import PartyInteraction
from customers.interaction.ownership_store import away, ownership_of
from customers.interaction.store import Entry, Found, Position, Timeline, Whose, Window
from customers.interaction.substitution import standing_in
from customers.interaction.wording import LONGEST_QUERY, Wanted, snippet, wanted
from customers.party.domain import Customer
from customers.party.references import changed, created, found_by_reference, refuse_when_referenced
from svyaz.customers.v1 import interaction_pb2

MOST_ENTRIES, MOST_FOUND = 200, 100
_LONGEST_CURSOR = 500
T = TypeVar("T")


class Interactions(StandardMethods):
    """TMF683, a customer's timeline, and the search of the whole correspondence."""

    def __init__(self, database: Database, region_of: store.RegionOf) -> None:
        self._database = database
        self._region_of = region_of
        self._timeline = Timeline(region_of)
        self._interactions = MembersCollection(
            database,
            PartyInteraction,
            interaction_pb2.PartyInteraction,
            creating=self._creating,
            changed=self._changed,
            deleting=self._deleting,
            elsewhere=found_by_reference(store.party_interaction, "related_party.id"),
        )
        super().__init__(interaction_pb2.DESCRIPTOR.services_by_name["InteractionService"], self._interactions)

    def _creating(self, unit: Unit, interaction: PartyInteraction) -> None:
        created(unit, interaction)
        self._timeline.keep(unit, interaction)

    def _changed(self, unit: Unit, interaction: PartyInteraction) -> None:
        if store.status_changed(interaction):
            # As TMF683 calls it, unlike the other files.
            unit.announce(interaction, "StatusChange")
        changed(unit, interaction)
        self._timeline.keep(unit, interaction)

    def _deleting(self, unit: Unit, interaction: PartyInteraction) -> None:
        refuse_when_referenced(unit, interaction)
        self._timeline.forget(unit, interaction)

    def AssignPartyInteraction(
        self, request: interaction_pb2.AssignPartyInteractionRequest, context: Any
    ) -> interaction_pb2.PartyInteraction:
        """Says whose it was, or whose instead; raises InvalidArgument UNKNOWN_CUSTOMER."""

        def work(unit: Unit) -> interaction_pb2.PartyInteraction:
            interaction = unit.get(PartyInteraction, request.id, request.etag)
            customer = unit.find(Customer, request.customer_id)
            if customer is None or customer.branch != interaction.branch:
                violations = [Violation("customer_id", "there is no such customer in the branch")]
                raise InvalidArgument("UNKNOWN_CUSTOMER", "it can't be nobody's", violations=violations)
            interaction.assign(customer.id, customer.name)
            unit.announce(interaction, "Assignment")
            self._changed(unit, interaction)
            return self._interactions.reply(unit, interaction)

        return self._database.transact(request, interaction_pb2.PartyInteraction, work)

    def ListTimeline(
        self, request: interaction_pb2.ListTimelineRequest, context: Any
    ) -> interaction_pb2.ListTimelineResponse:
        """A customer's interactions, all his ids together; raises InvalidArgument INVALID_PAGE, BRANCH_REQUIRED."""
        limit = _limit(request, 50, MOST_ENTRIES)
        positions = _decoded(request.cursor, lambda before, after: (_position(before), _position(after)))
        before, after = positions or (None, None)
        first = not request.cursor
        window = _window(request, direction=request.direction)
        with self._database.unit() as unit:
            whose = self._whose(unit, request)
            past = store.past(unit, whose, window, before, limit + 1) if first or before else []
            planned = store.planned(unit, whose, window, after, MOST_ENTRIES + 1) if first or after else []
            found = store.interactions(unit, [entry.interaction_id for entry in (*past, *planned)])
            named = _named(unit, request.customer_id, [*past, *planned])
        # Neither is more than half of an answer, however long the letters are.
        been, before = _page(past, limit, found, named)
        coming, after = _page(planned, MOST_ENTRIES, found, named)
        return interaction_pb2.ListTimelineResponse(
            past=been,
            planned=coming,
            next_cursor=_encoded(*map(_written, (before, after))) if before or after else "",
        )

    def _whose(self, unit: Unit, request: interaction_pb2.ListTimelineRequest) -> Whose:
        if request.customer_id:
            return Whose(members(unit, request.customer_id))
        return Whose(branch=self._database.branch_for_create(PartyInteraction, request.branch))

    def SearchInteractions(
        self, request: interaction_pb2.SearchInteractionsRequest, context: Any
    ) -> interaction_pb2.SearchInteractionsResponse:
        """What has the words and numbers in it, the best first; raises InvalidArgument INVALID_PAGE, QUERY_TOO_LONG.
        No query is malformed."""
        if len(request.query) > LONGEST_QUERY:
            violations = [Violation("query", f"longer than {LONGEST_QUERY} characters")]
            raise InvalidArgument("QUERY_TOO_LONG", "nobody has written all that", violations=violations)
        limit = _limit(request, 20, MOST_FOUND)
        after = _decoded(request.cursor, lambda rank, at, last: (float(rank), datetime.fromisoformat(at), str(last)))
        with self._database.unit() as unit:
            region = self._region_of(next(iter(unit.call.principal.branches), ""))
            query = wanted(request.query, region)
            customers = members(unit, request.customer_id) if request.customer_id else ()
            found = store.search(unit, query, customers, _window(request), after, limit + 1)
            whole = store.interactions(unit, [one.interaction_id for one in found])
        # One that has just been deleted isn't there any more.
        found = [one for one in found if one.interaction_id in whole]
        items = [self._found(one, whole[one.interaction_id], query) for one in found[:limit]]
        number = fitting(items)
        last = found[number - 1] if number < len(found) else None
        return interaction_pb2.SearchInteractionsResponse(
            items=items[:number],
            next_cursor=_encoded(last.rank, last.at.isoformat(), last.interaction_id) if last is not None else "",
        )

    def _found(self, one: Found, interaction: PartyInteraction, query: Wanted) -> interaction_pb2.FoundInteraction:
        parts = snippet(store.text_of(interaction), one.headline, query, self._region_of(interaction.branch))
        return interaction_pb2.FoundInteraction(
            interaction=to_message(interaction, interaction_pb2.PartyInteraction),
            customer_id=one.customer_id or "",
            at=to_timestamp(one.at),
            rank=f"{one.rank:.9f}",
            snippet=[interaction_pb2.SnippetPart(text=part.text, hit=part.hit) for part in parts],
        )


# Whose an entry is, and who stands in for him.
_Named = Mapping[str, tuple[str, str]]


def _named(unit: Unit, customer_id: str, entries: Sequence[Entry]) -> _Named:
    ownership = ownership_of(unit, customer_id) if customer_id else None
    nobodys = ownership.owner if ownership is not None else None
    known = away(unit, {entry.branch for entry in entries}, unit.at) if entries else {}
    named = {}
    for entry in entries:
        owner = entry.owner or nobodys
        standing = standing_in(owner, None, known.get(entry.branch, {}))
        named[entry.interaction_id] = (owner or "", standing.employee or "")
    return named


def _page(
    entries: Sequence[Entry], limit: int, found: Mapping[str, PartyInteraction], named: _Named
) -> tuple[list[interaction_pb2.TimelineEntry], Position | None]:
    """As many of the entries as fit, and the place of the last of them; None: there are no more."""
    # One that has just been deleted isn't there any more.
    there = [entry for entry in entries[:limit] if entry.interaction_id in found]
    shown = [_shown(entry, found[entry.interaction_id], named[entry.interaction_id]) for entry in there]
    number = fitting(shown, MAX_PAGE_BYTES // 2)
    last = there[number - 1] if number < len(there) else entries[limit - 1] if len(entries) > limit else None
    return shown[:number], (last.at, last.interaction_id) if last is not None else None


def _shown(entry: Entry, interaction: PartyInteraction, named: tuple[str, str]) -> interaction_pb2.TimelineEntry:
    owner, responsible = named
    return interaction_pb2.TimelineEntry(
        at=to_timestamp(entry.at),
        planned=entry.planned,
        owner=owner,
        responsible=responsible,
        interaction=to_message(interaction, interaction_pb2.PartyInteraction),
    )


def _position(written: Sequence[str] | None) -> Position | None:
    if written is None:
        return None
    at, last = written
    return datetime.fromisoformat(at), str(last)


def _written(position: Position | None) -> Sequence[str] | None:
    return None if position is None else (position[0].isoformat(), position[1])


def _window(request: Any, direction: str = "") -> Window:
    since, until = (
        from_timestamp(getattr(request, name)) if request.HasField(name) else None for name in ("from", "to")
    )
    return Window(since, until, list(request.channel), direction)


def _limit(request: Any, usual: int, most: int) -> int:
    limit = int(request.limit) if request.HasField("limit") else usual
    if not 1 <= limit <= most:
        violations = [Violation("limit", f"{limit} isn't from 1 to {most}")]
        raise InvalidArgument("INVALID_PAGE", f"a page has from 1 to {most} entries", violations=violations)
    return limit


def _encoded(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _decoded(cursor: str, read: Callable[..., T]) -> T | None:
    if not cursor:
        return None
    try:
        if len(cursor) > _LONGEST_CURSOR:
            raise ValueError("too long")
        parts = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        # What no text can be isn't looked for.
        json.dumps(parts, ensure_ascii=False).encode()
        return read(*parts)
    except (ValueError, TypeError) as error:
        violations = [Violation("cursor", "not one that a page ended with")]
        raise InvalidArgument("INVALID_PAGE", "the cursor is none of ours", violations=violations) from error
