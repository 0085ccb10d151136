"""Random amendments, cancellations, failures and deaths: in the end every order is complete or undone, the inventory is
the sum of the completed ones, and the chain of charges is the inventory's history. `python -m tests.study.order_model`
looks for longer."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import ServiceDatabase
from tests.orders.machine import Ordering
from tests.orders.office import Office


@pytest.fixture(scope="module")
def office(database_for: Callable[..., ServiceDatabase]) -> Iterator[Office]:
    place = database_for("orders")
    made = Office(place.url, place.admin_url)
    with made.axe.held():
        yield made
    made.close()


@pytest.mark.timeout(600)
def test_whatever_happens_it_ends_as_the_model_says(office: Office) -> None:
    run_state_machine_as_test(
        lambda: Ordering(office),  # type: ignore[arg-type]
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            # The same in every run; the study looks elsewhere.
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
