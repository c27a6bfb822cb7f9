"""What peers say to one another so that a round learns the sum of their contributions and nothing else.

How they follow each other is told in PROTOCOL.md, "Secure rounds". To the protocol the keys, boxes, votes and reveals
are opaque bytes, written as hexadecimal digits; `fednet.privacy` makes and checks them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.rounds import Names, OfRound, Values, Weight

_HEX = r"^(?:[0-9a-f]{2})+$"

KeyBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 256)]
BoxBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 1024)]
VoteBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 128)]
RevealBytes = Annotated[str, Field(pattern=_HEX, max_length=2 * 48 * 1024)]


class KeyAdvertisement(OfRound):
    """The sender has a contribution, and these are its public keys for this attempt.

    Attributes:
        public: its public keys.
        weight: how much its contribution counts.
        values: what it measured.
    """

    kind: ClassVar[str] = "key_advertisement"
    numbered: ClassVar[bool] = True

    public: KeyBytes
    weight: Weight
    values: Values


class ShareDistribution(OfRound):
    """The lead says who deals shares to one another: those whose keys have come."""

    kind: ClassVar[str] = "share_distribution"
    numbered: ClassVar[bool] = True

    names: Names


class EncryptedShare(OfRound):
    """The sender's shares for the receiver, sealed to it. To its inbox."""

    kind: ClassVar[str] = "encrypted_share"
    numbered: ClassVar[bool] = True

    box: BoxBytes


class SharesReceived(OfRound):
    """The sender holds the shares of everybody. To the lead."""

    kind: ClassVar[str] = "shares_received"
    numbered: ClassVar[bool] = True


class ConsistencyCheck(OfRound):
    """The sender's signed word for the survivors that the lead has named."""

    kind: ClassVar[str] = "consistency_check"
    numbered: ClassVar[bool] = True

    vote: VoteBytes


class ShareReveal(OfRound):
    """The sender's shares: of the own masks of those who survived, and of the pairwise masks of those who dropped."""

    kind: ClassVar[str] = "share_reveal"
    numbered: ClassVar[bool] = True

    shares: RevealBytes


SecureSumMessage = (
    KeyAdvertisement | ShareDistribution | EncryptedShare | SharesReceived | ConsistencyCheck | ShareReveal
)
"""All that is said about a secure sum beside what is said in every round."""
