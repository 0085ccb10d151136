"""May this customer be contacted by this channel for this purpose at this instant? Pure: facts and rules in, a decision
and its receipt out; from the receipt's inputs the same again, byte for byte."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain

import msgspec

from chassis.receipts import Receipt, ReceiptStep
from customers.permission import hours
from customers.permission.facts import Contact, Decision, Facts, Inputs, Medium, Rules
from customers.permission.values import (
    BAD_STATES,
    CapPeriod,
    ChannelRule,
    ContactRefusal,
    FrequencyCap,
    LocalInterval,
    PointState,
    PurposeRule,
    QuietHours,
    RejectedMedium,
)

ENGINE = "customers.permission"
REVISION = "1"
# How far ahead an hour is looked for that isn't quiet: over the longest of holidays.
HORIZON_DAYS = 15
# How often quiet hours and caps may send each other on.
_TURNS = 64

_CODES = {
    PointState.DOES_NOT_EXIST: "DOES_NOT_EXIST",
    PointState.OLD: "OLD",
    PointState.WRONG_PERSON: "WRONG_PERSON",
}


_READ = msgspec.json.Decoder(Inputs)


def decide(facts: Facts, rules: Rules, at: datetime) -> tuple[Decision, Receipt]:
    """The decision for an instant, with its receipt."""
    inputs = Inputs(facts=facts, rules=rules, at=at)
    decision, steps = _Judge(facts, rules, at).judge()
    text = msgspec.json.encode(inputs).decode()
    return decision, Receipt(engine=ENGINE, revision=REVISION, inputs=text, step=tuple(steps))


def read(receipt: Receipt) -> Inputs:
    """What a decision rests on. Raises msgspec.ValidationError for what no engine wrote."""
    return _READ.decode(receipt.inputs)


def replay(receipt: Receipt) -> tuple[Decision, Receipt]:
    """What the engine makes of a receipt's inputs today. Raises msgspec.ValidationError for what no engine wrote."""
    inputs = read(receipt)
    return decide(inputs.facts, inputs.rules, inputs.at)


class _Judge:
    def __init__(self, facts: Facts, rules: Rules, at: datetime) -> None:
        self._facts = facts
        self._rules = rules
        self._at = at
        self._steps: list[ReceiptStep] = []
        self._refusals: list[ContactRefusal] = []

    def judge(self) -> tuple[Decision, list[ReceiptStep]]:
        channel, purpose = self._rules.channel, self._rules.purpose
        if not self._rules.policy:
            self._refuse("NO_POLICY", "", "the branch has no policy in force")
        elif channel is None:
            self._refuse("CHANNEL_UNKNOWN", self._rules.policy, self._facts.channel)
        elif purpose is None:
            self._refuse("PURPOSE_UNKNOWN", self._rules.policy, self._facts.purpose)
        if channel is None or purpose is None or self._refusals:
            return Decision(medium=None, refusals=tuple(self._refusals)), self._steps
        self._right(purpose)
        self._opted_out(purpose)
        self._consent(purpose)
        caps = self._caps(purpose)
        medium = self._medium(channel, purpose, caps)
        zones = self._zones(medium)
        quiet = self._quiet_rules(purpose)
        self._hours(quiet, zones)
        best = self._best_time(purpose, medium, zones)
        self._frequency(caps, medium, zones)
        before = retry_at = None
        if not self._refusals:
            before = hours.first(
                lambda instant: bool(_quiet(quiet, zones, instant)), self._at, self._changes(quiet, (), zones)
            )
        else:
            retry_at = self._retry(quiet, best, caps, medium, zones)
        decision = Decision(
            medium=medium if not self._refusals else None,
            refusals=tuple(self._refusals),
            before=before,
            retry_at=retry_at,
        )
        return decision, self._steps

    # --- one after the other ---

    def _right(self, purpose: PurposeRule) -> None:
        needed = purpose.role
        if needed and not set(needed) & set(self._facts.roles):
            self._refuse("ROLE_REQUIRED", self._rules.policy, f"one of {', '.join(needed)}")
        if purpose.transactional and not self._facts.has_reason:
            self._refuse("REASON_REQUIRED", self._rules.policy, "a transactional purpose needs a reason")

    def _opted_out(self, purpose: PurposeRule) -> None:
        for one in self._facts.opt_outs:
            fits = one.channel in (None, self._facts.channel) and one.purpose in (None, self._facts.purpose)
            if not fits:
                continue
            if purpose.transactional and one.purpose is None:
                self._step("OPT_OUT_PASSED", one.id, reason="transactional")
            else:
                self._refuse("OPTED_OUT", one.id)

    def _consent(self, purpose: PurposeRule) -> None:
        if not purpose.needs_consent:
            return
        fitting = [one for one in self._facts.consents if one.channel in (None, self._facts.channel)]
        withdrawn = max((one.withdrawn_at for one in fitting if one.withdrawn_at is not None), default=None)
        for one in fitting:
            reason = None
            if one.withdrawn_at is not None:
                reason = "withdrawn"
            elif withdrawn is not None and one.given_at <= withdrawn:
                reason = "another was withdrawn after it"
            elif one.given_at > self._at:
                reason = "given later"
            elif one.valid_until is not None and one.valid_until <= self._at:
                reason = "expired"
            if reason is None:
                self._step("CONSENT_FOUND", one.id)
                return
            self._step("CONSENT_REJECTED", one.id, reason=reason)
        self._refuse("NO_CONSENT", self._rules.policy)

    def _medium(self, channel: ChannelRule, purpose: PurposeRule, caps: Sequence[FrequencyCap]) -> Medium | None:
        """The best that can be used: one that no cap closes, made for the purpose, at its best time, preferred, known
        to be good."""
        listed = channel.do_not_call is not False and not purpose.despite_do_not_call
        possible, rejected = [], []
        for one in self._facts.media:
            if one.kind is not channel.kind or self._facts.medium not in ("", one.value):
                continue
            code = self._obstacle(one, on_lists=listed)
            if code is None:
                possible.append(one)
            else:
                rejected.append(RejectedMedium(kind=one.kind, value=one.value, code=code))
                self._step("MEDIUM_REJECTED", one.value, reason=code)
        entry = self._facts.do_not_call if listed else None
        blocked = [one for one in rejected if one.code == "DO_NOT_CALL"]
        if entry is not None or (blocked and not possible):
            rule = entry or next(m.do_not_call or "" for m in self._facts.media if m.value == blocked[0].value)
            self._refuse("DO_NOT_CALL", rule, rejected=tuple(rejected))
        elif not possible:
            self._refuse("NO_VALID_MEDIUM", "", str(channel.kind), rejected=tuple(rejected))
        if not possible:
            return None
        best = min(possible, key=lambda one: (self._too_often(one, caps), *self._rank(one)))
        self._step("MEDIUM_CHOSEN", best.value, reason=str(best.state))
        return best

    def _obstacle(self, one: Medium, *, on_lists: bool) -> str | None:
        if one.state in BAD_STATES:
            return _CODES[one.state]
        if not one.well_formed:
            return "MALFORMED"
        if not one.listed:
            return "NOT_LISTED"
        if one.purposes and self._facts.purpose not in one.purposes:
            return "OTHER_PURPOSE"
        if on_lists and one.do_not_call is not None:
            return "DO_NOT_CALL"
        return None

    def _rank(self, one: Medium) -> tuple[bool, bool, bool, bool, str]:
        return (
            not one.purposes,
            not _at_best_time(one, self._zones_of(one), self._at),
            not one.preferred,
            one.state is not PointState.VALID,
            one.value,
        )

    def _too_often(self, one: Medium, caps: Sequence[FrequencyCap]) -> bool:
        zones = self._zones_of(one)
        return any(_full(cap, self._counted(cap, one), zones, self._at) for cap in caps)

    def _zones_of(self, medium: Medium) -> tuple[str, ...]:
        return self._facts.zones or medium.zones or self._anywhere()

    def _anywhere(self) -> tuple[str, ...]:
        """Wherever a number of the customer's may be; without any, wherever the branch's customers are."""
        found = {zone for one in self._facts.media if one.listed and one.state not in BAD_STATES for zone in one.zones}
        return tuple(sorted(found)) or self._rules.time_zones

    def _zones(self, medium: Medium | None) -> tuple[str, ...]:
        zones = self._zones_of(medium) if medium is not None else self._facts.zones or self._anywhere()
        by = self._facts.zones_by if self._facts.zones else "NUMBER" if zones != self._rules.time_zones else "POLICY"
        self._step("ZONES_FOUND", by, after=" ".join(zones))
        return zones

    # --- when ---

    def _quiet_rules(self, purpose: PurposeRule) -> list[QuietHours]:
        found = []
        for rule in self._rules.quiet_hours:
            free = purpose.despite_legal_hours if rule.legal else purpose.transactional
            if free:
                self._step("HOURS_PASSED", rule.name or "", reason="the purpose is free from them")
            else:
                found.append(rule)
        return found

    def _hours(self, quiet: Sequence[QuietHours], zones: Sequence[str]) -> None:
        found = _quiet(quiet, zones, self._at)
        if not found:
            return
        until = hours.first(
            lambda instant: not _quiet(quiet, zones, instant), self._at, self._changes(quiet, (), zones)
        )
        rule, zone = found
        self._refuse("QUIET_HOURS", rule.name or "", f"{hours.wall_time(self._at, zone):%F %R} {zone}", until)

    def _best_time(
        self, purpose: PurposeRule, medium: Medium | None, zones: Sequence[str]
    ) -> tuple[LocalInterval, ...]:
        """The times to which the contact is bound."""
        if not purpose.best_time_only or medium is None or not medium.best_time:
            return ()
        if not _at_best_time(medium, zones, self._at):
            until = hours.first(
                lambda instant: _at_best_time(medium, zones, instant),
                self._at,
                self._changes((), medium.best_time, zones),
            )
            self._refuse("NOT_BEST_TIME", medium.value, until=until)
        return medium.best_time

    def _caps(self, purpose: PurposeRule) -> list[FrequencyCap]:
        found = []
        for cap in self._rules.caps:
            if purpose.transactional and purpose.purpose not in cap.purpose:
                self._step("CAP_PASSED", cap.name or "", reason="transactional")
            else:
                found.append(cap)
        return found

    def _frequency(self, caps: Sequence[FrequencyCap], medium: Medium | None, zones: Sequence[str]) -> None:
        for cap in caps:
            others = self._counted(cap, medium)
            if _full(cap, others, zones, self._at):
                until = self._freed([cap], medium, zones, self._at)
                self._refuse("FREQUENCY_CAP", cap.name or "", f"{cap.limit} a {cap.period}", until)
            else:
                self._step("CAP_OPEN", cap.name or "", after=f"{len(others)} near, {cap.limit} a {cap.period}")

    def _counted(self, cap: FrequencyCap, medium: Medium | None) -> list[Contact]:
        """The contacts that the cap counts, beside the one that is asked for: the customer's, and whoever's by the same
        medium. Whose telephone rings for two customers hears it as often as whose rings for one."""
        transactional = () if cap.purpose else self._rules.transactional
        return [
            one
            for one in self._facts.contacts
            if (not cap.channel or one.channel in cap.channel)
            and (not cap.purpose or one.purpose in cap.purpose)
            and one.purpose not in transactional
            and (one.medium is None or (medium is not None and one.medium == medium.value))
            and (one.expires_at is None or one.expires_at > self._facts.now)
        ]

    def _freed(
        self, caps: Sequence[FrequencyCap], medium: Medium | None, zones: Sequence[str], at: datetime
    ) -> datetime | None:
        """The first instant from one on at which none of the caps is full, if nobody is contacted until then."""
        counted = [(cap, self._counted(cap, medium)) for cap in caps]
        found = set()
        for cap, others in counted:
            period = cap.period or CapPeriod.DAY
            for one in others:
                if cap.sliding:
                    found.add(one.at + hours.SLIDING[period])
                else:
                    found |= {hours.window(period, one.at, zone)[1] for zone in zones}
        later = iter(sorted(instant for instant in found if instant > at))
        return hours.first(lambda instant: not any(_full(c, o, zones, instant) for c, o in counted), at, later)

    def _retry(
        self,
        quiet: Sequence[QuietHours],
        best: tuple[LocalInterval, ...],
        caps: Sequence[FrequencyCap],
        medium: Medium | None,
        zones: Sequence[str],
    ) -> datetime | None:
        """When hours and caps are no longer in the way; None: they aren't now, or there is no such time."""
        if not {one.code for one in self._refusals} & {"QUIET_HOURS", "NOT_BEST_TIME", "FREQUENCY_CAP"}:
            return None

        def open_at(instant: datetime) -> bool:
            return not _quiet(quiet, zones, instant) and (not best or _within(best, zones, instant))

        at: datetime | None = self._at
        for _ in range(_TURNS):
            opened = hours.first(open_at, at, self._changes(quiet, best, zones, at)) if at is not None else None
            at = self._freed(caps, medium, zones, opened) if opened is not None else None
            if at is None or at == opened:
                return at
        return None

    def _changes(
        self,
        quiet: Sequence[QuietHours],
        best: tuple[LocalInterval, ...],
        zones: Sequence[str],
        after: datetime | None = None,
    ) -> Iterator[datetime]:
        intervals = [*best, *(rule.interval for rule in quiet if rule.interval is not None)]
        return hours.changes(intervals, zones, after or self._at, HORIZON_DAYS)

    # --- what is written down ---

    def _step(self, action: str, rule: str, *, after: str | None = None, reason: str | None = None) -> None:
        self._steps.append(
            ReceiptStep(subject=self._facts.customer, action=action, rule=rule, after=after, reason=reason)
        )

    def _refuse(
        self,
        code: str,
        rule: str,
        detail: str | None = None,
        until: datetime | None = None,
        rejected: tuple[RejectedMedium, ...] = (),
    ) -> None:
        self._refusals.append(ContactRefusal(code=code, rule=rule, detail=detail, until=until, rejected=rejected))
        self._step("REFUSED", rule, after=until.isoformat() if until else None, reason=code)


def _quiet(quiet: Sequence[QuietHours], zones: Sequence[str], at: datetime) -> tuple[QuietHours, str] | None:
    """A rule by which it is quiet somewhere where the customer may be, and where; None: it is quiet nowhere."""
    for zone in zones:
        wall = hours.wall_time(at, zone)
        for rule in quiet:
            if hours.is_quiet(rule, wall):
                return rule, zone
    return None


def _within(intervals: Sequence[LocalInterval], zones: Sequence[str], at: datetime) -> bool:
    walls = [hours.wall_time(at, zone) for zone in zones]
    return all(any(hours.covers(interval, wall) for interval in intervals) for wall in walls)


def _at_best_time(medium: Medium, zones: Sequence[str], at: datetime) -> bool:
    return not medium.best_time or _within(medium.best_time, zones, at)


def _full(cap: FrequencyCap, others: Sequence[Contact], zones: Sequence[str], at: datetime) -> bool:
    """Whether one contact more at the instant would be too many, wherever the customer is."""
    limit, period = cap.limit or 0, cap.period or CapPeriod.DAY
    if not cap.sliding:
        windows = {hours.window(period, at, zone) for zone in zones}
        return any(sum(begin <= one.at < end for one in others) >= limit for begin, end in windows)
    # Any `limit` others that lie, with this one, within less than the period: it may be the first of them or the last.
    width = hours.SLIDING[period]
    near = sorted(chain([at], (one.at for one in others if abs(one.at - at) < width)))
    return any(last - begin < width for begin, last in zip(near, near[limit:], strict=False))
