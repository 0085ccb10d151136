"""The chains and their verifier: every fault is named, and none where there is none."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from orders.billing.domain import SOURCE, ZERO_HASH, canonical
from svyaz_cli.billing_chain import ChainVerifier, Event, Finding, Verdict
from svyaz_cli.billing_state import State
from tests.billing.charges import chain, corrupted, head_of

A = "account-1"


def verified(events: Iterable[Event]) -> list[Finding]:
    """Everything that the verifier says, gaps at the end included."""
    state = State(":memory:")
    try:
        verifier = ChainVerifier(state, SOURCE)
        findings = [finding for event in events for finding in verifier.feed(event, 0.0)]
        return findings + [gap for account in verifier.overdue(1.0) for gap in verifier.gaps(account)]
    finally:
        state.close()


def verdicts(findings: Iterable[Finding]) -> Counter[Verdict]:
    return Counter(finding.verdict for finding in findings)


def accepted(findings: Iterable[Finding], account: str = A) -> list[tuple[int, int]]:
    return [(f.epoch, f.sequence) for f in findings if f.verdict is Verdict.ACCEPTED and f.account == account]


def test_the_hash_is_that_of_the_previous_hash_in_ascii_followed_by_the_canonical_data() -> None:
    first, second = chain(A, 2)
    assert first.previous_hash == ZERO_HASH == "0" * 64
    assert first.hash == hashlib.sha256(b"0" * 64 + first.data).hexdigest()
    assert second.previous_hash == first.hash
    assert second.hash == hashlib.sha256(first.hash.encode() + second.data).hexdigest()


def test_the_data_is_canonical_and_holds_its_place_and_decimal_strings() -> None:
    (event,) = chain(A, 1)
    content = json.loads(event.data)
    assert rfc8785.dumps(content) == event.data
    assert (content["account"], content["epoch"], content["sequence"]) == (A, 1, 1)
    assert content["amount"] == {"unit": "KGS", "value": "499.00"}
    assert content["taxRate"] == "12"
    assert not [value for value in content.values() if isinstance(value, float)]


NAMES = st.text(st.characters(max_codepoint=127), min_size=1)
PLAIN = st.recursive(
    st.text() | st.integers(-(2**53) + 1, 2**53 - 1), lambda inner: st.dictionaries(NAMES, inner, max_size=5)
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, PLAIN, max_size=8))
def test_what_the_seal_writes_is_what_rfc_8785_says(fields: dict[str, Any]) -> None:
    assert canonical(fields) == rfc8785.dumps(fields)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Event], list[Event], set[tuple[str, int]], set[tuple[str, int]]]:
    """What was sealed; what arrives; which events were dropped; of which an altered copy came."""
    seed = draw(st.integers(0, 2**32 - 1))
    chance = random.Random(seed)
    sealed = [
        event for number in range(draw(st.integers(1, 3))) for event in chain(f"a{number}", draw(st.integers(1, 9)))
    ]
    order = draw(st.permutations(sealed))
    arriving: list[Event] = []
    dropped, faulty = set(), set()
    for event in order:
        what = draw(st.sampled_from(["deliver", "deliver", "deliver", "drop", "twice", "alter", "alter too"]))
        if what in ("drop", "alter"):
            dropped.add((event.account, event.sequence))
        if what.startswith("alter"):
            faulty.add((event.account, event.sequence))
            arriving.append(corrupted(event, chance))
        if what not in ("drop", "alter"):
            arriving.extend([event] * (2 if what == "twice" else 1))
    return sealed, arriving, dropped, faulty


@settings(deadline=None)
@given(streams())
def test_every_fault_is_named_and_none_falsely(
    stream: tuple[list[Event], list[Event], set[tuple[str, int]], set[tuple[str, int]]],
) -> None:
    sealed, arriving, dropped, faulty = stream
    findings = verified(arriving)
    counts = verdicts(findings)
    assert counts[Verdict.ALTERED] == len(faulty)
    assert counts[Verdict.FORK] == counts[Verdict.SUPERSEDED] == 0
    assert counts[Verdict.DUPLICATE] == sum(c - 1 for c in Counter(arriving).values())
    for account in {event.account for event in sealed}:
        length = max(event.sequence for event in sealed if event.account == account)
        missing = {sequence for name, sequence in dropped if name == account}
        upto = min(missing, default=length + 1) - 1
        # In order, exactly once, up to the first that isn't there.
        assert accepted(findings, account) == [(1, n) for n in range(1, upto + 1)]
        # What is missing before something that came is named exactly; what is missing at the end only the log knows.
        come = {event.sequence for event in sealed if event.account == account} - missing
        named = {
            n
            for f in findings
            if f.verdict is Verdict.GAP and f.account == account
            for n in range(f.sequence, f.until + 1)
        }
        assert named == {n for n in missing if n < max(come, default=0)}


@settings(deadline=None)
@given(streams())
def test_what_was_dropped_or_altered_is_healed_from_the_log(
    stream: tuple[list[Event], list[Event], set[tuple[str, int]], set[tuple[str, int]]],
) -> None:
    sealed, arriving, _, _ = stream
    findings = verified([*arriving, *sealed])
    for account in {event.account for event in sealed}:
        length = max(event.sequence for event in sealed if event.account == account)
        assert accepted(findings, account) == [(1, n) for n in range(1, length + 1)]
    assert verdicts(findings)[Verdict.GAP] == 0


def test_two_different_events_for_one_place_are_a_fork() -> None:
    real, forged = chain(A, 3), chain(A, 3)
    assert [f.verdict for f in verified([real[0], forged[0]])] == [Verdict.ACCEPTED, Verdict.FORK]
    assert [f.verdict for f in verified([real[1], forged[1]])][:2] == [Verdict.EARLY, Verdict.FORK]


def test_an_event_that_continues_another_chain_is_a_fork_wherever_it_comes() -> None:
    real, forged = chain(A, 3), chain(A, 3)
    assert [f.verdict for f in verified([real[0], forged[1]])] == [Verdict.ACCEPTED, Verdict.FORK]
    late = verified([forged[1], real[0], real[1], real[2]])
    assert verdicts(late) == {
        Verdict.EARLY: 1,
        Verdict.REORDERED: 1,
        Verdict.FORK: 1,
        Verdict.ACCEPTED: 3,
    }


def test_an_event_of_another_source_is_no_event() -> None:
    (event,) = chain(A, 1)
    data = rfc8785.dumps(json.loads(event.data) | {"source": "svyaz/elsewhere"})
    hash_ = hashlib.sha256(ZERO_HASH.encode() + data).hexdigest()
    assert [f.verdict for f in verified([replace(event, source="svyaz/elsewhere", data=data, hash=hash_)])] == [
        Verdict.ALTERED
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"null"])
def test_data_that_is_no_json_object_is_altered_even_with_its_hash(data: bytes) -> None:
    (event,) = chain(A, 1)
    hash_ = hashlib.sha256(ZERO_HASH.encode() + data).hexdigest()
    assert [f.verdict for f in verified([replace(event, data=data, hash=hash_)])] == [Verdict.ALTERED]


# --- epochs ----------------------------------------------------------------------------------------------------------


def test_a_new_epoch_names_the_last_common_event_and_goes_on_from_one() -> None:
    old = chain(A, 3)
    new = chain(A, 2, epoch=2, head=head_of(old))
    assert json.loads(new[0].data)["lastCommon"] == {"epoch": 1, "sequence": 3, "hash": old[-1].hash}
    assert "lastCommon" not in json.loads(new[1].data)
    assert new[0].previous_hash == ZERO_HASH
    findings = verified([*old, *new])
    assert accepted(findings) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert verdicts(findings) == {Verdict.ACCEPTED: 5}


@settings(deadline=None)
@given(st.data())
def test_epochs_are_followed_in_whatever_order_they_come(data: st.DataObject) -> None:
    old = chain(A, data.draw(st.integers(1, 4)))
    middle = chain(A, data.draw(st.integers(0, 3)), epoch=2, head=head_of(old))
    new = chain(A, data.draw(st.integers(1, 3)), epoch=4, head=head_of(middle or old))
    sealed = [*old, *middle, *new]
    findings = verified(data.draw(st.permutations(sealed)))
    assert accepted(findings) == [(event.epoch, event.sequence) for event in sealed]
    assert set(verdicts(findings)) <= {Verdict.ACCEPTED, Verdict.EARLY, Verdict.REORDERED}


def test_what_a_restore_lost_is_superseded_whether_it_was_taken_or_comes_late() -> None:
    old = chain(A, 5)
    new = chain(A, 1, epoch=2, head=head_of(old[:2]))
    findings = verified([*old[:4], *new, old[4]])
    assert accepted(findings) == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    lost = [(f.epoch, f.sequence, f.until) for f in findings if f.verdict is Verdict.SUPERSEDED]
    assert lost == [(1, 3, 4), (1, 5, 5)]
    assert not [f for f in findings if f.fault]


def test_what_waited_for_an_event_that_a_restore_lost_is_superseded() -> None:
    old = chain(A, 4)
    new = chain(A, 1, epoch=2, head=head_of(old[:1]))
    findings = verified([old[0], old[2], old[3], *new])
    assert accepted(findings) == [(1, 1), (2, 1)]
    assert [(f.epoch, f.sequence) for f in findings if f.verdict is Verdict.SUPERSEDED] == [(1, 3), (1, 4)]


def test_an_account_that_the_restored_database_did_not_know_begins_anew() -> None:
    old, new = chain(A, 2), chain(A, 2, epoch=2)
    findings = verified([*old, *new])
    assert accepted(findings) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [(f.epoch, f.sequence, f.until) for f in findings if f.verdict is Verdict.SUPERSEDED] == [(1, 1, 2)]


def test_a_last_common_event_that_was_another_one_here_is_a_fork() -> None:
    old, other = chain(A, 2), chain(A, 2)
    findings = verified([*old, *chain(A, 1, epoch=2, head=head_of(other))])
    assert [f.verdict for f in findings] == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.FORK]


def test_a_new_epoch_waits_for_its_last_common_event_and_names_it_as_the_gap() -> None:
    old = chain(A, 4)
    new = chain(A, 2, epoch=2, head=head_of(old))
    findings = verified([old[0], new[1], new[0]])
    gaps = [(f.epoch, f.sequence, f.until) for f in findings if f.verdict is Verdict.GAP]
    assert gaps == [(1, 2, 4)]


def test_what_is_remembered_outlives_the_process(tmp_path: object) -> None:
    events = chain(A, 4)
    file = f"{tmp_path}/state"
    state = State(file)
    verifier = ChainVerifier(state, SOURCE)
    for event in (events[0], events[2]):
        list(verifier.feed(event, 5.0))
    state.advance("s", 7)
    state.close()
    state = State(file)
    verifier = ChainVerifier(state, SOURCE)
    assert state.position("s") == 7
    assert state.position("another") == 0
    assert [f.verdict for f in verifier.feed(events[0], 6.0)] == [Verdict.DUPLICATE]
    assert verifier.overdue(5.5) == [A]
    assert [(f.verdict, f.sequence) for f in verifier.feed(events[1], 6.0)] == [
        (Verdict.REORDERED, 2),
        (Verdict.ACCEPTED, 2),
        (Verdict.ACCEPTED, 3),
    ]
    state.close()
