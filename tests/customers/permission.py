"""What tests of permissions share: a policy, customers with media, and a clock that can be moved."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from svyaz.customers.v1 import customers_pb2, party_pb2
from svyaz.customers.v1 import permission_pb2 as pb
from svyaz.type.v1 import values_pb2
from tests.serving import Caller

PARTY = "svyaz.customers.v1.PartyService/"
CUSTOMER = "svyaz.customers.v1.CustomerService/"
PERMISSION = "svyaz.customers.v1.PermissionService/"
_numbers = itertools.count(555_000_000)


def policy(**changed: Any) -> pb.PermissionPolicy:
    """What a branch may begin with: nights are quiet, two marketing contacts a day, three a week in any seven days."""
    rules: dict[str, Any] = {
        "name": "Default",
        "time_zone": ["Asia/Bishkek"],
        "region_zone": [
            pb.RegionZone(name="Kyrgyzstan", time_zone=["Asia/Bishkek"]),
            pb.RegionZone(name="Kamchatka", time_zone=["Asia/Kamchatka"]),
        ],
        "channel": [
            pb.ChannelRule(channel="call", kind=pb.CONTACT_MEDIUM_KIND_PHONE),
            pb.ChannelRule(channel="sms", kind=pb.CONTACT_MEDIUM_KIND_PHONE),
            pb.ChannelRule(channel="email", kind=pb.CONTACT_MEDIUM_KIND_EMAIL, do_not_call=False),
        ],
        "purpose": [
            pb.PurposeRule(purpose="marketing"),
            pb.PurposeRule(purpose="survey", consent_required=False),
            pb.PurposeRule(purpose="outage", transactional=True, role=["service", "admin"]),
        ],
        "quiet_hours": [
            pb.QuietHours(name="night", interval=pb.LocalInterval(start="21:00", end="09:00"), legal=True),
        ],
        "frequency_cap": [
            pb.FrequencyCap(name="daily", limit=2, period=pb.CAP_PERIOD_DAY),
            pb.FrequencyCap(name="weekly", limit=3, period=pb.CAP_PERIOD_WEEK, sliding=True),
        ],
        "reservation_seconds": 120,
    }
    return pb.PermissionPolicy(**{**rules, **changed})


class Moved:
    """The service's clock, which shows what a test wants it to."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def show(self, at: datetime) -> None:
        """From now on the clock goes on from this instant."""
        new = self.file.with_suffix(".new")
        new.write_text(str((at - datetime.now(UTC)).total_seconds()))
        # In one step: the service reads it whenever it wants.
        new.replace(self.file)

    def forward(self, by: timedelta) -> None:
        """Lets time pass."""
        offset = float(self.file.read_text()) if self.file.exists() else 0.0
        self.show(datetime.now(UTC) + timedelta(seconds=offset) + by)


def number() -> str:
    """A number that nobody else has."""
    return f"+996{next(_numbers)}"


def phone(text: str, **more: Any) -> values_pb2.ContactMedium:
    """A contact medium with a telephone number."""
    where = values_pb2.MediumCharacteristic(phone_number=text, contact_type="home")
    return values_pb2.ContactMedium(medium_type="phone", characteristic=where, **more)


def customer(agent: Caller, *media: values_pb2.ContactMedium, own: tuple[values_pb2.ContactMedium, ...] = ()) -> Any:
    """A customer; the media are those of the person, `own` his as a customer."""
    person = agent(
        f"{PARTY}CreateIndividual",
        individual=party_pb2.Individual(given_name="Aida", family_name="Usenova", contact_medium=media),
    )
    party = values_pb2.RelatedParty(id=person.id, at_referred_type="Individual")
    return agent(
        f"{CUSTOMER}CreateCustomer",
        customer=customers_pb2.Customer(name="Aida", engaged_party=party, contact_medium=own),
    )


def consent(agent: Caller, customer_id: str, **more: Any) -> Any:
    """The customer agrees to marketing."""
    given = {"purpose": "marketing", "text_version": "2026-1", "evidence": "recording 1", **more}
    return agent(f"{PERMISSION}GiveContactConsent", contact_consent=pb.ContactConsent(customer_id=customer_id, **given))


def reserve(caller: Caller, customer_id: str, **more: Any) -> Any:
    """Asks for a marketing call, or what is said otherwise."""
    wanted = {"channel": "call", "purpose": "marketing", **more}
    return caller(f"{PERMISSION}ReserveContact", customer_id=customer_id, **wanted)


def spend(caller: Caller, token: str, **more: Any) -> Any:
    """Says that the contact begins."""
    return caller(f"{PERMISSION}SpendContact", token=token, **more)


def codes(answer: Any) -> list[str]:
    """Why not."""
    return [one.code for one in answer.decision.refusal]
