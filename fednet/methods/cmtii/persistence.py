"""What a site keeps on its disk, below the run's folder: its words, those of others, adapters, and pictures to look at.

All but the pictures outlive the process: a site that comes back offers, paints and classifies as before, and what it
has learnt in a round already it does not learn twice, since a second learning would begin at the words of the first.
They are of one configuration and seed, whose digest they carry; those of another one are left aside. Knows no network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fednet.api import ModelState, Offer, OfferBatch
from fednet.errors import ModelError
from fednet.federated.state import detached_copy
from fednet.files import write_whole
from fednet.images import Pixels, grid, save_png

T = TypeVar("T")

METADATA_KEY = "cmtii"
GRID_COLUMNS = 10
"""Pictures of a class in a grid."""


@dataclass(frozen=True)
class LearnedOffers:
    """What a site teaches, and the round in which it has learnt last.

    Attributes:
        number: of that round, from 1; 0 where it has not learnt yet.
        offers: all that it offers.
        latest: the subjects of that round.
        values: what was measured in it.
    """

    number: int = 0
    offers: tuple[Offer, ...] = ()
    latest: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def offering(self) -> OfferBatch:
        """What came of that round."""
        return OfferBatch(tuple(offer for offer in self.offers if offer.subject in self.latest), self.values)

    def learnt(self, number: int, offering: OfferBatch) -> LearnedOffers:
        """The same after another round."""
        offers = {offer.subject: offer for offer in (*self.offers, *offering.offers)}
        latest = tuple(offer.subject for offer in offering.offers)
        return LearnedOffers(number, tuple(offers.values()), latest, offering.values)


class SiteStore:
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
        return self._run / site_file_path(self._name, file)

    def save_words(self, taught: LearnedOffers) -> None:
        """Writes what the site teaches."""
        note = {
            "terms": self._terms,
            "versions": {offer.subject: offer.version for offer in taught.offers},
            "round": taught.number,
            "latest": taught.latest,
            "values": dict(taught.values),
        }
        self._write("words", {offer.subject: offer.embeddings for offer in taught.offers}, note)

    def words(self) -> LearnedOffers:
        """What the site taught before; nothing where it has not, or under other terms.

        Raises:
            ModelError: the file is damaged.
        """

        def made(state: ModelState, note: Mapping[str, Any]) -> LearnedOffers:
            versions = note["versions"]
            offers = tuple(
                Offer(self._name, subject, int(versions[subject]), words) for subject, words in state.items()
            )
            return LearnedOffers(int(note["round"]), offers, tuple(note["latest"]), note["values"])

        return self._read("words", made) or LearnedOffers()

    def save_received(self, offer: Offer) -> None:
        """Writes a word of another site, in the place of an older one."""
        note = {"terms": self._terms, "origin": offer.origin, "subject": offer.subject, "version": offer.version}
        name = hashlib.sha256(json.dumps([offer.origin, offer.subject]).encode()).hexdigest()
        self._write(f"heard/{name}", {"words": offer.embeddings}, note)

    def heard(self) -> tuple[Offer, ...]:
        """The words of others that were kept under these terms.

        Raises:
            ModelError: a file is damaged.
        """

        def made(state: ModelState, note: Mapping[str, Any]) -> Offer:
            return Offer(note["origin"], note["subject"], int(note["version"]), state["words"])

        files = sorted(self.place("heard").glob("*.safetensors"))
        found = (self._read(f"heard/{path.stem}", made) for path in files)
        return tuple(offer for offer in found if offer is not None)

    def save_adapter(self, arm: str, state: ModelState) -> None:
        """Writes an adapter."""
        self._write(f"adapter-{arm}", state, {"terms": self._terms})

    def adapter(self, arm: str) -> dict[str, Tensor] | None:
        """The adapter of an arm; None where there is none of these terms.

        Raises:
            ModelError: the file is damaged.
        """
        return self._read(f"adapter-{arm}", lambda state, _note: state)

    def show(self, file: str, images: Tensor, labels: Tensor) -> None:
        """Writes a grid: a row for every class that there is, its first pictures."""
        if len(images):
            save_png(self.place(file), class_grid(images, labels))

    def _write(self, what: str, state: ModelState, note: Mapping[str, object]) -> None:
        path = self.place(f"{what}.safetensors")
        write_whole(path, save(detached_copy(state), {METADATA_KEY: json.dumps(note, sort_keys=True)}))

    def _read(self, what: str, made: Callable[[dict[str, Tensor], dict[str, Any]], T]) -> T | None:
        """What is made of a file's tensors and its note; None where there is none of these terms."""
        path = self.place(f"{what}.safetensors")
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                note = json.loads((file.metadata() or {})[METADATA_KEY])
                state = {name: file.get_tensor(name) for name in sorted(file.keys())}
            return made(state, note) if note["terms"] == self._terms else None
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is damaged ({error}): remove it, so that it is learnt again") from error


def site_file_path(site: str, file: str) -> str:
    """Where a site's file lies below the run's folder."""
    return f"sites/{site}/{file}"


def class_grid(images: Tensor, labels: Tensor) -> Pixels:
    """A grid with a row for every class that there is; where a class has few pictures its row ends in black."""
    rows = []
    for label in sorted(set(labels.tolist())):
        some = images[labels == label][:GRID_COLUMNS]
        rows.append(torch.cat([some, some.new_full((GRID_COLUMNS - len(some), *some.shape[1:]), -1.0)]))
    return grid(torch.cat(rows), GRID_COLUMNS)
