"""The one clock that every process reads; in the embedded profile it can be moved forward."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path


class Clock:
    """UTC, plus as many seconds as the offset file (when there is one) says."""

    def __init__(self, offset_file: str | None = None) -> None:
        self._offset_file = offset_file

    def now(self) -> datetime:
        """The present instant, UTC."""
        now = datetime.now(UTC)
        # Asked several times a call; as a Path it would cost ten times as much.
        if self._offset_file and os.path.exists(self._offset_file):  # noqa: PTH110
            now += timedelta(seconds=float(Path(self._offset_file).read_text().strip() or 0))
        return now
