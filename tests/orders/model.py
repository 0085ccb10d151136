"""What orders, products and charges should be: a model in plain Python, with nothing of the product's own code.

It knows the price list and the plans, is told what was asked for and taken, and which items were completed in which
order; of that it works out what the inventory, the systems and billing must have in the end.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

RUNNING = ("active", "suspended")
START, CHANGE, STOP = "RecurringChargeStartEvent", "RecurringChargeChangeEvent", "RecurringChargeStopEvent"
REST, RESUME, ONCE = "RecurringChargeSuspendEvent", "RecurringChargeResumeEvent", "ChargeCreateEvent"
# Who puts his contract to rest, or is kept from using it by an authority, pays nothing meanwhile.
UNCHARGED = ("voluntary", "regulatory")


@dataclass(frozen=True)
class Ware:
    """An offering: what it is realized by, what it costs a month and once (som), and what it consists of."""

    name: str
    specification: str
    fee: int
    once: int = 0
    parts: tuple[str, ...] = ()

    def prices(self, quantity: int) -> dict[str, tuple[str, int]]:
        """What so many cost, by price: whether it recurs, and how much."""
        found = {f"{self.name} fee": ("recurring", self.fee * quantity)} if self.fee else {}
        return found | ({f"{self.name} connection": ("oneTime", self.once * quantity)} if self.once else {})


WARES = {
    one.name: one
    for one in (
        Ware("line S", "line", 100, 30),
        Ware("line L", "line", 250),
        Ware("fibre", "fibre", 500, 900),
        Ware("tv", "tv", 70),
        Ware("gift", "gift", 0, 5),
        Ware("box", "box", 20, 400),
        Ware("home", "frame", 40, 0, ("fibre", "tv")),
        Ware("all", "frame", 60, 10, ("tv", "line S", "gift")),
    )
}


@dataclass(frozen=True)
class Step:
    """A task of a plan. `undo`: it is undone `free`ly or at a `cost` (som), needs none (`nothing`), `lasts`, or is
    `final`; `fails`: what its failure means; `tells`: what of the item its system is told."""

    name: str
    needs: tuple[str, ...] = ()
    undo: str = "free"
    cost: int = 0
    tells: tuple[str, ...] = ()
    fails: str = "fallout"
    attempts: int = 1
    of_order: bool = False
    reserves: bool = False
    only_if: str = ""

    @property
    def stands(self) -> bool:
        """Whether something is there once it is done."""
        return self.undo != "nothing"


# What every operator has from the start.
BUILT_IN = (Step("provision", tells=("*",), fails="compensate"),)
# By product specification and what is done.
PLANS: dict[tuple[str, str], tuple[Step, ...]] = {
    ("line", "add"): (
        Step("credit", undo="nothing", fails="reject", attempts=2, of_order=True),
        Step("number", ("credit",), cost=40, tells=("phone",), attempts=2, reserves=True),
        Step("activate", ("number",), tells=("phone",), fails="compensate", attempts=2),
        Step("voicemail", ("activate",), only_if="voicemail"),
        Step("confirm", ("voicemail", "activate"), undo="nothing"),
    ),
    ("line", "modify"): (Step("change", tells=("phone",), attempts=2),),
    ("line", "delete"): (Step("release", undo="final"),),
    ("line", "suspend"): (Step("bar", fails="compensate", attempts=3),),
    ("fibre", "add"): (
        Step("port", cost=15, reserves=True),
        Step("cable", ("port",), undo="lasts", tells=("place",), fails="compensate"),
        Step("light", ("cable",), fails="compensate", attempts=2),
    ),
    ("gift", "add"): (),
    ("box", "add"): (
        Step("pack", cost=5, tells=("place",)),
        Step("ship", ("pack",), undo="final", tells=("place",)),
        Step("install", ("ship",)),
    ),
}


@dataclass
class Item:
    """An item of an order as it is wanted; `parts`: what is inside it, as the order was taken."""

    key: str
    action: str
    ware: str = ""
    product: str = ""
    quantity: int = 1
    phone: str = ""
    place: str = ""
    voicemail: bool = False
    # To suspend or resume.
    status: str = ""
    relies_on: str = ""
    parts: list["Item"] = field(default_factory=list)

    def everything(self) -> Iterator["Item"]:
        """The item with all that is inside."""
        yield self
        for part in self.parts:
            yield from part.everything()

    @property
    def characteristics(self) -> dict[str, str]:
        """What it says of its product."""
        said = {"phone": self.phone, "voicemail": "yes" if self.voicemail else ""}
        return {name: value for name, value in said.items() if value}


@dataclass
class Order:
    """An order as its customer knows it."""

    id: str
    items: dict[str, Item]
    # As he sent it.
    sent: list[Item] = field(default_factory=list)
    # What he doesn't want any more.
    withdrawn: set[str] = field(default_factory=set)
    # What undoing was said to cost, and was accepted.
    undo_cost: int = 0
    # Somebody ordered it whom nobody knows yet.
    of_stranger: bool = False
    # All of it was cancelled.
    cancelled: bool = False


@dataclass
class Suspension:
    """A reason for which a product doesn't work, from and until."""

    start: datetime
    end: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether it is in force: no more at its end."""
        return self.start <= at and (self.end is None or at < self.end)


@dataclass
class Product:
    """What a customer has, or had."""

    id: str
    ware: str
    quantity: int
    said: dict[str, str]
    place: str
    status: str = "active"
    bundle: str = ""
    # Whose it is: the customer's, or the stranger's.
    strange: bool = False
    reasons: dict[str, Suspension] = field(default_factory=dict)
    # Whether the network has refused to suspend or resume it: it isn't as it is wanted until somebody asks again.
    refused: bool = False

    @property
    def prices(self) -> dict[str, tuple[str, int]]:
        """What it is sold at."""
        return WARES[self.ware].prices(self.quantity)


@dataclass(frozen=True)
class Charge:
    """What billing is told once."""

    type: str
    order: str
    item: str
    product: str
    price: str
    som: int


class Book:
    """What there should be."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.products: dict[str, Product] = {}
        self.charges: Counter[Charge] = Counter()

    def running(self) -> list[Product]:
        """The products that can be changed, in the order in which they came."""
        return [one for one in self.products.values() if one.status in RUNNING]

    def parts(self, product: str) -> list[Product]:
        """What runs inside a product."""
        return [one for one in self.running() if one.bundle == product]

    def below(self, product: str) -> set[str]:
        """Everything that runs inside a product, with itself."""
        return {product}.union(*(self.below(part.id) for part in self.parts(product)))

    # --- what is asked for -------------------------------------------------------------------------------------------

    def expects_parts(self, item: Item) -> tuple[Counter[tuple[str, str]], set[str]]:
        """What has to be inside an item: (action, ware) of what is added or changed; the products that end."""
        there = self.parts(item.product) if item.product else []
        if item.action == "delete":
            return Counter(), {part.id for part in there}
        found: Counter[tuple[str, str]] = Counter()
        for ware in WARES[item.ware].parts if item.ware else ():
            kept = next((part for part in there if part.ware == ware), None)
            if kept is not None:
                there.remove(kept)
            found["add" if kept is None else "modify", ware] += 1
        return found, {part.id for part in there} if item.ware else set()

    # --- what happens ------------------------------------------------------------------------------------------------

    def completed(self, order: str, item: Item, product: str, bundle: str, at: datetime) -> None:
        """An item was carried out: this is what it makes of the inventory, and what is owed for it."""
        if item.action == "add":
            assert product not in self.products, "a product is added once"
            made = Product(product, item.ware, item.quantity, dict(item.characteristics), item.place, bundle=bundle)
            made.strange = self.orders[order].of_stranger
            self.products[product] = made
            self._owe(order, item, product, made.prices, {"recurring": START, "oneTime": ONCE})
            return
        if item.action == "noChange":
            return
        held = self.products[product]
        assert held.status in RUNNING, f"{item.action} of a product that is {held.status}"
        recurring = {name: price for name, price in held.prices.items() if price[0] == "recurring"}
        if item.action == "delete":
            held.status = "terminated"
            self._owe(order, item, product, recurring, {"recurring": STOP})
            return
        if item.status:
            held.status = item.status
        if item.ware:
            held.ware, held.quantity = item.ware, item.quantity
            gone = {name: price for name, price in recurring.items() if name not in held.prices}
            self._owe(order, item, product, gone, {"recurring": STOP})
            self._owe(order, item, product, held.prices, {"recurring": CHANGE, "oneTime": ONCE})
        held.said = dict(item.characteristics) or held.said
        held.place = item.place or held.place

    def _owe(
        self, order: str, item: Item, product: str, prices: dict[str, tuple[str, int]], types: dict[str, str]
    ) -> None:
        for name, (kind, som) in prices.items():
            self.charges[Charge(types[kind], order, item.key, product, name, som)] += 1

    # --- what doesn't work for a time --------------------------------------------------------------------------------

    def reasons(self, product: Product, at: datetime) -> set[str]:
        """Why a product isn't to work: its own reasons, and those of what it is inside."""
        own = {name for name, reason in product.reasons.items() if reason.holds(at)}
        above = self.products.get(product.bundle)
        inherits = above is not None and above.status in RUNNING
        return own | (self.reasons(above, at) if inherits and above is not None else set())


def plan(specification: str, action: str) -> Sequence[Step]:
    """The tasks of an item; who suspends or resumes without saying how, changes."""
    if action == "noChange":
        return ()
    plain = "modify" if action in ("suspend", "resume") else action
    return PLANS.get((specification, action), PLANS.get((specification, plain), BUILT_IN))


def standing(item: Item, action: str, specification: str) -> dict[str, dict[str, str]]:
    """What a completed item leaves in the systems: by task, what the system was told."""
    values = {**item.characteristics, **({"place": item.place} if item.place else {})}
    return {
        step.name: {name: values[name] for name in step.tells if name in values}
        for step in plan(specification, action)
        if step.stands and (not step.only_if or item.characteristics.get(step.only_if) == "yes")
    }


def order_state(ends: Iterable[str]) -> str:
    """How an order ends whose items have ended so."""
    counted = [end for end in ends if end != "cancelled"]
    if not counted:
        return "cancelled"
    if all(end == "completed" for end in counted):
        return "completed"
    if "completed" in counted:
        return "partial"
    return "rejected" if all(end == "rejected" for end in counted) else "failed"


@dataclass(frozen=True)
class Version:
    """A product as the log has it after a change: its recurring prices, and why it was suspended then, if it was."""

    at: datetime
    status: str
    prices: dict[str, int]
    reasons: frozenset[str]

    def resting(self, before: set[str]) -> set[str]:
        """The prices that aren't charged; `before`: until then."""
        if self.status == "suspended" and not self.reasons:
            # It is to be resumed, and the network hasn't done so yet.
            return before & self.prices.keys()
        rests = self.status == "suspended" and not self.reasons.isdisjoint(UNCHARGED)
        return set(self.prices) if rests else set()


def rests(history: Sequence[Version]) -> tuple[list[tuple[str, str, int]], set[str]]:
    """What billing has to be told of a product's suspensions, of its history: type, price, som; and the prices that
    rest by now."""
    told: list[tuple[str, str, int]] = []
    before: set[str] = set()
    for version in history:
        if version.status not in RUNNING:
            before = set()
            continue
        now = version.resting(before)
        for name, som in version.prices.items():
            if (name in now) is not (name in before):
                told.append((REST if name in now else RESUME, name, som))
        before = now
    return told, before


def owed_now(chain: Sequence[tuple[str, str, str, int]]) -> dict[tuple[str, str], tuple[int, bool]]:
    """What billing, who knows the chain only, goes on charging: product and price → som, and whether it rests.

    Raises AssertionError for an event that makes no sense after those before it.
    """
    runs: dict[tuple[str, str], tuple[int, bool]] = {}
    for kind, product, price, som in chain:
        key = product, price
        if kind == START:
            assert key not in runs, f"{price} of {product} starts twice"
            runs[key] = som, False
        elif kind == CHANGE:
            runs[key] = som, runs.get(key, (0, False))[1]
        elif kind == STOP:
            assert runs.pop(key, (None, False))[0] == som, f"{price} of {product} stops at {som}"
        elif kind in (REST, RESUME):
            assert key in runs, f"{price} of {product} rests and doesn't run"
            assert runs[key] == (som, kind == RESUME), f"{kind} of {price} of {product} at {som}: it is {runs[key]}"
            runs[key] = som, kind == REST
    return runs
