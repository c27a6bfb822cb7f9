"""Whether a message about an attempt at a round agrees with the attempt's opening, and may be its sender's.

A message is valid in itself (`protocol.messages`); here it is held against what its receiver knows. What is not
consistent is a fault of its sender. Knows neither what a round has reached nor what follows a fault.
"""

from __future__ import annotations

from protocol.messages.rounds import (
    ContributionReceipt,
    FalseShard,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import (
    ConsistencyCheck,
    EncryptedShare,
    Equivocation,
    KeyAdvertisement,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)

OF_LEADER = (RoundClose, ShareDistribution)
OF_MEMBERS = (RoundDecline, ContributionReceipt, Equivocation, RoundVote, ShardReduced, FalseShard)
OF_CONTRIBUTORS = (KeyAdvertisement, EncryptedShare, SharesReceived, ConsistencyCheck, ShareReveal)


def inconsistency(opened: RoundOpen, leader: str, sender: str, message: RoundMessage) -> str | None:
    """What is wrong with a message about an attempt, None if nothing is.

    Args:
        opened: the attempt, of which the message has term and attempt.
        leader: who has opened it.
        sender: of the message.
        message: any message about it; what a peer forwards (a `RoundCommit`) is checked only from its leader.
    """
    if (message.model, message.number) != (opened.model, opened.number):
        return f"is about round {message.number} of {message.model}, and this attempt is at another one"
    return _unentitled(opened, leader, sender, message) or _contradiction(opened, leader, sender, message)


def _unentitled(opened: RoundOpen, leader: str, sender: str, message: RoundMessage) -> str | None:
    """Why a message is not its sender's to say."""
    if isinstance(message, OF_LEADER) and sender != leader:
        return "is for the leader to say"
    if isinstance(message, OF_MEMBERS) and sender not in opened.members:
        return "is for members of the round to say"
    if isinstance(message, OF_CONTRIBUTORS) and sender not in opened.contributors:
        return "is for contributors to the round to say"
    return None


def _contradiction(opened: RoundOpen, leader: str, sender: str, message: RoundMessage) -> str | None:
    """Where a message differs from the opening."""
    match message:
        case RoundOpen() if message != opened:
            return "opens the same attempt in another way"
        case RoundCommit() if sender == leader and (message.index != opened.index or not message.is_of(opened.plan)):
            return "is the record of another round"
        case ContributionReceipt(contributor=name) | FalseShard(owner=name) if name not in opened.members:
            return f"names {name}, which is no member of the round"
    strangers = sorted(_contributors_in(opened, leader, sender, message) - set(opened.contributors))
    return f"names {strangers[0]}, which is no contributor" if strangers else None


def _contributors_in(opened: RoundOpen, leader: str, sender: str, message: RoundMessage) -> set[str]:
    """Whom a message names as contributors to this attempt."""
    match message:
        case RoundClose():
            return {*message.contributions, *message.late}
        case ShareDistribution():
            return {*message.advertisements}
        case Equivocation():
            return {message.advertiser}
        case RoundCommit() if sender == leader and opened.recovered is None:
            return {*message.weights}
        case _:
            return set()
