"""What the tests of the protocol share: a question to send, envelopes to compare, headers to forge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import torch
from torch import Tensor

from protocol.codec import VERSION, Envelope
from protocol.messages import QueryRequest


@pytest.fixture
def question() -> Envelope:
    """A query with two tensors and an option of every type."""
    message = QueryRequest(
        query=7,
        oldest_open=7,
        task="score",
        inputs={"x": torch.linspace(-1, 1, 8).view(2, 1, 2, 2), "labels": torch.tensor([3, 9])},
        options={"t": 0.5, "probe_seed": 11, "divergence": True, "mode": "plain", "guidance": None},
        ttl=30.0,
    )
    return Envelope("queries/", "digits", "driver", 1234, 42, message)


@pytest.fixture
def identical() -> Callable[[object, object], bool]:
    """Compares to the bit: tensors by dtype, shape and bytes, and floats that are no number with each other."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.dtype, tuple(value.shape), bytes(value.contiguous().view(-1).view(torch.uint8).tolist())
        if isinstance(value, Envelope):
            top = (value.topic, value.run, value.sender, value.incarnation, value.number)
            return (*top, type(value.message), plain(dict(value.message)))
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return (type(value), repr(value))

    return lambda one, other: plain(one) == plain(other)


@pytest.fixture
def forged(question: Envelope) -> Callable[..., list[bytes]]:
    """Frames that say whatever a test wants: fields of the header by name, fields of its body by `body`."""

    def forge(buffers: tuple[bytes, ...] = (), topic: bytes = b"queries/", **changes: Any) -> list[bytes]:
        body = {"query": 7, "oldest_open": 7, "task": "score", "inputs": {}, "options": {}, "ttl": 30.0}
        fields = {
            "version": VERSION,
            "kind": "query_request",
            "run": "digits",
            "sender": "driver",
            "incarnation": 1,
            "number": 1,
            "body": body | changes.pop("body", {}),
        }
        return [topic, msgpack.packb(tuple((fields | changes).values())), *buffers]

    return forge
