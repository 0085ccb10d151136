"""People are found by whatever is known of them, and who is entered twice is noticed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chassis import calls
from chassis.db import Database
from chassis.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from customers.matching import batch
from customers.matching.domain import DuplicateCandidate
from customers.matching.entry import Entries
from customers.matching.indexing import INDEX, LOOK_FOR_DUPLICATES, Indexing
from customers.matching.phones import BranchRegions
from svyaz.customers.v1 import customers_pb2, import_pb2, matching_pb2, party_pb2
from svyaz.type.v1 import values_pb2
from tests.chassis import things
from tests.conftest import ServiceDatabase
from tests.customers.conftest import CUSTOMER, PARTY
from tests.people import population
from tests.serving import Caller

MATCHING = "svyaz.customers.v1.MatchingService/"
IMPORT = "svyaz.customers.v1.ImportService/"
REGIONS = BranchRegions.parse("bishkek=KG,osh=KG")


def phone(number: str) -> values_pb2.ContactMedium:
    return values_pb2.ContactMedium(
        medium_type="mobile", characteristic=values_pb2.MediumCharacteristic(phone_number=number)
    )


def person(given: str, family: str, *media: values_pb2.ContactMedium, born: str = "", document: str = "") -> Any:
    made = party_pb2.Individual(given_name=given, family_name=family, contact_medium=media)
    if born:
        made.birth_date.FromDatetime(datetime.fromisoformat(born).replace(tzinfo=UTC))
    if document:
        made.individual_identification.add(identification_id=document, identification_type="passport")
    return made


@pytest.fixture(scope="module")
def people(caller_of: Callable[..., Caller]) -> dict[str, str]:
    """Name → id, of some who are in Bishkek, and one in Osh."""
    bishkek, osh = caller_of("bishkek"), caller_of("osh")
    email = values_pb2.ContactMedium(
        medium_type="email", characteristic=values_pb2.MediumCharacteristic(email_address="Yu.Scherbakova@Example.KG")
    )
    entered = {
        "yulia": person("Юлия", "Щербакова", phone("0700 123 456"), email, born="1990-02-01", document="ID 1234567"),
        "father": person("Пётр", "Щербаков", phone("+996 (700) 123-456"), born="1960-05-05"),
        "aigul": person("Айгүл", "Асанова", phone("0555 111222"), born="1985-07-08", document="AN 7654321"),
        "sergey": person("Serhii", "Honcharenko", phone("+380501234567")),
    }
    ids = {
        name: bishkek(PARTY + "CreateIndividual", party_pb2.CreateIndividualRequest(individual=one)).id
        for name, one in entered.items()
    }
    other = person("Юлия", "Щербакова", phone("0700 123 456"))
    ids["osh"] = osh(PARTY + "CreateIndividual", party_pb2.CreateIndividualRequest(individual=other)).id
    customer = customers_pb2.Customer(
        name="Юлия Щербакова", engaged_party=values_pb2.RelatedParty(id=ids["yulia"], at_referred_type="Individual")
    )
    ids["customer"] = bishkek(CUSTOMER + "CreateCustomer", customers_pb2.CreateCustomerRequest(customer=customer)).id
    return ids


def found(agent: Caller, query: str, **fields: Any) -> list[matching_pb2.PartyMatch]:
    return list(agent(MATCHING + "SearchParties", query=query, **fields).match)


@pytest.mark.parametrize(
    ("query", "first", "reasons"),
    [
        ("Щербакова Юлия", "yulia", {"name EXACT"}),
        ("Iuliia Shcherbakova", "yulia", {"name SPELLING"}),
        ("scherbak yul", "yulia", {"name PART"}),
        ("Щрбакова Юлия", "yulia", {"name TYPO", "name EXACT"}),
        ("yu.scherbakova@example.kg", "yulia", {"email EXACT"}),
        ("ID №1234567", "yulia", {"document EXACT"}),
        ("id1234567 01.02.1990", "yulia", {"document EXACT", "birthDate EXACT"}),
        ("Julia +996700123456", "yulia", {"name SPELLING", "phone EXACT"}),
        ("Пётр 0700-12-34-56", "father", {"name EXACT", "phone EXACT"}),
        ("Асанова", "aigul", {"name EXACT"}),
        ("asan", "aigul", {"name PART"}),
        ("АN7654321", "aigul", {"document EXACT"}),
        ("Сергей Гончаренко", "sergey", {"name SPELLING"}),
        ("0038 050 123 45 67", "sergey", {"phone EXACT"}),
    ],
)
def test_a_person_is_found_by_whatever_is_known(
    agent: Caller, people: dict[str, str], query: str, first: str, reasons: set[str]
) -> None:
    matches = found(agent, query)
    assert matches, query
    assert matches[0].party_id == people[first], matches
    assert {f"{reason.kind} {reason.code}" for reason in matches[0].reason} == reasons


def test_a_telephone_of_several_gives_them_all_and_no_guess(agent: Caller, people: dict[str, str]) -> None:
    matches = found(agent, "8-996-700-123-456") or found(agent, "996 700 123456")
    assert {match.party_id for match in matches} == {people["yulia"], people["father"]}
    assert {match.score for match in matches} == {"1.0"}


def test_who_isnt_there_isnt_found(agent: Caller, people: dict[str, str]) -> None:
    assert found(agent, "Nobody Here") == []
    assert found(agent, "0700 999 999") == []
    assert found(agent, "!!!") == []
    with pytest.raises(InvalidArgument):
        found(agent, "  ")
    with pytest.raises(InvalidArgument):
        found(agent, "x", limit=101)


def test_a_match_names_its_customers(agent: Caller, people: dict[str, str]) -> None:
    (match,) = found(agent, "щербакова юлия", customers_only=True)
    assert [(customer.id, customer.name) for customer in match.customer] == [(people["customer"], "Юлия Щербакова")]
    assert (match.party_type, match.name, match.branch) == ("Individual", "Юлия Щербакова", "bishkek")


def test_who_was_merged_is_shown_once_and_found_by_all_that_is_known(caller_of: Callable[..., Caller]) -> None:
    agent = caller_of("jalal-abad")
    ids = []
    for name, number in (("Гульзат", "+996 700 555001"), ("Gulzat", "+996 700 555002")):
        one = agent(
            PARTY + "CreateIndividual",
            party_pb2.CreateIndividualRequest(individual=person(name, "Мамытова", phone(number))),
        )
        customer = customers_pb2.Customer(
            name=name, engaged_party=values_pb2.RelatedParty(id=one.id, at_referred_type="Individual")
        )
        made = agent(CUSTOMER + "CreateCustomer", customers_pb2.CreateCustomerRequest(customer=customer))
        ids.append((one.id, made.id))
    (survivor, customer), (absorbed, other) = ids
    identity = "svyaz.customers.v1.IdentityService/"
    merge = agent(
        identity + "MergeCustomers", survivor_id=customer, absorbed_id=other, merge_parties=True, reason="one passport"
    )
    for query in ("мамытова", "+996700555002", "Gulzat +996700555001"):
        (match,) = found(agent, query)
        assert (match.party_id, match.name) == (survivor, "Гульзат Мамытова")
        assert [one.id for one in match.customer] == [customer]
    assert {one.score for one in found(agent, "Gulzat +996700555002")} == {"1.0"}
    agent(identity + "UnmergeCustomers", merge_id=merge.id, reason="two people")
    assert {match.party_id for match in found(agent, "мамытова")} == {survivor, absorbed}
    (match,) = found(agent, "+996700555002")
    assert [one.id for one in match.customer] == [other]


def test_any_two_words_of_a_name_find_it(caller_of: Callable[..., Caller]) -> None:
    agent = caller_of("chuy")
    ids = []
    for middle in ("Петрович", "Олегович"):
        one = person("Тимур", "Касымов")
        one.middle_name = middle
        ids.append(agent(PARTY + "CreateIndividual", party_pb2.CreateIndividualRequest(individual=one)).id)
    firm = party_pb2.Organization(trading_name="Светлый путь связь")
    firm = agent(PARTY + "CreateOrganization", party_pb2.CreateOrganizationRequest(organization=firm))
    for query in ("Timur Petrovich", "Петрович Касымов", "Kasymov Timur Petrovich", "Касымв Петрвич"):
        assert [match.party_id for match in found(agent, query)][:1] == ids[:1], query
    assert [match.party_id for match in found(agent, "svyaz svetly")] == [firm.id]
    assert found(agent, "Timur Petrovich")[0].score == "1.0"


def test_each_branch_finds_its_own(caller_of: Callable[..., Caller], people: dict[str, str]) -> None:
    assert [match.party_id for match in found(caller_of("osh"), "Щербакова")] == [people["osh"]]
    both = found(caller_of("osh", "bishkek"), "Щербакова Юлия")
    assert {match.party_id for match in both} == {people["osh"], people["yulia"]}
    narrowed = found(caller_of("*", role="admin"), "Щербакова Юлия", branch="osh")
    assert {match.party_id for match in narrowed} == {people["osh"]}
    with pytest.raises(PermissionDenied):
        found(caller_of("osh"), "Щербакова", branch="bishkek")


def test_what_changes_is_found_as_it_is_now(agent: Caller) -> None:
    made = agent(
        PARTY + "CreateIndividual",
        party_pb2.CreateIndividualRequest(individual=person("Жаныш", "Бекоев", phone("0777 000 111"))),
    )
    assert found(agent, "Janysh Bekoev")
    changed = party_pb2.Individual(id=made.id, family_name="Токтоев")
    agent(
        PARTY + "UpdateIndividual",
        party_pb2.UpdateIndividualRequest(individual=changed, update_mask=FieldMask(paths=["family_name"])),
    )
    assert [match.party_id for match in found(agent, "Toktoyev Zhanysh")] == [made.id]
    assert not found(agent, "Бекоев")
    agent(PARTY + "DeleteIndividual", id=made.id)
    assert not found(agent, "0777000111")


def test_who_came_in_bulk_is_found_a_moment_later(
    caller_of: Callable[..., Caller], place: ServiceDatabase, database: Database
) -> None:
    admin = caller_of("naryn", role="admin")
    row = import_pb2.ImportRow(
        line=1,
        individual=person("Bulk", "Importov", phone("+996 312 000111")),
        customer=customers_pb2.Customer(name="Bulk Importov"),
    )
    outcome = admin(IMPORT + "ImportCustomers", import_pb2.ImportCustomersRequest(source="s", rows=[row])).outcomes[0]
    response = admin(MATCHING + "SearchParties", query="importov")
    assert (list(response.match), response.not_yet_indexed) == ([], 2)
    run_timers(database, "naryn", INDEX, Indexing(REGIONS).index)
    response = admin(MATCHING + "SearchParties", query="importov bulk")
    (match,) = response.match
    assert [customer.id for customer in match.customer] == [outcome.customer_id]
    assert response.not_yet_indexed == 0


def run_timers(database: Database, branch: str, purpose: str, handler: Any) -> None:
    """Carries out the branch's timers of the purpose, as `Timers` would."""
    with calls.using(calls.Call.background("customers", purpose, branches=(branch,))):
        with database.unit() as unit:
            due = unit.cursor().execute(
                "DELETE FROM timer WHERE purpose = %(purpose)s RETURNING aggregate_id", {"purpose": purpose}
            )
            ids = [key for (key,) in due.fetchall()]
        for key in ids:
            with database.unit() as unit:
                handler(key, unit)


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_who_is_about_to_be_entered_is_compared_with_those_who_are_there(agent: Caller, people: dict[str, str]) -> None:
    draft = person("Iuliya", "Scherbakova", phone("+996700123456"), born="1990-01-02")
    (match, *others) = agent(MATCHING + "FindDuplicates", individual=draft).match
    assert match.individual_id == people["yulia"]
    assert float(match.score) > 0.9
    # The father has her telephone and her family's name.
    assert all(float(other.score) < 0.5 for other in others)
    reasons = {reason.field: reason.code for reason in match.reason}
    assert reasons == {"given_name": "SAME", "family_name": "SAME", "birth_date": "NEAR", "phone": "SAME"}
    swapped = person("Щербакова", "Юлия", born="1990-02-01")
    (match,) = agent(MATCHING + "FindDuplicates", individual=swapped, limit=1).match
    assert match.individual_id == people["yulia"]
    assert "SWAPPED" in {reason.code for reason in match.reason}
    assert not agent(MATCHING + "FindDuplicates", individual=person("Nobody", "Here")).match


def test_an_entry_is_never_refused_and_its_pair_is_looked_at_later(
    caller_of: Callable[..., Caller], database: Database
) -> None:
    agent = caller_of("talas")
    proposed: list[DuplicateCandidate] = []
    entries = Entries(REGIONS, lambda unit, candidate: proposed.append(candidate))

    def enter(one: Any) -> str:
        made: str = agent(PARTY + "CreateIndividual", party_pb2.CreateIndividualRequest(individual=one)).id
        run_timers(database, "talas", LOOK_FOR_DUPLICATES, entries.look)
        return made

    first = enter(person("Нурлан", "Сыдыков", born="1977-03-04", document="AN0000001"))
    assert proposed == []
    second = enter(person("Nurlan", "Sydykov", born="1977-03-04", document="AN0000001"))
    (pair,) = agent(MATCHING + "ListDuplicateCandidates").items
    assert (pair.first_id, pair.second_id, pair.found_by) == (first, second, "entry")
    assert [candidate.id for candidate in proposed] == [pair.id]

    rejected = agent(MATCHING + "RejectDuplicate", id=pair.id, note="father and son")
    assert rejected.state == matching_pb2.DUPLICATE_STATE_REJECTED
    assert rejected.decided_by
    with pytest.raises(FailedPrecondition):
        agent(MATCHING + "RejectDuplicate", id=pair.id)
    # Nobody is asked again about a pair that has been rejected.
    changed = party_pb2.Individual(id=second, middle_name="Асанович")
    agent(
        PARTY + "UpdateIndividual",
        party_pb2.UpdateIndividualRequest(individual=changed, update_mask=FieldMask(paths=["middle_name"])),
    )
    run_timers(database, "talas", LOOK_FOR_DUPLICATES, entries.look)
    assert len(proposed) == 1


def test_a_search_that_is_asked_for_is_done_by_a_process_of_its_own(
    caller_of: Callable[..., Caller],
    database: Database,
    place: ServiceDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", place.url)
    admin = caller_of("cholpon-ata", role="admin")
    asked = admin(MATCHING + "CreateDuplicateSearch")
    searches = batch.Searches(database)
    searches.start()
    try:
        things.eventually(
            lambda: (
                admin(MATCHING + "GetDuplicateSearch", id=asked.id).state
                in (matching_pb2.DUPLICATE_SEARCH_STATE_DONE, matching_pb2.DUPLICATE_SEARCH_STATE_FAILED)
            ),
            seconds=60,
        )
    finally:
        searches.stop()
    ended = admin(MATCHING + "GetDuplicateSearch", id=asked.id)
    assert (ended.state, ended.error, ended.compared) == (matching_pb2.DUPLICATE_SEARCH_STATE_DONE, "", 0)


def test_a_branch_is_looked_through(caller_of: Callable[..., Caller], database: Database) -> None:
    agent, admin = caller_of("batken"), caller_of("batken", role="admin")
    ids = []
    for row in population(30, twice=0.0)[0]:
        born = row["birth_date"]
        one = person(
            row["given_name"],
            row["family_name"],
            phone(row["phone"]),
            born=f"{born[:4]}-{born[4:6]}-{born[6:]}",
            document=row["document"],
        )
        ids.append(agent(PARTY + "CreateIndividual", party_pb2.CreateIndividualRequest(individual=one)).id)
        if len(ids) == 4:
            again = one
    again.given_name, again.family_name = again.family_name, again.given_name
    again.ClearField("contact_medium")
    ids.append(agent(PARTY + "CreateIndividual", party_pb2.CreateIndividualRequest(individual=again)).id)
    asked = admin(MATCHING + "CreateDuplicateSearch")
    for _ in range(2):
        # The second time as after a crash: what was proposed is there.
        batch.run(database, REGIONS, asked.id, "batken")
        found_search = admin(MATCHING + "GetDuplicateSearch", id=asked.id)
        assert found_search.state == matching_pb2.DUPLICATE_SEARCH_STATE_DONE
        assert (found_search.compared, found_search.found) == (31, 1)
    (pair,) = agent(MATCHING + "ListDuplicateCandidates").items
    assert {pair.first_id, pair.second_id} == {ids[3], ids[30]}
    assert pair.found_by == asked.id
    with pytest.raises(InvalidArgument):
        admin(MATCHING + "CreateDuplicateSearch", threshold="2")
    with pytest.raises(PermissionDenied):
        agent(MATCHING + "CreateDuplicateSearch")
