"""A site's files below the run's folder: its words, those of other sites, adapters, and the pictures that it generates.

All but the pictures are read by a restarted site, which then offers, generates and classifies as before; what it has
learnt in a round already it does not learn twice, since a second training would start from the words of the first.
The files carry a digest of configuration and seed; those of another one are ignored. Knows no network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from fednet.api import ModelState, Offer, OfferBatch
from fednet.images import Pixels, grid, save_png
from fednet.methods.common.checkpoint import read_checkpoint, write_checkpoint
from fednet.reporting.json_text import to_json
from fednet.reporting.samples import SampleBatch, write_samples

T = TypeVar("T")

METADATA_KEY = "cmtii"
GRID_COLUMNS = 10
"""Pictures of a class in a grid."""
OWN_GRID = "own-words.png"
"""The grid of pictures generated from the site's own words."""


@dataclass(frozen=True)
class LearnedOffers:
    """A site's offers, and the round in which it has learnt last.

    Attributes:
        number: of that round, from 1; 0 where it has not learnt yet.
        offers: all of them.
        latest: the subjects of that round.
        values: what was measured in it.
    """

    number: int = 0
    offers: tuple[Offer, ...] = ()
    latest: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def batch(self) -> OfferBatch:
        """The offers of that round."""
        return OfferBatch(tuple(offer for offer in self.offers if offer.subject in self.latest), self.values)

    def after(self, number: int, batch: OfferBatch) -> LearnedOffers:
        """The same after another round."""
        offers = {offer.subject: offer for offer in (*self.offers, *batch.offers)}
        latest = tuple(offer.subject for offer in batch.offers)
        return LearnedOffers(number, tuple(offers.values()), latest, batch.values)


class SiteStore:
    """A site's own folder.

    Args:
        folder: of the run.
        name: the site's.
        settings: digest of the configuration under which words are learnt.
    """

    def __init__(self, folder: Path, name: str, settings: str) -> None:
        self._run, self._name, self._settings = folder, name, settings

    def path(self, file: str) -> Path:
        """The path of one of the site's files."""
        return self._run / site_file_path(self._name, file)

    def save_words(self, learned: LearnedOffers) -> None:
        """Writes the site's offers."""
        note = {
            "versions": {offer.subject: offer.version for offer in learned.offers},
            "round": learned.number,
            "latest": learned.latest,
            "values": dict(learned.values),
        }
        self._write("words", {offer.subject: offer.embeddings for offer in learned.offers}, note)

    def words(self) -> LearnedOffers:
        """The site's offers; none where it has not learnt yet, or under another configuration.

        Raises:
            ModelError: the file is damaged.
        """

        def parse(note: Mapping[str, Any], state: ModelState) -> LearnedOffers:
            versions = note["versions"]
            offers = tuple(
                Offer(self._name, subject, int(versions[subject]), words) for subject, words in state.items()
            )
            values = {name: float(value) for name, value in note["values"].items()}
            return LearnedOffers(int(note["round"]), offers, tuple(note["latest"]), values)

        return self._read("words", parse) or LearnedOffers()

    def save_received(self, offer: Offer) -> None:
        """Writes an offer of another site, in the place of an older version."""
        note = {"origin": offer.origin, "subject": offer.subject, "version": offer.version}
        name = hashlib.sha256(json.dumps([offer.origin, offer.subject]).encode()).hexdigest()
        self._write(f"received/{name}", {"words": offer.embeddings}, note)

    def received(self) -> tuple[Offer, ...]:
        """The offers of other sites that were written under this configuration.

        Raises:
            ModelError: a file is damaged.
        """

        def parse(note: Mapping[str, Any], state: ModelState) -> Offer:
            return Offer(note["origin"], note["subject"], int(note["version"]), state["words"])

        files = sorted(self.path("received").glob("*.safetensors"))
        offers = (self._read(f"received/{path.stem}", parse) for path in files)
        return tuple(offer for offer in offers if offer is not None)

    def save_adapter(self, arm: str, state: ModelState) -> None:
        """Writes an adapter."""
        self._write(f"adapter-{arm}", state, {})

    def adapter(self, arm: str) -> dict[str, Tensor] | None:
        """The adapter of an arm; None where there is none of this configuration.

        Raises:
            ModelError: the file is damaged.
        """
        return self._read(f"adapter-{arm}", lambda _note, state: state)

    def show(self, file: str, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        """Writes a grid with a row for every class, and beside it all pictures as tensors, if there are any."""
        if len(images):
            save_png(self.path(file), class_grid(images, labels))
            samples = SampleBatch(images, labels, classes=tuple(classes))
            write_samples(self.path(file).with_suffix(".safetensors"), samples)

    def _write(self, name: str, state: ModelState, note: Mapping[str, object]) -> None:
        text = to_json({**note, "terms": self._settings})
        write_checkpoint(self.path(f"{name}.safetensors"), state, METADATA_KEY, text)

    def _read(self, name: str, parse: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T | None:
        """What `parse` makes of a file's note and tensors; None where there is none of this configuration."""
        path = self.path(f"{name}.safetensors")
        if not path.is_file():
            return None

        def parse_own(note: dict[str, Any], state: dict[str, Tensor]) -> T | None:
            return parse(note, state) if note["terms"] == self._settings else None

        return read_checkpoint(path, METADATA_KEY, parse_own, "remove it, so that it is learnt again")


def site_file_path(site: str, file: str) -> str:
    """The path of a site's file below the run's folder."""
    return f"sites/{site}/{file}"


def generated_grid(arm: str) -> str:
    """The site's grid of the pictures generated for an arm."""
    return f"generated-{arm}.png"


def class_grid(images: Tensor, labels: Tensor) -> Pixels:
    """A grid with a row for every class that there is; where a class has few pictures its row ends in black."""
    rows = []
    for label in sorted(set(labels.tolist())):
        some = images[labels == label][:GRID_COLUMNS]
        rows.append(torch.cat([some, some.new_full((GRID_COLUMNS - len(some), *some.shape[1:]), -1.0)]))
    return grid(torch.cat(rows), GRID_COLUMNS)
