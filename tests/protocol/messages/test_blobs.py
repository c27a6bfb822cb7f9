"""Which ranges of a blob can be requested and sent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from protocol.codec import Envelope, decode, encode
from protocol.messages import Chunk, ChunkRequest, ChunkUnavailable
from protocol.messages.blobs import MAX_CHUNK, MAX_RANGES

KEY = "0123456789abcdef" * 4
LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("total", "offset", "count"), [(1, 0, 1), (LARGEST, LARGEST - 7, 7), (MAX_CHUNK, 0, MAX_CHUNK), (9, 8, 1)]
)
def test_ranges_within_a_blob(total: int, offset: int, count: int) -> None:
    assert ChunkRequest(key=KEY, total=total, ranges=((0, 1), (offset, count))).ranges[1] == (offset, count)
    data = torch.zeros(count, dtype=torch.uint8)
    sent = Chunk(key=KEY, total=total, offset=offset, data=data)
    arrived = decode([bytearray(frame) for frame in encode(Envelope("to/a/", "r", "b", 1, 0, sent), "int8")]).message
    assert isinstance(arrived, Chunk)
    assert (arrived.key, arrived.total, arrived.offset) == (KEY, total, offset)
    assert torch.equal(arrived.data, data)


@pytest.mark.parametrize(
    ("total", "offset", "count"),
    [(0, 0, 1), (1, 0, 2), (9, 9, 1), (9, -1, 1), (2**63, 0, 1), (2 * MAX_CHUNK, 0, MAX_CHUNK + 1), (9, 1, 0)],
)
def test_ranges_beyond_a_blob(total: int, offset: int, count: int) -> None:
    with pytest.raises(ValidationError):
        ChunkRequest(key=KEY, total=total, ranges=((0, 1), (offset, count)))
    with pytest.raises(ValidationError):
        Chunk(key=KEY, total=total, offset=offset, data=torch.zeros(count, dtype=torch.uint8))


@pytest.mark.parametrize("number", [0, MAX_RANGES + 1])
def test_ranges_of_one_request_are_bounded(number: int) -> None:
    with pytest.raises(ValidationError):
        ChunkRequest(key=KEY, total=1, ranges=((0, 1),) * number)


@pytest.mark.parametrize("data", [torch.zeros(3), torch.zeros(1, 3, dtype=torch.uint8), b"abc", torch.tensor(True)])
def test_a_chunk_is_flat_bytes(data: Any) -> None:
    with pytest.raises(ValidationError):
        Chunk(key=KEY, total=3, offset=0, data=data)


@pytest.mark.parametrize("key", ["", "ab", KEY[:-1], KEY + "0", KEY.upper(), KEY[:-1] + "g", KEY + "\n", 7])
def test_invalid_keys(key: Any) -> None:
    with pytest.raises(ValidationError):
        ChunkUnavailable(key=key, total=1)
    with pytest.raises(ValidationError):
        ChunkRequest(key=key, total=1, ranges=((0, 1),))
