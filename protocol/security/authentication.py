"""End-to-end authentication: every message is signed, over every byte of every frame.

A signed message is a message with one more frame, its *signature*: the sender's key, its incarnation, a serial number
and an Ed25519 signature over BLAKE3 of all other frames. A node that forwards a message, a relay or a peer that
retransmits it, can change nothing in it unnoticed. Received messages are checked from the outside in: whether there is
a signature, of a trusted key, and whether it is valid (`unsigned`, `unknown key`, `tampered`); whether the message is
well-formed; whether its sender owns the key (`stolen name`); whether it is current and no duplicate (`early`,
`replayed`). Whether its sender may say it (`not permitted`) is asked once it is accepted, so that nobody requests it
again.

An incarnation of a peer is proven to be current by a message that names the receiver's own incarnation, which nobody
could know before the receiver started: its hello and its welcome. Until one of them has arrived, all its other messages
are dropped as `early`.

`NullSecurity` is the security of a node without keys; with keys it is `KeyedSecurity` of
`protocol.security.group_encryption`, which encrypts what `MessageAuthenticator` has signed. Knows no sockets and no
clock; PROTOCOL.md, "Security", is the specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Protocol

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol import codec
from protocol.codec import Envelope
from protocol.errors import AuthenticationError, WireError
from protocol.frames import Buffer
from protocol.header import claimed_sender
from protocol.limits import Limits
from protocol.messages import Hello, Message, Welcome
from protocol.messages.group_key import GroupKeyGrant
from protocol.messages.presence import PeerInfo
from protocol.security.keys import Keyring
from protocol.security.replay import SenderReplayState
from protocol.security.roles import may_be, refusal
from protocol.topics import HEARTBEATS

KEY_BYTES = 32
"""Bytes of an Ed25519 key."""

_SIGNATURE_FRAME = struct.Struct(">32sQQ64s")

SIGNATURE_FRAME_BYTES = _SIGNATURE_FRAME.size
"""Bytes of the signature frame: key, incarnation, serial, Ed25519 signature."""

_MESSAGE = b"fednet message 8"
_INTRODUCTION = b"fednet introduction 6"
_STATEMENT = b"fednet statement 6"
_MAX_CACHED = 1024


class VerifiedMessage(NamedTuple):
    """An authentic message, and its frames without the signature."""

    envelope: Envelope
    frames: Sequence[Buffer]


class Security(Protocol):
    """How a node authenticates and encrypts messages."""

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames with their signature."""

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The signed frames, encrypted for the receivers of their topic."""

    def trust(self, keys: Keyring) -> None:
        """From now on these keys are trusted, and no others."""

    def claimed_sender(self, frames: Sequence[Buffer]) -> str | None:
        """The sender that frames name, before they are authenticated; None if there is none."""

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in received frames; `again` for those that a `Retransmission` carries.

        Raises:
            WireError: they are not a valid message, or (AuthenticationError) not an authentic one.
        """

    def attest(self, statement: bytes) -> bytes:
        """This node's signature under a statement that third parties are to believe; empty without keys."""

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether a node has signed a statement; without keys, whether there is no signature."""

    def refusal(self, name: str, message: Message) -> str:
        """Why the role of an authentic sender does not allow a message; empty where it does."""

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """This node's description of itself with its proof, for peers that learn of it from others."""

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """The descriptions that are proven by the peers themselves."""

    def has_key_of(self, name: str) -> bool:
        """Whether messages to this node can be encrypted."""

    def group_key_grant(self) -> GroupKeyGrant | None:
        """The grant by which members decrypt this node's group messages; None where they are not encrypted."""

    def renew_group_key(self) -> None:
        """The membership has changed: begins a new epoch, for which earlier grants are of no use."""

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """An incarnation of a peer has granted its group key."""


class NullSecurity:
    """No keys: every message is accepted as its sender's. For loopback, or where the operator consents."""

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames, unchanged."""
        return list(frames)

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames, unchanged."""
        return list(frames)

    def trust(self, keys: Keyring) -> None:
        """Does nothing: everybody is believed."""

    def claimed_sender(self, frames: Sequence[Buffer]) -> str | None:
        """The sender that the header names."""
        return claimed_sender(frames[1]) if len(frames) > 1 else None

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in the frames."""
        try:
            return VerifiedMessage(codec.decode(frames, limits), frames)
        except WireError as error:
            error.culprit = self.claimed_sender(frames)
            raise

    def attest(self, statement: bytes) -> bytes:
        """No signature: a statement is as good as the name beside it."""
        return b""

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether there is no signature, which nobody here could check."""
        return not signature

    def refusal(self, name: str, message: Message) -> str:
        """None: a role would be a claim like the name."""
        return ""

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """The description, without proof."""
        return me

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """All of them: a description leads to a connection only."""
        return tuple(infos)

    def has_key_of(self, name: str) -> bool:
        """Always: nothing is encrypted."""
        return True

    def group_key_grant(self) -> GroupKeyGrant | None:
        """None: nothing is encrypted."""
        return None

    def renew_group_key(self) -> None:
        """Does nothing."""

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """The last frame of a signed message.

    Attributes:
        key: the sender's Ed25519 key, 32 bytes.
        incarnation: of the sender.
        serial: counts the messages that this incarnation has signed, from 1.
        signature: 64 bytes.
    """

    key: bytes
    incarnation: int
    serial: int
    signature: bytes

    def packed(self) -> bytes:
        """The frame, of `SIGNATURE_FRAME_BYTES` bytes."""
        return _SIGNATURE_FRAME.pack(self.key, self.incarnation, self.serial, self.signature)

    @classmethod
    def unpacked(cls, frame: Buffer) -> MessageSignature:
        """The signature in a frame.

        Raises:
            AuthenticationError: it is not one.
        """
        if len(frame) != SIGNATURE_FRAME_BYTES:
            raise AuthenticationError("unsigned", "a message is not signed", bytes=len(frame))
        return cls(*_SIGNATURE_FRAME.unpack(frame))

    def statement(self, digest: bytes) -> bytes:
        """The bytes that are signed."""
        return b"".join([_MESSAGE, self.incarnation.to_bytes(8, "big"), self.serial.to_bytes(8, "big"), digest])


class MessageAuthenticator:
    """Signs the messages of one incarnation of a node, and verifies those of its peers.

    Args:
        keys: its own and those that it trusts.
        incarnation: of this node.
    """

    def __init__(self, keys: Keyring, incarnation: int) -> None:
        self._incarnation = incarnation
        self._signer = keys.own.signer
        self._key = bytes.fromhex(keys.own.public.sign)
        self._serials = count(1)  # `next` is atomic: the heartbeat's thread signs too
        self._senders: dict[str, SenderReplayState] = {}  # of revoked peers, too
        self._proven = lru_cache(_MAX_CACHED)(self._is_proven)
        self.trust(keys)

    def trust(self, keys: Keyring) -> None:
        """From now on these keys are trusted, and no others."""
        self._keys = keys
        self._verifiers = {name: public.verifier for name, public in keys.trusted.items()}
        self._proven.cache_clear()

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames and their signature."""
        unsigned = MessageSignature(self._key, self._incarnation, next(self._serials), b"")
        signature = self._signer.sign(unsigned.statement(digest(frames)))
        return [*frames, MessageSignature(self._key, self._incarnation, unsigned.serial, signature).packed()]

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in the frames, if its sender is authentic and it is no duplicate.

        A message in a `Retransmission` may be a duplicate: its sequence number decides.
        """
        signature, signed = MessageSignature.unpacked(frames[-1] if frames else b""), frames[:-1]
        name = self._verified_signer(signature, signed)
        try:
            envelope = codec.decode(signed, limits, signed=True)
            if (envelope.sender, envelope.incarnation) != (name, signature.incarnation):
                raise AuthenticationError(
                    "stolen name", "a message bears the name of another node", signed=name, sender=envelope.sender
                )
        except WireError as error:
            error.culprit = name
            raise
        self._check_current(envelope, signature, again=again)
        return VerifiedMessage(envelope, signed)

    def name_of(self, key: bytes) -> str | None:
        """The owner of an Ed25519 key; None for one that is not trusted."""
        return self._keys.names_by_signing_key.get(key)

    def attest(self, statement: bytes) -> bytes:
        """This node's signature under a statement."""
        return self._signer.sign(_STATEMENT + statement)

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether the owner of a trusted key, or this node itself, has signed a statement."""
        verifier = self._verifiers.get(name)
        if name == self._keys.own.name:
            verifier = self._keys.own.public.verifier
        return verifier is not None and _is_valid(verifier, signature, _STATEMENT + statement)

    def refusal(self, name: str, message: Message) -> str:
        """Why the role of a sender does not allow a message; empty where it does."""
        return refusal(self._keys.trusted[name], message)

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """This node's description of itself, signed."""
        return me.model_copy(update={"proof": self._signer.sign(_introduction(me))})

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """The descriptions that trusted peers have signed themselves."""
        return tuple(info for info in infos if self._proven(info))

    def _verified_signer(self, signature: MessageSignature, signed: Sequence[Buffer]) -> str:
        """The owner of the trusted key that has signed these frames."""
        name = self.name_of(signature.key)
        if name is None:
            raise AuthenticationError(
                "unknown key", "a message is signed by a key that is not trusted here", key=signature.key
            )
        if not _is_valid(self._verifiers[name], signature.signature, signature.statement(digest(signed))):
            raise AuthenticationError("tampered", "a message differs from what its sender has signed", sender=name)
        return name

    def _check_current(self, envelope: Envelope, signature: MessageSignature, *, again: bool) -> None:
        """Raises unless the message is from a proven incarnation and no duplicate."""
        name, message = envelope.sender, envelope.message
        state = self._senders.get(name)
        if state is None or state.incarnation != signature.incarnation:
            if state is not None and signature.incarnation < state.incarnation:
                raise AuthenticationError(
                    "replayed", "a message is from an earlier incarnation of its sender", sender=name
                )
            if self._named_incarnation(message) != self._incarnation:
                raise AuthenticationError("early", "a message precedes the hello or welcome of its sender", sender=name)
            state = self._senders[name] = SenderReplayState(signature.incarnation, signature.serial)
        if self._named_incarnation(message) == self._incarnation:
            state.prove_current(signature.serial)
        lane = "heartbeats" if envelope.topic == HEARTBEATS else "messages"
        if not again and not state.accept(lane, signature.serial):
            reason = "a message is a duplicate, or far too late"
            raise AuthenticationError("replayed", reason, sender=name, message=message.kind, serial=signature.serial)

    def _named_incarnation(self, message: object) -> int | None:
        """The incarnation of the receiver that a message names."""
        return message.receiver_incarnation if isinstance(message, Hello | Welcome) else None

    def _is_proven(self, info: PeerInfo) -> bool:
        public = self._keys.trusted.get(info.name)
        if public is None or info.proof is None or not may_be(public, info):
            return False
        return _is_valid(self._verifiers[info.name], info.proof, _introduction(info))


def digest(frames: Sequence[Buffer]) -> bytes:
    """BLAKE3 over all frames, each after its length, so that no byte can move from one to the next."""
    hashed = blake3()
    for frame in frames:
        hashed.update(len(frame).to_bytes(8, "big"))
        hashed.update(frame)
    return hashed.digest()


def _is_valid(verifier: Ed25519PublicKey, signature: bytes, statement: bytes) -> bool:
    try:
        verifier.verify(signature, statement)
    except InvalidSignature:
        return False
    return True


def _introduction(info: PeerInfo) -> bytes:
    parts = (info.name, str(info.incarnation), info.role, info.address, info.heartbeat_address)
    return b"\0".join([_INTRODUCTION, *(part.encode() for part in parts)])
