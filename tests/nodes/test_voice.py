"""What is said is numbered by topic, kept, repeated to whoever missed it, and counted; what is gone is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from nodes.voice import KEEPING, Voice
from protocol import codec
from protocol.codec import Buffer, Envelope
from protocol.messages import Card, Goodbye, Message, Progress, Resend
from protocol.messages.repair import Gone, Resent
from protocol.security import Open
from protocol.topics import PRESENCE, PROGRESS, PULSE, inbox

CARD = Card(text="{}", ready=False)


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
def voice(bus: Any) -> Voice:
    made = Voice(bus, Open(), "a", 7, "raw")
    made.run = "test"
    return made


def progress(note: str) -> Message:
    return Progress(phase="p", done=0, total=0, values={}, note=note)


def test_numbers_count_what_is_numbered_on_each_topic_from_one(bus: Deaf, voice: Voice) -> None:
    for topic, message in (
        (PROGRESS, progress("x")), (PRESENCE, CARD), (PRESENCE, Goodbye(reason="")), (PROGRESS, progress("y")),
    ):  # fmt: skip
        voice.publish(topic, message)
    assert [(each.topic, each.number) for each in bus.said()] == [
        (PROGRESS, 1), (PRESENCE, 1), (PRESENCE, 0), (PROGRESS, 2),
    ]  # fmt: skip
    assert {(each.run, each.sender, each.incarnation) for each in bus.said()} == {("test", "a", 7)}


def test_what_was_sent_is_counted_as_it_left(bus: Deaf, voice: Voice) -> None:
    for _ in range(3):
        voice.publish(PRESENCE, CARD)
    assert voice.sent == {"card": sum(len(frame) for frames in bus.frames for frame in frames)}


def test_what_is_kept_is_repeated_as_it_was_and_what_is_not_is_named(bus: Deaf, voice: Voice) -> None:
    for note in "xyz":
        voice.publish(PROGRESS, progress(note))
    first = list(bus.frames)
    voice.repeat("b", Resend(topic=PROGRESS, incarnation=7, first=2, last=6))
    again = bus.said()[3:]
    assert {each.topic for each in again} == {inbox("b")}
    assert [type(each.message) for each in again] == [Resent, Resent, Gone]
    assert [codec.original(frames) for frames in bus.frames[3:5]] == first[1:]
    assert again[-1].message == Gone(topic=PROGRESS, first=4, last=6)


def test_what_is_kept_counts_with_what_it_takes_to_keep_it(bus: Deaf, voice: Voice) -> None:
    for _ in range(3):
        voice.publish(PRESENCE, CARD)
    assert voice.outbox.held == 3 * KEEPING + sum(len(frame) for frames in bus.frames for frame in frames)


def test_an_earlier_life_repeats_nothing(bus: Deaf, voice: Voice) -> None:
    voice.publish(PROGRESS, progress("x"))
    voice.repeat("b", Resend(topic=PROGRESS, incarnation=6, first=1, last=1))
    assert len(bus.frames) == 1


def test_a_peer_is_told_the_numbers_of_what_is_for_all_and_for_it(voice: Voice) -> None:
    for topic in (PRESENCE, inbox("b"), inbox("b"), inbox("c")):
        voice.publish(topic, CARD)
    assert voice.latest([]) == {PRESENCE: 1}
    assert voice.latest(["b"]) == {PRESENCE: 1, inbox("b"): 2}
    beat = codec.decode(voice.beat(3, voice.latest(["c"])))
    assert (beat.topic, beat.number) == (PULSE, 0)
    assert (beat.message.tick, beat.message.latest) == (3, {PRESENCE: 1, inbox("c"): 1})  # type: ignore[attr-defined]
