"""Everything about a person in one ZIP archive, as JSON that a person can read."""

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO, Any

import msgspec

from chassis.convert import to_message
from chassis.scalars import encode_json
from chassis.tmfjson import Dialect
from chassis.unit import Unit
from customers.privacy.accesses import Access
from customers.privacy.person import Person, message_class

INDEX = "index.json"
_DIALECT = Dialect()

_VERSIONS = """
    SELECT DISTINCT version, recorded_at, deleted, data FROM view_item
    WHERE kind = %(kind)s AND item_id = %(id)s ORDER BY version
"""


def write(
    out: IO[bytes],
    unit: Unit,
    person: Person,
    records: Iterable[tuple[str, str]],
    accesses: Sequence[Access],
    *,
    by: str,
) -> None:
    """Writes the archive: of each kind what is known now and every earlier version, who looked, and what is in it.

    Names and times in it are those of the unit, so that the same content is the same archive.
    """
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    for kind, record in sorted(records):
        by_kind[kind].append(record)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        files: dict[str, Any] = {}

        def add(name: str, entries: Sequence[Any]) -> None:
            if entries:
                body = b"[\n" + b",\n".join(map(_readable, entries)) + b"\n]\n"
                files[name] = {"entries": len(entries), "sha256": hashlib.sha256(body).hexdigest()}
                archive.writestr(_entry(name, unit.at), body)

        for kind, ids in by_kind.items():
            current, history = _of_kind(unit, kind, ids)
            add(f"records/{kind}.json", current)
            add(f"history/{kind}.json", history)
        add("accesses.json", [_access(access) for access in accesses])
        index = {
            "person": person.id,
            "individualOrOrganization": list(person.party_ids),
            "customer": list(person.customer_ids),
            "branch": person.branch,
            "exportedAt": unit.at.isoformat(),
            "exportedBy": by,
            "files": files,
        }
        archive.writestr(_entry(INDEX, unit.at), _readable(index) + b"\n")


def _of_kind(unit: Unit, kind: str, ids: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """What is known now of the kind, and every version of it with the time at which it was recorded."""
    message = message_class(unit, kind)
    if message is None:
        raise ValueError(f"the view shows {kind}, but nobody says what it is")
    current: list[Any] = []
    history: list[Any] = []
    for record in ids:
        with unit.cursor() as cursor:
            rows = cursor.execute(_VERSIONS, {"kind": kind, "id": record}).fetchall()
        for version, recorded_at, deleted, data in rows:
            resource = _DIALECT.json(message.FromString(bytes(data)))
            history.append(
                {"version": version, "recordedAt": recorded_at.isoformat(), "deleted": deleted, "resource": resource}
            )
        own = _own(unit, kind, record)
        if own is not None:
            current.append(own)
        elif rows and not rows[-1][2] and not _is_own(unit, kind):
            current.append(history[-1]["resource"])
    return current, history


def _is_own(unit: Unit, kind: str) -> bool:
    return any(cls.__name__ == kind for cls in unit.database.resources)


def _own(unit: Unit, kind: str, id: str) -> Any | None:
    """A thing of ours as it is: the view may not have heard of its last change yet."""
    for cls, resource in unit.database.resources.items():
        if cls.__name__ == kind:
            aggregate = unit.find(cls, id)
            return None if aggregate is None else _DIALECT.json(to_message(aggregate, resource.message))
    return None


def _readable(document: Any) -> bytes:
    # Numbers stay as they were written, digit by digit.
    return msgspec.json.format(encode_json(document), indent=2)


def _access(access: Access) -> dict[str, Any]:
    return {
        "at": access.at.isoformat(),
        "actor": access.actor,
        "purpose": access.purpose,
        "method": access.method,
        "record": access.record_id,
    }


def _entry(name: str, at: datetime) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (at.year, at.month, at.day, at.hour, at.minute, at.second))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
