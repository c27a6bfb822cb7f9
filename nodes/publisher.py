"""What one node says: numbered, signed, kept for whoever missed it, and closed to everybody but members.

The speaking half of a node; what it hears is `nodes.node`. Refuses to know who listens and what is meant.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping

from nodes.transport.interface import Transport
from protocol import codec, topics
from protocol.codec import Buffer, Envelope
from protocol.messages import Message
from protocol.messages.presence import Heartbeat
from protocol.messages.retransmission import RetransmitRequest, RetransmitUnavailable
from protocol.retransmission import Outbox, consecutive_ranges
from protocol.security.authentication import Security
from protocol.tensors import Encoding

BUFFER_OVERHEAD_BYTES = 512
"""Bytes that it takes to keep a message for repair, beside those of its frames."""


class Publisher:
    """The words of one life of a node.

    Args:
        bus: carries them.
        security: signs and closes them.
        name: whose they are.
        incarnation: of which life.
        encoding: how floating-point tensors travel.

    Attributes:
        run: the run they are about; empty for a visitor that has not heard it yet.
        sent: bytes that were published, by kind of message, frames and headers included, each counted once.
        outbox: what is kept for repair.
    """

    def __init__(self, bus: Transport, security: Security, name: str, incarnation: int, encoding: Encoding) -> None:
        self._bus = bus
        self._security = security
        self._name = name
        self._incarnation = incarnation
        self._encoding = encoding
        self.run = ""
        self.sent: Counter[str] = Counter()
        self.outbox = Outbox()

    def publish(self, topic: str, message: Message) -> None:
        """Says a message on a topic: numbered and kept for repair when its kind is. Never blocks."""
        number = self.outbox.number(topic) if message.numbered else 0
        frames = self._security.sign(codec.encode(self._envelope(topic, number, message), self._encoding))
        if number:
            self.outbox.keep(topic, number, frames, BUFFER_OVERHEAD_BYTES + sum(map(len, frames)))
        leaving = self._security.encrypt(frames)
        self.sent[message.kind] += sum(map(len, leaving))
        self._bus.publish(leaving)

    def repeat(self, asker: str, request: RetransmitRequest) -> None:
        """A peer has missed some of it: says again what is still kept, and names what is gone."""
        if request.incarnation != self._incarnation:
            return
        inbox, gone = topics.inbox(asker), []
        for number in range(request.first, request.last + 1):
            frames = self.outbox.find(request.topic, number)
            if frames is None:
                gone.append(number)
            else:
                again = codec.encode_retransmission(frames, self.run, self._name, self._incarnation, inbox)
                self._bus.publish(self._security.encrypt(self._security.sign(again)))
        for first, last in consecutive_ranges(gone):
            self.publish(inbox, RetransmitUnavailable(topic=request.topic, first=first, last=last))

    def latest(self, names: Collection[str]) -> dict[str, int]:
        """The last number on each topic that is for all or for one of these peers."""
        inboxes = {topics.inbox(name) for name in names}
        latest = self.outbox.latest.items()
        return {topic: number for topic, number in latest if topic in inboxes or not topic.startswith("to/")}

    def beat(self, tick: int, claims: Mapping[str, int]) -> list[Buffer]:
        """A heartbeat, for the bus's heartbeat thread; reads only."""
        beat = Heartbeat(tick=tick, latest=dict(claims), clock=time.time())
        return self._security.sign(codec.encode(self._envelope(topics.HEARTBEATS, 0, beat)))

    def _envelope(self, topic: str, number: int, message: Message) -> Envelope:
        return Envelope(topic, self.run, self._name, self._incarnation, number, message)
