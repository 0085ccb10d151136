"""What a catalog's manager asks of publishing: one method, one use case, one transaction."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from catalog.pricing.domain import PriceList, TaxRate
from catalog.product.api import CatalogItems
from catalog.product.domain import CatalogItem, ProductOffering, ProductOfferingPrice
from catalog.product.values import ExistingSubscribers
from catalog.publication import store
from catalog.publication.domain import Approval, AuthorshipKind, check_approver, copied, further_version
from chassis.convert import from_message, from_timestamp, to_message
from chassis.db import Database
from chassis.errors import NotFound
from chassis.references import lock_references
from chassis.types import new_id
from chassis.unit import Unit
from svyaz.catalog.v1 import catalog_pb2, publication_pb2, publication_pb2_grpc


class Publication(publication_pb2_grpc.PublicationServiceServicer):
    """Versions, approvals and lint."""

    def __init__(self, database: Database, items: CatalogItems) -> None:
        self._database = database
        self._items = items

    def ApproveProductOffering(self, request: publication_pb2.ApproveRequest, context: Any) -> publication_pb2.Approval:
        """See `approve`."""
        return self.approve(ProductOffering, request)

    def ApproveProductOfferingPrice(
        self, request: publication_pb2.ApproveRequest, context: Any
    ) -> publication_pb2.Approval:
        """See `approve`."""
        return self.approve(ProductOfferingPrice, request)

    def ApprovePriceList(self, request: publication_pb2.ApproveRequest, context: Any) -> publication_pb2.Approval:
        """See `approve`."""
        return self.approve(PriceList, request)

    def ApproveTaxRate(self, request: publication_pb2.ApproveRequest, context: Any) -> publication_pb2.Approval:
        """See `approve`."""
        return self.approve(TaxRate, request)

    def approve(self, cls: type[CatalogItem], request: publication_pb2.ApproveRequest) -> publication_pb2.Approval:
        """A second person's word for what the thing is now; raises FailedPrecondition OWN_WORK, NOTHING_TO_APPROVE."""

        def work(unit: Unit) -> publication_pb2.Approval:
            # What is approved doesn't change while it is looked at.
            lock_references(unit)
            item = unit.get(cls, request.id, request.etag)
            items = store.whole(unit, item)
            authors = store.authors(unit, items)
            approver = store.person(unit)
            check_approver(item, approver, authors)
            approval = Approval(
                id=item.id,
                approver=approver,
                at=unit.at,
                author=tuple(authors),
                digest=store.digest(items),
                note=request.note or None,
            )
            store.record(unit, item, AuthorshipKind.APPROVAL, digest=approval.digest, note=approval.note)
            return to_message(approval, publication_pb2.Approval)

        return self._database.transact(request, publication_pb2.Approval, work)

    def ListAuthorship(
        self, request: publication_pb2.ListAuthorshipRequest, context: Any
    ) -> publication_pb2.ListAuthorshipResponse:
        """Who changed a thing, and who approved it; raises NotFound."""
        with self._database.unit() as unit:
            item = next(filter(None, (unit.find(cls, request.id) for cls in store.SOLD)), None)
            if item is None:
                raise NotFound("NOT_FOUND", f"nothing that is sold is called {request.id!r}")
            return publication_pb2.ListAuthorshipResponse(
                items=[
                    to_message(record, publication_pb2.AuthorshipRecord) for record in store.records(unit, request.id)
                ],
                approved=store.is_approved(unit, item),
            )

    def CreateProductOfferingVersion(
        self, request: publication_pb2.CreateProductOfferingVersionRequest, context: Any
    ) -> catalog_pb2.ProductOffering:
        """A draft of the next version of a series; raises FailedPrecondition NOT_PUBLISHED."""

        def work(unit: Unit) -> catalog_pb2.ProductOffering:
            lock_references(unit)
            offering = unit.get(ProductOffering, request.id)
            series = [offering, *store.versions(unit, offering)]
            draft = further_version(
                offering,
                id=new_id(),
                versions=[version.version for version in series],
                valid_from=from_timestamp(request.valid_from) if request.HasField("valid_from") else None,
                existing_subscribers=(
                    from_message(request.existing_subscribers, ExistingSubscribers)
                    if request.HasField("existing_subscribers")
                    else None
                ),
            )
            if request.copy_prices:
                self._copy_prices(unit, draft, store.whole(unit, offering))
            return to_message(self._add(unit, draft), catalog_pb2.ProductOffering)

        return self._database.transact(request, catalog_pb2.ProductOffering, work)

    def _copy_prices(self, unit: Unit, draft: ProductOffering, items: Iterable[CatalogItem]) -> None:
        """Lets the draft refer to copies of its prices, these to copies of what they are made of and altered by."""
        known = {item.id: item for item in items if isinstance(item, ProductOfferingPrice)}
        reached = {price.id or "" for price in draft.product_offering_price if price.price is None}
        waiting = list(reached)
        while waiting:
            price = known.get(waiting.pop())
            below = {part.id for part in price.parts()} - reached if price is not None else set()
            reached |= below
            waiting += below
        copies = {key: copied(known[key], new_id()) for key in reached if key in known}
        # An alteration and what it alters refer to each other by id only, so it doesn't matter which is there first.
        for price in copies.values():
            price.bundled_pop_relationship = tuple(
                replace(part, id=copies[part.id].id, href=None) if part.id in copies else part
                for part in price.bundled_pop_relationship
            )
            price.pop_relationship = tuple(
                replace(other, id=copies[other.id].id, href=None) if other.id in copies else other
                for other in price.pop_relationship
            )
            self._add(unit, price)
        draft.product_offering_price = tuple(
            replace(price, id=copies[price.id].id, href=None) if price.price is None and price.id in copies else price
            for price in draft.product_offering_price
        )

    def _add(self, unit: Unit, item: Any) -> Any:
        item.check(unit.at)
        self._items.creating(unit, item)
        unit.add(item)
        return item

    def LintProductOffering(
        self, request: publication_pb2.LintProductOfferingRequest, context: Any
    ) -> publication_pb2.LintProductOfferingResponse:
        """Why something of the offering would never apply, were it published at the instant."""
        with self._database.unit() as unit:
            at = from_timestamp(request.at) if request.HasField("at") else unit.at
            found = store.findings(unit, unit.get(ProductOffering, request.id), at)
        return publication_pb2.LintProductOfferingResponse(
            finding=[publication_pb2.LintFinding(field=one.field, description=one.description) for one in found]
        )
