"""The reduction of contributions chunk by chunk: as soon as everybody's chunk is there, and then it is forgotten.

A chunk is checked, reduced and hashed in one go, while it is in the processor's cache. Rules work on coordinates, so
the result has the same bits as on whole states (`fednet.federated.update_rules.reduce`), whatever the chunks; one that
compares whole contributions (Krum) looks at all of them twice, first for the distances. Masked contributions are added
up modulo 2^32. Knows nothing of where the chunks come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fednet.errors import MethodError, ModelError
from fednet.federated.blocks import compute_into
from fednet.federated.hash_tree import CHUNK, chunk_size, leaf
from fednet.federated.robust import SquaredDistances
from fednet.federated.state import is_finite
from fednet.federated.state_file import Layout, Segment, short
from fednet.federated.update_rules import Formulas, require_enough
from fednet.rules.contract import Contributions, RuleSettings
from fednet.rules.registry import update_rule

Bytes = bytes | memoryview


class InvalidChunk(ModelError):
    """A chunk is not of the model's layout, or not finite.

    Attributes:
        contributor: whose chunk.
    """

    def __init__(self, contributor: str, reason: str) -> None:
        super().__init__(f"{contributor}: {reason}")
        self.contributor = contributor


class ChunkReduction:
    """Combines contributions of one layout, chunk by chunk.

    Args:
        rule: how; None adds up int32 modulo 2^32 (masked contributions).
        layout: of every contribution, and of the result.
        weights: of every contributor, > 0; only used by the mean.

    Attributes:
        names: of the contributors in the fixed order in which they are combined.
        passes: how often every chunk is needed, 1 or 2; only the last pass reduces.

    Raises:
        MethodError: too few contributions for the rule, or an invalid weight.
    """

    def __init__(self, rule: RuleSettings | None, layout: Layout, weights: Mapping[str, float]) -> None:
        self.names = sorted(weights)
        if not self.names:
            raise MethodError("no contributions: expected at least one")
        self._layout, self._rule, self._weights = layout, rule, weights
        self._compares = rule is not None and update_rule(rule).compares
        self._distances = SquaredDistances(len(self.names))
        if rule is not None:
            require_enough(rule, len(self.names))
        self._formulas = None if self._compares else self._chosen()

    def _chosen(self) -> Formulas | None:
        distances = self._distances.sums if self._compares else None
        contributions = Contributions(tuple(self.names), self._weights, distances)
        return None if self._rule is None else Formulas(self._rule, contributions)

    @property
    def passes(self) -> int:
        """How often every chunk is needed."""
        return 2 if self._compares else 1

    def measure(self, index: int, parts: Sequence[Bytes]) -> None:
        """Takes a chunk of every contribution into account, in the first of two passes; in the order of the file.

        Raises:
            InvalidChunk: one is not valid.
        """
        self._distances.add(self._checked(index, parts), parts)

    def reduce(self, index: int, parts: Sequence[Bytes], into: memoryview) -> bytes:
        """Combines a chunk of every contribution.

        Args:
            index: of the chunk.
            parts: its bytes in every contribution, in the order of `names`.
            into: as many bytes, for the result.

        Returns:
            The hash of the result: a leaf of its hash tree.

        Raises:
            InvalidChunk: one of the chunks is not valid.
        """
        if self._formulas is None:
            self._formulas = self._chosen()
        segments = self._checked(index, parts)
        header = self._layout.header[index * CHUNK : index * CHUNK + len(into)]
        into[: len(header)] = header
        for segment in segments:
            values = [segment.values(part) for part in parts]
            self._combine(values, segment.values(into))
        return leaf(into)

    def _combine(self, values: Sequence[Tensor], into: Tensor) -> None:
        if self._formulas is not None:
            compute_into(self._formulas.of(into), values, [into])
            return
        total = into.numpy().view("uint32")
        total[:] = 0
        for each in values:
            total += each.numpy().view("uint32")

    def _checked(self, index: int, parts: Sequence[Bytes]) -> list[Segment]:
        """The values in a chunk, once it is valid in every contribution."""
        start, count = index * CHUNK, chunk_size(self._layout.size, index)
        for name, part in zip(self.names, parts, strict=True):
            check_chunk(self._layout, index, part, name)
        return self._layout.segments(start, start + count)


def check_chunk(layout: Layout, index: int, chunk: Bytes, whose: str) -> None:
    """Checks a chunk of a state's file: its part of the header, bools, and that all values are finite.

    Raises:
        InvalidChunk: it is not valid; names the contributor and the first tensors that may be meant.
    """
    start, header = index * CHUNK, layout.header[index * CHUNK : (index + 1) * CHUNK]
    if len(chunk) != chunk_size(layout.size, index) or chunk[: len(header)] != header:
        raise InvalidChunk(whose, "the file is not laid out like the model's: use the same model")
    for segment in layout.segments(start, start + len(chunk)):
        values = segment.values(chunk)
        if segment.dtype is torch.bool:
            if values.view(torch.uint8).max() > 1:
                raise InvalidChunk(whose, f"tensor {short(segment.names[0])} has a bool that is neither 0 nor 1")
        elif not is_finite(values):
            raise InvalidChunk(
                whose,
                f"tensor {short(_culprit(layout, segment, start, values))} has values that are not finite: lower the "
                "learning rate or check the data",
            )


def _culprit(layout: Layout, segment: Segment, start: int, values: Tensor) -> str:
    """The name of the first tensor in a segment that is not finite."""
    for entry in layout.entries:
        if entry.name in segment.names:
            first = max(0, entry.start - start - segment.start) // segment.dtype.itemsize
            last = (entry.stop - start - segment.start) // segment.dtype.itemsize
            if not is_finite(values[first:last]):
                return entry.name
    return segment.names[0]
