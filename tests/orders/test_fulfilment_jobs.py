"""Jobs over many held tasks: what a step costs follows from what it touches, not from how large the job is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from chassis.types import new_id
from chassis.unit import Unit
from orders.fulfilment.job import FulfilmentJob, FulfilmentJobAction, FulfilmentJobState, FulfilmentJobTaskState
from orders.fulfilment.queue import AT_ONCE, Jobs, begin_count, replies
from tests.conftest import ServiceDatabase
from tests.orders.drill import Floor, World

MANY = 2_000

_ENTER = """
    INSERT INTO fulfilment_job_task (job_id, task_id, branch, state)
    SELECT %(job)s, number::text, 'bishkek', 'waiting' FROM generate_series(1, %(many)s) AS number
"""
_READ = """
    SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
    WHERE relname = 'fulfilment_job_task'
"""
_COUNTED = "SELECT state, count(*) FROM fulfilment_job_task WHERE job_id = %(job)s GROUP BY 1"


@pytest.fixture
def place(database_for: Callable[..., ServiceDatabase]) -> ServiceDatabase:
    return database_for("orders")


@pytest.fixture
def floor(place: ServiceDatabase, tmp_path: Path) -> Iterator[Floor]:
    made = Floor(place.url, tmp_path / "offset", World())
    yield made
    made.database.close()


def test_a_step_reads_as_many_rows_as_it_touches(place: ServiceDatabase, floor: Floor) -> None:
    jobs = Jobs(floor.database)
    job = FulfilmentJob(
        id=new_id(), branch="bishkek", action=FulfilmentJobAction.SKIP, reason="gone", failure_threshold=MANY + 1
    )

    def begin(unit: Unit) -> None:
        job.check(unit.at)
        unit.add(job)
        unit.flush()
        # None of these tasks is there any more, so each fails.
        unit.cursor().execute(_ENTER, {"job": job.id, "many": MANY})

        begin_count(unit, job)

    def read_so_far(unit: Unit) -> int:
        ((read,),) = unit.cursor().execute(_READ).fetchall()
        return int(read)

    def step(unit: Unit) -> int:
        before = read_so_far(unit)
        jobs.step(job.id, unit)
        unit.flush()
        return read_so_far(unit) - before

    floor.do(begin)
    with psycopg.connect(place.admin_url, autocommit=True) as admin:
        admin.execute("ANALYZE fulfilment_job_task")
    read = [floor.do(step) for _ in range(MANY // AT_ONCE)]
    # Each that is touched is found once, and marked once.
    assert max(read) <= 2 * AT_ONCE

    def look(unit: Unit) -> tuple[FulfilmentJobState | None, dict[str, int], int]:
        counted = dict(unit.cursor().execute(_COUNTED, {"job": job.id}).fetchall())
        (told,) = replies(unit, [unit.get(FulfilmentJob, job.id)])
        return unit.get(FulfilmentJob, job.id).state, counted, told.progress.failed

    failed = str(FulfilmentJobTaskState.FAILED)
    assert floor.do(look) == (FulfilmentJobState.COMPLETED, {failed: MANY}, MANY)
