"""Lies: every kind of the protocol is reached, they are well-formed, differ, and the same dice make the same ones."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocol import codec
from protocol.codec import Envelope
from protocol.messages import KINDS, Message
from protocol.topics import KINDS_BY_TOPIC, inbox
from tests.byzantine.mutation import Mutator, vectors

NAMES = ("a", "b", "c")
BOUND = {"round_open": {"number", "base"}}
"""Fields that follow from a record in the same message: they are other ones where other records were seen."""


def mutator_of(seed: int) -> Mutator:
    mutator = Mutator(random.Random(seed), NAMES, lambda _record: {"c": b""})  # noqa: S311 - replayable lies
    for told in vectors().values():
        for each in told:
            mutator.see(each)
    return mutator


def made(kind: str, seed: int = 0, count: int = 10) -> list[Message]:
    mutator = mutator_of(seed)
    return [mutator.invented(kind) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_kind_is_lied_about(kind: str) -> None:
    mutator, told, lies = mutator_of(0), vectors()[kind], list[Any]()
    for place in range(60 * len(KINDS[kind].model_fields)):  # lies upon lies: some fields depend on others
        lies.append(mutator.changed(told[place % len(told)] if place % 8 == 0 else lies[-1]))
    assert {type(lie) for lie in lies} <= {KINDS[kind]}
    for name in KINDS[kind].model_fields.keys() - BOUND.get(kind, set()):
        assert len({repr(getattr(lie, name)) for lie in lies}) > 1, f"{name} is never changed"


@pytest.mark.parametrize("kind", KINDS)
def test_lies_can_be_sent(kind: str) -> None:
    if kind == "retransmission":
        pytest.skip("it is frames, not a message; see the lies on the bus")
    (topic, *_) = [topic for topic, kinds in KINDS_BY_TOPIC.items() if kind in kinds]
    topic = inbox("a") if topic == "to/" else topic
    for lie in made(kind):
        envelope = Envelope(topic, "run", "c", 1, int(lie.numbered), lie)
        if lie.may_be_from("c", 1):
            assert codec.decode(codec.encode(envelope)).message.kind == kind


def test_the_same_dice_make_the_same_lies() -> None:
    for kind in KINDS:
        assert repr(made(kind, seed=7)) == repr(made(kind, seed=7))
        assert repr(made(kind, seed=7)) != repr(made(kind, seed=8)) or not KINDS[kind].model_fields
