"""A site's contributions on its disk: the same task from the same base gives the very same bytes again.

A second training would draw other noise, and two noisy views of the same data cost twice. So a contribution is kept
before it is handed out, and read when it is asked for again. Its ledger entry is kept with it, and the reader releases
that entry, since a site may die between the two. Holds nothing that was not meant to be released.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fednet.api import ModelState, RoundTask, Scalar, Update
from fednet.federated.state import digest
from fednet.files import write_whole
from fednet.methods.common.checkpoint import checkpoint_bytes, read_checkpoint
from fednet.privacy.ledger import LedgerEntry
from fednet.reporting.json_text import to_json

METADATA_KEY = "release"
MAX_KEPT = 6
"""Contributions that stay on the disk; an older one that is asked for again is made, and paid, again."""


@dataclass(frozen=True)
class StoredRelease:
    """A contribution, and its entry in the ledger (None where nothing is accounted for)."""

    update: Update
    entry: LedgerEntry | None


def release_key(task: RoundTask, base: ModelState, config: Mapping[str, object]) -> str:
    """Digest of what decides a contribution: the task, its base, and the configuration. 64 hexadecimal digits."""
    options: dict[str, Scalar] = dict(sorted(task.options.items()))
    named = [task.model, task.task, task.number, options, digest(base), config]
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()


class ReleaseStore:
    """The contributions of one site.

    Args:
        folder: of the files; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, key: str) -> StoredRelease | None:
        """What was contributed under a key; None where nothing was, or it is no longer kept.

        Raises:
            ModelError: the file is damaged.
        """
        path = self._path(key)
        if not path.is_file():
            return None

        def parse(note: Mapping[str, Any], state: dict[str, Tensor]) -> StoredRelease:
            entry = None if note.get("entry") is None else LedgerEntry.model_validate(note["entry"])
            values = {name: float(value) for name, value in note["values"].items()}
            return StoredRelease(Update(state, float(note["weight"]), values), entry)

        return read_checkpoint(path, METADATA_KEY, parse, "remove it; the round is then paid a second time")

    def keep(self, key: str, release: StoredRelease) -> None:
        """Keeps a contribution; it survives a loss of power once this returns.

        Raises:
            OSError: it cannot be written; then it must not be handed out.
        """
        update, entry = release.update, release.entry
        note = {"weight": update.weight, "values": dict(update.values), "entry": entry and entry.model_dump()}
        content = checkpoint_bytes(update.state, METADATA_KEY, to_json(note))
        write_whole(self._path(key), content, durable=True)
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        for old in files[:-MAX_KEPT]:
            old.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"
