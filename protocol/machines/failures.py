"""Why an attempt at a round, or a whole plan, cannot go on, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping

from protocol.machines.attempt_values import RoundImpossible
from protocol.machines.sizes import truncated
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import RoundsAborted
from protocol.quorum import QuorumOutcome


def abort_message(term: int, plan: RoundPlanMessage, why: RoundImpossible) -> RoundsAborted:
    """Tells members and requester that a plan cannot be continued, and why."""
    return RoundsAborted(term=term, key=plan.key, lost=truncated(why.lost), reason=why.reason[:500])


def missing(outcome: QuorumOutcome) -> dict[str, str]:
    """Those that have not contributed to a step, with the reason."""
    return {**outcome.lost, **dict.fromkeys(outcome.late, "late")}


def listed(reasons: Mapping[str, str]) -> str:
    """Reasons by name, in a sentence."""
    return ", ".join(f"{name} {reason}" for name, reason in reasons.items())
