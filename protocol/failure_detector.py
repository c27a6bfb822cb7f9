"""An adaptive failure detector: the silence after which a peer counts as lost, learned from its heartbeats.

On a fast network a heartbeat is late by milliseconds, and a silence of a few intervals means a crash. On a lossy or
slow one, or with an overloaded machine, gaps of a second are normal. The timeout is three times the longest gap among
a peer's latest heartbeats, within a floor and a ceiling; until there are enough of them it is the ceiling. The longest
gap instead of mean and deviation: lost heartbeats and stalled machines make gaps that are rare and large, which a
normal distribution does not model.

Source: the adaptive detectors of Chen, Toueg and Aguilera 2002 ("On the quality of service of failure detectors") and
Hayashibara et al. 2004 ("The phi accrual failure detector"); differs from both in this estimator.
Pure: knows no clock.
"""

from __future__ import annotations

from collections import deque

WINDOW = 128
"""Gaps that are kept: about half a minute of heartbeats."""

MIN_SAMPLES = 32
"""Gaps below which the timeout is the ceiling."""

GAP_FACTOR = 3.0
"""The timeout is this many times the longest gap."""


class FailureDetector:
    """The inter-arrival times of one peer's heartbeats.

    Args:
        floor: the shortest timeout, in seconds.
        ceiling: the longest.

    Attributes:
        timeout: seconds of silence after which this peer counts as lost, in [floor, ceiling].
    """

    def __init__(self, floor: float, ceiling: float) -> None:
        self._floor, self._ceiling = min(floor, ceiling), ceiling
        self._gaps: deque[float] = deque(maxlen=WINDOW)
        self._last: float | None = None
        self.timeout = ceiling

    def record(self, now: float) -> None:
        """A heartbeat has arrived."""
        if self._last is not None:
            self._gaps.append(now - self._last)
            if len(self._gaps) >= MIN_SAMPLES:
                self.timeout = min(self._ceiling, max(self._floor, GAP_FACTOR * max(self._gaps)))
        self._last = now

    def discount_pause(self, seconds: float) -> None:
        """The receiver itself stood still for so long: that is no gap of the peer's."""
        if self._last is not None:
            self._last += seconds
