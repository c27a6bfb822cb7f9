"""Whether a signed message has been heard before: a sliding window over a sender's serial numbers.

A signature says who spoke and not when, so whoever has heard a message could say it again. Everything that a life of
a node signs takes the next serial number. A receiver remembers the highest one it has heard and which of those just
below it; what is lower, or heard already, is a replay. Serials are apart from the numbers of `protocol.retransmission`:
they bind kinds that are not numbered, too, and a gap in them means nothing, since most of what a node says is not for
every receiver.

Source: the anti-replay window of RFC 4303, 3.4.3. Knows no keys, no messages and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WIDTH = 4096
"""How far behind the highest serial a message may come: further than queues of one connection reorder anything."""


@dataclass
class ReplayWindow:
    """The serials of one lane that have been heard.

    Attributes:
        highest: the highest of them, 0 for none.
    """

    highest: int = 0
    _seen: int = field(default=0, repr=False)  # bit i stands for highest - i

    def is_new(self, serial: int) -> bool:
        """Whether this serial, from 1, has not been heard and is not too far behind."""
        behind = self.highest - serial
        return behind < 0 or (behind < WIDTH and not self._seen >> behind & 1)

    def add(self, serial: int) -> None:
        """Remembers a serial that is new."""
        ahead = serial - self.highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WIDTH) | 1) & (1 << WIDTH) - 1
            self.highest = serial
        else:
            self._seen |= 1 << -ahead


@dataclass
class SenderReplayState:
    """What has been heard of one life of a peer, lane by lane.

    A lane is what keeps its order by itself: messages are one, heartbeats, which leave by a socket of their own,
    another. All lanes share one series of serials.

    Attributes:
        incarnation: which life.
        since: the first serial known to be said in our own lifetime; nothing earlier is taken.
    """

    incarnation: int
    since: int
    _lanes: dict[str, ReplayWindow] = field(default_factory=dict, repr=False)

    def prove_current(self, serial: int) -> None:
        """What was said under this serial could only be said in our own lifetime."""
        self.since = min(self.since, serial)

    def accept(self, lane: str, serial: int) -> bool:
        """Whether this has not been heard before; it counts as heard from now on."""
        window = self._lanes.setdefault(lane, ReplayWindow())
        if serial < self.since or not window.is_new(serial):
            return False
        window.add(serial)
        return True
