"""A change as pricing sees it: what is priced as what, by the offers as they are and as they would be, and what of it
would never be priced at all. Pure."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from catalog.preview.difference import Change, Move, with_parts
from catalog.preview.domain import NeverApplied
from catalog.pricing.offers import Offer, compile_offer, price_ids, related_price_ids
from catalog.pricing.rules import Rules
from catalog.product.domain import DRAFTS, LifecycleStatus, ProductOffering, ProductOfferingPrice
from catalog.product.values import ExistingSubscribers, ExistingSubscribersPolicy
from catalog.publication.lint import Surroundings, lint, lint_price

Offerings = Mapping[str, ProductOffering]
Prices = Mapping[str, ProductOfferingPrice]

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Drafts of further versions by id, prices that replace those of their ids, and what becomes of subscribers where a
    version doesn't say it; `at`: when it is launched."""

    versions: Collection[str]
    prices: Prices
    existing_subscribers: ExistingSubscribers | None
    at: datetime
    charge_one_time: bool = False


def planned(
    proposal: Proposal, offerings: Offerings, prices: Prices, rules: Callable[[Iterable[Offer]], Rules]
) -> Change:
    """What the proposal makes of the offerings, which are all that it touches with all that these bundle; `prices` are
    all that they are made of, `rules` those that offers name."""
    versions = {key: offerings[key] for key in proposal.versions}
    # An older version is priced as its successor, on its own and inside a bundle.
    successors = {
        offering.id: version
        for version in versions.values()
        for offering in offerings.values()
        if version.series
        and offering.id not in versions
        and version.series in (offering.id, offering.series)
        and _begins(offering, _EARLIEST) < _begins(version, proposal.at)
    }
    before = {key: compile_offer(_as_held(offering), prices) for key, offering in offerings.items()}
    used = _of_drafts(versions.values(), prices)
    proposed = {
        **prices,
        **{key: _launched(prices[key]) for key in used},
        **{key: _launched(price) for key, price in proposal.prices.items()},
    }
    after = {key: compile_offer(_as_held(offering), proposed) for key, offering in offerings.items()}
    after |= {old: after[version.id] for old, version in successors.items()}
    return Change(
        moves=_moves(proposal, before, after, successors),
        before=before,
        after=after,
        rules=rules([*before.values(), *after.values()]),
        charge_one_time=proposal.charge_one_time,
    )


def never_applied(
    proposal: Proposal,
    offerings: Offerings,
    prices: Prices,
    series: Mapping[str, Sequence[ProductOffering]],
    price_lists: Collection[str],
) -> list[NeverApplied]:
    """What of the proposal would never apply, were it published at its instant. `series`: of each proposed version the
    others; `price_lists`: those that exist. What of an offering doesn't apply already isn't the proposal's doing."""
    return list(dict.fromkeys(_never_applied(proposal, offerings, prices, series, price_lists)))


def _never_applied(
    proposal: Proposal,
    offerings: Offerings,
    prices: Prices,
    series: Mapping[str, Sequence[ProductOffering]],
    price_lists: Collection[str],
) -> Iterator[NeverApplied]:
    proposed = {**prices, **proposal.prices}
    for key in proposal.versions:
        version = offerings[key]
        if version.existing_subscribers is None:
            version = replace(version, existing_subscribers=proposal.existing_subscribers)
        for found in lint(version, Surroundings(proposed, series.get(key, ()), proposal.at, price_lists)):
            yield NeverApplied(key, found.field, found.description)
    after = Surroundings(proposed, (), proposal.at, price_lists)
    for i, price in enumerate(proposal.prices.values()):
        for found in lint_price(price, after):
            yield NeverApplied("", f"product_offering_price[{i}].{found.field}", found.description)
    if proposal.prices:
        before = Surroundings(prices, (), proposal.at, price_lists)
        for key, offering in sorted(offerings.items()):
            if key not in proposal.versions:
                known = {(one.field, one.description) for one in lint(offering, before)}
                for found in lint(offering, after):
                    if (found.field, found.description) not in known:
                        yield NeverApplied(key, found.field, found.description)


def _moves(
    proposal: Proposal,
    before: Mapping[str, Offer],
    after: Mapping[str, Offer],
    successors: Offerings,
) -> dict[str, Move]:
    moves: dict[str, Move] = {}
    for key in before:
        if key in proposal.versions:
            continue
        # What neither changes itself nor has a changed part is as it was.
        touched = {one for one in with_parts(key, after) if one in successors or before[one].text != after[one].text}
        if touched:
            version = successors.get(key) or next(
                (successors[one] for one in sorted(touched) if one in successors), None
            )
            said = (version.existing_subscribers if version is not None else None) or proposal.existing_subscribers
            # Nobody is moved to what isn't launched, or not sold yet.
            sold = max(proposal.at, _begins(version, proposal.at)) if version is not None else proposal.at
            moves[key] = Move(successors[key].id if key in successors else key, _effective(said, sold))
    return moves


def _begins(offering: ProductOffering, otherwise: datetime) -> datetime:
    """When it begins to be sold; `otherwise`, where it doesn't say."""
    period = offering.valid_for
    return period.start_date_time if period is not None and period.start_date_time is not None else otherwise


def _effective(said: ExistingSubscribers | None, sold: datetime) -> datetime | None:
    """From when they are priced anew; None: never."""
    if said is not None and said.policy is ExistingSubscribersPolicy.KEEP:
        return None
    return max(sold, said.effective_date) if said is not None and said.effective_date is not None else sold


def _of_drafts(versions: Iterable[ProductOffering], prices: Prices) -> set[str]:
    """The prices of the drafts that are drafts themselves."""
    found: set[str] = set()
    waiting = [key for version in versions for key in price_ids(version)]
    while waiting:
        key = waiting.pop()
        if key in prices and key not in found:
            found.add(key)
            waiting += related_price_ids(prices[key])
    return {key for key in found if prices[key].status.value in DRAFTS}


def _launched(price: ProductOfferingPrice) -> ProductOfferingPrice:
    return replace(price, lifecycle_status=LifecycleStatus.LAUNCHED)


def _as_held(offering: ProductOffering) -> ProductOffering:
    """Who holds it goes on holding it, whether or not it is sold (yet, or any more)."""
    return replace(offering, lifecycle_status=LifecycleStatus.LAUNCHED, valid_for=None, is_sellable=True)
