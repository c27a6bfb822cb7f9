"""Closed messages: members open what is meant for them, nobody else opens anything, whatever is done on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from protocol import codec
from protocol.codec import Envelope
from protocol.errors import AuthenticationError
from protocol.limits import DEFAULT
from protocol.messages import Heartbeat, ProgressReport, QueryAnswer, Welcome
from protocol.security.group_encryption import AEAD_HEADER_BYTES, KEPT_EPOCHS, GroupCipher, KeyedSecurity
from protocol.security.keys import Keyring, PrivateKeys

ANNA, BEN, EVE, STRANGER = (PrivateKeys.make(name) for name in ("anna", "ben", "eve", "stranger"))
EVERYBODY = [keys.public for keys in (ANNA, BEN, EVE)]
PLANTED = torch.arange(256, dtype=torch.float32)


def vault(own: PrivateKeys, incarnation: int) -> GroupCipher:
    return GroupCipher(Keyring.of(own, EVERYBODY), incarnation)


@pytest.fixture
def anna() -> GroupCipher:
    return vault(ANNA, 1)


@pytest.fixture
def ben(anna: GroupCipher) -> GroupCipher:
    """Ben, to whom anna has granted her key."""
    made = vault(BEN, 100)
    made.accept_group_key("anna", 1, anna.renew())
    return made


def refused(opener: GroupCipher, frames: Sequence[Any]) -> str:
    with pytest.raises(AuthenticationError) as raised:
        opener.decrypt(frames)
    return raised.value.kind


TO_ALL = [b"rounds/", b"header", bytes(1000), b"", b"seal"]
TO_BEN = [b"to/ben/", b"header", bytes(1000), b"", b"seal"]


class TestClosing:
    @pytest.mark.parametrize("frames", [TO_ALL, TO_BEN], ids=["to all", "to one"])
    def test_what_is_closed_opens_as_it_was(self, anna: GroupCipher, ben: GroupCipher, frames: list[bytes]) -> None:
        assert ben.decrypt(anna.encrypt(frames)) == frames

    @pytest.mark.parametrize("frames", [TO_ALL, TO_BEN], ids=["to all", "to one"])
    def test_only_the_topic_and_the_sizes_can_be_seen(self, anna: GroupCipher, frames: list[bytes]) -> None:
        topic, lid, *closed = anna.encrypt(frames)
        assert (topic, len(lid)) == (frames[0], AEAD_HEADER_BYTES)
        assert [len(each) for each in closed] == [len(each) + 16 for each in frames[1:]]
        assert not any(bytes(8) in bytes(each) or b"header" in bytes(each) for each in closed)

    def test_nothing_is_ever_closed_alike(self, anna: GroupCipher) -> None:
        closed = [anna.encrypt(frames) for frames in (TO_ALL, TO_ALL, TO_BEN, TO_BEN)]
        assert len({bytes(each) for frames in closed for each in frames[2:]}) == 4 * 4

    def test_what_is_said_to_one_is_opened_by_that_one_alone(self, anna: GroupCipher, ben: GroupCipher) -> None:
        eve = vault(EVE, 5)
        eve.accept_group_key("anna", 1, anna.renew())
        assert refused(eve, anna.encrypt(TO_BEN)) == "tampered", "it is between two others"
        renamed = [b"to/eve/", *anna.encrypt(TO_BEN)[1:]]
        assert refused(eve, renamed) == "tampered"

    @pytest.mark.parametrize("frames", [TO_ALL, TO_BEN], ids=["to all", "to one"])
    def test_no_byte_can_be_changed(self, anna: GroupCipher, ben: GroupCipher, frames: list[bytes]) -> None:
        closed = [bytes(each) for each in anna.encrypt(frames)]
        for number, frame in enumerate(closed):
            for place in range(0, len(frame), 7):
                changed = frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]
                kinds = {"tampered", "unknown key", "early"} if number < 2 else {"tampered"}
                assert refused(ben, [*closed[:number], changed, *closed[number + 1 :]]) in kinds

    def test_frames_keep_their_places(self, anna: GroupCipher, ben: GroupCipher) -> None:
        topic, lid, one, two, three, four = anna.encrypt(TO_ALL)
        assert refused(ben, [topic, lid, two, one, three, four]) == "tampered"
        assert refused(ben, [topic, lid, two, three, four]) == "tampered"

    def test_who_is_not_trusted_closes_nothing_that_opens(self, anna: GroupCipher, ben: GroupCipher) -> None:
        stranger = GroupCipher(Keyring.of(STRANGER, EVERYBODY), 1)
        assert refused(ben, stranger.encrypt(TO_BEN)) == refused(ben, stranger.encrypt(TO_ALL)) == "unknown key"
        assert refused(ben, TO_BEN) == "unsigned"


class TestEpochs:
    def test_who_has_no_key_reads_nothing_that_is_said_to_all(self, anna: GroupCipher) -> None:
        assert refused(vault(EVE, 5), anna.encrypt(TO_ALL)) == "early"

    def test_who_has_gone_reads_nothing_more(self, anna: GroupCipher, ben: GroupCipher) -> None:
        before = anna.encrypt(TO_ALL)
        anna.renew()
        assert refused(ben, anna.encrypt(TO_ALL)) == "early"
        assert ben.decrypt(before) == TO_ALL

    def test_who_has_come_reads_nothing_earlier(self, anna: GroupCipher) -> None:
        before = anna.encrypt(TO_ALL)
        eve = vault(EVE, 5)
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

    def test_another_life_has_other_keys(self, anna: GroupCipher, ben: GroupCipher) -> None:
        reborn = vault(ANNA, 2)
        ben.accept_group_key("anna", 2, reborn.renew())
        assert ben.decrypt(reborn.encrypt(TO_ALL)) == TO_ALL
        assert refused(ben, anna.encrypt(TO_ALL)) == "early"
        assert bytes(reborn.encrypt(TO_BEN)[2]) != bytes(vault(ANNA, 1).encrypt(TO_BEN)[2])

    def test_no_key_is_shown(self, anna: GroupCipher, ben: GroupCipher) -> None:
        grant = anna.renew()
        shown = repr(grant) + str(grant) + repr(ben._granted)
        assert repr(grant.key)[2:-1] not in shown
        assert grant.key.hex() not in shown


class TestSealed:
    """Both layers together, as a node has them."""

    def pair(self) -> tuple[KeyedSecurity, KeyedSecurity]:
        anna, ben = KeyedSecurity(Keyring.of(ANNA, EVERYBODY), 1), KeyedSecurity(Keyring.of(BEN, EVERYBODY), 100)
        ben.read(self.said(anna, Welcome(receiver_incarnation=100), "to/ben/"), DEFAULT)
        return anna, ben

    def said(self, anna: KeyedSecurity, message: Any, topic: str, number: int = 0) -> list[Any]:
        return anna.encrypt(anna.sign(codec.encode(Envelope(topic, "run", "anna", 1, number, message))))

    def test_a_message_arrives_as_it_was(self) -> None:
        anna, ben = self.pair()
        heard = ben.read(
            self.said(anna, QueryAnswer(query=1, outputs={"x": PLANTED}, seconds=0.0), "to/ben/", 1), DEFAULT
        )
        assert torch.equal(dict(heard.envelope.message)["outputs"]["x"], PLANTED)

    def test_who_passes_it_on_sees_none_of_a_planted_tensors_bytes(self) -> None:
        anna, _ = self.pair()
        planted = PLANTED.numpy().tobytes()
        for topic in ("to/ben/", "rounds/"):
            answer = QueryAnswer(query=1, outputs={"x": PLANTED}, seconds=0.0)
            seen = b"".join(bytes(each) for each in self.said(anna, answer, topic, 1))
            assert not [start for start in range(0, len(planted), 8) if planted[start : start + 8] in seen]
            assert b"answer" not in seen

    def test_what_came_too_early_is_repeated_for_its_reader(self) -> None:
        """Ben has no key of anna's: the first message does not open, and what carries it again does."""
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

    def test_what_is_signed_and_not_closed_is_refused(self) -> None:
        anna, ben = self.pair()
        frames = anna.sign(codec.encode(Envelope("to/ben/", "run", "anna", 1, 0, Welcome(receiver_incarnation=100))))
        with pytest.raises(AuthenticationError):
            ben.read(frames, DEFAULT)

    def test_a_member_cannot_close_in_anothers_name(self) -> None:
        """Eve has anna's key of the epoch: the outer layer is hers to forge, the seal within is not."""
        anna, ben = self.pair()
        grant = anna.group_key_grant()
        assert grant is not None
        ben.accept_group_key("anna", 1, grant)
        eve = KeyedSecurity(Keyring.of(EVE, EVERYBODY), 1)
        eve._group_cipher._signing_key = anna._group_cipher._signing_key
        eve._group_cipher.accept_group_key("eve", 1, grant)
        eve._group_cipher._cipher, eve._group_cipher._epoch = (
            eve._group_cipher._granted["eve"].keys[grant.epoch],
            grant.epoch,
        )
        forged = eve.encrypt(
            eve.sign(
                codec.encode(
                    Envelope("rounds/", "run", "anna", 1, 1, ProgressReport(phase="x", done=0, total=0, values={}))
                )
            )
        )
        with pytest.raises(AuthenticationError) as raised:
            ben.read(forged, DEFAULT)
        assert raised.value.kind == "stolen name"

    def test_whose_key_the_lid_names_can_be_told_before_anything_is_opened(self) -> None:
        anna, ben = self.pair()
        assert ben.claimed_sender(self.said(anna, Welcome(receiver_incarnation=100), "to/ben/")) == "anna"
        assert ben.claimed_sender([b"to/ben/"]) is ben.claimed_sender([b"to/ben/", b"x"]) is None
        assert [ben.has_key_of(name) for name in ("anna", "ben", "stranger")] == [True, True, False]


VECTORS = Path(__file__).parents[2] / "vectors"
GOLDEN = VECTORS / "keys" / "anna.json"


def as_golden(story: Any, message: str) -> dict[str, list[str]]:
    """What anna makes of the frames of another file, in hexadecimal: signed, and closed after that."""
    anna, ben = (PrivateKeys(**said) for said in story["private"])
    told = json.loads((VECTORS / message).read_text())
    plain = [bytes.fromhex(frame) for frame in told["frames"]]
    sealed = KeyedSecurity(Keyring.of(anna, [ben.public]), told["incarnation"])
    sealed._group_cipher._epoch = story["epoch"]["number"]
    sealed._group_cipher._cipher = ChaCha20Poly1305(bytes.fromhex(story["epoch"]["key"]))
    signed = sealed.sign(plain)
    return {"signed": [each.hex() for each in signed], "closed": [each.hex() for each in sealed.encrypt(signed)]}


@pytest.mark.parametrize("message", ["hello.json", "goodbye.json"])
def test_signed_and_closed_frames_are_golden(message: str) -> None:
    story = json.loads(GOLDEN.read_text())
    made = as_golden(story, message)
    if os.environ.get("FEDNET_WRITE_VECTORS"):
        story["messages"][message] = made
        GOLDEN.write_text(json.dumps(story, indent=1) + "\n")
        pytest.skip("the frames were written anew; look at the difference")
    assert story["messages"][message] == made
    assert story["fingerprint"] == PrivateKeys(**story["private"][0]).public.fingerprint
