"""Replay protection: a sliding window over a sender's serial numbers.

A signature proves the sender and not the time, so that a recorded message could be sent again. Every message that an
incarnation of a node signs takes the next serial number. A receiver keeps the highest one and which of those just below
it have arrived; a lower one, or one that has arrived, is a replay. Serial numbers are not the sequence numbers of
`protocol.retransmission`: kinds that are not numbered have them too, and a gap means nothing, since most messages of a
node are not for every receiver.

Source: the anti-replay window of RFC 4303, 3.4.3. Knows no keys, no messages and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WIDTH = 4096
"""How far behind the highest serial a message may be: more than the queues of one connection reorder."""


@dataclass
class ReplayWindow:
    """The serials of one lane that have arrived.

    Attributes:
        highest: of them, 0 for none.
    """

    highest: int = 0
    _seen: int = field(default=0, repr=False)  # bit i stands for highest - i

    def is_new(self, serial: int) -> bool:
        """Whether this serial, from 1, has not arrived and is not too far behind."""
        behind = self.highest - serial
        return behind < 0 or (behind < WIDTH and not self._seen >> behind & 1)

    def add(self, serial: int) -> None:
        """Records a serial that is new."""
        ahead = serial - self.highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WIDTH) | 1) & (1 << WIDTH) - 1
            self.highest = serial
        else:
            self._seen |= 1 << -ahead


@dataclass
class SenderReplayState:
    """The serials of one incarnation of a peer, by lane.

    A lane is a stream that keeps its order: messages are one, heartbeats, which have a socket of their own, another.
    All lanes share one series of serials.

    Attributes:
        incarnation: of the peer.
        since: the first serial that is proven to be current; an earlier one is a replay.
    """

    incarnation: int
    since: int
    _lanes: dict[str, ReplayWindow] = field(default_factory=dict, repr=False)

    def prove_current(self, serial: int) -> None:
        """The message of this serial is proven to be current, and so are all later ones."""
        self.since = min(self.since, serial)

    def accept(self, lane: str, serial: int) -> bool:
        """Records an arrival; False for a replay, which must be dropped."""
        window = self._lanes.setdefault(lane, ReplayWindow())
        if serial < self.since or not window.is_new(serial):
            return False
        window.add(serial)
        return True
