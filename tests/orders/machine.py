"""The model beside the product: whatever is asked for, answered and broken at random, in the end both are the same."""

import copy
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chassis.convert import to_timestamp
from chassis.errors import Aborted, DomainError, FailedPrecondition, Unavailable
from svyaz.orders.v1 import amendment_pb2, fulfilment_pb2, lifecycle_pb2, orders_pb2
from tests.orders.drill import Died
from tests.orders.model import WARES, Book, Item, Order, Suspension
from tests.orders.office import ANSWERS, Office, done, said
from tests.orders.verdict import check_awake, check_the_end

# Each example has a branch, with a customer and an account, of its own.
_branches = itertools.count(1)
WHICH = st.integers(0, 5)
# Mostly nobody dies.
CHOP = st.sampled_from([0, 0, 0]) | st.integers(1, 25)
KINDS = ("add", "add", "modify", "delete", "suspend", "resume", "noChange")
ALIKE = {"line S": "line L", "line L": "line S", "home": "all", "all": "home"}
WISH = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(sorted(WARES)),
    WHICH,
    st.sampled_from(["0555", "0777"]),
    st.sampled_from(["", "home", "work"]),
    st.booleans(),
    st.integers(1, 2),
)
EDIT = st.tuples(st.sampled_from(["drop", "phone", "place", "ware", "quantity", "add", "add"]), WHICH, WISH)
REASONS = ("voluntary", "debt", "fraud", "regulatory")
PLENTY = [{"unit": "KGS", "units": 100_000}]
ENDED = ("completed", "failed", "rejected", "cancelled")
ORDER_ENDED = (*ENDED, "partial")
_ACTIONS = {"add": "ADD", "modify": "MODIFY", "delete": "DELETE", "noChange": "NO_CHANGE"}
_NAMES = {getattr(orders_pb2, f"ORDER_ITEM_ACTION_{name}"): action for action, name in _ACTIONS.items()}


def must(so: bool, refused: DomainError) -> None:
    """What is refused otherwise is a failure."""
    assert so, refused


def step(work: Callable[..., None]) -> Callable[..., None]:
    """What is broken by a rule isn't looked at any more in the end."""

    @functools.wraps(work)
    def guarded(self: "Ordering", **drawn: Any) -> None:
        self.broken = True
        work(self, **drawn)
        self.look()
        self.broken = False

    return guarded


class Ordering(RuleBasedStateMachine):
    """Customers, agents, systems and death, at random."""

    def __init__(self, office: Office) -> None:
        super().__init__()
        self.office, self.book = office, Book()
        self.broken = True
        # What was looked at, by its place in the log: one that has a lower one may be committed later.
        self.seen: set[int] = set()
        # Wishes to cancel that aren't answered yet.
        self.wishes: dict[str, str] = {}
        self.skipped: set[str] = set()
        # Dropped by an amendment when they were failing already.
        self.dropped: set[tuple[str, str]] = set()
        self._numbers = itertools.count(1)

    @initialize()
    def begin(self) -> None:
        self.office.move_to(f"b{next(_branches)}")
        self.broken = False

    # --- calls -------------------------------------------------------------------------------------------------------

    def call(
        self, api: Any, method: str, request: Any, *, chop: int = 0, late: bool = False, again: bool = False
    ) -> Any:
        """Calls; when the replica dies at that, the caller, who doesn't know what came of it, asks the next one."""
        request.request_id = f"{self.office.branch} {next(self._numbers)}"
        answer = None
        self.office.axe.set(chop, late=late)
        try:
            answer = self.office.ask(api, method, request)
        except (Died, Unavailable):
            pass
        finally:
            self.office.axe.set(0)
        if answer is None:
            answer = self.office.ask(api, method, request)
        if again:
            assert self.office.ask(api, method, request) == answer, "the same request is the same answer"
        return answer

    def order_rows(self) -> dict[str, tuple[str, int]]:
        """The state and revision of each order."""
        found = self.office.rows("SELECT id, state, revision FROM product_order WHERE branch = %(branch)s")
        return {key: (state, revision) for key, state, revision in found}

    def item_states(self, order: str) -> dict[str, str]:
        """The states of an order's items, by their ids."""
        query = "SELECT item ->> 'id', state FROM product_order_item WHERE product_order_id = %(order)s"
        return dict(self.office.rows(query, order=order))

    def digest(self, order: str) -> list[tuple[Any, ...]]:
        """What can be seen of an order: it stays when something is refused."""
        query = """
            SELECT 'o', id, revision FROM product_order WHERE id = %(order)s
            UNION ALL SELECT 'i', id, revision FROM product_order_item WHERE product_order_id = %(order)s
            UNION ALL SELECT 't', id, revision FROM fulfilment_task WHERE product_order_id = %(order)s
            UNION ALL SELECT 'c', event_id, 0 FROM charge_event WHERE branch = %(branch)s
            ORDER BY 1, 2
        """
        return self.office.rows(query, order=order)

    # --- orders ------------------------------------------------------------------------------------------------------

    def wanted(self, wishes: Sequence[Any], first: int, *, stranger: bool) -> list[Item]:
        """The items that are wished for, as far as there are products for them."""
        items: list[Item] = []
        used: set[str] = set()
        for number, (kind, ware, which, phone, place, voicemail, quantity) in enumerate(wishes):
            item = Item(str(first + number), "add", ware, quantity=quantity, phone=phone, place=place)
            item.voicemail = voicemail
            own = [one for one in self.book.running() if one.strange is stranger]
            there = [one for one in own if self.family(one.id).isdisjoint(used)]
            if kind != "add" and there:
                product = there[which % len(there)]
                used |= self.family(product.id)
                item = Item(item.key, kind, product=product.id)
                if kind == "modify":
                    item.phone, item.place = phone, place
                    item.ware = "" if voicemail else ALIKE.get(product.ware, product.ware)
                    item.quantity = quantity
                elif kind in ("suspend", "resume"):
                    item.action, item.status = "modify", "suspended" if kind == "suspend" else "active"
            if WARES[item.ware].parts if item.ware else False:
                item.quantity = 1
            items.append(item)
        return items

    def family(self, product: str) -> set[str]:
        """Everything that a product is inside, or has inside."""
        top = product
        # What it is inside may not be there yet, or never be.
        while top in self.book.products and self.book.products[top].bundle:
            top = self.book.products[top].bundle
        found = {top}
        while more := {one.id for one in self.book.products.values() if one.bundle in found} - found:
            found |= more
        return found

    @step
    def _place(
        self, wishes: Sequence[Any], relies: bool, days: int, stranger: bool, chop: int, late: bool, again: bool
    ) -> None:
        items = self.wanted(wishes, 1, stranger=stranger)
        if relies and len(items) > 1:
            items[-1].relies_on = items[0].key
        customer = f"{'stranger' if stranger else 'customer'} of {self.office.branch}"
        order: dict[str, Any] = {
            "product_order_item": [body(item) for item in items],
            "related_party": [{"id": customer, "role": "customer", "at_referred_type": "Customer"}],
            "billing_account": {"id": f"account-{self.office.branch}"},
        }
        if days:
            order["requested_start_date"] = to_timestamp(self.office.clock.at + timedelta(days=days))
        request = said(orders_pb2.CreateProductOrderRequest, product_order=order)
        try:
            made = self.call(self.office.orders, "CreateProductOrder", request, chop=chop, late=late, again=again)
        except FailedPrecondition as refused:
            held = [self.book.products[one.product] for one in items if one.status == "active"]
            must(refused.reason == "STILL_SUSPENDED", refused)
            must(any(self.book.reasons(one, self.office.clock.at) - {"voluntary"} for one in held), refused)
            return
        everything = self.expanded(items, made.product_order_item)
        known = Order(made.id, everything, items, of_stranger=stranger)
        self.book.orders[made.id] = known

    def expanded(self, items: Sequence[Item], told: Sequence[Any]) -> dict[str, Item]:
        """The items with the parts that ordering has put into them, which are what they have to be."""
        by_key = {one.id: one for one in told}
        found: dict[str, Item] = {}
        for item in items:
            self.take_parts(item, by_key[item.key].product_order_item)
            found |= {one.key: one for one in item.everything()}
        return found

    def take_parts(self, item: Item, told: Sequence[Any]) -> None:
        """What is inside an item, by the answer; it has to be what the model says."""
        item.parts = []
        for one in told:
            if state_of(one) in ("cancelled", "pendingCancellation"):
                continue
            inner = part(one, item)
            item.parts.append(inner)
            self.take_parts(inner, one.product_order_item)
        wares, ends = self.book.expects_parts(item)
        assert Counter((one.action, one.ware) for one in item.parts if one.action != "delete") == wares
        assert {one.product for one in item.parts if one.action == "delete"} == ends

    # --- what is placed ----------------------------------------------------------------------------------------------

    @rule(
        wishes=st.lists(WISH, min_size=1, max_size=3),
        relies=st.booleans(),
        days=st.sampled_from([0, 0, 0, 2]),
        stranger=st.sampled_from([False, False, False, True]),
        chop=CHOP,
        late=st.booleans(),
        again=st.booleans(),
    )
    def place(self, **drawn: Any) -> None:
        self._place(**drawn)

    @rule(
        wishes=st.lists(WISH.filter(lambda wish: wish[0] == "add"), min_size=1, max_size=2),
    )
    def buy(self, wishes: Sequence[Any]) -> None:
        """So that there is something to go on with: at once, and all goes well."""
        self._place(wishes=wishes, relies=False, days=0, stranger=False, chop=0, late=False, again=False)
        self._go_on(answers=[], chop=0, late=False, meanwhile=None, rounds=3)

    # --- time and systems --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.book.orders)
    @rule(
        answers=st.lists(st.sampled_from(ANSWERS), max_size=6),
        chop=CHOP,
        late=st.booleans(),
        meanwhile=st.none() | st.tuples(st.sampled_from(["suspend", "resume", "terminate"]), WHICH),
        rounds=st.integers(1, 3),
    )
    def go_on(self, **drawn: Any) -> None:
        self._go_on(**drawn)

    @step
    def _go_on(self, answers: list[str], chop: int, late: bool, meanwhile: Any, rounds: int) -> None:
        self.office.network.answers.extend(answers)
        self.office.axe.set(chop, late=late)
        if meanwhile is not None:
            self.office.network.meanwhile = functools.partial(self.act_meanwhile, *meanwhile)
        for _ in range(rounds):
            if not self.office.round():
                due = self.office.next_due()
                if due is not None:
                    self.office.pass_by(due - self.office.clock.at + timedelta(milliseconds=1))
        self.office.axe.set(0)
        self.office.network.answers.clear()
        self.office.network.meanwhile = None

    @precondition(lambda self: self.book.orders)
    @rule(hours=st.sampled_from([1, 30, 24 * 16]))
    @step
    def wait(self, hours: int) -> None:
        self.office.pass_by(timedelta(hours=hours))

    @precondition(lambda self: self.office.network.told or self.office.network.unheard)
    @rule(which=WHICH, how=st.sampled_from(["done", "done", "refuse", "busy"]), chop=CHOP, twice=st.booleans())
    @step
    def answer(self, which: int, how: str, chop: int, twice: bool) -> None:
        """A system says by itself how a task has ended; it may be wanted no more."""
        network = self.office.network
        told = [*network.told.values(), *network.unheard.values()]
        task = told[which % len(told)]
        if task.id in network.unheard:
            how = "done"
        network.unheard.pop(task.id, None)
        for _ in range(1 + twice):
            if how == "done":
                if task.id in network.told:
                    network.do(task)
                given = done(task)
                request: Any = said(fulfilment_pb2.CompleteFulfilmentTaskRequest, id=task.id, attempt=task.attempt)
                for one in given.result:
                    request.result.add(name=one.name or "", value=one.value.text.encode() if one.value else b"")
                for resource in given.resource:
                    request.resource.add(id=resource.id or "", name=resource.name or "")
                method = "CompleteFulfilmentTask"
            else:
                network.told.pop(task.id, None)
                network.noes[task.product_order_item_id or task.product_order_id] += 1
                request = said(
                    fulfilment_pb2.FailFulfilmentTaskRequest,
                    id=task.id,
                    attempt=task.attempt,
                    reason="no",
                    retryable=how == "busy",
                )
                method = "FailFulfilmentTask"
            try:
                self.call(self.office.fulfilments, method, request, chop=chop)
            except DomainError as refused:
                # Whoever asked may have died before he could write down that he had.
                must(refused.reason in ("TASK_CLOSED", "STALE_ATTEMPT", "BAD_ATTEMPT", "NOT_FOUND"), refused)

    # --- people ------------------------------------------------------------------------------------------------------

    def held(self) -> list[tuple[str, str, str, str]]:
        """The manual queue."""
        query = """
            SELECT id, product_order_id, coalesce(product_order_item_id, product_order_id), coalesce(compensates, '')
            FROM fulfilment_task WHERE branch = %(branch)s AND state = 'held' ORDER BY product_order_id, position
        """
        return self.office.rows(query)

    @precondition(lambda self: not self.broken and self.held())
    @rule(which=WHICH, how=st.sampled_from(["Retry", "Fix", "Skip", "GiveUp", "GiveUp"]), chop=CHOP)
    @step
    def see_to(self, which: int, how: str, chop: int) -> None:
        """A person sees to a held task."""
        held = self.held()
        key, _, of, compensates = held[which % len(held)]
        request: Any = said(fulfilment_pb2.FulfilmentTaskRequest, id=key, reason="by hand")
        # None: ordering's own, of which no system has been told.
        task = self.office.network.known.get(key)
        if how == "Fix":
            request = said(fulfilment_pb2.FixFulfilmentTaskRequest, id=key, reason="by hand")
        if how == "Fix" and task is not None:
            self.office.network.do(task)
            for resource in done(task).resource:
                request.resource.add(id=resource.id or "", name=resource.name or "")
        try:
            self.call(self.office.fulfilments, f"{how}FulfilmentTask", request, chop=chop)
        except FailedPrecondition as refused:
            must(how == "GiveUp", refused)
            must(refused.reason == ("BAD_TRANSITION" if compensates else "POINT_OF_NO_RETURN"), refused)
            return
        if how == "Skip" and task is not None:
            self.skipped.add(key)
        elif how in ("Skip", "GiveUp"):
            self.office.network.noes[of] += 1

    # --- changes of mind ---------------------------------------------------------------------------------------------

    def open_orders(self) -> list[Order]:
        """What hasn't ended, and was ordered by the customer."""
        states = self.order_rows()
        ours = [one for one in self.book.orders.values() if one.sent]
        return [one for one in ours if states[one.id][0] not in ORDER_ENDED]

    @precondition(lambda self: not self.broken and self.open_orders())
    @rule(
        which=WHICH,
        edits=st.lists(EDIT, min_size=1, max_size=3),
        accepts=st.booleans(),
        stale=st.sampled_from([False, False, False, True]),
        chop=CHOP,
        late=st.booleans(),
        again=st.booleans(),
    )
    @step
    def amend(
        self, which: int, edits: Sequence[Any], accepts: bool, stale: bool, chop: int, late: bool, again: bool
    ) -> None:
        found = self.open_orders()
        order = found[which % len(found)]
        version = self.edited(order, edits)
        state, revision = self.order_rows()[order.id]
        before = self.item_states(order.id)
        request = said(
            amendment_pb2.AmendProductOrderRequest,
            product_order={"id": order.id, "product_order_item": [body(item) for item in version]},
            update_mask={"paths": ["product_order_item"]},
            accepted_cost=PLENTY if accepts else [],
            etag=str(revision - 1) if stale else "",
        )
        seen, cost = self.digest(order.id), 0
        started = state not in ("acknowledged", "pending")
        try:
            if started and not stale:
                preview = self.office.ask(self.office.amendments, "PreviewAmendment", request)
                cost = sum(one.units for one in preview.undo_cost)
            told = self.call(self.office.amendments, "AmendProductOrder", request, chop=chop, late=late, again=again)
        except Aborted as refused:
            must(stale, refused)
            assert self.digest(order.id) == seen
            return
        except FailedPrecondition as refused:
            assert self.digest(order.id) == seen, "who is refused changes nothing"
            self.excuse(order, refused, state, before, accepts=accepts)
            return
        assert not stale, "a stale version is refused"
        assert accepts or not cost
        order.undo_cost += cost
        self.take_version(order, version, told, before, started=started)

    def excuse(
        self, order: Order, refused: FailedPrecondition, state: str, before: dict[str, str], *, accepts: bool
    ) -> None:
        """What is refused is refused for a reason."""
        if refused.reason == "COST_NOT_ACCEPTED":
            assert not accepts
        elif refused.reason == "ORDER_STARTED":
            assert state in ("pendingCancellation", "assessingCancellation"), state
        elif refused.reason == "POINT_OF_NO_RETURN":
            query = """
                SELECT count(*) FROM fulfilment_task
                WHERE product_order_id = %(order)s AND (state IN ('completed', 'inProgress') OR in_doubt)
                    AND specification ->> 'compensation' IS NULL AND specification ->> 'no_undo_needed' IS NULL
            """
            ((begun,),) = self.office.rows(query, order=order.id)
            bundles = any(item.product and item.ware and WARES[item.ware].parts for item in order.items.values())
            assert begun or bundles or any(one in ENDED for one in before.values()), refused
        else:
            assert refused.reason in ("STILL_SUSPENDED", "INFORMATION_REQUIRED"), refused

    def edited(self, order: Order, edits: Sequence[Any]) -> list[Item]:
        """A whole new version of an order."""
        version = copy.deepcopy(order.sent)
        for what, which, wish in edits:
            item = version[which % len(version)]
            _, ware, _, phone, place, _, quantity = wish
            if what == "drop" and len(version) > 1:
                version.remove(item)
            elif what == "phone" and not item.status and item.action in ("add", "modify"):
                item.phone = phone
            elif what == "place" and not item.status and item.action in ("add", "modify"):
                item.place = place or item.place
            elif what == "ware" and item.action == "add":
                item.ware, item.quantity = ware, 1
            elif what == "quantity" and item.ware and not WARES[item.ware].parts:
                item.quantity = quantity
            elif what == "add":
                first = 1 + max(int(one.key) for one in (*version, *order.items.values()) if "." not in one.key)
                fresh = self.wanted([wish], first, stranger=order.of_stranger)[0]
                # As in a new order, of what is inside each other one product is named at most.
                related = self.family(fresh.product) if fresh.product else set[str]()
                if related.isdisjoint({one.product for one in version}):
                    version.append(fresh)
        keys = {one.key for one in version}
        for item in version:
            item.relies_on = item.relies_on if item.relies_on in keys else ""
        return version

    def take_version(
        self, order: Order, version: list[Item], told: Any, before: dict[str, str], *, started: bool
    ) -> None:
        """The order is wanted so by now; what has ended, or is being undone, stays as it was."""
        order.sent = version
        by_key = {one.id: one for one in told.product_order_item}
        for item in version:
            kept = order.items.get(item.key)
            settled = before.get(item.key, "") in (*ENDED, "pendingCancellation")
            if settled and kept is not None:
                item.parts = kept.parts
            else:
                self.take_parts(item, by_key[item.key].product_order_item)
        now = {one.key: one for item in version for one in item.everything()}
        if not started:
            order.items = now
            return
        states = self.item_states(order.id)
        assert now.keys() <= states.keys()
        for key, was in before.items():
            settled = was in (*ENDED, "pendingCancellation")
            if key in now or settled:
                continue
            if states[key] in ("pendingCancellation", "cancelled"):
                order.withdrawn.add(key)
            else:
                self.dropped.add((order.id, key))
        for key, item in now.items():
            if before.get(key, "") not in (*ENDED, "pendingCancellation"):
                order.items[key] = item

    @precondition(lambda self: not self.broken and self.open_orders())
    @rule(which=WHICH, accepts=st.booleans(), by_wish=st.booleans(), chop=CHOP, late=st.booleans(), again=st.booleans())
    @step
    def cancel(self, which: int, accepts: bool, by_wish: bool, chop: int, late: bool, again: bool) -> None:
        found = self.open_orders()
        order = found[which % len(found)]
        if by_wish:
            wish = {"product_order": {"id": order.id}, "accepted_cost": PLENTY if accepts else []}
            asked = said(orders_pb2.CreateCancelProductOrderRequest, cancel_product_order=wish)
            made = self.call(self.office.orders, "CreateCancelProductOrder", asked, chop=chop, late=late, again=again)
            self.wishes[made.id] = order.id
            return
        state, _ = self.order_rows()[order.id]
        before, seen = self.item_states(order.id), self.digest(order.id)
        request = said(
            orders_pb2.UpdateProductOrderRequest,
            product_order={"id": order.id, "state": "PRODUCT_ORDER_STATE_CANCELLED"},
            update_mask={"paths": ["state"]},
        )
        try:
            self.call(self.office.orders, "UpdateProductOrder", request, chop=chop, late=late, again=again)
        except FailedPrecondition as refused:
            assert self.digest(order.id) == seen
            if refused.reason == "BAD_TRANSITION":
                assert state == "pendingCancellation"
            else:
                self.excuse(order, refused, state, before, accepts=False)
            return
        self.cancelled(order.id)

    def cancelled(self, order: str) -> None:
        """Nothing of it is wanted any more; so nothing of it was done."""
        states = self.item_states(order)
        assert "completed" not in states.values(), "what is completed isn't cancelled"
        gone = {key for key, state in states.items() if state in ("cancelled", "pendingCancellation")}
        self.book.orders[order].withdrawn |= gone
        self.book.orders[order].cancelled = True
        left = {state for key, state in states.items() if key not in gone}
        assert left <= {"failed", "rejected"}, left

    @precondition(lambda self: any(one.of_stranger for one in self.book.orders.values()))
    @rule()
    @step
    def meet(self) -> None:
        """The stranger becomes a customer; whoever waits for him finds that by himself."""
        self.office.list.known.add(f"stranger of {self.office.branch}")

    # --- products ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.book.running())
    @rule(
        which=WHICH,
        reason=st.sampled_from(REASONS),
        start=st.sampled_from([0, 0, 0, 1]),
        days=st.sampled_from([0, 0, 2]),
        chop=CHOP,
        late=st.booleans(),
        again=st.booleans(),
    )
    @step
    def suspend(
        self, which: int, reason: str, start: int, days: int, chop: int = 0, late: bool = False, again: bool = False
    ) -> None:
        product = self.book.running()[which % len(self.book.running())]
        at = self.office.clock.at
        begins = at + timedelta(days=start)
        ends = begins + timedelta(days=days) if days else None
        request = said(lifecycle_pb2.SuspendProductRequest, id=product.id, reason=f"SUSPENSION_REASON_{reason.upper()}")
        if start:
            request.start.CopyFrom(to_timestamp(begins))
        if ends is not None:
            request.end.CopyFrom(to_timestamp(ends))
        self.call(self.office.lifecycle, "SuspendProduct", request, chop=chop, late=late, again=again)
        known = product.reasons.get(reason)
        if known is not None and known.start <= at and (known.end is None or known.end > at):
            begins = known.start
        product.reasons[reason] = Suspension(begins, ends)
        self.asked_again(product.id)

    @precondition(lambda self: self.book.running())
    @rule(which=WHICH, number=WHICH, chop=CHOP, late=st.booleans(), again=st.booleans())
    @step
    def resume(self, which: int, number: int, chop: int = 0, late: bool = False, again: bool = False) -> None:
        product = self.book.running()[which % len(self.book.running())]
        at = self.office.clock.at
        lasting = [name for name, one in product.reasons.items() if one.end is None or one.end > at]
        reason = lasting[number % len(lasting)] if lasting else REASONS[number % len(REASONS)]
        request = said(lifecycle_pb2.ResumeProductRequest, id=product.id, reason=f"SUSPENSION_REASON_{reason.upper()}")
        try:
            self.call(self.office.lifecycle, "ResumeProduct", request, chop=chop, late=late, again=again)
        except FailedPrecondition as refused:
            must(not lasting, refused)
            must(refused.reason == "NOT_SUSPENDED", refused)
            return
        assert lasting, "there was nothing to resume"
        del product.reasons[reason]
        self.asked_again(product.id)

    def asked_again(self, product: str) -> None:
        """What the network has refused, somebody wants again."""
        for key in self.book.below(product):
            self.book.products[key].refused = False

    @precondition(lambda self: self.book.running())
    @rule(which=WHICH, days=st.sampled_from([0, 0, 3]), chop=CHOP, late=st.booleans(), again=st.booleans())
    @step
    def terminate(self, which: int, days: int, chop: int = 0, late: bool = False, again: bool = False) -> None:
        product = self.book.running()[which % len(self.book.running())]
        request = said(lifecycle_pb2.TerminateProductRequest, id=product.id)
        if days:
            request.at.CopyFrom(to_timestamp(self.office.clock.at + timedelta(days=days)))
        try:
            told = self.call(self.office.lifecycle, "TerminateProduct", request, chop=chop, late=late, again=again)
        except FailedPrecondition as refused:
            must(refused.reason == "TERMINATION_FAILED", refused)
            must(self.has_failed_to_end(product.id), refused)
            return
        assert told.product_order_id
        assert not self.has_failed_to_end(product.id), "an end that has failed isn't one that is coming"

    def has_failed_to_end(self, product: str) -> bool:
        """Whether the order that was last asked to end a product, and is still open, won't do so any more."""
        query = """
            SELECT count(*) FROM product JOIN product_order ON product_order.id = product.termination_order_id
                JOIN product_order_item item ON item.product_order_id = product_order.id
            WHERE product.id = %(product)s AND item.item -> 'product' ->> 'id' = product.id
                AND product_order.state <> ALL (%(ended)s)
                AND (item.failure IS NOT NULL
                    OR item.state IN ('failed', 'rejected', 'cancelled', 'pendingCancellation'))
        """
        ((count,),) = self.office.rows(query, product=product, ended=list(ORDER_ENDED))
        return bool(count)

    def act_meanwhile(self, what: str, which: int) -> None:
        """Somebody else changes a product while an order is being carried out: on another connection, committed at
        once."""
        left, self.office.axe.left = self.office.axe.left, 0
        self.look()
        if self.book.running():
            product = self.book.running()[which % len(self.book.running())]
            kinds = {
                "suspend": (
                    "SuspendProduct",
                    said(lifecycle_pb2.SuspendProductRequest, id=product.id, reason="SUSPENSION_REASON_VOLUNTARY"),
                ),
                "resume": (
                    "ResumeProduct",
                    said(lifecycle_pb2.ResumeProductRequest, id=product.id, reason="SUSPENSION_REASON_VOLUNTARY"),
                ),
                "terminate": ("TerminateProduct", said(lifecycle_pb2.TerminateProductRequest, id=product.id)),
            }
            method, request = kinds[what]
            try:
                self.office.ask(self.office.lifecycle, method, request)
            except FailedPrecondition as refused:
                # By what isn't committed yet the product may have ended, or been resumed.
                must(refused.reason in ("NOT_SUSPENDED", "BAD_TRANSITION", "TERMINATION_FAILED"), refused)
            else:
                if what == "suspend":
                    product.reasons[_FIRST] = Suspension(self.office.clock.at)
                elif what == "resume":
                    product.reasons.pop(_FIRST, None)
                if what != "terminate":
                    self.asked_again(product.id)
        self.office.axe.left = left

    # --- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """What has been completed since the last look, in its order, is so in the model too."""
        for key, order in list(self.wishes.items()):
            ((state, cost),) = self.office.rows(
                "SELECT state, undo_cost FROM cancel_product_order WHERE id = %(id)s", id=key
            )
            if state in ("inProgress", "done"):
                self.book.orders[order].undo_cost += sum(int(float(one["value"])) for one in cost or ())
                self.cancelled(order)
            if state != "acknowledged":
                del self.wishes[key]
        query = """
            SELECT position, time, data FROM event WHERE branch = %(branch)s AND position <> ALL (%(seen)s)
                AND type = 'ProductOrderItemStateChangeEvent' ORDER BY position
        """
        for position, at, data in self.office.rows(query, seen=list(self.seen)):
            self.seen.add(position)
            row = orders_pb2.OrderedItem.FromString(bytes(data))
            state = orders_pb2.ProductOrderItemState.Name(row.state).removeprefix("PRODUCT_ORDER_ITEM_STATE_")
            self.item_ended(row, state, at)
        for order, (state, _) in self.order_rows().items():
            known = self.book.orders.get(order)
            if known is not None and known.of_stranger and state == "cancelled" and not known.withdrawn:
                # He hasn't come in time.
                self.cancelled(order)

    def item_ended(self, row: Any, state: str, at: Any) -> None:
        if state not in ("COMPLETED", "FAILED", "CANCELLED", "REJECTED"):
            return
        order = self.book.orders.get(row.product_order_id)
        ours = order is not None and bool(order.sent)
        if order is None:
            order = self.book.orders[row.product_order_id] = Order(row.product_order_id, {})
        item = order.items.get(row.item.id)
        if item is None:
            assert not ours, f"{row.item.id} is an item that nobody wants"
            item = order.items[row.item.id] = part(row.item, None)
        if state != "COMPLETED":
            if not ours and item.status:
                self.book.products[row.product_id].refused = True
            return
        where = order.id, row.item.id
        assert row.item.id not in order.withdrawn, f"{where} was withdrawn, and is completed"
        assert where not in self.dropped, f"{where} was dropped, and is completed"
        bundle = ""
        if row.parent_id:
            ((bundle,),) = self.office.rows(
                "SELECT coalesce(product_id, '') FROM product_order_item WHERE id = %(id)s", id=row.parent_id
            )
        self.book.completed(order.id, item, row.product_id, bundle, at)
        if item.status:
            product = self.book.products[row.product_id]
            product.refused = False
            if ours and item.status == "active":
                product.reasons.pop("voluntary", None)
            elif ours:
                known = product.reasons.get("voluntary")
                product.reasons["voluntary"] = Suspension(known.start if known and known.start <= at else at)

    @invariant()
    def stays_awake(self) -> None:
        if not self.broken:
            self.broken = True
            check_awake(self.office)
            self.broken = False

    # --- the end -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Systems answer well, people try again (what can't be completed even then, they leave out), all that is due is
        done."""
        network, tried = self.office.network, set[str]()
        network.answers.clear()
        self.office.list.known.add(f"stranger of {self.office.branch}")
        for _ in range(400):
            if self.office.round():
                self.look()
                continue
            for key, _, of, _ in self.held():
                left_out = of in tried and key not in network.known
                tried.add(of)
                network.noes[of] += left_out
                request = said(fulfilment_pb2.FulfilmentTaskRequest, id=key, reason="by hand")
                method = "SkipFulfilmentTask" if left_out else "RetryFulfilmentTask"
                self.call(self.office.fulfilments, method, request)
            due = self.office.next_due()
            if due is None:
                return
            self.office.pass_by(due - self.office.clock.at + timedelta(milliseconds=1))
        raise AssertionError("it doesn't come to an end")

    def teardown(self) -> None:
        self.office.axe.set(0)
        if not self.broken:
            self.settle()
            self.look()
            check_the_end(self)


# What somebody else suspends a product for, meanwhile.
_FIRST = "voluntary"


def state_of(told: Any) -> str:
    """The state of an item of an answer, as TMF622 has it."""
    name = orders_pb2.ProductOrderItemState.Name(told.state).removeprefix("PRODUCT_ORDER_ITEM_STATE_")
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def body(item: Item) -> dict[str, Any]:
    """An item as it is sent."""
    product: dict[str, Any] = {}
    if item.product:
        product["id"] = item.product
    if item.characteristics:
        said = item.characteristics.items()
        product["product_characteristic"] = [{"name": name, "value": f'"{value}"'.encode()} for name, value in said]
    if item.place:
        product["place"] = [{"id": item.place, "role": "installationAddress"}]
    if item.status:
        product["status"] = f"PRODUCT_STATUS_{item.status.upper()}"
    sent: dict[str, Any] = {"id": item.key, "action": f"ORDER_ITEM_ACTION_{_ACTIONS[item.action]}", "product": product}
    if item.ware:
        sent["product_offering"] = {"id": item.ware}
        sent["quantity"] = item.quantity
    if item.relies_on:
        sent["product_order_item_relationship"] = [{"id": item.relies_on, "relationship_type": "reliesOn"}]
    return sent


def part(told: Any, above: Item | None) -> Item:
    """An item that ordering has made by itself."""
    action = _NAMES[told.action]
    made = Item(told.id, action, product=told.product.id)
    if action != "delete":
        made.ware = told.product_offering.id
        made.quantity = told.quantity or 1
    if above is not None and action == "modify":
        made.place = above.place
    if told.product.HasField("status") and action == "modify" and not made.ware:
        status = {2: "active"}.get(told.product.status)
        name = told.product.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[told.product.status].name
        made.status = status or name.removeprefix("PRODUCT_STATUS_").lower()
    return made
