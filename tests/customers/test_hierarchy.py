"""Organizations above and below each other, and people who live together."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from svyaz.customers.v1 import party_pb2
from svyaz.type.v1 import values_pb2
from tests.customers.conftest import PARTY
from tests.customers.test_api import person
from tests.serving import Caller

PARENT = "organization_parent_relationship"
CHILDREN = "organization_child_relationship"


def organization(agent: Caller, name: str, *, parent: str = "", children: Sequence[str] = (), **values: Any) -> Any:
    return agent(
        f"{PARTY}CreateOrganization",
        organization=party_pb2.Organization(
            trading_name=name, **under(parent) if parent else {}, **over(children), **values
        ),
    )


def under(parent: str) -> dict[str, Any]:
    reference = values_pb2.EntityRef(id=parent)
    return {PARENT: party_pb2.OrganizationParentRelationship(relationship_type="branch", organization=reference)}


def over(children: Sequence[str]) -> dict[str, Any]:
    return {
        CHILDREN: [
            party_pb2.OrganizationChildRelationship(
                relationship_type="owned", organization=values_pb2.EntityRef(id=child)
            )
            for child in children
        ]
    }


def moved(agent: Caller, id: str, path: str, **values: Any) -> Any:
    changed = party_pb2.Organization(id=id, **values)
    return agent(f"{PARTY}UpdateOrganization", organization=changed, update_mask=FieldMask(paths=[path]))


def shown(agent: Caller, id: str, **more: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    found = agent(f"{PARTY}GetOrganizationHierarchy", id=id, **more)
    return [(node.id, node.level) for node in found.ancestor], [(node.id, node.level) for node in found.descendant]


def test_a_hierarchy_is_what_parents_and_children_say_together(agent: Caller) -> None:
    holding = organization(agent, "holding")
    company = organization(agent, "company", parent=holding.id)
    shop = organization(agent, "shop")
    # The parent says it of one of them, the child of the other; that both say it of the same makes no difference.
    office = organization(agent, "office", parent=company.id)
    moved(agent, company.id, CHILDREN, **over([shop.id, office.id]))
    below = sorted([(shop.id, 2), (office.id, 2)])
    assert shown(agent, holding.id) == ([], [(company.id, 1), *below])
    assert shown(agent, holding.id, depth=1) == ([], [(company.id, 1)])
    assert shown(agent, shop.id) == ([(company.id, 1), (holding.id, 2)], [])
    node = agent(f"{PARTY}GetOrganizationHierarchy", id=shop.id).ancestor[0]
    assert (node.trading_name, node.relationship_type, node.via_id) == ("company", "owned", shop.id)
    moved(agent, office.id, PARENT)
    moved(agent, company.id, CHILDREN)
    assert shown(agent, holding.id) == ([], [(company.id, 1)])
    with pytest.raises(NotFound):
        shown(agent, "nobody")


def test_who_would_be_above_himself_is_told_by_which_field(agent: Caller) -> None:
    top = organization(agent, "top")
    middle = organization(agent, "middle", parent=top.id)
    bottom = organization(agent, "bottom", parent=middle.id)
    with pytest.raises(InvalidArgument) as refusal:
        moved(agent, top.id, PARENT, **under(bottom.id))
    assert refusal.value.reason == "HIERARCHY_CYCLE"
    assert [one.field for one in refusal.value.violations] == [f"{PARENT}.organization.id"]
    with pytest.raises(InvalidArgument) as refusal:
        moved(agent, bottom.id, CHILDREN, **over(["somebody unknown", top.id]))
    assert [one.field for one in refusal.value.violations] == [f"{CHILDREN}[1].organization.id"]
    assert shown(agent, top.id) == ([], [(middle.id, 1), (bottom.id, 2)])
    with pytest.raises(InvalidArgument):
        organization(agent, "between", parent=bottom.id, children=[top.id])
    # What nobody knows isn't above anybody: it may be named as both.
    odd = organization(agent, "odd", parent="9881", children=["9881"])
    assert shown(agent, odd.id) == ([("9881", 1)], [("9881", 1)])


def test_two_who_each_see_half_of_a_circle_dont_close_it(agent: Caller) -> None:
    for _ in range(5):
        one, other = organization(agent, "one"), organization(agent, "other")
        pairs = [(one.id, other.id), (other.id, one.id)]

        def move(pair: tuple[str, str]) -> str:
            try:
                moved(agent, pair[0], PARENT, **under(pair[1]))
            except DomainError as error:
                return error.reason
            return "moved"

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(move, pairs)) == ["HIERARCHY_CYCLE", "moved"]


def test_ways_that_meet_again_are_walked_once(agent: Caller) -> None:
    # Twenty levels of two, each under both above it: a million ways, and forty organizations.
    above: list[str] = []
    for _ in range(20):
        pair = [organization(agent, "one of two").id for _ in range(2)]
        for upper in above:
            moved(agent, upper, CHILDREN, **over(pair))
        above = pair
    assert len(shown(agent, above[0])[0]) == 38


def test_a_household_has_members_and_a_person_households(agent: Caller, caller_of: Callable[..., Caller]) -> None:
    mother, son = person(agent), person(agent, given_name="Bek")
    members = [
        values_pb2.RelatedParty(id=mother.id, role="head", at_referred_type="Individual"),
        values_pb2.RelatedParty(id=son.id, role="child", at_referred_type="Individual"),
        values_pb2.RelatedParty(id="nobody", role="guest", at_referred_type="Individual"),
    ]
    home = organization(agent, "Usenovs", organization_type="Household", related_party=members)
    company = organization(agent, "her firm", organization_type="company", related_party=members[:1])
    found = agent(f"{PARTY}ListHouseholdMembers", household_id=home.id).member
    assert [(one.id, one.role, one.given_name) for one in found] == [
        (mother.id, "head", "Aida"),
        (son.id, "child", "Bek"),
        ("nobody", "guest", ""),
    ]
    (household,) = agent(f"{PARTY}ListHouseholds", individual_id=son.id).household
    assert (household.id, household.trading_name, household.role) == (home.id, "Usenovs", "child")
    assert [one.id for one in agent(f"{PARTY}ListHouseholds", individual_id=mother.id).household] == [home.id]
    with pytest.raises(FailedPrecondition) as refusal:
        agent(f"{PARTY}ListHouseholdMembers", household_id=company.id)
    assert refusal.value.reason == "NO_HOUSEHOLD"
    osh = caller_of("osh")
    assert not osh(f"{PARTY}ListHouseholds", individual_id=mother.id).household
    with pytest.raises(NotFound):
        osh(f"{PARTY}ListHouseholdMembers", household_id=home.id)
    # He moves out.
    moved(agent, home.id, "related_party", related_party=members[:1])
    assert not agent(f"{PARTY}ListHouseholds", individual_id=son.id).household
