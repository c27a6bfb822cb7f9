"""Frames that are not a message, from single wrong fields to noise: each is one kind of error, and bounded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import VERSION, Envelope, decode, encode
from protocol.errors import LimitError, WireError
from protocol.messages import QueryRequest, Retransmission

VECTORS = sorted((Path(__file__).parent.parent / "vectors").glob("*.json"))

Forge = Callable[..., list[bytes]]


def tensor_at(*description: Any) -> dict[str, Any]:
    return {"inputs": {"x": msgpack.ExtType(1, msgpack.packb(description))}}


@pytest.mark.parametrize(
    ("body", "buffers"),
    [
        ({"query": "7"}, ()),
        ({"query": 7.0}, ()),
        ({"query": True}, ()),
        ({"query": -1}, ()),
        ({"query": 2**63}, ()),
        ({"task": b"score"}, ()),
        ({"task": ""}, ()),
        ({"ttl": float("nan")}, ()),
        ({"ttl": float("inf")}, ()),
        ({"ttl": -1.0}, ()),
        ({"ttl": None}, ()),
        ({"extra": 1}, ()),
        ({b"query": 7}, ()),
        ({"inputs": {"x": 1.0}}, ()),
        ({"inputs": {b"x": 1.0}}, ()),
        ({"inputs": []}, ()),
        ({"options": {"o": [1]}}, ()),
        ({"options": {"o": {}}}, ()),
        ({"options": {"o": b""}}, ()),
        ({"options": {"o": msgpack.Timestamp(0)}}, ()),
        ({"options": {"o": msgpack.ExtType(2, b"")}}, ()),
        ({"options": {"o": msgpack.ExtType(1, msgpack.packb(("int8", (1,), "raw", 0)))}}, (b"a",)),
        ({"inputs": {"x": msgpack.ExtType(1, b"")}}, ()),
        ({"inputs": {"x": msgpack.ExtType(1, b"\xc1")}}, ()),
        ({"inputs": {"x": msgpack.ExtType(1, b"\x91" * 200)}}, ()),
        ({"inputs": {"x": msgpack.ExtType(1, b"\x90" * 300)}}, ()),
        (tensor_at("int8", (1,), "raw"), (b"a",)),
        (tensor_at("int8", (1,), "raw", 0, 0), (b"a",)),
        (tensor_at("int8", (1,), "raw", 0), ()),
        (tensor_at("int8", (1,), "raw", 1), (b"a",)),
        (tensor_at("int8", (1,), "raw", -1), (b"a",)),
        (tensor_at("int8", (1,), "raw", 0.0), (b"a",)),
        (tensor_at("int8", (1,), "raw", False), (b"a",)),
        (tensor_at("int8", (1,), "raw", "0"), (b"a",)),
        (tensor_at("int8", (1,), "raw", 0), (b"",)),
        (tensor_at("int8", (1,), "raw", 0), (b"ab",)),
        (tensor_at("int8", (1,), "raw", 0), (b"a", b"b")),
        (tensor_at("qint8", (1,), "raw", 0), (b"a",)),
        (tensor_at("int8", (-1,), "raw", 0), (b"a",)),
        (tensor_at("int8", (1,), "zip", 0), (b"a",)),
        ({"inputs": {name: tensor_at("int8", (1,), "raw", 0)["inputs"]["x"] for name in "xy"}}, (b"a",)),
        ({}, (b"a",)),
    ],
)
def test_a_body_that_is_wrong_is_refused(body: dict[Any, Any], buffers: tuple[bytes, ...], forged: Forge) -> None:
    assert isinstance(decode(forged()).message, QueryRequest)
    with pytest.raises(WireError) as refused:
        decode(forged(buffers, body=body))
    assert len(str(refused.value)) < 600


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(WireError, match="field='last'"):
        decode(
            [b"to/a/", msgpack.packb((VERSION, "retransmit_unavailable", "r", "b", 1, 0, {"topic": "a/", "first": 1}))]
        )


@pytest.mark.parametrize("topic", [b"", b"/", b"queries", b"queries//", b"\xff/", "ü/".encode(), b"a" * 200 + b"/"])
def test_a_wrong_topic_is_refused(topic: bytes, forged: Forge) -> None:
    with pytest.raises(WireError):
        decode(forged(topic=topic))


def test_an_unknown_kind_is_named(forged: Forge) -> None:
    with pytest.raises(WireError, match="kind='gossip'"):
        decode(forged(kind="gossip"))


def test_every_truncation_is_refused(question: Envelope) -> None:
    frames = [bytes(frame) for frame in encode(question)]
    for index, frame in enumerate(frames):
        for length in range(len(frame)):
            with pytest.raises(WireError):
                decode([*frames[:index], frame[:length], *frames[index + 1 :]])
    for count in range(len(frames)):
        with pytest.raises(WireError):
            decode(frames[:count])


def mutated(frames: list[bytes], dice: random.Random) -> list[bytes]:
    """One to three random changes: to bits, bytes, lengths, or to the order and number of frames."""
    frames = list(frames)
    for _ in range(dice.randint(1, 3)):
        index = dice.randrange(len(frames))
        frame, at = bytearray(frames[index]), dice.randrange(len(frames[index]) + 1)
        match dice.randrange(7):
            case 0 if at < len(frame):
                frame[at] ^= 1 << dice.randrange(8)
            case 1 if at < len(frame):
                frame[at] = dice.choice([0x00, 0x7F, 0x80, 0x90, 0xC1, 0xC4, 0xC9, 0xD4, 0xDB, 0xDD, 0xDF, 0xFF])
            case 2:
                del frame[at:]
            case 3:
                frame[at:at] = dice.randbytes(dice.randint(1, 6))
            case 4:
                del frame[at : at + dice.randint(1, 4)]
            case 5:
                frames.insert(dice.randrange(len(frames) + 1), dice.choice(frames))
                continue
            case 6 if len(frames) > 1:
                del frames[index]
                continue
        frames[index] = bytes(frame)
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_are_rejected_or_make_a_valid_message(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - replayable, not secret
    golden = [[bytes.fromhex(frame) for frame in json.loads(path.read_text())["frames"]] for path in VECTORS]
    refused = 0
    for _ in range(25_000):
        frames = mutated(dice.choice(golden), dice)
        try:
            envelope = decode(frames)
        except WireError:
            refused += 1
        else:
            assert isinstance(envelope.message, Retransmission) or encode(envelope)
    assert 15_000 < refused < 25_000


@given(frames=st.lists(st.binary(max_size=64), max_size=5))
def test_noise_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


def test_limits_are_an_error_of_their_own(forged: Forge) -> None:
    with pytest.raises(LimitError):
        decode(forged(body={"task": "x" * 300_000}))
    with pytest.raises(WireError) as refused:
        decode(forged(body={"task": "x" * 200_000}))
    assert not isinstance(refused.value, LimitError)
    assert len(str(refused.value)) < 300
