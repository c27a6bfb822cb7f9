"""Encryption between members, also where messages pass through a relay.

A signed message is encrypted before it leaves: all frames but its topic (AES-256-GCM, NIST SP 800-38D), and a frame in
clear, the *AEAD header*, names the sender and the key. A message to one peer is encrypted under a key that only the two
can derive (X25519 and HKDF, RFC 5869). A group message is encrypted under the sender's own group key of the present
*epoch*, which it grants to a member by a message to that member alone: after every hello, after every welcome, and when
an epoch begins, so that whoever is linked holds the present key. Before its first hello to a peer, and when a peer has
departed, it begins a new epoch: a departed peer can decrypt nothing later, a new one nothing earlier.

A message that arrives before the key of its epoch, or was encrypted before its receiver was a member, cannot be
decrypted; it is requested again, and the retransmission is encrypted to the requester. So the retransmission buffer
holds signed messages, not encrypted ones. Heartbeats are only signed, since they show what was missed. A relay sees
topics, sizes and times.

Knows no sockets and no clock; keys come from the operating system's generator.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import codec
from protocol.errors import AuthenticationError
from protocol.frames import Buffer
from protocol.limits import Limits
from protocol.messages import Message
from protocol.messages.group_key import GROUP_KEY_BYTES, GroupKeyGrant
from protocol.messages.presence import PeerInfo
from protocol.security.authentication import KEY_BYTES, MessageAuthenticator, VerifiedMessage
from protocol.security.keys import Keyring
from protocol.topics import HEARTBEATS

_AEAD_HEADER = struct.Struct(">32sQQQ")

AEAD_HEADER_BYTES = _AEAD_HEADER.size
"""Bytes of the AEAD header: the sender's Ed25519 key, incarnation, epoch, counter."""

KEPT_EPOCHS = 8
"""Epochs of a peer whose keys are kept, for messages in flight."""

_PAIR = b"fednet pair 6"
_MAX_CACHED = 1024


@dataclass
class _Granted:
    """The keys that one incarnation of a peer has granted, by epoch."""

    incarnation: int
    keys: dict[int, AESGCM] = field(default_factory=dict, repr=False)


class GroupCipher:
    """Encrypts the messages of one incarnation of a node, and decrypts those of its peers.

    Args:
        keys: its own and those that it trusts.
        incarnation: of this node.

    Attributes:
        grant: of the group key of the present epoch.
    """

    grant: GroupKeyGrant

    def __init__(self, keys: Keyring, incarnation: int) -> None:
        self._keys = keys
        self._incarnation = incarnation
        self._signing_key = bytes.fromhex(keys.own.public.sign)
        self._counter = count(1)
        self._granted: dict[str, _Granted] = {}
        self._pair = lru_cache(_MAX_CACHED)(self._derived)
        self._epoch = 0
        self.renew()

    def renew(self) -> GroupKeyGrant:
        """Begins a new epoch; returns the grant of its key."""
        self._epoch += 1
        key = os.urandom(GROUP_KEY_BYTES)
        self._group = AESGCM(key), self._epoch  # replaced as one: another thread may be encrypting
        self.grant = GroupKeyGrant(epoch=self._epoch, key=key)
        return self.grant

    def trust(self, keys: Keyring) -> None:
        """From now on these keys are trusted, and no others; what has been granted under others is forgotten."""
        before, after = self._keys.trusted, keys.trusted
        kept = {name for name in self._granted if name in after and after[name].same_keys(before[name])}
        self._granted = {name: granted for name, granted in self._granted.items() if name in kept}
        self._keys = keys
        self._pair.cache_clear()

    def has_key_of(self, name: str) -> bool:
        """Whether messages to a peer can be encrypted."""
        return name in self._keys.trusted

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """An incarnation of a peer has granted its group key; the keys of its latest `KEPT_EPOCHS` epochs are kept."""
        held = self._granted.get(name)
        if held is None or held.incarnation != incarnation:
            held = self._granted[name] = _Granted(incarnation)
        held.keys[grant.epoch] = AESGCM(grant.key)
        while len(held.keys) > KEPT_EPOCHS:
            del held.keys[min(held.keys)]

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames, encrypted for the receivers of their topic."""
        topic, *rest = frames
        counter = next(self._counter)
        receiver = _receiver(topic)
        if receiver is None:
            cipher, epoch = self._group
        else:
            cipher, epoch = self._pair(self._keys.own.name, self._incarnation, receiver), 0
        header = _AEAD_HEADER.pack(self._signing_key, self._incarnation, epoch, counter)
        aad = bytes(topic) + header
        return [topic, header, *(cipher.encrypt(_nonce(counter, index), each, aad) for index, each in enumerate(rest))]

    def decrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The decrypted frames of a peer.

        Raises:
            AuthenticationError: the sender is not trusted, a tag is invalid, or (`early`) there is no key yet.
        """
        topic, header, *rest = frames
        if len(header) != AEAD_HEADER_BYTES:
            raise AuthenticationError("unsigned", "a message is neither encrypted nor signed", bytes=len(header))
        key, incarnation, epoch, counter = _AEAD_HEADER.unpack(header)
        name = self._keys.names_by_signing_key.get(key)
        if name is None:
            raise AuthenticationError(
                "unknown key", "a message is encrypted by a sender that is not trusted here", key=key
            )
        cipher, aad = self._cipher_of(name, incarnation, epoch, _receiver(topic)), bytes(topic) + bytes(header)
        try:
            return [topic, *(cipher.decrypt(_nonce(counter, index), each, aad) for index, each in enumerate(rest))]
        except InvalidTag:
            raise AuthenticationError(
                "tampered", "an encrypted message differs from what its sender has encrypted", sender=name
            ) from None

    def _cipher_of(self, name: str, incarnation: int, epoch: int, receiver: str | None) -> AESGCM:
        """The cipher of a message of a peer."""
        if receiver is not None:
            return self._pair(name, incarnation, receiver)
        held = self._granted.get(name)
        if held is None or held.incarnation != incarnation or epoch not in held.keys:
            raise AuthenticationError("early", "a peer has not granted its group key yet", sender=name, epoch=epoch)
        return held.keys[epoch]

    def _derived(self, sender: str, incarnation: int, receiver: str) -> AESGCM:
        """The cipher of messages from one incarnation of a sender to a receiver; this node is one of the two."""
        other = receiver if sender == self._keys.own.name else sender
        if other not in self._keys.trusted:
            raise AuthenticationError(
                "unknown key", "a message is for a node that is not trusted here", receiver=receiver
            )
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(self._keys.trusted[other].curve))
        info = b"\0".join([_PAIR, sender.encode(), str(incarnation).encode(), receiver.encode()])
        shared = self._keys.own.key_agreement.exchange(public)
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(shared))


class KeyedSecurity:
    """The security of a node with keys: messages are signed, then encrypted."""

    def __init__(self, keys: Keyring, incarnation: int) -> None:
        self._authenticator = MessageAuthenticator(keys, incarnation)
        self._group_cipher = GroupCipher(keys, incarnation)

    def trust(self, keys: Keyring) -> None:
        """From now on these keys are trusted, and no others."""
        self._authenticator.trust(keys)
        self._group_cipher.trust(keys)

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames and their signature."""
        return self._authenticator.sign(frames)

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The signed frames, encrypted for the receivers of their topic."""
        return self._group_cipher.encrypt(frames)

    def claimed_sender(self, frames: Sequence[Buffer]) -> str | None:
        """The owner of the key that the frames name."""
        return self._authenticator.name_of(bytes(frames[1][:KEY_BYTES])) if len(frames) > 1 else None

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in frames; those of heartbeats and within a `Retransmission` are not encrypted."""
        codec.check_sizes(frames, limits)
        decrypted = frames if again or frames[0] == HEARTBEATS.encode() else self._group_cipher.decrypt(frames)
        return self._authenticator.read(decrypted, limits, again=again)

    def attest(self, statement: bytes) -> bytes:
        """This node's signature under a statement."""
        return self._authenticator.attest(statement)

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether a node has signed a statement."""
        return self._authenticator.attested(name, statement, signature)

    def refusal(self, name: str, message: Message) -> str:
        """Why the role of a sender does not allow a message; empty where it does."""
        return self._authenticator.refusal(name, message)

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """This node's description of itself, signed."""
        return self._authenticator.sign_peer_info(me)

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """The descriptions that trusted peers have signed themselves."""
        return self._authenticator.verified_peers(infos)

    def has_key_of(self, name: str) -> bool:
        """Whether its key is trusted here."""
        return self._group_cipher.has_key_of(name)

    def group_key_grant(self) -> GroupKeyGrant | None:
        """The grant of the group key of the present epoch."""
        return self._group_cipher.grant

    def renew_group_key(self) -> None:
        """Begins a new epoch, since the membership has changed."""
        self._group_cipher.renew()

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """An incarnation of a peer has granted its group key."""
        self._group_cipher.accept_group_key(name, incarnation, grant)


def _receiver(topic: Buffer) -> str | None:
    """The node whose inbox a topic is; None for a group message."""
    text = bytes(topic).decode("ascii", "replace")
    name = text.removeprefix("to/").removesuffix("/")
    return name if text == f"to/{name}/" else None


def _nonce(counter: int, index: int) -> bytes:
    """Twelve bytes, unique for a key: every message has its counter, every frame its index."""
    return counter.to_bytes(8, "big") + index.to_bytes(4, "big")
