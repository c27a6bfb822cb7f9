"""Messages by which a blob is fetched: a receiver requests ranges of bytes, and a holder sends them.

None of these is numbered: a lost chunk is requested again, so that it needs no place in a retransmission buffer.
`protocol.chunks` decides which range is requested from which holder.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from protocol.limits import MIB
from protocol.messages.base import Count, Digest, Message

MAX_CHUNK = 1 * MIB
"""Bytes of one `Chunk`."""

MAX_RANGES = 64
"""Ranges of one `ChunkRequest`."""


def _chunk(data: Tensor) -> Tensor:
    if data.dtype is not torch.uint8 or data.dim() != 1 or not 1 <= len(data) <= MAX_CHUNK:
        raise ValueError(f"expected a uint8 tensor of shape (1 to {MAX_CHUNK},)")
    return data


class _BlobMessage(Message):
    """Names a blob: `key`, of `total` bytes."""

    key: Digest
    total: Count


class ChunkRequest(_BlobMessage):
    """Requests ranges, each to be sent as one `Chunk`.

    Attributes:
        ranges: (offset, count): the `count` bytes from `offset` on.
    """

    kind: ClassVar[str] = "chunk_request"
    numbered: ClassVar[bool] = False

    ranges: Annotated[
        tuple[tuple[Count, Annotated[int, Field(ge=1, le=MAX_CHUNK)]], ...], Field(min_length=1, max_length=MAX_RANGES)
    ]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if any(offset + count > self.total for offset, count in self.ranges):
            raise ValueError("expected offset + count <= total in all ranges")
        return self


class Chunk(_BlobMessage):
    """The bytes from `offset` on.

    Attributes:
        data: (n,) uint8, exactly the bytes that a `ChunkRequest` named.
    """

    kind: ClassVar[str] = "chunk"
    numbered: ClassVar[bool] = False

    offset: Count
    data: Annotated[Tensor, AfterValidator(_chunk)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.offset + len(self.data) > self.total:
            raise ValueError("expected offset + len(data) <= total")
        return self


class ChunkUnavailable(_BlobMessage):
    """The sender has no blob of this key and size; another holder must be asked."""

    kind: ClassVar[str] = "chunk_unavailable"
    numbered: ClassVar[bool] = False
