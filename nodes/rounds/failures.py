"""Why an attempt at a round, or a whole plan, cannot go on, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import RoundsAborted
from protocol.quorum import QuorumOutcome


class RoundImpossible(Exception):
    """A plan cannot be continued; `lost` names the members that could not take part, with the reason."""

    def __init__(self, reason: str, lost: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.lost = lost


class AttemptFailed(Exception):
    """An attempt cannot be completed since a member that it needs is gone; another attempt may succeed."""


def abort_message(term: int, plan: RoundPlanMessage, error: RoundImpossible) -> RoundsAborted:
    """Tells members and requester that a plan cannot be continued, and why."""
    return RoundsAborted(term=term, key=plan.key, lost=truncated(error.lost), reason=str(error)[:500])


def missing(outcome: QuorumOutcome) -> dict[str, str]:
    """Those that have not contributed to a step, with the reason."""
    return {**outcome.lost, **dict.fromkeys(outcome.late, "late")}


def listed(reasons: Mapping[str, str]) -> str:
    """Reasons by name, in a sentence."""
    return ", ".join(f"{name} {reason}" for name, reason in reasons.items())


def truncated(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons cut to the length that a message may have."""
    return {name: reason[:500] for name, reason in reasons.items()}
