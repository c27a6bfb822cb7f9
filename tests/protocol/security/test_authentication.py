"""Signed messages: a message is accepted if and only if its sender has signed it, whatever happens to it on the way."""

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
from protocol.frames import Buffer
from protocol.limits import DEFAULT
from protocol.messages import Goodbye, Heartbeat, Hello, Message, PeerInfo, QueryAnswer, Retransmission, Welcome
from protocol.security.authentication import SIGNATURE_FRAME_BYTES, MessageAuthenticator, NullSecurity
from protocol.security.keys import Keyring, PrivateKeys

ANNA, BEN, EVE, OUTSIDER = (PrivateKeys.make(name) for name in ("anna", "ben", "eve", "outsider"))
TRUSTED = [keys.public for keys in (ANNA, BEN, EVE)]


def ring(own: PrivateKeys) -> Keyring:
    return Keyring.of(own, TRUSTED)


def info(name: str, incarnation: int = 1) -> PeerInfo:
    address = f"memory://{name}"
    return PeerInfo(name=name, incarnation=incarnation, role="client", address=address, heartbeat_address=address)


class Sender:
    """A node that sends messages to ben, whose incarnation is 100."""

    def __init__(self, keys: PrivateKeys, incarnation: int = 1, name: str = "") -> None:
        self.authenticator = MessageAuthenticator(ring(keys), incarnation)
        self.name, self.incarnation = name or keys.name, incarnation

    def plain(self, message: Message, topic: str = "to/ben/", number: int = 0) -> list[Buffer]:
        return codec.encode(Envelope(topic, "run", self.name, self.incarnation, number, message))

    def signed(self, message: Message, topic: str = "to/ben/", number: int = 0) -> list[Buffer]:
        return self.authenticator.sign(self.plain(message, topic, number))

    def hello(self, receiver: int = 100) -> list[Buffer]:
        peer = self.authenticator.sign_peer_info(info(self.name, self.incarnation))
        return self.signed(Hello(peer=peer, receiver_incarnation=receiver, members=(), latest={}))


ANSWER = QueryAnswer(query=1, outputs={"x": torch.arange(100.0), "y": torch.tensor(3)}, seconds=0.0)


@pytest.fixture
def ben() -> MessageAuthenticator:
    return MessageAuthenticator(ring(BEN), 100)


@pytest.fixture
def anna(ben: MessageAuthenticator) -> Sender:
    """Anna, whose hello ben has received."""
    sender = Sender(ANNA)
    ben.read(sender.hello(), DEFAULT)
    return sender


def refused(authenticator: MessageAuthenticator, frames: Sequence[Any], **how: bool) -> str:
    with pytest.raises(AuthenticationError) as raised:
        authenticator.read(frames, DEFAULT, **how)
    return raised.value.kind


class TestSigning:
    def test_what_is_signed_arrives_as_it_was(self, ben: MessageAuthenticator, anna: Sender) -> None:
        received = ben.read(anna.signed(ANSWER, number=1), DEFAULT)
        assert received.envelope.sender == "anna"
        assert torch.equal(dict(received.envelope.message)["outputs"]["x"], torch.arange(100.0))
        assert [bytes(frame) for frame in received.frames] == [bytes(frame) for frame in anna.plain(ANSWER, number=1)]

    def test_it_costs_one_frame(self, anna: Sender) -> None:
        plain, signed = anna.plain(ANSWER, number=1), anna.signed(ANSWER, number=1)
        assert len(signed) == len(plain) + 1
        assert len(signed[-1]) == SIGNATURE_FRAME_BYTES == 112

    @pytest.mark.parametrize("frame", range(5))
    def test_no_byte_of_any_frame_can_be_changed(self, ben: MessageAuthenticator, anna: Sender, frame: int) -> None:
        frames = [bytes(each) for each in anna.signed(ANSWER, number=1)]
        for place in range(len(frames[frame])):
            changed = bytearray(frames[frame])
            changed[place] ^= 1
            assert refused(ben, [*frames[:frame], bytes(changed), *frames[frame + 1 :]]) in {"tampered", "unknown key"}
        assert ben.read(frames, DEFAULT), "and none of the attempts has used it up"

    def test_no_byte_can_move_from_one_frame_to_the_next(self, ben: MessageAuthenticator, anna: Sender) -> None:
        topic, header, x, y, signature = (bytes(each) for each in anna.signed(ANSWER, number=1))
        for frames in (
            [topic, header, x[:-4], x[-4:] + y, signature],
            [topic, header, x + y, b"", signature],
            [topic, header, y, x, signature],
            [topic, header, x, signature],
            [topic, header, x, y, b"", signature],
        ):
            assert refused(ben, frames) == "tampered"

    def test_it_cannot_be_moved_to_another_topic(self, ben: MessageAuthenticator, anna: Sender) -> None:
        _, *rest = anna.signed(ANSWER, topic="to/eve/", number=1)
        assert refused(ben, [b"to/ben/", *rest]) == "tampered"

    @given(data=st.data())
    @settings(max_examples=60)
    def test_whatever_comes_is_refused_with_one_kind_of_error(self, data: st.DataObject) -> None:
        authenticator, frames = MessageAuthenticator(ring(BEN), 100), Sender(ANNA).hello()
        junk = data.draw(
            st.lists(st.sampled_from([bytes(each) for each in frames]) | st.binary(max_size=120), max_size=6)
        )
        if junk != [bytes(each) for each in frames]:
            with pytest.raises(WireError):
                authenticator.read(junk, DEFAULT)


class TestNames:
    def test_a_key_that_is_not_trusted_is_named_by_its_digits(self, ben: MessageAuthenticator) -> None:
        outsider = Sender(EVE)
        outsider.authenticator = MessageAuthenticator(Keyring.of(OUTSIDER, TRUSTED), 1)
        assert refused(ben, outsider.hello()) == "unknown key"

    def test_a_node_cannot_sign_for_another(self, ben: MessageAuthenticator, anna: Sender) -> None:
        assert refused(ben, Sender(EVE, name="anna").signed(Welcome(receiver_incarnation=100))) == "stolen name"

    def test_nor_for_another_incarnation_of_its_own(self, ben: MessageAuthenticator, anna: Sender) -> None:
        anna.incarnation = 2
        assert refused(ben, anna.signed(Welcome(receiver_incarnation=100))) == "stolen name"

    def test_an_unsigned_message_is_rejected(self, ben: MessageAuthenticator, anna: Sender) -> None:
        assert refused(ben, anna.plain(ANSWER, number=1)) == "unsigned"

    def test_a_peer_info_is_proven_by_its_own_node_only(self, ben: MessageAuthenticator) -> None:
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
            ben.verified_peers([MessageAuthenticator(Keyring.of(OUTSIDER, []), 7).sign_peer_info(info("outsider", 7))])
            == ()
        )


class TestReplays:
    @pytest.mark.parametrize(
        ("topic", "message"),
        [("presence/", Goodbye(reason="")), ("to/ben/", Welcome(receiver_incarnation=100)), ("to/ben/", ANSWER)],
        ids=lambda each: getattr(each, "kind", ""),
    )
    def test_a_duplicate_is_a_replay(
        self, ben: MessageAuthenticator, anna: Sender, topic: str, message: Message
    ) -> None:
        frames = anna.signed(message, topic, int(message.numbered))
        assert ben.read(frames, DEFAULT)
        assert refused(ben, frames) == "replayed"

    def test_order_does_not_matter(self, ben: MessageAuthenticator, anna: Sender) -> None:
        first, second = (anna.signed(Goodbye(reason=each), "presence/") for each in "12")
        assert ben.read(second, DEFAULT)
        assert ben.read(first, DEFAULT)

    def test_heartbeats_keep_their_own_order(self, ben: MessageAuthenticator, anna: Sender) -> None:
        early = anna.signed(Goodbye(reason="queued behind something large"), "presence/")
        for tick in range(5000):
            beat = anna.signed(Heartbeat(tick=tick, latest={}), topic="heartbeat/")
        assert ben.read(beat, DEFAULT)
        assert refused(ben, beat) == "replayed"
        assert ben.read(early, DEFAULT)

    def test_messages_to_an_earlier_incarnation_of_the_receiver_are_rejected(self, anna: Sender) -> None:
        recorded = [anna.hello(), anna.signed(Welcome(receiver_incarnation=100)), anna.signed(ANSWER, number=1)]
        restarted = MessageAuthenticator(ring(BEN), 200)
        assert [refused(restarted, frames) for frames in recorded] == ["early"] * 3
        assert restarted.read(anna.hello(receiver=200), DEFAULT)
        assert [refused(restarted, frames) for frames in recorded] == ["replayed"] * 3

    def test_a_welcome_proves_an_incarnation_as_well(self, ben: MessageAuthenticator) -> None:
        anna = Sender(ANNA)
        assert ben.read(anna.signed(Welcome(receiver_incarnation=100)), DEFAULT)
        assert ben.read(anna.signed(ANSWER, number=1), DEFAULT)

    def test_a_hello_may_arrive_after_the_welcome_that_followed_it(self, ben: MessageAuthenticator) -> None:
        anna = Sender(ANNA)
        hello, welcome = anna.hello(), anna.signed(Welcome(receiver_incarnation=100))
        assert ben.read(welcome, DEFAULT)
        assert ben.read(hello, DEFAULT)

    def test_an_incarnation_of_the_sender_ends_with_the_next(self, ben: MessageAuthenticator, anna: Sender) -> None:
        assert ben.read(Sender(ANNA, incarnation=2).hello(), DEFAULT)
        assert refused(ben, anna.signed(ANSWER, number=1)) == "replayed"
        assert refused(ben, anna.hello()) == "replayed"

    def test_a_retransmitted_message_may_be_a_duplicate(self, ben: MessageAuthenticator, anna: Sender) -> None:
        first = anna.signed(ANSWER, topic="to/eve/", number=1)
        assert ben.read(first, DEFAULT)
        again = anna.authenticator.sign(codec.encode_retransmission(first, "run", "anna", 1, "to/ben/"))
        received = ben.read(again, DEFAULT)
        assert isinstance(received.envelope.message, Retransmission)
        inner = ben.read(codec.retransmitted_frames(received.frames), DEFAULT, again=True)
        assert inner.envelope.topic == "to/eve/"
        assert [bytes(each) for each in codec.retransmitted_frames(received.frames)] == [bytes(each) for each in first]

    def test_a_retransmitted_message_cannot_be_changed(self, ben: MessageAuthenticator, anna: Sender) -> None:
        *rest, signature = anna.signed(ANSWER, topic="to/eve/", number=1)
        changed = [*rest[:-1], bytes(len(rest[-1])), signature]
        again = anna.authenticator.sign(codec.encode_retransmission(changed, "run", "anna", 1, "to/ben/"))
        received = ben.read(again, DEFAULT)
        assert refused(ben, codec.retransmitted_frames(received.frames), again=True) == "tampered"


def test_without_keys_frames_are_unchanged() -> None:
    frames, security = Sender(ANNA).plain(ANSWER, number=1), NullSecurity()
    assert security.sign(frames) == frames
    assert security.read(frames, DEFAULT).frames is frames
    assert security.sign_peer_info(info("anna")) == info("anna")
    assert security.verified_peers([info("anna")]) == (info("anna"),)
    assert replace(security.read(frames, DEFAULT).envelope, number=2).number == 2
