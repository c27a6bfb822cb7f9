"""Messages that only members can read, also where they pass through somebody else's machine.

A signed message is *closed* before it leaves: everything but its topic is encrypted (ChaCha20-Poly1305, RFC 8439), and
a frame in clear, the *lid*, says whose and which key opens it. What is said to one peer is closed under a key that only
the two can compute (X25519 and HKDF, RFC 5869). What is said to all is closed under the sender's own key of the present
*epoch*, which it grants to every member that it greets, each by a message closed to that one alone. Before it first
greets somebody, and when somebody has left or is lost, it begins a new epoch: who has gone reads nothing more, who has
come nothing earlier.

A message that comes before its epoch's key, or was closed before its receiver was a member, cannot be opened; it is
asked for again, and is then repeated closed to the asker. So what is kept for repair is signed and not closed.
Heartbeats are only signed, since they tell what was missed. Topics, sizes and times are seen by whoever passes
messages on.

Knows no sockets and no clock; keys come from the operating system's generator.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import codec
from protocol.codec import Buffer
from protocol.errors import AuthenticationError
from protocol.limits import Limits
from protocol.messages.group_key import GROUP_KEY_BYTES, GroupKeyGrant
from protocol.messages.presence import PeerInfo
from protocol.security.authentication import KEY_BYTES, MessageAuthenticator, VerifiedMessage
from protocol.security.keys import Keyring
from protocol.topics import HEARTBEATS

_LID = struct.Struct(">32sQQQ")

AEAD_HEADER_BYTES = _LID.size
"""Bytes of the frame that a closed message has more: the sender's Ed25519 key, incarnation, epoch, count."""

KEPT_EPOCHS = 8
"""Epochs of a peer whose keys are kept, for what is still on its way."""

_PAIR = b"fednet pair 4"
_PAIRS = 1024


@dataclass
class _Granted:
    """The keys that one life of a peer has granted, by epoch, the latest last."""

    incarnation: int
    keys: OrderedDict[int, ChaCha20Poly1305] = field(default_factory=OrderedDict, repr=False)


class GroupCipher:
    """What one life of a node closes and opens with.

    Args:
        keys: its own and those it trusts.
        incarnation: which life of the node this is.

    Attributes:
        grant: what to tell those who may read the present epoch.
    """

    grant: GroupKeyGrant

    def __init__(self, keys: Keyring, incarnation: int) -> None:
        self._keys = keys
        self._incarnation = incarnation
        self._sign = bytes.fromhex(keys.own.public.sign)
        self._counts = count(1)
        self._granted: dict[str, _Granted] = {}
        self._pair = lru_cache(_PAIRS)(self._derived)
        self._epoch = 0
        self.renew()

    def renew(self) -> GroupKeyGrant:
        """Begins a new epoch; returns what to tell those who may read it."""
        self._epoch += 1
        key = os.urandom(GROUP_KEY_BYTES)
        self._cipher = ChaCha20Poly1305(key)
        self.grant = GroupKeyGrant(epoch=self._epoch, key=key)
        return self.grant

    def has_key_of(self, name: str) -> bool:
        """Whether messages can be closed for a peer."""
        return name in self._keys.trusted

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """A peer has told us its key."""
        held = self._granted.get(name)
        if held is None or held.incarnation != incarnation:
            held = self._granted[name] = _Granted(incarnation)
        held.keys[grant.epoch] = ChaCha20Poly1305(grant.key)
        while len(held.keys) > KEPT_EPOCHS:
            held.keys.popitem(last=False)

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames for whoever is meant by their topic."""
        topic, *rest = frames
        number = next(self._counts)
        receiver = _receiver(topic)
        if receiver is None:
            cipher, epoch = self._cipher, self._epoch
        else:
            cipher, epoch = self._pair(self._keys.own.name, self._incarnation, receiver), 0
        lid = _LID.pack(self._sign, self._incarnation, epoch, number)
        aad = bytes(topic) + lid
        return [topic, lid, *(cipher.encrypt(_nonce(number, place), each, aad) for place, each in enumerate(rest))]

    def decrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames that a peer has closed for us.

        Raises:
            AuthenticationError: nobody whom we trust has closed them, they do not open, or (`early`) we have no key yet.
        """
        topic, lid, *rest = frames
        if len(lid) != AEAD_HEADER_BYTES:
            raise AuthenticationError("unsigned", "a message is neither closed nor signed", bytes=len(lid))
        key, incarnation, epoch, number = _LID.unpack(lid)
        name = self._keys.names_by_signing_key.get(key)
        if name is None:
            raise AuthenticationError("unknown key", "a message is closed by a key that is not trusted here", key=key)
        cipher, aad = self._opener(name, incarnation, epoch, _receiver(topic)), bytes(topic) + bytes(lid)
        try:
            return [topic, *(cipher.decrypt(_nonce(number, place), each, aad) for place, each in enumerate(rest))]
        except InvalidTag:
            raise AuthenticationError("tampered", "a closed message does not open", sender=name) from None

    def _opener(self, name: str, incarnation: int, epoch: int, receiver: str | None) -> ChaCha20Poly1305:
        """What opens a message of a peer."""
        if receiver is not None:
            return self._pair(name, incarnation, receiver)
        held = self._granted.get(name)
        if held is None or held.incarnation != incarnation or epoch not in held.keys:
            raise AuthenticationError("early", "a peer has not granted its key yet", sender=name, epoch=epoch)
        return held.keys[epoch]

    def _derived(self, sender: str, incarnation: int, receiver: str) -> ChaCha20Poly1305:
        """The cipher for what one life of a sender says to a receiver, one of whom we are."""
        other = receiver if sender == self._keys.own.name else sender
        if other not in self._keys.trusted:
            raise AuthenticationError(
                "unknown key", "a message is for somebody who is not trusted here", receiver=receiver
            )
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(self._keys.trusted[other].curve))
        said = b"\0".join([_PAIR, sender.encode(), str(incarnation).encode(), receiver.encode()])
        shared = self._keys.own.key_agreement.exchange(public)
        return ChaCha20Poly1305(HKDF(SHA256(), 32, salt=None, info=said).derive(shared))


class KeyedSecurity:
    """Signed, and closed: the security of a node that has keys."""

    def __init__(self, keys: Keyring, incarnation: int) -> None:
        self._guard = MessageAuthenticator(keys, incarnation)
        self._vault = GroupCipher(keys, incarnation)

    def sign(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The frames and their seal."""
        return self._guard.sign(frames)

    def encrypt(self, frames: Sequence[Buffer]) -> list[Buffer]:
        """The signed frames as they leave."""
        return self._vault.encrypt(frames)

    def claimed_sender(self, frames: Sequence[Buffer]) -> str | None:
        """Whose key the frames name."""
        return self._guard.name_of(bytes(frames[1][:KEY_BYTES])) if len(frames) > 1 else None

    def read(self, frames: Sequence[Buffer], limits: Limits, *, again: bool = False) -> VerifiedMessage:
        """The message in frames that are closed, but for heartbeats and what a `Retransmission` carries."""
        codec.check_sizes(frames, limits)
        opened = frames if again or frames[0] == HEARTBEATS.encode() else self._vault.decrypt(frames)
        return self._guard.read(opened, limits, again=again)

    def sign_peer_info(self, me: PeerInfo) -> PeerInfo:
        """This node's own word for who and where it is."""
        return self._guard.sign_peer_info(me)

    def verified_peers(self, infos: Iterable[PeerInfo]) -> tuple[PeerInfo, ...]:
        """Those whom we trust and who have signed that this is who and where they are."""
        return self._guard.verified_peers(infos)

    def has_key_of(self, name: str) -> bool:
        """Whether its key is trusted here."""
        return self._vault.has_key_of(name)

    def group_key_grant(self) -> GroupKeyGrant | None:
        """The key of the present epoch."""
        return self._vault.grant

    def renew_group_key(self) -> None:
        """Begins a new epoch, since the membership has changed."""
        self._vault.renew()

    def accept_group_key(self, name: str, incarnation: int, grant: GroupKeyGrant) -> None:
        """A peer has told us its key."""
        self._vault.accept_group_key(name, incarnation, grant)


def _receiver(topic: Buffer) -> str | None:
    """Whose inbox a topic is; None for what is said to all."""
    text = bytes(topic).decode("ascii", "replace")
    name = text.removeprefix("to/").removesuffix("/")
    return name if text == f"to/{name}/" else None


def _nonce(number: int, place: int) -> bytes:
    """Twelve bytes that no key sees twice: every closing has its number, every frame its place."""
    return number.to_bytes(8, "big") + place.to_bytes(4, "big")
