"""Things that refer to each other by the keys of a source, made to refer to each other by ours; and in which order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from catalog.product.domain import (
    CONTAINMENT,
    PARENT,
    Catalog,
    CatalogItem,
    Category,
    ProductOffering,
    ProductOfferingPrice,
    ProductSpecification,
)
from catalog.transfer.domain import Element

T = TypeVar("T")

# What a key of a kind of thing is here; None: nothing that is known.
Resolve = Callable[[type[CatalogItem], str], str | None]
Node = tuple[type[CatalogItem], str]

# Parts come before what is made of them.
ORDER: Sequence[type[CatalogItem]] = (
    ProductSpecification,
    ProductOfferingPrice,
    ProductOffering,
    Category,
    Catalog,
)

# Attribute → what it refers to, by the `id` of each of its values.
_REFERRING: Mapping[type[CatalogItem], Mapping[str, type[CatalogItem]]] = {
    Catalog: {"category": Category},
    Category: {"product_offering": ProductOffering, "sub_category": Category},
    ProductSpecification: {
        "bundled_product_specification": ProductSpecification,
        "product_specification_relationship": ProductSpecification,
    },
    ProductOfferingPrice: {
        "bundled_pop_relationship": ProductOfferingPrice,
        "pop_relationship": ProductOfferingPrice,
    },
    ProductOffering: {
        "product_specification": ProductSpecification,
        "product_offering_price": ProductOfferingPrice,
        "bundled_product_offering": ProductOffering,
        "category": Category,
        "product_offering_relationship": ProductOffering,
    },
}
_PLAIN: Mapping[str, type[CatalogItem]] = {PARENT: Category, "series": ProductOffering}


def refer_to_ours(item: CatalogItem, resolve: Resolve) -> None:
    """Gives every reference of the item our id; one that leads nowhere keeps the source's."""
    for name, target in _REFERRING[type(item)].items():
        setattr(item, name, _ours(getattr(item, name), target, resolve))
    for name, target in _PLAIN.items():
        key = getattr(item, name, None)
        if key:
            setattr(item, name, resolve(target, key) or key)
    if isinstance(item, ProductOffering) and item.series == item.id:
        item.series = None
    uses = getattr(item, "prod_spec_char_value_use", ())
    if uses:
        value = tuple(
            replace(use, product_specification=_ours(use.product_specification, ProductSpecification, resolve))
            for use in uses
        )
        item.prod_spec_char_value_use = value  # type: ignore[attr-defined]


def _ours(value: Any, target: type[CatalogItem], resolve: Resolve) -> Any:
    if isinstance(value, tuple):
        return tuple(_ours(one, target, resolve) for one in value)
    # A price of its own refers to nothing.
    if value is None or not value.id or getattr(value, "price", None) is not None:
        return value
    found = resolve(target, value.id)
    # The address of the thing there is none of ours.
    return value if found is None or found == value.id else replace(value, id=found, href=None)


def in_order(elements: Iterable[Element]) -> tuple[list[Element], list[Element]]:
    """The elements with the parts of a thing before it; and those that contain themselves, however deep."""
    known = {(type(element.item), element.key): element for element in elements}
    turning = set(_turning(known))
    ranked = sorted(
        (element for node, element in known.items() if node not in turning),
        key=lambda element: ORDER.index(type(element.item)),
    )
    done: set[Node] = set()
    result: list[Element] = []
    for element in ranked:
        # Depth first, without recursion: bundles of bundles may be deep.
        waiting = [element]
        while waiting:
            top = waiting[-1]
            node = (type(top.item), top.key)
            missing = [
                known[part.cls, part.id]
                for part in top.item.parts()
                if node not in done
                and part.cls is type(top.item)
                and (part.cls, part.id) in known
                and (part.cls, part.id) not in done
                and (part.cls, part.id) not in turning
                and not any(known[part.cls, part.id] is held for held in waiting)
            ]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if node not in done:
                done.add(node)
                result.append(top)
    return result, [known[node] for node in known if node in turning]


def _turning(known: Mapping[Node, Element]) -> Iterable[Node]:
    """Those that lie on a cycle of containment: what remains when leaves, then roots are taken away again and again
    lies on one, or between two."""
    children: dict[Node, set[Node]] = {node: set() for node in known}
    for node, element in known.items():
        for reference in element.item.references():
            other = (reference.cls, reference.id)
            if reference.field in CONTAINMENT and other in known:
                parent, child = (other, node) if reference.field == PARENT else (node, other)
                children[parent].add(child)
    for edges in (children, _reversed(children)):
        free = [node for node, below in edges.items() if not below]
        above = _reversed(edges)
        left = {node: len(below) for node, below in edges.items()}
        while free:
            node = free.pop()
            left.pop(node)
            for parent in above[node]:
                left[parent] -= 1
                if not left[parent]:
                    free.append(parent)
        if not left:
            return ()
        kept = set(left)
        children = {node: below & kept for node, below in children.items() if node in kept}
    return children


def _reversed(edges: Mapping[Node, set[Node]]) -> dict[Node, set[Node]]:
    found: dict[Node, set[Node]] = {node: set() for node in edges}
    for node, below in edges.items():
        for child in below:
            found[child].add(node)
    return found
