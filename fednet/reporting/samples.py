"""A batch of generated samples, the same type for all methods."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SampleBatch:
    """Generated samples.

    Attributes:
        images: float32 (n, c, h, w) in [-1, 1].
        labels: int64 (n,), the requested classes; None for unconditional samples.
        notes: which nodes contributed, were late or lost, and the consequences.
        classes: the classes' names, by label; empty where they have none.
    """

    images: Tensor
    labels: Tensor | None
    notes: tuple[str, ...]
    classes: tuple[str, ...] = ()
