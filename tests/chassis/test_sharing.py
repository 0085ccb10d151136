"""Callers that ask the same at the same moment share a round trip, and get nothing but what is true for them."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from chassis.errors import InvalidArgument
from chassis.sharing import Shared


class Desk:
    """Answers with when it was asked; holds answers back until it is told to give them."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.open = threading.Event()
        self.reached = threading.Semaphore(0)

    def __call__(self, keys: Sequence[str]) -> tuple[int, Sequence[str]]:
        self.asked.append(keys)
        number = len(self.asked)
        self.reached.release()
        assert self.open.wait(10)
        if "bad" in keys:
            raise InvalidArgument("BAD", "bad")
        return number, keys


def waiting(shared: Shared[tuple[int, Sequence[str]]], callers: int) -> bool:
    """Whether so many wait for the question that is next."""
    found = shared._waiting.get("question")
    return found is not None and found.callers == callers


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor


def first_then(
    pool: ThreadPoolExecutor, desk: Desk, shared: Shared[tuple[int, Sequence[str]]], *others: str
) -> list["Future[tuple[int, Sequence[str]]]"]:
    """Somebody asks; while he waits for the answer the others come, in this order."""
    futures = [pool.submit(shared.of, "question", ["first"], desk)]
    assert desk.reached.acquire(timeout=10)
    for number, key in enumerate(others, 1):
        futures.append(pool.submit(shared.of, "question", [key], desk))
        until(partial(waiting, shared, number))
    return futures


def test_who_comes_while_a_question_is_under_way_shares_the_next(pool: ThreadPoolExecutor) -> None:
    desk, shared = Desk(), Shared[tuple[int, Sequence[str]]]()
    futures = first_then(pool, desk, shared, "c", "a", "b", "a")
    desk.open.set()
    assert [future.result(10) for future in futures] == [(1, ["first"]), *[(2, ["a", "b", "c"])] * 4]
    assert desk.asked == [["first"], ["a", "b", "c"]]
    assert not shared._waiting


def test_another_question_doesnt_wait(pool: ThreadPoolExecutor) -> None:
    desk, other, shared = Desk(), Desk(), Shared[tuple[int, Sequence[str]]]()
    other.open.set()
    futures = first_then(pool, desk, shared)
    assert shared.of("another", ["x"], other) == (1, ["x"])
    desk.open.set()
    assert futures[0].result(10) == (1, ["first"])


def test_a_fault_of_somebody_elses_key_is_nobody_elses(pool: ThreadPoolExecutor) -> None:
    desk, shared = Desk(), Shared[tuple[int, Sequence[str]]]()
    futures = first_then(pool, desk, shared, "good", "bad", "fine")
    desk.open.set()
    assert futures[1].result(10)[1] == ["good"]
    with pytest.raises(InvalidArgument, match="bad"):
        futures[2].result(10)
    assert futures[3].result(10)[1] == ["fine"]
    assert desk.asked[:2] == [["first"], ["bad", "fine", "good"]]
    assert not shared._waiting


def test_a_lonely_callers_fault_is_asked_for_once() -> None:
    desk, shared = Desk(), Shared[tuple[int, Sequence[str]]]()
    desk.open.set()
    with pytest.raises(InvalidArgument, match="bad"):
        shared.of("question", ["bad"], desk)
    assert desk.asked == [["bad"]]
    assert shared.of("question", ["good"], desk) == (2, ["good"])


def test_every_answer_is_from_after_its_call() -> None:
    """Many callers; what they ask about changes all the time, and nobody is told what was before he asked."""
    now = 0
    changing = threading.Lock()
    shared = Shared[dict[str, int]]()

    def ask(keys: Sequence[str]) -> dict[str, int]:
        with changing:
            found = dict.fromkeys(keys, now)
        time.sleep(random.random() / 2_000)
        return found

    def call(caller: int) -> None:
        nonlocal now
        for number in range(200):
            key = f"{caller}-{number}"
            with changing:
                now += 1
                before = now
            assert shared.of("question", [key], ask)[key] >= before

    with ThreadPoolExecutor(8) as executor:
        for done in [executor.submit(call, caller) for caller in range(8)]:
            done.result(60)
    assert not shared._waiting
