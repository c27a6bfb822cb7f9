"""Messages of a secure round, in which peers learn the sum of their contributions and nothing else.

PROTOCOL.md, "Secure rounds", gives their order. Keys, ciphertexts, signatures and shares are opaque bytes here, of
known lengths; `fednet.privacy` makes and checks them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from protocol.messages.base import MAX_MEMBERS, SIGNATURE_BYTES, Digest, Name
from protocol.messages.round_values import Signature, Values, Weight
from protocol.messages.rounds import RoundMessage

PUBLIC_KEYS_BYTES = 128
"""Two X25519 keys, an Ed25519 key and a SHA-256 commitment."""

CIPHERTEXT_BYTES = 210
"""Two signed shares of 97 bytes and a tag of 16."""

AGREEMENT_BYTES = 32
SHARE_BYTES = 97
"""A `ShareReveal` holds the SHA-256 of what was agreed on, and a signed share of each sharer."""


def _shares(data: bytes) -> bytes:
    count, rest = divmod(len(data) - AGREEMENT_BYTES, SHARE_BYTES)
    if rest or not 1 <= count <= MAX_MEMBERS:
        raise ValueError(f"expected {AGREEMENT_BYTES} bytes and {SHARE_BYTES} of each of 1 to {MAX_MEMBERS} sharers")
    return data


class KeyAdvertisement(RoundMessage):
    """The sender has a contribution, and these are its public keys for this attempt.

    Attributes:
        opening: the digest of the opening that it answers.
        public_keys: `PUBLIC_KEYS_BYTES` bytes.
        weight: how much its contribution counts.
        values: what it measured.
        signature: of the sender.
    """

    kind: ClassVar[str] = "key_advertisement"
    numbered: ClassVar[bool] = True

    opening: Digest
    public_keys: Annotated[bytes, Field(min_length=PUBLIC_KEYS_BYTES, max_length=PUBLIC_KEYS_BYTES)]
    weight: Weight
    values: Values
    signature: Signature = b""


class ShareDistribution(RoundMessage):
    """The leader names the sharers: the members whose key advertisements have arrived.

    Attributes:
        advertisements: of every sharer, as the leader has received it; each sharer distributes shares of its secrets
            to the others.
    """

    kind: ClassVar[str] = "share_distribution"
    numbered: ClassVar[bool] = True

    advertisements: Annotated[dict[Name, KeyAdvertisement], Field(max_length=MAX_MEMBERS)]


class Equivocation(RoundMessage):
    """The sender has two advertisements that one member has signed for the same opening: a proof that it has lied.

    Attributes:
        advertiser: that member.
        first: one of its advertisements.
        second: another one.
    """

    kind: ClassVar[str] = "equivocation"
    numbered: ClassVar[bool] = True

    advertiser: Name
    first: KeyAdvertisement
    second: KeyAdvertisement


class EncryptedShare(RoundMessage):
    """The sender's shares for the receiver, encrypted to it. To its inbox.

    Attributes:
        ciphertext: `CIPHERTEXT_BYTES` bytes.
    """

    kind: ClassVar[str] = "encrypted_share"
    numbered: ClassVar[bool] = True

    ciphertext: Annotated[bytes, Field(min_length=CIPHERTEXT_BYTES, max_length=CIPHERTEXT_BYTES)]


class SharesReceived(RoundMessage):
    """The sender holds the shares of every sharer. To the leader."""

    kind: ClassVar[str] = "shares_received"
    numbered: ClassVar[bool] = True


class ConsistencyCheck(RoundMessage):
    """The sender signs the set of survivors that the leader has named.

    Attributes:
        signature: Ed25519, over all keys, the sharers and the survivors.
    """

    kind: ClassVar[str] = "consistency_check"
    numbered: ClassVar[bool] = True

    signature: Annotated[bytes, Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class ShareReveal(RoundMessage):
    """The sender's shares: of the survivors' own masks, and of the pairwise masks of those who dropped out.

    Attributes:
        shares: `AGREEMENT_BYTES` bytes, then `SHARE_BYTES` of each sharer in sorted order.
    """

    kind: ClassVar[str] = "share_reveal"
    numbered: ClassVar[bool] = True

    shares: Annotated[bytes, AfterValidator(_shares)]


SecureSumMessage = (
    KeyAdvertisement
    | ShareDistribution
    | Equivocation
    | EncryptedShare
    | SharesReceived
    | ConsistencyCheck
    | ShareReveal
)
"""Every message that a secure round has and a plain one has not."""
