"""Whether orders, systems, inventory and billing are what the model says, at every moment and in the end."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chassis.convert import from_timestamp
from chassis.events import acting
from orders.billing import source
from orders.billing.reconciliation import Comparison
from orders.billing.sealer import Sealer
from svyaz.orders.v1 import inventory_pb2, lifecycle_pb2
from tests.orders import model
from tests.orders.model import RUNNING, WARES, Charge, Order, Version
from tests.orders.office import START, Deed, Office

if TYPE_CHECKING:
    from tests.orders.machine import Ordering

# What must never be, each with what is wrong.
_NEVER = """
    WITH unfinished AS (
        SELECT id, state FROM product_order WHERE branch = %(branch)s
            AND state NOT IN ('completed', 'cancelled', 'failed', 'rejected', 'partial')
    )
    SELECT 'nothing will start it', id FROM unfinished
    WHERE state IN ('acknowledged', 'pending')
        AND NOT EXISTS (SELECT FROM timer WHERE aggregate_id = unfinished.id AND purpose = 'advance')
    UNION ALL
    SELECT 'nothing will carry it on', id FROM unfinished
    WHERE state NOT IN ('acknowledged', 'pending')
        AND NOT EXISTS (SELECT FROM timer WHERE aggregate_id = unfinished.id AND purpose = 'provision')
        AND (
            NOT EXISTS (SELECT FROM fulfilment_task WHERE product_order_id = unfinished.id AND state = 'held')
            OR EXISTS (SELECT FROM fulfilment_task WHERE product_order_id = unfinished.id AND state = 'inProgress')
        )
    UNION ALL
    SELECT 'an open task of what has ended: ' || name, product_order_id FROM fulfilment_task
    WHERE branch = %(branch)s AND state IN ('pending', 'inProgress', 'held')
        AND product_order_id NOT IN (SELECT id FROM unfinished)
    UNION ALL
    SELECT 'it runs, and what it is of is ' || item.state, product.id
    FROM product_order_item AS item JOIN product ON product.id = item.product_id
    WHERE item.branch = %(branch)s AND item.item ->> 'action' = 'add' AND item.state <> 'completed'
        AND product.status IN ('active', 'suspended', 'pendingTerminate', 'terminated')
    UNION ALL
    SELECT 'nobody will answer this wish', id FROM cancel_product_order AS wish
    WHERE branch = %(branch)s AND state = 'acknowledged'
        AND NOT EXISTS (SELECT FROM timer WHERE aggregate_id = wish.id AND purpose = 'cancel')
"""


def check_awake(office: Office) -> None:
    """At every moment: whatever isn't finished goes on by itself or waits for a person, and nothing runs too early."""
    assert office.rows(_NEVER) == []
    assert office.network.wrong == []


def check_the_end(machine: "Ordering") -> None:
    """When nothing is due any more: all of it, by way of the systems, the inventory and the chains."""
    office = machine.office
    check_awake(office)
    assert office.rows("SELECT aggregate_id, purpose FROM timer") == []
    assert machine.wishes == {}
    _check_orders(machine)
    _check_systems(machine)
    _check_inventory(machine)
    _check_billing(machine)
    _check_own_comparisons(office)


_ITEMS = """
    SELECT product_order_id, id, item ->> 'id', state, coalesce(product_id, '') FROM product_order_item
    WHERE branch = %(branch)s ORDER BY product_order_id, position
"""


def _check_orders(machine: "Ordering") -> None:
    ends: dict[str, dict[str, str]] = defaultdict(dict)
    rows = {}
    for order, row, key, state, _ in machine.office.rows(_ITEMS):
        ends[order][key] = state
        rows[order, key] = row
    for order_id, (state, _) in machine.order_rows().items():
        order, of_items = machine.book.orders.get(order_id), ends[order_id]
        told = f"{order_id} is {state}: {of_items}"
        assert set(of_items.values()) <= {"completed", "failed", "rejected", "cancelled"}, told
        assert order is not None, told
        expected = "cancelled" if order.cancelled else model.order_state(of_items.values())
        assert state == expected, told
        if not order.sent:
            continue
        assert of_items.keys() == order.items.keys() | order.withdrawn | _dropped(machine, order), told
        for key, end in of_items.items():
            noes = machine.office.network.noes
            if end == "cancelled":
                assert key in order.withdrawn, f"nobody has withdrawn {key}: {told}"
            elif end != "completed":
                refused = noes[rows[order_id, key]] or noes[order_id]
                assert refused or _hindered(machine, order, key, of_items), f"nothing kept {key} from it: {told}"
            else:
                assert key not in order.withdrawn, told


def _dropped(machine: "Ordering", order: Order) -> set[str]:
    return {key for of, key in machine.dropped if of == order.id}


def _hindered(machine: "Ordering", order: Order, key: str, ends: Mapping[str, str]) -> bool:
    """Whether what an item relies on came to nothing, or its product has ended meanwhile."""
    item = order.items.get(key)
    if item is None:
        return True
    held = machine.book.products.get(item.product)
    return ends.get(item.relies_on, "") in ("failed", "rejected") or (held is not None and held.status not in RUNNING)


def _check_systems(machine: "Ordering") -> None:
    """What stands in the systems is what completed items need; of the others what can't be undone, and was said."""
    office = machine.office
    of_row: dict[str, list[Deed]] = defaultdict(list)
    for deed in office.network.standing.values():
        of_row[deed.item].append(deed)
    tasks = {
        key: (name, row, compensates)
        for key, name, row, compensates in office.rows(
            "SELECT id, name, product_order_item_id, compensates FROM fulfilment_task WHERE branch = %(branch)s"
        )
    }
    skipped = {(tasks[key][1], tasks[key][0]) for key in machine.skipped if key in tasks}
    left_by_hand = {tasks[key][2] for key in machine.skipped if key in tasks}
    notes = dict(office.rows("SELECT id, note::text FROM product_order WHERE branch = %(branch)s"))
    for order_id, row, key, state, product in office.rows(_ITEMS):
        deeds = of_row.pop(row, [])
        told = f"item {key} of {order_id} is {state}, there stand {[deed.name for deed in deeds]}"
        order = machine.book.orders[order_id]
        if state == "completed":
            item = order.items[key]
            action = {"suspended": "suspend", "active": "resume"}.get(item.status, item.action)
            expected = model.standing(item, action, WARES[machine.book.products[product].ware].specification)
            names = Counter(deed.name for deed in deeds)
            assert names <= Counter(expected.keys()), told
            assert all((row, name) in skipped for name in expected if name not in names), f"{told}, not {expected}"
            for deed in deeds:
                wanted = {name: value for name, value in expected[deed.name].items() if value}
                assert {name: deed.told.get(name) for name in wanted} == wanted, f"{told}: {deed}"
            continue
        for deed in deeds:
            if deed.task in left_by_hand:
                continue
            assert deed.name in _LASTING, told
            assert deed.name in (notes[order_id] or "") or _unknown(office, deed), f"{told}, and nobody says so"
    assert not of_row, "something stands for an item that isn't there"


_LASTING = {step.name for steps in model.PLANS.values() for step in steps if step.undo in ("lasts", "final")}


def _unknown(office: Office, deed: Deed) -> bool:
    """Whether nobody could know: the system hasn't said so, and a person said that it hasn't been done."""
    query = "SELECT state, coalesce(in_doubt, false) FROM fulfilment_task WHERE id = %(id)s"
    return office.rows(query, id=deed.task) in ([("failed", False)], [("skipped", False)])


_PRODUCTS = "SELECT id, (SELECT data FROM event WHERE aggregate_id = product.id ORDER BY version DESC LIMIT 1)"


def _check_inventory(machine: "Ordering") -> None:
    office, book = machine.office, machine.book
    found = {
        key: inventory_pb2.Product.FromString(bytes(data))
        for key, data in office.rows(f"{_PRODUCTS} FROM product WHERE branch = %(branch)s")
    }
    never = {key for key, one in found.items() if _status(one) in ("cancelled", "aborted")}
    assert found.keys() - never == book.products.keys(), "the inventory is the sum of what was completed"
    resources = _reserved(machine)
    for key, wanted in book.products.items():
        told, one = f"product {key}", found[key]
        assert _status(one) == wanted.status, f"{told} is {_status(one)}, not {wanted.status}"
        assert one.product_offering.id == wanted.ware, told
        prices = {
            price.product_offering_price.id: (price.price_type, price.price.duty_free_amount.units)
            for price in one.product_price
        }
        assert prices == wanted.prices, told
        assert all(price.HasField("valid_for") for price in one.product_price), told
        said = {each.name: each.value.decode().strip('"') for each in one.product_characteristic}
        assert {name: said.get(name) for name in wanted.said} == wanted.said, told
        assert {place.id for place in one.place} == ({wanted.place} if wanted.place else set()), told
        bundles = [relation.product.id for relation in one.product_relationship]
        assert bundles == ([wanted.bundle] if wanted.bundle else []), told
        if wanted.bundle:
            assert key in {each.id for each in found[wanted.bundle].product}, told
        if key in resources:
            assert {each.id for each in one.realizing_resource} == resources[key], told
        if wanted.status in RUNNING and not wanted.refused:
            reasons = book.reasons(wanted, office.clock.at)
            assert wanted.status == ("suspended" if reasons else "active"), f"{told} is {wanted.status}: {reasons}"
        assert {
            (inventory_pb2.SuspensionReason.Name(each.reason).removeprefix("SUSPENSION_REASON_").lower())
            for each in one.suspension
        } == (book.reasons(wanted, office.clock.at) if wanted.status in RUNNING else set()), told


def _reserved(machine: "Ordering") -> dict[str, set[str]]:
    """By product, what is reserved for it; not of those for which somebody has skipped that."""
    found: dict[str, set[str]] = {}
    skipped = {machine.office.network.known[key].product_order_item_id for key in machine.skipped}
    for _, row, _, state, product in machine.office.rows(_ITEMS):
        deeds = [deed for deed in machine.office.network.standing.values() if deed.item == row and deed.reserves]
        if state == "completed" and row not in skipped and deeds:
            found[product] = {deed.task for deed in deeds}
    return found


def _status(product: Any) -> str:
    name = inventory_pb2.ProductStatus.Name(product.status).removeprefix("PRODUCT_STATUS_")
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


# --- billing ---------------------------------------------------------------------------------------------------------


def _check_billing(machine: "Ordering") -> None:
    office, book = machine.office, machine.book
    sealer = Sealer(office.database)
    while sealer.seal_batch()[0]:
        pass
    events = _chain(office)
    amounts = [(one, int(one["amount"]["value"])) for one in events]
    charged: Counter[Charge] = Counter()
    undone: Counter[str] = Counter()
    rested: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for one, som in amounts:
        kind, product, price = one["type"], one.get("productId", ""), one.get("productOfferingPriceId", "")
        if one.get("reason") == "undo":
            undone[one["productOrderId"]] += som
        elif kind in (model.REST, model.RESUME):
            rested[product].append((kind, price, som))
        else:
            charged[Charge(kind, one["productOrderId"], one["productOrderItemId"], product, price, som)] += 1
    assert charged == book.charges, f"too many {charged - book.charges}, too few {book.charges - charged}"
    assert undone == Counter({order.id: order.undo_cost for order in book.orders.values() if order.undo_cost})
    histories = _histories(office)
    resting: dict[str, set[str]] = {}
    for product in book.products:
        expected, resting[product] = model.rests(histories.get(product, []))
        found = rested.pop(product, [])
        assert sorted(found) == sorted(expected), (
            f"suspensions of {product}: billing was told {sorted(found)}, its life is {sorted(expected)}"
        )
    assert not rested
    owed = {}
    for wanted in book.running():
        reasons = book.reasons(wanted, office.clock.at)
        uncharged = wanted.status == "suspended" and not reasons.isdisjoint(model.UNCHARGED)
        for name, (kind, som) in wanted.prices.items():
            # What the network has refused to resume rests as it did.
            rests = uncharged if reasons else name in resting[wanted.id]
            if kind == "recurring":
                owed[wanted.id, name] = som, rests
    chain = [
        (one["type"], one.get("productId", ""), one.get("productOfferingPriceId", ""), som) for one, som in amounts
    ]
    assert model.owed_now(chain) == owed, "what billing goes on charging is what runs"


def _chain(office: Office) -> list[dict[str, Any]]:
    """The charges of the only account, in the order of their chain, which is whole."""
    query = """
        SELECT account, epoch, sequence, previous_hash, hash, data FROM charge_event
        WHERE branch = %(branch)s ORDER BY id
    """
    before, events = "0" * 64, []
    for number, (account, epoch, sequence, previous, hashed, data) in enumerate(office.rows(query), 1):
        event = json.loads(bytes(data))
        assert (account, sequence, previous) == (f"account-{office.branch}", number, before)
        assert hashed == hashlib.sha256(before.encode() + bytes(data)).hexdigest()
        assert (event["account"], event["epoch"], event["sequence"]) == (account, epoch, number)
        before = hashed
        events.append(event)
    return events


def _histories(office: Office) -> dict[str, list[Version]]:
    query = """
        SELECT aggregate_id, time, data FROM event WHERE branch = %(branch)s AND aggregate_type = 'Product'
        ORDER BY aggregate_id, version
    """
    found: dict[str, list[Version]] = defaultdict(list)
    for key, at, data in office.rows(query):
        product = inventory_pb2.Product.FromString(bytes(data))
        reasons = set()
        for one in product.suspension:
            period = one.valid_for
            begun = not period.HasField("start_date_time") or from_timestamp(period.start_date_time) <= at
            over = period.HasField("end_date_time") and from_timestamp(period.end_date_time) <= at
            if begun and not over:
                reasons.add(inventory_pb2.SuspensionReason.Name(one.reason).removeprefix("SUSPENSION_REASON_").lower())
        prices = {
            price.product_offering_price.id: price.price.duty_free_amount.units
            for price in product.product_price
            if price.price_type == "recurring"
        }
        found[key].append(Version(at, _status(product), prices, frozenset(reasons)))
    return found


def _check_own_comparisons(office: Office) -> None:
    """The service's own comparisons find nothing wrong either, so they give no false alarm."""
    comparison = Comparison()
    with acting("orders", "model", office.branch), office.database.unit() as unit:
        period = START - timedelta(days=1), unit.at + timedelta(days=1)
        comparison.part(
            source.happened(unit, office.branch, *period), list(source.charged(unit, office.branch, *period))
        )
    # What undoing costs is of no product's change: nothing of the log asks for it.
    assert [one for one in comparison.discrepancies() if "undo" not in one.price] == []
    after = ""
    while True:
        request = lifecycle_pb2.ReconcileProductsRequest(after=after)
        told = office.ask(office.lifecycle, "ReconcileProducts", request)
        assert not told.items, list(told.items)
        after = told.next
        if not after:
            return
