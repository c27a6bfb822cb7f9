"""Signed messages: what is signed is believed, and nothing else, whatever is done to it on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol.codec import Envelope
from protocol.errors import AuthenticationError, WireError
from protocol.limits import DEFAULT
from protocol.messages import Goodbye, Heartbeat, Hello, Message, PeerInfo, QueryAnswer, Retransmission, Welcome
from protocol.security.authentication import SIGNATURE_FRAME_BYTES, MessageAuthenticator, NullSecurity, may_subscribe
from protocol.security.keys import Keyring, PrivateKeys

ANNA, BEN, EVE, STRANGER = (PrivateKeys.make(name) for name in ("anna", "ben", "eve", "stranger"))
EVERYBODY = [keys.public for keys in (ANNA, BEN, EVE)]


def ring(own: PrivateKeys) -> Keyring:
    return Keyring.of(own, EVERYBODY)


def info(name: str, incarnation: int = 1) -> PeerInfo:
    address = f"memory://{name}"
    return PeerInfo(name=name, incarnation=incarnation, role="client", address=address, heartbeat_address=address)


class Voice:
    """Somebody who speaks to ben, whose incarnation is 100."""

    def __init__(self, keys: PrivateKeys, incarnation: int = 1, name: str = "") -> None:
        self.guard = MessageAuthenticator(ring(keys), incarnation)
        self.name, self.incarnation = name or keys.name, incarnation

    def plain(self, message: Message, topic: str = "to/ben/", number: int = 0) -> list[codec.Buffer]:
        return codec.encode(Envelope(topic, "run", self.name, self.incarnation, number, message))

    def say(self, message: Message, topic: str = "to/ben/", number: int = 0) -> list[codec.Buffer]:
        return self.guard.sign(self.plain(message, topic, number))

    def hello(self, receiver: int = 100) -> list[codec.Buffer]:
        peer = self.guard.sign_peer_info(info(self.name, self.incarnation))
        return self.say(Hello(peer=peer, receiver_incarnation=receiver, members=(), latest={}))


ANSWER = QueryAnswer(query=1, outputs={"x": torch.arange(100.0), "y": torch.tensor(3)}, seconds=0.0)


@pytest.fixture
def ben() -> MessageAuthenticator:
    return MessageAuthenticator(ring(BEN), 100)


@pytest.fixture
def anna(ben: MessageAuthenticator) -> Voice:
    """Anna, whom ben has heard."""
    voice = Voice(ANNA)
    ben.read(voice.hello(), DEFAULT)
    return voice


def refused(guard: MessageAuthenticator, frames: Sequence[Any], **how: bool) -> str:
    with pytest.raises(AuthenticationError) as raised:
        guard.read(frames, DEFAULT, **how)
    return raised.value.kind


class TestSigning:
    def test_what_is_signed_arrives_as_it_was(self, ben: MessageAuthenticator, anna: Voice) -> None:
        heard = ben.read(anna.say(ANSWER, number=1), DEFAULT)
        assert heard.envelope.sender == "anna"
        assert torch.equal(dict(heard.envelope.message)["outputs"]["x"], torch.arange(100.0))
        assert [bytes(frame) for frame in heard.frames] == [bytes(frame) for frame in anna.plain(ANSWER, number=1)]

    def test_it_costs_one_frame(self, anna: Voice) -> None:
        plain, signed = anna.plain(ANSWER, number=1), anna.say(ANSWER, number=1)
        assert len(signed) == len(plain) + 1
        assert len(signed[-1]) == SIGNATURE_FRAME_BYTES == 112

    @pytest.mark.parametrize("frame", range(5))
    def test_no_byte_of_any_frame_can_be_changed(self, ben: MessageAuthenticator, anna: Voice, frame: int) -> None:
        frames = [bytes(each) for each in anna.say(ANSWER, number=1)]
        for place in range(len(frames[frame])):
            changed = bytearray(frames[frame])
            changed[place] ^= 1
            assert refused(ben, [*frames[:frame], bytes(changed), *frames[frame + 1 :]]) in {"tampered", "unknown key"}
        assert ben.read(frames, DEFAULT), "and none of the attempts has used it up"

    def test_no_byte_can_move_from_one_frame_to_the_next(self, ben: MessageAuthenticator, anna: Voice) -> None:
        topic, header, x, y, seal = (bytes(each) for each in anna.say(ANSWER, number=1))
        for frames in (
            [topic, header, x[:-4], x[-4:] + y, seal],
            [topic, header, x + y, b"", seal],
            [topic, header, y, x, seal],
            [topic, header, x, seal],
            [topic, header, x, y, b"", seal],
        ):
            assert refused(ben, frames) == "tampered"

    def test_it_cannot_be_said_on_another_topic(self, ben: MessageAuthenticator, anna: Voice) -> None:
        _, *rest = anna.say(ANSWER, topic="to/eve/", number=1)
        assert refused(ben, [b"to/ben/", *rest]) == "tampered"

    @given(data=st.data())
    @settings(max_examples=60)
    def test_whatever_comes_is_refused_with_one_kind_of_error(self, data: st.DataObject) -> None:
        guard, frames = MessageAuthenticator(ring(BEN), 100), Voice(ANNA).hello()
        junk = data.draw(
            st.lists(st.sampled_from([bytes(each) for each in frames]) | st.binary(max_size=120), max_size=6)
        )
        if junk != [bytes(each) for each in frames]:
            with pytest.raises(WireError):
                guard.read(junk, DEFAULT)


class TestNames:
    def test_a_key_that_is_not_trusted_is_named_by_its_digits(self, ben: MessageAuthenticator) -> None:
        stranger = Voice(EVE)
        stranger.guard = MessageAuthenticator(Keyring.of(STRANGER, EVERYBODY), 1)
        assert refused(ben, stranger.hello()) == "unknown key"

    def test_nobody_can_speak_for_another(self, ben: MessageAuthenticator, anna: Voice) -> None:
        assert refused(ben, Voice(EVE, name="anna").say(Goodbye(reason=""))) == "stolen name"

    def test_nor_for_another_life_of_its_own(self, ben: MessageAuthenticator, anna: Voice) -> None:
        anna.incarnation = 2
        assert refused(ben, anna.say(Goodbye(reason=""))) == "stolen name"

    def test_who_does_not_sign_is_refused(self, ben: MessageAuthenticator, anna: Voice) -> None:
        assert refused(ben, anna.plain(ANSWER, number=1)) == "unsigned"

    def test_an_introduction_is_everybodys_own_word(self, ben: MessageAuthenticator) -> None:
        true = MessageAuthenticator(ring(ANNA), 7).sign_peer_info(info("anna", 7))
        for false in (
            info("anna", 7),
            MessageAuthenticator(ring(EVE), 7).sign_peer_info(info("anna", 7)),
            true.model_copy(update={"incarnation": 8}),
            true.model_copy(update={"address": "memory://eve"}),
            true.model_copy(update={"heartbeat_address": "memory://eve"}),
            true.model_copy(update={"role": "guest"}),
        ):
            assert ben.verified_peers([false, true]) == (true,)
        assert (
            ben.verified_peers([MessageAuthenticator(Keyring.of(STRANGER, []), 7).sign_peer_info(info("stranger", 7))])
            == ()
        )


class TestReplays:
    @pytest.mark.parametrize(
        "message", [Goodbye(reason=""), Welcome(receiver_incarnation=100), ANSWER], ids=lambda each: each.kind
    )
    def test_nothing_is_heard_twice(self, ben: MessageAuthenticator, anna: Voice, message: Message) -> None:
        frames = anna.say(message, number=int(message.numbered))
        assert ben.read(frames, DEFAULT)
        assert refused(ben, frames) == "replayed"

    def test_order_does_not_matter(self, ben: MessageAuthenticator, anna: Voice) -> None:
        first, second = anna.say(Goodbye(reason="1")), anna.say(Goodbye(reason="2"))
        assert ben.read(second, DEFAULT)
        assert ben.read(first, DEFAULT)

    def test_heartbeats_keep_their_own_order(self, ben: MessageAuthenticator, anna: Voice) -> None:
        early = anna.say(Goodbye(reason="queued behind something large"))
        for tick in range(5000):
            beat = anna.say(Heartbeat(tick=tick, latest={}), topic="heartbeat/")
        assert ben.read(beat, DEFAULT)
        assert refused(ben, beat) == "replayed"
        assert ben.read(early, DEFAULT)

    def test_what_was_said_to_an_earlier_life_of_the_receiver_is_not_heard(self, anna: Voice) -> None:
        recorded = [anna.hello(), anna.say(Welcome(receiver_incarnation=100)), anna.say(ANSWER, number=1)]
        reborn = MessageAuthenticator(ring(BEN), 200)
        assert [refused(reborn, frames) for frames in recorded] == ["early"] * 3
        assert reborn.read(anna.hello(receiver=200), DEFAULT)
        assert [refused(reborn, frames) for frames in recorded] == ["replayed"] * 3

    def test_a_welcome_proves_a_life_as_well(self, ben: MessageAuthenticator) -> None:
        anna = Voice(ANNA)
        assert ben.read(anna.say(Welcome(receiver_incarnation=100)), DEFAULT)
        assert ben.read(anna.say(ANSWER, number=1), DEFAULT)

    def test_a_hello_that_comes_after_the_welcome_that_followed_it_is_heard(self, ben: MessageAuthenticator) -> None:
        anna = Voice(ANNA)
        hello, welcome = anna.hello(), anna.say(Welcome(receiver_incarnation=100))
        assert ben.read(welcome, DEFAULT)
        assert ben.read(hello, DEFAULT)

    def test_an_earlier_life_of_the_sender_has_ended_with_the_next(
        self, ben: MessageAuthenticator, anna: Voice
    ) -> None:
        assert ben.read(Voice(ANNA, incarnation=2).hello(), DEFAULT)
        assert refused(ben, anna.say(ANSWER, number=1)) == "replayed"
        assert refused(ben, anna.hello()) == "replayed"

    def test_what_is_asked_for_again_may_have_been_heard(self, ben: MessageAuthenticator, anna: Voice) -> None:
        first = anna.say(ANSWER, topic="rounds/", number=1)
        assert ben.read(first, DEFAULT)
        again = anna.guard.sign(codec.encode_retransmission(first, "run", "anna", 1, "to/ben/"))
        heard = ben.read(again, DEFAULT)
        assert isinstance(heard.envelope.message, Retransmission)
        inner = ben.read(codec.retransmitted_frames(heard.frames), DEFAULT, again=True)
        assert inner.envelope.topic == "rounds/"
        assert [bytes(each) for each in codec.retransmitted_frames(heard.frames)] == [bytes(each) for each in first]

    def test_nobody_can_repeat_a_message_changed(self, ben: MessageAuthenticator, anna: Voice) -> None:
        *rest, seal = anna.say(ANSWER, topic="rounds/", number=1)
        changed = [*rest[:-1], bytes(len(rest[-1])), seal]
        again = anna.guard.sign(codec.encode_retransmission(changed, "run", "anna", 1, "to/ben/"))
        heard = ben.read(again, DEFAULT)
        assert refused(ben, codec.retransmitted_frames(heard.frames), again=True) == "tampered"


class TestSubscriptions:
    @pytest.mark.parametrize("topic", ["to/ben/", "presence/", "rounds/", "join/ben/1/memory://ben/", "anything/"])
    def test_a_peer_hears_what_is_said_to_all_and_to_itself(self, topic: str) -> None:
        assert may_subscribe("ben", topic.encode())

    @pytest.mark.parametrize(
        "topic",
        [b"", b"t", b"to/", b"to/b", b"to/ben", b"to/anna/", b"to/anna/x/", b"to/ben/x/", b"join/anna/1/memory://ben/",
         b"join/", b"join/be", b"presence", b"\xff/", b"to/ben/\0"],
    )  # fmt: skip
    def test_it_hears_nothing_else(self, topic: bytes) -> None:
        assert not may_subscribe("ben", topic)


def test_without_keys_everything_is_as_it_was() -> None:
    frames, security = Voice(ANNA).plain(ANSWER, number=1), NullSecurity()
    assert security.sign(frames) == frames
    assert security.read(frames, DEFAULT).frames is frames
    assert security.sign_peer_info(info("anna")) == info("anna")
    assert security.verified_peers([info("anna")]) == (info("anna"),)
    assert replace(security.read(frames, DEFAULT).envelope, number=2).number == 2
