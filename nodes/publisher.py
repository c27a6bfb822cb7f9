"""Publishes the messages of one node: numbers, signs and encrypts them, and keeps them for retransmission.

The outgoing half of a node; the incoming one is `nodes.node`. Does not know who subscribes or what messages mean.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from nodes.transport.backlog import COPIED_BELOW
from nodes.transport.interface import Transport
from protocol import codec, topics
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import Message
from protocol.messages.presence import Heartbeat
from protocol.messages.retransmission import RetransmitRequest, RetransmitUnavailable
from protocol.retransmission import Outbox, consecutive_ranges
from protocol.security.authentication import Security
from protocol.security.keys import Keyring
from protocol.tensors import Encoding

BUFFER_OVERHEAD_BYTES = 512
"""Bytes that keeping a message for retransmission takes beside its frames."""


class Publisher:
    """The outgoing messages of one incarnation of a node; publishes from any thread.

    Args:
        transport: sends the frames.
        security: signs and encrypts them.
        name: the node's.
        incarnation: the node's.
        encoding: of floating-point tensors.

    Attributes:
        run: the run's name; empty for a visitor that has not received it yet.
        sent: bytes that were published, by kind of message, frames and headers included, each counted once.
        outbox: the messages kept for retransmission.
    """

    def __init__(
        self, transport: Transport, security: Security, name: str, incarnation: int, encoding: Encoding
    ) -> None:
        self._transport = transport
        self._security = security
        self._name = name
        self._incarnation = incarnation
        self._encoding = encoding
        self.run = ""
        self.sent: Counter[str] = Counter()
        self.outbox = Outbox()
        self._lock = threading.Lock()  # messages leave in the order of their numbers

    def publish(self, topic: str, message: Message) -> None:
        """Publishes a message on a topic, numbered and kept for retransmission if its kind is numbered.

        Never waits for a subscriber. May be called from any thread. What is for a peer whose key is not trusted, as of
        one that was revoked while it was being answered, is dropped.
        """
        with self._lock:
            receiver = topics.receiver(topic)
            if receiver is not None and not self._security.has_key_of(receiver):
                return
            number = self.outbox.number(topic) if message.numbered else 0
            frames = self._security.sign(codec.encode(self._envelope(topic, number, message), self._encoding))
            if number:
                self.outbox.keep(topic, number, _kept(frames), BUFFER_OVERHEAD_BYTES + sum(map(len, frames)))
            encrypted = self._security.encrypt(frames)
            self.sent[message.kind] += sum(map(len, encrypted))
            self._transport.publish(encrypted)

    def retransmit(
        self, requester: str, request: RetransmitRequest, first: int, afford: Callable[[int], bool]
    ) -> Iterator[int]:
        """Sends the requested messages again to a peer that has missed them, and names those that it cannot have.

        Args:
            requester: the peer.
            request: what it has missed.
            first: the first number that it may have.
            afford: whether it may be sent so many bytes now; if not, nothing more is sent: it will request it again.

        Yields:
            The bytes of each message, once it is sent.
        """
        if request.incarnation != self._incarnation:
            return
        inbox, gone = topics.inbox(requester), []
        for number in range(request.first, request.last + 1):
            frames = self.outbox.find(request.topic, number) if number >= first else None
            size = BUFFER_OVERHEAD_BYTES + sum(map(len, frames or ()))
            if not afford(size):
                break
            if frames is None:
                gone.append(number)
            else:
                again = codec.encode_retransmission(frames, self.run, self._name, self._incarnation, inbox)
                self._transport.publish(self._security.encrypt(self._security.sign(again)))
            yield size
        for start, end in consecutive_ranges(gone):
            self.publish(inbox, RetransmitUnavailable(topic=request.topic, first=start, last=end))

    def waiting_for(self, name: str) -> int:
        """Bytes of large frames to one peer that it has not taken yet."""
        return self._transport.queued(topics.inbox(name))

    def trust(self, keys: Keyring) -> None:
        """From now on these keys are trusted, and no others; waits for what is being published."""
        with self._lock:
            self._security.trust(keys)

    def latest(self, names: Collection[str]) -> dict[str, int]:
        """The last number on each group topic and on the inboxes of these peers."""
        inboxes = {topics.inbox(name) for name in names}
        latest = list(self.outbox.latest.items())  # at once, since other threads publish
        return {topic: number for topic, number in latest if topic in inboxes or not topic.startswith("to/")}

    def forget(self, name: str) -> None:
        """Drops the messages kept for one peer, which has left."""
        with self._lock:
            self.outbox.forget(topics.inbox(name))

    def heartbeat(self, tick: int, latest: Mapping[str, int]) -> list[Buffer]:
        """The frames of a heartbeat; called from the transport's heartbeat thread, reads only."""
        message = Heartbeat(tick=tick, latest=dict(latest), clock=time.time())
        return self._security.sign(codec.encode(self._envelope(topics.HEARTBEATS, 0, message)))

    def _envelope(self, topic: str, number: int, message: Message) -> Envelope:
        return Envelope(topic, self.run, self._name, self._incarnation, number, message)


def _kept(frames: Sequence[Buffer]) -> list[Buffer]:
    """Frames as they are kept: small ones copied.

    A view keeps a whole tensor alive, of which it may be a small part. And with 64 MiB of views replaced all the time
    the heap grew by tens of megabytes that were free (glibc 2.36; tests/soak/RESULTS.md), with copies by none.
    """
    return [frame if len(frame) >= COPIED_BELOW else bytes(frame) for frame in frames]
