"""Bytes under a key, asked for and sent piece by piece: whoever wants them decides how much is on its way.

None of these is numbered: what was lost is wanted again, and large pieces need no second place in a repair buffer.
`protocol.chunks` decides what is asked of whom.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from protocol.limits import MIB
from protocol.messages.base import Count, Message
from protocol.topics import LARGEST

MAX_CHUNK = 1 * MIB
"""How many bytes one `ChunkRequest` asks for and one `Chunk` brings."""

Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""What bytes are asked for by, 64 lower-case hexadecimal digits; the protocol does not look into how it was made."""


def _piece(data: Tensor) -> Tensor:
    if data.dtype is not torch.uint8 or data.dim() != 1 or not 1 <= len(data) <= MAX_CHUNK:
        raise ValueError(f"expected a uint8 tensor of shape (1 to {MAX_CHUNK},)")
    return data


class _BlobMessage(Message):
    """Says which bytes are meant: those under `key`, if they are `total` bytes."""

    key: Key
    total: Count


class ChunkRequest(_BlobMessage):
    """Asks for the `count` bytes from `offset` on."""

    kind: ClassVar[str] = "chunk_request"
    numbered: ClassVar[bool] = False

    offset: Count
    count: Annotated[int, Field(ge=1, le=MAX_CHUNK)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.offset + self.count > min(self.total, LARGEST):
            raise ValueError("expected offset + count <= total")
        return self


class Chunk(_BlobMessage):
    """The bytes from `offset` on.

    Attributes:
        data: (n,) uint8, just the bytes that a `ChunkRequest` asked for.
    """

    kind: ClassVar[str] = "chunk"
    numbered: ClassVar[bool] = False

    offset: Count
    data: Annotated[Tensor, AfterValidator(_piece)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.offset + len(self.data) > self.total:
            raise ValueError("expected offset + len(data) <= total")
        return self


class ChunkUnavailable(_BlobMessage):
    """The sender has no `total` bytes under this key: another must be asked."""

    kind: ClassVar[str] = "chunk_unavailable"
    numbered: ClassVar[bool] = False
