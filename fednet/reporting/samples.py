"""What a visitor gets who has asked for samples, whichever method has drawn them. Knows no method and no files."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SampleBatch:
    """Samples.

    Attributes:
        images: float32 (n, c, h, w) in [-1, 1].
        labels: int64 (n,), what each was asked to be; None where nothing was asked for.
        notes: who contributed, who was late or lost, and what that means.
    """

    images: Tensor
    labels: Tensor | None
    notes: tuple[str, ...]
