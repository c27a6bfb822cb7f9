"""What a site has contributed already, on its disk: the same task from the same base gives the very same bytes again.

A second training would draw other noise, and two noisy views of the same data cost twice. So a contribution is kept
before it is handed out, and one that is asked for again is read, not made. With it lies what it costs: whoever finds it
sees to it that this is released in the ledger, since a site may die between the two. Holds nothing that was not to be
released.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fednet.api import ModelState, RoundTask, Scalar, Update
from fednet.errors import ModelError
from fednet.federated.state import detached_copy, digest
from fednet.privacy.ledger import LedgerEntry, write_through

METADATA_KEY = "release"
MAX_KEPT = 6
"""The latest contributions that stay on the disk; an older one that is asked for again is made, and paid, again."""


@dataclass(frozen=True)
class StoredRelease:
    """A contribution, and its entry in the ledger; None where nothing is accounted for."""

    update: Update
    entry: LedgerEntry | None


def release_key(task: RoundTask, base: ModelState, terms: Mapping[str, object]) -> str:
    """What decides a contribution: the task, its base, and the terms it is made under. 64 hexadecimal digits."""
    options: dict[str, Scalar] = dict(sorted(task.options.items()))
    named = [task.model, task.work, task.number, options, digest(base), terms]
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()


class ReleaseStore:
    """The contributions of one site.

    Args:
        folder: where they lie; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, key: str) -> StoredRelease | None:
        """What was contributed under a key; None where nothing was, or no longer is.

        Raises:
            ModelError: the file is damaged.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                note = json.loads((file.metadata() or {})[METADATA_KEY])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            entry = None if note.get("entry") is None else LedgerEntry.model_validate(note["entry"])
            return StoredRelease(Update(state, float(note["weight"]), dict(note["values"])), entry)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{path} cannot be read ({error}): remove it; the round is then paid a second time"
            ) from error

    def keep(self, key: str, release: StoredRelease) -> None:
        """Keeps a contribution; it would survive a loss of power when this returns.

        Raises:
            OSError: it cannot be written; then it must not be handed out.
        """
        update, entry = release.update, release.entry
        note = {"weight": update.weight, "values": dict(update.values), "entry": entry and entry.model_dump()}
        write_through(self._path(key), save(detached_copy(update.state), {METADATA_KEY: json.dumps(note)}))
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        for old in files[:-MAX_KEPT]:
            old.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"
