"""The value objects of merges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from chassis.receipts import ReceiptStep
from chassis.types import Json


class CustomerMergeState(StrEnum):
    """Whether a merge is in force."""

    ACTIVE = "active"
    UNDONE = "undone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """How a decision came about; its engine decides the same from it again."""

    engine: str
    revision: str
    inputs: Json
    step: tuple[ReceiptStep, ...] = ()


def kept(value: Any) -> Json:
    """The value as JSON in the order of keys in which PostgreSQL keeps it, so that it is the same when it is read."""
    return Json(msgspec.json.encode(_in_kept_order(msgspec.to_builtins(value))).decode())


def _in_kept_order(value: Any) -> Any:
    if isinstance(value, Mapping):
        # https://www.postgresql.org/docs/current/datatype-json.html: by length, then by bytes.
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _in_kept_order(value[key]) for key in keys}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_in_kept_order(part) for part in value]
    return value
