"""Results that survive a kill: one JSON line per item, reused only under the same configuration."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icebreaker.errors import DataError

__all__ = ["RunLog"]


class RunLog:
    """Appends to ``path``; lines of other configurations stay in the file and are not looked at."""

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self.path = path
        self.digest = hashlib.sha256(json.dumps(configuration, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.results: dict[str, dict[str, Any]] = {}
        self._unfinished = False
        if path.exists():
            self._read()

    def __contains__(self, key: str) -> bool:
        return key in self.results

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.results[key]

    def add(self, key: str, result: Mapping[str, Any]) -> dict[str, Any]:
        """Keep ``result``; returns it as it will be read back."""
        line = json.dumps({"run": self.digest, "key": key, "result": result}, ensure_ascii=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._unfinished else "") + line + "\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot keep results: {error}; give a writable --out") from error
        self._unfinished = False
        self.results[key] = json.loads(line)["result"]
        return self.results[key]

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        self._unfinished = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:  # a kill came while it was written
                continue
            if isinstance(values, dict) and values.get("run") == self.digest:
                self.results[values["key"]] = values["result"]
