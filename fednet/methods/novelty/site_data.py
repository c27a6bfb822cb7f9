"""A site's pictures by label, a part of them held out from all training.

The held-out part of each class measures the classifier and calibrates the detector. Knows no model and no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.data.datasets import ImageSet
from fednet.errors import DataError, MethodError
from fednet.methods.novelty.config import held_out_count
from fednet.methods.novelty.labels import Labels, format_labels
from fednet.seeds import generator


@dataclass(frozen=True)
class NoveltySiteData:
    """The pictures of a site.

    Attributes:
        name: the site's.
        train: training pictures.
        held_out: pictures that nothing is trained on.
    """

    name: str
    train: ImageSet
    held_out: ImageSet

    @property
    def labels(self) -> Labels:
        """The labels of which it has training pictures."""
        return tuple(sorted(set(self.train.labels.tolist())))

    def training_images(self, labels: Labels | None) -> ImageSet:
        """The training pictures of some labels; of all where None.

        Raises:
            MethodError: it has none of one of them.
        """
        return self._of(self.train, labels, "to train on")

    def held_out_images(self, labels: Labels | None) -> ImageSet:
        """The held-out pictures of some labels; of all where None.

        Raises:
            MethodError: it has none of one of them.
        """
        return self._of(self.held_out, labels, "held out")

    def _of(self, pictures: ImageSet, labels: Labels | None, what: str) -> ImageSet:
        if labels is None:
            return pictures
        available = set(pictures.labels.tolist())
        if missing := [label for label in labels if label not in available]:
            names = ", ".join(pictures.classes[label] for label in missing)
            raise MethodError(
                f"{self.name} has no pictures {what} of {names} "
                f"(label {format_labels(missing)}): it has {format_labels(available)}"
            )
        return pictures.subset(torch.isin(pictures.labels, torch.tensor(labels)).nonzero().flatten())


def split_held_out(name: str, share: ImageSet, part: float, seed: int) -> NoveltySiteData:
    """Holds out a part of each class, rounded up, as long as a training picture is left.

    Args:
        name: the site's.
        share: all of its pictures.
        part: the part of each class, in [0, 1).
        seed: the run's seed.

    Raises:
        DataError: the site has too few pictures to hold out any.
    """
    held: list[Tensor] = []
    for label in sorted(set(share.labels.tolist())):
        members = (share.labels == label).nonzero().flatten()
        count = held_out_count(len(members), part)
        order = torch.randperm(len(members), generator=generator(seed, "held-out", name, label))
        held.append(members[order[:count]])
    chosen = torch.zeros(len(share), dtype=torch.bool)
    chosen[torch.cat(held)] = True
    if not chosen.any():
        raise DataError(f"{name} has {len(share)} pictures, too few to hold any out: give it more")
    return NoveltySiteData(name, share.subset((~chosen).nonzero().flatten()), share.subset(chosen.nonzero().flatten()))
