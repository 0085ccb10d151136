"""Qualifications, the configurator and sales, over gRPC on a real database."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from google.protobuf import timestamp_pb2
from psycopg.errors import InsufficientPrivilege

from catalog.product.domain import ProductOffering
from catalog.qualification.api import overdue
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from chassis.types import new_id
from svyaz.catalog.v1 import catalog_pb2, pricing_pb2, qualification_pb2
from svyaz.orders.v1 import inventory_pb2
from svyaz.type.v1 import requests_pb2, values_pb2
from tests.catalog.conftest import Client
from tests.catalog.test_holding import a_product, as_of, heard

LAUNCHED = catalog_pb2.LIFECYCLE_STATUS_LAUNCHED
_S = qualification_pb2


@pytest.fixture(scope="module")
def agent(client_for: Callable[[Sequence[str]], Client]) -> Client:
    """Somebody who sells."""
    return client_for(["agent"])


@pytest.fixture(scope="module")
def admin(client_for: Callable[[Sequence[str]], Client]) -> Client:
    """Who may put what he likes on the market."""
    return client_for(["admin"])


def offered(admin: Client, name: str, **more: Any) -> Any:
    return admin.create(
        catalog_pb2.ProductOffering(name=name, lifecycle_status=more.pop("lifecycle_status", LAUNCHED), **more)
    )


def related(kind: str, *offerings: Any, role: str = "") -> list[catalog_pb2.ProductOfferingRelationship]:
    return [
        catalog_pb2.ProductOfferingRelationship(id=o.id, relationship_type=kind, role=role or None) for o in offerings
    ]


def ref(thing: Any) -> values_pb2.EntityRef:
    return values_pb2.EntityRef(id=thing if isinstance(thing, str) else thing.id)


def customer(id: str) -> values_pb2.RelatedParty:
    return values_pb2.RelatedParty(id=id, role="customer", at_referred_type="Customer")


def asked(agent: Client, *offerings: Any, **more: Any) -> Any:
    items = [
        _S.ProductOfferingQualificationItem(id=str(i), product_offering=ref(offering))
        for i, offering in enumerate(offerings, 1)
    ]
    question = _S.ProductOfferingQualification(
        **{"instant_sync_qualification": True, "product_offering_qualification_item": items, **more}
    )
    return agent.call(
        "CreateProductOfferingQualification",
        _S.CreateProductOfferingQualificationRequest(product_offering_qualification=question),
    )


def results(question: Any) -> list[str]:
    return [item.qualification_item_result for item in question.product_offering_qualification_item]


def codes(item: Any) -> list[str]:
    return [reason.code for reason in item.eligibility_unavailability_reason]


def test_a_question_is_answered_with_reasons_in_two_languages(admin: Client, agent: Client) -> None:
    net = offered(admin, "net")
    tv = offered(admin, "tv", product_offering_relationship=related("requires", net))
    osh = offered(admin, "only in Osh", eligible_branch=["osh"])
    answer = asked(agent, net, tv, osh)
    assert answer.state == _S.QUALIFICATION_STATE_DONE
    # The television needs what is asked about beside it.
    assert results(answer) == ["qualified", "qualified", "unqualified"]
    assert answer.qualification_result == "yellow"
    assert answer.branch == "bishkek"
    (reason,) = answer.product_offering_qualification_item[2].eligibility_unavailability_reason
    assert (reason.code, reason.label) == ("WRONG_BRANCH", "only in Osh isn't offered in the branch bishkek")
    assert "филиале bishkek" in reason.label_ru
    assert list(answer.product_offering_qualification_item[0].unknown) == ["customer"]
    assert answer.effective_qualification_date.ToSeconds() < answer.expiration_date.ToSeconds()
    assert {step.action for step in answer.receipt.step} == {"ELIGIBLE", "NOT_ELIGIBLE", "WRONG_BRANCH"}
    assert codes(asked(agent, tv).product_offering_qualification_item[0]) == ["REQUIREMENT_MISSING"]
    untold = asked(agent, tv, provide_unavailability_reason=False)
    assert (results(untold), codes(untold.product_offering_qualification_item[0])) == (["unqualified"], [])


def test_what_the_customer_holds_counts(database: Database, admin: Client, agent: Client) -> None:
    net = offered(admin, "net")
    tv = offered(admin, "tv", product_offering_relationship=related("requires", net))
    other = offered(admin, "other net", product_offering_relationship=related("excludes", net))
    better = offered(admin, "better net", product_offering_relationship=related("upgrades", net))
    product = a_product(net.id, "holder")
    heard(database, product)
    answer = asked(agent, tv, other, related_party=[customer("holder")])
    assert results(answer) == ["qualified", "unqualified"]
    assert codes(answer.product_offering_qualification_item[1]) == ["EXCLUDED"]
    assert list(answer.product_offering_qualification_item[0].unknown) == []
    (item,) = asked(agent, better, related_party=[customer("holder")]).product_offering_qualification_item
    assert [p.id for p in item.replaced_product] == [product.id]
    # In the same question it is to go.
    question = _S.ProductOfferingQualification(
        related_party=[customer("holder")],
        instant_sync_qualification=True,
        product_offering_qualification_item=[
            _S.ProductOfferingQualificationItem(id="1", product_offering=ref(other)),
            _S.ProductOfferingQualificationItem(
                id="2", action=_S.PRODUCT_ACTION_DELETE, product=inventory_pb2.ProductRefOrValue(id=product.id)
            ),
        ],
    )
    request = _S.CreateProductOfferingQualificationRequest(product_offering_qualification=question)
    assert results(agent.call("CreateProductOfferingQualification", request)) == ["qualified", "qualified"]


def test_alternatives_and_only_what_is_available(admin: Client, agent: Client) -> None:
    spec = admin.create(catalog_pb2.ProductSpecification(name="line", lifecycle_status=LAUNCHED))
    same = {"product_specification": values_pb2.ProductSpecificationRef(id=spec.id)}
    wanted = offered(admin, "wanted", eligible_branch=["osh"], **same)
    alike = offered(admin, "alike", **same)
    offered(admin, "alike, elsewhere", eligible_branch=["osh"], **same)
    successor = offered(admin, "successor", product_offering_relationship=related("replaces", wanted))
    answer = asked(agent, wanted, alike, provide_alternative=True)
    assert results(answer) == ["alternate", "qualified"]
    proposals = answer.product_offering_qualification_item[0].alternate_product_offering_proposal
    assert [p.alternate_product_offering.id for p in proposals] == [successor.id, alike.id]
    only = asked(agent, wanted, alike, provide_only_available=True)
    assert [item.product_offering.id for item in only.product_offering_qualification_item] == [alike.id]


def test_a_category_is_asked_about_as_a_whole(admin: Client, agent: Client) -> None:
    parent = admin.create(catalog_pb2.Category(name="parent", lifecycle_status=LAUNCHED))
    child = admin.create(catalog_pb2.Category(name="child", parent_id=parent.id, lifecycle_status=LAUNCHED))
    first = offered(admin, "a first", category=[ref(child)])
    second = offered(admin, "a second", category=[ref(parent)])
    newer = offered(admin, "a second, newer", category=[ref(parent)], series=second.id)
    offered(admin, "a draft", category=[ref(parent)], lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_IN_DESIGN)
    offered(admin, "a part", category=[ref(parent)], is_sellable=False)
    answer = asked(agent, category=ref(parent))
    found = [item.product_offering.id for item in answer.product_offering_qualification_item]
    # Of two versions that are sold the later one is.
    assert found == [first.id, newer.id]
    assert answer.qualification_result == "green"
    assert asked(agent, category=ref("nothing")).qualification_result == "red"


def test_what_cannot_be_judged_ends_with_an_error(agent: Client) -> None:
    answer = asked(agent, "nowhere")
    assert answer.state == _S.QUALIFICATION_STATE_TERMINATED_WITH_ERROR
    (item,) = answer.product_offering_qualification_item
    assert item.termination_error[0].value == "there is no offering nowhere"
    with pytest.raises(InvalidArgument, match="another item is called"):
        agent.call(
            "CreateProductOfferingQualification",
            _S.CreateProductOfferingQualificationRequest(
                product_offering_qualification=_S.ProductOfferingQualification(
                    product_offering_qualification_item=[_S.ProductOfferingQualificationItem(id="1")] * 2
                )
            ),
        )


def test_a_changed_question_is_answered_anew_and_its_history_stays(admin: Client, agent: Client) -> None:
    net = offered(admin, "net", place=[values_pb2.EntityRef(id="osh", name="Osh")])
    answer = asked(agent, net, place=[inventory_pb2.RelatedPlaceRefOrValue(id="osh", role="installation")])
    assert results(answer) == ["qualified"]

    def changed(*paths: str, **more: Any) -> Any:
        request = _S.UpdateProductOfferingQualificationRequest(
            product_offering_qualification=_S.ProductOfferingQualification(id=answer.id, **more)
        )
        request.update_mask.paths.extend(paths)
        return agent.call("UpdateProductOfferingQualification", request)

    place = inventory_pb2.RelatedPlaceRefOrValue(id="bishkek", role="installation")
    away = changed("place", place=[place])
    assert results(away) == ["unqualified"]
    described = changed("description", description="d")
    assert described.effective_qualification_date == away.effective_qualification_date
    # The answer is ours.
    assert changed("qualification_result", qualification_result="green").qualification_result == "red"
    with pytest.raises(FailedPrecondition, match="can't go from 'done'"):
        changed("state", state=_S.QUALIFICATION_STATE_ACKNOWLEDGED)
    before = agent.call(
        "GetProductOfferingQualification",
        requests_pb2.GetRequest(id=answer.id, at=answer.effective_qualification_date),
    )
    assert results(before) == ["qualified"]
    agent.call("DeleteProductOfferingQualification", requests_pb2.DeleteRequest(id=answer.id))
    with pytest.raises(NotFound):
        agent.call("GetProductOfferingQualification", requests_pb2.GetRequest(id=answer.id))


def test_what_needs_no_answer_at_once_is_acknowledged_first(database: Database, admin: Client, agent: Client) -> None:
    answer = asked(agent, offered(admin, "net"), instant_sync_qualification=False)
    assert answer.state == _S.QUALIFICATION_STATE_DONE
    with as_of(database, "bishkek") as unit:
        events = unit.cursor().execute(
            "SELECT type, version FROM event WHERE aggregate_id = %s ORDER BY version", (answer.id,)
        )
        assert events.fetchall() == [
            ("ProductOfferingQualificationCreateEvent", 1),
            ("ProductOfferingQualificationStateChangeEvent", 2),
        ]


def required(question: Any) -> list[list[str]]:
    return [list(item.information_required) for item in question.product_offering_qualification_item]


def states(question: Any) -> list[int]:
    return [item.state for item in question.product_offering_qualification_item]


def event_types(database: Database, question: Any) -> list[str]:
    with as_of(database, "bishkek") as unit:
        query = "SELECT type FROM event WHERE aggregate_id = %s ORDER BY version"
        rows = unit.cursor().execute(query, (question.id,)).fetchall()
    return [row[0].removeprefix("ProductOfferingQualification").removesuffix("Event") for row in rows]


def an_informed(agent: Client, question: Any, **more: Any) -> Any:
    request = _S.UpdateProductOfferingQualificationRequest(
        product_offering_qualification=_S.ProductOfferingQualification(id=question.id, **more)
    )
    request.update_mask.paths.extend(more)
    return agent.call("UpdateProductOfferingQualification", request)


AT_HOME = [inventory_pb2.RelatedPlaceRefOrValue(id="house-7", role="installation")]
DONE, WAITING = _S.QUALIFICATION_STATE_DONE, _S.QUALIFICATION_STATE_IN_PROGRESS
TERMINATED = _S.QUALIFICATION_STATE_TERMINATED_WITH_ERROR


def restricted(admin: Client) -> tuple[Any, Any, Any]:
    """What is offered everywhere, at one house to one segment, and elsewhere only."""
    house, home = values_pb2.EntityRef(id="house-7"), values_pb2.EntityRef(id="home")
    return (
        offered(admin, "everywhere"),
        offered(admin, "here", place=[house], market_segment=[home]),
        offered(admin, "elsewhere", place=[house], eligible_branch=["osh"]),
    )


def test_what_has_to_be_answered_at_once_says_what_information_it_lacks(admin: Client, agent: Client) -> None:
    everywhere, here, elsewhere = restricted(admin)
    answer = asked(agent, everywhere, here, elsewhere)
    assert answer.state == DONE
    assert states(answer) == [DONE, TERMINATED, DONE]
    # What can't be had wherever it is needs no place.
    assert required(answer) == [[], ["place", "marketSegment"], []]
    assert results(answer) == ["qualified", "", "unqualified"]
    assert [error.value for error in answer.product_offering_qualification_item[1].termination_error] == [
        "Unable to proceed to qualification: place is required",
        "Unable to proceed to qualification: marketSegment is required",
    ]
    assert answer.qualification_result == "yellow"
    alone = asked(agent, here)
    assert (alone.state, alone.qualification_result) == (TERMINATED, "red")
    told = asked(agent, here, place=AT_HOME, market_segment=[values_pb2.EntityRef(id="home")])
    assert (results(told), required(told)) == (["qualified"], [[]])


def test_a_change_of_a_product_needs_to_know_whose_it_is(admin: Client, agent: Client) -> None:
    net = offered(admin, "net")
    item = _S.ProductOfferingQualificationItem(
        id="1",
        action=_S.PRODUCT_ACTION_MODIFY,
        product=inventory_pb2.ProductRefOrValue(id="somebody's"),
        product_offering=ref(net),
    )
    assert required(asked(agent, product_offering_qualification_item=[item])) == [["relatedParty"]]
    known = asked(agent, product_offering_qualification_item=[item], related_party=[customer("somebody")])
    assert (results(known), required(known)) == (["qualified"], [[]])


def test_a_question_waits_for_the_information_that_it_lacks(database: Database, admin: Client, agent: Client) -> None:
    everywhere, here, elsewhere = restricted(admin)
    asking = asked(agent, everywhere, here, elsewhere, instant_sync_qualification=False)
    assert (asking.state, states(asking)) == (WAITING, [DONE, WAITING, DONE])
    assert (asking.qualification_result, asking.HasField("effective_qualification_date")) == ("", False)
    waits = asking.expected_poq_completion_date.ToSeconds() - asking.product_offering_qualification_date.ToSeconds()
    assert waits == 14 * 24 * 3600
    assert event_types(database, asking) == ["Create", "InformationRequired"]
    assert "INFORMATION_REQUIRED" in {step.action for step in asking.receipt.step}

    half = an_informed(agent, asking, place=AT_HOME)
    assert (half.state, required(half)[1]) == (WAITING, ["marketSegment"])
    told = an_informed(agent, asking, market_segment=[values_pb2.EntityRef(id="home")])
    assert (told.state, results(told)) == (DONE, ["qualified", "qualified", "unqualified"])
    assert event_types(database, asking) == ["Create", "InformationRequired", "InformationRequired", "StateChange"]
    with as_of(database, "bishkek") as unit:
        due = "SELECT count(*) FROM timer WHERE aggregate_id = %s"
        assert unit.cursor().execute(due, (asking.id,)).fetchone() == (0,)
    # An answer that was given doesn't become a question again.
    anew = an_informed(agent, asking, place=[])
    assert (anew.state, states(anew)[1], required(anew)[1]) == (DONE, TERMINATED, ["place"])


def test_a_category_is_looked_through_again_when_the_question_changes(admin: Client, agent: Client) -> None:
    shelf = admin.create(catalog_pb2.Category(name="shelf", lifecycle_status=LAUNCHED))
    house = values_pb2.EntityRef(id="house-7")
    one = offered(admin, "one", category=[ref(shelf)], place=[house], exclusion_group=["access"])
    other = offered(admin, "other", category=[ref(shelf)], exclusion_group=["access"])
    asking = asked(agent, category=ref(shelf), instant_sync_qualification=False)
    assert (asking.state, results(asking)) == (WAITING, ["", "qualified"])
    newer = offered(admin, "some more", category=[ref(shelf)])
    told = an_informed(agent, asking, place=AT_HOME)
    found = [item.product_offering.id for item in told.product_offering_qualification_item]
    # Beside each other they couldn't be had: nobody asked for that.
    assert (found, results(told)) == ([one.id, other.id, newer.id], ["qualified"] * 3)
    assert [item.id for item in told.product_offering_qualification_item] == ["1", "2", "3"]


def test_what_an_answer_leaves_out_is_still_asked_about(admin: Client, agent: Client) -> None:
    house = values_pb2.EntityRef(id="house-7")
    here = offered(admin, "here", place=[house])
    net = offered(admin, "net")
    tv = offered(admin, "tv", product_offering_relationship=related("requires", net))
    asking = asked(agent, here, tv, instant_sync_qualification=False, provide_only_available=True)
    shown = [item.product_offering.id for item in asking.product_offering_qualification_item]
    assert (asking.state, shown) == (WAITING, [here.id])
    beside = [
        _S.ProductOfferingQualificationItem(id=str(i), product_offering=ref(one))
        for i, one in enumerate((here, tv, net), 1)
    ]
    told = an_informed(agent, asking, place=AT_HOME, provide_only_available=False)
    assert results(told) == ["qualified", "unqualified"]
    told = an_informed(agent, asking, product_offering_qualification_item=beside)
    assert results(told) == ["qualified"] * 3


def test_a_customer_who_is_named_later_has_what_was_missing(database: Database, admin: Client, agent: Client) -> None:
    net, who = offered(admin, "net"), new_id()
    tv = offered(admin, "tv", product_offering_relationship=related("requires", net))
    heard(database, a_product(net.id, who))
    only = asked(agent, tv, provide_only_available=True)
    assert (results(only), only.qualification_result) == ([], "red")
    # Not the whole catalog: what was asked about.
    known = an_informed(agent, only, related_party=[customer(who)])
    assert [item.product_offering.id for item in known.product_offering_qualification_item] == [tv.id]
    assert (results(known), known.qualification_result) == (["qualified"], "green")


def test_a_category_may_have_its_first_offering_later(admin: Client, agent: Client) -> None:
    shelf = admin.create(catalog_pb2.Category(name="an empty shelf", lifecycle_status=LAUNCHED))
    here = offered(admin, "here", place=[values_pb2.EntityRef(id="house-7")])
    items = [
        _S.ProductOfferingQualificationItem(id="1", product_offering=ref(here)),
        _S.ProductOfferingQualificationItem(id="2", category=ref(shelf)),
        _S.ProductOfferingQualificationItem(id="2.1", product_offering=ref(here)),
    ]
    asking = asked(agent, instant_sync_qualification=False, product_offering_qualification_item=items)
    assert [item.id for item in asking.product_offering_qualification_item] == ["1", "2.1"]
    first = offered(admin, "the first", category=[ref(shelf)])
    told = an_informed(agent, asking, place=AT_HOME)
    found = {item.id: item.product_offering.id for item in told.product_offering_qualification_item}
    # No two items of an answer have one name.
    assert found == {"1": here.id, "2.2": first.id, "2.1": here.id}
    assert an_informed(agent, told, description="d").description == "d"


def test_what_was_found_in_a_category_and_is_sent_back_stands_alone_again(admin: Client, agent: Client) -> None:
    shelf = admin.create(catalog_pb2.Category(name="shelf", lifecycle_status=LAUNCHED))
    one, other = (offered(admin, name, category=[ref(shelf)], exclusion_group=["access"]) for name in ("a", "b"))
    answer = asked(agent, category=ref(shelf))
    items = list(answer.product_offering_qualification_item)
    items[0].expected_activation_date.GetCurrentTime()
    again = an_informed(agent, answer, product_offering_qualification_item=items)
    assert [item.product_offering.id for item in again.product_offering_qualification_item] == [one.id, other.id]
    assert results(again) == ["qualified"] * 2
    for item in items:
        item.found_in_category = False
    assert results(an_informed(agent, answer, product_offering_qualification_item=items)) == ["unqualified"] * 2


def test_a_question_waits_no_longer_than_its_answer_is_wanted(database: Database, admin: Client, agent: Client) -> None:
    _, here, _ = restricted(admin)
    asking = asked(agent, here, instant_sync_qualification=False)

    def due(question: Any) -> Any:
        with as_of(database, "bishkek") as unit:
            overdue(question.id, unit)
        return agent.call("GetProductOfferingQualification", requests_pb2.GetRequest(id=question.id))

    assert due(asking).state == WAITING, "not before it is due"
    soon = timestamp_pb2.Timestamp(seconds=int(time.time()) + 2)
    asking = an_informed(agent, asking, requested_poq_completion_date=soon)
    assert (asking.state, asking.expected_poq_completion_date) == (WAITING, soon)
    with as_of(database, "bishkek") as unit:
        query = "SELECT extract(epoch FROM due)::bigint FROM timer WHERE aggregate_id = %s"
        assert unit.cursor().execute(query, (asking.id,)).fetchone() == (soon.seconds,)
    time.sleep(max(0, soon.seconds + 0.1 - time.time()))
    late = due(asking)
    assert (late.state, required(late)) == (TERMINATED, [["place", "marketSegment"]])
    assert event_types(database, asking)[-1] == "StateChange"
    assert due(asking).etag == late.etag

    with pytest.raises(InvalidArgument) as refused:
        an_informed(agent, asking, requested_poq_completion_date=timestamp_pb2.Timestamp(seconds=32503680000))
    assert (refused.value.reason, [wrong.field for wrong in refused.value.violations]) == (
        "DATE_OUT_OF_RANGE",
        ["requested_poq_completion_date"],
    )
    with pytest.raises(InvalidArgument, match="at most 90 days"):
        asked(agent, here, requested_poq_completion_date=timestamp_pb2.Timestamp(seconds=32503680000))

    at_once = an_informed(agent, asked(agent, here, instant_sync_qualification=False), instant_sync_qualification=True)
    assert at_once.state == TERMINATED
    with as_of(database, "bishkek") as unit:
        overdue("gone", unit)


def test_a_question_that_has_become_too_large_ends_when_it_is_due(
    database: Database, admin: Client, agent: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = admin.create(catalog_pb2.Category(name="a growing shelf", lifecycle_status=LAUNCHED))
    offered(admin, "here", category=[ref(shelf)], place=[values_pb2.EntityRef(id="house-7")])
    soon = timestamp_pb2.Timestamp(seconds=int(time.time()) + 2)
    asking = asked(agent, category=ref(shelf), instant_sync_qualification=False, requested_poq_completion_date=soon)
    assert asking.state == WAITING
    offered(admin, "more", category=[ref(shelf)])
    monkeypatch.setattr("catalog.qualification.domain.MOST_ITEMS", 1)
    with pytest.raises(InvalidArgument, match="more than 1 items"):
        an_informed(agent, asking, place=AT_HOME)
    time.sleep(max(0, soon.seconds + 0.1 - time.time()))
    with as_of(database, "bishkek") as unit:
        overdue(asking.id, unit)
    ended = agent.call("GetProductOfferingQualification", requests_pb2.GetRequest(id=asking.id))
    assert (ended.state, ended.qualification_result, states(ended)) == (TERMINATED, "red", [TERMINATED])
    (error,) = ended.product_offering_qualification_item[0].termination_error
    assert "more than 1 items" in error.value
    assert [step.action for step in ended.receipt.step] == ["TOO_MANY_ITEMS"]


# --- the configurator ------------------------------------------------------------------------------------------------


def test_an_offering_is_configured_by_its_specification(admin: Client, agent: Client) -> None:
    value = catalog_pb2.CharacteristicValueSpecification
    spec = admin.create(
        catalog_pb2.ProductSpecification(
            name="access",
            lifecycle_status=LAUNCHED,
            product_spec_characteristic=[
                catalog_pb2.ProductSpecificationCharacteristic(
                    name="speed",
                    value_type="integer",
                    min_cardinality=1,
                    product_spec_characteristic_value=[
                        value(value=b"100", is_default=True),
                        value(value_from=10, value_to=1000),
                    ],
                ),
                catalog_pb2.ProductSpecificationCharacteristic(
                    name="router",
                    value_type="string",
                    product_spec_characteristic_value=[value(value=b'"basic"', is_default=True), value(value=b'"pro"')],
                ),
            ],
            configuration_rule=[
                catalog_pb2.ConfigurationRule(
                    name="fast needs pro",
                    when=[
                        catalog_pb2.CharacteristicCondition(
                            characteristic="speed", operator=catalog_pb2.CONDITION_OPERATOR_GT, value=b"500"
                        )
                    ],
                    then=[
                        catalog_pb2.CharacteristicCondition(characteristic="router", operator=operator, value=b'"pro"')
                        for operator in (catalog_pb2.CONDITION_OPERATOR_EQ, catalog_pb2.CONDITION_OPERATOR_SET)
                    ],
                )
            ],
        )
    )
    net = offered(admin, "net", product_specification=values_pb2.ProductSpecificationRef(id=spec.id))
    home = offered(
        admin, "home", is_bundle=True, bundled_product_offering=[catalog_pb2.BundledProductOffering(id=net.id)]
    )

    def configured(*chosen: tuple[str, Any], of: Any = net) -> Any:
        characteristics = [values_pb2.Characteristic(name=n, value=json.dumps(v).encode()) for n, v in chosen]
        if of is home:
            parts = [_S.PartSelection(product_offering_id=net.id, characteristic=characteristics)]
            return agent.call("Configure", _S.ConfigureRequest(product_offering_id=home.id, bundled=parts))
        return agent.call("Configure", _S.ConfigureRequest(product_offering_id=of.id, characteristic=characteristics))

    fast = configured(("speed", 600))
    assert fast.valid
    assert {c.name: json.loads(c.value) for c in fast.configuration.characteristic} == {"speed": 600, "router": "pro"}
    assert [(s.action, s.rule) for s in fast.receipt.step] == [("CHOSEN", ""), ("SET", "fast needs pro")]
    basic = configured(("speed", 600), ("router", "basic"))
    assert [(v.path, v.rule) for v in basic.violation] == [("characteristic[router]", "fast needs pro")]
    inside = configured(("speed", 5), of=home)
    assert [(v.path, v.code) for v in inside.violation] == [
        (f"bundled[{net.id}].characteristic[speed]", "VALUE_NOT_PERMITTED")
    ]
    with pytest.raises(InvalidArgument, match="there is no offering"):
        agent.call("Configure", _S.ConfigureRequest(product_offering_id="nowhere"))
    with pytest.raises(InvalidArgument) as refused:
        admin.update(
            catalog_pb2.ProductSpecification(
                id=spec.id,
                configuration_rule=[
                    catalog_pb2.ConfigurationRule(
                        name="r",
                        then=[
                            catalog_pb2.CharacteristicCondition(
                                characteristic="colour", operator=catalog_pb2.CONDITION_OPERATOR_PRESENT
                            )
                        ],
                    )
                ],
            ),
            "configuration_rule",
        )
    assert refused.value.violations[0].field == "configuration_rule[0].then[0].characteristic"


def test_an_offering_goes_live_with_what_its_specification_has(admin: Client) -> None:
    value = catalog_pb2.CharacteristicValueSpecification
    spec = admin.create(
        catalog_pb2.ProductSpecification(
            name="line",
            lifecycle_status=LAUNCHED,
            product_spec_characteristic=[
                catalog_pb2.ProductSpecificationCharacteristic(
                    name="speed",
                    value_type="integer",
                    product_spec_characteristic_value=[value(value_from=10, value_to=1000)],
                )
            ],
        )
    )

    def use(name: str, stated: bytes) -> catalog_pb2.ProductSpecificationCharacteristicValueUse:
        return catalog_pb2.ProductSpecificationCharacteristicValueUse(
            name=name, product_spec_characteristic_value=[value(value=stated)]
        )

    more: dict[str, Any] = {"product_specification": values_pb2.ProductSpecificationRef(id=spec.id)}
    assert offered(admin, "fits", prod_spec_char_value_use=[use("speed", b"100")], **more)
    wrong = [use("speed", b"5000"), use("colour", b'"red"')]
    draft = offered(
        admin,
        "a draft",
        lifecycle_status=catalog_pb2.LIFECYCLE_STATUS_IN_TEST,
        prod_spec_char_value_use=wrong,
        **more,
    )
    with pytest.raises(FailedPrecondition) as refused:
        admin.move(draft, catalog_pb2.LIFECYCLE_STATUS_ACTIVE)
    assert refused.value.reason == "NOT_IN_SPECIFICATION"
    assert [violation.field for violation in refused.value.violations] == [
        "prod_spec_char_value_use[0].product_spec_characteristic_value[0].value",
        "prod_spec_char_value_use[1].name",
    ]


# --- sales -----------------------------------------------------------------------------------------------------------


def sale(agent: Client, *offerings: Any, **context: Any) -> Any:
    items = [
        pricing_pb2.PriceRequestItem(id=str(i), product_offering_id=offering.id) for i, offering in enumerate(offerings)
    ]
    return agent.price(*items, for_sale=True, branch="bishkek", **context)


def refused_sale(agent: Client, *offerings: Any, **context: Any) -> dict[str, str]:
    with pytest.raises(FailedPrecondition) as refused:
        sale(agent, *offerings, **context)
    assert refused.value.reason == "OFFERING_NOT_ELIGIBLE"
    return {violation.field: violation.description.partition(":")[0] for violation in refused.value.violations}


def test_a_sale_of_what_the_customer_cannot_have_is_refused_by_rule(
    database: Database, admin: Client, agent: Client
) -> None:
    plain, osh = offered(admin, "plain"), offered(admin, "only in Osh", eligible_branch=["osh"])
    business = offered(admin, "business", market_segment=[values_pb2.EntityRef(id="business")])
    tv = offered(admin, "tv", product_offering_relationship=related("requires", plain))
    assert sale(agent, plain, business, tv)
    assert refused_sale(agent, plain, osh) == {"item[1].product_offering_id": "WRONG_BRANCH"}
    # Nobody said of what segment; who is known to be of another is refused.
    assert refused_sale(agent, business, market_segment=["home"]) == {"item[0].product_offering_id": "WRONG_SEGMENT"}
    assert sale(agent, business, market_segment=["business"])
    assert refused_sale(agent, tv) == {"item[0].product_offering_id": "REQUIREMENT_MISSING"}
    # What is only asked isn't sold.
    assert agent.price(pricing_pb2.PriceRequestItem(id="1", product_offering_id=osh.id), branch="bishkek").item


def test_what_is_held_excludes_until_it_goes(database: Database, admin: Client, agent: Client) -> None:
    held, who = offered(admin, "held"), new_id()
    wanted = offered(admin, "wanted", product_offering_relationship=related("upgrades", held))
    hating = offered(admin, "hating", product_offering_relationship=related("excludes", wanted))
    product, other = a_product(held.id, who), a_product(hating.id, who)
    heard(database, product)
    assert sale(agent, wanted, customer_id=who)
    heard(database, other)
    # The one that is held says so, the one that is ordered doesn't.
    assert refused_sale(agent, wanted, customer_id=who) == {"item[0].product_offering_id": "EXCLUDED"}
    assert sale(agent, wanted, customer_id=who, leaving_product=[other.id])
    assert sale(agent, wanted, customer_id="somebody else")
    assert refused_sale(agent, wanted, hating) == {
        "item[0].product_offering_id": "EXCLUDED",
        "item[1].product_offering_id": "EXCLUDED",
    }


def test_one_of_a_group_at_a_time(database: Database, admin: Client, agent: Client) -> None:
    small, large = (offered(admin, name, exclusion_group=["tariff"]) for name in ("small", "large"))
    who = new_id()
    product = a_product(small.id, who)
    heard(database, product)
    assert refused_sale(agent, large, customer_id=who) == {"item[0].product_offering_id": "GROUP_OCCUPIED"}
    assert sale(agent, large, customer_id=who, leaving_product=[product.id])
    assert sale(agent, small, customer_id=who)


def test_answers_belong_to_their_branch_in_the_database_itself(
    database: Database, admin: Client, agent: Client
) -> None:
    assert asked(agent, offered(admin, "net")).branch == "bishkek"
    for table in ("product_offering_qualification", "query_product_recommendation"):
        with as_of(database, "osh") as unit:
            assert unit.cursor().execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608
        with as_of(database, "osh") as unit, pytest.raises(InsufficientPrivilege):
            unit.cursor().execute(f"INSERT INTO {table} (id, branch, revision) VALUES ('x', 'bishkek', 1)")  # noqa: S608


def test_a_sale_is_judged_by_what_the_catalog_says_now(database: Database, admin: Client, agent: Client) -> None:
    part, other = offered(admin, "part", is_sellable=False), offered(admin, "other")
    bundle = offered(
        admin,
        "bundle",
        bundled_product_offering=[catalog_pb2.BundledProductOffering(id=part.id)],
        product_offering_relationship=related("excludes", other),
    )
    newer = offered(admin, "other, newer", series=other.id)
    for _ in range(2):
        # What was looked up once is kept.
        assert sale(agent, bundle)
        assert refused_sale(agent, bundle, newer) == {f"item[{i}].product_offering_id": "EXCLUDED" for i in (0, 1)}
    # Nobody changes what is published; the store doesn't know that, and what is kept of it must be current anyhow.
    for branch, refused in (("osh", {"item[0].product_offering_id": "WRONG_BRANCH"}), ("bishkek", None)):
        with as_of(database, "bishkek") as unit:
            unit.get(ProductOffering, part.id).eligible_branch = (branch,)
        assert refused_sale(agent, bundle) == refused if refused else sale(agent, bundle)
