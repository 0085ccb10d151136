"""The search of the correspondence and a customer's timeline: how long an answer takes, at 10,000 and at many more
interactions, where half of them are another branch's. How it grows is what is judged: machines differ."""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psycopg

from svyaz.customers.v1 import interaction_pb2, interaction_pb2_grpc
from tests.bench.figures import report
from tests.bench.orders import admin
from tests.platforms import running_platform

SMALL, LARGE = 10_000, 300_000
CALLS = 300
# A page holds as many hits whatever there is; where there are more, more are ranked, up to 10,000.
GOAL = 2.0
# Each customer has some thirty; each letter has some words of many letters, some of few, and a number.
_PLACES = """
    INSERT INTO timeline_entry (interaction_id, branch, customer_id, at, planned, channel, direction, owner, folded,
        numbers)
    SELECT id, branch, 'customer-' || n %% %(customers)s, timestamptz '2026-01-01' + n * interval '1 minute', false,
        '{phone}', 'inbound', NULL, text, ARRAY['tel' || reverse((996555000000 + n)::text)]
    FROM made
"""
_INTERACTIONS = """
    INSERT INTO party_interaction (id, branch, revision, creation_date, description, direction, reason, status,
        channel, interaction_date)
    SELECT id, branch, 1, now(), text, 'inbound', 'вопрос', 'completed', '[{"id": "phone"}]', '{}' FROM made
"""
_MADE = """
    CREATE TEMP TABLE made ON COMMIT DROP AS
    SELECT n, format('interaction-%%s', n) AS id, CASE n %% 2 WHEN 0 THEN 'bishkek' ELSE 'osh' END AS branch,
        format('здравствуйте, прошу проверить начисления по договору %%s, абонент слово%%s слово%%s звонил дважды',
            n, n %% 1009, n * 7 %% 5003) AS text
    FROM generate_series(%s::int, %s::int) AS n
"""


def fill(url: str, first: int, last: int) -> None:
    """Adds the interactions from the first number to the last."""
    with psycopg.connect(url) as connection:
        for begin in range(first, last + 1, 50_000):
            connection.execute(_MADE, (begin, min(begin + 49_999, last)))
            connection.execute(_INTERACTIONS)
            connection.execute(_PLACES, {"customers": max(1, LARGE // 30)})
            connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE timeline_entry")
        connection.execute("VACUUM ANALYZE party_interaction")


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """Median and 99th percentile of a call."""
    taken = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def main() -> int:
    """1 when a goal is missed."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--interactions", type=int, default=LARGE)
    large = arguments.parse_args().interactions
    good = True
    with tempfile.TemporaryDirectory() as directory, running_platform(Path(directory)) as platform:
        token = (("authorization", f"Bearer {platform.token('agent', 'bishkek')}"),)
        pick = random.Random(1)
        with grpc.insecure_channel(platform.address("customers")) as channel:
            stub = interaction_pb2_grpc.InteractionServiceStub(channel)

            def found(query: str) -> int:
                asked = interaction_pb2.SearchInteractionsRequest(query=query)
                return len(stub.SearchInteractions(asked, metadata=token).items)

            def timeline() -> object:
                whose = f"customer-{pick.randrange(0, SMALL // 30) * 2}"
                return stub.ListTimeline(interaction_pb2.ListTimelineRequest(customer_id=whose), metadata=token)

            works: dict[str, Callable[[], object]] = {
                "a number": lambda: found(f"0555 {pick.randrange(2, SMALL, 2):06}"),
                "a rare word": lambda: found(f"слово{pick.randrange(1009)} договоры"),
                "two words": lambda: found(f"слово{pick.randrange(1009)} слово{pick.randrange(5003)}"),
                "timeline": timeline,
            }
            before: dict[str, float] = {}
            done = 0
            for number in (SMALL, large):
                fill(admin(platform, "customers"), done + 1, number)
                done = number
                assert found("+996 555 000 002") == 1
                for name, work in works.items():
                    median, slowest = milliseconds(work)
                    known = before.setdefault(name, median)
                    good &= report(
                        f"{name}, {number:,} interactions", median, "ms", baseline=known, goal=GOAL, lower=True
                    )
                    print(f"  p99 {slowest:.1f} ms", file=sys.stderr)
            median, _ = milliseconds(lambda: found("начислений"))
            print(f"  a word in all of them: {median:.0f} ms", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
