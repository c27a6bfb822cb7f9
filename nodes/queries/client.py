"""Asks every ready client, or some of them by name, one question, and goes on when the run's policy says so.

The decision who is waited for, and until when, is the ledger's (`protocol.quorum`); this module carries it out on
the event loop. Refuses to know what the tensors mean.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from torch import Tensor

from fednet.api import Question, Replies
from nodes.capability import Handler
from nodes.errors import NoQuorum, PeerError
from nodes.node import Node
from nodes.peer_directory import PeerDirectory
from protocol.codec import Envelope
from protocol.messages import Message, QueryAnswer, QueryRefusal, QueryRequest
from protocol.messages.presence import PeerInfo
from protocol.quorum import DeadlineEstimator, QuorumOutcome, QuorumPolicy, QuorumTracker
from protocol.topics import QUERIES

STALL_THRESHOLD = 1.0
"""Seconds by which a look at the ledger must be late to show that this node itself was stopped or blocked: then the
answers may lie in its sockets, unread, and nobody is called late for it."""


BACKPRESSURE_INTERVAL = 0.05
"""Seconds between two looks whether there is room for a question again."""


@dataclass
class _PendingQuery:
    """A question that waits for its answers."""

    number: int
    to: tuple[str, ...] | None
    step: QuorumTracker
    closed: asyncio.Future[QuorumOutcome]
    outputs: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    until: float = inf  # when the ledger wants to be looked at again


class QueryClient:
    """The asking side of the queries conversation.

    Args:
        node: the node that asks.
        directory: who can be asked.
        policy: when a step goes on without everybody.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node, directory: PeerDirectory, policy: QuorumPolicy) -> None:
        self._node = node
        self._directory = directory
        self._policy = policy
        self._pace = DeadlineEstimator(policy)
        self._numbers = itertools.count(1)
        self._open: dict[int, _PendingQuery] = {}
        self.handlers: Mapping[type[Message], Handler] = {QueryAnswer: self._answer, QueryRefusal: self._refusal}

    async def ask(self, question: Question) -> Replies:
        """Puts a question to every ready client, or to those that it is for, and returns what came back in time.

        Raises:
            PeerError: one of those that it is for cannot be asked, and why; nobody was asked.
            NoQuorum: fewer contributed than the policy's quorum.
            EncodingError, ValidationError: the question cannot be encoded.
        """
        while self._node.backpressured:  # the requester waits as well: this is what slows it down
            self._node.counts["held back"] += 1
            await asyncio.sleep(BACKPRESSURE_INTERVAL)
        step, number = self._step(question), next(self._numbers)
        asked = self._open[number] = _PendingQuery(
            number, question.to, step, asyncio.get_running_loop().create_future()
        )
        try:
            self._say(self._query(number, question), question.to, step)
            self._review(asked)
            return self._conclude(asked, await asked.closed)
        finally:
            del self._open[number]
            if asked.timer is not None:
                asked.timer.cancel()

    def _step(self, question: Question) -> QuorumTracker:
        """The step of everybody who is ready, or of those whom the question is for: then fewer are a quorum."""
        if question.to is None:
            return QuorumTracker.open(self._directory.ready(), self._now(), self._policy, self._pace)
        absent = {name: self._directory.absence(name) for name in question.to if name not in self._directory.ready()}
        if absent:
            gone = ", ".join(f"{name} ({why})" for name, why in sorted(absent.items()))
            raise PeerError(f"cannot ask {gone}; there are {', '.join(self._directory.ready()) or 'none'}")
        quorum = max(1, min(self._policy.quorum, len(set(question.to))))
        policy = self._policy.model_copy(update={"quorum": quorum})
        return QuorumTracker.open(question.to, self._now(), policy, self._pace)

    def _say(self, query: QueryRequest, to: tuple[str, ...] | None, step: QuorumTracker) -> None:
        if to is not None or self._node.blocked_by_lost_peer:
            for name in sorted(step.expected):
                self._node.tell(name, query)
        elif step.expected:
            self._node.publish(QUERIES, query)

    def _query(self, number: int, question: Question) -> QueryRequest:
        return QueryRequest(
            query=number,
            oldest_open=min(self._open),
            task=question.task,
            inputs=dict(question.inputs),
            options=dict(question.options),
            ttl=self._policy.hard_limit,
        )

    def _conclude(self, asked: _PendingQuery, outcome: QuorumOutcome) -> Replies:
        for seconds in asked.step.durations():
            self._pace.record(seconds)
        lost = {**({} if asked.to is not None else self._directory.missing()), **outcome.lost}
        if not outcome.quorate:
            raise NoQuorum(
                outcome.contributed, asked.step.policy.quorum, {**lost, **dict.fromkeys(outcome.late, "late")}
            )
        contributed = {name: asked.outputs[name] for name in outcome.contributed}
        return Replies(contributed, outcome.late, {name: why for name, why in lost.items() if name not in contributed})

    def _review(self, asked: _PendingQuery) -> None:
        """Closes the step if its ledger says so, and otherwise looks again when it says."""
        if asked.closed.done():
            return
        now = self._now()
        if now - asked.until > STALL_THRESHOLD:
            asked.step.discount_pause(now - asked.until + STALL_THRESHOLD)
        if asked.timer is not None:
            if not asked.step.may_close(now):
                return
            asked.timer.cancel()
        outcome = asked.step.outcome(now)
        asked.until = outcome.until
        if outcome.closed:
            asked.closed.set_result(outcome)
        else:
            asked.timer = asyncio.get_running_loop().call_at(outcome.until, self._look, asked)

    def _look(self, asked: _PendingQuery) -> None:
        """The time to look again has come."""
        asked.timer = None
        self._review(asked)

    def _answer(self, envelope: Envelope, answer: QueryAnswer) -> None:
        asked = self._open.get(answer.query)
        if asked is not None and asked.step.arrive(envelope.sender, self._now()):
            asked.outputs[envelope.sender] = answer.outputs
            self._review(asked)

    def _refusal(self, envelope: Envelope, refusal: QueryRefusal) -> None:
        asked = self._open.get(refusal.query)
        if asked is not None:
            asked.step.lose(envelope.sender, f"refused: {refusal.reason}")
            self._review(asked)

    def linked(self, peer: PeerInfo) -> None:
        """Takes part from the next question on."""

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nobody waits for the dead."""
        for asked in list(self._open.values()):
            asked.step.lose(peer.name, f"{'left' if left else 'lost'}: {reason}")
            self._review(asked)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
