"""Which peers' clocks differ from this machine's, by the time that their heartbeats state. Pure: both times are given.

A heartbeat that was long on its way looks like a clock that is behind, and after a pause of the receiver many of them
arrive at once. So a difference counts when every heartbeat of some seconds, by the receiver's monotonic clock, shows
it. No decision of a run depends on a clock; people read the logs of several machines side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_CLOCK_SKEW = 2.0
"""Seconds by which the clocks of two machines may differ."""

_SUSTAINED = 5.0


def clock_remark(ahead: float) -> str:
    """What to do about a clock that is so many seconds ahead of ours."""
    how = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"
    return f"it is {how} the clock here: synchronise both machines with a time server"


@dataclass
class _Difference:
    since: float
    ahead: float
    counts: bool = False


@dataclass
class ClockComparison:
    """The clocks of peers beside ours.

    Args:
        most: seconds of difference that are nothing to speak of.
    """

    most: float = MAX_CLOCK_SKEW
    _differences: dict[str, _Difference] = field(default_factory=dict)

    def heard(self, name: str, stated: float, here: float, now: float) -> bool:
        """A heartbeat of a peer has arrived; returns whether its clock has just been found to differ.

        Args:
            name: the peer.
            stated: its clock, seconds since the epoch; 0 where it states none.
            here: ours.
            now: seconds of a monotonic clock.
        """
        ahead = stated - here
        if not stated or abs(ahead) <= self.most:
            self._differences.pop(name, None)
            return False
        found = self._differences.setdefault(name, _Difference(now, ahead))
        found.ahead = min(found.ahead, ahead, key=abs)
        due = not found.counts and now - found.since >= _SUSTAINED
        found.counts = found.counts or due
        return due

    def ahead(self, name: str) -> float:
        """By how many seconds a peer's clock is ahead of ours; 0 unless it is known to differ."""
        found = self._differences.get(name)
        return found.ahead if found is not None and found.counts else 0.0

    def forget(self, name: str) -> None:
        """A peer has departed."""
        self._differences.pop(name, None)
