"""What the catalog says of the characteristics that are ordered, or written by hand."""

import re
from collections.abc import Sequence

from chassis import clients, convert
from chassis.errors import InvalidArgument, Violation
from chassis.types import Characteristic
from svyaz.catalog.v1 import catalog_pb2_grpc, qualification_pb2, qualification_pb2_grpc
from svyaz.type.v1 import requests_pb2, values_pb2

_UNKNOWN = "UNKNOWN_CHARACTERISTIC"
# Of the product itself, not of the parts of a bundle.
_OWN = re.compile(r"characteristic(?:\[(.*)\])?", re.DOTALL)


class Configurator:
    """Asks the catalog, as the caller."""

    def __init__(
        self,
        catalog: catalog_pb2_grpc.CatalogServiceStub,
        qualification: qualification_pb2_grpc.QualificationServiceStub,
    ) -> None:
        self._catalog = catalog
        self._qualification = qualification

    def violations(self, offering_id: str, characteristics: Sequence[Characteristic], path: str) -> Sequence[Violation]:
        """Why these can't be the characteristics of a product of the offering; nothing, when its specification declares
        none at all: then they are the caller's own."""
        found = self._own(offering_id, characteristics)
        named = {one.name: number for number, one in enumerate(characteristics)}
        if found and all(code == _UNKNOWN for _, code, _ in found) and len(found) == len(named):
            found = found if self._declares(offering_id) else []
        return [
            Violation(f"{path}[{named[name]}]" if name in named else path, f"{code}: {why}")
            for name, code, why in found
        ]

    def declared(self, offering_id: str, characteristics: Sequence[Characteristic]) -> set[str]:
        """The names of those that the specification of the offering declares."""
        unknown = {name for name, code, _ in self._own(offering_id, characteristics) if code == _UNKNOWN}
        return {one.name for one in characteristics if one.name and one.name not in unknown}

    def _own(self, offering_id: str, characteristics: Sequence[Characteristic]) -> list[tuple[str, str, str]]:
        """(characteristic, code, why) of what is wrong; of an offering that isn't there all are unknown."""
        request = qualification_pb2.ConfigureRequest(
            product_offering_id=offering_id,
            characteristic=[convert.to_message(one, values_pb2.Characteristic) for one in characteristics],
        )
        try:
            answer = clients.call(self._qualification.Configure, request)
        except InvalidArgument as error:
            if error.reason != "UNKNOWN_OFFERING":
                raise
            return [(one.name or "", _UNKNOWN, error.message) for one in characteristics]
        found = []
        for one in answer.violation:
            own = _OWN.fullmatch(one.path)
            if own is not None:
                found.append((own.group(1) or "", one.code, one.message))
        return found

    def _declares(self, offering_id: str) -> bool:
        """Whether the offering's specification has any characteristics."""
        offering = clients.call(self._catalog.GetProductOffering, requests_pb2.GetRequest(id=offering_id))
        if not offering.product_specification.id:
            return False
        wanted = requests_pb2.GetRequest(id=offering.product_specification.id)
        specification = clients.call(self._catalog.GetProductSpecification, wanted)
        return bool(specification.product_spec_characteristic)
