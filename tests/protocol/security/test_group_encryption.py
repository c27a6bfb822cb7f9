"""Encrypted messages: members decrypt what is meant for them, other nodes nothing, whatever happens on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol import codec
from protocol.codec import Envelope
from protocol.errors import AuthenticationError
from protocol.limits import DEFAULT
from protocol.messages import Heartbeat, ProgressReport, QueryAnswer, QueryRequest, Welcome
from protocol.security.group_encryption import AEAD_HEADER_BYTES, KEPT_EPOCHS, GroupCipher, KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys
from protocol.topics import JoinRequest

ANNA, BEN, EVE, OUTSIDER = (PrivateKeys.make(name) for name in ("anna", "ben", "eve", "outsider"))
TRUSTED = [keys.public for keys in (ANNA, BEN, EVE)]
PLANTED = torch.arange(256, dtype=torch.float32)


def cipher(own: PrivateKeys, incarnation: int) -> GroupCipher:
    return GroupCipher(Keyring.of(own, TRUSTED), incarnation)


@pytest.fixture
def anna() -> GroupCipher:
    return cipher(ANNA, 1)


@pytest.fixture
def ben(anna: GroupCipher) -> GroupCipher:
    """Ben, to whom anna has granted her key."""
    made = cipher(BEN, 100)
    made.accept_group_key("anna", 1, anna.renew())
    return made


def refused(receiver: GroupCipher, frames: Sequence[Any]) -> str:
    with pytest.raises(AuthenticationError) as raised:
        receiver.decrypt(frames)
    return raised.value.kind


TO_ALL = [b"rounds/", b"header", bytes(1000), b"", b"signature"]
TO_BEN = [b"to/ben/", b"header", bytes(1000), b"", b"signature"]


class TestEncryption:
    @pytest.mark.parametrize("frames", [TO_ALL, TO_BEN], ids=["to all", "to one"])
    def test_what_is_encrypted_decrypts_to_the_same(
        self, anna: GroupCipher, ben: GroupCipher, frames: list[bytes]
    ) -> None:
        assert ben.decrypt(anna.encrypt(frames)) == frames

    @pytest.mark.parametrize("frames", [TO_ALL, TO_BEN], ids=["to all", "to one"])
    def test_only_the_topic_and_the_sizes_can_be_seen(self, anna: GroupCipher, frames: list[bytes]) -> None:
        topic, header, *encrypted = anna.encrypt(frames)
        assert (topic, len(header)) == (frames[0], AEAD_HEADER_BYTES)
        assert [len(each) for each in encrypted] == [len(each) + 16 for each in frames[1:]]
        assert not any(bytes(8) in bytes(each) or b"header" in bytes(each) for each in encrypted)

    def test_no_two_ciphertexts_are_alike(self, anna: GroupCipher) -> None:
        encrypted = [anna.encrypt(frames) for frames in (TO_ALL, TO_ALL, TO_BEN, TO_BEN)]
        assert len({bytes(each) for frames in encrypted for each in frames[2:]}) == 4 * 4

    def test_what_is_said_to_one_is_opened_by_that_one_alone(self, anna: GroupCipher, ben: GroupCipher) -> None:
        eve = cipher(EVE, 5)
        eve.accept_group_key("anna", 1, anna.renew())
        assert refused(eve, anna.encrypt(TO_BEN)) == "tampered", "it is between two others"
        renamed = [b"to/eve/", *anna.encrypt(TO_BEN)[1:]]
        assert refused(eve, renamed) == "tampered"

    @pytest.mark.parametrize("frames", [TO_ALL, TO_BEN], ids=["to all", "to one"])
    def test_no_byte_can_be_changed(self, anna: GroupCipher, ben: GroupCipher, frames: list[bytes]) -> None:
        encrypted = [bytes(each) for each in anna.encrypt(frames)]
        for number, frame in enumerate(encrypted):
            for place in range(0, len(frame), 7):
                changed = frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]
                kinds = {"tampered", "unknown key", "early"} if number < 2 else {"tampered"}
                assert refused(ben, [*encrypted[:number], changed, *encrypted[number + 1 :]]) in kinds

    def test_frames_keep_their_places(self, anna: GroupCipher, ben: GroupCipher) -> None:
        topic, header, one, two, three, four = anna.encrypt(TO_ALL)
        assert refused(ben, [topic, header, two, one, three, four]) == "tampered"
        assert refused(ben, [topic, header, two, three, four]) == "tampered"

    def test_messages_of_an_outsider_do_not_decrypt(self, anna: GroupCipher, ben: GroupCipher) -> None:
        outsider = GroupCipher(Keyring.of(OUTSIDER, TRUSTED), 1)
        assert refused(ben, outsider.encrypt(TO_BEN)) == refused(ben, outsider.encrypt(TO_ALL)) == "unknown key"
        assert refused(ben, TO_BEN) == "unsigned"


class TestEpochs:
    def test_without_a_grant_no_group_message_decrypts(self, anna: GroupCipher) -> None:
        assert refused(cipher(EVE, 5), anna.encrypt(TO_ALL)) == "early"

    def test_a_departed_member_decrypts_nothing_later(self, anna: GroupCipher, ben: GroupCipher) -> None:
        before = anna.encrypt(TO_ALL)
        anna.renew()
        assert refused(ben, anna.encrypt(TO_ALL)) == "early"
        assert ben.decrypt(before) == TO_ALL

    def test_a_new_member_decrypts_nothing_earlier(self, anna: GroupCipher) -> None:
        before = anna.encrypt(TO_ALL)
        eve = cipher(EVE, 5)
        eve.accept_group_key("anna", 1, anna.renew())
        assert refused(eve, before) == "early"
        assert eve.decrypt(anna.encrypt(TO_ALL)) == TO_ALL

    def test_the_keys_of_some_epochs_are_kept(self, anna: GroupCipher, ben: GroupCipher) -> None:
        first = anna.encrypt(TO_ALL)
        for _ in range(KEPT_EPOCHS - 1):
            ben.accept_group_key("anna", 1, anna.renew())
        assert ben.decrypt(first) == TO_ALL
        ben.accept_group_key("anna", 1, anna.renew())
        assert refused(ben, first) == "early"

    def test_keys_are_forgotten_by_epoch_whatever_the_order_in_which_they_come(self, anna: GroupCipher) -> None:
        ben, grants = cipher(BEN, 100), [anna.renew() for _ in range(KEPT_EPOCHS + 1)]
        latest = anna.encrypt(TO_ALL)
        for grant in reversed(grants):
            ben.accept_group_key("anna", 1, grant)
        assert ben.decrypt(latest) == TO_ALL
        assert sorted(ben._granted["anna"].keys) == [grant.epoch for grant in grants[1:]]

    def test_another_incarnation_has_other_keys(self, anna: GroupCipher, ben: GroupCipher) -> None:
        restarted = cipher(ANNA, 2)
        ben.accept_group_key("anna", 2, restarted.renew())
        assert ben.decrypt(restarted.encrypt(TO_ALL)) == TO_ALL
        assert refused(ben, anna.encrypt(TO_ALL)) == "early"
        assert bytes(restarted.encrypt(TO_BEN)[2]) != bytes(cipher(ANNA, 1).encrypt(TO_BEN)[2])

    def test_no_key_is_shown(self, anna: GroupCipher, ben: GroupCipher) -> None:
        grant = anna.renew()
        shown = repr(grant) + str(grant) + repr(ben._granted)
        assert repr(grant.key)[2:-1] not in shown
        assert grant.key.hex() not in shown


class TestKeyedSecurity:
    """Both layers together, as a node has them."""

    def pair(self) -> tuple[KeyedSecurity, KeyedSecurity]:
        anna, ben = KeyedSecurity(Keyring.of(ANNA, TRUSTED), 1), KeyedSecurity(Keyring.of(BEN, TRUSTED), 100)
        ben.read(self.sent(anna, Welcome(receiver_incarnation=100), "to/ben/"), DEFAULT)
        return anna, ben

    def sent(self, anna: KeyedSecurity, message: Any, topic: str, number: int = 0) -> list[Any]:
        return anna.encrypt(anna.sign(codec.encode(Envelope(topic, "run", "anna", 1, number, message))))

    def test_a_message_arrives_as_it_was(self) -> None:
        anna, ben = self.pair()
        received = ben.read(
            self.sent(anna, QueryAnswer(query=1, outputs={"x": PLANTED}, seconds=0.0), "to/ben/", 1), DEFAULT
        )
        assert torch.equal(dict(received.envelope.message)["outputs"]["x"], PLANTED)

    def test_a_relay_sees_none_of_a_planted_tensors_bytes(self) -> None:
        anna, _ = self.pair()
        planted = PLANTED.numpy().tobytes()
        for topic in ("to/ben/", "queries/"):
            query = QueryRequest(query=1, oldest_open=1, task="x", inputs={"x": PLANTED}, options={}, ttl=1.0)
            seen = b"".join(bytes(each) for each in self.sent(anna, query, topic, 1))
            assert not [start for start in range(0, len(planted), 8) if planted[start : start + 8] in seen]
            assert b"query_request" not in seen

    def test_a_message_before_its_key_is_retransmitted(self) -> None:
        """Ben has no key of anna's: the first message does not decrypt, and its retransmission does."""
        anna, ben = self.pair()
        progress = ProgressReport(phase="work", done=1, total=2, values={})
        kept = anna.sign(codec.encode(Envelope("progress/", "run", "anna", 1, 1, progress)))
        with pytest.raises(AuthenticationError, match="granted"):
            ben.read(anna.encrypt(kept), DEFAULT)
        again = anna.encrypt(anna.sign(codec.encode_retransmission(kept, "run", "anna", 1, "to/ben/")))
        carried = codec.retransmitted_frames(ben.read(again, DEFAULT).frames)
        assert ben.read(carried, DEFAULT, again=True).envelope.message == progress

    def test_a_heartbeat_needs_no_key(self) -> None:
        anna, ben = self.pair()
        beat = anna.sign(codec.encode(Envelope("heartbeat/", "run", "anna", 1, 0, Heartbeat(tick=1, latest={}))))
        assert ben.read(beat, DEFAULT).envelope.sender == "anna"

    def test_what_is_signed_and_not_encrypted_is_rejected(self) -> None:
        anna, ben = self.pair()
        frames = anna.sign(codec.encode(Envelope("to/ben/", "run", "anna", 1, 0, Welcome(receiver_incarnation=100))))
        with pytest.raises(AuthenticationError):
            ben.read(frames, DEFAULT)

    def test_a_member_cannot_encrypt_in_anothers_name(self) -> None:
        """Eve has anna's key of the epoch: she can forge the encryption, but not the signature within."""
        anna, ben = self.pair()
        grant = anna.group_key_grant()
        assert grant is not None
        ben.accept_group_key("anna", 1, grant)
        eve = KeyedSecurity(Keyring.of(EVE, TRUSTED), 1)
        eve._group_cipher._signing_key = anna._group_cipher._signing_key
        eve._group_cipher.accept_group_key("eve", 1, grant)
        eve._group_cipher._group = eve._group_cipher._granted["eve"].keys[grant.epoch], grant.epoch
        forged = eve.encrypt(
            eve.sign(
                codec.encode(
                    Envelope("progress/", "run", "anna", 1, 1, ProgressReport(phase="x", done=0, total=0, values={}))
                )
            )
        )
        with pytest.raises(AuthenticationError) as raised:
            ben.read(forged, DEFAULT)
        assert raised.value.kind == "stolen name"

    def test_the_sender_is_named_by_the_aead_header(self) -> None:
        anna, ben = self.pair()
        assert ben.claimed_sender(self.sent(anna, Welcome(receiver_incarnation=100), "to/ben/")) == "anna"
        assert ben.claimed_sender([b"to/ben/"]) is ben.claimed_sender([b"to/ben/", b"x"]) is None
        assert [ben.has_key_of(name) for name in ("anna", "ben", "outsider")] == [True, True, False]


VECTORS = Path(__file__).parents[2] / "vectors"
GOLDEN = VECTORS / "keys" / "anna.json"


def as_golden(story: Any, message: str) -> dict[str, list[str]]:
    """What anna makes of the frames of another file, in hexadecimal: signed, then encrypted."""
    anna, ben = (PrivateKeys(**fields) for fields in story["private"])
    vector = json.loads((VECTORS / message).read_text())
    plain = [bytes.fromhex(frame) for frame in vector["frames"]]
    security = KeyedSecurity(Keyring.of(anna, [ben.public]), vector["incarnation"])
    epoch = story["epoch"]
    security._group_cipher._group = AESGCM(bytes.fromhex(epoch["key"])), epoch["number"]
    signed = security.sign(plain)
    return {"signed": [each.hex() for each in signed], "encrypted": [each.hex() for each in security.encrypt(signed)]}


def test_a_signed_join_request_is_golden() -> None:
    story = json.loads(GOLDEN.read_text())
    anna, ben = (PrivateKeys(**fields) for fields in story["private"])
    request = JoinRequest("anna", 7, "digits", "tcp://127.0.0.1:5000")
    security = KeyedSecurity(Keyring.of(anna, [ben.public]), 7)
    made = replace(request, signature=security.attest(request.statement)).topic
    if os.environ.get("FEDNET_WRITE_VECTORS"):
        GOLDEN.write_text(json.dumps({**story, "join request": made}, indent=1) + "\n")
        pytest.skip("it was written anew; look at the difference")
    assert story["join request"] == made


@pytest.mark.parametrize("message", ["hello.json", "goodbye.json"])
def test_signed_and_encrypted_frames_are_golden(message: str) -> None:
    story = json.loads(GOLDEN.read_text())
    made = as_golden(story, message)
    if os.environ.get("FEDNET_WRITE_VECTORS"):
        story["messages"][message] = made
        GOLDEN.write_text(json.dumps(story, indent=1) + "\n")
        pytest.skip("the frames were written anew; look at the difference")
    assert story["messages"][message] == made
    assert story["fingerprint"] == PrivateKeys(**story["private"][0]).public.fingerprint
