"""The measurements of a run, kept in its folder, so that a run that goes on after a stop measures nothing twice.

Rounds are remembered by the nodes that hold them; the journal remembers what was measured between them. Knows no
method.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fednet.errors import ModelError
from fednet.reporting.json_text import to_json
from fednet.reporting.record import write_json

FILE = "journal.json"

T = TypeVar("T")


class Journal:
    """Measurements by key, written to `journal.json` after each.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._entries: dict[str, Any] = json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {}

    def once(self, key: str, kind: type[T], measure: Callable[[], T]) -> T:
        """What was measured under a key; measured now where it was not yet.

        The result is what JSON gives back, so that a run that was stopped has the same as one that was not.

        Args:
            key: names the measurement in the run.
            kind: its type, of dataclasses, containers and plain values.
            measure: measures.

        Raises:
            ModelError: the journal holds something else under the key.
        """
        adapter = TypeAdapter(kind)
        if key not in self._entries:
            self._entries[key] = json.loads(to_json(adapter.dump_python(measure())))
            write_json(self._path, self._entries)
        try:
            return adapter.validate_python(self._entries[key])
        except ValidationError as error:
            raise ModelError(
                f"{self._path}: entry {key!r} is not of this version ({error.error_count()} faults): start the run anew"
            ) from error
