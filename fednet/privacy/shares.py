"""Signed and sealed shares of a party's secrets.

A share is signed by its dealer, for one set of parties, one receiver and one kind. A receiver can check it at once, and
when it is revealed everybody can check that it is what was dealt: a false share is the revealer's fault, shares that
do not fit each other are the dealer's. Sealing is ChaCha20-Poly1305 (RFC 8439) under a key for these parties, this
sender and this receiver only. When a share is revealed is decided in `secure_sum`.
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
from fednet.privacy.masking import derive_key, length_prefixed, shared_secret
from fednet.privacy.secure_sum_setup import Kind, SecureSumParties

_SIGNATURE = 64
_TAG = 16

SHARE_BYTES = SECRETS.width + _SIGNATURE
"""Size of one packed share."""

SEALED_BYTES = 2 * SHARE_BYTES + _TAG
"""Size of a sealed message: a share of the sender's key and one of its seed."""

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


DealtShares = Mapping[Kind, SecretShare]
"""The shares that one party holds of another, by kind."""


def deal(
    secret: bytes, kind: Kind, dealer: str, parties: SecureSumParties, *, signer: bytes, random: Random
) -> dict[str, SecretShare]:
    """Splits a secret of 32 bytes into signed shares, one for every party."""
    parameters, signing = parties.parameters, Ed25519PrivateKey.from_private_bytes(signer)
    values = shamir.split(int.from_bytes(secret, "big"), parameters.threshold, len(parameters.names), random)
    shares = {}
    for receiver in sorted(parties.keys):
        value = values[parameters.place(receiver)]
        shares[receiver] = SecretShare(value, signing.sign(_statement(value, kind, dealer, receiver, parties)))
    return shares


def is_genuine(share: SecretShare, kind: Kind, dealer: str, receiver: str, parties: SecureSumParties) -> bool:
    """Whether a share is signed by its dealer for this kind, receiver and set of parties."""
    statement = _statement(share.value, kind, dealer, receiver, parties)
    try:
        Ed25519PublicKey.from_public_bytes(parties.keys[dealer].sign).verify(share.signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return share.value < SECRETS.prime


def seal(dealt: DealtShares, private: bytes, dealer: str, receiver: str, parties: SecureSumParties) -> bytes:
    """Encrypts a dealer's shares to a receiver, `SEALED_BYTES` bytes.

    Raises:
        PrivacyError: the receiver's key is invalid; names it.
    """
    cipher = _cipher(private, receiver, dealer, receiver, parties)
    return cipher.encrypt(bytes(12), b"".join(dealt[kind].packed() for kind in _KINDS), None)


def unseal(sealed: bytes, private: bytes, dealer: str, receiver: str, parties: SecureSumParties) -> DealtShares:
    """Decrypts the shares that a dealer sealed to a receiver.

    Raises:
        PrivacyError: decryption fails, or a share is not signed by the dealer; names the dealer.
    """
    refused = PrivacyError(
        f"the shares that {dealer!r} sent to {receiver!r} are invalid: modified, of another attempt, or sealed to "
        "another party; exclude the sender",
        (dealer,),
    )
    try:
        plain = _cipher(private, dealer, dealer, receiver, parties).decrypt(bytes(12), sealed, None)
    except InvalidTag:
        raise refused from None
    dealt = {kind: SecretShare.unpacked(part) for kind, part in zip(_KINDS, _halves(plain), strict=True)}
    if len(sealed) != SEALED_BYTES or not all(
        is_genuine(share, kind, dealer, receiver, parties) for kind, share in dealt.items()
    ):
        raise refused
    return dealt


def _halves(plain: bytes) -> tuple[bytes, bytes]:
    return plain[:SHARE_BYTES], plain[SHARE_BYTES:]


def _cipher(private: bytes, other: str, dealer: str, receiver: str, parties: SecureSumParties) -> ChaCha20Poly1305:
    """The cipher of one message: its key is used once, so the nonce may be zero."""
    try:
        secret = shared_secret(private, parties.keys[other].seal)
    except PrivacyError as error:
        raise PrivacyError(f"{other!r}: {error}", (other,)) from None
    return ChaCha20Poly1305(derive_key(secret, b"fednet seal", parties.digest, dealer.encode(), receiver.encode()))


def _statement(value: int, kind: Kind, dealer: str, receiver: str, parties: SecureSumParties) -> bytes:
    number = value.to_bytes(SECRETS.width, "big")
    return length_prefixed(b"fednet share", parties.digest, kind.encode(), dealer.encode(), receiver.encode(), number)
