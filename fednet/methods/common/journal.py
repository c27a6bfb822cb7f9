"""The measurements of a run, kept in its folder, so that a run that goes on after a stop measures nothing twice.

Rounds are remembered by the nodes that hold them; the journal remembers what was measured between them, a line of JSON
each. Knows no method.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fednet.errors import ModelError
from fednet.files import LineFile, make_folder, whole_lines
from fednet.reporting.json_text import to_json

FILE = "journal.jsonl"

T = TypeVar("T")

_LINE = TypeAdapter(tuple[str, Any])
"""A key and what was measured under it."""


class Journal:
    """Measurements by key, each appended to `journal.jsonl` when it is made.

    Args:
        folder: of the run.

    Raises:
        ModelError: the folder has a journal of another version.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._entries: dict[str, Any] = _read(self._path) if self._path.is_file() else {}

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
            line = to_json([key, adapter.dump_python(measure())])
            make_folder(self._path.parent, shared=True)
            with LineFile(self._path, shared=True) as file:
                file.append(line)
            self._entries[key] = json.loads(line)[1]
        try:
            return adapter.validate_python(self._entries[key])
        except ValidationError as error:
            raise ModelError(
                f"{self._path}: entry {key!r} is not of this version ({error.error_count()} faults): start the run anew"
            ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(_LINE.validate_json(line) for line in whole_lines(path))
    except ValidationError as error:
        raise ModelError(f"{path} is not of this version: start the run anew") from error
