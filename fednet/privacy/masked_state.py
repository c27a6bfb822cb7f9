"""A state's change under its masks, and the next state from the sum of such changes: piece by piece, never as a whole.

A masked contribution has one int32 for each real coordinate of the model, over all tensors in sorted order of names. A
piece is quantised, masked and written, or read, unmasked and added to the base, before the next one is looked at, so
that it stays in the processor's cache; the bits do not depend on where pieces begin. Knows no network and no keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.federated.blocks import coordinates
from fednet.federated.packed_state import PackedState
from fednet.federated.state_file import Layout
from fednet.federated.state_storage import WritableStorage
from fednet.privacy.quantise import change_between, changed

MASKED_TENSOR = "masked"
"""The one tensor of a masked contribution: int32 (coordinates,)."""

PIECE = 1 << 15
"""Coordinates that are worked on at once, at most."""

Allocate = Callable[[int], WritableStorage]


@dataclass(frozen=True)
class Piece:
    """Some coordinates of one tensor.

    Attributes:
        name: of the tensor.
        start: the first of its coordinates.
        stop: the one after the last.
        offset: of the first among those of the whole state.
    """

    name: str
    start: int
    stop: int
    offset: int


def masked_layout(model: ModelState) -> Layout:
    """The layout of masked contributions to a model."""
    return Layout.of({MASKED_TENSOR: (torch.int32, (sum(len(coordinates(tensor)) for tensor in model.values()),))})


def masked_state(
    state: ModelState, base: ModelState, clip: float, mask: Callable[[Tensor], Tensor], allocate: Allocate
) -> PackedState:
    """What an update changes, under its masks.

    Args:
        state: the update.
        base: what it began from.
        clip: what the quantiser will clip to.
        mask: quantises and masks the next piece: float64 (n,) -> int32 (n,); called in order.
        allocate: makes room for a file of so many bytes.
    """
    layout = masked_layout(base)
    storage = allocate(layout.size)
    storage.write(0, layout.header)
    for piece in _pieces(base):
        change = change_between(_part(state, piece), _part(base, piece), piece.name, clip)
        storage.write(len(layout.header) + 4 * piece.offset, _bytes(mask(change)))
    return PackedState.laid_out(layout, storage)


def unmasked_state(
    total: Tensor, base: ModelState, clip: float, mean: Callable[[Tensor], Tensor], allocate: Allocate
) -> PackedState:
    """The base plus the mean change.

    Args:
        total: int32 (coordinates,), the sum of masked contributions.
        base: what they began from.
        clip: what they were clipped to.
        mean: unmasks and divides the next piece of the sum: int32 (n,) -> float64 (n,), new; called in order.
        allocate: makes room for a file of so many bytes.
    """
    layout = Layout.of_state(base)
    storage, starts = allocate(layout.size), {entry.name: entry.start for entry in layout.entries}
    storage.write(0, layout.header)
    for piece in _pieces(base):
        change = mean(total[piece.offset : piece.offset + piece.stop - piece.start])
        values = changed(_part(base, piece), change, piece.name, clip)
        storage.write(starts[piece.name] + piece.start * values.itemsize, _bytes(values))
    return PackedState.laid_out(layout, storage)


def _pieces(model: ModelState) -> Iterator[Piece]:
    """All coordinates of a model, in sorted order of names."""
    offset = 0
    for name in sorted(model):
        count = len(coordinates(model[name]))
        for start in range(0, count, PIECE):
            stop = min(start + PIECE, count)
            yield Piece(name, start, stop, offset + start)
        offset += count


def _part(state: ModelState, piece: Piece) -> Tensor:
    return coordinates(state[piece.name])[piece.start : piece.stop]


def _bytes(values: Tensor) -> memoryview:
    return values.contiguous().view(torch.uint8).numpy().data
