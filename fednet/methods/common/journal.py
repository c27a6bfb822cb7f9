"""What a run has found so far, so that one that goes on after a stop does not do the same twice.

Rounds are remembered by whoever holds them; this remembers what was measured between them. Knows no method.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fednet.reporting.record import write_json

FILE = "journal.json"


class Journal:
    """Measurements by key, kept in a run's folder after each."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._kept: dict[str, Any] = json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {}

    def once(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was measured under a key; measured now where it was not yet.

        The result is the one that JSON gives back, so that a run that was stopped has the same as one that was not.
        """
        if key not in self._kept:
            self._kept[key] = measure()
            write_json(self._path, self._kept)
            self._kept[key] = json.loads(json.dumps(self._kept[key]))
        found: dict[str, Any] = self._kept[key]
        return found
