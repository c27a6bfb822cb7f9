"""What peers cost a node or relay: their budgets, their faults, and who is in quarantine.

Combines `protocol.security.budget` and `protocol.security.quarantine`: whoever is beyond its budget is refused at once,
which slows it down, and that is a fault; whoever goes on is quarantined. Both are named. A payer that is only claimed,
as the sender of what a relay brings is before it is verified, is slowed down and not at fault: whoever forwards a
message could have made the claim. Does not know what is paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocol.security.budget import Budget, Cost
from protocol.security.quarantine import Leniency, Quarantine


class Accounts:
    """The accounts of all peers. Times are seconds of any monotonic clock.

    Args:
        refused: told of each thing that is refused: its kind and why.
        barred: told of each peer that is quarantined: its name and why.
        blamed: told of each fault of a peer: its name, a word to count by, and why.
        budget: what each peer may cost.
        leniency: how many faults are forgiven.
        believes: whether a claim counts as proven, since nobody has keys.
    """

    def __init__(
        self,
        refused: Callable[[str, str], None],
        barred: Callable[[str, str], None],
        blamed: Callable[[str, str, str], None] = lambda _culprit, _kind, _why: None,
        *,
        budget: Budget | None = None,
        leniency: Leniency | None = None,
        believes: bool = False,
    ) -> None:
        self._refused = refused
        self._barred = barred
        self._blamed = blamed
        self._budget = budget or Budget()
        self._quarantine = Quarantine(leniency)
        self._believes = believes

    def charge(self, payer: str, cost: Cost, amount: float, now: float, *, proven: bool = True) -> bool:
        """Whether a peer may cause this now; if it is beyond its budget that is a fault, where it is proven to be it.

        Args:
            payer: the peer.
            cost: what it causes.
            amount: how much of it; negative for what has ended and is given back.
            now: seconds.
            proven: whether it has proven its key.
        """
        if amount > 0 and self._quarantine.is_active(now) and self._quarantine.is_quarantined(payer, now):
            return False
        if self._budget.charge(payer, cost, amount, now):
            return True
        why = f"{payer} is beyond its budget of {cost.value}"
        if proven or self._believes:
            self.fault(payer, "over budget", why, now)
        else:
            self._refused("over budget", why)
        return False

    def fault(self, culprit: str | None, kind: str, why: str, now: float) -> None:
        """Something is refused for what a peer did wrong; whoever does so again and again is quarantined."""
        self._refused(kind, why)
        if culprit is None:
            return
        self._blamed(culprit, kind, why)
        if (seconds := self._quarantine.record_fault(culprit, now)) is not None:
            quarantine = f"quarantined for {seconds:.0f} s: {why}"[:500]
            self._blamed(culprit, "quarantine", quarantine)
            self._barred(culprit, quarantine)

    def is_active(self, now: float) -> bool:
        """Whether anybody is in quarantine now; otherwise nobody needs to be looked up."""
        return self._quarantine.is_active(now)

    def is_quarantined(self, name: str | None, now: float) -> bool:
        """Whether this peer is in quarantine."""
        return self._quarantine.is_quarantined(name, now)

    def faults(self) -> Mapping[str, int]:
        """How many faults each peer has been found guilty of; of the latest peers, as many as are tracked."""
        return self._quarantine.faults()
