"""What to offer next, and at what discount: pure, each recommendation with its reasons.

How it counts:

* Only what the customer can have and hasn't got is recommended, and only for a reason. Of what he may be able to have
  it is told what would have to be known to recommend it.
* What would replace something of the customer's is compared with it: both are priced for the same usage, a month, with
  tax. What is an upgrade is recommended at any price, what merely replaces only when it is cheaper.
* What else is recommended is what holders of the customer's offerings hold more often than others do: the lift of a
  pair is P(both) ÷ (P(one) · P(other)). Of a large base a sample of customers is counted, by a hash of their ids: how
  many these were is in the receipt. Pairs of fewer customers than MINIMUM_SUPPORT say nothing, nor do lifts below
  MINIMUM_LIFT.
* Upgrades come first, then what replaces at a saving, by its share of today's price; then the rest, by lift. Of equal
  ones the lower id comes first.
* A discount is what was taken off the list price of what a holder bought. What half of a segment's holders accepted or
  needed less than is recommended (the median, by nearest rank); where fewer than the minimum are known, nothing is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

from catalog.pricing.money import EXACT, rounded

ENGINE = "catalog.recommendation"
DISCOUNT_ENGINE = "catalog.discount"
REVISION = "1"

MOST_ITEMS = 10
MINIMUM_SUPPORT = 10
MINIMUM_LIFT = Decimal("1.2")
MINIMUM_OBSERVATIONS = 30
# Per cent.
BAND = 5

_HUNDRED, _ZERO = Decimal(100), Decimal(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An offering that the customer can have, unless what isn't known prevents it (`unknown`: place, channel …); what
    it costs a month, and what that costs which it replaces."""

    product_offering_id: str
    name: str = ""
    replaces: tuple[str, ...] = ()
    upgrade: bool = False
    currency: str = ""
    monthly: Decimal | None = None
    monthly_today: Decimal | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CoHolding:
    """Of the customers that were looked at so many hold one offering of the customer's, the other, and both."""

    held_id: str
    other_id: str
    both: int
    held: int
    other: int
    held_name: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """A reason: its code, its words in English and Russian, and how strong it is."""

    code: str
    label: str
    label_ru: str
    weight: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Recommended:
    """An offering worth offering; `saving`: what it costs less a month (negative: more), None: nobody knows."""

    candidate: Candidate
    reasons: tuple[Why, ...]
    saving: Decimal | None


def recommend(
    candidates: Iterable[Candidate], together: Iterable[CoHolding], customers: int, most: int = MOST_ITEMS
) -> list[Recommended]:
    """The best offerings, the best first; `customers`: how many there are in all."""
    found: list[tuple[tuple[int, Decimal, str], Recommended]] = []
    affinity: dict[str, list[CoHolding]] = {}
    for pair in together:
        affinity.setdefault(pair.other_id, []).append(pair)
    with localcontext(EXACT):
        for candidate in candidates:
            saving = _saving(candidate)
            reasons = list(_of_replacing(candidate, saving))
            lifted = _of_affinity(affinity.get(candidate.product_offering_id, ()), customers)
            reasons += [lifted] if lifted is not None else []
            if candidate.replaces and not candidate.upgrade and (saving is None or saving <= 0):
                continue
            if reasons:
                recommended = Recommended(candidate, tuple(reasons), saving)
                found.append((_rank(recommended), recommended))
    return [recommended for _, recommended in sorted(found, key=lambda pair: pair[0])[:most]]


def _saving(candidate: Candidate) -> Decimal | None:
    if candidate.monthly is None or candidate.monthly_today is None or not candidate.replaces:
        return None
    return rounded(candidate.monthly_today - candidate.monthly, candidate.currency)


def _of_replacing(candidate: Candidate, saving: Decimal | None) -> Iterable[Why]:
    if candidate.upgrade:
        yield Why("UPGRADE", "It is more than what you have now", "Это больше, чем у вас сейчас")
    if saving is not None and saving > 0 and candidate.monthly_today:
        share = _share(saving / candidate.monthly_today)
        amount = f"{saving:f} {candidate.currency}"
        yield Why(
            "CHEAPER",
            f"For what you use you would pay {amount} a month less",
            f"За то, чем вы пользуетесь, вы платили бы на {amount} в месяц меньше",
            share,
        )


def _of_affinity(pairs: Sequence[CoHolding], customers: int) -> Why | None:
    best: tuple[Decimal, str, CoHolding] | None = None
    for pair in sorted(pairs, key=lambda pair: pair.held_id):
        if pair.both < MINIMUM_SUPPORT or not pair.held or not pair.other:
            continue
        lift = Decimal(pair.both) * customers / (Decimal(pair.held) * pair.other)
        if lift >= MINIMUM_LIFT and (best is None or lift > best[0]):
            best = (lift, pair.held_id, pair)
    if best is None:
        return None
    pair, name = best[2], best[2].held_name or best[2].held_id
    per_cent = _HUNDRED * pair.both / pair.held
    return Why(
        "BOUGHT_TOGETHER",
        f"{per_cent:.0f} % of those who have {name} have it too",
        f"{per_cent:.0f} % тех, у кого есть «{name}», пользуются и этим",
        _share(best[0]),
    )


def _share(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.001"), context=EXACT)


def _rank(recommended: Recommended) -> tuple[int, Decimal, str]:
    weights = {why.code: why.weight or _ZERO for why in recommended.reasons}
    kind = 0 if "UPGRADE" in weights else 1 if "CHEAPER" in weights else 2
    strength = weights.get("CHEAPER", _ZERO) if kind < 2 else weights.get("BOUGHT_TOGETHER", _ZERO)
    return kind, -strength, recommended.candidate.product_offering_id


# --- discounts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DiscountBand:
    """Sales at a discount of at least and less than so many per cent."""

    at_least: Decimal
    less_than: Decimal
    observations: int


@dataclass(frozen=True, slots=True)
class SegmentDiscount:
    """The discounts that a segment's holders bought at, and the one to be recommended (per cent)."""

    market_segment: str
    observations: int
    recommended_percentage: Decimal | None
    lower_quartile: Decimal | None
    upper_quartile: Decimal | None
    band: tuple[DiscountBand, ...]
    refused: str


def discount_of(net: Decimal, alterations: Iterable[Decimal]) -> Decimal | None:
    """How many per cent of its list price a charge was sold below it; None: it had no list price. Surcharges are 0."""
    with localcontext(EXACT):
        listed = net - sum(alterations, _ZERO)
        if listed <= 0:
            return None
        off = (listed - net) * _HUNDRED / listed
    return max(_ZERO, off.quantize(Decimal("0.01"), context=EXACT))


def recommend_discounts(
    accepted: Mapping[str, Sequence[Decimal]], minimum: int = MINIMUM_OBSERVATIONS
) -> list[SegmentDiscount]:
    """For each segment, by name, what is recommended from the discounts that were accepted there."""
    return [_of_segment(segment, sorted(accepted[segment]), minimum) for segment in sorted(accepted)]


def _of_segment(segment: str, accepted: Sequence[Decimal], minimum: int) -> SegmentDiscount:
    counts: dict[int, int] = {}
    for discount in accepted:
        band = int(min(discount, _HUNDRED - 1) // BAND)
        counts[band] = counts.get(band, 0) + 1
    bands = tuple(
        DiscountBand(Decimal(band * BAND), Decimal((band + 1) * BAND), counts[band]) for band in sorted(counts)
    )
    if len(accepted) < max(minimum, 1):
        why = f"{len(accepted)} sales are known; at least {max(minimum, 1)} are needed"
        return SegmentDiscount(segment, len(accepted), None, None, None, bands, why)
    lower, median, upper = (_quantile(accepted, quarters) for quarters in (1, 2, 3))
    return SegmentDiscount(segment, len(accepted), median, lower, upper, bands, "")


def _quantile(ordered: Sequence[Decimal], quarters: int) -> Decimal:
    """By nearest rank: always one of the values."""
    return ordered[-(-len(ordered) * quarters // 4) - 1]
