"""Asks every ready client, or some of them by name, one question, and goes on when the run's policy says so.

The decision who is waited for, and until when, is the ledger's (`protocol.quorum`); this module carries it out. A
question is published by the thread that asks it, so that the event loop is woken by its answers only. Refuses to know
what the tensors mean.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from math import inf

from torch import Tensor

from fednet.api import Question, Replies
from fednet.questions import asked_of, recipients
from nodes.capability import Handler
from nodes.compute import Bridge
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

    question: Question
    step: QuorumTracker
    until: float  # when the ledger wants to be looked at again
    absent: Mapping[str, str]  # those that could not be asked, with the reason
    needed: int  # contributions without which there are no replies
    outputs: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    replies: Future[Replies] = field(default_factory=Future)


class QueryClient:
    """The asking side of the queries conversation; made on the event loop, and added to its node after the directory.

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
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # held to use the pace, the open questions and the time of the next look
        self._open: dict[int, _PendingQuery] = {}
        self._next_look = inf
        self._timer: asyncio.TimerHandle | None = None
        self.handlers: Mapping[type[Message], Handler] = {QueryAnswer: self._answer, QueryRefusal: self._refusal}

    async def ask(self, question: Question) -> Replies:
        """Puts a question to every ready client, or to those that it is for, and returns what came back in time.

        Raises:
            PeerError: one of those that it is for cannot be asked, and why; nobody was asked.
            NoQuorum: fewer contributed than the policy's quorum.
            EncodingError, ValidationError: the question cannot be encoded.
        """
        await self._room()
        return await asyncio.wrap_future(self._begin(question))

    def ask_blocking(self, bridge: Bridge, question: Question) -> Replies:
        """The same from any thread but the event loop's, with the bridge's `Stopped` besides."""
        if self._node.backpressured:
            bridge.call(self._room)
        return bridge.wait(partial(self._begin, question))

    async def _room(self) -> None:
        """Waits until there is room for a question: this is what slows the requester down."""
        while self._node.backpressured:
            self._node.counts["held back"] += 1
            await asyncio.sleep(BACKPRESSURE_INTERVAL)

    def _begin(self, question: Question) -> Future[Replies]:
        """Publishes a question, on any thread; its replies are there once the step has closed."""
        with self._lock:
            asked, number = self._pending(question), next(self._numbers)
            oldest = next(iter(self._open), number)
            self._open[number] = asked
        asked.replies.add_done_callback(lambda _: self._forget(number))
        step = asked.step
        try:
            self._say(number, oldest, question, step)
        except BaseException:
            asked.replies.cancel()
            raise
        self._look_by(asked.until if step.expected else -inf)
        return asked.replies

    def _forget(self, number: int) -> None:
        """The replies are there, or nobody waits for them any more."""
        with self._lock:
            del self._open[number]

    def _pending(self, question: Question) -> _PendingQuery:
        """The step of everybody who is ready, or of those whom the question is for: then fewer are a quorum.

        A quorum of a question with `each` counts those that could have been asked and were not.
        """
        ready, names, quorum = self._directory.ready(), recipients(question), self._policy.quorum
        absent = {} if names is None else {name: self._directory.absence(name) for name in names if name not in ready}
        if absent and question.each is None:
            gone = ", ".join(f"{name} ({why})" for name, why in sorted(absent.items()))
            raise PeerError(f"cannot ask {gone}; there are {', '.join(ready) or 'none'}")
        expected = list(ready) if names is None else [name for name in names if name in ready]
        if question.each is not None:
            quorum -= len(ready) - len(expected)
        elif names is not None:
            quorum = min(quorum, len(names))
        policy = self._policy.model_copy(update={"quorum": max(1, quorum)})
        step = QuorumTracker.open(expected, self._now(), policy, self._pace)
        needed = quorum if question.each is not None else policy.quorum
        return _PendingQuery(question, step, step.opened + step.deadline, absent, needed)

    def _say(self, number: int, oldest: int, question: Question, step: QuorumTracker) -> None:
        def request(asked: Question) -> QueryRequest:
            return QueryRequest(
                query=number,
                oldest_open=oldest,
                task=asked.task,
                inputs=dict(asked.inputs),
                options=dict(asked.options),
                ttl=self._policy.hard_limit,
            )

        if recipients(question) is not None or self._node.blocked_by_lost_peer:
            for name in sorted(step.expected):
                self._node.tell(name, request(asked_of(question, name)))
        elif step.expected:
            self._node.publish(QUERIES, request(question))

    def _conclude(self, asked: _PendingQuery, outcome: QuorumOutcome) -> Replies:
        with self._lock:
            for seconds in asked.step.durations():
                self._pace.record(seconds)
        absent = self._directory.missing() if recipients(asked.question) is None else asked.absent
        lost = {**absent, **outcome.lost}
        if len(outcome.contributed) < asked.needed:
            raise NoQuorum(outcome.contributed, asked.needed, {**lost, **dict.fromkeys(outcome.late, "late")})
        contributed = {name: asked.outputs[name] for name in outcome.contributed}
        return Replies(contributed, outcome.late, {name: why for name, why in lost.items() if name not in contributed})

    def _review(self, asked: _PendingQuery) -> None:
        """On the event loop: closes the step if its ledger says so."""
        now = self._now()
        pause = now - asked.until
        if pause > STALL_THRESHOLD:
            asked.step.discount_pause(pause + STALL_THRESHOLD)
            asked.until += pause + STALL_THRESHOLD
        if not asked.step.may_close(now):
            return
        outcome = asked.step.outcome(now)
        asked.until = outcome.until
        if outcome.closed and asked.replies.set_running_or_notify_cancel():
            try:
                asked.replies.set_result(self._conclude(asked, outcome))
            except NoQuorum as error:
                asked.replies.set_exception(error)

    def _look_by(self, when: float) -> None:
        """From any thread: the open questions are looked at no later than this; one timer serves them all."""
        with self._lock:
            if when < self._next_look:
                self._next_look = when
                self._loop.call_soon_threadsafe(self._set_timer, when)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """The time to look again has come: answers alone do not close every step."""
        with self._lock:
            self._next_look = inf
        for asked in self._asked():
            self._review(asked)
        self._look_by(min((asked.until for asked in self._asked()), default=inf))

    def _asked(self) -> list[_PendingQuery]:
        with self._lock:
            return list(self._open.values())

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
        for asked in self._asked():
            asked.step.lose(peer.name, f"{'left' if left else 'lost'}: {reason}")
            self._review(asked)

    def _now(self) -> float:
        return self._loop.time()
