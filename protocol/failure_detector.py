"""How long a peer's silence must be to mean something, learned from its heartbeats.

On a quiet network a heartbeat is late by milliseconds, and a silence of a few beats tells of a death. On a lossy or
distant one, or from a machine that has more to do than it can, gaps of a second are everyday. So what counts is three
times the longest gap among a peer's latest heartbeats, never less than a floor and never more than a ceiling, which
also holds until enough has been heard. The longest gap, and not a mean and a deviation: lost heartbeats and stalled
machines make gaps that are rare and large, which no normal distribution expects.

Source: the adaptive detectors of Chen, Toueg and Aguilera 2002 ("On the quality of service of failure detectors") and
Hayashibara et al. 2004 ("The phi accrual failure detector"); differs from both in the estimator, as said above.
Pure: knows no clock.
"""

from __future__ import annotations

from collections import deque

WINDOW = 128
"""Heartbeats that are remembered: about half a minute of them."""
MIN_SAMPLES = 32
"""Heartbeats that it takes before anything is concluded from them."""
GAP_FACTOR = 3.0
"""How many times the longest gap a silence may last."""


class FailureDetector:
    """The latest heartbeats of one peer.

    Args:
        floor: seconds of silence that are always forgiven.
        ceiling: seconds of silence that never are.

    Attributes:
        timeout: seconds of silence after which this peer is taken for lost, in [floor, ceiling].
    """

    def __init__(self, floor: float, ceiling: float) -> None:
        self._floor, self._ceiling = min(floor, ceiling), ceiling
        self._gaps: deque[float] = deque(maxlen=WINDOW)
        self._last: float | None = None
        self.timeout = ceiling

    def record(self, now: float) -> None:
        """A heartbeat has come."""
        if self._last is not None:
            self._gaps.append(now - self._last)
            if len(self._gaps) >= MIN_SAMPLES:
                self.timeout = min(self._ceiling, max(self._floor, GAP_FACTOR * max(self._gaps)))
        self._last = now

    def discount_pause(self, seconds: float) -> None:
        """For so long nobody listened: it is no gap of the peer's."""
        if self._last is not None:
            self._last += seconds
