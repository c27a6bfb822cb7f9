"""How good a site's classifier is, and several sites' as one. Knows no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fednet.methods.common.json_tensor import from_json_tensor


@dataclass(frozen=True)
class ClassifierValidation:
    """How good the classifier of one site is.

    Attributes:
        accuracy: the part of the pictures that it classifies correctly.
        there: how many pictures there were, by label.
        by_label: accuracy by label.
        digest: of its model.
    """

    accuracy: float
    there: Mapping[int, int]
    by_label: Mapping[int, float]
    digest: str

    @property
    def pictures(self) -> int:
        """How many pictures there were."""
        return sum(self.there.values())

    @classmethod
    def of(cls, right: Mapping[int, int], there: Mapping[int, int], digest: str) -> ClassifierValidation:
        """From how many pictures there were of each label, at least one, and how many of them were right."""
        by_label = {label: right[label] / count for label, count in there.items()}
        return cls(sum(right[label] for label in there) / max(1, sum(there.values())), there, by_label, digest)


def pooled(validations: Mapping[str, ClassifierValidation]) -> ClassifierValidation:
    """The validations of several sites as one, over the pictures of all; the digest is that of the first."""
    there, right = Counter[int](), Counter[int]()
    for one in validations.values():
        there.update(one.there)
        right.update({label: round(share * one.there[label]) for label, share in one.by_label.items()})
    return ClassifierValidation.of(right, dict(sorted(there.items())), validations[min(validations)].digest)


def read_validation(reply: Mapping[str, Tensor]) -> ClassifierValidation:
    """What a site has replied to the question `validate`."""
    right, there = (dict(enumerate(reply[name].tolist())) for name in ("right", "there"))
    digest = str(from_json_tensor(reply.get("validated")).get("digest"))
    return ClassifierValidation.of(right, {label: count for label, count in there.items() if count}, digest)
