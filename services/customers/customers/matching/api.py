"""What matching can be asked for."""

from decimal import Decimal
from typing import Any

from chassis import convert
from chassis.db import Database
from chassis.errors import InvalidArgument, PermissionDenied, Violation
from chassis.resources import Collection, StandardMethods
from chassis.types import decimal_of, new_id
from chassis.unit import Unit
from customers.matching.domain import DuplicateCandidate, DuplicateSearch, DuplicateState
from customers.matching.entry import Entries
from customers.matching.phones import BranchRegions
from customers.matching.search import Match, search, waiting
from customers.party.domain import Individual
from svyaz.customers.v1 import matching_pb2 as pb

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
DEFAULT_DUPLICATES, MAX_DUPLICATES = 10, 50


class Matching(StandardMethods):
    """Search, duplicates on entry, and what was decided of those that were found."""

    def __init__(self, database: Database, regions: BranchRegions, entries: Entries) -> None:
        self._database = database
        self._regions = regions
        self._entries = entries
        self._candidates = Collection(database, DuplicateCandidate, pb.DuplicateCandidate)
        self._searches = Collection(database, DuplicateSearch, pb.DuplicateSearch)
        super().__init__(pb.DESCRIPTOR.services_by_name["MatchingService"], self._candidates, self._searches)

    def SearchParties(self, request: pb.SearchPartiesRequest, context: Any) -> pb.SearchPartiesResponse:
        """The best answers. Raises InvalidArgument REQUIRED without a query, OUT_OF_RANGE; PermissionDenied."""
        if not request.query.strip():
            raise InvalidArgument("REQUIRED", "say what is looked for", violations=[Violation("query", "required")])
        limit = _limit(request.limit, DEFAULT_LIMIT, MAX_LIMIT)
        with self._database.unit() as unit:
            principal = unit.call.principal
            if request.branch and not principal.may_see(request.branch):
                raise PermissionDenied("BRANCH_FORBIDDEN", f"the branch {request.branch!r} isn't yours")
            branches = (request.branch,) if request.branch else None if principal.every_branch else principal.branches
            matches, truncated = search(
                unit,
                request.query,
                branches=branches,
                regions=self._regions,
                party_type=request.party_type,
                customers_only=request.customers_only,
                limit=limit,
            )
            left = waiting(unit)
        return pb.SearchPartiesResponse(
            match=[_shown(match) for match in matches], truncated=truncated, not_yet_indexed=left
        )

    def FindDuplicates(self, request: pb.FindDuplicatesRequest, context: Any) -> pb.FindDuplicatesResponse:
        """Who may be the individual already. Raises InvalidArgument BRANCH_REQUIRED, OUT_OF_RANGE."""
        limit = _limit(request.limit, DEFAULT_DUPLICATES, MAX_DUPLICATES)
        branch = self._database.branch_for_create(Individual, request.branch)
        individual = convert.from_message(request.individual, Individual, id="", branch=branch)
        with self._database.unit() as unit:
            found = self._entries.like(unit, individual, branch)[:limit]
        return pb.FindDuplicatesResponse(
            match=[
                pb.DuplicateMatch(
                    individual_id=one.individual.id,
                    name=" ".join(filter(None, (one.individual.given_name, one.individual.family_name)))
                    or one.individual.full_name
                    or "",
                    score=_decimal(one.probability),
                    reason=[convert.to_message(reason, pb.DuplicateReason) for reason in one.reasons],
                )
                for one in found
            ]
        )

    def ConfirmDuplicate(self, request: pb.DecideDuplicateRequest, context: Any) -> pb.DuplicateCandidate:
        """They are one: merging them is another matter. Raises FailedPrecondition BAD_TRANSITION."""
        return self._decide(request, DuplicateState.CONFIRMED)

    def RejectDuplicate(self, request: pb.DecideDuplicateRequest, context: Any) -> pb.DuplicateCandidate:
        """They are two, for good. Raises FailedPrecondition BAD_TRANSITION."""
        return self._decide(request, DuplicateState.REJECTED)

    def _decide(self, request: pb.DecideDuplicateRequest, state: DuplicateState) -> pb.DuplicateCandidate:
        def work(unit: Unit) -> pb.DuplicateCandidate:
            candidate = unit.get(DuplicateCandidate, request.id, request.etag)
            candidate.decide(state, unit.call.principal.subject, unit.at, request.note)
            return self._candidates.reply(unit, candidate)

        return self._database.transact(request, pb.DuplicateCandidate, work)

    def CreateDuplicateSearch(self, request: pb.CreateDuplicateSearchRequest, context: Any) -> pb.DuplicateSearch:
        """Asks for a look through a branch. Raises InvalidArgument BRANCH_REQUIRED, OUT_OF_RANGE."""
        try:
            threshold = decimal_of(request.threshold) if request.HasField("threshold") else None
        except ValueError as error:
            wrong = Violation("threshold", str(error))
            raise InvalidArgument("INVALID_VALUE", str(error), violations=[wrong]) from error

        def work(unit: Unit) -> pb.DuplicateSearch:
            branch = self._database.branch_for_create(DuplicateSearch, request.branch)
            asked = DuplicateSearch(id=new_id(), branch=branch, threshold=threshold)
            asked.check(unit.at)
            unit.add(asked)
            return self._searches.reply(unit, asked)

        return self._database.transact(request, pb.DuplicateSearch, work)


def _limit(asked: int, default: int, most: int) -> int:
    if not 0 <= asked <= most:
        what = f"a limit is from 1 to {most}"
        raise InvalidArgument("OUT_OF_RANGE", what, violations=[Violation("limit", what)])
    return asked or default


def _decimal(score: float) -> str:
    return str(Decimal(str(round(score, 4))))


def _shown(match: Match) -> pb.PartyMatch:
    return pb.PartyMatch(
        party_id=match.party_id,
        party_type=match.party_type,
        branch=match.branch,
        name=match.name,
        score=_decimal(match.score),
        reason=[
            pb.MatchReason(asked=one.asked, kind=one.kind, code=one.code, found=one.found, score=_decimal(one.score))
            for one in match.found
        ],
        customer=[pb.MatchedCustomer(id=key, name=name, status=status) for key, name, status in match.customers],
    )
