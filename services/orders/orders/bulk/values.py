"""The value objects of bulk orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class BulkOrderFormat(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSON_LINES = "jsonLines"


class BulkOrderState(StrEnum):
    """Where a job is."""

    RECEIVING = "receiving"
    ACKNOWLEDGED = "acknowledged"
    IN_PROGRESS = "inProgress"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class BulkOrderRowState(StrEnum):
    """What has become of a row."""

    WAITING = "waiting"
    VALID = "valid"
    ORDERED = "ordered"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkOrderFilter:
    """A condition on products; `operator` as in the filters of lists."""

    path: str | None = None
    operator: str | None = None
    value: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkOrderSegment:
    """Which products are rows."""

    product_offering: tuple[str, ...] = ()
    filter: tuple[BulkOrderFilter, ...] = ()
    once_per_customer: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkOrderRow:
    """What has become of a row, for whoever asks."""

    line: int
    state: BulkOrderRowState
    product_order_id: str | None = None
    field: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a file: where it begins, and what it has in which column; or why it has nothing."""

    line: int
    values: Mapping[str, object]
    fault: str = ""
