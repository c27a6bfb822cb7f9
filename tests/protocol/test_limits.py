"""Nothing grows beyond its limit: it is refused before memory is taken, and senders keep to the same limits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import msgpack
import pytest
import torch

from protocol.codec import Envelope, decode, encode, encode_retransmission, retransmitted_frames
from protocol.errors import EncodingError, LimitError, WireError
from protocol.limits import DEFAULT, MIB, Limits
from protocol.messages import Heartbeat, Hello, PeerInfo, ProgressReport, QueryAnswer
from protocol.messages.base import MAX_MEMBERS, MAX_TENSORS, MAX_TOPICS, MAX_VALUES
from protocol.security.authentication import SIGNATURE_FRAME_BYTES
from protocol.security.group_encryption import AEAD_HEADER_BYTES
from protocol.tensors import Encoding

Forge = Callable[..., list[bytes]]


def answer(*tensors: torch.Tensor) -> Envelope:
    outputs = {f"t{index}": tensor for index, tensor in enumerate(tensors)}
    return Envelope("to/a/", "r", "b", 1, 1, QueryAnswer(query=1, outputs=outputs, seconds=0.0))


def refused_by_both(envelope: Envelope, limits: Limits, encoding: Encoding = "raw") -> None:
    """Neither does the sender encode it, nor the receiver decode it."""
    with pytest.raises(EncodingError):
        encode(envelope, encoding, limits)
    with pytest.raises(LimitError):
        decode(encode(envelope, encoding), replace(limits, max_message_bytes=limits.max_message_bytes - 1024))


def test_the_number_of_tensors_and_frames_is_limited() -> None:
    two = answer(torch.zeros(2), torch.zeros(2))
    assert decode(encode(two, limits=Limits(max_tensors=2)), Limits(max_tensors=2))
    refused_by_both(two, Limits(max_tensors=1))
    assert encode(two, limits=Limits(max_frames=9))
    with pytest.raises(EncodingError, match="too many tensors"):
        encode(two, limits=Limits(max_frames=8))
    with pytest.raises(LimitError, match="too many frames"):
        decode(encode(two), Limits(max_frames=3))


def test_a_message_of_the_most_tensors_can_be_retransmitted() -> None:
    frames = encode(answer(*[torch.tensor(value) for value in range(MAX_TENSORS)]))
    again = encode_retransmission(frames, "r", "b", 1, "to/a/")
    assert len(again) + 3 == DEFAULT.max_frames, "two signatures and an AEAD header still fit"
    assert decode(again)
    assert len(dict(decode(retransmitted_frames(again)).message)["outputs"]) == MAX_TENSORS


def test_the_size_of_a_tensor_is_limited() -> None:
    refused_by_both(answer(torch.zeros(65, dtype=torch.uint8)), Limits(max_frame_bytes=64))
    assert encode(answer(torch.zeros(64, dtype=torch.uint8)), limits=Limits(max_frame_bytes=64))


def test_the_size_of_a_message_is_limited() -> None:
    refused_by_both(answer(*[torch.zeros(256)] * 4), Limits(max_message_bytes=4096))


@pytest.mark.parametrize("encoding", ["bf16", "fp16", "int8"])
def test_what_grows_when_it_is_decoded_is_limited_by_what_it_becomes(encoding: Encoding) -> None:
    grows = answer(torch.zeros(512, dtype=torch.float64))
    assert sum(map(len, encode(grows, encoding))) < 2048
    refused_by_both(grows, Limits(max_message_bytes=4096), encoding)
    refused_by_both(grows, Limits(max_frame_bytes=4095), encoding)


def test_dimensions_are_limited() -> None:
    deep = answer(torch.zeros((1,) * 8))
    assert decode(encode(deep))
    with pytest.raises(EncodingError):
        encode(deep, limits=Limits(max_dims=7))
    with pytest.raises(WireError):
        decode(encode(deep), Limits(max_dims=7))


def test_every_message_leaves_room_for_its_retransmission() -> None:
    limits = Limits(max_message_bytes=20_000)
    for size in range(11_000, 20_000):
        try:
            frames = encode(answer(torch.zeros(size, dtype=torch.uint8)), limits=limits)
        except EncodingError:
            break
    assert size > 11_500
    run, name = "r" * 64, "b" * 32
    assert decode(frames, limits)
    again = encode_retransmission(frames, run, name, 2**63 - 1, f"to/{'a' * 32}/")
    closing = 2 * SIGNATURE_FRAME_BYTES + AEAD_HEADER_BYTES + 16 * DEFAULT.max_frames
    assert sum(map(len, again)) + closing <= limits.max_message_bytes


def test_the_largest_messages_about_the_run_fit_their_header() -> None:
    address = "tcp://" + "h" * 168 + ":65535"
    peers = [
        PeerInfo(
            name=f"{index:032d}",
            incarnation=2**63 - 1,
            role="monitor",
            address=address,
            heartbeat_address=address,
            proof=b"\xff" * 64,
        )
        for index in range(MAX_MEMBERS + 1)
    ]
    latest = {f"{'a' * 32}/{'b' * 32}/{index:032d}/": 2**63 - 1 for index in range(MAX_TOPICS)}
    values = {chr(0x20000 + index) * 64: 0.5 for index in range(MAX_VALUES)}
    hello = Hello(peer=peers[0], receiver_incarnation=2**63 - 1, members=tuple(peers[1:]), latest=latest)
    progress = ProgressReport(phase="\U00010000" * 64, done=1, total=1, values=values, note="\U00010000" * 200)
    for topic, number, message in (
        ("to/" + "c" * 32 + "/", 0, hello),
        ("heartbeat/", 0, Heartbeat(tick=0, latest=latest)),
        ("progress/", 1, progress),
    ):
        frames = encode(Envelope(topic, "r" * 64, peers[0].name, 2**63 - 1, number, message))
        assert decode(frames).message == message


def announced(opening: bytes, depth: int) -> bytes:
    """A header whose body announces more than there is, within itself `depth` times."""
    return msgpack.packb((1, "query_request", "r", "a", 1, 1, {}))[:-1] + b"\x81\xa1a" + opening * depth


HUGE = {
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "string": b"\xdb\xff\xff\xff\xff",
    "binary": b"\xc6\xff\xff\xff\xff",
    "extension": b"\xc9\xff\xff\xff\xff\x01",
    "allowed array": b"\xdc\x04\x00",
    "allowed map": b"\xde\x04\x00\xa1a",
}


def peak_of(frames: list[bytes], limits: Limits = DEFAULT) -> int:
    """Bytes that Python takes at most while it refuses these frames."""
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(frames, limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [1, 2, 1000])
@pytest.mark.parametrize("what", HUGE)
def test_what_is_only_announced_takes_no_memory(what: str, depth: int) -> None:
    assert peak_of([b"queries/", announced(HUGE[what], depth)]) < MIB // 4


@pytest.mark.parametrize("filler", [b"\x80", b"\x90", b"\xc0", b"\xa0", b"\xcb" + bytes(8), b"\x91\x90"])
def test_a_full_header_takes_a_bounded_multiple_of_its_bytes(filler: bytes) -> None:
    count = min(DEFAULT.max_items, 1024)
    group = b"\xdc" + count.to_bytes(2) + filler * count
    groups = (DEFAULT.max_header_bytes - 64) // len(group)
    header = announced(b"\xdc" + min(groups, count).to_bytes(2) + group * min(groups, count), 1)
    assert len(header) <= DEFAULT.max_header_bytes
    assert peak_of([b"queries/", header]) < 32 * MIB


def test_a_tensor_that_is_only_announced_takes_no_memory(forged: Forge) -> None:
    for dtype, shape, encoding in (
        ("float64", (2**40,), "raw"),
        ("float64", (2**24,), "int8"),
        ("bool", (2**30,), "raw"),
    ):
        tensor = msgpack.ExtType(1, msgpack.packb((dtype, shape, encoding, 0)))
        assert peak_of(forged((b"\0" * 64,), body={"inputs": {"x": tensor}})) < MIB // 4


def test_frames_are_counted_before_they_are_looked_at() -> None:
    with pytest.raises(LimitError, match="frames"):
        decode([b"queries/"] * 10_000)
    with pytest.raises(LimitError, match="too large"):
        decode([b"queries/", b"", bytes(2000)], Limits(max_frame_bytes=1999))
    with pytest.raises(LimitError, match="too large"):
        decode([b"queries/", b"", bytes(2000)], Limits(max_message_bytes=2000))
    with pytest.raises(LimitError, match="topic is too long"):
        decode([b"a/" * 1000, b""])
