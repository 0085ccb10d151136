"""The one clock that every process reads; in the embedded profile it can be moved forward."""

from datetime import UTC, datetime, timedelta
from pathlib import Path


class Clock:
    """UTC, plus as many seconds as the offset file (when there is one) says."""

    def __init__(self, offset_file: str | None = None) -> None:
        self._offset_file = Path(offset_file) if offset_file else None

    def now(self) -> datetime:
        """The present instant, UTC."""
        now = datetime.now(UTC)
        if self._offset_file is not None and self._offset_file.exists():
            now += timedelta(seconds=float(self._offset_file.read_text().strip() or 0))
        return now
