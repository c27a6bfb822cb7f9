"""What peers say to one another so that a round learns the sum of their contributions and nothing else.

How they follow each other is told in PROTOCOL.md, "Secure rounds". To the protocol the keys, boxes, votes and reveals
are opaque bytes, written as hexadecimal digits; `fednet.privacy` makes and checks them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.rounds import Names, RoundMessage, Values, Weight

_HEX = r"^(?:[0-9a-f]{2})+$"

KeyBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 256)]
BoxBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 1024)]
VoteBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 128)]
RevealBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 48 * 1024)]


class KeyAdvertisement(RoundMessage):
    """The sender has a contribution, and these are its public keys for this attempt.

    Attributes:
        public_keys: its public keys.
        weight: how much its contribution counts.
        values: what it measured.
    """

    kind: ClassVar[str] = "key_advertisement"
    numbered: ClassVar[bool] = True

    public_keys: KeyBytes
    weight: Weight
    values: Values


class ShareDistribution(RoundMessage):
    """The lead says who deals shares to one another: those whose keys have come."""

    kind: ClassVar[str] = "share_distribution"
    numbered: ClassVar[bool] = True

    sharers: Names


class EncryptedShare(RoundMessage):
    """The sender's shares for the receiver, sealed to it. To its inbox."""

    kind: ClassVar[str] = "encrypted_share"
    numbered: ClassVar[bool] = True

    ciphertext: BoxBytes


class SharesReceived(RoundMessage):
    """The sender holds the shares of everybody. To the lead."""

    kind: ClassVar[str] = "shares_received"
    numbered: ClassVar[bool] = True


class ConsistencyCheck(RoundMessage):
    """The sender's signed word for the survivors that the lead has named."""

    kind: ClassVar[str] = "consistency_check"
    numbered: ClassVar[bool] = True

    signature: VoteBytes


class ShareReveal(RoundMessage):
    """The sender's shares: of the own masks of those who survived, and of the pairwise masks of those who dropped."""

    kind: ClassVar[str] = "share_reveal"
    numbered: ClassVar[bool] = True

    shares: RevealBytes


SecureSumMessage = (
    KeyAdvertisement | ShareDistribution | EncryptedShare | SharesReceived | ConsistencyCheck | ShareReveal
)
"""All that is said about a secure sum beside what is said in every round."""
