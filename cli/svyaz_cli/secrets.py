"""Passwords of the embedded profile: made when first asked for, kept in one file that only its owner reads."""

import json
import os
import secrets
from pathlib import Path


class Secrets:
    """Named passwords in `directory/secrets.json`, mode 0600."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "secrets.json"
        self._known: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def get(self, name: str) -> str:
        """The password of that name; safe in a URL without escaping."""
        if name not in self._known:
            self._known[name] = secrets.token_urlsafe(24)
            write_private(self._file, json.dumps(self._known, indent=2))
        return self._known[name]


def write_private(file: Path, text: str) -> None:
    """Writes a file that only its owner may read, in one step."""
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    partial.replace(file)
