"""What of the members' messages about rounds is taken in, and why the rest is not.

A message is held against what its receiver knows: the configured members, the attempt that it takes part in, and the
votes under every record that a message states as committed. Knows nothing of transport and of what follows a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.consistency import inconsistency
from protocol.machines.signatory import Signatory
from protocol.machines.sizes import plan_objection, record_objection
from protocol.messages.base import Message
from protocol.messages.election import LeaderAnnouncement, Promise, RecordRequest
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundMessage, RoundOpen, RoundsRequest
from protocol.rounds import attempt_of


@dataclass(frozen=True)
class Refusal:
    """Why a message is not taken in.

    Attributes:
        kind: a word to count by.
        reason: in a sentence; empty where it is not worth one.
        is_fault: whether its sender has broken the protocol.
    """

    kind: str
    reason: str = ""
    is_fault: bool = False


def refusal(
    signatory: Signatory, me: str, sender: str, message: Message, part: tuple[RoundOpen, str] | None
) -> Refusal | None:
    """Why a message is not taken in, None if it is.

    Args:
        signatory: knows the members, and checks their votes.
        me: the receiver, which has checked the records that it states itself.
        sender: of the message.
        message: about rounds.
        part: the attempt that the receiver takes part in, and who leads it; None if it takes part in none.
    """
    if not isinstance(message, RoundsRequest | RecordRequest) and sender not in signatory.members:
        return Refusal("no member")
    if sender != me and (too_large := _too_large(signatory, message)):
        return Refusal("too large", f"{message.kind} from {sender} with {too_large}", is_fault=True)
    if sender != me and not all(map(signatory.is_certified, records_in(message))):
        return Refusal("uncertified", f"{message.kind} from {sender} without the votes of a majority")
    if isinstance(message, RoundMessage) and (wrong := _inconsistency(signatory, sender, message, part)):
        return Refusal("inconsistent", f"{message.kind} from {sender} {wrong}", is_fault=True)
    return None


def records_in(message: Message) -> Iterable[RoundCommit]:
    """The records that a message states as committed."""
    match message:
        case RoundCommit():
            return (message,)
        case RoundOpen() | Promise() | LeaderAnnouncement():
            return message.records.values()
    return ()


def _too_large(signatory: Signatory, message: Message) -> str:
    """What in a message is larger than any member votes for; empty if nothing is."""
    records, plans = [*records_in(message)], list[RoundPlanMessage]()
    match message:
        case RoundOpen(plan=plan, recovered=recovered):
            records += [recovered] if recovered else []
            plans += [plan]
        case Promise(accepted=accepted):
            records += [vote.record for vote in accepted.values()]
            plans += [vote.plan for vote in accepted.values()]
    members = len(signatory.members)
    objections = [*map(plan_objection, plans), *(record_objection(record, members) for record in records)]
    return next(filter(None, objections), "")


def _inconsistency(
    signatory: Signatory, sender: str, message: RoundMessage, part: tuple[RoundOpen, str] | None
) -> str | None:
    """What is wrong with a message about a round by what is known here, None if nothing is."""
    if isinstance(message, RoundOpen) and (others := set(message.members) - set(signatory.members)):
        return f"names {min(others)}, which is no configured member"
    if part is None or attempt_of(part[0]) != attempt_of(message):
        return None
    return inconsistency(*part, sender, message)
