"""Who said this, and is it said now: every message is signed end to end, over every byte of every frame.

A signed message is a message with one more frame, its *seal*: the sender's key, its incarnation, a serial number and
an Ed25519 signature over the SHA-256 of all other frames. Whoever passes the message on, a relay or a peer that
repeats it, can change nothing in it without being noticed. What comes is checked from the outside in: is there a seal,
of a key that we trust, and does it hold (`tampered`, `unknown key`); is the message well-formed; does its sender bear
the name of the key (`stolen name`); was it said in our own lifetime and not heard before (`replayed`).

That a life of a peer is going on now is proven by what names our own incarnation, which nobody could know before we
were born: its hello and its welcome. Until one of them has come, everything else it says is dropped as `early`.

`Open` is the security of a node without keys; with keys it is `protocol.security.group_encryption.Sealed`, which closes what `Guard` has
signed. Knows no sockets and no clock; PROTOCOL.md,
"Security", is the authority.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol import codec
from protocol.codec import Buffer, Envelope
from protocol.errors import AuthenticationError, WireError
from protocol.header import claimed_sender
from protocol.limits import Limits
from protocol.messages import Hello, Welcome
from protocol.messages.group_key import GroupKeyGrant
from protocol.messages.presence import PeerInfo
from protocol.security.keys import Keyring
from protocol.security.replay import SenderReplayState
from protocol.topics import HEARTBEATS, JOIN, inbox, is_topic

KEY_BYTES = 32
"""Bytes of an Ed25519 key."""

_SEAL = struct.Struct(">32sQQ64s")

SIGNATURE_BYTES = _SEAL.size
"""Bytes of the frame that a signed message has more: key, incarnation, serial, signature."""

_MESSAGE = b"fednet message 4"
_INTRODUCTION = b"fednet introduction 4"
_PROVEN = 1024


class VerifiedMessage(NamedTuple):
    """A message that may be believed, and the frames that it was read from, without its seal."""

    envelope: Envelope
    frames: Sequence[Buffer]


class Security(Protocol):
    """How a node makes sure of who speaks."""

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames as they go out."""
        ...

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The signed frames as they leave."""
        ...

    def claimed_sender(self, frames: Sequence[Buffer]) -> str | None:
        """Who the frames say has sent them, before anything is believed; None where that cannot be told."""
        ...

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in frames that came; `again` for what a `Retransmission` carries.

        Raises:
            WireError: they are no message, or (AuthenticationError) not to be believed.
        """
        ...

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """How this node is made known to those who hear of it from others."""
        ...

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """Those that say themselves who and where they are."""
        ...

    def has_key_of(self, name: str) -> bool:
        """Whether anything can be said to a node of this name."""
        ...

    def group_key_grant(self) -> GroupKeyGrant | None:
        """What a member must be told to read what is said to all."""
        ...

    def renew_group_key(self) -> None:
        """The membership has changed: what was granted is good for nothing that is said from now on."""
        ...

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """A life of a peer has told how to read what it says."""
        ...


class NullSecurity:
    """No keys: whoever can publish is believed. For loopback, or where the operator has said so aloud."""

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames, as they are."""
        return list(frames)

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames, as they are."""
        return list(frames)

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

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """Unproven."""
        return me

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """All of them: hearsay leads to a connection only."""
        return tuple(infos)

    def has_key_of(self, name: str) -> bool:
        """Whoever it is."""
        return True

    def group_key_grant(self) -> GroupKeyGrant | None:
        """Nobody needs a key."""
        return None

    def renew_group_key(self) -> None:
        """There is none."""

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """It is not needed."""


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """The last frame of a signed message.

    Attributes:
        key: the sender's Ed25519 key, 32 bytes.
        incarnation: which life of the sender.
        serial: its place among all that this life has signed, from 1.
        signature: 64 bytes.
    """

    key: bytes
    incarnation: int
    serial: int
    signature: bytes

    def packed(self) -> bytes:
        """`SEAL_BYTES` bytes."""
        return _SEAL.pack(self.key, self.incarnation, self.serial, self.signature)

    @classmethod
    def unpacked(cls, frame: Buffer) -> MessageSignature:
        """The seal in a frame.

        Raises:
            AuthenticationError: it is none.
        """
        if len(frame) != SIGNATURE_BYTES:
            raise AuthenticationError("unsigned", "a message is not signed", bytes=len(frame))
        return cls(*_SEAL.unpack(frame))

    def statement(self, digest: bytes) -> bytes:
        """What is signed."""
        return b"".join([_MESSAGE, self.incarnation.to_bytes(8, "big"), self.serial.to_bytes(8, "big"), digest])


class MessageAuthenticator:
    """What one life of a node signs, and believes of those whose keys it has.

    Args:
        keys: its own and those it trusts.
        incarnation: which life of the node this is.
    """

    def __init__(self, keys: Keyring, incarnation: int) -> None:
        self._keys = keys
        self._incarnation = incarnation
        self._signer = keys.own.signer
        self._key = bytes.fromhex(keys.own.public.sign)
        self._verifiers = {name: public.verifier for name, public in keys.trusted.items()}
        self._serials = count(1)  # `next` is atomic: the heartbeat's thread signs too
        self._lives: dict[str, SenderReplayState] = {}
        self._proven = lru_cache(_PROVEN)(self._is_proven)

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames and their seal."""
        unsigned = MessageSignature(self._key, self._incarnation, next(self._serials), b"")
        signature = self._signer.sign(unsigned.statement(digest(frames)))
        return [*frames, MessageSignature(self._key, self._incarnation, unsigned.serial, signature).packed()]

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in the frames, whose sender is who it says, and which is heard for the first time.

        What a `Retransmission` carries may have been heard: whether it is needed, its number says.
        """
        codec.check_sizes(frames, limits)
        *said, frame = frames
        seal = MessageSignature.unpacked(frame)
        name = self._signed_by(seal, said)
        try:
            envelope = codec.decode(said, limits, signed=True)
            if (envelope.sender, envelope.incarnation) != (name, seal.incarnation):
                raise AuthenticationError(
                    "stolen name", "a message bears another's name", signed=name, sender=envelope.sender
                )
        except WireError as error:
            error.culprit = name
            raise
        self._is_current(envelope, seal, again=again)
        return VerifiedMessage(envelope, said)

    def name_of(self, key: bytes) -> str | None:
        """Whose an Ed25519 key is; None for one that is not trusted."""
        return self._keys.names_by_signing_key.get(key)

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """This node's own word for who and where it is."""
        return me.model_copy(update={"proof": self._signer.sign(_introduction(me))})

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """Those whom we trust and who have signed that this is who and where they are."""
        return tuple(info for info in infos if self._proven(info))

    def _signed_by(self, seal: MessageSignature, said: Sequence[Buffer]) -> str:
        """The name of the trusted key that has signed this."""
        name = self.name_of(seal.key)
        if name is None:
            raise AuthenticationError(
                "unknown key", "a message is signed by a key that is not trusted here", key=seal.key
            )
        if not _holds(self._verifiers[name], seal.signature, seal.statement(digest(said))):
            raise AuthenticationError("tampered", "a message is not what its sender has signed", sender=name)
        return name

    def _is_current(self, envelope: Envelope, seal: MessageSignature, *, again: bool) -> None:
        """Whether this was said in our own lifetime and has not been heard before."""
        name, message = envelope.sender, envelope.message
        life = self._lives.get(name)
        if life is None or life.incarnation != seal.incarnation:
            if life is not None and seal.incarnation < life.incarnation:
                raise AuthenticationError("replayed", "a message is from an earlier life of its sender", sender=name)
            if self._named_by(message) != self._incarnation:
                raise AuthenticationError("early", "a peer speaks that has not greeted this node", sender=name)
            life = self._lives[name] = SenderReplayState(seal.incarnation, seal.serial)
        if self._named_by(message) == self._incarnation:
            life.prove_current(seal.serial)
        lane = "pulse" if envelope.topic == HEARTBEATS else "messages"
        if not again and not life.accept(lane, seal.serial):
            reason = "a message has been heard before, or comes far too late"
            raise AuthenticationError("replayed", reason, sender=name, message=message.kind, serial=seal.serial)

    def _named_by(self, message: object) -> int | None:
        """The incarnation of the receiver that a message names."""
        if isinstance(message, Hello):
            return message.receiver_incarnation
        return message.receiver_incarnation if isinstance(message, Welcome) else None

    def _is_proven(self, info: PeerInfo) -> bool:
        verifier = self._verifiers.get(info.name)
        return verifier is not None and info.proof is not None and _holds(verifier, info.proof, _introduction(info))


def digest(frames: Sequence[Buffer]) -> bytes:
    """SHA-256 over all frames, each after its length, so that no byte can move from one to the next."""
    hashed = hashlib.sha256()
    for frame in frames:
        hashed.update(len(frame).to_bytes(8, "big"))
        hashed.update(frame)
    return hashed.digest()


def may_subscribe(name: str, subscription: bytes) -> bool:
    """Whether a peer of this name may subscribe to this: never to what is said to another, nor as another.

    Subscriptions are prefixes, so one that is no whole topic could hear anything.
    """
    text = subscription.decode("ascii", "replace")
    if text.startswith(JOIN):
        return text.startswith(f"{JOIN}{name}/")
    return is_topic(text) and (not text.startswith("to/") or text == inbox(name))


def _holds(verifier: Ed25519PublicKey, signature: bytes, statement: bytes) -> bool:
    try:
        verifier.verify(signature, statement)
    except InvalidSignature:
        return False
    return True


def _introduction(info: PeerInfo) -> bytes:
    said = (info.name, str(info.incarnation), info.role, info.address, info.heartbeat_address)
    return b"\0".join([_INTRODUCTION, *(part.encode() for part in said)])
