"""One peer's secrets on their way: dealt, signed, sealed to one receiver, opened, and later revealed to all.

A share is signed by who dealt it, for one roster, one receiver and one kind. So a receiver knows at once what it got,
and when it reveals the share everybody sees whether that is what was dealt: a false share is the revealer's, shares
that fit nothing are the dealer's. Sealing (ChaCha20-Poly1305, RFC 8439) takes a key for this roster, sender and
receiver only. Refuses to know when what is revealed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fednet.errors import PrivacyError
from fednet.privacy import shamir
from fednet.privacy.entropy import Random
from fednet.privacy.field import SECRETS
from fednet.privacy.masking import agreed, derived, framed
from fednet.privacy.secure_sum_setup import Kind, SecureSumParties

_SIGNATURE = 64
_TAG = 16

SHARE_BYTES = SECRETS.width + _SIGNATURE
"""The bytes of one packed share."""

SEALED_BYTES = 2 * SHARE_BYTES + _TAG
"""The bytes of what one peer seals to another: a share of its key and one of its seed."""

_KINDS: tuple[Kind, ...] = ("key", "seed")


@dataclass(frozen=True)
class SecretShare:
    """A share and its dealer's signature."""

    value: int = field(repr=False)
    signature: bytes = field(repr=False)

    def packed(self) -> bytes:
        """`SHARE_BYTES` bytes."""
        return self.value.to_bytes(SECRETS.width, "big") + self.signature

    @classmethod
    def unpacked(cls, packed: bytes) -> SecretShare:
        """The inverse of `packed`, of `SHARE_BYTES` bytes."""
        return cls(int.from_bytes(packed[: SECRETS.width], "big"), packed[SECRETS.width :])


Dealt = Mapping[Kind, SecretShare]
"""What one peer holds of another: a share of either kind."""


def deal(
    secret: bytes, kind: Kind, dealer: str, roster: SecureSumParties, *, signer: bytes, random: Random
) -> dict[str, SecretShare]:
    """Cuts a secret of 32 bytes into signed shares, one for everybody on the roster."""
    terms, signing = roster.terms, Ed25519PrivateKey.from_private_bytes(signer)
    values = shamir.split(int.from_bytes(secret, "big"), terms.threshold, len(terms.names), random)
    shares = {}
    for receiver in sorted(roster.keys):
        value = values[terms.place(receiver)]
        shares[receiver] = SecretShare(value, signing.sign(_statement(value, kind, dealer, receiver, roster)))
    return shares


def is_genuine(share: SecretShare, kind: Kind, dealer: str, receiver: str, roster: SecureSumParties) -> bool:
    """Whether this is the share of this kind that a dealer dealt to a receiver under this roster."""
    statement = _statement(share.value, kind, dealer, receiver, roster)
    try:
        Ed25519PublicKey.from_public_bytes(roster.keys[dealer].sign).verify(share.signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return share.value < SECRETS.prime


def seal(dealt: Dealt, private: bytes, dealer: str, receiver: str, roster: SecureSumParties) -> bytes:
    """What a dealer has for a receiver, `SEALED_BYTES` bytes that only the two can open.

    Raises:
        PrivacyError: the receiver's key is none; names it.
    """
    cipher = _cipher(private, receiver, dealer, receiver, roster)
    return cipher.encrypt(bytes(12), b"".join(dealt[kind].packed() for kind in _KINDS), None)


def unseal(sealed: bytes, private: bytes, dealer: str, receiver: str, roster: SecureSumParties) -> Dealt:
    """Opens what a dealer sealed to a receiver.

    Raises:
        PrivacyError: it does not open, or the shares in it are not the dealer's; names the dealer.
    """
    refused = PrivacyError(
        f"the shares that {dealer!r} sent to {receiver!r} are refused: they were changed on the way, are of another "
        "attempt or were meant for another peer; leave that peer out",
        (dealer,),
    )
    try:
        plain = _cipher(private, dealer, dealer, receiver, roster).decrypt(bytes(12), sealed, None)
    except InvalidTag:
        raise refused from None
    dealt = {kind: SecretShare.unpacked(part) for kind, part in zip(_KINDS, _halves(plain), strict=True)}
    if len(sealed) != SEALED_BYTES or not all(
        is_genuine(share, kind, dealer, receiver, roster) for kind, share in dealt.items()
    ):
        raise refused
    return dealt


def _halves(plain: bytes) -> tuple[bytes, bytes]:
    return plain[:SHARE_BYTES], plain[SHARE_BYTES:]


def _cipher(private: bytes, other: str, dealer: str, receiver: str, roster: SecureSumParties) -> ChaCha20Poly1305:
    """The cipher of this one message: the key is never used again, so the nonce may be zero."""
    try:
        secret = agreed(private, roster.keys[other].seal)
    except PrivacyError as error:
        raise PrivacyError(f"{other!r}: {error}", (other,)) from None
    return ChaCha20Poly1305(derived(secret, b"fednet seal", roster.digest, dealer.encode(), receiver.encode()))


def _statement(value: int, kind: Kind, dealer: str, receiver: str, roster: SecureSumParties) -> bytes:
    number = value.to_bytes(SECRETS.width, "big")
    return framed(b"fednet share", roster.digest, kind.encode(), dealer.encode(), receiver.encode(), number)
