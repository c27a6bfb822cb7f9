"""Requests missed messages again, and repeats what peers have missed.

The decisions are those of `protocol.retransmission`; here they become requests and counts. What is repeated goes to
linked peers only, to each what was addressed to it, at the expense of its budget, no more at once than it takes, and
in turns (`nodes.turns`).
Knows neither who is present nor what a message means.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from nodes.capability import Handler
from nodes.fault_boundary import FaultBoundary
from nodes.publisher import Publisher
from nodes.turns import Turns
from protocol import topics
from protocol.codec import Envelope
from protocol.messages import Message
from protocol.messages.presence import PeerInfo
from protocol.messages.retransmission import RetransmitRequest, RetransmitUnavailable
from protocol.retransmission import Baselines, Inbox
from protocol.security.budget import Cost

log = logging.getLogger(__name__)

REPAIR_WARNING = 0.1
"""Share of a peer's messages heard by retransmission above which there is a warning."""

MAX_REPEATED_BYTES = 32 << 20
"""Bytes that may wait for one peer before nothing more is repeated to it; it requests again what it still lacks."""

REPEATED_MESSAGE_BYTES = 64 << 10
"""What a message counts for that is encoded and signed again, beside its tensors: the time that this takes."""

MIN_HEARD = 50
"""Messages of a peer before its share is judged; of twice as many the earlier ones count half, and so on."""


@dataclass
class _Conversation:
    """How the messages of one incarnation of a peer have been heard."""

    incarnation: int
    heard: float = 0.0
    repaired: float = 0.0
    warned: bool = False

    def record(self, *, again: bool) -> None:
        if self.heard >= 2 * MIN_HEARD:
            self.heard, self.repaired = self.heard / 2, self.repaired / 2
        self.heard += 1
        self.repaired += again

    @property
    def share(self) -> float:
        return self.repaired / self.heard if self.heard >= MIN_HEARD else 0.0


class Peers(Protocol):
    """What is to be known of the peers."""

    boundary: FaultBoundary

    def refused(self, kind: str, why: str) -> None:
        """Something is lost, or is not done."""

    def fault(self, sender: str, kind: str, why: str) -> None:
        """A peer has done what none may."""

    def charge(self, payer: str, cost: Cost, amount: float = 1.0, *, proven: bool = True) -> bool:
        """Whether a peer may cause this now."""

    def is_linked(self, name: str, incarnation: int) -> bool:
        """Whether this is the incarnation of a peer to which both directions are proven."""


class RetransmissionService:
    """The numbers of what a node hears.

    Args:
        publisher: asks, and says again.
        patience: seconds between the first two requests for the same number.
        counts: what was dropped or asked for again, by kind.
        peers: what they are, may have, and may cost.

    Attributes:
        heard: the topics that are subscribed to; the numbers of all others are nothing to us.
    """

    def __init__(self, publisher: Publisher, patience: float, counts: Counter[str], peers: Peers) -> None:
        self._publisher = publisher
        self._inbox = Inbox(patience)
        self._baselines = Baselines()
        self._counts = counts
        self._peers = peers
        self._turns = Turns(peers.boundary)
        self._conversations: dict[str, _Conversation] = {}
        self.heard: Collection[str] = ()
        self.handlers: Mapping[type[Message], Handler] = {
            RetransmitRequest: self._resend,
            RetransmitUnavailable: self._gone,
        }

    def start(self, name: str, incarnation: int, latest: Mapping[str, int]) -> None:
        """Begins to count what a life of a peer says, after these numbers."""
        self._inbox.start(name, incarnation, self._relevant(latest))

    def greet(self, name: str, incarnation: int, latest: Mapping[str, int]) -> None:
        """We say hello to a life of a peer with these numbers of ours: it may have those after them."""
        self._baselines.greet(name, incarnation, latest)

    def claimed(self, name: str, incarnation: int, latest: Mapping[str, int], now: float) -> None:
        """A life of a peer says how far it has come."""
        if self._inbox.has_baseline(name, incarnation):
            for topic, number in self._relevant(latest).items():
                self._inbox.note_latest(name, topic, number, now)

    def accept(self, envelope: Envelope, now: float, *, again: bool = False) -> bool:
        """Whether a numbered message, `again` if retransmitted, comes for the first time, after its sender's hello."""
        if not self._inbox.has_baseline(envelope.sender, envelope.incarnation):
            self._counts["early"] += 1  # what the sender has promised us comes again
        elif not self._inbox.accept(envelope.sender, envelope.topic, envelope.number, now):
            self._counts["duplicate"] += 1
        else:
            self._record(envelope.sender, envelope.incarnation, again=again)
            return True
        return False

    def repair_share(self, name: str) -> float:
        """Share in [0, 1] of a peer's latest messages that were heard by retransmission; 0 below `MIN_HEARD`."""
        conversation = self._conversations.get(name)
        return conversation.share if conversation else 0.0

    def forget(self, name: str) -> None:
        """A peer has left for good: neither asks the other for anything any more."""
        self._inbox.forget(name)
        self._conversations.pop(name, None)
        self._baselines.forget(name)
        self._turns.forget(name)
        self._publisher.forget(name)

    def ask(self, members: Iterable[PeerInfo], now: float) -> None:
        """Asks the members again for what is due."""
        lives = {info.name: info.incarnation for info in members}
        for missing in self._inbox.due(now):
            self._counts["asked again"] += missing.last - missing.first + 1
            if missing.sender in lives:
                request = RetransmitRequest(
                    topic=missing.topic,
                    incarnation=lives[missing.sender],
                    first=missing.first,
                    last=missing.last,
                )
                self._publisher.publish(topics.inbox(missing.sender), request)

    def _record(self, name: str, incarnation: int, *, again: bool) -> None:
        """Counts a message; warns once of an incarnation of a peer that is heard by retransmission too often."""
        conversation = self._conversations.get(name)
        if conversation is None or conversation.incarnation != incarnation:
            conversation = self._conversations[name] = _Conversation(incarnation)
        conversation.record(again=again)
        if conversation.share > REPAIR_WARNING and not conversation.warned:
            conversation.warned = True
            log.warning(
                "%.0f %% of what %s says is lost on the way and heard by retransmission, which is slow: "
                "see whether the network to it loses messages, or this node falls behind",
                100 * conversation.share,
                name,
            )

    def _relevant(self, latest: Mapping[str, int]) -> dict[str, int]:
        """The part of a peer's numbers that concerns topics subscribed to here."""
        return {topic: latest.get(topic, 0) for topic in self.heard}

    def _resend(self, envelope: Envelope, request: RetransmitRequest) -> None:
        """A peer has missed messages of ours."""
        name, topic = envelope.sender, request.topic
        if topic.startswith(topics.INBOX) and topic != topics.inbox(name):
            self._peers.fault(name, "eavesdropping", f"{name} requests what was said on {topic}, which is not for it")
            return
        first = self._baselines.first(name, envelope.incarnation, topic)
        if first is None or not self._peers.is_linked(name, envelope.incarnation):
            self._counts["stranger"] += 1
            return
        may_have = partial(self._may_have, name, envelope.incarnation)
        self._add(name, self._publisher.retransmit(name, request, first, may_have))

    def _may_have(self, name: str, incarnation: int, size: int) -> bool:
        """Whether so many bytes may be sent again: this life of a peer may have ended since it has requested them."""
        return self._peers.is_linked(name, incarnation) and self._afford(name, size)

    def repeat(self, name: str, messages: Iterable[tuple[Message, int]]) -> None:
        """Tells a peer again what it has requested, at its expense, in turns; not while too much of it waits there.

        What it is not told it has to request again.

        Args:
            name: the peer.
            messages: what it has requested, in order, each with the bytes of its tensors; kept until it is told.
        """
        self._add(name, self._repeated(name, messages))

    def _repeated(self, name: str, messages: Iterable[tuple[Message, int]]) -> Iterator[int]:
        for message, size in messages:
            if not self._afford(name, cost := REPEATED_MESSAGE_BYTES + size):
                return
            self._publisher.publish(topics.inbox(name), message)
            yield cost

    def _add(self, name: str, work: Iterator[int]) -> None:
        """Queues what a peer has requested; it pays for what it requests beyond what may wait, and gets nothing."""
        if not self._turns.add(name, work):
            self._counts["not repeated yet"] += 1
            self._peers.charge(name, Cost.REPEATED, REPEATED_MESSAGE_BYTES)

    def _afford(self, name: str, size: int) -> bool:
        """Whether so many bytes may be repeated to a peer now."""
        if self._publisher.waiting_for(name) >= MAX_REPEATED_BYTES:
            self._counts["not repeated yet"] += 1
            return False
        return self._peers.charge(name, Cost.REPEATED, size)

    def _gone(self, envelope: Envelope, gone: RetransmitUnavailable) -> None:
        """A peer no longer has what we asked it for."""
        for number in self._inbox.unavailable(envelope.sender, gone.topic, gone.first, gone.last):
            self._peers.refused("gone", f"{envelope.sender} no longer has {gone.topic} number {number}: it is lost")
