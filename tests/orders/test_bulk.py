"""Mass sales: each row becomes one order or says why not, whatever happens meanwhile."""

import base64
import csv
import io
import json
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from chassis.events import acting
from orders.bulk import incoming, steps, store
from orders.bulk.domain import BulkOrder, order_id
from orders.bulk.reading import MOST_RECORD_BYTES, Intake, read
from orders.bulk.steps import DEAL, KEPT, PATIENCE, STUCK
from orders.bulk.template import RowFault, parse
from orders.bulk.values import BulkOrderFormat, Record
from svyaz.orders.v1 import bulk_pb2
from svyaz_cli.main import app
from tests.orders.conftest import ORDER, Shop, item

BULK = "svyaz.orders.v1.BulkOrderService/"
HEADER = "customer,account,offering,number\n"


def template(**more: Any) -> str:
    wanted = {
        "id": "1",
        "action": "add",
        "quantity": "{number?|integer}",
        "productOffering": {"id": "{offering}"},
    }
    return json.dumps(
        {
            "relatedParty": [{"id": "{customer}", "role": "customer", "@referredType": "Customer"}],
            "billingAccount": {"id": "{account}"},
            "productOrderItem": [wanted],
            **more,
        }
    )


def create(shop: Shop, **more: Any) -> str:
    body = {"template": template(), "orders_per_second": 200, **more}
    return str(shop.admin(BULK + "CreateBulkOrder", bulk_order=body).id)


def upload(shop: Shop, job: str, data: bytes, size: int = 1 << 20) -> bulk_pb2.BulkOrder:
    made = None
    for offset in range(0, max(1, len(data)), size):
        part = base64.b64encode(data[offset : offset + size]).decode()
        made = shop.admin(
            BULK + "UploadBulkOrderRows", id=job, offset=offset, content=part, last=offset + size >= len(data)
        )
    assert isinstance(made, bulk_pb2.BulkOrder)
    return made


def a_file(rows: Sequence[tuple[str, str, str, str]]) -> bytes:
    return (HEADER + "".join(",".join(row) + "\n" for row in rows)).encode()


def start(shop: Shop, job: str, **more: Any) -> None:
    shop.admin(BULK + "StartBulkOrder", id=job, **more)


def until_done(shop: Shop, job: str) -> bulk_pb2.BulkOrder:
    for _ in range(50):
        shop.work()
        if state(shop, job) != "IN_PROGRESS":
            break
        shop.later(timedelta(seconds=0.2))
    return seen(shop, job)


def seen(shop: Shop, job: str) -> bulk_pb2.BulkOrder:
    found = shop.agent(BULK + "GetBulkOrder", id=job)
    assert isinstance(found, bulk_pb2.BulkOrder)
    return found


def state(shop: Shop, job: str) -> str:
    return bulk_pb2.BulkOrderState.Name(seen(shop, job).state).removeprefix("BULK_ORDER_STATE_")


def rows(shop: Shop, job: str) -> list[tuple[int, str, str, str]]:
    found = shop.agent(BULK + "ListBulkOrderRows", id=job, limit=1000).items
    name = bulk_pb2.BulkOrderRowState.Name
    return [(one.line, name(one.state).removeprefix("BULK_ORDER_ROW_STATE_"), one.field, one.reason) for one in found]


def orders_of(shop: Shop, job: str) -> list[Any]:
    found = shop.agent(ORDER + "ListProductOrders", limit=1000, filter=[{"path": "category", "value": ["bulk"]}]).items
    return [one for one in found if one.external_id.startswith(job)]


def test_a_dry_run_prices_every_row_and_keeps_nothing_then_each_row_is_one_order(shop: Shop) -> None:
    offering = shop.offering(shop.price(500), shop.price(30, recurring=False))
    buyers = [shop.customer() for _ in range(2)]
    (first, first_account), (second, second_account) = buyers
    data = a_file(
        [
            (first, first_account, offering, "2"),
            (second, second_account, offering, ""),
            (first, first_account, "nothing", "1"),
            (second, first_account, offering, "1"),
            (first, "", offering, "1"),
            (first, first_account, offering, "two"),
            # The same customer once more: what is in the file is ordered as often as it is there.
            (first, first_account, offering, "2"),
        ]
    )
    # A byte order mark, and parts that end anywhere.
    job = create(shop)
    assert state(shop, job) == "RECEIVING"
    upload(shop, job, b"\xef\xbb\xbf" + data, size=37)
    assert (state(shop, job), seen(shop, job).progress.total) == ("ACKNOWLEDGED", 7)
    start(shop, job, dry_run=True)
    tried = until_done(shop, job)
    assert state(shop, job) == "ACKNOWLEDGED"
    assert (tried.progress.valid, tried.progress.refused, tried.progress.ordered) == (3, 4, 0)
    sums = {one.price_type: one.price.tax_included_amount.units for one in tried.progress.total_price}
    assert sums == {"recurring": 2500, "oneTime": 150}
    assert orders_of(shop, job) == []
    told = {line: (state, field) for line, state, field, _ in rows(shop, job)}
    assert told == {
        2: ("VALID", ""),
        3: ("VALID", ""),
        4: ("REFUSED", "offering"),
        5: ("REFUSED", "account"),
        6: ("REFUSED", "account"),
        7: ("REFUSED", "number"),
        8: ("VALID", ""),
    }
    start(shop, job)
    done = until_done(shop, job)
    assert state(shop, job) == "COMPLETED"
    assert (done.progress.total, done.progress.dealt, done.progress.ordered, done.progress.refused) == (7, 7, 3, 4)
    assert {one.price_type: one.price.tax_included_amount.units for one in done.progress.total_price} == sums
    made = orders_of(shop, job)
    assert sorted((one.id, one.external_id) for one in made) == sorted(
        (order_id(job, line), f"{job}/{line}") for line in (2, 3, 8)
    )
    shop.work()
    assert sorted(shop.told(first_account)) == sorted(2 * [("RecurringChargeStart", "1000"), ("ChargeCreate", "60")])
    report = shop.agent(BULK + "GetBulkOrderReport", id=job)
    lines = list(csv.reader(io.StringIO(report.text)))
    assert lines[0] == ["line", "state", "productOrder", "orderState", "field", "reason"]
    assert lines[1][:4] == ["2", "ordered", order_id(job, 2), "completed"]
    assert lines[3][:2] == ["4", "refused"]
    assert "UNKNOWN_OFFERING" in lines[3][5]
    assert not report.HasField("next_after")
    # What was refused is tried again, and nothing else; what is ordered isn't kept with it any more.
    start(shop, job)
    again = until_done(shop, job)
    assert (again.progress.dealt, again.progress.ordered, again.progress.refused) == (4, 3, 4)
    assert len(orders_of(shop, job)) == 3
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        kept = unit.session.execute(
            sa.select(store.bulk_order_row.c.line).where(
                store.bulk_order_row.c.bulk_order_id == job, store.bulk_order_row.c.data.is_not(None)
            )
        )
        assert sorted(row.line for row in kept) == [4, 5, 6, 7]
        # Somebody is erased: what rows say of him goes.
        store.erase(unit, [first])
    start(shop, job)
    until_done(shop, job)
    assert {line: why for line, _, _, why in rows(shop, job) if line == 4} == {4: "what it said was erased"}


def test_the_same_file_is_ordered_once_unless_somebody_wants_it_twice(shop: Shop) -> None:
    data = a_file([("c", "a", "o", "1")])
    first = create(shop)
    upload(shop, first, data)
    # What was sent already may be sent again.
    upload(shop, first, data)
    assert seen(shop, first).progress.total == 1
    second = create(shop)
    with pytest.raises(FailedPrecondition) as refusal:
        upload(shop, second, data, size=11)
    assert (refusal.value.reason, refusal.value.metadata["bulkOrder"]) == ("SAME_CONTENT", first)
    upload(shop, create(shop, allow_repetition=True), data)
    shop.admin(BULK + "CancelBulkOrder", id=first)
    upload(shop, create(shop), data)
    with pytest.raises(FailedPrecondition) as gap:
        shop.admin(BULK + "UploadBulkOrderRows", id=create(shop), offset=5, content="eA==")
    assert gap.value.reason == "WRONG_OFFSET"
    with pytest.raises(InvalidArgument) as broken:
        shop.admin(BULK + "UploadBulkOrderRows", id=create(shop), content="eA==", sha256="00")
    assert broken.value.reason == "WRONG_HASH"
    with pytest.raises(InvalidArgument) as unknown:
        upload(shop, create(shop), b"customer,offering\n1,2\n")
    assert [v.description for v in unknown.value.violations] == ["no column 'account'", "no column 'number'"]
    with pytest.raises(PermissionDenied):
        shop.agent(BULK + "CreateBulkOrder", bulk_order={"template": template()})


def test_too_many_refusals_pause_it_and_one_resume_counts(shop: Shop) -> None:
    customer, account = shop.customer()
    offering = shop.offering(shop.price(5))
    bad = [(customer, account, "nothing", "1")] * 6
    job = create(shop, most_refused=2, orders_per_second=8)
    upload(shop, job, a_file([*bad, (customer, account, offering, "1")]))
    start(shop, job)
    with pytest.raises(FailedPrecondition):
        start(shop, job)
    until_done(shop, job)
    assert state(shop, job) == "PAUSED"
    assert seen(shop, job).status_reason.endswith("rows were refused, more than 2")
    shop.admin(BULK + "SetBulkOrderLimits", id=job, most_refused=0, orders_per_second=100)
    shop.admin(BULK + "ResumeBulkOrder", id=job)
    with pytest.raises(FailedPrecondition) as refusal:
        shop.admin(BULK + "ResumeBulkOrder", id=job)
    assert refusal.value.reason == "BAD_TRANSITION"
    done = until_done(shop, job)
    assert (state(shop, job), done.progress.refused, done.progress.ordered) == ("COMPLETED", 6, 1)
    assert (done.orders_per_second, done.most_refused) == (100, 0)
    # By a percentage only when there are enough to tell.
    other = BulkOrder(id="1", branch="b", most_refused_percent=10)
    assert other.tolerates(19, 19) is None
    assert other.tolerates(30, 3) is None
    assert other.tolerates(30, 4) is not None
    # It orders no faster than it is told, and not while it is paused.
    job = create(shop, orders_per_second=4)
    upload(shop, job, a_file([(customer, account, offering, "1")] * 6))
    start(shop, job)
    for taken in (1, 2):
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            shop.timers._handlers[DEAL](job, unit)
            unit.flush()
            timer = sa.table("timer", sa.column("aggregate_id"), sa.column("purpose"), sa.column("due"))
            due = unit.session.scalar(
                sa.select(timer.c.due).where(timer.c.aggregate_id == job, timer.c.purpose == DEAL)
            )
            assert due == unit.at + timedelta(seconds=0.25)
        assert seen(shop, job).progress.ordered == taken
    shop.admin(BULK + "PauseBulkOrder", id=job)
    shop.later(timedelta(seconds=60))
    assert seen(shop, job).progress.ordered == 2
    shop.admin(BULK + "ResumeBulkOrder", id=job)
    shop.admin(BULK + "CancelBulkOrder", id=job)
    shop.later(timedelta(seconds=60))
    assert (state(shop, job), seen(shop, job).progress.ordered) == ("CANCELLED", 2)
    # What it says of people isn't kept for ever.
    shop.later(KEPT + timedelta(minutes=1))
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        kept = sa.select(store.bulk_order_row.c.line).where(store.bulk_order_row.c.data.is_not(None))
        assert unit.session.scalars(kept).all() == []
    shop.admin(BULK + "DeleteBulkOrder", id=job)
    assert len(orders_of(shop, job)) == 2


def test_a_step_that_is_undone_repeated_or_fails_again_and_again_orders_each_row_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, account = shop.customer()
    offering = shop.offering(shop.price(5))
    job = create(shop)
    upload(shop, job, a_file([(customer, account, offering, "1")] * 3))
    start(shop, job)
    step = shop.timers._handlers[DEAL]

    def killed() -> None:
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            step(job, unit)
            unit.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert orders_of(shop, job) == []
    for _ in range(3):
        with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
            step(job, unit)
    assert len(orders_of(shop, job)) == 3
    # Even were it forgotten that it was ordered, a row could have no second order.
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        unit.session.execute(sa.update(store.bulk_order_row).values(state="waiting", data="{}"))
    assert order_id(job, 2) == order_id(job, 2) != order_id(job, 3)
    assert len(order_id(job, 2)) == 36
    # A row at which the step itself fails is given up; the others aren't.
    job = create(shop, orders_per_second=100)
    upload(shop, job, a_file([(customer, account, offering, n) for n in ("1", "7", "1")]))
    bulk = shop.timers._handlers[DEAL].__self__  # type: ignore[attr-defined]
    capture = bulk._capture.capture

    def poisoned(order: Any, items: Any, *rest: Any, **more: Any) -> Any:
        if items[0].quantity == 7:
            raise RuntimeError("nobody thought of that")
        return capture(order, items, *rest, **more)

    monkeypatch.setattr(bulk._capture, "capture", poisoned)
    start(shop, job)
    for _ in range(12):
        claims, _ = shop.timers._claim(100)
        for claim in claims:
            shop.timers._handle([claim])
        shop.offset.write_text(str(float(shop.offset.read_text() if shop.offset.exists() else 0) + 5))
    assert state(shop, job) == "COMPLETED"
    told = rows(shop, job)
    assert [one[1] for one in told] == ["ORDERED", "REFUSED", "ORDERED"]
    assert "nobody thought of that" in told[1][3]


def test_the_holders_of_an_offering_are_a_segment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    old, extra = shop.offering(shop.price(500)), shop.offering(shop.price(9))
    accounts = []
    for number in range(3):
        customer, account = shop.customer()
        order = shop.completed(customer, account, item("1", "ADD", old), item("2", "ADD", old))
        accounts.append(account)
        if number == 2:
            for product in shop.products(order.id).values():
                assert product.product_offering.id == old
    wanted = {
        "relatedParty": [{"id": "{customerId}", "role": "customer", "@referredType": "Customer"}],
        "billingAccount": {"id": "{billingAccountId}"},
        "productOrderItem": [{"id": "1", "action": "add", "productOffering": {"id": extra}}],
    }
    segment = {
        "product_offering": [old],
        "filter": [{"path": "billing_account.id", "operator": "ne", "value": [accounts[2]]}],
        "once_per_customer": True,
    }
    job = create(shop, template=json.dumps(wanted), segment=segment)
    shop.work()
    assert (state(shop, job), seen(shop, job).progress.total) == ("ACKNOWLEDGED", 2)
    start(shop, job)
    until_done(shop, job)
    shop.work()
    assert [("RecurringChargeStart", "9") in shop.told(account) for account in accounts] == [True, True, False]
    # In whatever pages it is looked for.
    monkeypatch.setattr(steps, "LOOKED_AT_ONCE", 1)
    again = create(shop, template=json.dumps(wanted), segment=segment)
    shop.work()
    assert state(shop, again) == "CANCELLED"
    assert "SAME_CONTENT" in seen(shop, again).status_reason


def test_rows_of_several_customers_are_asked_about_at_once_and_those_of_one_after_each_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    offering = shop.offering(shop.price(5))
    (first, paying), (second, other) = shop.customer(), shop.customer()
    job = create(shop)
    upload(shop, job, a_file([(first, paying, offering, "1"), (second, other, offering, "1")] * 2))
    start(shop, job)
    bulk = shop.timers._handlers[DEAL].__self__  # type: ignore[attr-defined]
    capture, both = bulk._capture.capture, threading.Barrier(2)
    asked: list[str] = []

    def met(order: Any, *rest: Any, **more: Any) -> Any:
        # One that is asked about alone would wait here in vain.
        both.wait(timeout=10)
        asked.append(order.customer_id)
        return capture(order, *rest, **more)

    monkeypatch.setattr(bulk._capture, "capture", met)
    until_done(shop, job)
    assert [state for _, state, _, _ in rows(shop, job)] == ["ORDERED"] * 4
    assert [set(asked[:2]), set(asked[2:])] == [{first, second}] * 2


def test_whoever_is_told_that_it_has_paused_gets_no_further_order(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    customer, account = shop.customer()
    offering = shop.offering(shop.price(5))
    job = create(shop)
    upload(shop, job, a_file([(customer, account, offering, "1")] * 2))
    start(shop, job)
    bulk = shop.timers._handlers[DEAL].__self__  # type: ignore[attr-defined]
    capture = bulk._capture.capture
    told: list[int] = []
    pausing = threading.Thread(
        target=lambda: told.append(shop.admin(BULK + "PauseBulkOrder", id=job, request_id=job).progress.ordered)
    )

    def interrupted(*rest: Any, **more: Any) -> Any:
        if pausing.ident is None:
            pausing.start()
            # Long enough for an answer that doesn't wait for this step.
            pausing.join(timeout=0.5)
        return capture(*rest, **more)

    monkeypatch.setattr(bulk._capture, "capture", interrupted)
    shop.work()
    pausing.join()
    assert state(shop, job) == "PAUSED"
    assert told == [seen(shop, job).progress.ordered] != [0]


def test_a_job_that_stands_still_is_counted_and_one_that_goes_on_or_rests_is_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, account = shop.customer()
    job = create(shop)
    upload(shop, job, a_file([(customer, account, shop.offering(shop.price(5)), "1")]))
    start(shop, job)
    bulk = shop.timers._handlers[DEAL].__self__  # type: ignore[attr-defined]

    def away(*rest: Any, **more: Any) -> Any:
        raise Unavailable("AWAY", "the catalog is away")

    def carry_on(after: timedelta) -> float:
        before = STUCK._value.get()
        shop.offset.write_text(
            str(float(shop.offset.read_text() if shop.offset.exists() else 0) + after.total_seconds())
        )
        for claim in shop.timers._claim(100)[0]:
            shop.timers._handle([claim])
        return float(STUCK._value.get() - before)

    with monkeypatch.context() as patched:
        patched.setattr(bulk._capture, "capture", away)
        minute = timedelta(minutes=1)
        assert [carry_on(after) for after in (minute, PATIENCE, minute, PATIENCE)] == [0, 1, 0, 1]
        shop.admin(BULK + "PauseBulkOrder", id=job)
        assert carry_on(PATIENCE + minute) == 0
    shop.admin(BULK + "ResumeBulkOrder", id=job)
    assert [carry_on(after) for after in (minute, minute, 2 * PATIENCE)] == [0, 0, 0]
    assert state(shop, job) == "COMPLETED"


def test_what_is_deleted_while_rows_come_in_leaves_none_behind(shop: Shop) -> None:
    job = create(shop)
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        wanted = unit.get(BulkOrder, job)
        before = incoming.intake(unit, job)
        incoming.take_in(unit, wanted, before, [Record(2, {"customer": "somebody"})], ["customer"])
        deleting = threading.Thread(target=lambda: shop.admin(BULK + "DeleteBulkOrder", id=job))
        deleting.start()
        deleting.join(timeout=0.5)
        unit.flush()
    deleting.join()
    with acting("orders", "test", "bishkek"), shop.database.unit() as unit:
        table = store.bulk_order_row
        left = unit.session.scalars(sa.select(table.c.line).where(table.c.bulk_order_id == job)).all()
        assert left == []
    with pytest.raises(NotFound):
        shop.admin(BULK + "UploadBulkOrderRows", id=job, content="eA==")


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_row_is_refused_for_what_an_order_is_refused_for(shop: Shop, dry_run: bool) -> None:
    customer, account = shop.customer()
    offering = shop.offering(shop.price(5))
    data = a_file([(customer, account, offering, "1")])
    parties = [{"id": "{customer}", "role": role, "@referredType": "Customer"} for role in ("customer", "transferor")]
    reasons = []
    for more in ({"state": "completed"}, {"relatedParty": parties}):
        job = create(shop, template=template(**more))
        upload(shop, job, data)
        start(shop, job, dry_run=dry_run)
        until_done(shop, job)
        reasons += [why.split(":")[0] for _, state, _, why in rows(shop, job) if state == "REFUSED"]
    assert reasons == ["BAD_INITIAL_STATE", "TRANSFEROR"]


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_sends_looks_on_and_says_by_its_status_what_has_come_of_it(shop: Shop, tmp_path: Path) -> None:
    customer, account = shop.customer()
    offering = shop.offering(shop.price(500))
    file, form, told = tmp_path / "sale.csv", tmp_path / "order.json", tmp_path / "report.csv"
    good, bad = (customer, account, offering, "1"), (customer, account, "nothing", "1")
    file.write_bytes(a_file([good, bad, good]))
    form.write_text(template())
    address = shop.admin._channel._channel.target().decode()  # type: ignore[attr-defined]
    environment = {"ORDERS_ADDRESS": address, "SVYAZ_TOKEN": shop.admin._token or ""}

    def svyaz(*words: str) -> tuple[int, str]:
        ran = CliRunner().invoke(app, ["bulk", *words], env=environment)
        return ran.exit_code, ran.output

    new = ("create", str(file), "--template", str(form), "--branch", "bishkek", "--rate", "200")
    status, output = svyaz(*new)
    assert status == 0, output
    assert "acknowledged: 3 rows" in output
    job = next(word for word in output.split() if len(word) == 36)
    status, output = svyaz(*new)
    assert (status, "SAME_CONTENT" in output) == (1, True)
    shop.timers.start()
    try:
        status, output = svyaz("start", job, "--dry-run")
        assert (status, "2 valid" in output, "recurring month: 1,000" in output) == (3, True, True), output
        status, output = svyaz("start", job)
        assert (status, "completed: 3 rows, 3 dealt with" in output) == (3, True), output
        # One that has paused isn't done.
        file.write_bytes(a_file([bad, bad, good]))
        status, output = svyaz(*new, "--most-refused", "1")
        paused = next(word for word in output.split() if len(word) == 36)
        status, output = svyaz("start", paused)
        assert (status, "paused: 3 rows" in output, "more than 1" in output) == (4, True, True), output
    finally:
        shop.timers.stop()
    status, output = svyaz("pause", job)
    assert (status, "BAD_TRANSITION" in output) == (1, True)
    assert svyaz("cancel", paused)[0] == 3
    assert svyaz("rate", job, "7")[0] == 3
    assert seen(shop, job).orders_per_second == 7
    assert svyaz("report", job, str(told))[0] == 3
    assert [line.split(",")[1] for line in told.read_text().splitlines()[1:]] == ["ordered", "refused", "ordered"]
    form.write_bytes(b"\xff")
    status, output = svyaz(*new)
    assert (status, "decode" in output) == (1, True)


# --- reading, without anything around it ------------------------------------------------------------------------------


def whole(data: bytes, format: BulkOrderFormat = BulkOrderFormat.CSV, size: int = 1 << 20) -> list[Record]:
    intake, found = Intake(), []
    for offset in range(0, max(1, len(data)), size):
        intake, records = read(intake, data[offset : offset + size], format, ",", last=offset + size >= len(data))
        found += records
    return found


def test_a_file_reads_the_same_in_whatever_parts_it_comes() -> None:
    data = 'a,b\r\n1,"x\ny, ""z"""\r\n\r\n2,ж€\u2028\U0001f600\n3\n"4",'.encode()
    expected = [
        Record(2, {"a": "1", "b": 'x\ny, "z"'}),
        Record(5, {"a": "2", "b": "ж€\u2028\U0001f600"}),
        Record(6, {}, "it has 1 columns, the header 2"),
        Record(7, {"a": "4", "b": ""}),
    ]
    for size in range(1, len(data) + 1):
        assert whole(data, size=size) == expected, size
    lines = b'{"a": 12345678901234567890, "b": "x"}\n\n[1]\n{"a": \n{"a": NaN}'
    for size in range(1, len(lines) + 1):
        found = whole(lines, BulkOrderFormat.JSON_LINES, size)
        assert [one.line for one in found] == [1, 3, 4, 5]
        assert found[0].values == {"a": 12345678901234567890, "b": "x"}
        assert all(one.fault for one in found[1:])
    # What no database keeps, and what no reader gets to the end of, is wrong with the row and not with the file.
    strange = [
        rb'{"a": "\u0000"}',
        rb'{"a": {"b": ["\ud800"]}}',
        rb'{"\udc00": 1}',
        b"[" * 60_000,
        rb'{"a": "\ud83d\ude00"}',
    ]
    found = whole(b"\n".join(strange), BulkOrderFormat.JSON_LINES)
    assert [bool(one.fault) for one in found] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("data", "reason", "line"),
    [
        (b"", "EMPTY_FILE", "1"),
        (b"a,b\n", "EMPTY_FILE", "2"),
        (b"a,a\n1,2\n", "MALFORMED_FILE", "1"),
        ("a\nпривет\n".encode("cp1251"), "NOT_UTF8", "2"),
        ("a\n1\n".encode("utf-16"), "NOT_UTF8", "1"),
        (b"a\n1\n\0\n", "MALFORMED_FILE", "3"),
        (b'a\n1\n"2\n3\n', "MALFORMED_FILE", "3"),
        (b'a\n1\n"2"3\n', "MALFORMED_FILE", "3"),
        (b'a\n1\n"' + b"x\n" * MOST_RECORD_BYTES + b"1\n", "MALFORMED_FILE", "3"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(data: bytes, reason: str, line: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        whole(data, size=50_000)
    assert (refusal.value.reason, refusal.value.metadata["line"]) == (reason, line)


def test_a_template_is_filled_as_it_says() -> None:
    made = parse(
        json.dumps(
            {
                "description": "{{for}} {a}, {b}",
                "note": [{"text": "{a?}"}],
                "productOrderItem": [
                    {
                        "quantity": "{n?|integer}",
                        "product": {
                            "productCharacteristic": [{"name": "x", "value": "{b??}"}, {"value": "{n|number}"}]
                        },
                    }
                ],
            }
        )
    )
    assert made.columns == {"a", "b", "n"}
    assert made.order({"a": "1", "b": 2, "n": "3.0"}) == {
        "description": "{for} 1, 2",
        "note": [{"text": "1"}],
        "productOrderItem": [
            {"quantity": 3, "product": {"productCharacteristic": [{"name": "x", "value": 2}, {"value": 3}]}}
        ],
    }
    assert made.column_of("product_order_item[0].quantity") == "n"
    assert made.column_of("product_order_item[0].action") == "product_order_item[0].action"
    for values, column in (({"a": "1", "n": "1"}, "b"), ({"a": "1", "b": "1", "n": "x"}, "n")):
        with pytest.raises(RowFault) as fault:
            made.order(values)
        assert fault.value.column == column
    for wrong in ("", "[]", "{}", '{"productOrderItem": [{"id": "{a"}]}', '{"productOrderItem": [{"id": "{a|date}"}]}'):
        with pytest.raises(InvalidArgument) as refusal:
            parse(wrong)
        assert refusal.value.reason == "BAD_TEMPLATE"
