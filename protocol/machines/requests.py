"""The plans of rounds that wait at a member, in the order in which they came."""

from __future__ import annotations

from protocol.messages.round_values import RoundPlanMessage

MAX_REQUESTS = 64
"""Plans that wait at a member; a further one is refused."""

MAX_OF_ONE = 16
"""Those that one node has brought, so that nobody takes all the room."""


class RequestQueue:
    """The plans that wait.

    Attributes:
        plans: by key, with the node that has brought each: its requester, or a leader that has opened a round of it.
    """

    def __init__(self) -> None:
        self.plans: dict[str, tuple[RoundPlanMessage, str]] = {}

    def add(self, plan: RoundPlanMessage, sender: str) -> bool:
        """Adds a plan that a node has brought; False if too many wait already, of all or of this one."""
        of_one = sum(by == sender for _, by in self.plans.values())
        if plan.key not in self.plans and (len(self.plans) >= MAX_REQUESTS or of_one >= MAX_OF_ONE):
            return False
        self.plans.setdefault(plan.key, (plan, sender))
        return True

    def remove(self, key: str) -> None:
        """Removes a plan whose rounds are over."""
        self.plans.pop(key, None)
