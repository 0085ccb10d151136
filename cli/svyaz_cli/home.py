"""Where one platform keeps what it has on disk."""

import os
from pathlib import Path

from svyaz_cli.issuer import Issuer


class Home:
    """The folder of one platform: `var/` unless SVYAZ_VAR says otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.notes = self.directory / "run" / "processes"
        self.runner_note = self.directory / "run" / "runner.json"
        self.ready = self.directory / "run" / "ready"
        self.logs = self.directory / "log"
        self.clock_offset = self.directory / "clock-offset"
        for folder in (self.notes, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_environment(cls) -> "Home":
        """The home that the environment names."""
        return cls(Path(os.environ.get("SVYAZ_VAR") or "var"))

    def issuer(self) -> Issuer:
        """This platform's development issuer."""
        return Issuer(self.directory / "issuer")
