"""What is said is numbered by topic, kept, repeated to whoever missed it, and counted; what is gone is named."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from nodes.publisher import BUFFER_OVERHEAD_BYTES, Publisher
from nodes.transport.backlog import COPIED_BELOW
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Capabilities, Goodbye, Message, ProgressReport, QueryRequest, RetransmitRequest
from protocol.messages.retransmission import Retransmission, RetransmitUnavailable
from protocol.security.authentication import NullSecurity
from protocol.topics import HEARTBEATS, PRESENCE, PROGRESS, inbox

CARD = Capabilities(text="{}", ready=False)


class Deaf:
    """A bus that only remembers what was published."""

    def __init__(self) -> None:
        self.frames: list[list[bytes]] = []

    def publish(self, frames: Sequence[Buffer]) -> None:
        self.frames.append([bytes(frame) for frame in frames])

    def said(self) -> list[Envelope]:
        return [codec.decode(frames) for frames in self.frames]


@pytest.fixture
def bus() -> Deaf:
    return Deaf()


@pytest.fixture
def publisher(bus: Any) -> Publisher:
    made = Publisher(bus, NullSecurity(), "a", 7, "raw")
    made.run = "test"
    return made


def progress(note: str) -> Message:
    return ProgressReport(phase="p", done=0, total=0, values={}, note=note)


def test_numbers_count_what_is_numbered_on_each_topic_from_one(bus: Deaf, publisher: Publisher) -> None:
    for topic, message in (
        (PROGRESS, progress("x")), (PRESENCE, CARD), (PRESENCE, Goodbye(reason="")), (PROGRESS, progress("y")),
    ):  # fmt: skip
        publisher.publish(topic, message)
    assert [(each.topic, each.number) for each in bus.said()] == [
        (PROGRESS, 1), (PRESENCE, 1), (PRESENCE, 0), (PROGRESS, 2),
    ]  # fmt: skip
    assert {(each.run, each.sender, each.incarnation) for each in bus.said()} == {("test", "a", 7)}


def test_messages_of_many_threads_leave_in_the_order_of_their_numbers(bus: Deaf, publisher: Publisher) -> None:
    def publish(note: str) -> None:
        for _ in range(50):
            publisher.publish(PROGRESS, progress(note))
            publisher.latest([note])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(publish, "abcd"))
    assert [each.number for each in bus.said()] == list(range(1, 201))


def test_what_was_sent_is_counted_as_it_left(bus: Deaf, publisher: Publisher) -> None:
    for _ in range(3):
        publisher.publish(PRESENCE, CARD)
    assert publisher.sent == {"capabilities": sum(len(frame) for frames in bus.frames for frame in frames)}


def test_what_is_kept_is_repeated_as_it_was_and_what_is_not_is_named(bus: Deaf, publisher: Publisher) -> None:
    for note in "xyz":
        publisher.publish(PROGRESS, progress(note))
    first = list(bus.frames)
    request = RetransmitRequest(topic=PROGRESS, incarnation=7, first=2, last=6)
    list(publisher.retransmit("b", request, 1, lambda _size: True))
    again = bus.said()[3:]
    assert {each.topic for each in again} == {inbox("b")}
    assert [type(each.message) for each in again] == [Retransmission, Retransmission, RetransmitUnavailable]
    assert [codec.retransmitted_frames(frames) for frames in bus.frames[3:5]] == first[1:]
    assert again[-1].message == RetransmitUnavailable(topic=PROGRESS, first=4, last=6)


def test_what_is_kept_counts_with_what_it_takes_to_keep_it(bus: Deaf, publisher: Publisher) -> None:
    for _ in range(3):
        publisher.publish(PRESENCE, CARD)
    assert publisher.outbox.stored_bytes == 3 * BUFFER_OVERHEAD_BYTES + sum(
        len(frame) for frames in bus.frames for frame in frames
    )


def test_what_is_kept_of_small_tensors_are_their_bytes_and_of_large_ones_views(publisher: Publisher) -> None:
    """A view keeps the whole of its tensor alive, of which a small part may have been sent."""
    small, large = torch.arange(1 << 20)[:4096], torch.arange(COPIED_BELOW // 8)
    query = QueryRequest(query=1, oldest_open=1, task="t", inputs={"s": small, "x": large}, options={}, ttl=5.0)
    publisher.publish("queries/", query)
    _, _, *kept = publisher.outbox.find("queries/", 1) or ()
    assert isinstance(kept[0], bytes)
    assert kept[0] == small.numpy().tobytes()
    assert isinstance(kept[1], memoryview)
    assert kept[1] == large.numpy().data.cast("B")


def test_an_earlier_life_repeats_nothing(bus: Deaf, publisher: Publisher) -> None:
    publisher.publish(PROGRESS, progress("x"))
    request = RetransmitRequest(topic=PROGRESS, incarnation=6, first=1, last=1)
    list(publisher.retransmit("b", request, 1, lambda _size: True))
    assert len(bus.frames) == 1


def test_a_peer_is_told_the_numbers_of_what_is_for_all_and_for_it(publisher: Publisher) -> None:
    for topic in (PRESENCE, inbox("b"), inbox("b"), inbox("c")):
        publisher.publish(topic, CARD)
    assert publisher.latest([]) == {PRESENCE: 1}
    assert publisher.latest(["b"]) == {PRESENCE: 1, inbox("b"): 2}
    beat = codec.decode(publisher.heartbeat(3, publisher.latest(["c"])))
    assert (beat.topic, beat.number) == (HEARTBEATS, 0)
    assert (beat.message.tick, beat.message.latest) == (3, {PRESENCE: 1, inbox("c"): 1})  # type: ignore[attr-defined]
