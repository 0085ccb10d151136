"""What each kind of thing tells of a customer: one entry per kind, and the view has it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.convert import from_timestamp
from customers.agreement.domain import AgreementState
from customers.interaction.domain import InteractionStatus, status_of
from customers.party.domain import HOUSEHOLD
from customers.party.states import known
from svyaz.catalog.v1 import qualification_pb2, recommendation_pb2
from svyaz.customers.v1 import (
    account_pb2,
    agreement_pb2,
    customers_pb2,
    document_pb2,
    identity_pb2,
    interaction_pb2,
    loyalty_pb2,
    matching_pb2,
    party_pb2,
    party_role_pb2,
    permission_pb2,
    responsibility_pb2,
    task_pb2,
    value_pb2,
    view_pb2,
)
from svyaz.orders.v1 import inventory_pb2, orders_pb2

_DELIMITED = 2


def _nothing(_: Any) -> None:
    return None


def _none(_: Any) -> Iterable[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A field of the view, and how what is in it hangs together with a customer."""

    # The name of the field.
    name: str
    message: type[Message]
    # The ids of the customers (or of the parties that they are, or of their orders) that it is about.
    subjects: Callable[[Any], Iterable[str]]
    # The ids of others to whom it is shown, though it isn't theirs: in a field of its own (`section_of`).
    shown_to: Callable[[Any], Iterable[str]] = _none
    # The ids of further subjects that belong to the same customer.
    refers: Callable[[Any], Iterable[str]] = _none
    # Since when it is so, if it tells; None: since it was recorded.
    since: Callable[[Any], datetime | None] = _nothing
    # What is still under way comes first.
    open: Callable[[Any], bool] = lambda message: False
    # So many are shown.
    most: int = 20

    @cached_property
    def tag(self) -> bytes:
        """What precedes each of its messages in the view's own encoding: the field's number, and that a length follows
        (https://protobuf.dev/programming-guides/encoding/)."""
        return varint(view_pb2.Customer360.DESCRIPTOR.fields_by_name[self.name].number << 3 | _DELIMITED)


def varint(number: int) -> bytes:
    """A number as Protocol Buffers write it."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _self(message: Any) -> Iterable[str]:
    return (message.id,)


def whom(parties: Sequence[Any]) -> Iterable[str]:
    """The ids of those parties that are the customer: by role, else by what they are referred to as, else all."""
    named = [party for party in parties if party.role.lower() == "customer"]
    named = named or [party for party in parties if party.at_referred_type == "Customer"]
    return [party.id for party in named or parties]


def _customer(message: Any) -> Iterable[str]:
    return (message.customer_id,)


def _parties(message: Any) -> Iterable[str]:
    return whom(message.related_party)


def _party(message: Any) -> Iterable[str]:
    return whom([message.related_party])


def _owners(message: Any) -> Iterable[str]:
    return [party.id for party in message.related_party]


def _about(document: document_pb2.Document) -> Iterable[str]:
    """Whoever it is about: also what else a customer has, an agreement say."""
    yield from _owners(document)
    yield from (entity.id for entity in document.related_entity)


def _members(organization: party_pb2.Organization) -> Iterable[str]:
    if organization.organization_type.strip().lower() == HOUSEHOLD:
        yield from _owners(organization)


def _at(moment: Timestamp, *, there: bool) -> datetime | None:
    return from_timestamp(moment) if there else None


def _ordered(order: orders_pb2.ProductOrder) -> datetime | None:
    return _at(order.order_date, there=order.HasField("order_date"))


def _started(product: inventory_pb2.Product) -> datetime | None:
    return _at(product.start_date, there=product.HasField("start_date"))


def _agreed(agreement: agreement_pb2.Agreement) -> datetime | None:
    period = agreement.agreement_period
    return _at(period.start_date_time, there=period.HasField("start_date_time"))


def _took_place(interaction: interaction_pb2.PartyInteraction) -> datetime | None:
    # What is planned is so since somebody has said so, not from the time on for which it is planned.
    period = interaction.interaction_date
    past = status_of(interaction.status) is not InteractionStatus.PLANNED
    return _at(period.start_date_time, there=past and period.HasField("start_date_time"))


_OVER = frozenset(
    {
        orders_pb2.PRODUCT_ORDER_STATE_COMPLETED,
        orders_pb2.PRODUCT_ORDER_STATE_CANCELLED,
        orders_pb2.PRODUCT_ORDER_STATE_FAILED,
        orders_pb2.PRODUCT_ORDER_STATE_PARTIAL,
        orders_pb2.PRODUCT_ORDER_STATE_REJECTED,
    }
)
_ENDED = frozenset(
    {
        inventory_pb2.PRODUCT_STATUS_TERMINATED,
        inventory_pb2.PRODUCT_STATUS_CANCELLED,
        inventory_pb2.PRODUCT_STATUS_ABORTED,
    }
)

_DONE = frozenset(
    {
        orders_pb2.PRODUCT_ORDER_ITEM_STATE_COMPLETED,
        orders_pb2.PRODUCT_ORDER_ITEM_STATE_CANCELLED,
        orders_pb2.PRODUCT_ORDER_ITEM_STATE_FAILED,
        orders_pb2.PRODUCT_ORDER_ITEM_STATE_REJECTED,
    }
)
_UNDONE = frozenset({task_pb2.WORK_ITEM_STATE_OPEN, task_pb2.WORK_ITEM_STATE_IN_PROGRESS})

# Planned or under way, as TMF683 spells them.
_AHEAD = frozenset({InteractionStatus.PLANNED, InteractionStatus.OPENED, InteractionStatus.IN_PROGRESS})
_PAST = frozenset({AgreementState.REJECTED, AgreementState.TERMINATED, AgreementState.EXPIRED})

# By the type of the aggregate.
SECTIONS: Mapping[str, Section] = {
    "Customer": Section(
        name="customer",
        message=customers_pb2.Customer,
        subjects=_self,
        refers=lambda customer: (customer.engaged_party.id,),
    ),
    "Individual": Section(name="individual", message=party_pb2.Individual, subjects=_self),
    "Organization": Section(name="organization", message=party_pb2.Organization, subjects=_self, shown_to=_members),
    "BillingAccount": Section(name="billing_account", message=account_pb2.BillingAccount, subjects=_owners),
    "PartyAccount": Section(name="party_account", message=account_pb2.PartyAccount, subjects=_owners),
    "SettlementAccount": Section(name="settlement_account", message=account_pb2.SettlementAccount, subjects=_owners),
    "FinancialAccount": Section(name="financial_account", message=account_pb2.FinancialAccount, subjects=_owners),
    "Product": Section(
        name="product",
        message=inventory_pb2.Product,
        subjects=_parties,
        since=_started,
        open=lambda product: product.status not in _ENDED,
        most=50,
    ),
    "ProductOrder": Section(
        name="product_order",
        message=orders_pb2.ProductOrder,
        subjects=_parties,
        since=_ordered,
        open=lambda order: order.state not in _OVER,
    ),
    "ProductOrderItem": Section(
        name="ordered_item",
        message=orders_pb2.OrderedItem,
        # About the order, and so about its customer.
        subjects=lambda item: (item.product_order_id,),
        open=lambda item: item.state not in _DONE,
        most=50,
    ),
    "PriceReceipt": Section(
        name="price_receipt",
        message=orders_pb2.PriceReceipt,
        # It has the id of its order, which it is about.
        subjects=_self,
    ),
    "Agreement": Section(
        name="agreement",
        message=agreement_pb2.Agreement,
        subjects=lambda agreement: [party.id for party in agreement.engaged_party],
        since=_agreed,
        # So its documents are the customer's.
        refers=_self,
        open=lambda agreement: known(AgreementState, agreement.status) not in _PAST,
    ),
    "Document": Section(name="document", message=document_pb2.Document, subjects=_about),
    "PartyRole": Section(
        name="party_role",
        message=party_role_pb2.PartyRole,
        subjects=lambda role: (role.engaged_party.id,),
        # An agreement may engage the role.
        refers=_self,
    ),
    "PartyInteraction": Section(
        name="party_interaction",
        message=interaction_pb2.PartyInteraction,
        subjects=_parties,
        since=_took_place,
        open=lambda interaction: status_of(interaction.status) in _AHEAD,
    ),
    "CustomerOwnership": Section(
        name="customer_ownership",
        message=responsibility_pb2.CustomerOwnership,
        subjects=_customer,
    ),
    "ContactPoint": Section(
        name="contact_point", message=permission_pb2.ContactPoint, subjects=lambda point: (point.owner_id,)
    ),
    "ContactConsent": Section(
        name="contact_consent",
        message=permission_pb2.ContactConsent,
        subjects=_customer,
        open=lambda consent: not consent.HasField("withdrawn_at"),
    ),
    "ContactOptOut": Section(
        name="contact_opt_out",
        message=permission_pb2.ContactOptOut,
        subjects=_customer,
        open=lambda opt_out: not opt_out.HasField("lifted_at"),
    ),
    "DoNotCallEntry": Section(
        name="do_not_call_entry",
        message=permission_pb2.DoNotCallEntry,
        subjects=_customer,
        open=lambda entry: not entry.HasField("lifted_at"),
    ),
    "ContactDecision": Section(name="contact_decision", message=permission_pb2.ContactDecision, subjects=_customer),
    "CustomerMerge": Section(
        name="customer_merge",
        message=identity_pb2.CustomerMerge,
        subjects=lambda merge: (merge.survivor_id, merge.absorbed_id),
    ),
    "DuplicateCandidate": Section(
        name="duplicate_candidate",
        message=matching_pb2.DuplicateCandidate,
        subjects=lambda pair: (pair.first_id, pair.second_id),
        open=lambda pair: pair.state == matching_pb2.DUPLICATE_STATE_OPEN,
    ),
    "WorkItem": Section(
        name="work_item",
        message=task_pb2.WorkItem,
        subjects=_customer,
        open=lambda item: item.state in _UNDONE,
    ),
    "LoyaltyProgramMember": Section(
        name="loyalty_program_member",
        message=loyalty_pb2.LoyaltyProgramMember,
        subjects=lambda member: (member.customer.id,),
        # So what is about the member is about the customer.
        refers=_self,
    ),
    "LoyaltyBalance": Section(
        name="loyalty_balance",
        message=loyalty_pb2.LoyaltyBalance,
        subjects=lambda balance: (balance.loyalty_program_member.id,),
    ),
    "ClubCard": Section(
        name="club_card",
        message=loyalty_pb2.ClubCard,
        subjects=lambda card: (card.member_id,),
        open=lambda card: card.state != loyalty_pb2.CLUB_CARD_STATE_REPLACED,
        most=5,
    ),
    "CustomerValue": Section(name="customer_value", message=value_pb2.CustomerValue, subjects=_self),
    "ProductOfferingQualification": Section(
        name="product_offering_qualification",
        message=qualification_pb2.ProductOfferingQualification,
        subjects=_parties,
        most=5,
    ),
    "QueryProductRecommendation": Section(
        name="product_recommendation",
        message=recommendation_pb2.QueryProductRecommendation,
        subjects=_party,
        most=3,
    ),
}
# An organization that is shown to somebody else is a household of his.
_HOUSEHOLD = Section(name="household", message=party_pb2.Organization, subjects=_members)
BY_NAME: Mapping[str, Section] = {section.name: section for section in (*SECTIONS.values(), _HOUSEHOLD)}
# The kinds of which there may be any that belong to the customer's other things.
REFERRING = frozenset(kind for kind, section in SECTIONS.items() if section.refers is not _none)


def section_of(kind: str, *, own: bool) -> Section:
    """Where a thing of the kind is shown; `own`: to whom it is itself."""
    return SECTIONS[kind] if own or SECTIONS[kind].shown_to is _none else _HOUSEHOLD
