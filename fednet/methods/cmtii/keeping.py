"""What a site keeps on its disk, below the run's folder: its words, its adapters, and pictures to look at.

Words and adapters outlive the process: a site that comes back offers and classifies as before. They are of one
configuration and seed, whose digest they carry; those of another one are left aside. Knows no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fednet.conversations import Offer, State
from fednet.errors import ModelError
from fednet.federated.state import frozen
from fednet.files import write_whole
from fednet.images import Pixels, grid, save_png

NOTE = "cmtii"
COLUMNS = 10
"""Pictures of a class in a grid."""


class Keeper:
    """A site's own folder.

    Args:
        folder: of the run.
        name: the site's.
        terms: digest of what the words are learnt under.
    """

    def __init__(self, folder: Path, name: str, terms: str) -> None:
        self._run, self._name, self._terms = folder, name, terms

    def place(self, file: str) -> Path:
        """Where a file of the site lies."""
        return self._run / place_of(self._name, file)

    def keep_words(self, offers: Sequence[Offer]) -> None:
        """Writes what the site offers: a tensor a subject, and their versions."""
        note = {"terms": self._terms, "versions": {offer.subject: offer.version for offer in offers}}
        self._write("words", {offer.subject: offer.words for offer in offers}, note)

    def words(self) -> tuple[Offer, ...]:
        """What the site offered before; nothing where it has not, or under other terms.

        Raises:
            ModelError: the file is damaged.
        """
        state, note = self._read("words")
        versions = note.get("versions", {})
        return tuple(Offer(self._name, subject, int(versions[subject]), words) for subject, words in state.items())

    def keep_adapter(self, arm: str, state: State) -> None:
        """Writes an adapter."""
        self._write(f"adapter-{arm}", state, {"terms": self._terms})

    def adapter(self, arm: str) -> dict[str, Tensor] | None:
        """The adapter of an arm; None where there is none of these terms.

        Raises:
            ModelError: the file is damaged.
        """
        return self._read(f"adapter-{arm}")[0] or None

    def show(self, file: str, images: Tensor, labels: Tensor) -> None:
        """Writes a grid: a row for every class that there is, its first pictures."""
        if len(images):
            save_png(self.place(file), by_class(images, labels))

    def _write(self, what: str, state: State, note: Mapping[str, object]) -> None:
        path = self.place(f"{what}.safetensors")
        write_whole(path, save(frozen(state), {NOTE: json.dumps(note, sort_keys=True)}))

    def _read(self, what: str) -> tuple[dict[str, Tensor], dict[str, dict[str, int]]]:
        path = self.place(f"{what}.safetensors")
        if not path.is_file():
            return {}, {}
        try:
            with safe_open(path, "pt") as file:
                note = json.loads((file.metadata() or {})[NOTE])
                state = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return (state, note) if note["terms"] == self._terms else ({}, {})
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged ({error}): remove it, so that it is learnt again") from error


def place_of(site: str, file: str) -> str:
    """Where a site's file lies below the run's folder."""
    return f"sites/{site}/{file}"


def by_class(images: Tensor, labels: Tensor) -> Pixels:
    """A grid with a row for every class that there is; where a class has few pictures its row ends in black."""
    rows = []
    for label in sorted(set(labels.tolist())):
        some = images[labels == label][:COLUMNS]
        rows.append(torch.cat([some, some.new_full((COLUMNS - len(some), *some.shape[1:]), -1.0)]))
    return grid(torch.cat(rows), COLUMNS)
